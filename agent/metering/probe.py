"""What the registers of an unknown meter mean, judged by physics alone. Pure, integers and exact fractions.

Given is what all readable registers showed at several moments. Every place is read in every type and both word orders,
from even and from odd addresses, and held against what must be true of a meter on a mains:

- a frequency is 50 (or 60) Hz and a phase voltage near 230 V (or 120 V), and neither moves much;
- currents and powers move together, with the load, and P = sum of U I cos phi with cos phi between 0.5 and 1;
- the energy counter never falls, and its rise is the power times the time, measured from one of its steps to another:
  a meter that counts in 100 Wh is watched until that is exact enough (`wants_more`), for its counter of reactive energy
  rises almost alike;
- a map is made of one kind: one word order, registers side by side in steps of their length, from the beginning of an
  area that can be read.

These fix everything except one factor of ten that current, power and energy share: nothing in a meter says whether it
counts 5 A in 0.01 A or 50 A in 0.1 A. It is taken from how the makers of the known meters combine their scales, and one
look at the display decides it (`display_kwh`).

Comes after `agent.protocol.explore`, which reads; after it a person, who compares with the display.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from agent.metering.decode import NoValue, decode, resolution
from agent.metering.profile import WORDS_OF_TYPE, Register, WordType

Place = tuple[int, int]
"""Function and zero-based address."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All words at one moment, monotonic milliseconds."""

    at_ms: int
    words: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class Draft:
    """One way to understand the map; `registers` by their names in a profile, `score` only compares.

    `display_kwh` is what the energy register shows now, to be compared with the meter's display. `is_coarse` says that
    its counter took too few steps to tell it from others that rise almost alike.
    """

    registers: Mapping[str, Register]
    score: int
    display_kwh: Fraction
    reasons: tuple[str, ...]
    is_coarse: bool = False

    @property
    def low_word_first(self) -> bool:
        """The word order of its counter."""
        return self.registers["energy_import"].low_word_first


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """One place read in one way, at every moment."""

    place: Place
    type: WordType
    low_first: bool
    values: tuple[Fraction, ...]
    mean: Fraction

    @property
    def words(self) -> int:
        return WORDS_OF_TYPE[self.type]

    @property
    def is_float(self) -> bool:
        return self.type in (WordType.F32, WordType.F64)

    @property
    def kind(self) -> str:
        """Its letter in `_CONVENTIONS`."""
        if self.type is WordType.F64:
            return "F"
        return "f" if self.is_float else {1: "w", 2: "d", 4: "q"}[self.words]


@dataclass(slots=True)
class _Evidence:
    """What was seen, and what is asked of it again and again."""

    snapshots: Sequence[Snapshot]
    series: list[_Series]
    begins: frozenset[Place]
    factors: list[Fraction]
    display_kwh: Fraction | None
    slopes: "dict[tuple[_Series, _Series], _Slope | None]" = field(default_factory=dict)
    sums: "dict[_Series, bool]" = field(default_factory=dict)
    mains: "dict[str, tuple[_Series, Fraction] | None]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Slope:
    """How a counter rises with a power: Wh per count for a watt per count of power is ten to this power.

    `off` is how far the rise is from the work, as a part of it.
    """

    power_of_ten: int
    off: Fraction
    is_coarse: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """A quantity of one or three phases, and the scale that makes it one."""

    phases: tuple[_Series, ...]
    scale: Fraction

    @property
    def stride(self) -> int:
        return self.phases[1].place[1] - self.phases[0].place[1] if len(self.phases) > 1 else 0


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
_COUNTERS = (
    *(WordType.U32, WordType.S32, WordType.F32, WordType.BCD32, WordType.U64, WordType.S64, WordType.F64),
)
_INTEGER_SCALES = (Fraction(1, 10), Fraction(1, 100), Fraction(1, 1000), Fraction(1))
_FLOAT_SCALES = (Fraction(1), Fraction(1, 10))
_STRIDE_MAX = 16
_VALUE_MAX = 10**12
_SAMPLING = Fraction(12, 100)
"""So far may the power between two looks be from what was seen at them, over the whole time."""
_STEPS_APART = 8
"""So many looks must lie between a counter's first and last step: each of the two is only known to one look."""
_FACTOR_MIN, _FACTOR_MAX = Fraction(1, 2), Fraction(101, 100)
_FACTOR_USUAL = Fraction(7, 10)
_FACTOR_OFF = Fraction(15, 1000)
_ROUNDED_OFF = 2
"""So many counts may three rounded numbers and their rounded sum be apart."""
_APPARENT_FROM = Fraction(995, 1000)
_KWH_MIN, _KWH_MAX = Fraction(1, 10), 10**7
_SPECK = Fraction(1, 10**6)

_CONVENTIONS: tuple[tuple[int, str, str, str, str, str], ...] = (
    (9, "ffff", "1", "1", "1", "1"),
    (8, "ffff", "1", "1", "1", "1000"),
    (7, "ffff", "1", "1", "1000", "1000"),
    (7, "fffq", "1", "1", "1000", "1"),
    (6, "dddd", "1/10", "1/1000", "1/10", "100"),
    (5, "dddq", "1/10", "1/100", "1/100", "10"),
    (4, "wwwd", "1/10", "1/100", "1", "10"),
    (4, "dddd", "1/100", "1/1000", "10", "10"),
    (3, "wwdd", "1/10", "1/100", "1", "10"),
    (3, "fffF", "1", "1", "1", "1"),
    (2, "fffF", "1", "1", "1000", "1000"),
    (2, "ffff", "1/10", "1/1000", "1/10", "1000"),
    (2, "dddd", "1/1000", "1/1000", "1", "10"),
    (1, "fffd", "1", "1", "1", "100"),
    (1, "dddd", "1/100", "1/10000", "1/100", "1"),
    (1, "dddd", "1/100", "1/1000", "10", "1000"),
    (1, "wddd", "1/100", "1/1000", "10", "1000"),
    (1, "wddd", "1/100", "1/1000", "1", "10"),
    (1, "wwwd", "1/10", "1/10", "1", "1"),
    (1, "dddq", "1/100", "1/10000", "1/100", "10"),
    (1, "dddd", "1/100", "1/1000", "1/10", "1"),
    (1, "wwwd", "1", "1/10", "10", "10"),
    (1, "dddd", "1/100", "1/100", "1", "10"),
    (1, "dddd", "1/10", "1/100", "1/100", "10"),
    (1, "wddd", "1/10", "1/1000", "1/10", "1"),
)
"""How many models of the meter notes combine types (voltage, current, power, energy) and scales (V, A, W, Wh) so."""


def _usual() -> dict[tuple[Fraction, ...], list[tuple[int, str]]]:
    found: dict[tuple[Fraction, ...], list[tuple[int, str]]] = {}
    for count, types, *scales in _CONVENTIONS:
        found.setdefault(tuple(Fraction(scale) for scale in scales), []).append((count, types))
    return found


_USUAL = _usual()


def rank(snapshots: Sequence[Snapshot], *, display_kwh: Fraction | None = None) -> tuple[Draft, ...]:
    """The ways to understand the map, best first; empty where nothing fits.

    Args:
        snapshots: three or more, at least some seconds apart, with a load that changes in between.
        display_kwh: what the meter's display shows, where somebody has looked.
    """
    if len(snapshots) < 3:
        raise ValueError("physics needs three moments or more")
    drafts: list[Draft] = []
    for low_first in (False, True):
        drafts += _drafts(list(_series(snapshots, low_first)), snapshots, display_kwh)
    return tuple(sorted(drafts, key=lambda draft: -draft.score))


def wants_more(snapshots: Sequence[Snapshot], drafts: Sequence[Draft]) -> bool:
    """Whether watching for longer would tell more: the load moves, and no counter took enough steps yet."""
    if drafts:
        return drafts[0].is_coarse
    return len(snapshots) > 1 and any(
        bool(list(_voltages(series)) and _moving_together(series))
        for series in (list(_series(snapshots, low_first)) for low_first in (False, True))
    )


# ------------------------------------------------------------------------------------------------------------- readings


def _series(snapshots: Sequence[Snapshot], low_first: bool) -> Iterator[_Series]:
    """Every place in every type, as far as it can be read at every moment; single words belong to both orders."""
    places = set.intersection(*(set(snapshot.words) for snapshot in snapshots))
    for function, address in sorted(places):
        for kind, orders in _TYPES:
            words = WORDS_OF_TYPE[kind]
            needed = [(function, address + at) for at in range(words)]
            if (words > 1 and low_first not in orders) or not places.issuperset(needed):
                continue
            register = _register("any", (function, address), kind, low_first and words > 1)
            values = []
            for snapshot in snapshots:
                value = decode(register, [snapshot.words[place] for place in needed])
                if isinstance(value, NoValue | str):
                    break
                values.append(Fraction(value))
            if len(values) == len(snapshots) and _is_sane(kind, values):
                mean = sum(values, Fraction(0)) / len(values)
                yield _Series((function, address), kind, low_first and words > 1, tuple(values), mean)


def _is_sane(kind: WordType, values: Sequence[Fraction]) -> bool:
    if any(abs(value) > _VALUE_MAX for value in values):
        return False
    is_float = kind in (WordType.F32, WordType.F64)
    if is_float and any(value and abs(value) < _SPECK for value in values):
        return False
    # The signed type is only of interest where a value is negative; else it is the unsigned one.
    signed = kind in (WordType.S16, WordType.S32, WordType.S64)
    return not signed or any(value < 0 for value in values)


def _register(
    name: str, place: Place, kind: WordType, low_first: bool, unit: str = "", scale: Fraction = Fraction(1)
) -> Register:
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


# --------------------------------------------------------------------------------------------------------------- drafts


def _drafts(
    series: list[_Series], snapshots: Sequence[Snapshot], display_kwh: Fraction | None
) -> list[Draft]:
    seen = _Evidence(snapshots, series, _area_begins(snapshots), _factors(series), display_kwh)
    families = _moving_together(series)
    counters = [one for one in series if one.type in _COUNTERS and _counts(one)]
    best: dict[tuple[Place, WordType, bool, Fraction], Draft] = {}
    for voltage, moving in product(_voltages(series), families):
        for current in _currents(voltage, moving):
            for power in _powers(voltage, current, moving):
                for counter in counters:
                    draft = _draft(seen, voltage, current, power, counter)
                    if draft is None:
                        continue
                    energy = draft.registers["energy_import"]
                    key = (
                        (energy.function, energy.address),
                        energy.type,
                        energy.low_word_first,
                        energy.per_count,
                    )
                    if key not in best or best[key].score < draft.score:
                        best[key] = draft
    return list(best.values())


def _voltages(series: list[_Series]) -> Iterator[_Group]:
    """Three voltages at equal steps, or one."""
    ways: dict[tuple[WordType, bool, Fraction], dict[Place, _Series]] = {}
    for one in series:
        for scale in _FLOAT_SCALES if one.is_float else _INTEGER_SCALES:
            if all(_is_phase_voltage(value * scale) for value in one.values):
                ways.setdefault((one.type, one.low_first, scale), {})[one.place] = one
    for (_, _, scale), found in ways.items():
        for (function, address), first in found.items():
            threes = [
                _Group((first, found[function, address + step], found[function, address + 2 * step]), scale)
                for step in range(first.words, _STRIDE_MAX + 1)
                if (function, address + step) in found and (function, address + 2 * step) in found
            ]
            yield from threes[:2]
            yield _Group((first,), scale)


def _is_phase_voltage(volt: Fraction) -> bool:
    return 195 <= volt <= 265 or 105 <= volt <= 132


def _moving_together(series: list[_Series]) -> list[list[_Series]]:
    """What rises and falls together, in families; one of them follows the load."""
    shapes: list[tuple[tuple[Fraction, ...], list[_Series]]] = []
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


def _currents(voltage: _Group, moving: list[_Series]) -> Iterator[_Group]:
    """Currents of the same number of phases, of the same make as the voltages where there are three."""
    if len(voltage.phases) == 1:
        yield from (_Group((one,), Fraction(1)) for one in moving)
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
                yield _Group(tuple(phases), Fraction(1))


def _powers(voltage: _Group, current: _Group, moving: list[_Series]) -> Iterator[tuple[_Series, Fraction]]:
    """The series that are U I cos phi, and their cos phi."""
    apparent = _apparent(voltage, current)
    inside = {phase.place for phase in current.phases}
    for one in moving:
        if one.place in inside or one.mean <= 0:
            continue
        decade = Fraction(10) ** _decade(one.values[0] / apparent[0])
        low, high = _FACTOR_MIN * decade, _FACTOR_MAX * decade
        if all(low * of <= value <= high * of for value, of in zip(one.values, apparent, strict=True)):
            yield one, sum(one.values, Fraction(0)) / sum(apparent, Fraction(0)) / decade


def _is_kin(one: _Series, other: _Series) -> bool:
    return one.type == other.type and one.low_first == other.low_first


def _apparent(voltage: _Group, current: _Group) -> list[Fraction]:
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


def _is_exact(voltage: _Group, current: _Group, watt: _Series) -> bool:
    """Whether power is U I at one cos phi, but for the rounding of what is shown."""
    apparent = _apparent(voltage, current)
    ratio = sum(watt.values, Fraction(0)) / sum(apparent, Fraction(0))
    for at, of in enumerate(apparent):
        rounded = sum(
            max(_rounding(one, at) for one in group) for group in ((watt,), voltage.phases, current.phases)
        )
        if abs(watt.values[at] / (of * ratio) - 1) > rounded:
            return False
    return True


def _rounding(one: _Series, at: int) -> Fraction:
    """How far a value may be from what was measured, as a part of it."""
    return 10 * _SPECK if one.is_float else Fraction(1, 2) / (abs(one.values[at]) or 1)


def _decade(ratio: Fraction) -> int:
    """The power of ten that brings a positive ratio between 0.2 and 2."""
    power, value = 0, ratio
    while value >= 2:
        value, power = value / 10, power + 1
    while value and value < Fraction(2, 10):
        value, power = value * 10, power - 1
    return power


def _counts(one: _Series) -> bool:
    """Whether it never falls and does rise."""
    steps = zip(one.values, one.values[1:], strict=False)
    return one.values[0] >= 0 and one.values[-1] > one.values[0] and all(a <= b for a, b in steps)


# -------------------------------------------------------------------------------------------------------------- a draft


def _draft(
    seen: _Evidence,
    voltage: _Group,
    current: _Group,
    power: tuple[_Series, Fraction],
    counter: _Series,
) -> Draft | None:
    """One complete understanding with its best scales; None where the counter does not count this power."""
    watt, factor = power
    if (watt, counter) not in seen.slopes:
        seen.slopes[watt, counter] = _slope(seen.snapshots, watt, counter)
    slope = seen.slopes[watt, counter]
    if slope is None:
        return None
    apparent = sum(_apparent(voltage, current), Fraction(0)) / len(seen.snapshots)
    # W per count of power for an ampere per count of current, and Wh per count of energy for a watt per count.
    watt_per = Fraction(10) ** -_decade(watt.mean / apparent)
    energy_per = Fraction(10) ** slope.power_of_ten
    choice = _best_scales(voltage, current, watt, counter, watt_per, energy_per, seen.display_kwh)
    if choice is None:
        return None
    prior, ampere_scale, watt_scale, energy_scale = choice
    shown_kwh = counter.values[-1] * energy_scale / 1000
    score = prior - min(20, round(slope.off * 100)) + _make(seen, voltage, current, watt, counter)
    score += 8 if any(abs(factor - shown) <= _FACTOR_OFF for shown in seen.factors) else 0
    if len(voltage.phases) == 3:
        if watt not in seen.sums:
            seen.sums[watt] = _is_sum_of_phases(seen.series, watt)
        score += 8 if seen.sums[watt] else 0
    # Reactive power moves like the load too, and stands beside U as I does, but only U I is exact at every moment.
    score -= 4 if factor < _FACTOR_USUAL else 0
    score += 6 if _is_exact(voltage, current, watt) else 0
    # Apparent power is in many maps too: U I itself, never below it, and counted by no ordinary energy register.
    score += 6 if factor < _APPARENT_FROM else 0
    score -= 0 if _KWH_MIN <= shown_kwh <= _KWH_MAX else 25
    # Whoever counts in decimal digits is rare, and until a digit is above nine both readings fit.
    score -= 2 if counter.type is WordType.BCD32 else 0
    frequency = _frequency(seen, counter)
    score += 0 if frequency is None else 8
    registers = _registers(voltage, current, watt, counter, frequency, ampere_scale, watt_scale, energy_scale)
    reasons = (
        f"voltage {_rounded(voltage.phases[0].mean * voltage.scale)} V",
        f"power factor {_rounded(factor * 100)} %",
        f"power {_rounded(watt.mean * watt_scale)} W, and the counter rises with it",
    )
    return Draft(registers, score, shown_kwh, reasons, slope.is_coarse)


def _make(seen: _Evidence, voltage: _Group, current: _Group, watt: _Series, counter: _Series) -> int:
    """How much these registers look like one map that somebody made."""
    used = [*voltage.phases, *current.phases, watt, counter]
    score = 30 if len(voltage.phases) == 3 else 0
    score += 4 if _is_kin(watt, current.phases[0]) else 0
    score += 6 if current.stride == current.phases[0].words else 0
    score -= 3 if _is_preceded(seen.series, current) else 0
    score -= 10 if not all(_similar(one, current.phases[0]) for one in current.phases) else 0
    if all(one.words > 1 for one in used):
        score -= 12 * sum(_is_shifted(one, seen.begins) for one in used)
    score -= 5 * (len({one.type for one in (voltage.phases[0], current.phases[0], watt)}) - 1)
    # Three single words side by side cannot be halves of longer values.
    beside = {id(one) for group in (voltage, current) if group.stride == 1 for one in group.phases}
    halves = [one for one in used if one.words == 1 and id(one) not in beside]
    score -= 13 * sum(1 for one in halves if _has_zero_beside(seen.snapshots, one))
    score -= 4 * _has_empty_half(seen.snapshots, counter)
    return score - 3 * _is_cut_off(seen.snapshots, counter)


def _slope(snapshots: Sequence[Snapshot], watt: _Series, counter: _Series) -> _Slope | None:
    """How the counter rises with this power; None where the rise is not the power's at every moment."""
    work = [Fraction(0)]
    for at in range(len(snapshots) - 1):
        seconds = Fraction(snapshots[at + 1].at_ms - snapshots[at].at_ms, 1000)
        work.append(work[-1] + seconds * (watt.values[at] + watt.values[at + 1]) / 2 / 3600)
    rise = [value - counter.values[0] for value in counter.values]
    if work[-1] <= 0 or rise[-1] <= 0:
        return None
    ratio = _between_steps(rise, work) or work[-1] / rise[-1]
    near = _decade(ratio)
    power = min((near, near + 1), key=lambda each: _distance(ratio / Fraction(10) ** each))
    scale = Fraction(10) ** power
    shown = _register("any", counter.place, counter.type, counter.low_first)
    step = resolution(shown, counter.values[-1])
    allowed = work[-1] * _SAMPLING + 2 * step * scale
    if any(abs(risen * scale - done) > allowed for risen, done in zip(rise, work, strict=True)):
        return None
    steps = _steps(rise)
    return _Slope(power, abs(scale / ratio - 1), steps[-1] - steps[0] < _STEPS_APART)


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


def _distance(ratio: Fraction) -> Fraction:
    """How far from one, the same up and down."""
    return max(ratio, 1 / ratio) - 1


def _best_scales(
    voltage: _Group,
    current: _Group,
    watt: _Series,
    counter: _Series,
    watt_per: Fraction,
    energy_per: Fraction,
    display_kwh: Fraction | None,
) -> tuple[int, Fraction, Fraction, Fraction] | None:
    """Score and scales of current (A), power (W) and energy (Wh): the usual combination, or the display's."""
    kinds = voltage.phases[0].kind + current.phases[0].kind + watt.kind + counter.kind
    choices = []
    for shift in range(-6, 4):
        ampere = Fraction(10) ** shift
        watts = ampere * watt_per
        energy = watts * energy_per
        if display_kwh is not None:
            shown = counter.values[-1] * energy / 1000
            if display_kwh <= 0 or _distance(shown / display_kwh) > Fraction(1, 20):
                continue
        choices.append((_prior(kinds, voltage, current, ampere, watts, energy), ampere, watts, energy))
    return max(choices, default=None, key=lambda choice: choice[0])


def _prior(
    kinds: str, voltage: _Group, current: _Group, ampere: Fraction, watts: Fraction, energy: Fraction
) -> int:
    score = 0
    for count, types in _USUAL.get((voltage.scale, ampere, watts, energy), ()):
        score = max(score, 10 + 2 * min(count, 5) + (6 if types == kinds else 0))
    usual = {Fraction(1), Fraction(1000)} if kinds[1] == "f" else {Fraction(1, 1000), Fraction(1, 100)}
    score += 2 if ampere in usual else 0
    amperes = current.phases[0].mean * ampere
    score += 1 if amperes >= 1 else 0
    if not Fraction(1, 20) <= amperes <= 100:
        score -= 8
    return score


def _factors(series: list[_Series]) -> list[Fraction]:
    """Everything that may be a power factor: what hardly moves between 0.5 and 1, and is no 50.00 Hz."""
    scales = {True: (Fraction(1),), False: (Fraction(1, 1000), Fraction(1, 100), Fraction(1, 10_000))}
    return [
        one.mean * scale
        for one in series
        for scale in scales[one.is_float]
        if all(_FACTOR_MIN <= value * scale <= 1 for value in one.values)
        and (max(one.values) - min(one.values)) * scale <= 2 * _FACTOR_OFF
        and not any(all(_is_mains(value * hertz) for value in one.values) for hertz in _INTEGER_SCALES)
    ]


def _is_preceded(series: list[_Series], current: _Group) -> bool:
    """Whether three currents begin in the middle of more: one of the same make that moves lies right before them."""
    first = current.phases[0]
    before = (first.place[0], first.place[1] - current.stride)
    return current.stride > 0 and any(
        one.place == before and _is_kin(one, first) and _similar(one, first) for one in series
    )


def _is_sum_of_phases(series: list[_Series], watt: _Series) -> bool:
    """Whether three values of its make, side by side, add up to it at every moment: the powers of the phases.

    Read from the wrong word, or in the wrong order, the last of the three would have a part of its neighbour.
    """
    at = {one.place: one for one in series if _is_kin(one, watt)}
    function = watt.place[0]
    for _, address in at:
        three = [at.get((function, address + times * watt.words)) for times in range(3)]
        phases = [one for one in three if one is not None and one is not watt and one.mean]
        if len(phases) < 3 or not all(_similar(one, phases[0]) for one in phases):
            continue
        added = [sum(values, Fraction(0)) for values in zip(*(one.values for one in phases), strict=True)]
        if all(
            abs(done - whole) <= max(_ROUNDED_OFF * (not watt.is_float), abs(whole) / 200)
            for done, whole in zip(added, watt.values, strict=True)
        ):
            return True
    return False


def _similar(one: _Series, other: _Series) -> bool:
    return abs(other.mean) <= 2 * abs(one.mean) and abs(one.mean) <= 2 * abs(other.mean)


def _registers(
    voltage: _Group,
    current: _Group,
    watt: _Series,
    counter: _Series,
    frequency: tuple[_Series, Fraction] | None,
    ampere_scale: Fraction,
    watt_scale: Fraction,
    energy_scale: Fraction,
) -> dict[str, Register]:
    def made(name: str, one: _Series, unit: str, scale: Fraction) -> Register:
        return _register(name, one.place, one.type, one.low_first, unit, scale)

    found = [made("energy_import", counter, "kWh", energy_scale / 1000)]
    found.append(made("power_active_total", watt, "W", watt_scale))
    for number, one in enumerate(voltage.phases, 1):
        found.append(made(f"voltage_l{number}", one, "V", voltage.scale))
    for number, one in enumerate(current.phases, 1):
        found.append(made(f"current_l{number}", one, "A", ampere_scale))
    if frequency is not None:
        found.append(made("frequency", frequency[0], "Hz", frequency[1]))
    return {register.name: register for register in found}


def _frequency(seen: _Evidence, like: _Series) -> tuple[_Series, Fraction] | None:
    """A mains frequency, of the counter's make if there is one."""
    if like.kind in seen.mains:
        return seen.mains[like.kind]
    found = [
        (one, scale)
        for one in seen.series
        for scale in (_FLOAT_SCALES[:1] if one.is_float else _INTEGER_SCALES)
        if all(_is_mains(value * scale) for value in one.values) and not _counts(one)
    ]
    # A value that moves in its last digits is a measurement; a constant 50 may be anything.
    seen.mains[like.kind] = min(
        found,
        key=lambda item: (
            len(set(item[0].values)) == 1,
            item[0].kind != like.kind,
            item[1],
            item[0].place,
        ),
        default=None,
    )
    return seen.mains[like.kind]


def _is_mains(hertz: Fraction) -> bool:
    return 49 <= hertz <= 51 or 59 <= hertz <= 61


# ---------------------------------------------------------------------------------------------------- how maps are made


def _area_begins(snapshots: Sequence[Snapshot]) -> frozenset[Place]:
    """The first place of every run of readable registers, for every place of it: parity is counted from there."""
    return frozenset(
        (function, address)
        for function, address in snapshots[0].words
        if (function, address - 1) not in snapshots[0].words
    )


def _is_shifted(one: _Series, begins: frozenset[Place]) -> bool:
    """Whether values of its length, laid side by side from the beginning of its area, would not end where it begins."""
    function, address = one.place
    first = max((begin for at, begin in begins if at == function and begin <= address), default=address)
    return one.words > 1 and (address - first) % min(one.words, 2) != 0


def _has_zero_beside(snapshots: Sequence[Snapshot], one: _Series) -> bool:
    """Whether the word before or after a single word is always zero, as the other half of a longer value would be."""
    function, address = one.place
    return any(
        all(snapshot.words.get((function, address + beside)) == 0 for snapshot in snapshots)
        for beside in (-1, 1)
    )


def _has_empty_half(snapshots: Sequence[Snapshot], one: _Series) -> bool:
    """Whether the upper word of a counter is always zero: read in the other order it may have a neighbour's."""
    function, address = one.place
    upper = address + one.words - 1 if one.low_first else address
    return not one.is_float and all(snapshot.words[function, upper] == 0 for snapshot in snapshots)


def _is_cut_off(snapshots: Sequence[Snapshot], one: _Series) -> bool:
    """Whether a counter of 32 bits has a constant word where its next higher one would be, as one of 64 bits has."""
    if one.words != 2 or one.is_float:
        return False
    function, address = one.place
    upper = (address - 2, address - 1) if not one.low_first else (address + 2, address + 3)
    return all(snapshot.words.get((function, place)) == 0 for snapshot in snapshots for place in upper)


def _rounded(value: Fraction) -> int:
    return round(value)
