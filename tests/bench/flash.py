"""What the journal writes to its flash card in a day: 100 meters, 1-minute intervals, everything acknowledged.

Counted by the kernel (`/proc/self/io`): `wchar` is every byte of every write call, log and database, so nothing is
left out and nothing is merged by a cache. The card's own amplification comes on top.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import report
from tests.service.bench import Bench
from tests.service.outage import FIRST_COUNTS, bench_of

METERS = 100
MB_A_DAY_MAX = 50
DAY_MINUTES = 1440
PURGE_EVERY = 32
"""Minutes between two purges of 64 batches: as many as come in that time, as in a journal that is years old."""


@dataclass(frozen=True, slots=True)
class Written:
    """MB a day, of write calls: sealing, acknowledgement, purge; and how many batches were purged."""

    seal: float
    acknowledge: float
    purge: float
    purged: int

    @property
    def all(self) -> float:
        """Together."""
        return self.seal + self.acknowledge + self.purge


def run_flash(*, quick: bool, runs: int, patience_s: float) -> None:
    """The section of the bench."""
    with tempfile.TemporaryDirectory() as folder:
        said = measure(Path(folder), minutes=96 if quick else 480)
    report.say(
        f"sealing {said.seal:.1f}, acknowledgements {said.acknowledge:.1f}, purging {said.purge:.1f} MB a day"
    )
    report.judge(
        f"bytes written a day, {METERS} meters, 1 minute",
        f"{said.all:.1f} MB",
        f"at most {MB_A_DAY_MAX} MB",
        said.all <= MB_A_DAY_MAX,
    )


def measure(folder: Path, *, minutes: int) -> Written:
    """Seal, acknowledge and purge for so many minutes, after as many in which nothing is purged."""
    bench = bench_of(folder, meters=METERS, budget_bytes=1_024_000_000)
    seal = acknowledge = purge = purged = 0
    for minute in range(2 * minutes):
        counting = minute >= minutes
        sealed = _written(partial(_seal, bench, minute))
        taken = _written(partial(_acknowledge, bench, minute + 1))
        gone = 0
        if counting and minute % PURGE_EVERY == 0:
            before_ms = bench.clock.now_ms - minutes * 60_000
            kept = bench.journal.oldest()
            gone = _written(partial(_purge, bench, before_ms))
            after = bench.journal.oldest()
            purged += after.ordinal - kept.ordinal if kept is not None and after is not None else 0
        if counting:
            seal, acknowledge, purge = seal + sealed, acknowledge + taken, purge + gone
    bench.journal.close()
    a_day = DAY_MINUTES / minutes / 1e6
    return Written(seal * a_day, acknowledge * a_day, purge * a_day, purged)


def _seal(bench: Bench, minute: int) -> None:
    bench.read({each.id: FIRST_COUNTS + minute for each in bench.meters})


def _acknowledge(bench: Bench, number: int) -> None:
    bench.acknowledge(bench.journal.state().head, number=number)


def _purge(bench: Bench, before_ms: int) -> None:
    with bench.journal.transaction():
        bench.journal.purge(stored_before_ms=before_ms)


def _written(work: Callable[[], None]) -> int:
    before = _wchar()
    work()
    return _wchar() - before


def _wchar() -> int:
    for line in Path("/proc/self/io").read_text("ascii").splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise OSError("this kernel does not count what a process writes")
