"""Which step every kWh belongs to: own loads, exact shares, and what no step was given.

Before this come the energies of a time by meter and the plant as wired; after it the reports by step and the balance.
Meters are nested: an incomer counts what its sub-meters count again. The *own load* of a meter is what it counted less
what its children counted; own loads add up to what the meters without a parent counted, so nothing is counted twice
and nothing is lost. A step meter's own load goes to its steps by exact shares, everything else is unassigned.
All results are exact fractions of 0.001 Wh: a third of a count stays a third.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from agent.metering.plant import Role, Share

NOT_A_LOAD = frozenset({Role.GENERATION, Role.EXPORT})
"""Meters that count energy made or sent out; they belong into the balance and into no step."""


class MappedMeter(Protocol):
    """What attribution needs to know of a meter; `plant.Meter` and the meters of a descriptor have it."""

    @property
    def id(self) -> str: ...

    @property
    def role(self) -> Role: ...

    @property
    def parent(self) -> str | None: ...

    @property
    def shares(self) -> Sequence[Share]: ...


@dataclass(frozen=True, slots=True)
class Attribution:
    """Energy by step id and the energy no step was given, both in 0.001 Wh; every step that has a meter is there."""

    steps: dict[str, Fraction]
    unassigned: Fraction


def own_loads(energy_milliwh: Mapping[str, int], meters: Iterable[MappedMeter]) -> dict[str, int]:
    """What each meter counted beyond its children, 0.001 Wh, for every meter that counts a load.

    A parent that is not among `meters` (of another gateway) subtracts nothing here. Errors of the meters can make an
    own load negative; it stays so, because the sum is right only that way.

    Raises:
        ValueError: a meter has no energy (missing is never zero), or two meters have one id.
    """
    loads = [meter for meter in meters if meter.role not in NOT_A_LOAD]
    own: dict[str, int] = {}
    for meter in loads:
        if meter.id in own:
            raise ValueError(f"two meters are called {meter.id}")
        if meter.id not in energy_milliwh:
            raise ValueError(f"{meter.id} has no energy, and missing is not zero")
        own[meter.id] = energy_milliwh[meter.id]
    for meter in loads:
        if meter.parent in own:
            own[meter.parent] -= energy_milliwh[meter.id]
    return own


def split(energy_milliwh: Mapping[str, int], meters: Sequence[MappedMeter]) -> Attribution:
    """Give each meter's own load to its steps by their shares.

    The sum over steps and unassigned is the sum of the own loads, exactly.

    Raises:
        ValueError: as `own_loads`, or the shares of a meter add up to more than one.
    """
    own = own_loads(energy_milliwh, meters)
    steps: dict[str, Fraction] = {}
    unassigned = Fraction(0)
    for meter in meters:
        if meter.id not in own:
            continue
        given = sum((share.part for share in meter.shares), Fraction(0))
        if given > 1 or any(share.part < 0 for share in meter.shares):
            raise ValueError(f"the shares of {meter.id} are not parts of one whole")
        for share in meter.shares:
            steps[share.step] = steps.get(share.step, Fraction(0)) + own[meter.id] * share.part
        unassigned += own[meter.id] * (1 - given)
    return Attribution(steps, unassigned)
