"""An outage from the first minute on: `python -m tests.service.outage --days 30 --meters 100 --budget 20`.

The closing half of an agent with a real journal file, real signatures and the real rule of disk pressure; meters and
time are simulated. Nobody acknowledges anything until the end; then every kWh must be in the batches that are sent,
and the set length must return.
"""

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from agent.adapters.journal import Place, SqliteJournal, open_or_replace
from agent.metering.decode import encode
from agent.service.boundary import Boundary
from agent.service.close import Sample
from agent.service.journal import Journal
from agent.service.poll import LineWorker, Sweep
from tests.metering.examples import meter
from tests.service.bench import KWH_REGISTER, MINUTE_MS, NOON_MS, Bench

T = TypeVar("T")
DAY_MIN = 1440
FIRST_COUNTS = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an outage came to; sizes in bytes, times in minutes. `wrong` are meters whose kWh are not exact."""

    batches: int
    bytes_max: int
    length_max_min: int
    length_after_min: int
    wrong: tuple[str, ...]
    flagged: int
    ordinary: int
    memory_growth: int
    seconds: float


class _Direct:
    """`agent.service.journal.Storage` without a thread."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.journal = journal

    async def run(self, work: Callable[[Journal], T]) -> T:
        return work(self.journal)


class _Meters:
    """A line worker whose meters answer at once: each counts one more every minute."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def sweep(self, only: object = None) -> Sweep:
        sweep = Sweep()
        now_ms = self._bench.clock.now_ms
        for place, each in enumerate(self._bench.meters):
            words = encode(each.profile.energy, counts_at(place, now_ms))
            sweep.samples.append(Sample(each.id, words, now_ms, None, False))
        sweep.finish()
        return sweep

    def identify_again(self, meter: str) -> None:
        """They are who they were."""


def counts_at(place: int, now_ms: int) -> int:
    """What the meter shows."""
    return FIRST_COUNTS + 7 * place + (now_ms - NOON_MS) // MINUTE_MS


def run(folder: Path, *, days: float, meters: int, budget_bytes: int) -> Outcome:
    """Run one outage, and bring it to its end."""
    bench = bench_of(folder, meters=meters, budget_bytes=budget_bytes)
    return asyncio.run(_live(bench, Place(folder / bench.name, budget_bytes=budget_bytes), days))


def bench_of(folder: Path, *, meters: int, budget_bytes: int) -> Bench:
    """The closing half of an agent with so many meters, and a journal with a budget."""
    plant = tuple(
        meter(
            KWH_REGISTER,
            id=f"meter-{number:03d}",
            address=number % 200 + 1,
            serial=str(number),
            rated_w=40_000,
        )
        for number in range(meters)
    )
    bench = Bench(folder, meters=plant)
    bench.journal.close()
    place = Place(folder / bench.name, budget_bytes=budget_bytes)
    bench.journal = open_or_replace(place, bench.clock.now_ms).journal
    return bench


async def _live(bench: Bench, place: Place, days: float) -> Outcome:
    began = time.perf_counter()
    worker = cast(LineWorker, _Meters(bench))
    boundary = Boundary(
        [worker], bench.closer, _Direct(bench.journal), bench.clock, MINUTE_MS, sealed=lambda _: None
    )
    bytes_max = length_max = base = memory = 0
    minutes = int(days * DAY_MIN)
    for minute in range(minutes):
        await _minute(bench, boundary)
        bytes_max = max(bytes_max, size_of(place))
        length_max = max(length_max, boundary.length_ms)
        if minute % 60 == 0 and minute * 4 > minutes:
            memory = _resident()
            base = base or memory
    batches = bench.journal.backlog().batches
    wrong, flagged, ordinary = _judge(bench)
    last = bench.journal.state().head
    bench.acknowledge(last, number=1)
    for _ in range(2):
        await _minute(bench, boundary)
    bench.journal.close()
    return Outcome(
        batches,
        bytes_max,
        length_max // MINUTE_MS,
        boundary.length_ms // MINUTE_MS,
        wrong,
        flagged,
        ordinary,
        memory - base,
        time.perf_counter() - began,
    )


async def _minute(bench: Bench, boundary: Boundary) -> None:
    bench.clock.now_ms += MINUTE_MS
    if await boundary._is_due(bench.clock.now_ms):
        await boundary.cut(bench.clock.now_ms)


def _resident() -> int:
    """Memory of this process, bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096


def size_of(place: Place) -> int:
    """All that the journal takes on the disk."""
    names = ("", "-wal", ".ballast")
    paths = (place.path.with_name(place.path.name + name) for name in names)
    return sum(path.stat().st_size for path in paths if path.exists())


def _judge(bench: Bench) -> tuple[tuple[str, ...], int, int]:
    """Every meter's deltas telescope from its first register to its last."""
    runs: dict[str, tuple[int, int, int]] = {}
    flagged = ordinary = ordinal = 0
    while kept := bench.journal.queue(after_ordinal=ordinal, limit=64):
        ordinal = kept[-1].ordinal
        for _, batch in bench.opened(kept):
            for delta in batch.deltas:
                first, last, total = runs.get(delta.meter, (delta.reg_start, delta.reg_start, 0))
                whole = delta.reg_start == last and delta.delta == delta.reg_end - delta.reg_start
                runs[delta.meter] = (first, delta.reg_end, total + delta.delta if whole else -(10**18))
                flagged += "coarse" in delta.q
                ordinary += "coarse" not in delta.q
    heads = bench.journal.heads()
    wrong = []
    for place, each in enumerate(bench.meters):
        first, last, total = runs[each.id]
        true_first = counts_at(place, NOON_MS + MINUTE_MS) * 10_000
        true_last = counts_at(place, heads[each.id].cut_ms) * 10_000
        if (first, last, total) != (true_first, true_last, true_last - true_first):
            wrong.append(each.id)
    return tuple(wrong), flagged, ordinary


def main() -> None:
    """Print what an outage comes to; exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--meters", type=int, default=100)
    parser.add_argument("--budget", type=int, default=20, help="MB")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        said = run(Path(folder), days=given.days, meters=given.meters, budget_bytes=given.budget * 1_000_000)
    print(
        f"{given.days:g} days without a platform, {given.meters} meters, 1 minute, budget {given.budget} MB:\n"
        f"  {said.batches} batches wait, {said.ordinary} deltas of the set length, {said.flagged} coarse\n"
        f"  at most {said.bytes_max / 1e6:.2f} MB on the disk, log and ballast included\n"
        f"  longest interval {said.length_max_min} min, {said.length_after_min} min after the acknowledgement\n"
        f"  memory grew by {said.memory_growth} bytes from a quarter of the outage on\n"
        f"  meters whose kWh are not exact: {len(said.wrong)}; {said.seconds:.0f} s"
    )
    broken = said.wrong or said.bytes_max > given.budget * 1_000_000 or said.length_after_min != 1
    raise SystemExit(
        1 if broken or said.length_max_min > 2 * DAY_MIN or said.memory_growth > 1_000_000 else 0
    )


if __name__ == "__main__":
    main()
