"""What the journal writes to its flash card in a day: 100 meters, 1-minute intervals, everything acknowledged.

Counted by the kernel (`/proc/self/io`): `wchar` is every byte of every write call, log and database, so nothing is
left out and nothing is merged by a cache. The card's own amplification comes on top. Registers, loads and the times of
a sweep differ from meter to meter as in a factory, because what repeats would be packed away; receipts are real ones.
"""

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.metering.decode import encode
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.service.clocking import moment_of
from agent.service.close import Cut, Sample
from tests.bench import report
from tests.service.bench import MINUTE_MS, Bench
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
    factory = _Factory(bench, random.Random(26))
    seal = acknowledge = purge = purged = 0
    for minute in range(2 * minutes):
        counting = minute >= minutes
        sealed = _written(factory.seal)
        taken = _written(partial(factory.acknowledge, minute + 1))
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


class _Factory:
    """Meters that count each at its own pace, read one after the other; a platform that acknowledges each interval."""

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        self._bench, self._chance = bench, chance
        bench.clock.boot = "0f5c3b52-1c7e-4a9e-9a53-1e6ac1b7c001"
        self._counts = {each.id: chance.randrange(FIRST_COUNTS, 900_000) for each in bench.meters}
        self._pace = {each.id: chance.randrange(4, 60) for each in bench.meters}

    def seal(self) -> None:
        """One boundary: each meter read some 36 ms after the one before, as at 9600 baud."""
        bench, late_ms = self._bench, 0
        bench.clock.now_ms += MINUTE_MS
        bench.clock.up_ms += MINUTE_MS
        samples = []
        for each in bench.meters:
            late_ms += self._chance.randrange(33, 40)
            self._counts[each.id] += self._pace[each.id] + self._chance.randrange(-4, 5)
            words = encode(each.profile.energy, self._counts[each.id] % 1_000_000)
            when = replace(moment_of(bench.clock), up_ms=bench.clock.up_ms + late_ms)
            samples.append(Sample(each.id, words, bench.clock.now_ms + late_ms, None, False, when=when))
        bench.closer.close(bench.journal, Cut(bench.clock.now_ms, tuple(samples)))

    def acknowledge(self, number: int) -> None:
        """The platform has everything."""
        bench = self._bench
        said = Acknowledgement("org", "gw01", 0, number, bench.journal.state().head, bench.clock.now_ms)
        jws = envelope.seal(envelope.ACKNOWLEDGEMENT, said.to_payload(), bench.signer)
        bench.acknowledger.take(bench.journal, said, jws, session="s", now_ms=bench.clock.now_ms)


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
