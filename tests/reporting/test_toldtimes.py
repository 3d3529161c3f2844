"""The times of a file, as told and as `clock` events correct them: beside one another, never instead of one another."""

from dataclasses import replace

import pytest

from agent.reporting.batch import Clock
from agent.reporting.event import Event, clock_event
from tests.reporting.audit import KEY, verified
from tests.reporting.gateway import MINUTE_MS, START_MS, Gateway, meter_description

BACK_MS = 50 * 365 * 86_400_000


def minute(gateway: Gateway, sync: str, events: list[Event] | None = None) -> None:
    """One interval under a clock of that state."""
    gateway.now_ms += MINUTE_MS
    carried = gateway.carried() if gateway.head is None else []
    delta = gateway.delta("m1", 1_000)
    flagged = replace(
        delta, q=("clock",) if sync == "U" or delta.end_ms - delta.start_ms > BACK_MS // 2 else ()
    )
    gateway.seal(replace(gateway.batch([flagged], [*carried, *(events or [])]), clock=Clock(sync, 5)))


def set_clock(gateway: Gateway, first: int, last: int, offset_ms: int | None) -> Event:
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


def booted_in_1970(*, is_known: bool, offset_ms: int = BACK_MS) -> Gateway:
    gateway = Gateway(KEY, (meter_description("m1"),))
    gateway.now_ms -= BACK_MS
    for _ in range(3):
        minute(gateway, "U")
    gateway.now_ms += BACK_MS
    minute(gateway, "S", [set_clock(gateway, 1, 3, offset_ms if is_known else None)])
    minute(gateway, "S")
    return gateway


def test_what_was_told_in_1970_is_shown_with_what_it_was() -> None:
    report = verified(booted_in_1970(is_known=True).jws)
    assert report.ok
    (stretch,) = report.relabelled
    first, last = START_MS + MINUTE_MS, START_MS + 3 * MINUTE_MS
    assert (stretch.seq_from, stretch.seq_to, stretch.err_ms) == (1, 3, 10)
    assert stretch.told_ms == (first - BACK_MS, last - BACK_MS) and stretch.right_ms == (first, last)
    assert report.period_ms is not None and report.period_ms[0] < START_MS - BACK_MS // 2
    assert report.right_period_ms == (first, START_MS + 5 * MINUTE_MS)


def test_an_offset_that_nobody_knows_corrects_nothing() -> None:
    report = verified(booted_in_1970(is_known=False).jws)
    assert report.ok and report.relabelled == () and report.right_period_ms is None


@pytest.mark.parametrize("offset_ms", [2**53 - 1, 1 - 2**53, -(10**13)])
def test_an_offset_that_leads_to_no_time_corrects_nothing(offset_ms: int) -> None:
    report = verified(booted_in_1970(is_known=True, offset_ms=offset_ms).jws)
    assert report.ok and report.relabelled == () and report.right_period_ms is None


@pytest.mark.parametrize("count", [1, 3])
def test_each_setting_of_a_clock_is_a_stretch_of_its_own(count: int) -> None:
    gateway, spans = Gateway(KEY, (meter_description("m1"),)), []
    for turn in range(1, count + 1):
        first = len(gateway.jws) + 1
        gateway.now_ms -= turn * BACK_MS // 4
        for _ in range(2):
            minute(gateway, "U")
        gateway.now_ms += turn * BACK_MS // 4
        spans.append((first, first + 1))
        minute(gateway, "S", [set_clock(gateway, first, first + 1, turn * BACK_MS // 4)])
    report = verified(gateway.jws)
    assert [(each.seq_from, each.seq_to) for each in report.relabelled] == spans
    assert all(
        START_MS <= each.right_ms[0] <= each.right_ms[1] <= gateway.now_ms for each in report.relabelled
    )
