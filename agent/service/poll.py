"""Reading meters: one worker owns each line and makes one read after the other.

At a boundary the worker sweeps the energy registers of all its meters first, so that they are read close together; in
between it reads what the live view and plausibility need, one meter at a time, so that a boundary never waits for more
than one transaction. Samples go to `close`; live values stay in memory.

A sick meter costs the others little: after three failures in a row it is asked again only now and then. A sick line
costs other lines nothing, because each has its own worker; it is opened again for ever.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from agent.errors import (
    FrameDamaged,
    LineDown,
    MeterBusy,
    MeteringError,
    MeterRefused,
    MeterSilent,
    RetryLater,
)
from agent.metering import plant
from agent.metering.decode import Decoded, NoValue, decode
from agent.metering.plan import Block, BusCost, bisect, plan_reads
from agent.metering.plant import Meter, Transport
from agent.metering.profile import Register
from agent.protocol.pdu import ReadRequest
from agent.service.close import Sample
from agent.service.logline import pairs
from agent.service.ports import Clock, Line, Reply
from agent.service.pulse import TURN_S_MAX, Pulse
from agent.service.waiting import happens

log = logging.getLogger(__name__)

LIVE_REGISTERS = ("energy_import", "power_active_total", "voltage_l1", "current_l1")
"""What is read between boundaries, as far as the profile has it."""
REPLY_MS = {Transport.RS485: 500, Transport.RS485_OVER_TCP: 1000, Transport.MODBUS_TCP: 1000}
"""Longest wait for the beginning of an answer."""
TOLERATED_FAILURES = 3
"""So many failures in a row are retried at every occasion; after that a meter is probed with growing pauses."""
PROBE_PAUSE_MAX_S = 60
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
"""Modbus exceptions that say: this meter has no such registers, or not so many at once."""
TYPICAL_TURNAROUND_NS = 10_000_000
"""A serial meter's pause before it answers, for planning reads until it is learned."""
TYPICAL_ROUND_TRIP_NS = 2_000_000
"""The same for a meter on Modbus TCP."""
FAILURES = {"silent": MeterSilent, "busy": MeterBusy, "damaged": FrameDamaged, "refused": MeterRefused}
"""Kinds of failed reads; what is none of these counts as other."""
MARK_NS, MARKS_MAX = 30 * 1_000_000_000, 10
"""The present state of a line is what happened since the oldest mark: 5 minutes, or 10 intervals if they are longer."""
REOPEN_S = (0.2, 5.0)
"""First and longest pause before a line is opened again."""


@dataclass(frozen=True, slots=True)
class LiveValue:
    """A register's decoded value, in raw counts, and when it was read (monotonic)."""

    register: Register
    value: Decoded
    at_ns: int


@dataclass(slots=True)
class Watch:
    """What is known of one meter since the line was opened."""

    meter: Meter
    serial: str | None = None
    identified: bool = False
    failures: int = 0
    retry_at_ns: int = 0
    reads: int = 0
    failed_reads: int = 0
    last_error: str | None = None
    errors: Counter[str] = field(default_factory=Counter)
    """Failed reads since the start by kind: silent, busy, damaged, refused, other."""
    live: dict[str, LiveValue] = field(default_factory=dict)
    sampled_ns: int | None = None

    def may_be_asked(self, now_ns: int) -> bool:
        """Whether it is healthy, or its pause is over."""
        return now_ns >= self.retry_at_ns


@dataclass(frozen=True, slots=True)
class Mark:
    """The counters of a line at one moment (monotonic), so that its present state can be told from its past."""

    at_ns: int
    busy_ns: int
    reads: int
    damaged: int


@dataclass(slots=True)
class LineHealth:
    """What is known of one line."""

    open: bool = False
    last_error: str | None = None
    began_ns: int = 0
    """When the worker began, monotonic."""
    outages: int = 0
    """How often the line went down, or could not be opened, in a new way."""
    busy_ns: int = 0
    """Time spent in transactions since the worker began."""
    marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=MARKS_MAX))
    rounds_skipped: int = 0
    sweeps_skipped: int = 0
    last_sweep_ns: int | None = None
    """How long the last sweep took."""


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
        self.watches = {meter.id: Watch(meter) for meter in meters}
        self._port = port
        self._clock = clock
        self._sweep: Sweep | None = None
        self._wake = asyncio.Event()
        self._blocks = {meter.id: _live_blocks(line, meter) for meter in meters}
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
        for watch in self.watches.values():
            watch.identified = False
            watch.retry_at_ns = 0

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
        """Sweeps first, then live reads in rounds of the poll period."""
        period_ns = self.line.poll_ms * 1_000_000
        due_ns = self._clock.monotonic_ns()
        pending: Iterator[Watch] = iter(())
        while True:
            self.pulse.beat()
            if self._sweep is not None:
                await self._make(self._sweep)
                continue
            watch = next(pending, None)
            if watch is not None:
                await self._read_live(watch)
                continue
            now_ns = self._clock.monotonic_ns()
            if now_ns < due_ns:
                await self._wait(min(TURN_S_MAX, (due_ns - now_ns) / 1e9))
                continue
            pending = iter(self.watches.values())
            missed = (now_ns - due_ns) // period_ns
            self.health.rounds_skipped += missed
            due_ns += (missed + 1) * period_ns

    async def _wait(self, seconds: float) -> None:
        await happens(self._wake, seconds)
        self._wake.clear()

    async def _make(self, sweep: Sweep) -> None:
        begun_ns = self._clock.monotonic_ns()
        for watch in self.watches.values():
            if sweep.done.is_set():
                break
            if sweep.only is not None and watch.meter.id not in sweep.only:
                continue
            sample = await self._sample(watch)
            if sample is not None and not sweep.done.is_set():
                sweep.samples.append(sample)
        sweep.finish()
        self.health.last_sweep_ns = self._clock.monotonic_ns() - begun_ns
        if self._clock.monotonic_ns() - self.health.marks[-1].at_ns >= MARK_NS:
            self.health.marks.append(self.mark())
        if self._sweep is sweep:
            self._sweep = None

    async def _sample(self, watch: Watch) -> Sample | None:
        """Read the energy register, with one retry; None if the meter gave nothing sound."""
        if not watch.may_be_asked(self._clock.monotonic_ns()) or not await self._identify(watch):
            return None
        register = watch.meter.profile.energy
        retries = 0 if watch.failures else 1
        for attempt in range(retries + 1):
            reply = await self._read(watch, _request(watch.meter, register))
            if reply is not None:
                watch.sampled_ns = reply.received_ns
                return Sample(watch.meter.id, reply.words, self._wall_ms(reply), watch.serial, attempt > 0)
        return None

    async def _identify(self, watch: Watch) -> bool:
        """Confirm who answers at this address, once after every event of the line."""
        if watch.identified:
            return True
        name = watch.meter.profile.identity
        if name is not None:
            register = watch.meter.profile.registers[name]
            reply = await self._read(watch, _request(watch.meter, register), optional=True)
            if reply is None:
                return False
            watch.serial = serial_text(decode(register, reply.words)) if reply.words else None
        watch.identified = True
        return True

    async def _read_live(self, watch: Watch) -> None:
        if not watch.may_be_asked(self._clock.monotonic_ns()):
            return
        for block in self._blocks[watch.meter.id]:
            reply = await self._read(watch, _block_request(watch.meter, block), optional=True)
            if reply is None:
                return
            if not reply.words:
                self._divide(watch.meter, block)
                return
            for register in block.registers:
                value = decode(register, block.words_of(register, reply.words))
                watch.live[register.name] = LiveValue(register, value, reply.received_ns)

    def _divide(self, meter: Meter, refused: Block) -> None:
        """The meter has not all registers of a block: from now on it is read in halves, or not at all."""
        halves = bisect(refused, alignment=meter.profile.alignment) if len(refused.registers) > 1 else ()
        blocks = self._blocks[meter.id]
        at = blocks.index(refused)
        self._blocks[meter.id] = (*blocks[:at], *halves, *blocks[at + 1 :])

    async def _read(self, watch: Watch, request: ReadRequest, *, optional: bool = False) -> Reply | None:
        """One transaction, its outcome noted; None if it failed. LineDown comes through.

        Where the read is `optional`, registers that the meter says it does not have give a reply without words.
        """
        self.pulse.beat()
        begun_ns = self._clock.monotonic_ns()
        try:
            reply = await self._port.read(
                request,
                timeout_ms=REPLY_MS[self.line.transport],
                quiet_ms=watch.meter.profile.quiet_ms,
                settings=watch.meter.serial_settings,
            )
        except LineDown:
            raise
        except MeterRefused as error:
            if optional and error.code in (ILLEGAL_ADDRESS, ILLEGAL_VALUE, ILLEGAL_FUNCTION):
                return Reply((), begun_ns, begun_ns)
            self._note_failure(watch, error)
            return None
        except RetryLater as error:
            self._note_failure(watch, error)
            return None
        finally:
            self.health.busy_ns += self._clock.monotonic_ns() - begun_ns
        watch.reads += 1
        if watch.failures >= TOLERATED_FAILURES:
            log.info(
                "the meter answers again",
                extra=pairs("M1204", meter=watch.meter.id, line=self.line.id, failed_reads=watch.failures),
            )
        watch.failures = 0
        watch.last_error = None
        return reply

    def _note_failure(self, watch: Watch, error: MeteringError) -> None:
        watch.failed_reads += 1
        watch.failures += 1
        watch.last_error = str(error)
        watch.errors[kind_of(error)] += 1
        if watch.failures < TOLERATED_FAILURES:
            return
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
        watch.identified = False
        pause_s = min(PROBE_PAUSE_MAX_S, 2 ** min(watch.failures - TOLERATED_FAILURES, 6))
        watch.retry_at_ns = self._clock.monotonic_ns() + pause_s * 1_000_000_000

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


def _request(meter: Meter, register: Register) -> ReadRequest:
    return ReadRequest(_unit(meter), register.function, register.address, register.words)


def _block_request(meter: Meter, block: Block) -> ReadRequest:
    return ReadRequest(_unit(meter), block.function, block.address, block.count)


def _unit(meter: Meter) -> int:
    if not isinstance(meter.address, int):
        raise TypeError(f"meter {meter.id} has no Modbus address")
    return meter.address


def _live_blocks(line: plant.Line, meter: Meter) -> tuple[Block, ...]:
    wanted = [meter.profile.registers[name] for name in LIVE_REGISTERS if name in meter.profile.registers]
    if line.transport is Transport.MODBUS_TCP:
        cost = BusCost.tcp(TYPICAL_ROUND_TRIP_NS)
    else:
        serial = meter.serial_settings or line.serial
        cost = BusCost.serial(serial, TYPICAL_TURNAROUND_NS, meter.profile.quiet_ms)
    limits = meter.profile
    return plan_reads(wanted, read_limit=limits.read_limit, alignment=limits.alignment, cost=cost)
