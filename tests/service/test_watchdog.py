"""The watchdog on a real datagram socket: whoever freezes is noticed within 60 s, whoever has nothing to do never is.

The agent and the service manager are those of `watched`.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent.adapters.journal import JournalThread, open_journal
from agent.errors import JournalFull, LineDown, MeterSilent, UplinkDown, UplinkRefused
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.service import retelling, supervise
from agent.service.pulse import Pulse, PulseWatch
from agent.service.supervise import run_until
from tests.service.virtual import VirtualClock, run_virtually, virtual_loop
from tests.service.watched import (
    WATCHDOG_S,
    Agent,
    Manager,
    after,
    live,
    never,
)

HOUR_S = 3600


@pytest.fixture
def agent(tmp_path: Path, manager: Manager) -> Iterator[Agent]:
    made = Agent(tmp_path, manager.environment)
    yield made
    made.bench.journal.close()


# ------------------------------------------------------------------------------------------------ whoever has frozen


def freeze_read(agent: Agent) -> None:
    agent.lines[1].before_read = never


def freeze_open(agent: Agent) -> None:
    async def gone() -> None:
        agent.lines[0].before_open = never
        raise LineDown("unplugged")

    agent.lines[0].before_read = gone


def freeze_journal(agent: Agent) -> None:
    agent.storage.before = never


def freeze_publisher(agent: Agent) -> None:
    agent.uplink.before_puback = never


def freeze_loop(_: Agent) -> None:
    virtual_loop().now_s += 10 * WATCHDOG_S  # one callback that takes ten minutes


@pytest.mark.fault("F77")
@pytest.mark.parametrize(
    ("freeze", "name"),
    [
        (freeze_read, "line hall-2"),
        (freeze_open, "line hall-1"),
        (freeze_journal, "journal"),
        (freeze_publisher, "publish"),
        (freeze_loop, None),
    ],
    ids=["line in a read", "line being opened", "journal", "publisher", "event loop"],
)
def test_a_frozen_stage_is_noticed_within_a_minute_and_named(
    freeze: Callable[[Agent], None],
    name: str | None,
    agent: Agent,
    manager: Manager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent.interval_ms = 10_000  # the publisher has something to do soon after
    killed_s = live(agent, manager, 300, then=lambda: freeze(agent))
    assert killed_s is not None and killed_s <= WATCHDOG_S
    named = [record for record in caplog.records if "no progress" in record.getMessage()]
    if name is not None:
        assert named and vars(named[0])["pairs"] == {"stages": name}
        assert len(named) <= 2, "it is said once, not every few seconds"


@pytest.mark.fault("F77")
def test_a_frozen_stage_is_never_fed_again(agent: Agent, manager: Manager) -> None:
    live(agent, manager, 120, then=lambda: freeze_read(agent))
    assert max(manager.times_of("WATCHDOG=1")) < min(manager.times_of("WATCHDOG=trigger"))
    assert len(manager.times_of("WATCHDOG=trigger")) > 10, "said again, in case that nobody heard it"


# -------------------------------------------------------------------------------------- whoever has nothing to do


def no_meter_answers(agent: Agent) -> None:
    for line in agent.lines:
        line.before_read = after(0.5, MeterSilent("nobody"))


def all_lines_down(agent: Agent) -> None:
    for line in agent.lines:
        line.before_open = after(3, LineDown("no route"))


def no_broker(agent: Agent) -> None:
    agent.uplink.connects = False


def platform_down(agent: Agent) -> None:
    """The broker takes everything, and nobody ever acknowledges."""


def broker_refuses(agent: Agent) -> None:
    agent.uplink.before_puback = after(0.1, UplinkRefused("nobody is subscribed", 0x10))


def slow_link(agent: Agent) -> None:
    agent.uplink.before_puback = after(20)


def pubacks_missing(agent: Agent) -> None:
    agent.uplink.before_puback = after(30, UplinkDown("no acknowledgement came within 20 s"))


def rarely_polled(agent: Agent) -> None:
    agent.poll_ms = agent.interval_ms = HOUR_S * 1000


def slow_disk(agent: Agent) -> None:
    agent.storage.before = after(8)


def no_lines(agent: Agent) -> None:
    agent.lines = []


def full_disk(agent: Agent) -> None:
    """No write succeeds any more, neither a batch nor the receipt of an acknowledgement."""

    def no_room() -> AbstractContextManager[None]:
        raise JournalFull("no room")

    def receipt(number: int) -> bytes:
        said = Acknowledgement("org", "gw01", 1, number + 1, None, agent.bench.clock.now_ms)
        return envelope.seal(envelope.ACKNOWLEDGEMENT, said.to_payload(), agent.bench.signer)

    agent.bench.journal.transaction = no_room  # type: ignore[method-assign,assignment]
    agent.uplink.answer = receipt


@pytest.mark.parametrize(
    "idle",
    [
        lambda _: None,
        no_meter_answers,
        all_lines_down,
        no_lines,
        no_broker,
        platform_down,
        broker_refuses,
        slow_link,
        pubacks_missing,
        rarely_polled,
        slow_disk,
        full_disk,
    ],
    ids=lambda idle: getattr(idle, "__name__", "healthy").replace("<lambda>", "healthy"),
)
def test_an_idle_healthy_agent_is_never_replaced(
    idle: Callable[[Agent], None], agent: Agent, manager: Manager
) -> None:
    idle(agent)
    assert live(agent, manager, HOUR_S) is None
    fed = manager.times_of("WATCHDOG=1")
    assert len(fed) > HOUR_S / WATCHDOG_S
    assert max(later - sooner for sooner, later in itertools.pairwise(fed)) <= WATCHDOG_S / 2
    assert not manager.times_of("WATCHDOG=trigger")


def test_an_acknowledgement_that_finds_no_room_does_not_end_the_agent(
    agent: Agent, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    full_disk(agent)
    assert live(agent, manager, 300) is None
    assert any("could not be kept" in record.getMessage() for record in caplog.records)


def test_a_loop_that_was_held_up_accuses_nobody(agent: Agent, manager: Manager) -> None:
    """A suspended machine: the loop comes back late, and every stage gets its turn before it is judged."""

    def hold_up() -> None:
        virtual_loop().now_s += 50

    assert live(agent, manager, 120, then=hold_up) is None


# -------------------------------------------------------------------------------------------- what the marks mean


def test_time_is_counted_in_looks() -> None:
    pulse = Pulse("line hall-a", busy_s=10)
    watch = PulseWatch([pulse], patience_s=30)
    assert not any(watch.look(5) for _ in range(8))  # 40 s: what it may be busy, and the patience
    assert watch.look(5) == [pulse]
    pulse.beat()
    assert watch.look(5) == []


def test_a_short_watchdog_time_is_no_accusation(agent: Agent, manager: Manager) -> None:
    """Somebody may write WatchdogSec=8; a stage that takes its turn every five seconds is not frozen."""
    agent.environment["WATCHDOG_USEC"] = "8000000"
    agent.poll_ms = HOUR_S * 1000
    live(agent, manager, 300)
    assert not manager.times_of("WATCHDOG=trigger")


def test_without_a_manager_a_frozen_stage_is_named_all_the_same(
    agent: Agent, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    agent.environment.clear()

    async def main() -> None:
        running = asyncio.create_task(run_until(agent.stages(), asyncio.Event()))
        await asyncio.sleep(60)
        freeze_read(agent)
        await asyncio.sleep(60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtually(main())
    assert any("no progress" in record.getMessage() for record in caplog.records)


def test_a_journal_whose_thread_hangs_is_noticed(
    agent: Agent, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thread in real time, with all times of the watchdog cut short."""
    monkeypatch.setattr(supervise, "TURN_S_MAX", 0.1)
    monkeypatch.setattr(retelling, "TURN_S_MAX", 0.1)
    monkeypatch.setattr(retelling, "JOURNAL_S", 0)
    agent.environment["WATCHDOG_USEC"] = "3000000"  # above the publisher's turn of a second
    release = threading.Event()
    agent.lines = []

    async def main() -> float:
        storage = JournalThread(lambda: open_journal(agent.folder / "threaded.db"))
        await storage.open()
        manager.listen()
        running = asyncio.create_task(run_until(agent.stages(storage, RealClock()), asyncio.Event()))
        await asyncio.sleep(2)
        assert not manager.times_of("WATCHDOG=trigger")
        frozen_s = asyncio.get_running_loop().time()
        hanging = asyncio.create_task(storage.run(lambda _: release.wait()))
        try:
            async with asyncio.timeout(30):
                await manager.told("WATCHDOG=trigger")
            return asyncio.get_running_loop().time() - frozen_s
        finally:
            release.set()
            await hanging
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await storage.close()

    assert asyncio.run(main()) < 15, "of the three seconds, on a machine that is busy elsewhere"


class RealClock(VirtualClock):
    """The same on a loop of real time."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
