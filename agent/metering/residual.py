"""Whether a meter and the meters behind it agree: what came in, what was counted further on, and what is left.

Before this come the energies of a period by meter and the `parent` of each, after it the command `balance`. What came
into a node is what its parent meter counted, more what is generated there, less what is sent out; what the other
meters behind it counted goes off that. What is left, the residual, is load that nobody meters, losses, and the errors
of all these meters. It keeps its sign: below zero the meters behind counted more than came in, which is no physics
but a wrong ratio, a meter at the wrong place, or the meters' errors.

How much the errors can be is told by the accuracy classes (IEC 62053: percent of the energy; MID's A, B, C likewise),
added up, not squared: classes are limits, and the transformers of a panel err together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from agent.metering.plant import Role

ASSUMED_CLASS = "2"
"""A meter whose class nobody states is taken for the coarsest of the usual ones."""
_MID_CLASSES = {"A": Fraction(2), "B": Fraction(1), "C": Fraction(1, 2), "D": Fraction(1, 5)}


class Verdict(StrEnum):
    """What a residual means."""

    AGREES = "agrees"
    UNMETERED = "unmetered"
    """More came in than is counted behind: a load without a meter, or losses."""
    IMPOSSIBLE = "impossible"
    """More is counted behind than came in, beyond what the classes allow."""
    INCOMPLETE = "incomplete"
    """A meter has no energy in the period; missing is not zero."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one meter counted in the period.

    `from_ms` and `to_ms` are the times of its first and last register in it (UTC Unix ms), `step_milliwh` one step of
    its register. `accuracy_class` and `ct_class` are as a site file has them, None where unknown.
    """

    meter: str
    role: Role
    parent: str | None
    energy_milliwh: int
    from_ms: int
    to_ms: int
    step_milliwh: int
    accuracy_class: str | None
    ct_class: str | None


@dataclass(frozen=True, slots=True)
class Residual:
    """One node: the parent meter, the meters behind it, what is left of 0.001 Wh, and how much errors can explain."""

    parent: str
    behind: tuple[str, ...]
    inflow_milliwh: int
    counted_milliwh: int
    tolerance_milliwh: int
    lacking: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def residual_milliwh(self) -> int:
        """What came in less what was counted behind; signed."""
        return self.inflow_milliwh - self.counted_milliwh

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        if self.lacking:
            return Verdict.INCOMPLETE
        if self.residual_milliwh < -self.tolerance_milliwh:
            return Verdict.IMPOSSIBLE
        return Verdict.UNMETERED if self.residual_milliwh > self.tolerance_milliwh else Verdict.AGREES


def percent_of_class(text: str | None) -> Fraction | None:
    """An accuracy class as percent: "1", "0.5S", "B"; None where it is unknown or no class."""
    if text is None:
        return None
    bare = text.strip().upper()
    if bare in _MID_CLASSES:
        return _MID_CLASSES[bare]
    digits = bare.removesuffix("S")
    if not digits.replace(".", "", 1).isdecimal():
        return None
    return Fraction(digits)


def residuals(counted: Mapping[str, Counted], children: Mapping[str, Sequence[str]]) -> list[Residual]:
    """One residual for each meter that has others behind it, in the order of `children`.

    Args:
        counted: the meters that have energy in the period.
        children: by parent, the meters of this gateway that stand behind it.
    """
    return [_residual(parent, tuple(behind), counted) for parent, behind in children.items() if behind]


def _residual(parent: str, behind: tuple[str, ...], counted: Mapping[str, Counted]) -> Residual:
    lacking = tuple(id for id in (parent, *behind) if id not in counted)
    known = [counted[id] for id in behind if id in counted]
    into = counted[parent].energy_milliwh if parent in counted else 0
    exported = sum(each.energy_milliwh for each in known if each.role is Role.EXPORT)
    generated = sum(each.energy_milliwh for each in known if each.role is Role.GENERATION)
    loads = sum(each.energy_milliwh for each in known if each.role not in (Role.EXPORT, Role.GENERATION))
    all_of_them = [*known, *([counted[parent]] if parent in counted else [])]
    tolerance = sum((_error(each) + _skew(each, all_of_them) for each in all_of_them), Fraction(0))
    assumed = tuple(each.meter for each in all_of_them if percent_of_class(each.accuracy_class) is None)
    return Residual(parent, behind, into + generated - exported, loads, -(-tolerance // 1), lacking, assumed)


def _error(each: Counted) -> Fraction:
    """By how much one meter can be wrong: its classes, and one step at either end."""
    own = percent_of_class(each.accuracy_class) or percent_of_class(ASSUMED_CLASS) or Fraction(0)
    behind = percent_of_class(each.ct_class) or Fraction(0)
    return abs(each.energy_milliwh) * (own + behind) / 100 + 2 * each.step_milliwh


def _skew(each: Counted, others: Sequence[Counted]) -> Fraction:
    """What it may have counted in the time by which its first and last reading differ from those of the others."""
    length_ms = each.to_ms - each.from_ms
    if length_ms <= 0:
        return Fraction(0)
    first, last = min(one.from_ms for one in others), max(one.to_ms for one in others)
    apart_ms = (each.from_ms - first) + (last - each.to_ms)
    return Fraction(abs(each.energy_milliwh) * apart_ms, length_ms)
