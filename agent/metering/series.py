"""The registers of an unknown meter read in every way: every place in every type and word order, over some time. Pure.

What is here is seen, and not yet judged: the values of a place at every moment, how a counter rises with a power, and
how words lie beside one another in the map. `agent.metering.probe` decides what they mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.decode import NoValue, decode, resolution
from agent.metering.profile import WORDS_OF_TYPE, Register, WordType

Place = tuple[int, int]
"""Function and zero-based address."""

_TYPES = (
    (WordType.U16, (False,)),
    (WordType.S16, (False,)),
    (WordType.U32, (False, True)),
    (WordType.S32, (False, True)),
    (WordType.F32, (False, True)),
    (WordType.BCD32, (False,)),
    (WordType.U64, (False, True)),
    (WordType.S64, (False, True)),
    (WordType.F64, (False, True)),
)

_VALUE_MAX = 10**12

SPECK = Fraction(1, 10**6)
"""A float below it is no measurement, but the wrong words."""

_SAMPLING = Fraction(12, 100)
"""So far may the power between two looks be from what was seen at them, over the whole time."""

_STEPS_APART = 8
"""So many looks must lie between a counter's first and last step: each of the two is only known to one look."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All words at one moment, monotonic milliseconds."""

    at_ms: int
    words: Mapping[Place, int]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One place read in one way, at every moment."""

    place: Place
    type: WordType
    low_first: bool
    values: tuple[Fraction, ...]
    mean: Fraction

    @property
    def words(self) -> int:
        """How many it has."""
        return WORDS_OF_TYPE[self.type]

    @property
    def is_float(self) -> bool:
        """Whether its steps grow with its value."""
        return self.type in (WordType.F32, WordType.F64)

    @property
    def kind(self) -> str:
        """Its letter in the conventions of makers (`probe`): w, d, q for one, two, four words, f and F for floats."""
        if self.type is WordType.F64:
            return "F"
        return "f" if self.is_float else {1: "w", 2: "d", 4: "q"}[self.words]


@dataclass(frozen=True, slots=True)
class Slope:
    """How a counter rises with a power: Wh per count for a watt per count of power is ten to this power.

    `off` is how far the rise is from the work, as a part of it.
    """

    power_of_ten: int
    off: Fraction
    is_coarse: bool


# ------------------------------------------------------------------------------------------------------------- readings


def series_of(snapshots: Sequence[Snapshot], low_first: bool) -> Iterator[Series]:
    """Every place in every type, as far as it can be read at every moment; single words belong to both orders."""
    places = set.intersection(*(set(snapshot.words) for snapshot in snapshots))
    for function, address in sorted(places):
        for kind, orders in _TYPES:
            words = WORDS_OF_TYPE[kind]
            needed = [(function, address + at) for at in range(words)]
            if (words > 1 and low_first not in orders) or not places.issuperset(needed):
                continue
            register = register_at("any", (function, address), kind, low_first and words > 1)
            values = []
            for snapshot in snapshots:
                value = decode(register, [snapshot.words[place] for place in needed])
                if isinstance(value, NoValue | str):
                    break
                values.append(Fraction(value))
            if len(values) == len(snapshots) and _is_sane(kind, values):
                mean = sum(values, Fraction(0)) / len(values)
                yield Series((function, address), kind, low_first and words > 1, tuple(values), mean)


def _is_sane(kind: WordType, values: Sequence[Fraction]) -> bool:
    if any(abs(value) > _VALUE_MAX for value in values):
        return False
    is_float = kind in (WordType.F32, WordType.F64)
    if is_float and any(value and abs(value) < SPECK for value in values):
        return False
    # The signed type is only of interest where a value is negative; else it is the unsigned one.
    signed = kind in (WordType.S16, WordType.S32, WordType.S64)
    return not signed or any(value < 0 for value in values)


def register_at(
    name: str, place: Place, kind: WordType, low_first: bool, unit: str = "", scale: Fraction = Fraction(1)
) -> Register:
    """A register at a place, counting on the primary side, with nothing else known of it."""
    return Register(
        name=name,
        address=place[1],
        function=place[0],
        type=kind,
        words=WORDS_OF_TYPE[kind],
        low_word_first=low_first,
        unit=unit,
        per_count=scale,
        secondary=False,
        modulus_counts=None,
        invalid=frozenset(),
    )


def is_counter(one: Series) -> bool:
    """Whether it never falls and does rise."""
    steps = zip(one.values, one.values[1:], strict=False)
    return one.values[0] >= 0 and one.values[-1] > one.values[0] and all(a <= b for a, b in steps)


def rounding(one: Series, at: int) -> Fraction:
    """How far a value may be from what was measured, as a part of it."""
    return 10 * SPECK if one.is_float else Fraction(1, 2) / (abs(one.values[at]) or 1)


def decade_of(ratio: Fraction) -> int:
    """The power of ten that brings a positive ratio between 0.2 and 2."""
    power, value = 0, ratio
    while value >= 2:
        value, power = value / 10, power + 1
    while value and value < Fraction(2, 10):
        value, power = value * 10, power - 1
    return power


def distance_of(ratio: Fraction) -> Fraction:
    """How far from one, the same up and down."""
    return max(ratio, 1 / ratio) - 1


# -------------------------------------------------------------------------------------------------- how a counter rises


def slope_of(snapshots: Sequence[Snapshot], watt: Series, counter: Series) -> Slope | None:
    """How the counter rises with this power; None where the rise is not the power's at every moment."""
    work = [Fraction(0)]
    for at in range(len(snapshots) - 1):
        seconds = Fraction(snapshots[at + 1].at_ms - snapshots[at].at_ms, 1000)
        work.append(work[-1] + seconds * (watt.values[at] + watt.values[at + 1]) / 2 / 3600)
    rise = [value - counter.values[0] for value in counter.values]
    if work[-1] <= 0 or rise[-1] <= 0:
        return None
    ratio = _between_steps(rise, work) or work[-1] / rise[-1]
    near = decade_of(ratio)
    power = min((near, near + 1), key=lambda each: distance_of(ratio / Fraction(10) ** each))
    scale = Fraction(10) ** power
    shown = register_at("any", counter.place, counter.type, counter.low_first)
    step = resolution(shown, counter.values[-1])
    allowed = work[-1] * _SAMPLING + 2 * step * scale
    if any(abs(risen * scale - done) > allowed for risen, done in zip(rise, work, strict=True)):
        return None
    steps = _steps(rise)
    return Slope(power, abs(scale / ratio - 1), steps[-1] - steps[0] < _STEPS_APART)


def _steps(rise: Sequence[Fraction]) -> list[int]:
    """At which looks the counter had risen; there is one at least."""
    return [at for at in range(1, len(rise)) if rise[at] > rise[at - 1]]


def _between_steps(rise: Sequence[Fraction], work: Sequence[Fraction]) -> Fraction | None:
    """Work for a count, from the counter's first step to its last; None where it took only one.

    Whatever the counter counts in, its value is exact at the moment of a step, which lies before the look that shows it
    and after the one before.
    """
    first, *_, last = [*_steps(rise), _steps(rise)[-1]]
    risen = rise[last] - rise[first]
    done = (work[last] + work[last - 1] - work[first] - work[first - 1]) / 2
    return done / risen if risen > 0 and done > 0 else None


# ---------------------------------------------------------------------------------------------------- how maps are made


def area_begins(snapshots: Sequence[Snapshot]) -> frozenset[Place]:
    """The first place of every run of readable registers, for every place of it: parity is counted from there."""
    return frozenset(
        (function, address)
        for function, address in snapshots[0].words
        if (function, address - 1) not in snapshots[0].words
    )


def is_shifted(one: Series, begins: frozenset[Place]) -> bool:
    """Whether values of its length, laid side by side from the beginning of its area, would not end where it begins."""
    function, address = one.place
    first = max((begin for at, begin in begins if at == function and begin <= address), default=address)
    return one.words > 1 and (address - first) % min(one.words, 2) != 0


def has_zero_beside(snapshots: Sequence[Snapshot], one: Series) -> bool:
    """Whether the word before or after a single word is always zero, as the other half of a longer value would be."""
    function, address = one.place
    return any(
        all(snapshot.words.get((function, address + beside)) == 0 for snapshot in snapshots)
        for beside in (-1, 1)
    )


def has_empty_half(snapshots: Sequence[Snapshot], one: Series) -> bool:
    """Whether the upper word of a counter is always zero: read in the other order it may have a neighbour's."""
    function, address = one.place
    upper = address + one.words - 1 if one.low_first else address
    return not one.is_float and all(snapshot.words[function, upper] == 0 for snapshot in snapshots)


def is_cut_off(snapshots: Sequence[Snapshot], one: Series) -> bool:
    """Whether a counter of 32 bits has a constant word where its next higher one would be, as one of 64 bits has."""
    if one.words != 2 or one.is_float:
        return False
    function, address = one.place
    upper = (address - 2, address - 1) if not one.low_first else (address + 2, address + 3)
    return all(snapshot.words.get((function, place)) == 0 for snapshot in snapshots for place in upper)
