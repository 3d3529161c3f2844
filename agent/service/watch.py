"""What a line worker knows of each of its meters, and of its line.

Values only; `poll` fills them, `overview` reads them.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from agent.metering.decode import Decoded, decode
from agent.metering.plan import Block
from agent.metering.plant import Meter, SerialSettings
from agent.metering.profile import Quantity
from agent.metering.reads import Reads
from agent.protocol.pace import Pace

TOLERATED_FAILURES = 3
"""So many failures in a row are retried at every occasion; after that a meter is only probed, at growing pauses."""
MARKS_MAX = 10

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
    reshapes: bool = True
    reads: int = 0
    failed_reads: int = 0
    last_error: str | None = None
    errors: Counter[str] = field(default_factory=Counter)
    """Failed reads since the start by kind: silent, busy, damaged, refused, other."""
    live: dict[str, LiveValue] = field(default_factory=dict)
    sampled_ns: int | None = None

    @property
    def is_dead(self) -> bool:
        """Whether it is only probed: it fell silent, or has never said anything."""
        return self.failures >= TOLERATED_FAILURES or (self.failures > 0 and self.pace.turnaround_ns is None)

    def may_be_asked(self, now_ns: int) -> bool:
        """Whether it takes part in sweeps and rounds now."""
        return now_ns >= self.retry_at_ns and not self.is_dead

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
