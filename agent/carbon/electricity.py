"""Electricity by step and time: flat, regional or hourly factors, and what was bought, made and sent out.

One factor for a year is enough for most reports; where the grid's mix is known by the hour, each interval counts by
its own. Both end in one figure per step and one mean factor that reproduces it exactly. Import, own generation and
export stay three figures: exports are never quietly taken off the imports.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from agent.carbon.factors import Factor, Provenance
from agent.carbon.units import DimensionError, KgCO2e, KilowattHours


@dataclass(frozen=True, slots=True)
class Series:
    """A factor that changes with time, in equal intervals without a hole; `values` are in kgCO2e per kWh."""

    id: str
    start_ms: int
    interval_ms: int
    values: tuple[Fraction, ...]
    provenance: Provenance

    @classmethod
    def of(cls, id: str, points: Sequence[tuple[int, Fraction]], provenance: Provenance) -> "Series":
        """A series of points (start of the interval in UTC Unix ms, value), at least two of them.

        Raises:
            ValueError: fewer than two, intervals that are not equal (one is missing), or a negative value.
        """
        if len(points) < 2:
            raise ValueError(f"{id}: a series has at least two intervals")
        interval_ms = points[1][0] - points[0][0]
        for (earlier, _), (later, _) in pairwise(points):
            if later - earlier != interval_ms or interval_ms <= 0:
                raise ValueError(
                    f"{id}: after {earlier} ms comes {later} ms; an interval is missing or out of order"
                )
        if any(value < 0 for _, value in points):
            raise ValueError(f"{id}: a factor is negative")
        return cls(id, points[0][0], interval_ms, tuple(value for _, value in points), provenance)

    def at(self, at_ms: int) -> Fraction:
        """The value that holds from a time on.

        Raises:
            LookupError: before the first or after the last interval; a factor is never stretched.
        """
        place = (at_ms - self.start_ms) // self.interval_ms
        if not 0 <= place < len(self.values):
            raise LookupError(f"{self.id} has no value for {at_ms} ms")
        return self.values[place]


def mean_factor(
    id: str, parts: Iterable[tuple[KilowattHours, Fraction]], provenance: Provenance
) -> Factor | None:
    """The one factor that gives what all parts emit together: sum(kWh x value) / sum(kWh).

    None where the kWh are zero in all: there is nothing to divide by, and nothing to count unless the parts cancel.

    Raises:
        DimensionError: the parts cancel to zero kWh, but not to zero emission.
    """
    kwh, emission = Fraction(0), Fraction(0)
    for amount, value in parts:
        kwh += amount.value
        emission += amount.value * value
    if not kwh:
        if emission:
            raise DimensionError(f"{id}: positive and negative kWh cancel, their emission does not")
        return None
    return Factor(id, emission / kwh, KgCO2e, KilowattHours, provenance)


@dataclass(frozen=True, slots=True)
class Supply:
    """What came into a factory, what it made itself and what it sent out, in kWh >= 0, kept apart."""

    imported: KilowattHours
    generated: KilowattHours
    exported: KilowattHours

    @property
    def net_purchased(self) -> KilowattHours:
        """Import less export; negative for a factory that sends out more than it takes."""
        return self.imported - self.exported

    @property
    def consumed(self) -> KilowattHours:
        """What was used inside: import and own generation, less what left."""
        return self.imported + self.generated - self.exported

    @property
    def self_used(self) -> KilowattHours:
        """Own generation that was used inside, where what was sent out is taken to be own generation first."""
        return self.generated - self.exported

    def mixed(self, grid: Factor, own: Factor) -> Factor | None:
        """The mean factor of what was used inside: import by the grid's factor, own generation by its own.

        None where nothing was used.

        Raises:
            DimensionError: a factor is not in kgCO2e per kWh, or more was sent out than was made, so that nobody can
                say which kWh left.
        """
        for factor in (grid, own):
            if factor.per is not KilowattHours or factor.gas is not KgCO2e:
                raise DimensionError(f"{factor.id} is in {factor.unit}, not in kgCO2e/kWh")
        if self.self_used.value < 0:
            raise DimensionError("more was sent out than was made; which kWh left cannot be said")
        parts = [(self.imported, grid.value), (self.self_used, own.value)]
        primary = grid.provenance.primary and own.provenance.primary
        return mean_factor(f"{grid.id}+{own.id}", parts, replace(grid.provenance, primary=primary))
