"""The publisher: in order, within its window, again when needed, and a PUBACK is no receipt unless the site says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from agent.adapters.clock import SystemClock
from agent.errors import JournalDamaged, JournalFull, UplinkDown, UplinkRefused
from agent.reporting.chain import ChainHead
from agent.service import publish
from agent.service.journal import Journal, Standing
from agent.service.ports import UplinkEvent, Will
from agent.service.publish import Publisher
from agent.service.seal import Identity
from simulators.world.network import publish_each
from tests.service.bench import Bench
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.eventually import eventually

T = TypeVar("T")
WHO = Identity("org", "gw01", "carbon.example", "0.1.0")


@dataclass
class ScriptedUplink:
    """Takes publishes; `answers` says, by number, which of them fail and how."""

    answers: dict[int, Exception] = field(default_factory=dict)
    taken: list[bytes] = field(default_factory=list)
    tries: int = 0
    runs: list[int] = field(default_factory=list)
    """How many each call brought."""

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        raise NotImplementedError

    def events(self) -> AsyncIterator[UplinkEvent]:
        raise NotImplementedError

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert topic == "kwh/v1/org/gw01/up/batch"
        assert not retain
        self.tries += 1
        number = self.tries
        await asyncio.sleep(0)
        if number in self.answers:
            raise self.answers[number]
        self.taken.append(payload)

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        self.runs.append(len(payloads))
        await publish_each(lambda payload: self.publish(topic, payload), payloads, taken)

    async def stop(self) -> None:
        raise NotImplementedError


@dataclass
class OwnThread:
    """Storage on the test's own thread."""

    journal: Journal

    async def run(self, work: Callable[[Journal], T]) -> T:
        return work(self.journal)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for count in range(30):
        made.read({"reflow-1": 1000 + count})
    return made


def publisher_of(bench: Bench, uplink: ScriptedUplink, *, by_broker: bool = False) -> Publisher:
    storage, clock = OwnThread(bench.journal), SystemClock()
    return Publisher(WHO, storage, uplink, clock, bench.dice, broker_acknowledges=by_broker)


async def run_until(publisher: Publisher, condition: Callable[[], bool], within_s: float = 10) -> None:
    task = asyncio.create_task(publisher.run())
    try:
        await eventually(condition, within_s)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sealed(bench: Bench) -> list[bytes]:
    return [kept.jws or b"" for kept in bench.journal.queue(after_ordinal=0, limit=1000)]


async def test_stored_bytes_go_out_in_order_page_by_page(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "PAGE", 8)
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: len(uplink.taken) >= 30)
    assert uplink.taken == sealed(bench)
    assert uplink.runs == [8, 8, 8, 6]


async def test_nothing_is_sent_without_a_connection(bench: Bench) -> None:
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    with pytest.raises(AssertionError):
        await run_until(publisher, lambda: uplink.tries > 0, within_s=0.2)


@pytest.mark.fault("F63")
async def test_a_puback_releases_nothing(bench: Bench) -> None:
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: len(uplink.taken) >= 30)
    assert bench.journal.backlog().batches == 30


async def test_in_broker_mode_a_puback_is_the_receipt(bench: Bench) -> None:
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink, by_broker=True)
    publisher.connection(up=True)
    await run_until(publisher, lambda: bench.journal.backlog().batches == 0)
    assert len(uplink.taken) == 30


@pytest.mark.fault("F62")
async def test_what_the_broker_did_not_take_is_sent_again_and_nothing_is_left_out(bench: Bench) -> None:
    uplink = ScriptedUplink({5: UplinkDown("cut"), 6: UplinkDown("cut")})
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: set(sealed(bench)) <= set(uplink.taken))


async def test_a_refusal_is_said_and_an_answer_of_the_platform_ends_the_pause(bench: Bench) -> None:
    uplink = ScriptedUplink({1: UplinkRefused("nobody has subscribed", 0x10)})
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: publisher.refusal is not None)
    assert "nobody has subscribed" in (publisher.refusal or "")
    task = asyncio.create_task(publisher.run())
    await asyncio.sleep(0.05)
    publisher.acknowledged(None)
    await eventually(lambda: len(uplink.taken) >= 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert publisher.refusal is None


@dataclass
class Refusing(ScriptedUplink):
    """Nobody has subscribed, `refusals` times; when each try was made, in seconds of virtual time."""

    refusals: int = 1_000
    at_s: list[float] = field(default_factory=list)

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        self.at_s.append(asyncio.get_running_loop().time())
        if len(self.at_s) <= self.refusals:
            raise UplinkRefused("nobody has subscribed", 0x10)
        for place in range(len(payloads)):
            taken(place)

    @property
    def pauses_s(self) -> list[float]:
        return [round(after - before, 3) for before, after in pairwise(self.at_s)]


async def _refused_for(
    bench: Bench, uplink: Refusing, during: Callable[[Publisher], Awaitable[None]]
) -> Publisher:
    publisher = Publisher(WHO, OwnThread(bench.journal), uplink, VirtualClock(), bench.dice)
    publisher.connection(up=True)
    task = asyncio.create_task(publisher.run())
    await during(publisher)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return publisher


@pytest.mark.fault("F66", "F67")
def test_pauses_after_refusals_double_from_five_seconds_to_a_minute(bench: Bench) -> None:
    """A second between two tries comes on top of each."""
    uplink = Refusing()

    async def wait(publisher: Publisher) -> None:
        await asyncio.sleep(400)

    run_virtually(_refused_for(bench, uplink, wait))
    assert uplink.pauses_s == [6, 11, 21, 41, *[61] * 5]
    assert bench.journal.backlog().batches == 30, "nothing of it was dropped"


@pytest.mark.fault("F66")
def test_a_message_that_is_taken_ends_the_refusal_and_the_next_one_begins_anew(bench: Bench) -> None:
    uplink = Refusing(refusals=3)

    async def wait(publisher: Publisher) -> None:
        await asyncio.sleep(60)
        assert publisher.refusal is None
        uplink.refusals = 1_000
        publisher.start_over()
        await asyncio.sleep(20)
        assert "nobody" in (publisher.refusal or "")

    run_virtually(_refused_for(bench, uplink, wait))
    assert uplink.pauses_s[:3] == [6, 11, 21]
    assert uplink.pauses_s[-2:] == [6, 11]


@pytest.mark.fault("F66")
@pytest.mark.parametrize("what", ["the platform speaks", "a new connection"])
def test_a_pause_ends_where_something_has_changed(bench: Bench, what: str) -> None:
    uplink = Refusing()

    async def wait(publisher: Publisher) -> None:
        await asyncio.sleep(100)  # in the middle of a pause of a minute
        before = len(uplink.at_s)
        if what == "the platform speaks":
            publisher.acknowledged(None)
        else:
            publisher.connection(up=False)
            publisher.connection(up=True)
        await asyncio.sleep(1.5)
        assert len(uplink.at_s) == before + 1
        await asyncio.sleep(10)
        assert len(uplink.at_s) == before + (1 if what == "the platform speaks" else 2), (
            "it begins anew, or not"
        )

    run_virtually(_refused_for(bench, uplink, wait))


async def test_only_a_head_that_moves_is_progress(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "RESEND_S", 0.2)
    monkeypatch.setattr(publish, "TURN_S_MAX", 0.02)
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    head = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, "x" * 43)

    def still_asking() -> bool:
        publisher.acknowledged(head)
        return len(uplink.taken) >= 60

    await run_until(publisher, still_asking)


async def test_what_begins_anew_while_the_journal_is_read_leaves_nothing_out(bench: Bench) -> None:
    """A new chain was opened, or the platform's head came back, between a page that was read and the next one."""
    uplink = ScriptedUplink()

    @dataclass
    class Hasty(OwnThread):
        turns: int = 0

        async def run(self, work: Callable[[Journal], T]) -> T:
            self.turns += 1
            result = work(self.journal)
            if self.turns == 1:
                publisher.start_over()
            return result

    publisher = Publisher(WHO, Hasty(bench.journal), uplink, SystemClock(), bench.dice)
    publisher.connection(up=True)
    await run_until(publisher, lambda: len(uplink.taken) >= 30)
    assert uplink.taken == sealed(bench), "the page that was read before is not sent beside the next one"


@pytest.mark.fault("F61")
async def test_it_waits_for_the_platform_when_it_is_far_ahead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "AHEAD_MAX", 10)
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    with pytest.raises(AssertionError):
        await run_until(publisher, lambda: len(uplink.taken) > 10, within_s=0.5)
    assert len(uplink.taken) == 10


async def test_what_the_platform_misses_is_sent_again_at_once_and_not_twice(bench: Bench) -> None:
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    task = asyncio.create_task(publisher.run())
    publisher.connection(up=True)
    await eventually(lambda: len(uplink.taken) == 30)
    heads = [head for head, _ in bench.batches()]
    sent = {kept.head.seq: kept.jws for kept in bench.journal.queue(after_ordinal=0, limit=99)}
    publisher.need(heads[0].chain, [(4, 6), (9, 9)])
    await eventually(lambda: len(uplink.taken) == 34)
    assert sorted(uplink.taken[30:], key=lambda jws: jws) == sorted(sent[seq] or b"" for seq in (4, 5, 6, 9))
    publisher.need(heads[0].chain, [(4, 6), (9, 9)])  # they are on their way
    publisher.need("01ARZ3NDEKTSV4RRFFQ69G5FAV", [(1, 30)])  # a chain that is not ours
    publisher.need(heads[0].chain, [(31, 2**53 - 1)])  # nothing that was ever sent
    bench.read({"reflow-1": 2000})
    publisher.wake()
    await eventually(lambda: len(uplink.taken) == 35)
    await asyncio.sleep(0.05)
    assert len(uplink.taken) == 35
    task.cancel()


def test_what_was_acknowledged_or_superseded_is_not_asked_for_again(bench: Bench) -> None:
    heads = [head for head, _ in bench.batches()]
    with bench.journal.transaction():
        bench.journal.mark_stored(heads[4], 1)
        bench.journal.supersede_after(heads[19])
    found = bench.journal.batches_of(heads[0].chain, 1, 30, limit=99)
    assert [batch.head.seq for batch in found] == list(range(6, 21))


async def test_while_the_platforms_head_cannot_be_followed_nothing_is_sent(bench: Bench) -> None:
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), standing=Standing.ASKING))
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    with pytest.raises(AssertionError):
        await run_until(publisher, lambda: uplink.tries > 0, within_s=0.2)
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), standing=Standing.NORMAL))
    publisher.start_over()
    await run_until(publisher, lambda: len(uplink.taken) == 30)


async def test_an_error_that_nobody_foresaw_ends_the_stage(bench: Bench) -> None:
    """Neither a broken connection nor a refusal: to go on as if it had been one would hide it for ever."""
    publisher = publisher_of(bench, ScriptedUplink({3: ZeroDivisionError("a mistake of ours")}))
    publisher.connection(up=True)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5):
            await publisher.run()
    assert bench.journal.backlog().batches == 30


@pytest.mark.fault("F53")
async def test_a_batch_that_lost_its_text_is_damage_and_no_empty_message(bench: Bench) -> None:
    """An empty retained message deletes one, and no platform could say which batch it was."""
    bench.journal.ask("DELETE FROM texts WHERE ordinal = 3")
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    head = bench.journal.batches_between(after_ordinal=2, up_to_ordinal=3, limit=1)[0].head
    with pytest.raises(JournalDamaged, match=f"{head.chain}/3 in the journal has lost its text"):
        await publisher.run()
    assert uplink.taken == []


async def test_only_the_newest_pubacks_are_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "PUBACKS_KEPT", 10)
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: len(uplink.taken) >= 30)
    newest = [kept.ordinal for kept in bench.journal.queue(after_ordinal=0, limit=99)][-10:]
    assert list(publisher.pubacks) == newest


@pytest.mark.fault("F46")
@pytest.mark.parametrize("what", ["mark_stored", "queue"])
async def test_a_full_disk_does_not_end_delivery_and_what_was_taken_is_marked_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Broker mode: every start would send all of it again, and end at the first page."""

    def full(*_: object, **__: object) -> None:
        asked.append(what)
        raise JournalFull("no room")

    asked: list[str] = []
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink, by_broker=True)
    publisher.connection(up=True)
    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, what, full)
        await run_until(publisher, lambda: bool(asked) and (what == "queue" or len(uplink.taken) == 30))
    assert bench.journal.backlog().batches == 30
    publisher.start_over()
    publisher.wake()
    await run_until(publisher, lambda: bench.journal.backlog().batches == 0)
