"""What a platform has lost is told in pieces: none is lost between two of them, whatever ends the agent there."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from agent.errors import JournalFull
from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import Delta
from agent.service.acknowledge import Outcome
from agent.service.close import may_seal
from agent.service.journal import Standing
from agent.service.restore import Restorer
from agent.service.retelling import Reteller
from tests.service.bench import Bench, two_meters, with_ratio
from tests.service.virtual import VirtualClock, run_virtually
from tests.service.watched import InlineStorage

TURNS = 20
PIECE = 6


def a_bench(path: Path, piece_readings: int = PIECE) -> Bench:
    """Two meters over a while; the platform has all of it."""
    bench = Bench(path, piece_readings=piece_readings)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + 3 * turn, "wave-1": 500 + turn})
    head = bench.journal.state().head
    assert bench.acknowledge(head, number=1) is Outcome.TAKEN
    return bench


def empty_the_platform(bench: Bench, heads: dict[str, MeterHead] | None = None) -> None:
    """It answers that it holds nothing, or these heads of a chain that nobody knows."""
    assert bench.acknowledge(None, number=2, gen=1) in (Outcome.ASKING, Outcome.TAKEN)
    journal = bench.journal
    with journal.transaction():
        bench.restorer.open_chain(
            journal, None, heads or {}, "emptied", bench.clock.now_ms, bench.clock.now_ms
        )


def tell_the_rest(bench: Bench, between: Callable[[], None] = lambda: None) -> int:
    """Piece by piece; gives how many."""
    pieces = 0
    while bench.restorer.go_on(bench.journal):
        pieces += 1
        between()
    return pieces


def told(bench: Bench, meter: str) -> list[Delta]:
    """The deltas of a meter in the chain that would be sent."""
    return [delta for _, batch in bench.batches() for delta in batch.deltas if delta.meter == meter]


def assert_all_is_told(bench: Bench, first: int = 0) -> None:
    """From the reading `first` of each meter to its last, in order, once."""
    assert bench.journal.retelling() is None
    chain = [head for head, _ in bench.batches()]
    assert {head.chain for head in chain} == {bench.journal.state().chain}
    assert [head.seq for head in chain] == list(range(1, len(chain) + 1))
    for meter, begin, step in (("reflow-1", 1_000, 3), ("wave-1", 500, 1)):
        deltas = told(bench, meter)
        assert [each.reg_start for each in deltas] == [
            (begin + step * turn) * 10_000 for turn in range(first, TURNS - 1)
        ]
        assert all(a.reg_end == b.reg_start and b.n == a.n + 1 for a, b in pairwise(deltas))
        own = bench.journal.heads()[meter]
        assert (own.n, own.register_milliwh) == (deltas[-1].n, deltas[-1].reg_end)
        assert own.register_milliwh == (begin + step * (TURNS - 1)) * 10_000


@pytest.mark.parametrize("piece_readings", [1, 2, 7, 10_000])
def test_an_emptied_platform_is_told_everything_once_however_small_the_pieces(
    tmp_path: Path, piece_readings: int
) -> None:
    bench = a_bench(tmp_path, piece_readings)
    empty_the_platform(bench)
    pieces = tell_the_rest(bench)
    assert (pieces == 0) == (piece_readings == 10_000)
    assert_all_is_told(bench)
    assert [event.type for _, batch in bench.batches() for event in batch.events].count("restart") == 1
    bench.read({"reflow-1": 1_060, "wave-1": 521})
    assert told(bench, "reflow-1")[-1].reg_end == 1_060 * 10_000


@pytest.mark.fault("F51", "F75")
def test_an_end_between_any_two_pieces_costs_nothing(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)

    def restart() -> None:
        bench.restart()
        bench.wire(bench.meters)

    assert tell_the_rest(bench, restart) > 3
    assert_all_is_told(bench)


@pytest.mark.fault("F46", "F51")
def test_a_piece_that_fails_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)
    before = bench.journal.retelling(), bench.journal.state(), bench.journal.heads()
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise JournalFull("no room")

        patch.setattr(type(bench.journal), "save_retelling", full)
        with pytest.raises(JournalFull):
            bench.restorer.go_on(bench.journal)
    assert before == (bench.journal.retelling(), bench.journal.state(), bench.journal.heads())
    tell_the_rest(bench)
    assert_all_is_told(bench)


def test_it_begins_at_the_position_of_each_meter(tmp_path: Path) -> None:
    bench = Bench(tmp_path, piece_readings=PIECE)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + 3 * turn, "wave-1": 500 + turn})
        if turn == 7:
            heads = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    empty_the_platform(bench, heads)
    assert tell_the_rest(bench) >= 3
    assert_all_is_told(bench, first=7)


def test_one_meter_that_the_platform_knows_to_the_end_is_not_told_at_all(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench, {"wave-1": bench.meter_head("wave-1")})
    tell_the_rest(bench)
    assert told(bench, "wave-1") == [] and len(told(bench, "reflow-1")) == TURNS - 1
    assert bench.journal.heads()["wave-1"].restored
    bench.read({"reflow-1": 1_060, "wave-1": 521})
    assert [each.delta for each in told(bench, "wave-1")] == [(521 - 500 - TURNS + 1) * 10_000]


def test_nothing_else_is_sealed_meanwhile_and_the_next_cut_spans_it(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)
    seq = bench.journal.state().seq
    assert not may_seal(bench.journal)
    closed = bench.read({"reflow-1": 1_100, "wave-1": 600})
    assert (closed.batches, closed.deltas, bench.journal.state().seq) == (0, 0, seq)
    assert bench.closer.to_read_again(bench.journal, bench.cut_of({"reflow-1": 9_000})).meters == frozenset()
    tell_the_rest(bench)
    assert may_seal(bench.journal)
    bench.read({"reflow-1": 1_103, "wave-1": 601})
    for meter, last in (("reflow-1", 1_103), ("wave-1", 601)):
        deltas = told(bench, meter)
        assert deltas[-1].reg_end == last * 10_000 and "gap" in deltas[-1].q
        assert all(a.reg_end == b.reg_start for a, b in pairwise(deltas))


def test_while_the_platform_is_asked_again_the_tale_waits(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)
    first = bench.batches()[0][0]
    unknown = type(first)("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "x" * 43)
    assert bench.acknowledge(unknown, number=3, gen=1) is Outcome.ASKING
    assert not bench.restorer.go_on(bench.journal)
    assert bench.journal.retelling() is not None and not may_seal(bench.journal)
    assert bench.acknowledge(unknown, number=4, gen=1, heads={}, session="s") is Outcome.RESTORED
    tell_the_rest(bench)
    assert_all_is_told(bench)
    assert bench.journal.state().standing is Standing.NORMAL


def test_what_was_told_is_acknowledged_while_the_rest_is_told(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)
    number = 10
    while bench.restorer.go_on(bench.journal):
        number += 1
        assert bench.acknowledge(bench.journal.state().head, number=number, gen=1) is Outcome.TAKEN
        anchor, rest = bench.journal.readings_unacknowledged("wave-1")
        head = bench.journal.heads()["wave-1"]
        assert anchor is not None
        if rest:
            assert anchor.point.register_milliwh <= head.register_milliwh <= rest[0].point.register_milliwh
    assert bench.journal.backlog().batches == 0
    assert bench.journal.heads()["reflow-1"].register_milliwh == (1_000 + 3 * (TURNS - 1)) * 10_000


def test_each_meters_deltas_stay_in_order_where_the_map_went_to_and_fro(tmp_path: Path) -> None:
    """The ratio changes and changes back: the middle is told under its own descriptor, the ends under that in force."""
    reflow, wave = two_meters()
    bench = Bench(tmp_path, (with_ratio(reflow, "10"), wave), piece_readings=1_000)
    for ratio, counts in (("10", (100, 103)), ("20", (107, 108)), ("10", (111, 114, 118))):
        bench.wire((with_ratio(reflow, ratio), wave))
        for count in counts:
            bench.read({"reflow-1": count, "wave-1": count})
    per_epoch = [each.delta for each in told(bench, "reflow-1")]
    empty_the_platform(bench)
    assert bench.journal.retelling() is None, "one piece"
    retold = told(bench, "reflow-1")
    assert [each.delta for each in retold] == per_epoch
    assert [each.epoch for each in retold] == sorted(each.epoch for each in retold)
    assert [(a.n, b.n) for a, b in pairwise(retold) if a.epoch == b.epoch and b.n != a.n + 1] == []


def test_the_stage_tells_until_nothing_is_left_and_rests_where_there_is_no_room(tmp_path: Path) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)
    sent: list[int] = []
    failures = [JournalFull("no room")]

    class Stubborn(Restorer):
        def go_on(self, journal: object) -> bool:
            if failures:
                raise failures.pop()
            return bench.restorer.go_on(bench.journal)

    async def live() -> None:
        import asyncio

        restorer = Stubborn((), None, 0)  # type: ignore[arg-type]  # only asked to go on
        stage = Reteller(restorer, InlineStorage(bench.journal), VirtualClock(), told=lambda: sent.append(1))
        task = asyncio.create_task(stage.run())
        await asyncio.sleep(60)
        task.cancel()

    run_virtually(live())
    assert len(sent) > 3
    assert_all_is_told(bench)


@pytest.mark.fault("F46", "F75")
def test_where_there_is_no_room_to_tell_the_ballast_goes_because_no_boundary_gives_it_up(
    tmp_path: Path,
) -> None:
    bench = a_bench(tmp_path)
    empty_the_platform(bench)
    full, given_up = [True], []

    class OnAFullDisk(Restorer):
        def go_on(self, journal: object) -> bool:
            if full:
                raise JournalFull("no room")
            return bench.restorer.go_on(bench.journal)

    def give_up() -> bool:
        given_up.append(full.pop())
        return True

    async def live() -> None:
        import asyncio

        restorer = OnAFullDisk((), None, 0)  # type: ignore[arg-type]  # only asked to go on
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.journal, "make_room", give_up)
            stage = Reteller(restorer, InlineStorage(bench.journal), VirtualClock(), told=lambda: None)
            task = asyncio.create_task(stage.run())
            await asyncio.sleep(60)
            task.cancel()

    run_virtually(live())
    assert given_up == [True]
    assert_all_is_told(bench)


@pytest.mark.fault("F54", "F75")
def test_a_reading_that_was_the_first_only_to_a_new_journal_opens_no_epoch_in_the_tale(
    tmp_path: Path,
) -> None:
    """World seed 203: salvaged, then put back to before what was salvaged; the same meter by its number."""
    bench = a_bench(tmp_path)
    said = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    bench.read({"reflow-1": 1_060, "wave-1": 520})
    with bench.journal.transaction():
        bench.journal.drop_head("reflow-1")
    bench.read({"reflow-1": 1_063, "wave-1": 521}, times=3)
    bench.read({"reflow-1": 1_066, "wave-1": 522})
    assert [r.point.opens for r in bench.journal.readings("reflow-1", after=None)].count("first") == 2
    empty_the_platform(bench, said)
    tell_the_rest(bench)
    deltas = told(bench, "reflow-1")
    assert {each.epoch for each in deltas} == {1}
    assert sum(each.delta for each in deltas) == (1_066 - 1_057) * 10_000
