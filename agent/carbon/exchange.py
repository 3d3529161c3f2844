"""A footprint for other companies' programs: a product footprint object of the PACT data exchange, version 3.0.0.

All figures travel as decimal texts. What the arithmetic cannot know (names, identifiers, mass and carbon content of the
product, what was exempted) a person states; nothing of it is filled in. The object says that it is partial, cradle to
gate, and lists what is missing. Before this comes `footprint`, after it the other company.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction

from agent.carbon.exact import decimal_of, text_of
from agent.carbon.footprint import Footprint
from agent.carbon.report import notes
from agent.carbon.template import Locked

SPEC_VERSION = "3.0.0"
STATED = (
    "companyName",
    "companyIds",
    "productIds",
    "productNameCompany",
    "productDescription",
    "geographyCountry",
    "productMassPerDeclaredUnit",
    "fossilCarbonContent",
    "exemptedEmissionsPercent",
)
"""What a person has to state; `geographyCountrySubdivision` or `geographyRegionOrSubregion` may replace the country.

From 2027 on also `dqi`, three ratings of data quality.
"""

_GEOGRAPHIES = ("geographyCountry", "geographyCountrySubdivision", "geographyRegionOrSubregion")
_DECIMALS = ("productMassPerDeclaredUnit", "fossilCarbonContent", "exemptedEmissionsPercent")
_TEXTS = ("companyName", "productNameCompany", "productDescription")
_LISTS = ("companyIds", "productIds")
_RATINGS = ("technologicalDQR", "geographicalDQR", "temporalDQR")
_RATED_FROM_MS = 1_798_761_600_000
"""2027-01-01: reference periods that end later have to state ratings."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ExchangeError(ValueError):
    """The object cannot be made; `faults` name what is missing or wrong, all of it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def product_footprint(
    footprint: Footprint,
    stated: Mapping[str, object],
    *,
    id: str,
    created_ms: int,
    from_ms: int,
    to_ms: int,
    factor_set: Locked,
) -> dict[str, object]:
    """The exchange object of a footprint, per good piece.

    Args:
        footprint: as evaluated; it needs at least one good piece.
        stated: what a person states, by the names of PACT, see `STATED`; figures as decimal text.
        id: a UUID of version 4, lower case, new for every object.
        created_ms: when it is made, UTC Unix ms.
        from_ms: first moment of the reference period.
        to_ms: the moment after its last.
        factor_set: where the factor of electricity is from.

    Raises:
        ExchangeError: with everything that is missing or wrong.
    """
    faults = [*_faults(stated), *_rating_faults(stated, to_ms)]
    per_piece = footprint.per_good_piece
    if per_piece is None:
        faults.append("no good piece was made, so that there is nothing to declare")
    elif per_piece.value < 0:
        faults.append("the footprint is negative")
    if _UUID.fullmatch(id) is None:
        faults.append(f"{id!r} is no UUID")
    if faults or per_piece is None:
        raise ExchangeError(faults)
    figure = text_of(per_piece.value)
    geography = {name: stated[name] for name in _GEOGRAPHIES if name in stated}
    return {
        "id": id,
        "specVersion": SPEC_VERSION,
        "created": _time(created_ms),
        "status": "Active",
        **{name: stated[name] for name in (*_TEXTS, *_LISTS)},
        "comment": " ".join([f"{footprint.template.title}.", *(f"{note}." for note in notes(footprint))]),
        "pcf": {
            "declaredUnitOfMeasurement": "piece",
            "declaredUnitAmount": "1",
            **{name: stated[name] for name in _DECIMALS},
            "referencePeriodStart": _time(from_ms),
            "referencePeriodEnd": _time(to_ms),
            **geography,
            "boundaryProcessesDescription": "Raw materials and their transport to the factory; electricity of each "
            "production step, fuels and wastes of the factory. No distribution, use or end of life.",
            "pcfExcludingBiogenicUptake": figure,
            "pcfIncludingBiogenicUptake": figure,
            "fossilGhgEmissions": figure,
            "packagingEmissionsIncluded": False,
            "ccsTechnologicalCO2CaptureIncluded": False,
            "ipccCharacterizationFactors": ["AR6"],
            "crossSectoralStandards": ["ISO14067"],
            "allocationRulesDescription": "Electricity by sub-metering of each step; all of the period falls on its "
            "good pieces.",
            "secondaryEmissionFactorSources": [
                {"name": str(factor_set.document["id"]), "version": str(factor_set.document["version"])}
            ],
            "primaryDataShare": text_of(100 * (footprint.primary_data_share or Fraction(0)), 2),
            **({"dqi": stated["dqi"]} if stated.get("dqi") is not None else {}),
        },
    }


def _faults(stated: Mapping[str, object]) -> list[str]:
    geographies = [name for name in _GEOGRAPHIES if name in stated]
    needed = [name for name in STATED if name not in _GEOGRAPHIES]
    faults = [f"{name} is not stated" for name in needed if name not in stated]
    if len(geographies) != 1:
        faults.append(f"exactly one of {', '.join(_GEOGRAPHIES)} has to be stated, not {len(geographies)}")
    for name in (*_TEXTS, *geographies):
        value = stated.get(name, "-")
        if not isinstance(value, str) or not value:
            faults.append(f"{name} is not a text")
    for name in _LISTS:
        value = stated.get(name, ["urn:"])
        if (
            not isinstance(value, list)
            or not value
            or not all(str(urn).lower().startswith("urn:") for urn in value)
        ):
            faults.append(f"{name} is not a list of URNs")
    return faults + [fault for name in _DECIMALS if (fault := _decimal_fault(name, stated)) is not None]


def _rating_faults(stated: Mapping[str, object], to_ms: int) -> list[str]:
    """Ratings of data quality are a person's judgement; from 2027 on version 3 asks for them."""
    ratings = stated.get("dqi")
    if ratings is None:
        asked = to_ms > _RATED_FROM_MS
        return [f"dqi is not stated; from 2027 on it needs {', '.join(_RATINGS)}"] if asked else []
    if not isinstance(ratings, Mapping) or set(ratings) != set(_RATINGS):
        return [f"dqi does not consist of {', '.join(_RATINGS)}"]
    return [
        f'dqi {name} is not a decimal text from "1" to "5"'
        for name in _RATINGS
        if not isinstance(ratings[name], str)
        or re.fullmatch(r"[1-4](\.[0-9]+)?|5(\.0+)?", ratings[name]) is None
    ]


def _decimal_fault(name: str, stated: Mapping[str, object]) -> str | None:
    if name not in stated:
        return None
    value = stated[name]
    if (
        not isinstance(value, str)
        or re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) is None
        or decimal_of(value) < 0
    ):
        return f'{name} is not a decimal text such as "0.85"'
    return None


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
