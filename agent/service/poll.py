"""Reading meters: one worker owns each line and makes one read after the other.

At a boundary the worker sweeps the energy registers of all its meters first, so that they are read close together; in
between it reads what the live view and plausibility need, one block at a time, so that a boundary never waits for more
than one transaction. Samples go to `close`; live values stay in memory.

What keeps the line at its physical limit and a sick meter from its neighbours:

- how long each meter thinks is learned, and with it how long to wait for it and which reads are cheapest (`pace`,
  `reads`);
- a meter that does not answer is asked again at the end of the sweep, in another shape where the map allows it, so that
  a late answer fits nothing; `patience` says when it is only probed, what that may cost, and who is left alone because
  he is busy or his gateway has no path;
- registers that a meter says it does not have are left out, and tried again in ten minutes;
- who answers at an address is confirmed after every event of the line, and when the machine has slept (`identifying`);
- what a meter answered before the machine slept has no time afterwards, so it is asked again;
- meters are read grouped by speed and parity, and the group to which the line is tuned comes first.

A sick line costs other lines nothing, because each has its own worker; it is opened again for ever.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence

from agent.errors import LineDown
from agent.metering import plant
from agent.metering.plan import Block
from agent.metering.plant import Meter, SerialSettings
from agent.protocol.pair import Request
from agent.service import identifying
from agent.service.asking import Asker, is_absent
from agent.service.clocking import asleep_ms, moment_of
from agent.service.close import Sample
from agent.service.errands import Errands
from agent.service.hearing import Hearing
from agent.service.logline import pairs
from agent.service.patience import Patience
from agent.service.ports import Clock, Line, Reply
from agent.service.pulse import TURN_S_MAX, Pulse
from agent.service.watch import LineHealth, Mark, Watch, cost_of, watch_of

log = logging.getLogger(__name__)

MARK_NS = 30 * 1_000_000_000
"""The present state of a line is what happened since the oldest mark: 5 minutes, or 10 intervals if they are longer."""
REOPEN_S = (0.2, 5.0)
"""First and longest pause before a line is opened again."""

SLEPT_MS = 1000
"""A machine that sleeps does so for longer."""
PAUSE_MIN_NS = 100_000
"""No wait is shorter, so that a rounding never makes the worker spin."""


class Sweep:
    """The reading of all energy registers of one line for one boundary; filled by the worker, taken by `close`."""

    def __init__(self, only: Collection[str] | None = None) -> None:
        """`only` names the meters to read, None means all."""
        self.only = only
        self.samples: list[Sample] = []
        self.done = asyncio.Event()

    def finish(self) -> None:
        """Nothing more will come."""
        self.done.set()


class LineWorker:
    """Owns one line."""

    def __init__(self, line: plant.Line, meters: Sequence[Meter], port: Line, clock: Clock) -> None:
        self.line = line
        self.health = LineHealth()
        self.pulse = Pulse(f"line {line.id}")
        shared = len({meter.address for meter in meters}) > 1
        self.watches = {meter.id: watch_of(line, meter, shared=shared) for meter in meters}
        self._shared = shared
        self._port = port
        self._clock = clock
        self._asleep_ms = asleep_ms(clock)
        self._sweep: Sweep | None = None
        self._looks: deque[Sweep] = deque()
        self._wake = asyncio.Event()
        self._groups = _groups(self.watches.values())
        self._cut_short = False
        self._errands = Errands(port, clock, self.watches.values())
        self._patience = Patience(line.id, self.watches, clock.monotonic_ns())
        self._asker = Asker(line.id, port, clock, self._patience, self.health, self.pulse)
        self._asker.tuned = line.serial
        self.hearing = Hearing(self.watches, port, clock.monotonic_ns())
        self.health.began_ns = clock.monotonic_ns()
        self.health.marks.append(self.mark())

    def mark(self) -> Mark:
        """What the counters say now."""
        watches = self.watches.values()
        return Mark(
            self._clock.monotonic_ns(),
            self.health.busy_ns,
            sum(watch.reads + watch.failed_reads for watch in watches),
            sum(watch.errors["damaged"] for watch in watches),
        )

    def sweep(self, only: Collection[str] | None = None) -> Sweep:
        """Ask for a sweep now, of all meters or only some. One that was still waiting ends with what it has."""
        if self._sweep is not None:
            self.health.sweeps_skipped += 1
            self._sweep.finish()
        sweep = Sweep(only)
        if self.health.last_error is not None:
            sweep.finish()  # the line is down: nobody has to wait for it
            return sweep
        self._sweep = sweep
        self._wake.set()
        return sweep

    async def look(self, meter: str, patience_s: float) -> Sample | None:
        """Read one meter for a person, who it is first; sweeps go before. None where it gives no reading in time."""
        if meter not in self.watches or self.health.last_error is not None:
            return None
        self.identify_again(meter)
        look = Sweep((meter,))
        self._looks.append(look)
        self._wake.set()
        try:
            async with asyncio.timeout(patience_s):
                await look.done.wait()
        except TimeoutError:
            look.finish()
        return look.samples[-1] if look.samples else None

    async def ask(self, request: Request, *, settings: SerialSettings | None, quiet_ms: int) -> Reply:
        """Make one read of a meter that may be none of ours, between own reads; sweeps go before.

        Raises as `Line.read` does; LineDown at once where the line is down.
        """
        if self.health.last_error is not None:
            raise LineDown(self.health.last_error)
        outcome = self._errands.add(request, settings, quiet_ms)
        self._wake.set()
        return await outcome

    def identify_again(self, meter: str) -> None:
        """What the meter says does not go on from what it said: the next read asks first who it is."""
        if meter in self.watches:
            self.watches[meter].doubt()

    # ------------------------------------------------------------------------------------------------ the line itself

    async def run(self) -> None:
        """Serve the line for ever."""
        pause_s = REOPEN_S[0]
        while True:
            self.pulse.beat()
            try:
                await self._port.open()
                self._note_opened()
                pause_s = REOPEN_S[0]
                await self._serve()
            except LineDown as error:
                self._note_down(error)
            finally:
                await self._port.close()
            await self._clock.sleep(pause_s)
            pause_s = min(REOPEN_S[1], 2 * pause_s)

    def _note_opened(self) -> None:
        """After every event of the line the meters have to say again who they are."""
        if self.health.last_error is not None:
            log.info("the line is open again", extra=pairs("M1201", line=self.line.id))
        self.health.open = True
        self.health.last_error = None
        self._asker.tuned = self.line.serial
        self._patience.opened()
        for watch in self.watches.values():
            watch.doubt()

    def _note_down(self, error: LineDown) -> None:
        if self.health.last_error != str(error):
            log.error(
                "the line is down; it is opened again and again",
                extra=pairs("M1202", line=self.line.id, reason=error),
            )
        self.health.outages += self.health.open or self.health.last_error != str(error)
        self.health.open = False
        self.health.last_error = str(error)
        if self._sweep is not None:
            self._sweep.finish()
            self._sweep = None
        self._errands.fail_all(error)

    async def _serve(self) -> None:
        """Sweeps first, then what the budget allows for the dead, then live reads in rounds of the poll period.

        A round that comes late is begun at once; those that it ran over are counted, never made up for.
        """
        period_ns = self.line.poll_ms * 1_000_000
        due_ns = self._clock.monotonic_ns()
        pending: Iterator[tuple[Watch, Block]] = iter(())
        while True:
            self.pulse.beat()
            if self._sweep is not None:
                await self._make(self._sweep)
                await self._probe()
                continue
            if self._looks:
                await self._make_look(self._looks.popleft())
                continue
            if self._errands:
                await self._run_errand()
                continue
            if self._patience.has_dead and await self._probe():
                continue
            read = next(pending, None)
            if read is not None:
                await self._read_live(*read)
                continue
            now_ns = self._clock.monotonic_ns()
            if now_ns < due_ns:
                await self._wait(self._pause_s(now_ns, due_ns))
                continue
            missed = (now_ns - due_ns) // period_ns
            self.health.rounds_skipped += missed
            due_ns = (now_ns if missed else due_ns) + period_ns
            pending = self._round()

    def _pause_s(self, now_ns: int, due_ns: int) -> float:
        """How long there is nothing to do unless somebody wakes us."""
        probe_ns = self._patience.probe_due_ns(now_ns)
        until_ns = due_ns if probe_ns is None else min(due_ns, probe_ns)
        return min(TURN_S_MAX, max(PAUSE_MIN_NS, until_ns - now_ns) / 1e9)

    async def _wait(self, seconds: float) -> None:
        alarm = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()
        self._wake.clear()

    def _in_order(self) -> Iterator[Watch]:
        """All meters, so that the line changes its speed and parity least: as it is tuned now comes first.

        After a sweep that did not come to its end, those that have waited longest come first.
        """
        if self._cut_short:
            yield from sorted(self.watches.values(), key=lambda watch: watch.sampled_ns or 0)
            return
        if len(self._groups) > 1:
            self._groups.sort(key=lambda group: group[0].settings != self._asker.tuned)
        for group in list(self._groups):
            yield from group

    # --------------------------------------------------------------------------------------------------------- sweeps

    async def _make(self, sweep: Sweep) -> None:
        """Read all energy registers; those that failed once more at the end, when nothing is owed any more."""
        begun_ns = self._clock.monotonic_ns()
        again = [
            watch
            for watch in self._in_order()
            if (sweep.only is None or watch.meter.id in sweep.only)
            and not await self._take_sample(sweep, watch, retried=False)
        ]
        for watch in again:
            if self._deserves_retry(watch):
                await self._take_sample(sweep, watch, retried=True)
        self._cut_short = sweep.done.is_set()
        sweep.finish()
        self.hearing.listen(self._clock.monotonic_ns())
        self.health.last_sweep_ns = self._clock.monotonic_ns() - begun_ns
        if self._clock.monotonic_ns() - self.health.marks[-1].at_ns >= MARK_NS:
            self.health.marks.append(self.mark())
        if self._sweep is sweep:
            self._sweep = None

    async def _make_look(self, look: Sweep) -> None:
        for id in look.only or ():
            if not await self._take_sample(look, self.watches[id], retried=False):
                await self._take_sample(look, self.watches[id], retried=True)
        look.finish()

    async def _run_errand(self) -> None:
        begun_ns = self._clock.monotonic_ns()
        try:
            self._asker.tuned = await self._errands.run_next() or self.line.serial
        finally:
            self.health.busy_ns += self._clock.monotonic_ns() - begun_ns

    def _deserves_retry(self, watch: Watch) -> bool:
        """One failure is nothing yet, if there is time for another."""
        one = watch.failures == 1 or watch.refusals == 1
        return one and self._patience.has_credit(self._clock.monotonic_ns())

    async def _take_sample(self, sweep: Sweep, watch: Watch, *, retried: bool) -> bool:
        """Read one energy register into the sweep; False if it may be tried again."""
        now_ns = self._clock.monotonic_ns()
        if sweep.done.is_set() or not self._patience.may_ask(watch, now_ns) or now_ns < watch.energy_retry_ns:
            return True
        self._notice_sleep()
        if not await self._asker.identify(watch):
            return False
        if watch.unfit is not None:
            return True
        reply = await self._asker.energy(watch)
        if reply is None:
            return False
        sample = Sample(
            watch.meter.id,
            reply.words,
            self._asker.wall_ms(reply),
            watch.serial,
            retried,
            watch.fingerprint,
            power_w=watch.power_w(self._clock.monotonic_ns() - 2 * self.line.poll_ms * 1_000_000),
            when=moment_of(self._clock, self._asker.age_ms(reply)),
        )
        if self._notice_sleep():
            return await self._take_sample(sweep, watch, retried=True)
        if not sweep.done.is_set():
            sweep.samples.append(sample)
        return True

    def _notice_sleep(self) -> bool:
        """Let the meters say again who they are, if the machine slept since this was called last; gives whether it did.

        An answer that was on its way meanwhile is of before, its label would be of after: nine days of energy less
        than there were (world seed 12675). How old an answer is, is counted by a clock that stands still in a sleep.
        """
        before, self._asleep_ms = self._asleep_ms, asleep_ms(self._clock)
        if self._asleep_ms - before < SLEPT_MS:
            return False
        for watch in self.watches.values():
            watch.doubt()
        return True

    # ----------------------------------------------------------------------------------------------------- live reads

    def _round(self) -> Iterator[tuple[Watch, Block]]:
        """The live reads of all meters. What a sweep has read within the poll period is not read again."""
        fresh_ns = self.line.poll_ms * 1_000_000
        for watch in self._in_order():
            now_ns = self._clock.monotonic_ns()
            if not self._patience.may_ask(watch, now_ns):
                continue
            if watch.failures and not self._patience.has_credit(now_ns):
                continue
            just_read = watch.sampled_ns is not None and now_ns - watch.sampled_ns < fresh_ns
            reads = watch.live_rest if just_read else watch.live_reads
            turnaround_ns = watch.pace.turnaround_ns
            if turnaround_ns is not None and reads.is_outdated(turnaround_ns):
                cost = cost_of(self.line, watch.meter, turnaround_ns, shared=self._shared)
                reads.learn(turnaround_ns, cost)
            for block in reads.blocks(now_ns):
                yield watch, block

    async def _read_live(self, watch: Watch, block: Block) -> None:
        now_ns = self._clock.monotonic_ns()
        if not self._patience.may_ask(watch, now_ns) or watch.owes(block, now_ns):
            return
        if identifying.is_old(watch, now_ns):
            watch.identified_ns = now_ns
            await self._asker.confirm(watch)
        outcome = await self._asker.read(watch, block)
        if is_absent(outcome):
            watch.live_reads.refuse(now_ns, block)
            watch.live_rest.refuse(now_ns, block)
        elif isinstance(outcome, Reply):
            watch.note_live(block, outcome.words, outcome.received_ns)

    # --------------------------------------------------------------------------------------------------- dead meters

    async def _probe(self) -> bool:
        """Ask the dead meter whose turn it is; False if it is nobody's."""
        watch = self._patience.probe_due(self._clock.monotonic_ns())
        if watch is None:
            return False
        block = watch.energy[0]
        outcome = await self._asker.read(watch, block, timeout_ns=self._patience.probe_timeout_ns(watch))
        if is_absent(outcome):
            self._asker.note_refused(watch, block, outcome)
        return True


def _groups(watches: Collection[Watch]) -> list[list[Watch]]:
    """Meters that talk at the same speed and parity together, otherwise in the order of the site file."""
    groups: dict[plant.SerialSettings, list[Watch]] = {}
    for watch in watches:
        groups.setdefault(watch.settings, []).append(watch)
    return list(groups.values())
