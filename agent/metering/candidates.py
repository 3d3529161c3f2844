"""Which series of an unknown meter may be a voltage, a current or a power: candidates, by physics alone. Pure.

A phase voltage hardly moves near 230 V (or 120 V); currents and powers move together, with the load; P is the sum of
U I cos phi with cos phi between 0.5 and 1. What each of them is called here is only a possibility: `probe` puts one of
each together with a counter and judges the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.profile import WordType
from agent.metering.series import Place, Series, decade_of, rounding

INTEGER_SCALES = (Fraction(1, 10), Fraction(1, 100), Fraction(1, 1000), Fraction(1))
"""V for a count of voltage and Hz for one of frequency, as integers are scaled; then as floats are."""
FLOAT_SCALES = (Fraction(1), Fraction(1, 10))
_STRIDE_MAX = 16
FACTOR_MIN, FACTOR_MAX = Fraction(1, 2), Fraction(101, 100)
"""Between these lies cos phi of a load, and a little more for what was rounded."""


@dataclass(frozen=True, slots=True)
class Group:
    """A quantity of one or three phases, and the scale that makes it one."""

    phases: tuple[Series, ...]
    scale: Fraction

    @property
    def stride(self) -> int:
        """How many registers lie from one phase to the next; 0 where there is one."""
        return self.phases[1].place[1] - self.phases[0].place[1] if len(self.phases) > 1 else 0


def voltages(series: list[Series]) -> Iterator[Group]:
    """Three voltages at equal steps, or one."""
    ways: dict[tuple[WordType, bool, Fraction], dict[Place, Series]] = {}
    for one in series:
        for scale in FLOAT_SCALES if one.is_float else INTEGER_SCALES:
            if all(_is_phase_voltage(value * scale) for value in one.values):
                ways.setdefault((one.type, one.low_first, scale), {})[one.place] = one
    for (_, _, scale), found in ways.items():
        for (function, address), first in found.items():
            threes = [
                Group((first, found[function, address + step], found[function, address + 2 * step]), scale)
                for step in range(first.words, _STRIDE_MAX + 1)
                if (function, address + step) in found and (function, address + 2 * step) in found
            ]
            yield from threes[:2]
            yield Group((first,), scale)


def _is_phase_voltage(volt: Fraction) -> bool:
    return 195 <= volt <= 265 or 105 <= volt <= 132


def moving_together(series: list[Series]) -> list[list[Series]]:
    """What rises and falls together, in families; one of them follows the load."""
    shapes: list[tuple[tuple[Fraction, ...], list[Series]]] = []
    for one in series:
        mean = abs(one.mean)
        if not mean or one.type in (WordType.U64, WordType.S64, WordType.F64, WordType.BCD32):
            continue
        if max(one.values) - min(one.values) < mean / 20 or min(one.values) < 0 < max(one.values):
            continue
        shape = tuple(abs(value) / mean for value in one.values)
        for known, family in shapes:
            if all(abs(a - b) <= Fraction(6, 100) for a, b in zip(shape, known, strict=True)):
                family.append(one)
                break
        else:
            shapes.append((shape, [one]))
    return [family for _, family in shapes if len(family) > 1]


def currents(voltage: Group, moving: list[Series]) -> Iterator[Group]:
    """Currents of the same number of phases, of the same make as the voltages where there are three."""
    if len(voltage.phases) == 1:
        yield from (Group((one,), Fraction(1)) for one in moving)
        return
    at = {(one.place, one.type, one.low_first): one for one in moving}
    for one in moving:
        # A wider current beside a narrower voltage has a wider step.
        for step in dict.fromkeys((voltage.stride, one.words)):
            function, address = one.place
            others = [
                at.get(((function, address + times * step), one.type, one.low_first)) for times in (1, 2)
            ]
            phases = [one, *(other for other in others if other is not None)]
            if len(phases) == 3 and step >= one.words:
                yield Group(tuple(phases), Fraction(1))


def powers(voltage: Group, current: Group, moving: list[Series]) -> Iterator[tuple[Series, Fraction]]:
    """The series that are U I cos phi, and their cos phi."""
    apparent = apparent_counts(voltage, current)
    inside = {phase.place for phase in current.phases}
    for one in moving:
        if one.place in inside or one.mean <= 0:
            continue
        decade = Fraction(10) ** decade_of(one.values[0] / apparent[0])
        low, high = FACTOR_MIN * decade, FACTOR_MAX * decade
        if all(low * of <= value <= high * of for value, of in zip(one.values, apparent, strict=True)):
            yield one, sum(one.values, Fraction(0)) / sum(apparent, Fraction(0)) / decade


def is_kin(one: Series, other: Series) -> bool:
    """Whether two are of one make: the same type in the same word order."""
    return one.type == other.type and one.low_first == other.low_first


def apparent_counts(voltage: Group, current: Group) -> list[Fraction]:
    """The sum of U I at each moment, in V times counts of current; 1 where there was none."""
    moments = range(len(voltage.phases[0].values))
    return [
        sum(
            (
                volt.values[at] * voltage.scale * abs(ampere.values[at])
                for volt, ampere in zip(voltage.phases, current.phases, strict=True)
            ),
            Fraction(0),
        )
        or Fraction(1)
        for at in moments
    ]


def is_exact(voltage: Group, current: Group, watt: Series) -> bool:
    """Whether power is U I at one cos phi, but for the rounding of what is shown."""
    apparent = apparent_counts(voltage, current)
    ratio = sum(watt.values, Fraction(0)) / sum(apparent, Fraction(0))
    for at, of in enumerate(apparent):
        rounded = sum(
            max(rounding(one, at) for one in group) for group in ((watt,), voltage.phases, current.phases)
        )
        if abs(watt.values[at] / (of * ratio) - 1) > rounded:
            return False
    return True


def are_similar(one: Series, other: Series) -> bool:
    """Whether neither is more than twice the other, as phases of one load mostly are."""
    return abs(other.mean) <= 2 * abs(one.mean) and abs(one.mean) <= 2 * abs(other.mean)


def is_mains(hertz: Fraction) -> bool:
    """Whether this is the frequency of a mains."""
    return 49 <= hertz <= 51 or 59 <= hertz <= 61
