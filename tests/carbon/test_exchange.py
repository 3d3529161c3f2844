"""The PACT 3.0.0 object: its required fields, decimals as texts, and nothing filled in that only a person knows."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.carbon.exchange import STATED, ExchangeError, product_footprint
from agent.carbon.factors import Provenance
from agent.carbon.footprint import evaluate
from agent.settings.locked import open_factors
from tests.carbon.examples import GRID, TEMPLATE, activity, material, step

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("pact-3.0.0-required.json").read_text())
FACTOR_SET, _ = open_factors()
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
STATEMENT: dict[str, Any] = {
    "companyName": "Example Meterworks",
    "companyIds": ["urn:company:example:meterworks"],
    "productIds": ["urn:product:example:single-phase-meter"],
    "productNameCompany": "Single-phase meter",
    "productDescription": "Static meter for active energy",
    "geographyCountry": "CN",
    "productMassPerDeclaredUnit": "0.85",
    "fossilCarbonContent": "0.31",
    "exemptedEmissionsPercent": "0",
}
DAY = evaluate(activity(step("smt_placement", "8"), material("flux", "1", "L")), TEMPLATE)


def made(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "id": "d9be4477-e351-45b3-acd9-e1da05e6f633",
        "created_ms": START_MS + 2 * DAY_MS,
        "from_ms": START_MS,
        "to_ms": START_MS + DAY_MS,
        "factor_set": FACTOR_SET,
    }
    return product_footprint(DAY, {**STATEMENT, **changes.pop("stated", {})}, **{**options, **changes})


def valid(document: object) -> bool:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return validator.is_valid(json.loads(json.dumps(document)))


def test_the_object_has_what_version_3_requires() -> None:
    document = made()
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["pcf"]["pcfExcludingBiogenicUptake"] == "0.563160000000"
    assert document["pcf"]["referencePeriodStart"] == "2026-01-01T00:00:00Z"
    assert document["pcf"]["primaryDataShare"] == "0.00"
    assert "partial footprint, cradle to gate" in document["comment"]
    assert "56 of 58 sources are missing" in document["comment"]


def test_the_primary_data_share_needs_activity_and_factor() -> None:
    """8 kWh of a supplier's own 0.25 kgCO2e/kWh, metered: 2. Flux with an average factor: 1.01. 2 / 3.01 = 66.45 %."""
    own = replace(GRID, value=Fraction(1, 4), provenance=Provenance(primary=True))
    day = evaluate(activity(step("smt_placement", "8", factor=own), material("flux", "1", "L")), TEMPLATE)
    document = product_footprint(
        day,
        STATEMENT,
        id="d9be4477-e351-45b3-acd9-e1da05e6f633",
        created_ms=START_MS,
        from_ms=START_MS,
        to_ms=START_MS + DAY_MS,
        factor_set=FACTOR_SET,
    )
    pcf: Any = document["pcf"]
    assert pcf["primaryDataShare"] == "66.45"


def test_from_2027_on_ratings_have_to_be_stated() -> None:
    year_2027: dict[str, Any] = {"from_ms": 1_798_761_600_000, "to_ms": 1_798_761_600_000 + DAY_MS}
    with pytest.raises(ExchangeError, match="dqi is not stated"):
        made(**year_2027)
    ratings = {"technologicalDQR": "1", "geographicalDQR": "2.5", "temporalDQR": "5.0"}
    document = made(stated={"dqi": ratings}, **year_2027)
    assert document["pcf"]["dqi"] == ratings
    assert valid(document)
    assert "dqi" not in made(stated={"dqi": None})["pcf"]


@pytest.mark.parametrize("wrong", ["0.9", "5.1", "five", 3, None])
def test_a_rating_outside_1_to_5_is_refused(wrong: object) -> None:
    ratings = {"technologicalDQR": "1", "geographicalDQR": wrong, "temporalDQR": "5"}
    with pytest.raises(ExchangeError, match="dqi geographicalDQR is not a decimal text"):
        made(stated={"dqi": ratings})
    with pytest.raises(ExchangeError, match="dqi does not consist of"):
        made(stated={"dqi": {"technologicalDQR": "1"}})


def test_no_number_is_a_json_number() -> None:
    def numbers(value: object) -> list[object]:
        if isinstance(value, dict):
            return [each for member in value.values() for each in numbers(member)]
        if isinstance(value, list):
            return [each for member in value for each in numbers(member)]
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []

    assert numbers(made()) == []


def test_the_schema_notices_what_is_left_out_or_a_number() -> None:
    document = made()
    for name in SCHEMA["required"]:
        assert not valid({key: value for key, value in document.items() if key != name}), name
    for name in SCHEMA["$defs"]["CarbonFootprint"]["required"]:
        pcf = {key: value for key, value in document["pcf"].items() if key != name}
        assert not valid({**document, "pcf": pcf}), name
    assert not valid({**document, "pcf": {**document["pcf"], "fossilGhgEmissions": 0.5}})
    assert not valid({**document, "pcf": {**document["pcf"], "geographyCountrySubdivision": "CN-ZJ"}})


@pytest.mark.parametrize("name", STATED)
def test_what_a_person_has_to_state_is_not_filled_in(name: str) -> None:
    stated = {key: value for key, value in STATEMENT.items() if key != name}
    with pytest.raises(ExchangeError, match=name):
        product_footprint(
            DAY,
            stated,
            id="d9be4477-e351-45b3-acd9-e1da05e6f633",
            created_ms=0,
            from_ms=0,
            to_ms=1,
            factor_set=FACTOR_SET,
        )


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"productMassPerDeclaredUnit": 0.85}, "productMassPerDeclaredUnit is not a decimal text"),
        ({"fossilCarbonContent": "1e3"}, "fossilCarbonContent is not a decimal text"),
        ({"companyIds": ["meterworks"]}, "companyIds is not a list of URNs"),
        ({"companyName": ""}, "companyName is not a text"),
        ({"geographyCountrySubdivision": "CN-ZJ"}, "exactly one of"),
    ],
)
def test_a_wrong_statement_is_refused(stated: dict[str, Any], reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        made(stated=stated)


def test_without_a_good_piece_there_is_nothing_to_declare() -> None:
    empty = evaluate(activity(step("smt_placement", "8"), production=None), TEMPLATE)
    with pytest.raises(ExchangeError, match="no good piece"):
        product_footprint(empty, STATEMENT, id="x", created_ms=0, from_ms=0, to_ms=1, factor_set=FACTOR_SET)
