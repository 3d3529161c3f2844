"""The watchdog on a real datagram socket: whoever freezes is noticed within 60 s, whoever has nothing to do never is.

All stages are the real ones, on scripted lines, a scripted uplink and a journal on disk; time is virtual, so that an
hour of idling takes a second.
"""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from agent.adapters.journal import JournalThread, SqliteJournal, open_journal
from agent.adapters.notify import Notifier
from agent.errors import JournalFull, LineDown, MeterSilent, UplinkDown, UplinkRefused
from agent.metering import plant
from agent.metering.decode import encode
from agent.metering.plant import Meter, SerialSettings, Transport
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.service import supervise
from agent.service.boundary import Boundary
from agent.service.dialogue import Dialogue
from agent.service.poll import LineWorker
from agent.service.ports import Clock, Connected, Disconnected, Received, Reply, UplinkEvent, Will
from agent.service.publish import Publisher
from agent.service.pulse import Pulse, PulseWatch
from agent.service.retelling import Reteller
from agent.service.seal import Identity
from agent.service.supervise import Stages, run_until
from simulators.world.network import publish_each
from tests.service.bench import KWH_REGISTER, MINUTE_MS, Bench
from tests.service.virtual import VirtualClock, run_virtually, virtual_loop

WATCHDOG_S = 60
HOUR_S = 3600
Hook = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """What a healthy part does before it answers."""


async def never() -> None:
    """What a frozen part does."""
    await asyncio.get_running_loop().create_future()


def after(seconds: float, error: Exception | None = None) -> Hook:
    """Answer late, or fail late."""

    async def hook() -> None:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error

    return hook


@dataclass
class ScriptedLine:
    """A line whose meters count up with every read."""

    before_open: Hook = at_once
    before_read: Hook = at_once
    count: int = 1000
    reads: int = 0

    async def open(self) -> None:
        await self.before_open()

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        assert isinstance(request, ReadRequest)
        self.reads += 1
        await asyncio.sleep(0.03)
        await self.before_read()
        now_ns = virtual_loop().time() * 1e9
        self.count += 1
        return Reply(encode(KWH_REGISTER, self.count)[: request.count], int(now_ns), int(now_ns))

    async def close(self) -> None:
        pass


@dataclass
class ScriptedUplink:
    """Connected from the start, if it is to be; what is published is counted and answered by `answer`."""

    connects: bool = True
    before_puback: Hook = at_once
    answer: Callable[[int], bytes] | None = None
    published: int = 0
    _events: "asyncio.Queue[UplinkEvent]" = field(default_factory=asyncio.Queue)

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        self._events.put_nowait(Connected("s") if self.connects else Disconnected("there is no broker"))

    async def events(self) -> Any:
        while True:
            yield await self._events.get()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if not self.connects:
            raise UplinkDown("there is no broker")
        if topic.endswith("/batch"):
            await self.before_puback()
            self.published += 1
        elif self.answer is not None and topic.endswith("/status"):
            self._events.put_nowait(Received("kwh/v1/org/gw01/down/ack", self.answer(self.published), False))

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        await publish_each(lambda payload: self.publish(topic, payload), payloads, taken)

    async def stop(self) -> None:
        pass


@dataclass
class InlineStorage:
    """The journal without its thread, which virtual time would not wait for."""

    journal: SqliteJournal
    before: Hook = at_once

    async def run(self, work: Callable[[SqliteJournal], Any]) -> Any:
        await self.before()
        return work(self.journal)


class EveryPeriod:
    """Ticks at whole multiples of virtual time."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, period_ms: int, tick: Callable[[int], None]) -> None:
        async def run() -> None:
            clock = VirtualClock()
            while True:
                boundary_ms = (clock.wall_ms() // period_ms + 1) * period_ms
                await asyncio.sleep((boundary_ms - clock.wall_ms()) / 1000)
                tick(boundary_ms)

        self._tasks.append(asyncio.create_task(run()))

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@dataclass
class Agent:
    """All stages of a small agent, of which a test may script each part before it runs."""

    folder: Path
    environment: dict[str, str]
    lines: list[ScriptedLine] = field(default_factory=lambda: [ScriptedLine(), ScriptedLine()])
    uplink: ScriptedUplink = field(default_factory=ScriptedUplink)
    poll_ms: int = 5000
    interval_ms: int = MINUTE_MS

    def __post_init__(self) -> None:
        self.bench = Bench(self.folder)
        self.storage = InlineStorage(self.bench.journal)

    def stages(self, storage: Any = None, clock: Clock | None = None) -> Stages:
        storage, clock = storage or self.storage, clock or VirtualClock()
        who = Identity("org", "gw01", "carbon.example", "0.1.0")
        publisher = Publisher(who, storage, self.uplink, clock, self.bench.dice)
        dialogue = Dialogue(
            who,
            self.bench.signers,
            self.bench.keys,
            storage,
            self.uplink,
            clock,
            self.bench.acknowledger,
            publisher,
            mode="platform",
        )
        pairs = zip(self.lines, self.bench.meters, strict=False)
        workers = [self._worker(number, *pair, clock) for number, pair in enumerate(pairs, start=1)]
        boundary = Boundary(
            workers, self.bench.closer, storage, clock, self.interval_ms, sealed=lambda _: publisher.wake()
        )
        notifier = Notifier(self.environment)
        return Stages(
            workers,
            boundary,
            dialogue,
            cast(Any, None),
            Reteller(self.bench.restorer, storage, clock, told=publisher.wake),
            publisher,
            EveryPeriod(),
            storage,
            self.uplink,
            clock,
            notifier,
            self.interval_ms,
        )

    def _worker(self, number: int, port: ScriptedLine, meter: Meter, clock: Clock) -> LineWorker:
        settings = SerialSettings(9600, "none", 1)
        line = plant.Line(f"hall-{number}", Transport.RS485, "/dev/null", None, None, settings, self.poll_ms)
        return LineWorker(line, [meter], port, clock)


class Manager:
    """The service manager's end of the socket: what it heard, and when in virtual time."""

    def __init__(self, folder: Path) -> None:
        path = folder / "notify"
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard: list[tuple[float, str]] = []
        self._news = asyncio.Event()

    async def told(self, word: str) -> None:
        """Wait until it was heard."""
        while not self.times_of(word):
            self._news.clear()
            await self._news.wait()

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._hear)

    def _hear(self) -> None:
        self.heard.append((asyncio.get_running_loop().time(), self.socket.recv(4096).decode()))
        self._news.set()

    def times_of(self, word: str) -> list[float]:
        return [at_s for at_s, text in self.heard if word in text.splitlines()]

    def kills_at(self, begun_s: float, now_s: float) -> float | None:
        """When a real manager would have replaced the agent; None if it had no reason to."""
        last_s = begun_s
        for at_s, text in [*self.heard, (now_s, "")]:
            if at_s > last_s + WATCHDOG_S:
                return last_s + WATCHDOG_S
            if text == "WATCHDOG=trigger":
                return at_s
            if text in ("WATCHDOG=1", "READY=1"):
                last_s = at_s
        return None


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(tmp_path)
    yield listening
    listening.socket.close()


@pytest.fixture
def agent(tmp_path: Path, manager: Manager) -> Iterator[Agent]:
    made = Agent(tmp_path, manager.environment)
    yield made
    made.bench.journal.close()


def live(
    agent: Agent, manager: Manager, seconds: float, *, then: Callable[[], None] | None = None
) -> float | None:
    """Run the agent for so long, then do something to it and go on for three minutes.

    Gives the time from then (or from the start) until the manager would have replaced it, None if never.
    """

    async def main() -> float | None:
        manager.listen()
        stop = asyncio.Event()
        running = asyncio.create_task(run_until(agent.stages(), stop))
        loop = virtual_loop()
        begun_s = loop.time()
        await asyncio.sleep(seconds)
        if then is not None:
            assert manager.kills_at(begun_s, loop.time()) is None
            begun_s = loop.time()
            then()
            await asyncio.sleep(180)
        assert not running.done(), running.exception()
        killed_s = manager.kills_at(begun_s if then else manager.heard[0][0], loop.time())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return None if killed_s is None else killed_s - begun_s

    return run_virtually(main())


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
    monkeypatch.setattr(supervise, "JOURNAL_S", 0)
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
            async with asyncio.timeout(10):
                await manager.told("WATCHDOG=trigger")
            return asyncio.get_running_loop().time() - frozen_s
        finally:
            release.set()
            await hanging
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await storage.close()

    assert asyncio.run(main()) <= 3


class RealClock(VirtualClock):
    """The same on a loop of real time."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
