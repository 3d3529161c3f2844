"""What the gates are asked about, and what they answer: the values between a cut, `deciding` and `close`.

A cut holds samples; each is taken to be a sound reading or is refused; a sound reading goes on from the ledger's
position, is held, or is evidence of a new epoch. Nothing here decides anything.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction

from agent.metering.interval import Moment
from agent.metering.ledger import Basis, Point
from agent.metering.memory import Fingerprint, Memory, Order, Pending
from agent.metering.quantity import to_milliwh
from agent.metering.standstill import Standstill
from agent.reporting.event import Event

AGENT = "agent"
"""Who says that an epoch changes where no person does."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sweep read of one meter's energy register.

    `serial` is the number the meter gave on this connection, None where it cannot be read. `retried` says that the
    first try failed. `fingerprint` are the words of the registers that change what the energy register means, as they
    were read since the last event of the line; None for one that the meter does not have. `power_w` is what it last
    said flows through it, None where it was not asked of late. `when` is what is known of the time beside `at_ms`.
    """

    meter: str
    words: tuple[int, ...]
    at_ms: int
    serial: str | None
    retried: bool
    fingerprint: Fingerprint = ()
    power_w: Fraction | None = None
    when: Moment | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """All that was read for one boundary, or for a start or stop, and how the wall clock was set since the last.

    `is_last` says that the agent stops after it. `coarse_ms` is how long the interval was made under disk pressure, 0
    where it has the set length. `asked_again` are the meters that were asked READS times right one after the other;
    their samples come in that order, and some may have failed.
    """

    cut_ms: int
    samples: tuple[Sample, ...]
    clock_steps_ms: tuple[int, ...] = ()
    is_last: bool = False
    coarse_ms: int = 0
    asked_again: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Again:
    """The meters that are to be read again at once, READS - 1 times.

    `odd` are those whose register fell, rose as it hardly can, or was not seen for long: another meter may hang there
    since. Of the `new` ones nothing is known but who they just said they are.
    """

    odd: frozenset[str] = frozenset()
    new: frozenset[str] = frozenset()

    @property
    def meters(self) -> frozenset[str]:
        """All of them."""
        return self.odd | self.new


@dataclass(frozen=True, slots=True)
class Sound:
    """One sample that can be a register: its exact counts, and the point it is on the basis of the present site."""

    sample: Sample
    counts: int | Fraction
    point: Point

    def on(self, basis: Basis) -> Point:
        """The same reading as registers of another basis would have it; nearly always that is its own."""
        own = self.point.basis
        if (basis.per_count_milliwh, basis.modulus_milliwh) == (own.per_count_milliwh, own.modulus_milliwh):
            return self.point
        register = to_milliwh(self.counts, basis.per_count_milliwh)
        kept = replace(basis, serial=self.point.basis.serial)
        return replace(self.point, register_milliwh=register, basis=kept)

    def flagged(self, *flags: str) -> "Sound":
        """The same with more quality flags."""
        return replace(self, point=replace(self.point, flags=self.point.flags | frozenset(flags)))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sample that is not booked, and why."""

    sample: Sample
    kind: str
    reason: str
    register_milliwh: int | None = None


@dataclass(frozen=True, slots=True)
class Beginning:
    """Readings that are evidence of a new epoch, oldest first.

    `by` is who says so. `bound_milliwh` is the most energy that the hole before it can hide where more is known than
    the power of the circuit and the time; None otherwise.
    """

    readings: tuple[Sound, ...]
    reason: str
    by: str = AGENT
    bound_milliwh: int | None = None


Decision = Sound | Refusal | Beginning


@dataclass(slots=True)
class Findings:
    """What was decided about a cut, and what has to be kept of it."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    """What has to be remembered from now on, of the meters of which it changed."""
    doubts: dict[str, tuple[Pending, ...]] = field(default_factory=dict)
    """Readings that wait, of the meters of which that changed."""
    standstills: dict[str, Standstill] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    """What is said of readings that are booked all the same, by meter."""
    done: list[Order] = field(default_factory=list)
    """Orders that were carried out."""
    events: list[Event] = field(default_factory=list)


def sample_of(decision: Decision) -> Sample:
    """The newest sample that was decided about."""
    match decision:
        case Sound() | Refusal():
            return decision.sample
        case Beginning(readings):
            return readings[-1].sample
