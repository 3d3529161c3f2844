"""Where an export says that everything stands is where the ledger stands: whatever happened on the way."""

from pathlib import Path

import pytest

from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import CLOCK
from agent.reporting.position import Positions, positions_of
from tests.service.bench import Bench, with_ratio


def exported(bench: Bench) -> list[bytes]:
    """All batches, as an export has them."""
    end = bench.journal.last_ordinal()
    kept = bench.journal.batches_between(after_ordinal=0, up_to_ordinal=end, limit=1_000)
    return [each.sealed_text() for each in kept]


def ledger_of(bench: Bench) -> dict[str, MeterHead]:
    return {meter: bench.meter_head(meter) for meter in bench.journal.heads()}


def without_flags(found: Positions) -> dict[str, MeterHead]:
    return {
        meter: MeterHead(
            head.epoch, head.n, head.register, head.end_ms, head.num, head.den, head.modulus, head.serial
        )
        for meter, head in found.heads.items()
    }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    for turn in range(4):
        made.read({"reflow-1": 1_000 + turn, "wave-1": 999_990 + 5 * turn if turn < 2 else 5 * (turn - 2)})
    return made


def agrees(bench: Bench) -> Positions:
    found = positions_of([*exported(bench), b"", b"\n"])
    assert without_flags(found) == ledger_of(bench)
    assert found.head == bench.journal.state().head
    latest = bench.journal.latest_descriptor()
    assert latest is not None and found.rev == latest.rev
    assert (found.org, found.agent) == ("org", "gw01")
    assert found.sealed_ms == bench.batches()[-1][1].iat_ms
    return found


def test_after_deltas_and_a_rollover(bench: Bench) -> None:
    found = agrees(bench)
    assert {meter: head.epoch for meter, head in found.heads.items()} == {"reflow-1": 1, "wave-1": 1}


@pytest.mark.parametrize(("sync", "q"), [("S", ()), ("U", (CLOCK,))])
def test_at_an_epoch_that_has_just_opened(bench: Bench, sync: str, q: tuple[str, ...]) -> None:
    """Before its first delta; a time that nobody knew when the batch was sealed is no evidence."""
    bench.clock.sync = sync
    for count in (50, 60, 70):
        bench.read({"reflow-1": count, "wave-1": 10})
    assert bench.journal.heads()["reflow-1"].epoch == 2
    found = agrees(bench)
    opening = next(
        line
        for line, (_, batch) in zip(exported(bench), bench.batches(), strict=True)
        if any(event.type == "epoch" for event in batch.events)
    )
    cut = exported(bench)[: exported(bench).index(opening) + 1]
    assert positions_of(cut).heads["reflow-1"].epoch == 2
    assert found.heads["reflow-1"].q is not None and set(q) <= set(found.heads["reflow-1"].q)


def test_after_another_map(bench: Bench) -> None:
    bench.wire(tuple(with_ratio(each, "2") for each in bench.meters))
    for turn in range(3):
        bench.read({"reflow-1": 1_010 + turn, "wave-1": 30 + turn})
    found = agrees(bench)
    assert found.rev == 2


def test_a_map_as_a_message_of_its_own_counts_like_one_in_the_chain(bench: Bench) -> None:
    """A stick carries it beside the batches; what is of neither kind says nothing."""
    latest = bench.journal.latest_descriptor()
    assert latest is not None
    found = Positions()
    found.take(latest.jws)
    assert (found.rev, found.heads, found.head) == (latest.rev, {}, None)
    for line in exported(bench)[-1:]:
        found.take(line)
    assert without_flags(found) == ledger_of(bench), "the newest batch has a delta of each"


def test_what_stands_under_a_map_that_nobody_gave_is_not_guessed(bench: Bench) -> None:
    found = positions_of(exported(bench)[-1:])
    assert found.heads == {} and found.head == bench.journal.state().head
