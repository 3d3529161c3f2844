"""Whether what a meter shows can be true, before its kWh count: two checks of physics at commissioning. Pure.

*Word order.* The words of every register are read in all four orders: as the profile says, with the words swapped, with
the bytes of each word swapped, and both. A value that cannot be (a voltage of 1e23 V, a frequency of 12 kHz, a counter
that rises by megawatt-hours a minute) where exactly one other order gives one that can is a wrong order.

*Scale.* Over two minutes the rise of the energy register has to be the integral of the power register. The meter's own
steps and a load that moves between two looks leave an interval of possible ratios; a ratio away from one by more than
5 % is a fault, and whichever usual mistake (1000, 10, the transformers' ratio, three phases) lies in the interval is
named. What both registers share, such as a CT ratio wrong in the site file, no comparison of the two can show: the
power is there to be held against a clamp meter.

Before this come looks at a meter (`agent.cli.commission`); after it a person. Nothing here changes what is booked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from agent.metering.decode import NoValue, decode, resolution
from agent.metering.plant import Meter
from agent.metering.profile import Quantity, Register, WordType
from agent.metering.quantity import MILLIWH_PER_UNIT

TOLERANCE = Fraction(5, 100)
"""So far may energy and power be apart: fault F27 of the catalogue."""
_CLEAR = 2
"""A ratio is known well enough if it is nowhere near the least of the usual mistakes, which is three."""

_TINY = Fraction(1, 10**6)
"""No meter resolves less; a float in the wrong order often is."""
_ABSURD_KWH = 10**9
_ABSURD_RISE = 30
"""A counter that rises so many times as fast as its power may be in the wrong order: then a digit is 100 times too high
at least, and a wrong scale, which can be as much, has no other order in which it is right."""
_WATT = {"W": 1, "kW": 1000}
_HZ_MIN, _HZ_MAX = 40, 70
_VOLT_MIN, _VOLT_MAX = Fraction(1, 100), 1_000
_AMPERE_MAX = 20_000
_WATT_MAX = 10**7
"""Of a meter whose profile does not say what it can measure at most."""
_FACTOR_MAX = Fraction(101, 100)
_BCD = (WordType.BCD32, WordType.BCD, WordType.BCD_SIGNED)
_PHASES = ("power_active_l1", "power_active_l2", "power_active_l3")
POWER = "power_active_total"


class Order(StrEnum):
    """How the words of a value lie, seen from the profile."""

    GIVEN = "given"
    WORDS = "words swapped"
    BYTES = "bytes swapped"
    BOTH = "words and bytes swapped"


@dataclass(frozen=True, slots=True)
class Look:
    """All words at one moment, by register; `at_ms` is monotonic. Registers that could not be read are absent."""

    at_ms: int
    words: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Misordered:
    """A value that cannot be, and the only order in which it can; both in the register's unit, before CT and PT.

    `shown` is None where the words mean no value at all as the profile reads them.
    """

    register: str
    unit: str
    order: Order
    shown: Fraction | None
    would_show: Fraction


class Verdict(StrEnum):
    """What energy says of power."""

    AGREES = "agrees"
    WRONG = "wrong"
    TOO_LITTLE = "too little"
    """Nothing speaks against it, but too few steps were counted to tell."""
    NO_LOAD = "no load"
    FEEDS_BACK = "feeds back"
    NOT_SHOWN = "not shown"
    """The meter shows no power, or none that can be, or was not read twice."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Energy against power over a stretch, behind CT and PT.

    `rise_wh` and `work_wh` are what the two registers say of the same energy, their ratio lies between `low` and
    `high`; `high` is None where it has no upper end. `suspects` names the usual mistakes that would explain it.
    """

    verdict: Verdict
    seconds: Fraction = Fraction(0)
    power_w: Fraction = Fraction(0)
    rise_wh: Fraction = Fraction(0)
    work_wh: Fraction = Fraction(0)
    low: Fraction = Fraction(0)
    high: Fraction | None = None
    suspects: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------------- word order


def reordered(words: Sequence[int], order: Order) -> tuple[int, ...]:
    """The words of one value as they would have come in another order; its own inverse."""
    found = tuple(words)
    if order in (Order.WORDS, Order.BOTH):
        found = found[::-1]
    if order in (Order.BYTES, Order.BOTH):
        found = tuple((word & 0xFF) << 8 | word >> 8 for word in found)
    return found


def misordered(meter: Meter, looks: Sequence[Look]) -> tuple[Misordered, ...]:
    """The registers of a meter that only make sense in another order than that of its profile.

    One look is enough for most; a counter of integers needs two and a power to be held against.
    """
    found = (_misorder(meter, register, looks) for register in _numbers(meter))
    return tuple(one for one in found if one is not None)


def _numbers(meter: Meter) -> list[Register]:
    """The registers whose unit or name says what they can be; DL/T 645 has only one order."""
    return [
        register
        for register in meter.profile.registers.values()
        if register.identifier is None
        and register.type not in (WordType.ASCII, WordType.DIGITS)
        and (register.unit in ("V", "A", "Hz", *_WATT, *MILLIWH_PER_UNIT) or register.name == "power_factor")
    ]


def _misorder(meter: Meter, register: Register, looks: Sequence[Look]) -> Misordered | None:
    seen = [look for look in looks if _says_something(register, look.words.get(register.name, ()))]
    if not seen or _can_be(meter, register, seen, Order.GIVEN):
        return None
    # One word has no order of words.
    others = (Order.BYTES,) if register.words == 1 else (Order.WORDS, Order.BYTES, Order.BOTH)
    right = [order for order in others if _can_be(meter, register, seen, order)]
    if len(right) != 1:
        return None
    last = seen[-1].words[register.name]
    would_show = _value(register, last, right[0])
    assert would_show is not None, "what can be is a value"
    return Misordered(register.name, register.unit, right[0], _value(register, last, Order.GIVEN), would_show)


def _says_something(register: Register, words: Sequence[int]) -> bool:
    """Whether there is a value to be judged: not zero, and no mark for "no value". Bad BCD digits are to be judged."""
    if len(words) != register.words or all(word in (0, 0xFFFF) for word in words):
        return False
    return register.type in _BCD or not isinstance(decode(register, words), NoValue)


def _can_be(meter: Meter, register: Register, seen: Sequence[Look], order: Order) -> bool:
    """Whether what was seen can be true in this order."""
    values = [_value(register, look.words[register.name], order) for look in seen]
    if not all(value is not None and _is_possible(meter, register, value) for value in values):
        return False
    if register.unit not in MILLIWH_PER_UNIT:
        return True
    watt = _power_at(meter, seen, order)
    return watt is None or _can_count(meter, register, seen, order, watt)


def _can_count(meter: Meter, register: Register, seen: Sequence[Look], order: Order, watt: Fraction) -> bool:
    """Whether a counter never falls, nor rises many times as fast as this power; some steps are free."""
    first, last = (
        decode(register, reordered(look.words[register.name], order)) for look in (seen[0], seen[-1])
    )
    if isinstance(first, NoValue | str) or isinstance(last, NoValue | str):
        return False
    wh_per_count = (
        register.per_count * MILLIWH_PER_UNIT[register.unit] / 1000 * meter.transformer_ratio(register)
    )
    risen_wh = (last - first - 2 * resolution(register, last)) * wh_per_count
    return last >= first and risen_wh <= _ABSURD_RISE * watt * (seen[-1].at_ms - seen[0].at_ms) / 3_600_000


def _power_at(meter: Meter, seen: Sequence[Look], order: Order) -> Fraction | None:
    """The greatest power that was seen, in W: as the profile reads it, or in this order; None where neither can be."""
    for each in dict.fromkeys((Order.GIVEN, order)):
        shown = [abs(watt) for look in seen if (watt := power_w(meter, look, each)) is not None]
        if len(shown) == len(seen) and max(shown) > 0:
            return max(shown)
    return None


def _value(register: Register, words: Sequence[int], order: Order) -> Fraction | None:
    """In the register's unit, before CT and PT."""
    value = decode(register, reordered(words, order))
    return None if isinstance(value, NoValue | str) else value * register.per_count


def _is_possible(meter: Meter, register: Register, value: Fraction) -> bool:
    """Whether a meter on a mains can show this; a float in the wrong order is mostly next to nothing, or huge."""
    if not value:
        return True
    if abs(value) < _TINY:
        return False
    if register.unit in MILLIWH_PER_UNIT:
        return 0 < value * MILLIWH_PER_UNIT[register.unit] <= _ABSURD_KWH * 10**6
    if register.unit in _WATT:
        return abs(value) * _WATT[register.unit] <= _watt_max(meter, register)
    match register.unit:
        case "V":
            return _VOLT_MIN <= value <= _VOLT_MAX * (1 if register.secondary else meter.pt_ratio)
        case "A":
            return abs(value) <= _AMPERE_MAX
        case "Hz":
            return _HZ_MIN <= value <= _HZ_MAX
    return abs(value) <= _FACTOR_MAX


def _watt_max(meter: Meter, register: Register) -> Fraction:
    """Twice what the model can measure; a meter that counts on the primary side multiplies by its own ratio."""
    if meter.profile.power_max_w is None:
        return Fraction(_WATT_MAX)
    ratio = Fraction(1) if register.secondary else max(Fraction(1), meter.ct_ratio * meter.pt_ratio)
    return 2 * meter.profile.power_max_w * ratio


# --------------------------------------------------------------------------------------------------------------- scale


def power_w(meter: Meter, look: Look, order: Order = Order.GIVEN) -> Fraction | None:
    """Active power in W behind CT and PT: the total, or the phases together; None where it shows none that can be."""
    registers = meter.profile.registers
    total = Fraction(0)
    for name in (POWER,) if POWER in registers else _PHASES[: meter.profile.phases]:
        if name not in registers:
            return None
        register, words = registers[name], look.words.get(name, ())
        value = _value(register, words, order) if len(words) == register.words else None
        if value is None or not _is_possible(meter, register, value):
            return None
        total += value * _WATT[register.unit] * meter.transformer_ratio(register)
    return total


def _number(quantity: Quantity, look: Look) -> Fraction | None:
    """The counts of a register or a sum at a look; None where it was not read or has no value."""
    parts = [look.words.get(part.name, ()) for part in quantity.parts]
    if not all(parts):
        return None
    words = tuple(word for part in parts for word in part)
    value = decode(quantity, words)
    return None if isinstance(value, NoValue | str) else Fraction(value)


@dataclass(frozen=True, slots=True)
class _Moment:
    """Energy and power of one look, behind CT and PT."""

    at_ms: int
    energy_wh: Fraction
    step_wh: Fraction
    power_w: Fraction


def compare(meter: Meter, looks: Sequence[Look]) -> Comparison:
    """The booked counter of a meter against its power register."""
    moments = _moments(meter, looks)
    if len(moments) < 2:
        return Comparison(Verdict.NOT_SHOWN)
    seconds = Fraction(moments[-1].at_ms - moments[0].at_ms, 1000)
    rise = moments[-1].energy_wh - moments[0].energy_wh
    least, most = _work(moments)
    middle = (least + most) / 2
    known = Comparison(Verdict.NO_LOAD, seconds, moments[-1].power_w, rise, middle)
    step = max(moment.step_wh for moment in moments)
    if min(moment.power_w for moment in moments) < 0:
        return _with(known, Verdict.FEEDS_BACK, Fraction(0), None)
    if rise < 0:
        return _with(known, Verdict.WRONG, Fraction(0), Fraction(0))
    if most == 0:
        # A power too small to be shown may be counted; more than a step or two is not.
        return _with(known, Verdict.WRONG if rise > 2 * step else Verdict.NO_LOAD, Fraction(0), None)
    low, high = _ratios(moments, rise, step, least, most)
    return _judged(meter, known, low, high)


def _moments(meter: Meter, looks: Sequence[Look]) -> list[_Moment]:
    energy = meter.profile.energy
    wh_per_count = meter.per_count_milliwh / 1000
    found = []
    for look in looks:
        counts, power = _number(energy, look), power_w(meter, look)
        if counts is not None and power is not None:
            step = resolution(energy, counts) * wh_per_count
            found.append(_Moment(look.at_ms, counts * wh_per_count, step, power))
    return found


def _work(moments: Sequence[_Moment]) -> tuple[Fraction, Fraction]:
    """Least and most work in Wh, if the power between two looks was never outside of what both saw."""
    least = most = Fraction(0)
    for before, after in pairwise(moments):
        hours = Fraction(after.at_ms - before.at_ms, 3_600_000)
        least += hours * min(before.power_w, after.power_w)
        most += hours * max(before.power_w, after.power_w)
    return least, most


def _ratios(
    moments: Sequence[_Moment], rise: Fraction, step: Fraction, least: Fraction, most: Fraction
) -> tuple[Fraction, Fraction | None]:
    """Between which ratios of energy to work the truth lies.

    From end to end the rise is wrong by less than one step. From the counter's first step to its last it is exact, and
    only the moments of the two are unknown, each between two looks. Both hold, so both narrow it.
    """
    low = max(Fraction(0), rise - step) / most
    high = (rise + step) / least if least else None
    steps = [at for at in range(1, len(moments)) if moments[at].energy_wh > moments[at - 1].energy_wh]
    if len(steps) >= 2:
        first, last = steps[0], steps[-1]
        risen = moments[last].energy_wh - moments[first].energy_wh
        widest = _work(moments[first - 1 : last + 1])[1]
        narrowest = _work(moments[first:last])[0]
        low = max(low, risen / widest) if widest else low
        if narrowest:
            high = risen / narrowest if high is None else min(high, risen / narrowest)
    return low, high


def _judged(meter: Meter, known: Comparison, low: Fraction, high: Fraction | None) -> Comparison:
    if low > 1 + TOLERANCE or (high is not None and high < 1 - TOLERANCE):
        return _with(known, Verdict.WRONG, low, high, _suspects(meter, low, high))
    is_clear = high is not None and high < _CLEAR and low * _CLEAR > 1
    return _with(known, Verdict.AGREES if is_clear else Verdict.TOO_LITTLE, low, high)


def _with(
    known: Comparison,
    verdict: Verdict,
    low: Fraction,
    high: Fraction | None,
    suspects: tuple[str, ...] = (),
) -> Comparison:
    return Comparison(
        verdict, known.seconds, known.power_w, known.rise_wh, known.work_wh, low, high, suspects
    )


def _suspects(meter: Meter, low: Fraction, high: Fraction | None) -> tuple[str, ...]:
    """The usual mistakes whose factor, or its inverse, lies in the interval widened by the tolerance."""
    usual: list[tuple[str, Fraction]] = [
        ("unit", Fraction(1000)),
        ("decimal", Fraction(10)),
        ("decimal", Fraction(100)),
        ("ct", meter.ct_ratio),
        ("pt", meter.pt_ratio),
        (
            "ct and pt",
            meter.ct_ratio * meter.pt_ratio if 1 not in (meter.ct_ratio, meter.pt_ratio) else Fraction(1),
        ),
        ("phases", Fraction(3)),
    ]
    found = [
        name
        for name, factor in usual
        if factor != 1 and any(_is_within(each, low, high) for each in (factor, 1 / factor))
    ]
    return tuple(dict.fromkeys(found))


def _is_within(factor: Fraction, low: Fraction, high: Fraction | None) -> bool:
    above = low * (1 - TOLERANCE) <= factor
    return above and (high is None or factor <= high * (1 + TOLERANCE))
