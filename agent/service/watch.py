"""What a line worker knows of each of its meters, and of its line; and with what it begins.

Values only; `poll` fills them, `overview` reads them.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from fractions import Fraction

from agent.metering.decode import Decoded, NoValue, decode
from agent.metering.plan import Block, BusCost, plan_for
from agent.metering.plant import Line, Meter, SerialSettings, Transport
from agent.metering.profile import CT_RATIO, ENERGY_IMPORT, PT_RATIO, Profile, Quantity, Register, Sum
from agent.metering.reads import Reads
from agent.protocol.pace import Pace
from agent.protocol.silence import character_ns

ACTIVE_POWER = "power_active_total"
_WATTS = {"W": 1, "kW": 1000}
LIVE_REGISTERS = (ENERGY_IMPORT, ACTIVE_POWER, "voltage_l1", "current_l1")
"""What is read between boundaries, as far as the profile has it."""
REPLY_MS = {Transport.RS485: 500, Transport.RS485_OVER_TCP: 1000, Transport.MODBUS_TCP: 1000}
"""Longest wait for the beginning of an answer: of a meter that is not known yet, or slow."""
REPLY_MS_MIN = {Transport.RS485: 60, Transport.RS485_OVER_TCP: 250, Transport.MODBUS_TCP: 250}
"""Shortest wait: adapters hold bytes back for 16 ms and more, and TCP repeats a lost packet after 200 ms."""
TYPICAL_TURNAROUND_NS = 10_000_000
"""A serial meter's pause before it answers, for planning reads until it is learned."""
TYPICAL_ROUND_TRIP_NS = 2_000_000
"""The same for a meter on Modbus TCP."""

TOLERATED_FAILURES = 3
"""So many failures in a row are retried at every occasion; after that a meter is only probed, at growing pauses."""
MARKS_MAX = 10
PARTS_APART_NS = 2_000_000_000
"""Parts of a sum that were read further apart than this are no reading of one moment."""

Fingerprint = tuple[tuple[str, tuple[int, ...] | None], ...]
"""Words of the registers that change the meaning of the energy register; None where the meter does not have one."""


@dataclass(frozen=True, slots=True)
class LiveValue:
    """The words of a register and when they were read (monotonic); decoded only for who wants to see them."""

    register: Quantity
    words: tuple[int, ...]
    at_ns: int

    @property
    def value(self) -> Decoded:
        """In raw counts."""
        return decode(self.register, self.words)


@dataclass(slots=True)
class Watch:
    """One meter, since the agent was started."""

    meter: Meter
    settings: SerialSettings
    character_ns: int
    """How long a character to or from it takes; 0 on TCP."""
    pace: Pace
    energy: tuple[Block, ...]
    """What fetches the energy register; more than one read where it is a sum of registers far apart."""
    identity: Reads
    live_reads: Reads
    live_rest: Reads
    """The live registers without energy, for rounds in which a sweep has just read it."""
    serial: str | None = None
    fingerprint: Fingerprint = ()
    identified: bool = False
    identified_ns: int = 0
    unfit: str | None = None
    """Why the meter is not what its profile takes it for; nothing is read into the ledger then."""
    undecided: bool = False
    """Its counters are still at zero, so that a condition of its profile cannot be judged yet."""
    failures: int = 0
    probes: int = 0
    retry_at_ns: int = 0
    busy_since_ns: int | None = None
    busy_pause_s: int = 0
    refusals: int = 0
    """How often in a row the energy register was refused."""
    energy_retry_ns: int = 0
    owed_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    """Until when an answer to an earlier question may still come, by its function and number of registers."""
    missed_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    """Until when an answer of a shape may be the one to an earlier question, and that to its own is still to come."""
    reshapes: bool = True
    reads: int = 0
    failed_reads: int = 0
    last_error: str | None = None
    errors: Counter[str] = field(default_factory=Counter)
    """Failed reads since the start by kind: silent, busy, damaged, refused, other."""
    live: dict[str, LiveValue] = field(default_factory=dict)
    parts: dict[str, LiveValue] = field(default_factory=dict)
    """The parts of an energy register that is a sum, as they were last read live."""
    sampled_ns: int | None = None

    def doubt(self) -> None:
        """Another meter may answer at its address: it has to say who it is, also what it refused to say a while ago."""
        self.identified = False
        self.identity.forget()

    def note_live(self, block: Block, words: tuple[int, ...], at_ns: int) -> None:
        """Keep what a live read brought; a sum of registers when all of its parts are of one round (monotonic ns)."""
        energy = self.meter.profile.energy
        for register in block.registers:
            own = block.words_of(register, words)
            if isinstance(energy, Sum) and register in energy.parts:
                self.parts[register.name] = LiveValue(register, own, at_ns)
            else:
                self.live[register.name] = LiveValue(register, own, at_ns)
        if not isinstance(energy, Sum) or not set(energy.parts).intersection(block.registers):
            return
        found = [self.parts[part.name] for part in energy.parts if part.name in self.parts]
        oldest_ns = min(part.at_ns for part in found)
        if len(found) == len(energy.parts) and at_ns - oldest_ns <= PARTS_APART_NS:
            together = tuple(word for part in found for word in part.words)
            self.live[energy.name] = LiveValue(energy, together, oldest_ns)

    def wire_ns(self, block: Block) -> int:
        """How long the characters of a read take; on TCP nothing that counts."""
        return BusCost(self.character_ns, 0, 0).block_ns(block) if self.character_ns else 0

    def power_w(self, since_ns: int) -> Fraction | None:
        """What flows through the meter, W, primary side; None where it did not say so since a time (monotonic)."""
        live = self.live.get(ACTIVE_POWER)
        if live is None or live.at_ns < since_ns or live.register.unit not in _WATTS:
            return None
        value = live.value
        if isinstance(value, str | NoValue):
            return None
        ratio = self.meter.transformer_ratio(live.register)
        return value * live.register.per_count * _WATTS[live.register.unit] * ratio

    def other_ratio(self) -> tuple[str, Fraction, Fraction] | None:
        """A ratio that is set otherwise at the meter than in the site file: register, at the meter, in the site file.

        The site file's counts; only of a meter whose energy counts behind its transformers does it matter.
        """
        profile = self.meter.profile
        if not profile.energy.secondary:
            return None
        in_site = {CT_RATIO: self.meter.ct_ratio, PT_RATIO: self.meter.pt_ratio}
        for name, words in self.fingerprint:
            if name not in in_site or words is None:
                continue
            counts = decode(profile.registers[name], words)
            if isinstance(counts, str | NoValue):
                continue
            at_meter = counts * profile.registers[name].per_count
            if at_meter != in_site[name]:
                return name, at_meter, in_site[name]
        return None

    def owes(self, block: Block, now_ns: int) -> bool:
        """Whether a late answer could be taken for the answer to this block."""
        if not self.owed_ns:
            return False
        self.owed_ns = {shape: until_ns for shape, until_ns in self.owed_ns.items() if until_ns > now_ns}
        return (block.function, block.count) in self.owed_ns


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


def watch_of(line: Line, meter: Meter, *, shared: bool) -> Watch:
    """What is known of a meter before the first read. `shared`: meters of several addresses are on the line."""
    profile = meter.profile
    cost = cost_of(line, meter, None, shared=shared)
    energy = plan_for(profile, profile.energy.parts, cost)
    judged = [name for condition in profile.conditions for name in condition.registers]
    known = dict.fromkeys(
        name for name in (profile.identity, *profile.fingerprint, *judged) if name is not None
    )
    live = live_registers(profile)
    settings = meter.serial_settings or line.serial
    return Watch(
        meter,
        settings,
        0 if line.transport is Transport.MODBUS_TCP else character_ns(settings),
        Pace(REPLY_MS_MIN[line.transport] * 1_000_000, REPLY_MS[line.transport] * 1_000_000),
        energy,
        Reads(profile, [profile.registers[name] for name in known], cost),
        Reads(profile, live, cost),
        Reads(profile, [register for register in live if register not in profile.energy.parts], cost),
    )


def live_registers(profile: Profile) -> list[Register]:
    """What is read of a meter between boundaries; of an energy that is a sum, all its parts."""
    named = [profile.registers[name] for name in LIVE_REGISTERS if name in profile.registers]
    return [*(part for part in profile.energy.parts if part not in named), *named]


def cost_of(line: Line, meter: Meter, turnaround_ns: int | None, *, shared: bool) -> BusCost:
    """What reads of a meter cost. Several meters at one TCP address have an RS485 pair behind it."""
    if line.transport is Transport.MODBUS_TCP and not shared:
        return BusCost.tcp(TYPICAL_ROUND_TRIP_NS if turnaround_ns is None else turnaround_ns)
    if line.transport is Transport.MODBUS_TCP:
        turnaround_ns = None  # what is measured there has the pair's characters in it
    if turnaround_ns is None:
        turnaround_ns = TYPICAL_TURNAROUND_NS
    return BusCost.serial(meter.serial_settings or line.serial, turnaround_ns, meter.profile.quiet_ms)
