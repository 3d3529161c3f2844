"""A `clock` event moves the times of what was booked, and no energy."""

from dataclasses import replace
from itertools import pairwise

import pytest

from agent.reporting.event import Event, clock_event
from agent.reporting.utc import text_of_ms
from simulators.platform import queries
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, Gateway, described

BACK_MS = 50 * 365 * 86_400_000


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(meters=(described("m1"),))


def event(gateway: Gateway, first: int, last: int, offset_ms: int | None) -> Event:
    return clock_event(
        gateway.now_ms,
        boot="one",
        seq_from=first,
        seq_to=last,
        offset_ms=offset_ms,
        err_ms=10,
        state_from="U",
        state_to="S",
    )


def times(bench: Bench) -> list[tuple[int, int]]:
    rows = bench.platform.store.rows("SELECT start_ms, end_ms FROM booked ORDER BY position, n_first")
    return [(int(start), int(end)) for start, end in rows]


@pytest.mark.parametrize("offset_ms", [2**53 - 1, 1 - 2**53])
def test_an_offset_that_leads_to_no_time_moves_nothing_and_stops_nobody(
    bench: Bench, gateway: Gateway, offset_ms: int
) -> None:
    bench.send(*(gateway.interval(1_000) for _ in range(3)))
    before = times(bench)
    said = [event(gateway, 1, len(gateway.line), offset_ms)]
    bench.send(gateway.say([gateway.delta("m1", 1_000)], events=said), gateway.interval(1_000))
    assert times(bench)[: len(before)] == before
    assert bench.energy(gateway) == {"m1": 5_000}
    assert [gap for gap in queries.gaps(bench.platform.store) if gap.kind == "clock"] == []
    assert bench.platform.heads_for(gateway.org, gateway.agent)


@pytest.mark.fault("F40")
@pytest.mark.parametrize("with_step", [True, False])
def test_what_was_read_in_1970_is_moved_to_where_it_belongs(
    bench: Bench, gateway: Gateway, *, with_step: bool
) -> None:
    begun_ms = gateway.now_ms
    gateway.now_ms -= BACK_MS
    bench.send(*(gateway.interval(1_000) for _ in range(3)))
    last = len(gateway.line)
    gateway.now_ms += BACK_MS + MINUTE_MS
    delta = gateway.delta("m1", 1_000)
    said = [event(gateway, 1, last, BACK_MS if with_step else None)]
    bench.send(gateway.say([replace(delta, q=("clock",))], events=said), gateway.interval(1_000))
    found = times(bench)
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert bench.energy(gateway) == {"m1": 5_000}
    assert queries.broken_books(bench.platform.store) == []
    shown = [gap.text for gap in queries.gaps(bench.platform.store) if gap.kind == "clock"]
    told, right = text_of_ms(begun_ms - BACK_MS + MINUTE_MS), text_of_ms(begun_ms + MINUTE_MS)
    assert [f"told {told}" in text and f"was {right}" in text for text in shown] == [True] * with_step
    if with_step:
        assert [start >= begun_ms - MINUTE_MS for start, _ in found] == [True] * 5
        assert [end - start for start, end in found] == [MINUTE_MS] * 5
    else:
        assert found[0][1] < begun_ms - BACK_MS // 2


def test_rows_outside_the_range_stay(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000), gateway.interval(1_000))
    before = times(bench)
    first = len(gateway.line)
    bench.send(gateway.interval(1_000))
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([], events=[event(gateway, first + 1, first + 1, 5_000)]))
    after = times(bench)
    assert after[:2] == before
    assert after[2] == (before[1][1], before[1][1] + MINUTE_MS + 5_000)


def shown(bench: Bench) -> list[tuple[str, str]]:
    """What `gaps` says of clocks: the place without its chain, and the text."""
    found = [gap for gap in queries.gaps(bench.platform.store) if gap.kind == "clock"]
    return [(gap.place.split("/")[1], gap.text) for gap in found]


@pytest.mark.fault("F40")
def test_a_clock_that_was_set_twice_is_shown_with_what_was_told_first(bench: Bench, gateway: Gateway) -> None:
    """Set roughly by a person, then by the network: the first batches were moved twice, the later ones once."""
    roughly_ms, begun_ms = BACK_MS - 5_000, gateway.now_ms
    gateway.now_ms -= BACK_MS
    bench.send(*(gateway.interval(1_000) for _ in range(2)))
    gateway.now_ms += roughly_ms
    bench.send(gateway.interval(1_000, events=[event(gateway, 1, 2, roughly_ms)]), gateway.interval(1_000))
    gateway.now_ms += 5_000
    bench.send(gateway.interval(1_000, events=[event(gateway, 1, 4, 5_000)]))
    minutes = [begun_ms + number * MINUTE_MS for number in range(1, 6)]
    assert [end for _, end in times(bench)] == minutes

    def text(first: int, last: int, offset_ms: int) -> str:
        told, right = (
            " to ".join(text_of_ms(minutes[each] - less) for each in (first, last)) for less in (offset_ms, 0)
        )
        return f"told {told}, was {right}, wrong by at most 10 ms"

    assert shown(bench) == [("1-2", text(0, 1, BACK_MS)), ("3-4", text(2, 3, 5_000))]


def test_an_offset_that_leads_to_no_time_hides_no_other(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000), gateway.interval(1_000))
    said = [event(gateway, 1, 2, 7_000), event(gateway, 1, 2, -60 * 365 * 86_400_000)]
    before = times(bench)
    bench.send(gateway.interval(1_000, events=said))
    assert [end for _, end in times(bench)[:2]] == [end + 7_000 for _, end in before]
    ((place, text),) = shown(bench)
    assert place == "1-2" and text_of_ms(before[0][1]) in text and text_of_ms(before[0][1] + 7_000) in text
