"""A week of ordinary work: `python -m tests.service.longrun --days 7 --meters 100`.

The closing half of an agent, as in `outage`, but the platform takes every interval, and what it took is purged: the
calendar of its receipts runs faster than the meters' clock, so that the shortest retention of 7 days is over before the
first day is, and the purge is at work for the rest of the week. What is measured is whether anything grows.
"""

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from agent.adapters.journal import Place, inspect
from agent.metering.interval import DAY_MS
from agent.service.boundary import Boundary
from agent.service.inspecting import Place as Beginning
from agent.service.poll import LineWorker
from agent.service.pressure import tend
from tests.service.bench import MINUTE_MS, NOON_MS, Bench
from tests.service.outage import DAY_MIN, _Direct, _Meters, _minute, _resident, bench_of, size_of

CALENDAR = 16
"""So many times faster do the receipts' times go."""
GROWTH_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a week came to, bytes: memory after the first day and the most of it since, the journal likewise."""

    memory: int
    memory_growth: int
    journal: int
    journal_growth: int
    purged: int
    seconds: float


def run(
    folder: Path, *, days: float, meters: int, budget_bytes: int, say: Callable[[str], object]
) -> Outcome:
    """Live so long; the first day warms up."""
    bench = bench_of(folder, meters=meters, budget_bytes=budget_bytes)
    bench.acknowledger._keep_ms = 7 * DAY_MS
    return asyncio.run(_live(bench, Place(folder / bench.name, budget_bytes=budget_bytes), days, say))


async def _live(bench: Bench, place: Place, days: float, say: Callable[[str], object]) -> Outcome:
    began = time.perf_counter()
    worker = cast(LineWorker, _Meters(bench))
    boundary = Boundary(
        [worker], bench.closer, _Direct(bench.journal), bench.clock, MINUTE_MS, sealed=lambda _: None
    )
    memory = journal = most = largest = 0
    for minute in range(int(days * DAY_MIN)):
        await _minute(bench, boundary)
        stored_ms = NOON_MS + CALENDAR * (bench.clock.now_ms - NOON_MS)
        bench.acknowledge(bench.journal.state().head, number=minute + 1, stored_ms=stored_ms)
        if minute % 60 == 0:
            tend(bench.journal)
        if minute % DAY_MIN == DAY_MIN - 1:
            _judge(bench)
            most, largest = max(most, _resident()), max(largest, size_of(place))
            memory, journal = memory or most, journal or largest
            say(
                f"day {minute // DAY_MIN + 1}: {_resident() / 1e6:.2f} MB of memory, {size_of(place) / 1e6:.2f} MB"
            )
    oldest = bench.journal.oldest()
    purged = 0 if oldest is None else oldest.ordinal - 1
    bench.journal.close()
    return Outcome(memory, most - memory, journal, largest - journal, purged, time.perf_counter() - began)


def _judge(bench: Bench) -> None:
    """The daily look through the whole journal is a part of the week. Raises JournalDamaged."""
    at: Beginning | None = Beginning()
    while at is not None:
        at = inspect(bench.journal, at)


def main() -> None:
    """Print what a week comes to; exit code 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--meters", type=int, default=100)
    parser.add_argument("--budget", type=int, default=64, help="MB")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        said = run(
            Path(folder),
            days=given.days,
            meters=given.meters,
            budget_bytes=given.budget * 1_000_000,
            say=lambda text: print(text, flush=True),
        )
    print(
        f"{given.days:g} days, {given.meters} meters, 1 minute, all acknowledged, {said.purged} batches purged:\n"
        f"  memory {said.memory / 1e6:.2f} MB after the first day, {said.memory_growth} bytes more at most since\n"
        f"  journal {said.journal / 1e6:.2f} MB after the first day, {said.journal_growth} bytes more at most since\n"
        f"  {said.seconds:.0f} s"
    )
    raise SystemExit(1 if said.memory_growth > GROWTH_BYTES_MAX or not said.purged else 0)


if __name__ == "__main__":
    main()
