"""Many seeds, and the shortest list of faults that still breaks a promise.

A failure is made small by leaving out faults for as long as the same promise is still broken (halves first, then one
by one). Seeds are independent of each other and run in as many processes as asked for.
"""

import gc
import logging
import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from simulators.world.plan import Planned
from simulators.world.world import FAULTS_S, Result, run_seed

CHUNK, CHUNKS_MAX = 4, 25
"""Seeds that a process takes at a time, and how often until another takes its place: worlds leave something behind."""
TRIES_MAX = 60
"""No failure is worth more runs than this to make it small."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a campaign keeps of a seed; `violations` is empty where all promises held."""

    seed: int
    violations: tuple[str, ...]
    simulated_s: int
    batches: int
    kinds: tuple[str, ...]
    """Of every fault that was planned."""
    trace: str

    @property
    def faults(self) -> int:
        """How many there were."""
        return len(self.kinds)


def outcome_of(
    seed: int,
    names: frozenset[str] | None = None,
    *,
    faults_s: int = FAULTS_S,
    interval_s: int | None = None,
    scenario: str | None = None,
    to_the_end: bool = True,
) -> Outcome:
    """Run a seed; what it raises is a violation too."""
    try:
        result = quietly(
            lambda: run_seed(
                seed,
                names,
                faults_s=faults_s,
                interval_s=interval_s,
                scenario=scenario,
                to_the_end=to_the_end,
            )
        )
    except Exception as error:  # noqa: BLE001  # whatever the code under test or the world itself raises is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"the world ended with {error!r} at {where.filename.rpartition('/')[2]}:{where.lineno}"
        return Outcome(seed, (text,), 0, 0, (), "")
    kinds = tuple(each.kind for each in result.plan)
    return Outcome(seed, result.violations, result.simulated_s, result.batches, kinds, result.trace)


def quietly(run: Callable[[], Result]) -> Result:
    """Without the agent's log: a thousand seeds would say everything a thousand times."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return run()
    finally:
        logging.disable(before)


def run_many(
    seeds: Iterable[int],
    processes: int,
    *,
    faults_s: int = FAULTS_S,
    interval_s: int | None = None,
    scenario: str | None = None,
) -> Iterator[Outcome]:
    """All seeds, in the order in which they are finished."""
    work = [(seed, faults_s, interval_s, scenario) for seed in seeds]
    if processes == 1:
        yield from map(_one, work)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_settle, maxtasksperchild=CHUNKS_MAX) as pool:
        yield from pool.imap_unordered(_one, work, chunksize=CHUNK)


def _settle() -> None:
    """All that was imported stays for good: the interpreter need not look through it before every world."""
    gc.collect()
    gc.freeze()


def _one(work: tuple[int, int, int | None, str | None]) -> Outcome:
    seed, faults_s, interval_s, scenario = work
    return outcome_of(seed, faults_s=faults_s, interval_s=interval_s, scenario=scenario)


def minimised(
    seed: int,
    plan: tuple[Planned, ...],
    promise: str,
    *,
    faults_s: int = FAULTS_S,
    interval_s: int | None = None,
    scenario: str | None = None,
) -> list[str]:
    """The names of as few faults of the plan as still break a promise (`I1` ...)."""
    names = [each.name for each in plan]
    tries = 0

    def breaks(some: list[str]) -> bool:
        nonlocal tries
        tries += 1
        outcome = outcome_of(
            seed, frozenset(some), faults_s=faults_s, interval_s=interval_s, scenario=scenario
        )
        return any(each.startswith(promise) for each in outcome.violations)

    size = max(1, len(names) // 2)
    while names and tries < TRIES_MAX:
        for at in range(0, len(names), size):
            fewer = names[:at] + names[at + size :]
            if breaks(fewer):
                names = fewer
                break
            if tries >= TRIES_MAX:
                return names
        else:
            if size == 1:
                return names
            size = max(1, size // 2)
    return names
