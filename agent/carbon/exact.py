"""Decimals as exact fractions: read without loss, computed without loss, rounded once when they are written.

Binary floating point has no place between a kWh and the figure that is printed of it: 0.5777 is no binary number.
"""

import re
from fractions import Fraction

PLACES = 12
"""Decimals of every figure of a footprint that is printed for programs."""

_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]{1,60}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,2})?", re.ASCII
)


def decimal_of(text: str) -> Fraction:
    """Read a decimal number as a person or a spreadsheet writes it: `0.5777`, `-3`, `1.2E-05`.

    Raises:
        ValueError: no number of that form; a comma, a group separator, a percent sign, NaN or infinity is none.
    """
    stripped = text.strip()
    if _DECIMAL.fullmatch(stripped):
        return Fraction(stripped)
    if re.fullmatch(r"[+-]?[0-9]+(,[0-9]+)+(\.[0-9]*)?", stripped):
        raise ValueError(
            f'"{_short(text)}" has a comma; write a decimal point, and nothing between thousands'
        )
    raise ValueError(f'"{_short(text)}" is not a decimal number such as 12.5')


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


def text_of(value: Fraction, places: int = PLACES) -> str:
    """Write a number with exactly so many decimals, rounded half to even; the only rounding there is."""
    scaled = round(value * 10**places)
    sign = "-" if scaled < 0 else ""
    whole, rest = divmod(abs(scaled), 10**places)
    return f"{sign}{whole}.{rest:0{places}d}" if places else f"{sign}{whole}"


def plain(value: Fraction) -> str:
    """Write a number exactly: as a decimal where it has an end, else as `a/b`."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    return text_of(value, max(twos, fives))


def square_root(value: Fraction, places: int = 18) -> Fraction:
    """The square root of a number >= 0, rounded down to so many decimals; for uncertainties, which need no more.

    Raises:
        ValueError: the number is negative.
    """
    from math import isqrt

    if value < 0:
        raise ValueError(f"{value} has no square root")
    scale = 10 ** (2 * places)
    return Fraction(isqrt(value.numerator * scale // value.denominator), 10**places)
