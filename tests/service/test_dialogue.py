"""What the agent says to the platform and when, and what an answer sets going: on a virtual clock, with real keys."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import pytest

from agent.adapters.keys import PublicKeys, generate_key, load_signer
from agent.errors import JournalFull, UplinkDown, UplinkRefused
from agent.metering.interval import DAY_MS
from agent.metering.plant import Share
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.chain import ChainHead
from agent.reporting.status import Status
from agent.service.dialogue import ANSWER_S, ASK_S, STATUS_S, Dialogue, former_maps
from agent.service.journal import Journal, Standing
from agent.service.ports import Connected, Disconnected, Received, UplinkEvent, Will
from agent.service.publish import Publisher
from agent.service.seal import Identity
from agent.service.signing import session_of, settle_keys
from tests.service.bench import Bench
from tests.service.virtual import VirtualClock, run_virtually
from tests.simulators.bench import PLATFORM_KEY

T = TypeVar("T")
WHO = Identity("org", "gw01", "carbon.example", "0.1.0")
NOW_MS = 1_763_812_800_000


@dataclass
class Wire:
    """An uplink that is told what happens; `fails` is raised by the next publish."""

    happens: "asyncio.Queue[UplinkEvent]" = field(default_factory=asyncio.Queue)
    said: list[tuple[str, bytes, bool]] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        assert subscribe == ("kwh/v1/org/gw01/down/ack",)

    async def events(self) -> AsyncIterator[UplinkEvent]:
        while True:
            yield await self.happens.get()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.said.append((topic.rpartition("/")[2], payload, retain))

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError


@dataclass
class Storage:
    """The journal; `fails` is raised instead of the next piece of work."""

    journal: Journal
    fails: list[Exception] = field(default_factory=list)

    async def run(self, work: Callable[[Journal], T]) -> T:
        if self.fails:
            raise self.fails.pop(0)
        return work(self.journal)


class Talk:
    """A dialogue at work, to be used inside `run`."""

    def __init__(self, bench: Bench, mode: str = "platform") -> None:
        self.bench, self.wire, self.storage = bench, Wire(), Storage(bench.journal)
        clock = VirtualClock()
        self.publisher = Publisher(WHO, self.storage, self.wire, clock, bench.dice)
        self.dialogue = Dialogue(
            WHO,
            bench.signers,
            PublicKeys([PLATFORM_KEY.public_key]),
            self.storage,
            self.wire,
            clock,
            bench.acknowledger,
            self.publisher,
            mode=mode,
        )

    async def passes(self, seconds: float) -> None:
        """Time passes."""
        await asyncio.sleep(seconds)

    async def connect(self, session: str = "s1") -> None:
        await self.hear(Connected(session))

    async def hear(self, event: UplinkEvent) -> None:
        self.wire.happens.put_nowait(event)
        await asyncio.sleep(0.01)

    async def answer(self, said: Acknowledgement) -> None:
        jws = envelope.seal(envelope.ACKNOWLEDGEMENT, said.to_payload(), PLATFORM_KEY)
        await self.hear(Received("kwh/v1/org/gw01/down/ack", jws, retained=False))

    def statuses(self) -> list[Status]:
        """All that were published, oldest first."""
        keys = PublicKeys([each.public_key for each in self.bench.signers])  # type: ignore[attr-defined]
        return [
            Status.from_payload(envelope.open_sealed(payload, envelope.STATUS, keys).payload)
            for topic, payload, _ in self.wire.said
            if topic == "status"
        ]

    def flows(self) -> bool:
        """Whether batches may be published."""
        return self.publisher.connected

    @property
    def head(self) -> ChainHead:
        head = self.bench.journal.state().head
        assert head is not None
        return head


def run(
    bench: Bench, story: Callable[[Talk], Coroutine[object, object, None]], mode: str = "platform"
) -> None:
    """Let the stages of a dialogue run while a story is told."""

    async def told() -> None:
        talk = Talk(bench, mode)
        await talk.dialogue.begin()
        stages = [asyncio.create_task(talk.dialogue.listen()), asyncio.create_task(talk.dialogue.tell())]
        try:
            await story(talk)
            assert not any(stage.done() for stage in stages)
        finally:
            for stage in stages:
                stage.cancel()
            await asyncio.gather(*stages, return_exceptions=True)

    run_virtually(told())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    settle_keys(made.journal, made.signers, site="site.toml", platform_answers=True)
    for count in range(4):
        made.read({"reflow-1": 1000 + count, "wave-1": 7})
    return made


def said(head: ChainHead | None, number: int = 1, **more: object) -> Acknowledgement:
    return replace(Acknowledgement("org", "gw01", 0, number, head, NOW_MS), **more)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------- when batches may flow


def test_nothing_is_published_before_the_platform_has_answered_or_had_its_chance(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        assert [(topic, retain) for topic, _, retain in talk.wire.said] == [
            ("desc", True),
            ("status", True),
        ]
        await talk.passes(ANSWER_S / 2)
        assert not talk.flows()
        await talk.answer(said(talk.head, session="s1"))
        assert talk.flows()
        assert talk.bench.journal.backlog().batches == 0
        assert talk.dialogue.last_acknowledged_ms == NOW_MS

    run(bench, story)


def test_a_platform_that_does_not_answer_is_not_waited_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agent.service.dialogue")

    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.passes(ANSWER_S + 0.1)
        assert talk.flows()
        assert "the platform did not answer at once; publishing begins" in caplog.messages

    run(bench, story)


@pytest.mark.fault("F65")
@pytest.mark.parametrize(("mode", "again"), [("broker", 2), ("platform", 0)])
def test_the_meter_map_is_told_again_every_hour_where_nobody_can_ask_for_it(
    bench: Bench, mode: str, again: int
) -> None:
    """A broker that took it and lost it, together with the batch that carried it, would leave all steps unknown."""

    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.passes(2 * 3600 + 120)
        maps = [payload for topic, payload, _ in talk.wire.said if topic == "desc"]
        assert len(maps) == 1 + again and len(set(maps)) == 1

    run(bench, story, mode)


def rename_step(bench: Bench, step: str) -> None:
    """The oven counts for another step from now on."""
    oven, *others = bench.meters
    bench.wire((replace(oven, shares=(Share(step, Fraction(1)),)), *others))
    bench.read({"reflow-1": 2000, "wave-1": 7})


@pytest.mark.fault("F65", "F81")
@pytest.mark.parametrize(("mode", "each_time"), [("broker", 3), ("platform", 1)])
def test_former_maps_are_told_again_before_the_one_in_force(bench: Bench, mode: str, each_time: int) -> None:
    """A map that was replaced within the hour would never come, where the broker lost the batch that carried it."""
    rename_step(bench, "selective_soldering")
    rename_step(bench, "wave_soldering")
    kept = [each.jws for each in bench.journal.descriptors()]
    assert len(kept) == 3

    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.passes(3600 + 120)
        told = [payload for topic, payload, _ in talk.wire.said if topic == "desc"]
        assert told == (2 * kept if each_time == 3 else kept[-1:])
        retained = {payload for topic, payload, retain in talk.wire.said if topic == "desc" and retain}
        assert retained == {kept[-1]}, (
            "what stays at the broker is the one in force, whenever a connection ends"
        )

    run(bench, story, mode)


@pytest.mark.parametrize(
    ("changes", "days", "numbers"), [(2, 29, [1, 2]), (2, 31, []), (9, 0, [*range(3, 10)])]
)
def test_so_many_former_maps_are_told_for_30_days_after_a_change(
    bench: Bench, changes: int, days: int, numbers: list[int]
) -> None:
    for number in range(changes):
        rename_step(bench, f"step_{number}")
    now_ms = bench.clock.now_ms + days * DAY_MS
    assert [each.rev for each in former_maps(bench.journal, now_ms)] == numbers


def test_where_only_the_broker_answers_nobody_is_waited_for(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        assert talk.flows()

    run(bench, story, mode="broker")


def test_an_answer_to_an_earlier_connection_opens_nothing(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect("s2")
        await talk.answer(said(talk.head, session="s1"))
        assert not talk.flows()

    run(bench, story)


def test_a_connection_that_goes_away_while_it_waits_opens_nothing(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect("s1")
        await talk.hear(Disconnected("the broker closed the connection"))
        await talk.passes(ANSWER_S + 1)
        assert not talk.flows()
        await talk.passes(2 * STATUS_S)
        assert len(talk.statuses()) == 1, "nobody is there to hear another"

    run(bench, story)


def test_a_status_that_cannot_leave_opens_nothing_and_the_next_one_does(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        talk.wire.fails.append(UplinkDown("gone"))
        await talk.connect()
        await talk.passes(ANSWER_S + 1)
        assert not talk.flows() and talk.wire.said == []
        await talk.passes(STATUS_S + ANSWER_S)
        assert talk.flows()
        assert [topic for topic, _, _ in talk.wire.said] == ["desc", "status"], "both are said now"

    run(bench, story)


def test_a_broker_that_takes_no_status_gets_the_batches_all_the_same(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(talk: Talk) -> None:
        talk.wire.fails.append(UplinkRefused("not authorised", 0x87))
        await talk.connect()
        await talk.passes(ANSWER_S + 1)
        assert talk.flows()
        assert "the broker does not take our status" in caplog.messages

    run(bench, story)


def test_the_last_word_is_said_only_where_somebody_hears_it(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.dialogue.farewell()
        assert talk.wire.said == []
        await talk.connect()
        await talk.dialogue.farewell()
        assert [each.state for each in talk.statuses()] == ["online", "offline"]

    run(bench, story)


def test_the_map_is_told_again_only_where_it_is_news(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.answer(said(talk.head, session="s1"))
        await talk.passes(STATUS_S + 1)
        assert [topic for topic, _, _ in talk.wire.said] == ["desc", "status", "status"]
        talk.bench.wire(tuple(replace(each, rated_w=90_000) for each in talk.bench.meters))
        talk.bench.read({"reflow-1": 1010, "wave-1": 7})
        talk.dialogue.map_changed()
        await talk.passes(0.1)
        assert [topic for topic, _, _ in talk.wire.said][3:] == ["desc", "status"]

    run(bench, story)


# ------------------------------------------------------------------------------------------------- what is said of it


def test_a_reason_is_said_once_and_since_when_there_is_no_connection_stays(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        since = []
        for reason in ("refused", "refused", "no such host", "refused"):
            await talk.passes(10)
            await talk.hear(Disconnected(reason))
            since.append(talk.dialogue.connection_since_ns)
            assert talk.dialogue.connection_problem == reason
        assert len(set(since)) == 1
        assert caplog.messages.count("there is no connection to the broker") == 3
        await talk.connect("s2")
        assert talk.dialogue.connection_problem is None and talk.dialogue.connection_since_ns > since[0]
        assert talk.dialogue.connections == 2

    run(bench, story)


# ------------------------------------------------------------------------------------ what an answer sets going


def test_what_the_platform_misses_is_given_to_the_publisher(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        asked: list[tuple[str, list[tuple[int, int]]]] = []
        talk.publisher.need = lambda chain, spans: asked.append((chain, list(spans)))  # type: ignore[method-assign]
        await talk.connect()
        first = talk.bench.batches()[0][0]
        await talk.answer(said(first, need=((3, 4),)))
        await talk.answer(said(first, 2))
        assert asked == [(first.chain, [(3, 4)])]

    run(bench, story)


def test_a_platform_that_holds_nothing_misses_nothing(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.answer(said(None, session="s1"))
        assert talk.flows() and talk.bench.journal.backlog().batches == 4

    run(bench, story)


@pytest.mark.fault("F55", "F56")
def test_a_head_that_cannot_be_followed_is_asked_about_at_once_and_the_answer_opens_a_chain(
    bench: Bench,
) -> None:
    async def story(talk: Talk) -> None:
        strange = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "A" * 43)
        await talk.connect()
        await talk.answer(said(talk.head, session="s1"))
        assert talk.flows()
        await talk.answer(said(strange, 2, gen=1))
        assert talk.bench.journal.state().standing is Standing.ASKING
        assert talk.statuses()[-1].need_heads and talk.statuses()[-1].session == "s1"
        await talk.answer(said(strange, 3, gen=1, session="s0"))
        assert talk.bench.journal.state().standing is Standing.ASKING, "no answer to this question"
        asked = len(talk.statuses())
        await talk.passes(ASK_S[0] * 2 + ANSWER_S + 1)
        assert len(talk.statuses()) > asked, "and again, until it is answered"
        heads = {meter: talk.bench.meter_head(meter) for meter in ("reflow-1", "wave-1")}
        await talk.answer(said(strange, 4, gen=1, session="s1", heads=heads, rev=1))
        assert talk.bench.journal.state().standing is Standing.NORMAL
        assert not talk.statuses()[-1].need_heads
        assert [topic for topic, _, _ in talk.wire.said].count("desc") == 2, "the new chain's map is told"

    run(bench, story)


def test_a_head_that_went_back_is_said_once_and_again_after_it_had_come_forward(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def complaints() -> int:
        return sum("went back within its generation" in message for message in caplog.messages)

    async def story(talk: Talk) -> None:
        first = talk.bench.batches()[0][0]
        await talk.connect()
        await talk.answer(said(talk.head, 1))
        await talk.answer(said(first, 2))
        await talk.answer(said(first, 3))
        assert complaints() == 1
        await talk.answer(said(talk.head, 4))
        await talk.answer(said(None, 5))
        assert complaints() == 2
        assert talk.bench.journal.backlog().batches == 0, "and nothing counts as lost"

    run(bench, story)


def test_an_old_answer_changes_nothing(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.answer(said(talk.head, 7))
        await talk.hear(Disconnected("gone"))
        await talk.connect("s2")
        before = talk.dialogue.last_acknowledged_ms
        await talk.answer(said(talk.head, 7, session="s2", stored_at_ms=NOW_MS + 5_000))
        assert not talk.flows() and talk.dialogue.last_acknowledged_ms == before

    run(bench, story)


@pytest.mark.fault("F46")
def test_an_answer_that_finds_no_room_is_taken_when_it_comes_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        talk.storage.fails.append(JournalFull("no room"))
        await talk.answer(said(talk.head))
        assert "an acknowledgement could not be kept" in caplog.messages
        assert talk.bench.journal.backlog().batches == 4
        await talk.answer(said(talk.head))
        assert talk.bench.journal.backlog().batches == 0

    run(bench, story)


def test_something_else_than_an_answer_is_counted_and_ends_nothing(bench: Bench) -> None:
    async def story(talk: Talk) -> None:
        await talk.connect()
        await talk.hear(Received("kwh/v1/org/gw01/down/ack", b"not a token", retained=True))
        stranger = replace(said(talk.head), agent="gw02")
        await talk.answer(stranger)
        assert (talk.dialogue.rejected, talk.bench.journal.backlog().batches) == (2, 4)

    run(bench, story)


# ------------------------------------------------------------------------------------------------------- with two keys


def test_where_two_keys_may_be_in_force_each_asks_in_turn_and_the_one_that_is_answered_goes_on(
    bench: Bench, tmp_path: Path
) -> None:
    generate_key(tmp_path / "next.pem")
    bench.following = load_signer(tmp_path / "next.pem")
    bench.wire(bench.meters)

    async def story(talk: Talk) -> None:
        following = talk.bench.following
        assert following is not None
        with talk.bench.journal.transaction():
            state = talk.bench.journal.state()
            talk.bench.journal.save_state(replace(state, standing=Standing.ASKING))
        await talk.connect()
        await talk.passes(4 * ASK_S[0] + 2 * ANSWER_S)
        by = {each.kid: each.session for each in talk.statuses()}
        assert by == {signer.kid: session_of("s1", signer) for signer in talk.bench.signers}
        heads = {meter: talk.bench.meter_head(meter) for meter in ("reflow-1", "wave-1")}
        await talk.answer(said(talk.head, session="s1"))
        assert talk.bench.journal.state().standing is Standing.ASKING, (
            "nobody knows which of them was answered"
        )
        await talk.answer(said(talk.head, 2, session=by[following.kid], heads=heads, rev=1))
        assert talk.bench.journal.state().standing is Standing.NORMAL

    run(bench, story)
