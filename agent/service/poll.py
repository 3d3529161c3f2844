"""Reading meters: one worker owns each line and makes one read after the other.

At a boundary the worker sweeps the energy registers of all its meters first, so that they are read close together; in
between it reads what the live view and plausibility need, one block at a time, so that a boundary never waits for more
than one transaction. Samples go to `close`; live values stay in memory.

What keeps the line at its physical limit and a sick meter from its neighbours:

- how long each meter thinks is learned, and with it how long to wait for it and which reads are cheapest (`pace`,
  `reads`);
- a meter that does not answer is asked again at the end of the sweep, in another shape where the map allows it, so that
  a late answer fits nothing; after three failures it is only probed;
- all reads without an answer are paid from one budget of the line's time;
- exceptions are taken by what they mean: no such register (leave it out, try again in ten minutes), busy (come back
  later), gateway (leave that target, or all of them, alone for a while);
- meters are read grouped by speed and parity, and the group to which the line is tuned comes first.

A sick line costs other lines nothing, because each has its own worker; it is opened again for ever.
"""

import asyncio
import logging
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TypeGuard

from agent.errors import (
    FrameDamaged,
    LineDown,
    MeterBusy,
    MeteringError,
    MeterRefused,
    MeterSilent,
    Refused,
    RetryLater,
)
from agent.metering import plant
from agent.metering.conditions import Broken, Undecided, judge
from agent.metering.decode import Decoded, NoValue, decode
from agent.metering.plan import Block, BusCost, bisect, plan_for
from agent.metering.plant import Meter, Transport
from agent.metering.profile import ENERGY_IMPORT
from agent.metering.reads import Reads, reshape
from agent.protocol.pace import CREDIT_MAX_NS, Pace, ProbeBudget, probe_pause_s
from agent.protocol.rtu import SLACK_NS, character_ns
from agent.service.close import Sample
from agent.service.hearing import Hearing
from agent.service.logline import pairs
from agent.service.ports import Clock, Line, Reply
from agent.service.pulse import TURN_S_MAX, Pulse
from agent.service.requests import block_request
from agent.service.watch import TOLERATED_FAILURES, LineHealth, LiveValue, Mark, Watch

log = logging.getLogger(__name__)

LIVE_REGISTERS = (ENERGY_IMPORT, "power_active_total", "voltage_l1", "current_l1")
"""What is read between boundaries, as far as the profile has it."""
REPLY_MS = {Transport.RS485: 500, Transport.RS485_OVER_TCP: 1000, Transport.MODBUS_TCP: 1000}
"""Longest wait for the beginning of an answer: of a meter that is not known yet, or slow."""
REPLY_MS_MIN = {Transport.RS485: 60, Transport.RS485_OVER_TCP: 250, Transport.MODBUS_TCP: 250}
"""Shortest wait: adapters hold bytes back for 16 ms and more, and TCP repeats a lost packet after 200 ms."""
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
ABSENT = frozenset({ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE})
"""Modbus exceptions that say: this meter has no such registers, or not so many at once."""
NO_PATH = 10
"""The exception of a gateway that cannot reach its own line."""
NO_PATH_UNITS = 2
"""So many units in a row have to bring it before the gateway itself is left alone."""
NO_PATH_PAUSE_S = (1, 30)
REFUSALS_BELIEVED = 2
"""So often in a row the energy register has to be refused before the meter is left alone with it."""
REFUSED_PAUSE_S = 600
BUSY_PAUSE_S = (1, 30)
"""First and longest pause of a meter that asks for time."""
BUSY_MAX_S = 60
"""A meter that is busy for longer counts as one that fails."""
UNDECIDED_S = 60
"""A meter whose counter still stands at zero cannot tell which generation it is of: so often it is asked again."""
CONFIRM_S = 600
"""So often serial number and fingerprint are read again while nothing happens."""
TYPICAL_TURNAROUND_NS = 10_000_000
"""A serial meter's pause before it answers, for planning reads until it is learned."""
TYPICAL_ROUND_TRIP_NS = 2_000_000
"""The same for a meter on Modbus TCP."""
FAILURES = {"silent": MeterSilent, "busy": MeterBusy, "damaged": FrameDamaged, "refused": MeterRefused}
"""Kinds of failed reads; what is none of these counts as other."""
MARK_NS = 30 * 1_000_000_000
"""The present state of a line is what happened since the oldest mark: 5 minutes, or 10 intervals if they are longer."""
REOPEN_S = (0.2, 5.0)
"""First and longest pause before a line is opened again."""

PAUSE_MIN_NS = 100_000
"""No wait is shorter, so that a rounding never makes the worker spin."""

_SECOND_NS = 1_000_000_000


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
        self.watches = {meter.id: _watch(line, meter, shared=shared) for meter in meters}
        self._shared = shared
        self._port = port
        self._clock = clock
        self._sweep: Sweep | None = None
        self._wake = asyncio.Event()
        self._groups = _groups(self.watches.values())
        self._tuned = line.serial
        self._cut_short = False
        self._dead: dict[str, Watch] = {}
        self.hearing = Hearing(self.watches, port, clock.monotonic_ns())
        self._budget = ProbeBudget(clock.monotonic_ns())
        self._without_path: set[str] = set()
        self._path_pause_s = 0
        self._held_until_ns = 0
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

    def identify_again(self, meter: str) -> None:
        """What the meter says does not go on from what it said: the next read asks first who it is."""
        if meter in self.watches:
            self.watches[meter].identified = False

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
        self._held_until_ns = 0
        self._tuned = self.line.serial
        for watch in self.watches.values():
            watch.identified = False
            watch.retry_at_ns = watch.energy_retry_ns = 0
            watch.identity.forget()

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
            if self._dead and await self._probe():
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
        for watch in self._dead.values():
            affordable_ns = self._budget.ready_ns(now_ns, self._probe_cost_ns(watch))
            due_ns = min(due_ns, max(watch.retry_at_ns, affordable_ns, self._held_until_ns))
        return min(TURN_S_MAX, max(PAUSE_MIN_NS, due_ns - now_ns) / 1e9)

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
            self._groups.sort(key=lambda group: group[0].settings != self._tuned)
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

    def _deserves_retry(self, watch: Watch) -> bool:
        """One failure is nothing yet, if there is time for another."""
        return (watch.failures == 1 or watch.refusals == 1) and self._credit_ns() > 0

    async def _take_sample(self, sweep: Sweep, watch: Watch, *, retried: bool) -> bool:
        """Read one energy register into the sweep; False if it may be tried again."""
        now_ns = self._clock.monotonic_ns()
        if sweep.done.is_set() or not self._may_ask(watch, now_ns) or now_ns < watch.energy_retry_ns:
            return True
        if not await self._identify(watch):
            return False
        if watch.unfit is not None:
            return True
        reply = await self._read_energy(watch)
        if reply is None:
            return False
        if not sweep.done.is_set():
            sweep.samples.append(
                Sample(
                    watch.meter.id,
                    reply.words,
                    self._wall_ms(reply),
                    watch.serial,
                    retried,
                    watch.fingerprint,
                )
            )
        return True

    async def _read_energy(self, watch: Watch) -> Reply | None:
        """The words of the energy register, of all its parts where it is a sum; None if one gave nothing sound."""
        found: dict[str, tuple[int, ...]] = {}
        for planned in watch.energy:
            block = self._shape(watch, planned)
            outcome = await self._read(watch, block)
            if _is_absent(outcome):
                self._note_refused(watch, block, outcome)
                return None
            if not isinstance(outcome, Reply):
                return None
            found |= {each.name: block.words_of(each, outcome.words) for each in planned.registers}
            last = outcome
        watch.refusals = 0
        watch.last_error = watch.unfit
        watch.sampled_ns = last.received_ns
        register = watch.meter.profile.energy
        words = tuple(word for part in register.parts for word in found[part.name])
        watch.live[register.name] = LiveValue(register, words, last.received_ns)
        return replace(last, words=words)

    def _shape(self, watch: Watch, block: Block) -> Block:
        """Another shape of the same read while a late answer to this one may come, where the map has one."""
        if watch.reshapes and watch.owes(block, self._clock.monotonic_ns()):
            return reshape(block, watch.meter.profile) or block
        return block

    def _note_refused(self, watch: Watch, block: Block, error: MeteringError) -> None:
        """The meter says that it has no energy register where its profile says so; or not in this shape."""
        if block not in watch.energy:
            watch.reshapes = False
            return
        if len(block.registers) > 1:  # a sum: there may be a hole between its parts
            halves = bisect(block, alignment=watch.meter.profile.alignment)
            at = watch.energy.index(block)
            watch.energy = (*watch.energy[:at], *halves, *watch.energy[at + 1 :])
            watch.refusals = 1
            return
        watch.refusals += 1
        watch.failed_reads += 1
        watch.errors[kind_of(error)] += 1
        watch.last_error = str(error)
        if watch.refusals < REFUSALS_BELIEVED:
            return
        if watch.refusals == REFUSALS_BELIEVED:
            log.error(
                "the meter refuses its energy register; check its profile",
                extra=pairs("M1207", meter=watch.meter.id, line=self.line.id, reason=error),
            )
        watch.energy_retry_ns = self._clock.monotonic_ns() + REFUSED_PAUSE_S * _SECOND_NS

    # ------------------------------------------------------------------------------------------------------- identity

    async def _identify(self, watch: Watch) -> bool:
        """Confirm who answers at this address: after every event of the line, and when it was away."""
        waited_ns = self._clock.monotonic_ns() - watch.identified_ns
        if watch.identified and not (watch.undecided and waited_ns >= UNDECIDED_S * _SECOND_NS):
            return True
        return await self._confirm(watch)

    async def _confirm(self, watch: Watch) -> bool:
        """Read serial number and fingerprint; False if the meter gave no answer. What it does not have is an answer."""
        found: dict[str, tuple[int, ...]] = {}
        while (block := self._next_identity(watch, found)) is not None:
            outcome = await self._read(watch, self._shape(watch, block))
            if _is_absent(outcome):
                watch.identity.refuse(self._clock.monotonic_ns(), block)
            elif isinstance(outcome, Reply):
                found |= {each.name: block.words_of(each, outcome.words) for each in block.registers}
            else:
                return False
        self._note_identity(watch, found)
        return True

    def _next_identity(self, watch: Watch, found: Collection[str]) -> Block | None:
        for block in watch.identity.blocks(self._clock.monotonic_ns()):
            if any(register.name not in found for register in block.registers):
                return block
        return None

    def _note_identity(self, watch: Watch, found: dict[str, tuple[int, ...]]) -> None:
        profile = watch.meter.profile
        name = profile.identity
        words = found.get(name) if name is not None else None
        serial = (
            None if name is None or words is None else serial_text(decode(profile.registers[name], words))
        )
        if serial != watch.serial:
            watch.live_reads.forget()
            watch.live_rest.forget()
            watch.refusals, watch.reshapes = 0, True
        watch.serial = serial
        watch.fingerprint = tuple((each, found.get(each)) for each in profile.fingerprint)
        verdict = judge(profile, {each: decode(profile.registers[each], found[each]) for each in found})
        self._note_fitness(watch, verdict.reason if isinstance(verdict, Broken) else None)
        watch.identified = not isinstance(
            verdict, Broken
        )  # a meter that is not fit is asked again at every sweep
        watch.undecided = isinstance(verdict, Undecided)
        watch.identified_ns = self._clock.monotonic_ns()

    def _note_fitness(self, watch: Watch, reason: str | None) -> None:
        """Whether the meter meets the conditions of its profile."""
        if reason is not None and reason != watch.unfit:
            log.error(
                "the meter is not what its profile says; nothing of it is booked",
                extra=pairs("M1208", meter=watch.meter.id, line=self.line.id, reason=reason),
            )
        watch.unfit = reason
        if reason is not None:
            watch.last_error = reason

    # ----------------------------------------------------------------------------------------------------- live reads

    def _round(self) -> Iterator[tuple[Watch, Block]]:
        """The live reads of all meters. What a sweep has read within the poll period is not read again."""
        fresh_ns = self.line.poll_ms * 1_000_000
        for watch in self._in_order():
            now_ns = self._clock.monotonic_ns()
            if not self._may_ask(watch, now_ns) or (watch.failures and self._credit_ns() <= 0):
                continue
            just_read = watch.sampled_ns is not None and now_ns - watch.sampled_ns < fresh_ns
            reads = watch.live_rest if just_read else watch.live_reads
            turnaround_ns = watch.pace.turnaround_ns
            if turnaround_ns is not None and reads.is_outdated(turnaround_ns):
                cost = _cost(self.line, watch.meter, turnaround_ns, shared=self._shared)
                reads.learn(turnaround_ns, cost)
            for block in reads.blocks(now_ns):
                yield watch, block

    async def _read_live(self, watch: Watch, block: Block) -> None:
        now_ns = self._clock.monotonic_ns()
        if not self._may_ask(watch, now_ns) or watch.owes(block, now_ns):
            return
        if watch.identified and now_ns - watch.identified_ns >= CONFIRM_S * _SECOND_NS:
            watch.identified_ns = now_ns
            await self._confirm(watch)
        outcome = await self._read(watch, block)
        if _is_absent(outcome):
            watch.live_reads.refuse(now_ns, block)
            watch.live_rest.refuse(now_ns, block)
        elif isinstance(outcome, Reply):
            for register in block.registers:
                words = block.words_of(register, outcome.words)
                watch.live[register.name] = LiveValue(register, words, outcome.received_ns)

    # --------------------------------------------------------------------------------------------------- dead meters

    async def _probe(self) -> bool:
        """Ask the dead meter that has waited longest, if one is due and the budget can pay for it."""
        now_ns = self._clock.monotonic_ns()
        due = [watch for watch in self._dead.values() if watch.retry_at_ns <= now_ns]
        if not due or now_ns < self._held_until_ns:
            return False
        watch = min(due, key=lambda each: each.retry_at_ns)
        if self._credit_ns() < min(CREDIT_MAX_NS, self._probe_cost_ns(watch)):
            return False
        block = watch.energy[0]
        outcome = await self._read(watch, block, timeout_ns=self._probe_timeout_ns(watch))
        if _is_absent(outcome):
            self._note_refused(watch, block, outcome)
        return True

    def _probe_timeout_ns(self, watch: Watch) -> int:
        known = [
            each.pace.timeout_ns for each in self.watches.values() if each.pace.turnaround_ns is not None
        ]
        return watch.pace.probe_timeout_ns(watch.probes, max(known, default=None))

    def _probe_cost_ns(self, watch: Watch) -> int:
        return self._probe_timeout_ns(watch) + 2 * self._wire_ns(watch, watch.energy[0])

    def _credit_ns(self) -> int:
        return self._budget.credit_ns(self._clock.monotonic_ns())

    def _may_ask(self, watch: Watch, now_ns: int) -> bool:
        return now_ns >= self._held_until_ns and watch.may_be_asked(now_ns)

    # ------------------------------------------------------------------------------------------------ one transaction

    async def _read(
        self, watch: Watch, block: Block, *, timeout_ns: int | None = None
    ) -> Reply | MeteringError:
        """One transaction, its outcome noted. LineDown comes through.

        Registers that the meter says it does not have are an answer: what that means is for the caller to note.
        """
        self.pulse.beat()
        begun_ns = self._clock.monotonic_ns()
        wire_ns = self._wire_ns(watch, block)
        timeout_ns = (watch.pace.timeout_ns if timeout_ns is None else timeout_ns) + wire_ns
        self._tuned = watch.settings
        try:
            reply = await self._port.read(
                block_request(watch.meter, block),
                timeout_ms=-(-timeout_ns // 1_000_000),
                quiet_ms=watch.meter.profile.quiet_ms,
                settings=watch.meter.serial_settings,
            )
        except LineDown:
            raise
        except (RetryLater, Refused) as error:
            self._note_error(watch, block, error, begun_ns, timeout_ns)
            return error
        finally:
            self.health.busy_ns += self._clock.monotonic_ns() - begun_ns
        watch.pace.answered(reply.received_ns - reply.sent_ns - wire_ns)
        watch.reads += 1
        self._note_alive(watch)
        return reply

    def _note_alive(self, watch: Watch) -> None:
        """It has answered, whatever it said."""
        if self._without_path:
            self._without_path.clear()
            self._path_pause_s = 0
        watch.busy_since_ns, watch.busy_pause_s = None, 0
        if not watch.refusals:
            watch.last_error = watch.unfit
        if not watch.failures:
            return
        if self._dead.pop(watch.meter.id, None) is not None:
            watch.identified = False
            if watch.failures >= TOLERATED_FAILURES:
                log.info(
                    "the meter answers again",
                    extra=pairs(
                        "M1204", meter=watch.meter.id, line=self.line.id, failed_reads=watch.failures
                    ),
                )
        watch.failures = watch.probes = watch.retry_at_ns = 0

    def _note_error(
        self, watch: Watch, block: Block, error: MeteringError, begun_ns: int, timeout_ns: int
    ) -> None:
        now_ns = self._clock.monotonic_ns()
        if _is_absent(error):
            self._note_alive(watch)
            return
        watch.failed_reads += 1
        watch.last_error = str(error)
        watch.errors[kind_of(error)] += 1
        if isinstance(error, MeterBusy):
            self._note_busy(watch, now_ns)
            return
        self._budget.spend(now_ns, now_ns - begun_ns)
        if isinstance(error, MeterSilent | FrameDamaged):
            watch.pace.missed()
            watch.owed_ns[(block.function, block.count)] = now_ns + timeout_ns + SLACK_NS
        if isinstance(error, MeterRefused) and error.code == NO_PATH:
            self._note_no_path(watch, now_ns)
        self._note_failure(watch, error, now_ns)

    def _note_busy(self, watch: Watch, now_ns: int) -> None:
        """It asked for time: that is no failure, and nobody waits for it, unless it goes on for too long."""
        if watch.busy_since_ns is None:
            watch.busy_since_ns = now_ns
        if now_ns - watch.busy_since_ns > BUSY_MAX_S * _SECOND_NS:
            watch.failures = max(watch.failures, 1)
        watch.busy_pause_s = min(BUSY_PAUSE_S[1], max(BUSY_PAUSE_S[0], 2 * watch.busy_pause_s))
        watch.retry_at_ns = now_ns + watch.busy_pause_s * _SECOND_NS

    def _note_no_path(self, watch: Watch, now_ns: int) -> None:
        """A gateway that brings this for several units in a row has lost its own line: leave all of them alone."""
        self._without_path.add(watch.meter.id)
        if len(self._without_path) < min(NO_PATH_UNITS, len(self.watches)):
            return
        first_s, longest_s = NO_PATH_PAUSE_S
        self._path_pause_s = min(longest_s, max(first_s, 2 * self._path_pause_s))
        self._held_until_ns = now_ns + self._path_pause_s * _SECOND_NS

    def _note_failure(self, watch: Watch, error: MeteringError, now_ns: int) -> None:
        watch.failures += 1
        if watch.failures == TOLERATED_FAILURES:
            log.warning(
                "the meter does not answer; check its power, wiring and address",
                extra=pairs(
                    "M1203",
                    meter=watch.meter.id,
                    line=self.line.id,
                    address=watch.meter.address,
                    reason=error,
                ),
            )
        if not watch.is_dead:
            return
        self._dead[watch.meter.id] = watch
        watch.identified = False
        pause_s = probe_pause_s(watch.probes, zlib.crc32(watch.meter.id.encode()) + watch.probes)
        watch.probes += 1
        watch.retry_at_ns = now_ns + pause_s * _SECOND_NS

    def _wire_ns(self, watch: Watch, block: Block) -> int:
        """How long the characters of a read take; on TCP nothing that counts."""
        if self.line.transport is Transport.MODBUS_TCP:
            return 0
        return BusCost(character_ns(watch.settings), 0, 0).block_ns(block)

    def _wall_ms(self, reply: Reply) -> int:
        """When the last byte of a reply had arrived, by the wall clock."""
        return self._clock.wall_ms() - (self._clock.monotonic_ns() - reply.received_ns) // 1_000_000


def kind_of(error: MeteringError) -> str:
    """What kind of failure of a read this is, in one word."""
    return next((kind for kind, cause in FAILURES.items() if isinstance(error, cause)), "other")


def serial_text(value: Decoded) -> str | None:
    """A serial number as people write it; None where the meter has none to give."""
    if isinstance(value, NoValue) or value == 0 or value == "":
        return None
    return str(value)


def _is_absent(outcome: Reply | MeteringError) -> TypeGuard[MeterRefused]:
    """Whether the meter said that it has no such registers."""
    return isinstance(outcome, MeterRefused) and outcome.code in ABSENT


def _watch(line: plant.Line, meter: Meter, *, shared: bool) -> Watch:
    profile = meter.profile
    cost = _cost(line, meter, None, shared=shared)
    energy = plan_for(profile, profile.energy.parts, cost)
    judged = [name for condition in profile.conditions for name in condition.registers]
    known = dict.fromkeys(
        name for name in (profile.identity, *profile.fingerprint, *judged) if name is not None
    )
    live = [profile.registers[name] for name in LIVE_REGISTERS if name in profile.registers]
    return Watch(
        meter,
        meter.serial_settings or line.serial,
        Pace(REPLY_MS_MIN[line.transport] * 1_000_000, REPLY_MS[line.transport] * 1_000_000),
        energy,
        Reads(profile, [profile.registers[name] for name in known], cost),
        Reads(profile, live, cost),
        Reads(profile, [register for register in live if register.name != ENERGY_IMPORT], cost),
    )


def _cost(line: plant.Line, meter: Meter, turnaround_ns: int | None, *, shared: bool) -> BusCost:
    """What reads of a meter cost. Several meters at one TCP address have an RS485 pair behind it."""
    if line.transport is Transport.MODBUS_TCP and not shared:
        return BusCost.tcp(TYPICAL_ROUND_TRIP_NS if turnaround_ns is None else turnaround_ns)
    if line.transport is Transport.MODBUS_TCP:
        turnaround_ns = None  # what is measured there has the pair's characters in it
    if turnaround_ns is None:
        turnaround_ns = TYPICAL_TURNAROUND_NS
    return BusCost.serial(meter.serial_settings or line.serial, turnaround_ns, meter.profile.quiet_ms)


def _groups(watches: Collection[Watch]) -> list[list[Watch]]:
    """Meters that talk at the same speed and parity together, otherwise in the order of the site file."""
    groups: dict[plant.SerialSettings, list[Watch]] = {}
    for watch in watches:
        groups.setdefault(watch.settings, []).append(watch)
    return list(groups.values())
