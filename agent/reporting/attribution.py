"""Which step a meter's energy counts for, as exact shares of the meters' own loads.

Every count belongs to exactly one step, to exact shares of steps, or to nobody (promise I7). A meter's own load is what
it registered less what its children registered, so that a sub-meter below a machine's meter is not counted twice. Both
rules are linear, so each delta can be given away on its own, in any order, and the sums come out exact. Before this
comes the descriptor in force, after it the totals of `verify` and of the platform.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.plant import Role, Share
from agent.metering.virtual import MapMeter
from agent.reporting.descriptor import Descriptor, MeterDescription

_LOADS = frozenset({Role.STEP, Role.INCOMER, Role.UTILITY, Role.OTHER})


@dataclass(frozen=True, slots=True)
class Part:
    """The exact part of a meter's delta that one step is given; `step` None is unassigned, `part` may be negative."""

    step: str | None
    part: Fraction


def attribution(descriptor: Descriptor) -> dict[str, tuple[Part, ...]]:
    """Say for each meter who is given its deltas.

    A load gives its shares to its steps and the rest to nobody, and takes as much away from its parent's. Export below
    a parent leaves it and belongs to nobody; generation below a parent adds to what the parent passes on.
    """
    meters = descriptor.by_meter()
    return {meter.meter: _parts(meter, meters.get(meter.parent or "")) for meter in descriptor.meters}


def map_meters(descriptor: Descriptor) -> tuple[MapMeter, ...]:
    """The meters of a descriptor as `agent.metering.virtual` sees them; its maps give the same as `attribution`."""
    return tuple(
        MapMeter(
            meter.meter,
            Role(meter.role),
            meter.parent,
            tuple(Share(step, Fraction(num, den)) for step, num, den in meter.steps),
        )
        for meter in descriptor.meters
    )


def _parts(meter: MeterDescription, parent: MeterDescription | None) -> tuple[Part, ...]:
    parts = list(_own(meter)) if meter.role in _LOADS else []
    if parent is not None and parent.role in _LOADS:
        sign = 1 if meter.role == Role.GENERATION else -1
        parts += [Part(part.step, sign * part.part) for part in _own(parent)]
    return _summed(parts)


def _own(meter: MeterDescription) -> Iterable[Part]:
    shares = [Part(step, Fraction(num, den)) for step, num, den in meter.steps]
    return [*shares, Part(None, 1 - sum((share.part for share in shares), Fraction(0)))]


def _summed(parts: Iterable[Part]) -> tuple[Part, ...]:
    sums: dict[str | None, Fraction] = {}
    for part in parts:
        sums[part.step] = sums.get(part.step, Fraction(0)) + part.part
    return tuple(Part(step, part) for step, part in sums.items() if part)
