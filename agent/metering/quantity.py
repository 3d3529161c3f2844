"""Energy and ratios as exact types.

Before this come the raw counts of a register (`decode`), after it the ledger. All energy is an integer of 0.001 Wh,
all ratios are `Fraction`. The register is quantised, once, half to even; never the difference of two readings: then
the differences of quantised registers telescope and their error stays below one unit for ever (wire format, section 3).
"""

from fractions import Fraction

EXACT_MAX = 2**53 - 1
"""Largest integer that JSON readers of every language keep exactly (wire format, section 1)."""

MILLIWH_PER_UNIT = {
    "Wh": Fraction(1_000),
    "kWh": Fraction(1_000_000),
    "MWh": Fraction(1_000_000_000),
}
"""How many 0.001 Wh one energy unit of a meter's manual is."""

Counts = int | Fraction
"""A register's value in its own resolution: an integer, or the exact dyadic value of a float register."""


def ratio(text: str) -> Fraction:
    """Read an exact positive ratio written as `"150/5"`, `"30"` or `"0.01"`.

    Raises:
        ValueError: not a number of that form, zero or negative.
    """
    parts = [part.strip() for part in text.split("/")]
    try:
        numerator, denominator = parts if "/" in text else (*parts, "1")
        value = Fraction(numerator) / Fraction(denominator)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is not a ratio such as 150/5, 30 or 0.01") from None
    if value <= 0:
        raise ValueError(f"{text!r} must be greater than zero")
    return value


def to_milliwh(counts: Counts, per_count_milliwh: Fraction) -> int:
    """Quantise a register value to 0.001 Wh, half to even (wire format, section 3, rule 1)."""
    return round(counts * per_count_milliwh)


def format_kwh(energy_milliwh: int) -> str:
    """Write energy as kWh with all six decimals, for people: 1234567 is "1.234567"."""
    sign = "-" if energy_milliwh < 0 else ""
    whole, rest = divmod(abs(energy_milliwh), 1_000_000)
    return f"{sign}{whole}.{rest:06d}"
