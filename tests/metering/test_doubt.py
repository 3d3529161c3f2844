"""Readings that wait: which of them are evidence of one another."""

from fractions import Fraction

import pytest

from agent.metering.doubt import Doubt, add
from agent.metering.interval import Moment, Timed, elapsed_ms
from agent.metering.ledger import Basis, Point

BASIS = Basis(Fraction(10_000), None, None)
MILLIWH_PER_MS = 10
INTERVAL_MS = 120_000


def point(register: int, up_ms: int, boot: str, err_ms: int | None) -> Point:
    return Point("m1", up_ms, up_ms, register, BASIS, when=Moment(boot, up_ms, err_ms))


def bound(before: Timed, after: Timed) -> int | None:
    silent_ms = elapsed_ms(before, after)
    return None if silent_ms is None else silent_ms * MILLIWH_PER_MS


def doubt_of(*points: Point) -> Doubt:
    doubt = None
    for each in points:
        doubt = add(doubt, each, bound, INTERVAL_MS)
    assert doubt is not None
    return doubt


@pytest.mark.fault("F17", "F40")
def test_a_misread_before_a_start_without_a_clock_is_no_evidence_of_what_is_read_after_it() -> None:
    """A zero, power gone, 1970, and another meter: the zero would open its epoch (seed 2050 of the world)."""
    misread = point(0, 60_000, "one", 10)
    after = [point(1000, 70_000 + step * 120_000, "two", None) for step in range(3)]
    assert doubt_of(misread, *after[:2]).points == tuple(after[:2])
    assert not doubt_of(misread, *after[:2]).is_settled
    assert doubt_of(misread, *after).is_settled


def test_readings_of_one_start_of_the_machine_are_evidence_without_a_clock() -> None:
    readings = [point(1000 + step, step * 120_000, "two", None) for step in range(3)]
    assert doubt_of(*readings).points == tuple(readings)
    assert doubt_of(*readings).is_settled


@pytest.mark.fault("F20", "F78")
def test_many_readings_of_one_interval_are_one_piece_of_evidence() -> None:
    """An agent that is restarted six times within a minute has not seen six boundaries (seed 2057 of the world)."""
    hurried = [point(1000 + step, 60_000 + step * 9_000, "one", 10) for step in range(6)]
    assert doubt_of(*hurried).points == (hurried[0],)
    later = [point(1010 + step, 120_000 * (1 + step), "one", 10) for step in range(2)]
    assert doubt_of(*hurried, *later).points == (hurried[0], *later)
    assert doubt_of(*hurried, point(900, 115_000, "one", 10)).points[0].register_milliwh == 900
