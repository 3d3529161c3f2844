"""The footprint of a period over the platform's store: exact, by the map in force and by locked factors."""

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.carbon.activity import Status
from agent.carbon.template import canonical, sha256_of
from agent.errors import ConfigError
from agent.reporting.event import adjust_event
from agent.settings.locked import lock, open_factors, open_template
from simulators.platform.quarters import QUARTER_MS, split_by_quarter
from simulators.platform.reporting import read_series
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, Gateway, described, signer
from tests.simulators.footprint_bench import (
    FROM_MS,
    GRID,
    KWH,
    asked,
    hourly,
    incomer,
    kwh_of,
    quarterly,
    step_meter,
)

# ---------------------------------------------------------------------------------------------------------------- grid


@pytest.mark.parametrize(
    ("start", "end", "energy", "parts"),
    [
        (0, 900_000, 7, [(0, 7, 900_000)]),
        (900_000, 1_800_000, 7, [(1, 7, 900_000)]),
        (450_000, 1_350_000, 7, [(0, 3, 450_000), (1, 4, 450_000)]),
        (0, 2_700_000, 100, [(0, 33, 900_000), (1, 33, 900_000), (2, 34, 900_000)]),
        (900_000, 900_000, 5, [(0, 5, 0)]),
        (1_000_000, 950_000, 5, [(1, 5, 0)]),
    ],
)
def test_an_energy_is_divided_by_time_and_never_changed(
    start: int, end: int, energy: int, parts: list[tuple[int, int, int]]
) -> None:
    assert split_by_quarter(start, end, energy) == parts


def test_parts_add_up_for_any_span() -> None:
    chance = random.Random(3)
    for _ in range(2_000):
        start = chance.randrange(10**8)
        end, energy = start + chance.randrange(10**8), chance.randrange(10**12)
        parts = split_by_quarter(start, end, energy)
        assert sum(part for _, part, _ in parts) == energy
        assert all(part >= 0 for _, part, _ in parts)


# ------------------------------------------------------------------------------------------------------------- figures


def test_verified_kwh_by_the_map_and_the_factor() -> None:
    """Three intervals of 1 and 2 kWh: 3 and 6 kWh, 0.5777 each."""
    gateway = Gateway(meters=(step_meter("a", "fct_test"), step_meter("b", "packaging")))
    bench = Bench((gateway,))
    for _ in range(3):
        gateway.now_ms += MINUTE_MS
        bench.send(gateway.say([gateway.delta("a", KWH), gateway.delta("b", 2 * KWH)]))
    answer = asked(bench)
    assert kwh_of(answer) == {"fct_test": "3.000000000000", "packaging": "6.000000000000"}
    assert answer.footprint.electricity.value == 9 * GRID
    assert answer.document["e_electricity_kgco2e"] == "5.199300000000"
    statuses = {row.id: row.status for row in answer.footprint.rows if row.status is not Status.MISSING}
    assert statuses == {"fct_test": Status.MEASURED, "packaging": Status.MEASURED}
    assert answer.document["completeness"]["terms_unsaid"] == [  # type: ignore[index]
        "fuel",
        "materials",
        "production",
        "waste",
    ]
    notes: Any = answer.document["notes"]
    assert any("known for a part of the period only" in note for note in notes)


def test_what_no_step_is_given_is_unassigned_and_shares_are_marked() -> None:
    gateway = Gateway(
        meters=(
            incomer(),
            described("a", parent="in", modulus=None, steps=(("fct_test", 1, 3), ("packaging", 1, 3))),
        )
    )
    bench = Bench((gateway,))
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("in", 10 * KWH), gateway.delta("a", 6 * KWH)]))
    answer = asked(bench)
    assert kwh_of(answer) == {"fct_test": "2.000000000000", "packaging": "2.000000000000"}
    assert {row.status for row in answer.footprint.rows if row.amount} == {Status.ESTIMATED}
    said: Any = answer.document["electricity"]
    assert (said["unassigned_kwh"], said["imported_kwh"]) == ("6.000000000000", "10.000000000000")
    assert said["steps_kwh"] == "4.000000000000"


def test_what_nobody_uses_is_shown_by_meter() -> None:
    """The hall's own load is of no step, which is usual; so is a third of a shared meter, and a compressor."""
    gateway = Gateway(
        meters=(
            incomer(),
            described("a", parent="in", modulus=None, steps=(("fct_test", 1, 3), ("packaging", 1, 3))),
            described("air", role="utility", parent="in", modulus=None, steps=()),
            step_meter("b", "calibration", parent="in"),
        )
    )
    bench = Bench((gateway,))
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta(meter, KWH) for meter in ("in", "a", "air", "b")]))
    said: Any = asked(bench).document["electricity"]
    assert said["used_by_nobody"] == {"gw01/a": "1/3", "gw01/air": "1", "gw01/in": "1"}


def test_a_regional_factor_is_a_family_of_its_own(tmp_path: Path) -> None:
    document = {
        "id": "east",
        "kind": "factor-set",
        "version": "1",
        "valid_from": "2024-01-01",
        "factors": [
            {
                "id": f"east_footprint_{year}",
                "value": value,
                "unit": "kgCO2e/kWh",
                "gas": "CO2e",
                "boundary": "life cycle",
                "region": "East China",
                "year": year,
                "source": "invented",
            }
            for year, value in ((2023, "0.7"), (2024, "0.6"))
        ],
    }
    (tmp_path / "east.1.json").write_bytes(canonical(document))
    lock(tmp_path / "east.1.json")
    factor_set, factors = open_factors(tmp_path / "east.1.json")
    bench, _ = quarterly(step_meter("a", "fct_test"))
    template = replace(open_template(), electricity_family="east_footprint_")
    answer = asked(bench, hours=1, template=template, factors=factors, factor_set=factor_set)
    assert answer.footprint.electricity.value == 4 * Fraction("0.6")
    (row,) = [row for row in answer.footprint.rows if row.factor is not None]
    assert row.factor is not None
    assert row.factor.provenance.region == "East China"
    with pytest.raises(ConfigError, match=r"east\.1\.json: is not valid for 2023"):
        new_year_ms = 1_704_067_200_000
        before: dict[str, Any] = {"from_ms": new_year_ms - QUARTER_MS, "to_ms": new_year_ms}
        asked(bench, template=template, factors=factors, factor_set=factor_set, **before)


def test_a_meter_of_which_nothing_came_is_missing_and_named() -> None:
    gateway = Gateway(
        meters=(incomer(), step_meter("a", "fct_test", parent="in"), step_meter("b", "packaging"))
    )
    bench = Bench((gateway,))
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("in", KWH), gateway.delta("b", KWH)]))
    rows = {row.id: row for row in asked(bench).footprint.rows}
    assert rows["fct_test"].status is Status.MISSING
    assert rows["fct_test"].note == "incomplete: nothing came of gw01/a"
    assert rows["packaging"].status is Status.MEASURED
    said: Any = asked(bench).document["electricity"]
    assert said["unassigned_kwh"] is None


def test_a_gateway_that_said_nothing_leaves_its_steps_missing() -> None:
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    bench = Bench((gateway,))
    bench.send(gateway.interval(KWH))
    later = asked(bench, from_ms=FROM_MS + 40 * QUARTER_MS, to_ms=FROM_MS + 44 * QUARTER_MS)
    (note,) = [row.note for row in later.footprint.rows if row.id == "fct_test"]
    assert note == "incomplete: nothing came of gw01/a"


def test_a_parent_at_another_gateway_gives_up_what_its_children_count() -> None:
    hall = Gateway(meters=(incomer(),), agent="gw02", key=signer(2))
    machine = Gateway(meters=(step_meter("a", "fct_test", parent="gw02/in"),))
    bench = Bench((hall, machine))
    bench.send(hall.interval(5 * KWH), machine.interval(3 * KWH))
    said: Any = asked(bench).document["electricity"]
    assert (said["unassigned_kwh"], said["steps_kwh"]) == ("2.000000000000", "3.000000000000")


def test_supply_is_kept_apart_and_mixed_only_by_a_template_that_says_so() -> None:
    gateway = Gateway(
        meters=(
            incomer(),
            described("pv", role="generation", steps=(), parent="in", modulus=None),
            described("out", role="export", steps=(), parent="in", modulus=None),
            step_meter("a", "fct_test", parent="in"),
        )
    )
    bench = Bench((gateway,))
    gateway.now_ms += MINUTE_MS
    rises = {"in": 80, "pv": 40, "out": 20, "a": 100}
    bench.send(gateway.say([gateway.delta(meter, kwh * KWH) for meter, kwh in rises.items()]))
    plain = asked(bench)
    said: Any = plain.document["electricity"]
    assert (said["imported_kwh"], said["generated_kwh"], said["exported_kwh"], said["net_purchased_kwh"]) == (
        "80.000000000000",
        "40.000000000000",
        "20.000000000000",
        "60.000000000000",
    )
    assert plain.footprint.electricity.value == 100 * GRID
    net = asked(bench, template=replace(open_template(), supply="net"))
    assert net.footprint.electricity.value == 80 * GRID + 20 * Fraction("0.052")


def test_utilities_by_the_templates_key_raise_the_steps_and_say_so() -> None:
    gateway = Gateway(
        meters=(incomer(), step_meter("a", "fct_test", parent="in"), step_meter("b", "packaging"))
    )
    bench = Bench((gateway,))
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("in", 4 * KWH), gateway.delta("a", KWH), gateway.delta("b", KWH)]))
    key = {"fct_test": Fraction(1), "packaging": Fraction(2)}
    answer = asked(bench, template=replace(open_template(), utilities_key=key))
    assert kwh_of(answer) == {"fct_test": "2.000000000000", "packaging": "3.000000000000"}
    notes = {row.id: row.note for row in answer.footprint.rows if row.amount}
    assert "with 2.000000000000 kWh of utilities" in notes["packaging"]


def test_hourly_factors_count_each_quarter_by_its_own(tmp_path: Path) -> None:
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    gateway.now_ms = gateway.counters["a"].end_ms = FROM_MS
    bench = Bench((gateway,))
    for kwh in (1, 2, 4):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", kwh * KWH)]))
    series, sha256 = read_series(hourly(tmp_path / "grid.csv", ["0.1", "0.2", "0.3", "0.9"]))
    answer = asked(bench, hours=1, series=series, series_sha256=sha256)
    assert answer.footprint.electricity.value == Fraction("0.1") + 2 * Fraction("0.2") + 4 * Fraction("0.3")
    made_of: Any = answer.document["made_of"]
    assert made_of["series"] == {"id": "grid.csv", "sha256": sha256_of((tmp_path / "grid.csv").read_bytes())}
    short, _ = read_series(hourly(tmp_path / "short.csv", ["0.1", "0.2"]))
    with pytest.raises(ConfigError, match="has no value for"):
        asked(bench, hours=1, series=short)


def test_uncertainty_is_that_of_the_meters_classes() -> None:
    """10 kWh of class 1 with a CT of class 0.5: sqrt((1^2 + 0.5^2)/3) % of the kWh, and 5 % of the factor."""
    gateway = Gateway(
        meters=(step_meter("a", "fct_test", accuracy_class="1", ct_class="0.5S", resolution=None),)
    )
    bench = Bench((gateway,))
    bench.send(gateway.interval(10 * KWH))
    said: Any = asked(bench).document["uncertainty"]
    assert said["expanded_percent"] == "10.08"
    assert said["assumed"] == []


def test_the_figures_are_raw_and_adjustments_of_the_period_stand_beside_them() -> None:
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    gateway.now_ms = gateway.counters["a"].end_ms = FROM_MS
    bench = Bench((gateway,))
    for _ in range(4):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", 3 * KWH)]))
    before = asked(bench)
    assert not [note for note in before.document["notes"] if "raw" in note]  # type: ignore[attr-defined]
    ratio = adjust_event(
        gateway.now_ms,
        meter="a",
        epoch=1,
        n_from=1,
        n_to=3,
        factor=(4, 3),
        reason="CT 200/5",
        evidence="x",
        by="Li Na",
    )
    bench.send(gateway.say([], [ratio]))
    said: Any = asked(bench).document
    assert said["electricity"]["energy"] == "raw"
    assert said["e_electricity_kgco2e"] == before.document["e_electricity_kgco2e"]
    (note,) = [note for note in said["notes"] if "raw" in note]
    assert "gw01/a, epoch 1, deltas 1 to 3: raw 9.000000 kWh, adjusted 12.000000" in note
    later: Any = asked(bench, from_ms=FROM_MS + 4 * QUARTER_MS).document
    assert not [note for note in later["notes"] if "raw" in note], "it speaks of another period"
