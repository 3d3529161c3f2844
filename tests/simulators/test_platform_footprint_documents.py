"""Corrected maps, and reports that are made again byte for byte from what they quote."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.carbon.activity import Status
from agent.carbon.template import sha256_of
from agent.errors import ConfigError
from agent.reporting.chain import ChainHead
from agent.reporting.utc import text_of_ms
from agent.resources import config_path
from agent.settings.locked import lock, open_factors, open_locked, open_template
from simulators.platform.maps import Correction
from simulators.platform.quarters import QUARTER_MS, Quarters
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, Gateway
from tests.simulators.footprint_bench import (
    FACTOR_SET,
    FROM_MS,
    GRID,
    KWH,
    asked,
    corrected,
    incomer,
    kwh_of,
    quarterly,
    random_store,
    step_meter,
)

# ----------------------------------------------------------------------------------------------------- corrected maps


def test_a_corrected_map_moves_energy_from_its_validity_on_and_reads_nothing_again(tmp_path: Path) -> None:
    bench, _ = quarterly(step_meter("a", "fct_test"))
    quarters = Quarters()
    before = asked(bench, quarters, hours=1)
    assert kwh_of(before) == {"fct_test": "4.000000000000"}
    correction = corrected(tmp_path)
    after = asked(bench, quarters, hours=1, corrections=(correction,))
    assert kwh_of(after) == {"fct_test": "1.000000000000", "packaging": "3.000000000000"}
    assert after.footprint.electricity == before.footprint.electricity
    assert quarters.refresh(bench.store).read == 0
    assert after.document == asked(bench, hours=1, corrections=(correction,)).document
    made_of: Any = after.document["made_of"]
    assert made_of["corrected_maps"][0]["sha256"] == correction.locked.sha256


def test_virtual_meters_and_rated_power_of_a_corrected_map(tmp_path: Path) -> None:
    """Of the hall's 4 kWh, 2 h of 3 kW at 50 % a day, for a 24th of a day, are 0.125 kWh; the rest has the oven."""
    bench, _ = quarterly(incomer("hall"), step_meter("a", "fct_test"))
    correction = corrected(
        tmp_path,
        valid_from=text_of_ms(FROM_MS),
        meters=[
            {"meter": "hall", "role": "incomer", "parent": None, "steps": {}},
            {"meter": "a", "role": "step", "parent": None, "steps": {"fct_test": "1"}},
        ],
        virtual=[
            {"id": "half", "terms": [{"meter": "hall", "coefficient": "1/2"}], "steps": {"packaging": "1"}}
        ],
        estimates=[
            {
                "step": "calibration",
                "rated_kw": "3",
                "hours_per_day": "2",
                "load_factor": "0.5",
                "taken_from": "hall",
            }
        ],
    )
    answer = asked(bench, hours=1, corrections=(correction,))
    assert kwh_of(answer) == {
        "fct_test": "4.000000000000",
        "packaging": "2.000000000000",
        "calibration": "0.125000000000",
    }
    statuses = {row.id: row.status for row in answer.footprint.rows if row.amount}
    assert statuses == {
        "fct_test": Status.MEASURED,
        "packaging": Status.VIRTUAL,
        "calibration": Status.ESTIMATED,
    }
    said: Any = answer.document["electricity"]
    assert said["unassigned_kwh"] == "1.875000000000"
    uncertainty: Any = answer.document["uncertainty"]
    assert uncertainty["meter_next"][:2] == ["calibration", "packaging"]


def test_a_negative_residual_is_kept_and_said() -> None:
    """The hall counted 4 kWh, the class 1 meter below it 5: what remains for packaging is -1, beyond its classes."""
    gateway = Gateway(meters=(step_meter("hall", "packaging"), step_meter("a", "fct_test", parent="hall")))
    bench = Bench((gateway,))
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("hall", 4 * KWH), gateway.delta("a", 5 * KWH)]))
    answer = asked(bench)
    assert kwh_of(answer) == {"fct_test": "5.000000000000", "packaging": "-1.000000000000"}
    assert answer.footprint.electricity.value == 4 * GRID
    (note,) = [row.note for row in answer.footprint.rows if row.id == "packaging"]
    assert note == "by virtual meter; negative, and kept so; more than the meters' classes explain"


def test_a_map_that_counts_twice_only_with_the_descriptor_is_refused_too(tmp_path: Path) -> None:
    bench, _ = quarterly(step_meter("a", "fct_test"))
    terms = [{"meter": "a", "coefficient": "1/4"}]
    virtual = [{"id": "v", "terms": terms, "steps": {"packaging": "1"}}]
    correction = corrected(tmp_path, meters=None, virtual=virtual)
    with pytest.raises(ConfigError, match="counts a kWh twice: a is used 5/4 times"):
        asked(bench, hours=1, corrections=(correction,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "template"}, "is no step map"),
        ({"valid_from": "2026-01-01T00:01:00.000Z"}, "is not a quarter of an hour"),
        ({"valid_from": "yesterday"}, "yesterday"),
        ({"meters": [{"meter": "a", "role": "boss"}]}, "boss"),
        ({"meters": [{"meter": "a", "steps": {"x": "2/3", "y": "2/3"}}]}, "add up to more than one"),
        (
            {"virtual": [{"id": "v", "terms": [{"meter": "z", "coefficient": "1"}], "steps": {"x": "1"}}]},
            "no meter",
        ),
        (
            {"virtual": [{"id": "v", "terms": [{"meter": "a", "coefficient": "1"}], "steps": {"x": "1"}}]},
            "twice",
        ),
        (
            {"estimates": [{"step": "x", "rated_kw": "1", "hours_per_day": "25", "load_factor": "1"}]},
            "hours 0 to 24",
        ),
    ],
)
def test_a_map_that_is_wrong_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        corrected(tmp_path, **changes)


def test_the_map_in_the_readme_is_one(tmp_path: Path) -> None:
    page = config_path("factors", "README.md").read_text("utf-8")
    (example,) = [block.removeprefix("json\n") for block in page.split("```") if block.startswith("json\n")]
    (tmp_path / "map.json").write_text(example)
    lock(tmp_path / "map.json")
    assert Correction.of(open_locked(tmp_path / "map.json")).agent == "zj-meterworks/gw01"


def test_two_maps_for_one_time_are_refused(tmp_path: Path) -> None:
    bench, _ = quarterly(step_meter("a", "fct_test"))
    two = (corrected(tmp_path), corrected(tmp_path, name="map.3.json", version="3"))
    with pytest.raises(ConfigError, match="at the same time"):
        asked(bench, hours=1, corrections=two)


# ---------------------------------------------------------------------------------------------------------- documents


def test_an_old_report_is_made_again_byte_for_byte_after_more_has_come() -> None:
    bench, gateway, sealed = random_store(4)
    bench.send(*sealed[:30])
    old = asked(bench, hours=48).document
    bench.send(*sealed[30:])
    gateway.now_ms += MINUTE_MS
    gateway.describe(
        incomer(), step_meter("a", "packaging", parent="in"), step_meter("b", "packaging", parent="in")
    )
    bench.send(gateway.say([gateway.delta("a", KWH)], gateway.carried()))
    new = asked(bench, hours=48).document
    messages: Any = old["made_of"]["messages"]  # type: ignore[index]
    heads = {name: ChainHead.from_payload(said["head"], name) for name, said in messages.items()}
    again = asked(bench, hours=48, up_to=heads).document
    assert new != old
    assert json.dumps(again, ensure_ascii=False) == json.dumps(old, ensure_ascii=False)


def test_a_report_quotes_what_it_was_made_of() -> None:
    bench, gateway, sealed = random_store(4)
    bench.send(*sealed)
    answer = asked(bench, hours=48)
    made_of: Any = answer.document["made_of"]
    template: Any = answer.document["template"]
    assert template["sha256"] == sha256_of(config_path("factors", "electricity-meter.1.json").read_bytes())
    assert made_of["factors"]["sha256"] == FACTOR_SET.sha256
    assert made_of["maps"] == {"gw01": {"rev": 1, "hash": gateway.cfg}}
    assert gateway.head is not None
    said = made_of["messages"]["gw01"]
    assert said["head"] == gateway.head.to_payload()
    assert said["booked"] == [{"chain": gateway.chain, "seq_first": 1, "seq_last": 40, "batches": 40}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to_ms": FROM_MS}, "ends before it begins"),
        ({"to_ms": FROM_MS + 1}, "not on the grid"),
        ({"org": "nobody"}, "knows no gateway of nobody"),
        ({"from_ms": 0}, "is not valid for 1970-01-01"),
        ({"factors": {}}, "has no factor cn_grid_footprint_"),
    ],
)
def test_a_question_that_cannot_be_answered(changes: dict[str, Any], reason: str) -> None:
    bench, _ = quarterly(step_meter("a", "fct_test"))
    with pytest.raises(ConfigError, match=reason):
        asked(bench, **changes)


def test_a_factor_of_co2_alone_is_refused() -> None:
    bench, _ = quarterly(step_meter("a", "fct_test"))
    locked, factors = open_factors(config_path("factors", "cn-electricity-co2.1.json"))
    template = replace(open_template(), electricity_family="cn_grid_co2_20")
    with pytest.raises(ConfigError, match="kgCO2 cannot be added to kgCO2e"):
        asked(bench, factors=factors, factor_set=locked, template=template)


def test_a_period_over_new_year_counts_each_year_by_its_factor() -> None:
    """From 2023 into 2024: the factors differ, and so does each part of the energy."""
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    new_year_ms = 1_704_067_200_000
    gateway.now_ms = gateway.counters["a"].end_ms = new_year_ms - QUARTER_MS
    bench = Bench((gateway,))
    for kwh in (3, 5):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", kwh * KWH)]))
    answer = asked(bench, from_ms=new_year_ms - QUARTER_MS, to_ms=new_year_ms + QUARTER_MS)
    assert answer.footprint.electricity.value == 3 * Fraction("0.6205") + 5 * GRID
