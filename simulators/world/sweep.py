"""The crash sweep: one half hour of a gateway, cut off at every single operation of its disk, in every way.

For each write, truncation and sync of the scripted half hour the power goes exactly there, and the disk keeps nothing
of what was not synced, or all of it, or all but half of the last sector, or a single one of the writes. After each the
gateway starts again, and the platform's account has to reach the meters exactly. Small workloads crashed at every point
find most bugs (ALICE, CrashMonkey). All of them: `python -m simulators.world.sweep`, or every so many with `--every`.
"""

import argparse
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from simulators.world.disk import Cut, Keep
from simulators.world.time import run_in_world
from simulators.world.world import Result, World

HALF_HOUR_S = 1800
INTERVAL_S = 120
SEED = 0
SINGLE_MAX = 12
"""No transaction of the half hour leaves more writes than this between two syncs, but for the making of the file."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The power goes at one operation."""

    operation: int
    cut: Cut

    def __str__(self) -> str:
        single = f" {self.cut.which}" if self.cut.keep is Keep.ONE else ""
        return f"operation {self.operation}, keep {self.cut.keep}{single}"


def operations() -> list[str]:
    """What the half hour does to the disk, in order."""

    async def live() -> list[str]:
        world = World(SEED, (), interval_s=INTERVAL_S, faults_s=HALF_HOUR_S)
        world.gateway.disk.recording = True
        await world.run()
        return world.gateway.disk.names

    return run_in_world(live())


def crashes(names: list[str], *, every: int = 1) -> Iterator[Crash]:
    """All of them, or the first of every so many operations."""
    for number in range(0, len(names), every):
        for keep in (Keep.NONE, Keep.ALL, Keep.TORN):
            yield Crash(number, Cut(keep))
        unsynced = _unsynced_before(names, number)
        for which in range(min(unsynced, SINGLE_MAX)):
            yield Crash(number, Cut(Keep.ONE, which))


def _unsynced_before(names: list[str], number: int) -> int:
    """How many operations on the same file have happened since its last sync."""
    file = names[number].partition(" ")[2]
    found = 0
    for name in reversed(names[:number]):
        what, _, of = name.partition(" ")
        if of == file:
            if what == "sync":
                break
            found += 1
    return found


def run_crash(crash: Crash) -> Result:
    """The half hour with this one power cut."""

    async def live() -> Result:
        world = World(SEED, (), interval_s=INTERVAL_S, faults_s=HALF_HOUR_S)
        world.gateway.disk.troubles[crash.operation] = crash.cut
        world.auditor.first_is_known = False
        return await world.run()

    return run_in_world(live())


def judged(crash: Crash) -> tuple[Crash, tuple[str, ...]]:
    """A crash and what it broke; what the world raises is a finding too."""
    logging.disable(logging.CRITICAL)
    try:
        return crash, run_crash(crash).violations
    except Exception as error:  # noqa: BLE001  # whatever the code under test or the world itself raises is a finding
        return crash, (f"the world ended with {error!r}",)


def main() -> None:
    """Run the sweep on all cores; exit code 1 if any crash broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only every so many crashes")
    parser.add_argument("--first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    began = time.monotonic()
    names = operations()
    chosen = list(crashes(names))[given.first :: given.every]
    broken = 0
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for crash, violations in pool.imap_unordered(judged, chosen, chunksize=8):
            if violations:
                broken += 1
                print(f"{crash} ({names[crash.operation]}): {violations[0]}", flush=True)
    print(
        f"{len(names)} operations, {len(chosen)} crashes in {time.monotonic() - began:.0f} s on {given.processes}"
        f" processes: {broken} with violations"
    )
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
