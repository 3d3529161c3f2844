"""Splitting an interval into batches: nothing lost, nothing reordered for a meter, never above 48 KiB sealed."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.metering.quantity import EXACT_MAX
from agent.reporting import envelope, event
from agent.reporting.batch import DELTAS_MAX, FLAGS, Batch, Clock, Delta, effect_order, pack
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import PART_BYTES
from agent.reporting.event import Event
from agent.reporting.utc import MS_MAX
from tests.reporting import strategies
from tests.reporting.gateway import CHAIN, START_MS
from tests.reporting.keys import Key

KEY = Key()
HASH = "H" * 43
LARGEST = Delta("m" * 32, "s" * 32, EXACT_MAX, EXACT_MAX, MS_MAX, MS_MAX, EXACT_MAX, EXACT_MAX, EXACT_MAX, EXACT_MAX, tuple(sorted(FLAGS)))  # fmt: skip  # noqa: E501
SMALL = Delta("m1", None, 1, 1, START_MS, START_MS, 0, 0, 0, None, ())


def sealed(events: tuple[Event, ...], deltas: tuple[Delta, ...]) -> bytes:
    """The largest batch around a portion: every other field at its longest."""
    batch = Batch(
        "o" * 32,
        "a" * 32,
        "电" * 255,
        CHAIN,
        1,
        HASH,
        ChainHead(CHAIN, EXACT_MAX, HASH),
        MS_MAX,
        Clock("S", EXACT_MAX),
        "电" * 255,
        HASH,
        deltas,
        events,
    )
    return envelope.seal(envelope.BATCH, batch.to_payload(), KEY)


def part(number: int) -> Event:
    """A full part of a descriptor."""
    return event.descriptor_event(START_MS, rev=1, hash=HASH, part=number, parts=40, text="x" * PART_BYTES)


def numbered(count: int, delta: Delta = SMALL) -> list[Delta]:
    """Deltas of one meter."""
    return [replace(delta, n=n) for n in range(1, count + 1)]


@given(st.lists(strategies.events, max_size=12), st.lists(strategies.deltas, max_size=30), st.integers(1, 70))
@example([part(number) for number in range(1, 25)], numbered(200, LARGEST), DELTAS_MAX)
@settings(max_examples=40)
def test_nothing_is_lost_and_nothing_is_too_large(
    events: list[Event], deltas: list[Delta], most: int
) -> None:
    portions = pack(events, deltas, deltas_max=most)
    assert [one for portion in portions for one in portion[0]] == events
    for meter in {delta.meter for delta in deltas}:
        packed = [delta for portion in portions for delta in portion[1] if delta.meter == meter]
        assert packed == [delta for delta in deltas if delta.meter == meter]
    assert sum(len(portion[1]) for portion in portions) == len(deltas)
    for portion in portions:
        assert portion != ((), ())
        assert len(portion[1]) <= most
        assert len(sealed(*portion)) <= envelope.SIZE_MAX[envelope.BATCH]


def test_an_ordinary_interval_is_one_batch() -> None:
    deltas = [replace(SMALL, meter=f"meter-{number}") for number in range(26)]
    assert pack([], deltas) == [((), tuple(deltas))]


def test_nothing_to_say_is_no_batch() -> None:
    assert pack([], []) == []


def test_sixty_four_of_the_largest_deltas_fit_into_one_batch() -> None:
    assert [len(deltas) for _, deltas in pack([], numbered(65, LARGEST))] == [64, 1]


@pytest.mark.fault("F68")
def test_a_batch_of_one_delta_fits_into_two_kibibytes() -> None:
    ordinary = Batch(
        "zj-meterworks",
        "gw01",
        "carbon.grid.example",
        CHAIN,
        2,
        HASH,
        None,
        START_MS,
        Clock("S", 5),
        "1.0.0",
        HASH,
        (LARGEST,),
        (),
    )
    assert len(envelope.seal(envelope.BATCH, ordinary.to_payload(), KEY)) <= 2_048


def test_an_event_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack([part(1)], [], bytes_max=PART_BYTES)


def epoch(meter: str, before: int) -> Event:
    """The end of an epoch."""
    return event.epoch_event(
        START_MS,
        meter=meter,
        epoch_from=before,
        epoch_to=before + 1,
        last=0,
        first=0,
        serial_from=None,
        serial_to=None,
        reason="restore",
        unmetered_from_ms=START_MS,
        unmetered_to_ms=START_MS,
        bound=0,
        by="agent",
    )


def test_an_epoch_event_never_comes_before_the_deltas_it_closes_nor_after_those_it_opens() -> None:
    first, second = numbered(3), numbered(2, replace(SMALL, epoch=2))
    others = numbered(4, replace(SMALL, meter="m2"))
    events = [event.restart_event(START_MS, reason="restore"), epoch("m1", 1)]
    deltas = [*others[:2], *first, *others[2:], *second]
    flat = [
        item
        for portion in pack(events, deltas, deltas_max=1)
        for item in effect_order(portion[0], portion[1])
    ]
    assert flat.index(events[1]) > flat.index(first[-1])
    assert flat.index(events[1]) < flat.index(second[0])
    assert flat == list(effect_order(events, deltas))
    assert flat[0] == events[0]


def test_a_balance_comes_after_the_deltas_it_sums() -> None:
    deltas = numbered(3)
    balance = event.balance_event(
        START_MS, meter="m1", epoch=1, n_first=1, n_last=2, reg_first=0, reg_last=0, sum_milliwh=0, roll=0
    )
    assert list(effect_order([balance], deltas)) == [deltas[0], deltas[1], balance, deltas[2]]


def test_events_that_look_back_on_nothing_come_first() -> None:
    gap = event.gap_event(START_MS, meter="m1", from_ms=START_MS, to_ms=START_MS, reason="silent")
    assert list(effect_order([gap], numbered(1))) == [gap, *numbered(1)]


def test_a_long_restore_is_put_in_order_in_one_pass() -> None:
    deltas = [
        delta for n in range(1, 101) for delta in [replace(SMALL, meter=f"m{m}", epoch=n) for m in range(100)]
    ]
    events = [epoch(f"m{m}", n) for n in range(1, 100) for m in range(100)]
    items = list(effect_order(events, deltas))
    assert len(items) == len(events) + len(deltas)
    one = [item for item in items if (item.meter if isinstance(item, Delta) else item.text("meter")) == "m7"]
    # A delta of epoch n, then the event that closes epoch n, a hundred times.
    assert [isinstance(item, Delta) for item in one] == [True, False] * 99 + [True]
