"""Times that were sealed without the time, and what later events make of them."""

from agent.reporting.batch import Batch, Clock
from agent.reporting.event import Event, clock_event
from agent.reporting.relabel import Corrected, Relabelling, corrected, relabellings

CHAIN, OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"


def event(seq_from: int, seq_to: int, offset_ms: int | None, err_ms: int = 5) -> Event:
    return clock_event(
        1_760_000_000_000,
        boot="one",
        seq_from=seq_from,
        seq_to=seq_to,
        offset_ms=offset_ms,
        err_ms=err_ms,
        state_from="U",
        state_to="S",
    )


def batch(seq: int, *events: Event) -> Batch:
    return Batch(
        org="zj",
        agent="gw01",
        aud="carbon",
        chain=CHAIN,
        seq=seq,
        prev="x" * 43,
        prev_chain=None,
        iat_ms=1_760_000_000_000,
        clock=Clock("S", 5),
        sw="1.0.0",
        cfg="c" * 43,
        deltas=(),
        events=events,
    )


def test_an_event_relabels_its_stretch_of_its_own_chain() -> None:
    known = relabellings(batch(9, event(3, 8, 1000)))
    assert known == (Relabelling(CHAIN, 3, 8, 1000, 5, 9),)
    assert corrected(60, CHAIN, 3, known) == corrected(60, CHAIN, 8, known) == Corrected(1060, 5, 9)
    assert (
        corrected(60, CHAIN, 2, known)
        is corrected(60, CHAIN, 9, known)
        is corrected(60, OTHER, 5, known)
        is None
    )


def test_an_event_that_knows_no_offset_relabels_nothing() -> None:
    assert relabellings(batch(9, event(9, 9, None))) == ()


def test_a_clock_that_was_set_twice_adds_up() -> None:
    known = (*relabellings(batch(5, event(1, 4, 1000))), *relabellings(batch(7, event(2, 6, -30, 8))))
    assert corrected(100, CHAIN, 1, known) == Corrected(1100, 5, 5)
    assert corrected(100, CHAIN, 4, known) == Corrected(1070, 8, 7)
    assert corrected(100, CHAIN, 6, known) == Corrected(70, 8, 7)


def test_one_that_leads_to_no_time_leaves_the_others_in_force() -> None:
    absurd = relabellings(batch(6, event(1, 4, -(2**52))))
    known = (*relabellings(batch(5, event(1, 4, 1000))), *absurd, *relabellings(batch(7, event(1, 4, 50, 8))))
    assert corrected(100, CHAIN, 2, known) == Corrected(1150, 8, 7)
    assert corrected(100, CHAIN, 2, known[:2]) == Corrected(1100, 5, 5)
    assert corrected(100, CHAIN, 2, absurd) is None
