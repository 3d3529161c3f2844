"""A footprint as a document: decimal texts, every source with its status, and what the figures were made of.

The sums are rounded here and nowhere else, each from its exact value, so that a total may differ from the sum of the
printed terms in the last place. A report never says "the" footprint: it is partial, cradle to gate, and says what is
missing. The same inputs give the same bytes. Before this comes `footprint`, after it files and people.
"""

from collections.abc import Mapping
from fractions import Fraction

from agent.carbon.activity import Status
from agent.carbon.exact import text_of
from agent.carbon.footprint import Footprint, Row
from agent.carbon.uncertainty import Uncertainty
from agent.carbon.units import Amount

PERCENT_PLACES = 2


def figures(footprint: Footprint) -> dict[str, object]:
    """The sums, in kgCO2e with twelve decimals; per piece is None without a good piece to divide by."""
    return {
        "e_total_kgco2e": _text(footprint.total),
        "e_materials_kgco2e": _text(footprint.materials),
        "e_production_kgco2e": _text(footprint.production),
        "e_fuel_kgco2e": _text(footprint.fuel),
        "e_electricity_kgco2e": _text(footprint.electricity),
        "e_waste_kgco2e": _text(footprint.waste),
        "per_good_piece_kgco2e": _text(footprint.per_good_piece),
    }


def document(
    footprint: Footprint,
    *,
    uncertainty: Uncertainty | None = None,
    made_of: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The whole report.

    Args:
        footprint: as evaluated.
        uncertainty: as computed of it; None leaves it out.
        made_of: hashes of what went in: files, factor sets, maps, the range of messages.
    """
    template = footprint.template
    return {
        "title": template.title,
        "declared_unit": template.declared_unit,
        "product_id": footprint.product_id,
        "started": footprint.started,
        "good": footprint.good,
        **figures(footprint),
        "complete": footprint.is_complete,
        "completeness": completeness(footprint),
        "primary_data_share_percent": _percent(footprint.primary_data_share),
        "primary_activity_share_percent": _percent(footprint.primary_activity_share),
        "uncertainty": None if uncertainty is None else _uncertainty(uncertainty, footprint),
        "rows": [_row(row) for row in footprint.rows],
        "extra": [_row(row) for row in footprint.extra],
        "notes": list(notes(footprint)),
        "template": template.locked.quoted(),
        "made_of": dict(made_of or {}),
    }


def completeness(footprint: Footprint) -> dict[str, object]:
    """How many sources have a figure, how the kWh were come by, and what has none."""
    counts = {status.value: 0 for status in Status}
    kwh: dict[str, Fraction] = {}
    for row in footprint.rows:
        counts[row.status.value] += 1
        if row.kind == "electricity" and row.amount is not None:
            kwh[row.status.value] = kwh.get(row.status.value, Fraction(0)) + row.amount.value
    return {
        "sources": len(footprint.rows),
        "with_a_figure": len(footprint.rows) - len(footprint.missing),
        "by_status": counts,
        "kwh_by_status": {status: text_of(value) for status, value in sorted(kwh.items())},
        "missing": list(footprint.missing),
        "without_transport": list(footprint.without_transport),
        "covered_percent": {step: _percent(part) for step, part in footprint.partly_covered.items()},
        "terms_unsaid": list(footprint.unsaid),
    }


def notes(footprint: Footprint) -> tuple[str, ...]:
    """What a reader has to know before using the figures, as sentences."""
    said = list(footprint.notes)
    if footprint.missing:
        said.append(f"{len(footprint.missing)} of {len(footprint.rows)} sources are missing and in no sum")
    if footprint.without_transport:
        said.append(f"the transport of {len(footprint.without_transport)} materials is missing and in no sum")
    said += [
        f"nothing was said of {term}; it is in no sum, which is not the same as zero"
        for term in footprint.unsaid
    ]
    if footprint.partly_covered:
        count = len(footprint.partly_covered)
        said.append(
            f"the energy of {count} steps is known for a part of the period only; the rest is not zero"
        )
    if footprint.good == 0:
        said.append("no good piece was made: the emission stays in the period and is not divided")
    if any(row.kind == "fuel" for row in footprint.extra):
        reason = footprint.template.co2_allowed.get("fuel", "")
        said.append(f"fuel: CO2 counts as CO2e, as the template allows by name ({reason})")
    return tuple(said)


def _row(row: Row) -> dict[str, object]:
    return {
        "number": row.number,
        "id": row.id,
        "kind": row.kind,
        "name_en": row.name_en,
        "name_zh": row.name_zh,
        "status": row.status.value,
        "quantity": None if row.amount is None else text_of(row.amount.value),
        "unit": None if row.amount is None else row.amount.UNIT,
        "kgco2e": _text(row.emission),
        "transport_kgco2e": _text(row.transport),
        "factor": None if row.factor is None else row.factor.to_payload(),
        "note": row.note,
    }


def _uncertainty(uncertainty: Uncertainty, footprint: Footprint) -> dict[str, object]:
    total = footprint.total.value
    return {
        "method": "GUM, standard uncertainties added as squares, k = 2",
        "expanded_kgco2e": text_of(uncertainty.expanded),
        "expanded_percent": _percent(uncertainty.expanded / total if total else None),
        "from_factors_percent_of_variance": _percent(_part(uncertainty.factors, uncertainty)),
        "assumed": [each.id for each in uncertainty.contributions if each.assumed and each.variance],
        "meter_next": list(uncertainty.meter_next),
    }


def _part(variance: Fraction, uncertainty: Uncertainty) -> Fraction | None:
    whole = uncertainty.factors + sum((each.variance for each in uncertainty.contributions), Fraction(0))
    return variance / whole if whole else None


def _percent(part: Fraction | None) -> str | None:
    return None if part is None else text_of(part * 100, PERCENT_PLACES)


def _text(amount: Amount | None) -> str | None:
    return None if amount is None else text_of(amount.value)
