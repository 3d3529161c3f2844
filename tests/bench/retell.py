"""Telling an emptied platform a month: 26 meters, 1-minute readings, piece by piece.

What counts is what the rest of the agent notices of it: how long the longest piece keeps the journal's thread, how
long the write-ahead log becomes, how much memory it takes. And how long it all takes, of which the machine decides.
"""

import gc
import resource
import statistics
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from agent.metering.decode import encode
from agent.metering.ledger import Basis, Point
from agent.service.journal import Reading
from tests.bench import report
from tests.service.bench import KWH_REGISTER, MINUTE_MS, Bench
from tests.service.outage import bench_of

METERS = 26
DAYS = 30
DAY_MINUTES = 1440
PIECE_S_MAX = 1.0
"""Seconds of a core: on a gateway five times as slow half of what the watchdog allows the journal's thread."""
MEMORY_MB_MAX = 16
_TRACED = 5
_AT_ONCE = 256
LOG_MB_MAX = 4


@dataclass(frozen=True, slots=True)
class Told:
    """What it came to: seconds, bytes and counts."""

    total_s: float
    pieces_s: tuple[float, ...]
    log_bytes_max: int
    memory_bytes: int
    readings: int
    batches: int
    exact: bool


def run_retell(*, quick: bool, runs: int, patience_s: float) -> None:
    """The section of the bench."""
    days = 1 if quick else DAYS
    with tempfile.TemporaryDirectory() as folder:
        told = measure(Path(folder), minutes=days * DAY_MINUTES)
    longest, median = max(told.pieces_s), statistics.median(told.pieces_s)
    report.say(
        f"{days} days: {told.readings} readings in {len(told.pieces_s)} pieces, {told.batches} batches, "
        f"{told.total_s:.0f} s; a piece {median * 1000:.0f} ms (median); "
        f"largest memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
    )
    report.judge("everything is told once", "exact" if told.exact else "NOT exact", "exact", told.exact)
    report.judge(
        "the longest piece",
        f"{longest:.2f} s",
        f"at most {PIECE_S_MAX:.0f} s of a core",
        longest <= PIECE_S_MAX,
    )
    log_mb, memory_mb = told.log_bytes_max / 1e6, told.memory_bytes / 1e6
    report.judge("the longest log", f"{log_mb:.2f} MB", f"at most {LOG_MB_MAX} MB", log_mb <= LOG_MB_MAX)
    report.judge(
        "memory of a piece", f"{memory_mb:.1f} MB", f"at most {MEMORY_MB_MAX} MB", memory_mb <= MEMORY_MB_MAX
    )


def measure(folder: Path, *, minutes: int) -> Told:
    """Fill a journal with so many boundaries, empty the platform, and tell it."""
    bench = bench_of(folder, meters=METERS, budget_bytes=1_000_000_000)
    bench.read({meter.id: 1_000 for meter in bench.meters}, times=3)
    _fill(bench, minutes)
    log = folder / f"{bench.name}-wal"
    pieces: list[float] = []
    log_bytes = memory = 0
    began, at = time.perf_counter(), time.thread_time()
    with bench.journal.transaction():
        now_ms = bench.clock.now_ms
        bench.restorer.open_chain(bench.journal, None, {}, "the platform was emptied", now_ms, now_ms)
    goes_on = True
    while goes_on:
        if len(pieces) == _TRACED:  # tracing takes several times the work: it is no measure of time
            memory = max(memory, _memory_of_a_piece(bench))
            at = time.thread_time()
        pieces.append(time.thread_time() - at)
        at = time.thread_time()
        goes_on = bench.restorer.go_on(bench.journal)
        log_bytes = max(log_bytes, log.stat().st_size if log.exists() else 0)
    total_s = time.perf_counter() - began
    backlog, heads = bench.journal.backlog(), bench.journal.heads()
    rise = sum(head.register_milliwh - 1_000 * 10_000 for head in heads.values())
    exact = backlog.energy_milliwh == rise and all(head.n == minutes for head in heads.values())
    return Told(total_s, tuple(pieces), log_bytes, memory, METERS * (minutes + 1), backlog.batches, exact)


def _memory_of_a_piece(bench: Bench) -> int:
    """The most that one piece takes at a time, bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        bench.restorer.go_on(bench.journal)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _fill(bench: Bench, minutes: int) -> None:
    """Readings as boundaries leave them; what was sealed of them does not matter to the tale."""
    journal, clock = bench.journal, bench.clock
    latest = journal.latest_descriptor()
    assert latest is not None
    for first in range(1, minutes + 1, _AT_ONCE):
        with journal.transaction():
            for minute in range(first, min(first + _AT_ONCE, minutes + 1)):
                clock.now_ms += MINUTE_MS
                for place, meter in enumerate(bench.meters):
                    counts = 1_000 + minute * (1 + place % 7)
                    basis = Basis(Fraction(10_000), 10**6 * 10_000, meter.serial)
                    point = Point(meter.id, clock.now_ms + 40 * place, clock.now_ms, counts * 10_000, basis)
                    journal.add_reading(Reading(point, encode(KWH_REGISTER, counts), latest.hash))
                journal.last_reading()  # the boundary's row is written, as its commit would
