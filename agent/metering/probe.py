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

Comes after `agent.protocol.explore`, which reads, `series`, which reads it in every way, and `candidates`; after it a
person, who compares with the display.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from agent.metering.candidates import (
    FACTOR_MIN,
    FLOAT_SCALES,
    INTEGER_SCALES,
    Group,
    apparent_counts,
    are_similar,
    currents,
    is_exact,
    is_kin,
    is_mains,
    moving_together,
    powers,
    voltages,
)
from agent.metering.profile import Register, WordType
from agent.metering.series import (
    Place,
    Series,
    Slope,
    Snapshot,
    area_begins,
    decade_of,
    distance_of,
    has_empty_half,
    has_zero_beside,
    is_counter,
    is_cut_off,
    is_shifted,
    register_at,
    series_of,
    slope_of,
)


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


@dataclass(slots=True)
class _Evidence:
    """What was seen, and what is asked of it again and again."""

    snapshots: Sequence[Snapshot]
    series: list[Series]
    begins: frozenset[Place]
    factors: list[Fraction]
    display_kwh: Fraction | None
    slopes: "dict[tuple[Series, Series], Slope | None]" = field(default_factory=dict)
    sums: "dict[Series, bool]" = field(default_factory=dict)
    mains: "dict[str, tuple[Series, Fraction] | None]" = field(default_factory=dict)


_COUNTERS = (
    *(WordType.U32, WordType.S32, WordType.F32, WordType.BCD32, WordType.U64, WordType.S64, WordType.F64),
)
_FACTOR_USUAL = Fraction(7, 10)
_FACTOR_OFF = Fraction(15, 1000)
_ROUNDED_OFF = 2
"""So many counts may three rounded numbers and their rounded sum be apart."""
_APPARENT_FROM = Fraction(995, 1000)
_KWH_MIN, _KWH_MAX = Fraction(1, 10), 10**7

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
        drafts += _drafts(list(series_of(snapshots, low_first)), snapshots, display_kwh)
    return tuple(sorted(drafts, key=lambda draft: -draft.score))


def wants_more(snapshots: Sequence[Snapshot], drafts: Sequence[Draft]) -> bool:
    """Whether watching for longer would tell more: the load moves, and no counter took enough steps yet."""
    if drafts:
        return drafts[0].is_coarse
    return len(snapshots) > 1 and any(
        bool(list(voltages(series)) and moving_together(series))
        for series in (list(series_of(snapshots, low_first)) for low_first in (False, True))
    )


# --------------------------------------------------------------------------------------------------------------- drafts


def _drafts(series: list[Series], snapshots: Sequence[Snapshot], display_kwh: Fraction | None) -> list[Draft]:
    seen = _Evidence(snapshots, series, area_begins(snapshots), _factors(series), display_kwh)
    families = moving_together(series)
    counters = [one for one in series if one.type in _COUNTERS and is_counter(one)]
    best: dict[tuple[Place, WordType, bool, Fraction], Draft] = {}
    for voltage, moving in product(voltages(series), families):
        for current in currents(voltage, moving):
            for power in powers(voltage, current, moving):
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


# -------------------------------------------------------------------------------------------------------------- a draft


def _draft(
    seen: _Evidence,
    voltage: Group,
    current: Group,
    power: tuple[Series, Fraction],
    counter: Series,
) -> Draft | None:
    """One complete understanding with its best scales; None where the counter does not count this power."""
    watt, factor = power
    if (watt, counter) not in seen.slopes:
        seen.slopes[watt, counter] = slope_of(seen.snapshots, watt, counter)
    slope = seen.slopes[watt, counter]
    if slope is None:
        return None
    apparent = sum(apparent_counts(voltage, current), Fraction(0)) / len(seen.snapshots)
    # W per count of power for an ampere per count of current, and Wh per count of energy for a watt per count.
    watt_per = Fraction(10) ** -decade_of(watt.mean / apparent)
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
    score += 6 if is_exact(voltage, current, watt) else 0
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


def _make(seen: _Evidence, voltage: Group, current: Group, watt: Series, counter: Series) -> int:
    """How much these registers look like one map that somebody made."""
    used = [*voltage.phases, *current.phases, watt, counter]
    score = 30 if len(voltage.phases) == 3 else 0
    score += 4 if is_kin(watt, current.phases[0]) else 0
    score += 6 if current.stride == current.phases[0].words else 0
    score -= 3 if _is_preceded(seen.series, current) else 0
    score -= 10 if not all(are_similar(one, current.phases[0]) for one in current.phases) else 0
    if all(one.words > 1 for one in used):
        score -= 12 * sum(is_shifted(one, seen.begins) for one in used)
    score -= 5 * (len({one.type for one in (voltage.phases[0], current.phases[0], watt)}) - 1)
    # Three single words side by side cannot be halves of longer values.
    beside = {id(one) for group in (voltage, current) if group.stride == 1 for one in group.phases}
    halves = [one for one in used if one.words == 1 and id(one) not in beside]
    score -= 13 * sum(1 for one in halves if has_zero_beside(seen.snapshots, one))
    score -= 4 * has_empty_half(seen.snapshots, counter)
    return score - 3 * is_cut_off(seen.snapshots, counter)


def _best_scales(
    voltage: Group,
    current: Group,
    watt: Series,
    counter: Series,
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
            if display_kwh <= 0 or distance_of(shown / display_kwh) > Fraction(1, 20):
                continue
        choices.append((_prior(kinds, voltage, current, ampere, watts, energy), ampere, watts, energy))
    return max(choices, default=None, key=lambda choice: choice[0])


def _prior(
    kinds: str, voltage: Group, current: Group, ampere: Fraction, watts: Fraction, energy: Fraction
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


def _factors(series: list[Series]) -> list[Fraction]:
    """Everything that may be a power factor: what hardly moves between 0.5 and 1, and is no 50.00 Hz."""
    scales = {True: (Fraction(1),), False: (Fraction(1, 1000), Fraction(1, 100), Fraction(1, 10_000))}
    return [
        one.mean * scale
        for one in series
        for scale in scales[one.is_float]
        if all(FACTOR_MIN <= value * scale <= 1 for value in one.values)
        and (max(one.values) - min(one.values)) * scale <= 2 * _FACTOR_OFF
        and not any(all(is_mains(value * hertz) for value in one.values) for hertz in INTEGER_SCALES)
    ]


def _is_preceded(series: list[Series], current: Group) -> bool:
    """Whether three currents begin in the middle of more: one of the same make that moves lies right before them."""
    first = current.phases[0]
    before = (first.place[0], first.place[1] - current.stride)
    return current.stride > 0 and any(
        one.place == before and is_kin(one, first) and are_similar(one, first) for one in series
    )


def _is_sum_of_phases(series: list[Series], watt: Series) -> bool:
    """Whether three values of its make, side by side, add up to it at every moment: the powers of the phases.

    Read from the wrong word, or in the wrong order, the last of the three would have a part of its neighbour.
    """
    at = {one.place: one for one in series if is_kin(one, watt)}
    function = watt.place[0]
    for _, address in at:
        three = [at.get((function, address + times * watt.words)) for times in range(3)]
        phases = [one for one in three if one is not None and one is not watt and one.mean]
        if len(phases) < 3 or not all(are_similar(one, phases[0]) for one in phases):
            continue
        added = [sum(values, Fraction(0)) for values in zip(*(one.values for one in phases), strict=True)]
        if all(
            abs(done - whole) <= max(_ROUNDED_OFF * (not watt.is_float), abs(whole) / 200)
            for done, whole in zip(added, watt.values, strict=True)
        ):
            return True
    return False


def _registers(
    voltage: Group,
    current: Group,
    watt: Series,
    counter: Series,
    frequency: tuple[Series, Fraction] | None,
    ampere_scale: Fraction,
    watt_scale: Fraction,
    energy_scale: Fraction,
) -> dict[str, Register]:
    def made(name: str, one: Series, unit: str, scale: Fraction) -> Register:
        return register_at(name, one.place, one.type, one.low_first, unit, scale)

    found = [made("energy_import", counter, "kWh", energy_scale / 1000)]
    found.append(made("power_active_total", watt, "W", watt_scale))
    for number, one in enumerate(voltage.phases, 1):
        found.append(made(f"voltage_l{number}", one, "V", voltage.scale))
    for number, one in enumerate(current.phases, 1):
        found.append(made(f"current_l{number}", one, "A", ampere_scale))
    if frequency is not None:
        found.append(made("frequency", frequency[0], "Hz", frequency[1]))
    return {register.name: register for register in found}


def _frequency(seen: _Evidence, like: Series) -> tuple[Series, Fraction] | None:
    """A mains frequency, of the counter's make if there is one."""
    if like.kind in seen.mains:
        return seen.mains[like.kind]
    found = [
        (one, scale)
        for one in seen.series
        for scale in (FLOAT_SCALES[:1] if one.is_float else INTEGER_SCALES)
        if all(is_mains(value * scale) for value in one.values) and not is_counter(one)
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


def _rounded(value: Fraction) -> int:
    return round(value)
