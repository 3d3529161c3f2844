"""What a profile says about a meter, in the running stages: sums, conditions, and who has looked at the display."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.journal import StdlibConnection, open_journal
from agent.adapters.journal.salvage import salvage
from agent.metering.decode import encode
from agent.metering.plant import Meter
from agent.metering.profile import Condition, Profile, Register, Sum
from agent.service.close import Closed, Cut, Sample
from agent.service.identifying import UNDECIDED_NS
from agent.service.poll import LineWorker
from agent.service.watch import watch_of
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualLine
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.metering.examples import meter, profile, register
from tests.service.bench import MINUTE_MS, Bench
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.plants import SLOW, line

IDLE = replace(line(serial=SLOW), poll_ms=86_400_000)
TARIFFS = Sum(
    "energy_import",
    (register(name="t1", modulus_counts=10**6), register(name="t2", address=2, modulus_counts=10**8)),
)
BALANCE = Condition(
    ("energy_import", "energy_export"),
    "it is the other version",
    equals="energy_total",
    within=Fraction("0.02"),
)


def tariff_meter(**changes: object) -> Meter:
    registers = {part.name: part for part in TARIFFS.parts}
    keys: dict[str, Any] = {"profile": profile(registers=registers, sums={"energy_import": TARIFFS})}
    keys |= {"rated_w": 40_000}
    return meter(**(keys | {"serial": "100"} | changes))


# ------------------------------------------------------------------------------------------------------------ closing


def booked(bench: Bench, *tariffs: int) -> Closed:
    """One boundary later: the two tariffs show this."""
    bench.clock.now_ms += MINUTE_MS
    words = tuple(
        word for part, count in zip(TARIFFS.parts, tariffs, strict=True) for word in encode(part, count)
    )
    sample = Sample("reflow-1", words, bench.clock.now_ms + 40, "100", False)
    return bench.closer.close(bench.journal, Cut(bench.clock.now_ms, (sample,)))


def test_both_tariffs_are_booked_and_a_rollover_of_one_is_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, meters=(tariff_meter(),))
    booked(bench, 999_990, 5)
    booked(bench, 999_995, 5)  # 0.05 kWh in the first
    booked(bench, 999_995, 25)  # 0.2 kWh in the second
    booked(bench, 10, 27)  # the first rolls over: 0.15 kWh, and 0.02 kWh in the second
    assert bench.deltas("reflow-1") == [50_000, 200_000, 170_000]
    rolls = [delta.roll for _, batch in bench.batches() for delta in batch.deltas]
    assert rolls == [10**10, None, None], (
        "the sum passes 10^6 at the first step; the part's own rollover is no fall"
    )


def test_a_tariff_that_was_set_back_is_held_even_where_the_other_rose_by_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, meters=(tariff_meter(),))
    booked(bench, 500, 1_000)
    booked(bench, 501, 1_000)
    bench.restart()
    closed = booked(bench, 0, 1_502)
    assert "t1" in closed.held["reflow-1"]
    assert bench.deltas("reflow-1") == [10_000]


def test_a_restored_chain_tells_the_rollover_of_a_part(tmp_path: Path) -> None:
    """The journal's points go through the ledger again: the sum is a plain counter there too."""
    bench = Bench(tmp_path, meters=(tariff_meter(),))
    booked(bench, 999_990, 5)
    bench.acknowledge(None, number=1)
    head = bench.meter_head("reflow-1")
    booked(bench, 10, 27)
    bench.acknowledge(None, number=2, heads={"reflow-1": head}, session="s")
    assert bench.deltas("reflow-1")[-1] == 420_000


def test_energy_of_a_doubtful_profile_is_suspect_until_someone_looked(tmp_path: Path) -> None:
    doubtful = replace(tariff_meter(), profile=replace(tariff_meter().profile, confidence=1))
    for number, (each, suspect) in enumerate(
        [
            (doubtful, True),
            (replace(doubtful, display_checked="2026-11-22 by N. N."), False),
            (tariff_meter(), False),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = Bench(folder, meters=(each,))
        booked(bench, 1, 1)
        booked(bench, 2, 1)
        (delta,) = [delta for _, batch in bench.batches() for delta in batch.deltas]
        assert ("suspect" in delta.q) is suspect
        assert delta.delta == 10_000


# ------------------------------------------------------------------------------------------------------------ polling


def version_of(import_at: int, export_at: int) -> Profile:
    """One of two generations: the same total, import and export elsewhere."""
    registers: dict[str, Register] = {
        "energy_total": register(name="energy_total", address=0),
        "energy_import": register(address=import_at),
        "energy_export": register(name="energy_export", address=export_at),
    }
    for place in {4, 6, 8, 10} - {import_at, export_at}:
        registers[f"reserved_{place}"] = register(name=f"reserved_{place}", address=place)
    return profile(registers=registers, conditions=(BALANCE,))


def on_a_pair(
    served: Meter,
    read: Meter,
    play: Callable[[LineWorker, SimulatedMeter], Awaitable[None]],
    *,
    poll_ms: int = IDLE.poll_ms,
) -> None:
    """Serve a meter of one generation, read it as if it were `read`."""

    async def scenario() -> None:
        simulated = SimulatedMeter(served, FixedEnergy(), answers_holes=True)
        pair = Rs485Line(SLOW, on_one_pair([simulated]))
        worker = LineWorker(replace(IDLE, poll_ms=poll_ms), [read], VirtualLine(pair, SLOW), VirtualClock())
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(3)  # then the first round is over
        try:
            await play(worker, simulated)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_virtually(scenario())


async def sweep(worker: LineWorker) -> int:
    """How many meters one boundary read."""
    request = worker.sweep()
    await request.done.wait()
    return len(request.samples)


def test_another_generation_is_found_as_soon_as_it_counted() -> None:
    """At zero nothing can be told and nothing be booked wrongly; the first kWh decides."""

    async def play(worker: LineWorker, simulated: SimulatedMeter) -> None:
        assert await sweep(worker) == 1
        source = simulated._source
        assert isinstance(source, FixedEnergy)
        source.milliwh = 5_000_000
        await VirtualClock().sleep(UNDECIDED_NS / 1e9 + 1)
        assert await sweep(worker) == 0
        (watch,) = worker.watches.values()
        assert watch.last_error == (
            "energy_import + energy_export reads 0, but energy_total reads 5: it is the other version"
        )
        assert watch.failures == 0

    on_a_pair(meter(profile=version_of(10, 8)), meter(profile=version_of(6, 4)), play)


def test_the_right_generation_counts() -> None:
    async def play(worker: LineWorker, simulated: SimulatedMeter) -> None:
        source = simulated._source
        assert isinstance(source, FixedEnergy)
        source.milliwh = 5_000_000
        assert await sweep(worker) == 1
        asked = simulated.requests
        assert await sweep(worker) == 1
        assert simulated.requests == asked + 1, "what holds is not asked again"

    on_a_pair(meter(profile=version_of(10, 8)), meter(profile=version_of(10, 8)), play)


def test_the_live_value_of_a_sum_is_read_between_boundaries_too() -> None:
    """Both tariffs in one read, without any sweep; neither of them is shown for the whole."""
    both = meter(
        profile=profile(
            registers={each.name: each for each in TARIFFS.parts}, sums={"energy_import": TARIFFS}
        )
    )

    async def play(worker: LineWorker, simulated: SimulatedMeter) -> None:
        await asyncio.sleep(2)
        live = worker.watches[both.id].live
        assert list(live) == ["energy_import"]
        source = simulated._source
        assert isinstance(source, FixedEnergy)
        before = live["energy_import"].value
        source.milliwh += 5_000_000
        await asyncio.sleep(10)
        after = worker.watches[both.id].live["energy_import"].value
        assert isinstance(before, int) and isinstance(after, int) and after > before

    on_a_pair(both, both, play, poll_ms=5_000)


@pytest.mark.fault("F54")
def test_behind_a_salvaged_position_a_fallen_part_cannot_be_seen_and_the_sum_counts(tmp_path: Path) -> None:
    """The words of the parts are not in a batch; nothing is held for ever because they are gone."""
    bench = Bench(tmp_path, meters=(tariff_meter(),))
    booked(bench, 1_000, 2_000)
    booked(bench, 1_001, 2_001)
    bench.journal.close()
    fresh = open_journal(tmp_path / "new.db")
    salvage(tmp_path / "journal.db", StdlibConnection, fresh, ask_first=False)
    bench.journal = fresh
    bench.wire(bench.meters)
    assert not booked(bench, 1_002, 2_002).held
    assert booked(bench, 999, 2_008).held, "now they are known again"
    assert sum(bench.deltas("reflow-1")) == 20_000


def test_parts_of_a_sum_that_were_read_far_apart_make_no_value() -> None:
    far = Sum("energy_import", (register(name="t1"), register(name="t2", address=400)))
    known = meter(
        profile=profile(registers={each.name: each for each in far.parts}, sums={"energy_import": far})
    )
    watch = watch_of(line(), known, shared=False)
    first, second = watch.live_reads.blocks(0)
    watch.note_live(first, (0, 7), 1_000_000_000)
    assert not watch.live
    watch.note_live(second, (0, 5), 60_000_000_000)
    assert not watch.live
    watch.note_live(first, (0, 8), 60_100_000_000)
    assert (watch.live["energy_import"].value, watch.live["energy_import"].at_ns) == (13, 60_000_000_000)


def test_a_sum_with_a_hole_is_read_in_halves_once_the_meter_refused_it() -> None:
    """0 and 12: one request over the hole is cheaper, until the meter says that there is nothing in between."""
    parts = (register(name="t1"), register(name="t2", address=4))
    total = Sum("energy_import", parts)
    both = meter(
        profile=profile(registers={each.name: each for each in parts}, sums={"energy_import": total})
    )

    async def play(worker: LineWorker, simulated: SimulatedMeter) -> None:
        simulated._answers_holes = False
        assert [await sweep(worker), await sweep(worker)][-1] == 1
        asked = simulated.requests
        assert await sweep(worker) == 1
        assert simulated.requests == asked + 2

    on_a_pair(both, both, play)
