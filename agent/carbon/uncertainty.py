"""How far a figure can be trusted, by the rules of the GUM, and which meter would help most.

A meter of class 1 may be wrong by 1 %, anywhere in between: a rectangular distribution, of which the standard
uncertainty is the limit divided by the root of three. Independent contributions add as squares; what all steps share,
the factor of electricity, adds linearly before it is squared. Everything stays an exact variance until one root is
taken at the end. Before this come rows and the classes of meters, after it the report.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from agent.carbon.activity import Status
from agent.carbon.exact import decimal_of, square_root
from agent.carbon.footprint import Footprint, Row

COVERAGE = 2
"""Coverage factor: about 95 % of all cases lie within twice the standard uncertainty."""


@dataclass(frozen=True, slots=True)
class MeterQuality:
    """What limits a meter: classes in percent of the reading, resolution of the register in 0.001 Wh; None unknown."""

    class_percent: Fraction | None
    ct_class_percent: Fraction | None
    resolution_milliwh: int | None


_MID_CLASSES = {"A": Fraction(2), "B": Fraction(1), "C": Fraction(1, 2)}


def class_percent(text: str | None) -> Fraction | None:
    """The limit of error behind an accuracy class, percent: "1", "0.5S", "B"; None where it is not known."""
    if text is None:
        return None
    plain = text.strip().upper()
    if plain in _MID_CLASSES:
        return _MID_CLASSES[plain]
    try:
        return abs(decimal_of(plain.removesuffix("S")))
    except ValueError:
        return None


def meter_variance(energy_milliwh: int | Fraction, quality: MeterQuality) -> Fraction | None:
    """Variance of a metered energy in (0.001 Wh)^2, None where the meter's class is not known.

    Class and current transformer are limits of a rectangular distribution (a^2/3); an energy is the difference of two
    registers, each known to one step of its resolution (2 r^2/12).
    """
    if quality.class_percent is None:
        return None
    energy = Fraction(energy_milliwh)
    ct_percent = quality.ct_class_percent or Fraction(0)
    limits = [energy * quality.class_percent / 100, energy * ct_percent / 100]
    resolution = quality.resolution_milliwh or 0
    return sum((limit**2 / 3 for limit in limits), Fraction(0)) + Fraction(resolution**2, 6)


def sum_variance(terms: Iterable[tuple[Fraction, Fraction]]) -> Fraction:
    """Variance of a sum of independent terms, each given as (coefficient, variance)."""
    return sum((coefficient**2 * variance for coefficient, variance in terms), Fraction(0))


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one source adds to the variance of the total, (kgCO2e)^2, by its activity alone.

    `assumed` says that no class of a meter stands behind it.
    """

    id: str
    status: Status
    variance: Fraction
    assumed: bool


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Standard uncertainty of the total in kgCO2e, and what it is made of, largest first.

    `factors` is the variance that comes of the emission factors, (kgCO2e)^2. `meter_next` are the steps that are not
    measured, the one first whose own meter would take most out of the total.
    """

    standard: Fraction
    contributions: tuple[Contribution, ...]
    factors: Fraction
    meter_next: tuple[str, ...]

    @property
    def expanded(self) -> Fraction:
        """Expanded uncertainty, k = 2, in kgCO2e."""
        return COVERAGE * self.standard


_FACTOR_OF = {"electricity": "factor electricity", "fuel": "factor fuel", "waste": "factor waste"}


def uncertainty_of(footprint: Footprint, kwh_variances: Mapping[str, Fraction] | None = None) -> Uncertainty:
    """The uncertainty of a footprint's total.

    Args:
        footprint: as evaluated.
        kwh_variances: variance of the kWh of the steps whose meters are known, kWh^2, by step; for all others the
            template's assumptions serve.
    """
    known = kwh_variances or {}
    percent = footprint.template.uncertainty_percent
    rows = [row for row in (*footprint.rows, *footprint.extra) if row.emission is not None]
    contributions = sorted((_contribution(row, known, percent) for row in rows), key=_order)
    factors = _factor_variance(rows, percent)
    total = factors + sum((each.variance for each in contributions), Fraction(0))
    return Uncertainty(
        square_root(total), tuple(contributions), factors, _meter_next(footprint.rows, contributions)
    )


def _order(contribution: Contribution) -> tuple[Fraction, str]:
    return -contribution.variance, contribution.id


def _contribution(row: Row, known: Mapping[str, Fraction], percent: Mapping[str, Fraction]) -> Contribution:
    assert row.emission is not None
    if row.id in known and row.factor is not None:
        return Contribution(row.id, row.status, known[row.id] * row.factor.value**2, False)
    relative = percent.get(row.status.value, Fraction(0)) / 100
    return Contribution(row.id, row.status, (row.emission.value * relative) ** 2, True)


def _factor_variance(rows: Sequence[Row], percent: Mapping[str, Fraction]) -> Fraction:
    """Steps share one factor, so that its error is the same in all of them; other factors are independent."""
    shared = Fraction(0)
    variance = Fraction(0)
    for row in rows:
        assert row.emission is not None
        transport = row.transport.value if row.transport is not None else Fraction(0)
        itself = row.emission.value - transport
        if row.kind == "electricity":
            shared += itself
            continue
        name = _FACTOR_OF.get(row.kind, "factor material")
        variance += (itself * percent.get(name, Fraction(0)) / 100) ** 2
        variance += (transport * percent.get("factor transport", Fraction(0)) / 100) ** 2
    return variance + (shared * percent.get("factor electricity", Fraction(0)) / 100) ** 2


def _meter_next(rows: Sequence[Row], contributions: Sequence[Contribution]) -> tuple[str, ...]:
    """First the steps with a figure that no meter of their own gave, by their variance; then those without a figure."""
    unmetered = {
        row.id
        for row in rows
        if row.kind == "electricity" and row.status in (Status.VIRTUAL, Status.ESTIMATED, Status.IMPORTED)
    }
    ranked = [each.id for each in contributions if each.id in unmetered]
    missing = [row.id for row in rows if row.kind == "electricity" and row.status is Status.MISSING]
    return (*ranked, *missing)
