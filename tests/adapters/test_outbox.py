"""The queue of a connection: order, window, what a refusal stops, and when a PUBACK is overdue. No network."""

import asyncio
from dataclasses import dataclass, field

import pytest

from agent.adapters.uplink.answers import refused
from agent.adapters.uplink.outbox import OVERHEAD_BYTES, Outbox, Run
from agent.errors import UplinkDown, UplinkRefused

TOPIC = "t"


@dataclass
class Desk:
    """An outbox, the wire behind it and a clock that is set by hand."""

    now_s: float = 0.0
    wire: list[tuple[int, bytes]] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    broken: bool = False

    def __post_init__(self) -> None:
        self.outbox = Outbox(self._send, refused, lambda: self.now_s)

    def _send(self, topic: str, payload: bytes, retain: bool) -> int | None:
        if self.broken:
            return None
        self.wire.append((len(self.wire) + 1, payload))
        return len(self.wire)

    def add(self, *payloads: bytes, retain: bool = False, urgent: bool = False) -> Run:
        def note(place: int) -> None:
            self.taken.append(payloads[place])

        run = Run(TOPIC, payloads, retain, note, asyncio.get_running_loop().create_future(), urgent)
        self.outbox.add(run)
        self.outbox.pump()
        return run

    def answer(self, identifier: int, code: int = 0) -> None:
        refusal = None if code == 0 else lambda topic: refused(topic, code)
        self.outbox.answered(identifier, refusal)
        self.outbox.pump()

    @property
    def sent(self) -> list[bytes]:
        return [payload for _, payload in self.wire]


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def many(count: int, size: int = 1) -> list[bytes]:
    return [bytes([number]) * size for number in range(count)]


async def test_a_run_leaves_in_its_order_as_far_as_the_window_goes(desk: Desk) -> None:
    payloads = many(20)
    run = desk.add(*payloads)
    assert desk.sent == payloads[:8]
    for identifier in range(1, 21):
        assert not run.done.done()
        desk.answer(identifier)
        assert len(desk.wire) == min(20, 8 + identifier)
    assert desk.sent == payloads == desk.taken
    await run.done
    assert desk.outbox.is_empty


async def test_an_urgent_message_passes_the_runs_and_not_another_urgent_one(desk: Desk) -> None:
    desk.add(*many(8))
    desk.add(*many(3))
    desk.add(b"status 1", urgent=True)
    desk.add(b"status 2", urgent=True)
    for identifier in range(1, 9):
        desk.answer(identifier)
    assert desk.sent[8:] == [b"status 1", b"status 2", *many(3)]


async def test_a_page_of_one_batch_does_not_pass_the_page_before_it(desk: Desk) -> None:
    desk.add(*many(12))
    desk.add(b"the newest")
    for identifier in range(1, 9):
        desk.answer(identifier)
    assert desk.sent == [*many(12), b"the newest"]


async def test_the_window_counts_bytes_too_and_a_message_beyond_it_goes_alone(desk: Desk) -> None:
    desk.outbox.limits.window_bytes = 3 * (100 + OVERHEAD_BYTES + len(TOPIC))
    large = b"x" * 10_000
    desk.add(*many(4, 100), large, b"after")
    assert desk.sent == many(3, 100)
    for identifier in (1, 2, 3):
        desk.answer(identifier)
    assert desk.sent == many(4, 100), "the large one waits until nothing else is on its way"
    desk.answer(4)
    assert desk.sent[4:] == [large]
    desk.answer(5)
    assert desk.sent[5:] == [b"after"]


async def test_after_a_refusal_nothing_of_the_run_is_sent_and_what_was_on_its_way_is_awaited(
    desk: Desk,
) -> None:
    run = desk.add(*many(20))
    other = desk.add(*many(2))
    desk.answer(2, 0x97)
    assert not run.done.done(), "seven of them have no answer yet"
    for identifier in (1, 3, 4, 5, 6, 7, 8):
        desk.answer(identifier, 0x87 if identifier == 5 else 0)
    with pytest.raises(UplinkRefused) as error:
        await run.done
    assert error.value.code == 0x97, "the first one"
    assert desk.sent == [*many(8), *many(2)], "the next run goes on"
    assert desk.taken == [bytes([place]) for place in (0, 2, 3, 5, 6, 7)]
    desk.answer(9)
    desk.answer(10)
    await other.done


async def test_what_the_broker_cannot_take_is_refused_without_being_sent(desk: Desk) -> None:
    desk.outbox.limits.packet_bytes = 200
    desk.outbox.limits.retain = False
    for run, code in ((desk.add(b"x" * 200), 0x95), (desk.add(b"x", retain=True), 0x9A)):
        with pytest.raises(UplinkRefused) as error:
            await run.done
        assert error.value.code == code
    assert desk.sent == []


async def test_a_caller_that_went_away_is_told_nothing_and_its_message_keeps_its_place(desk: Desk) -> None:
    run = desk.add(*many(12))
    run.done.cancel()
    desk.add(b"status")
    assert len(desk.wire) == 8
    desk.answer(1)
    assert desk.taken == []
    assert desk.sent[8:] == [b"status"], "the other four are not sent any more"


async def test_unknown_and_repeated_answers_change_nothing(desk: Desk) -> None:
    run = desk.add(*many(2))
    desk.answer(77)
    desk.answer(1)
    desk.answer(1)
    assert desk.taken == many(1)
    desk.answer(2)
    await run.done


async def test_a_later_puback_starts_the_clock_of_those_before_it(desk: Desk) -> None:
    desk.add(*many(3))
    desk.now_s = 10
    assert not desk.outbox.is_overdue(moved=10, limit_s=5), "something moves, so a slow line gets its time"
    assert desk.outbox.is_overdue(moved=0, limit_s=5)
    desk.answer(2)
    desk.now_s = 16
    assert desk.outbox.is_overdue(moved=16, limit_s=5), "the first one's PUBACK is lost, whatever moves"
    desk.answer(1)
    assert not desk.outbox.is_overdue(moved=16, limit_s=5)


async def test_the_end_is_the_end_for_everybody_and_a_refusal_says_more_than_it(desk: Desk) -> None:
    refused_run, waiting, unsent = desk.add(*many(8)), desk.add(*many(3)), desk.add(b"status")
    desk.answer(1, 0x97)
    desk.outbox.end(lambda: UplinkDown("cut"))
    with pytest.raises(UplinkRefused):
        await refused_run.done
    for run in (waiting, unsent):
        with pytest.raises(UplinkDown):
            await run.done
    assert desk.outbox.is_empty


async def test_where_the_network_takes_nothing_any_more_nothing_is_lost_from_the_queue(desk: Desk) -> None:
    desk.broken = True
    run = desk.add(*many(2))
    assert not desk.outbox.is_empty
    desk.outbox.end(lambda: UplinkDown("cut"))
    with pytest.raises(UplinkDown):
        await run.done
