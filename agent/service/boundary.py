"""At each boundary: ask every line for a sweep, wait a bounded time, hand what came to the closer.

Comes between `poll` and `close`. A meter that was not read in time is missing from the cut; its next delta spans both
intervals. A boundary that comes while the one before is still at work is skipped and counted, never queued.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from agent.errors import JournalFull
from agent.metering.doubt import READS
from agent.reporting.utc import text_of_ms
from agent.service.close import Closed, Closer, Cut, NotBooked, Sample
from agent.service.journal import Storage
from agent.service.logline import pairs
from agent.service.poll import LineWorker, Sweep
from agent.service.ports import Clock
from agent.service.pressure import interval_under_pressure, relieve, tend

log = logging.getLogger(__name__)

SWEEP_S_MAX = 20
"""No cut waits longer for a slow line."""


def patience_ms(interval_ms: int) -> int:
    """How long a cut waits for the slowest line."""
    return min(SWEEP_S_MAX * 1000, interval_ms * 4 // 5)


class Boundary:
    """Makes the cuts."""

    def __init__(
        self,
        workers: Sequence[LineWorker],
        closer: Closer,
        storage: Storage,
        clock: Clock,
        interval_ms: int,
        *,
        sealed: Callable[[Closed], None],
    ) -> None:
        """`sealed` is told after every commit."""
        self._workers = workers
        self._closer = closer
        self._storage = storage
        self._clock = clock
        self._patience_s = patience_ms(interval_ms) / 1000
        self._sealed = sealed
        self._interval_ms = interval_ms
        self._due: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        self._passed_over_ms = 0
        self._last_cut_ns = clock.monotonic_ns()
        self._clock_steps_ms: list[int] = []
        self._reads_new = True
        """Whether the last cut still read meters for the first time; a short interval is too short for all of them."""
        self.skipped = 0
        self.last_skipped_ms: int | None = None
        self.cuts = 0
        self.not_booked: dict[str, NotBooked] = {}
        """The readings that are kept out of the ledger at present, by meter."""
        self.flags: dict[str, tuple[str, ...]] = {}
        """The quality flags of the last delta of each meter since the start."""
        self.last: Closed | None = None
        self.last_cut_ms: int | None = None
        self.last_error: str | None = None
        self.length_ms = interval_ms
        """How long an interval is at present: the set length, or longer while the disk is under pressure."""

    def tick(self, boundary_ms: int) -> None:
        """A boundary was reached.

        Of those that pass while meters are read for the first time only one is kept, and that is no fault: it takes
        longer, because the meters say who they are and a first reading is made three times.
        """
        try:
            self._due.put_nowait(boundary_ms)
        except asyncio.QueueFull:
            if self._reads_new:
                return
            self.skipped += 1
            self.last_skipped_ms = boundary_ms
            log.warning(
                "a boundary was skipped, because the one before is still at work; its interval spans both",
                extra=pairs("M1301", boundary=text_of_ms(boundary_ms)),
            )

    def clock_stepped(self, offset_ms: int) -> None:
        """Somebody set the wall clock."""
        self._clock_steps_ms.append(offset_ms)

    async def run(self) -> None:
        """Close intervals for ever, beginning at once: the first cut ends what happened while nobody looked."""
        await self.cut(self._clock.wall_ms())
        while True:
            boundary_ms = await self._due.get()
            if await self._is_due(boundary_ms):
                await self.cut(boundary_ms)

    async def _is_due(self, boundary_ms: int) -> bool:
        """Whether an interval ends here; while the disk is under pressure it may be a longer one."""
        try:
            waiting = await self._storage.run(tend)
        except JournalFull:
            return True  # the cut will say so
        length_ms = interval_under_pressure(self._interval_ms, waiting)
        if length_ms != self.length_ms:
            log.warning(
                "what is unacknowledged fills the journal: the length of the intervals changes",
                extra=pairs("M1309", seconds=length_ms // 1000, bytes=waiting.bytes),
            )
        self.length_ms = length_ms
        passed_ms = (self._clock.monotonic_ns() - self._last_cut_ns) // 1_000_000
        if boundary_ms % length_ms == 0 or passed_ms >= length_ms:
            return True
        self._passed_over_ms = max(self._passed_over_ms, length_ms)
        return False

    async def cut(self, cut_ms: int, *, patience_s: float | None = None, is_last: bool = False) -> None:
        """Read all energy registers now and seal them as of this moment; lines that are slower than that are left.

        `is_last` says that the agent stops after it.
        """
        patience_s = self._patience_s if patience_s is None else patience_s
        samples = await self._collect([worker.sweep() for worker in self._workers], patience_s)
        steps = tuple(self._clock_steps_ms)
        cut = Cut(cut_ms, samples, steps, is_last, coarse_ms=self._passed_over_ms)
        try:
            cut = await self._read_again(cut, patience_s)
            closed = await self._close(cut)
        except JournalFull as error:
            self._note_full(error)
            return
        self._passed_over_ms, self._last_cut_ns = 0, self._clock.monotonic_ns()
        if closed.batches:  # only now they are said
            del self._clock_steps_ms[: len(steps)]
        self._note(cut, closed)

    async def _close(self, cut: Cut) -> Closed:
        """Write it; where there is no room, make some and try once more."""
        try:
            return await self._storage.run(lambda journal: self._closer.close(journal, cut))
        except JournalFull:
            if not await self._storage.run(relieve):
                raise
        return await self._storage.run(lambda journal: self._closer.close(journal, cut))

    async def _read_again(self, cut: Cut, patience_s: float) -> Cut:
        """Registers of which one reading is not enough are read twice more at once, before anything is decided.

        A meter whose register moved oddly first says again who it is: one that was exchanged in between shows a higher
        register, too. One that is read for the first time has just said it.
        """
        again = await self._storage.run(lambda journal: self._closer.to_read_again(journal, cut))
        meters, self._reads_new = again.meters, bool(again.new)
        if not meters:
            return cut
        self._identify_again(again.odd)
        samples = cut.samples
        for _ in range(READS - 1):
            samples += await self._collect([worker.sweep(meters) for worker in self._workers], patience_s)
        return replace(cut, samples=samples, asked_again=meters)

    async def _collect(self, sweeps: Sequence[Sweep], patience_s: float) -> tuple[Sample, ...]:
        waits = [asyncio.create_task(sweep.done.wait()) for sweep in sweeps]
        if waits:
            await asyncio.wait(waits, timeout=patience_s)
        for sweep, wait in zip(sweeps, waits, strict=True):
            sweep.finish()
            wait.cancel()
        return tuple(sample for sweep in sweeps for sample in sweep.samples)

    def _identify_again(self, meters: Iterable[str]) -> None:
        for meter in meters:
            for worker in self._workers:
                worker.identify_again(meter)

    def _note_full(self, error: JournalFull) -> None:
        if self.last_error is None:
            log.error(
                "the interval could not be written; polling goes on, the next one that can be written spans it",
                extra=pairs("M1302", reason=error),
            )
        self.last_error = str(error)

    def _note(self, cut: Cut, closed: Closed) -> None:
        before = {} if self.last is None else self.last.held
        for meter, reason in closed.held.items():
            if before.get(meter) != reason:
                log.warning("the reading was not booked", extra=pairs("M1205", meter=meter, reason=reason))
        for sample in cut.samples:
            self.not_booked.pop(sample.meter, None)
        self.not_booked |= closed.not_booked
        self._identify_again(closed.not_booked)
        self.flags |= closed.flags
        self.cuts += 1
        self.last, self.last_cut_ms, self.last_error = closed, cut.cut_ms, None
        self._sealed(closed)
