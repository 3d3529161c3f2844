"""The footprint of a period over the platform's store: exact, incremental, locked, and made again byte for byte."""

import json
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.carbon.activity import Status
from agent.carbon.exact import text_of
from agent.carbon.template import Template, canonical, sha256_of
from agent.errors import ConfigError
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import MeterDescription
from agent.reporting.utc import text_of_ms
from agent.resources import config_path
from agent.settings.locked import lock, open_factors, open_locked, open_template
from simulators.cli import main
from simulators.platform.evaluation import Answer, evaluate
from simulators.platform.maps import Correction
from simulators.platform.quarters import QUARTER_MS, Quarters, split_by_quarter
from simulators.platform.question import Question
from simulators.platform.reporting import read_series
from simulators.platform.store import SCHEMA_VERSION, SCHEMAS, Store
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, ORG, START_MS, Gateway, described, signer

FACTOR_SET, FACTORS = open_factors()
GRID = Fraction("0.5777")
FROM_MS = START_MS // QUARTER_MS * QUARTER_MS
KWH = 1_000_000


def step_meter(meter: str, step: str, **changes: Any) -> MeterDescription:
    return described(meter, steps=((step, 1, 1),), modulus=None, **changes)


def incomer(meter: str = "in", **changes: Any) -> MeterDescription:
    return described(meter, role="incomer", steps=(), modulus=None, **changes)


def question(hours: int = 24, **changes: Any) -> Question:
    made: dict[str, Any] = {
        "org": ORG,
        "from_ms": FROM_MS,
        "to_ms": FROM_MS + hours * 4 * QUARTER_MS,
        "template": open_template(),
        "factors": FACTORS,
        "factor_set": FACTOR_SET,
    }
    return Question(**{**made, **changes})


def asked(bench: Bench, quarters: Quarters | None = None, **changes: Any) -> Answer:
    return evaluate(bench.store, quarters or Quarters(), question(**changes))


def kwh_of(answer: Answer) -> dict[str, str]:
    rows: Any = answer.document["rows"]
    return {row["id"]: row["quantity"] for row in rows if row["quantity"] is not None}


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


def hourly(path: Path, values: Sequence[str]) -> Path:
    """Quarter-hourly factors from the beginning of the period."""
    lines = [f"{text_of_ms(FROM_MS + place * QUARTER_MS)},{value}" for place, value in enumerate(values)]
    path.write_text("\n".join(["start,kgco2e_per_kwh", *lines]))
    return path


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


# ---------------------------------------------------------------------------------------------------- incremental, late


def random_store(seed: int) -> tuple[Bench, Gateway, list[Any]]:
    """Batches of a day with uneven intervals, some of them not sent yet."""
    chance = random.Random(seed)
    gateway = Gateway(
        meters=(
            incomer(),
            step_meter("a", "fct_test", parent="in"),
            step_meter("b", "packaging", parent="in"),
        )
    )
    sealed = []
    for _ in range(40):
        gateway.now_ms += chance.randrange(1, 60) * MINUTE_MS
        names = [name for name in ("in", "a", "b") if chance.random() < 0.9]
        sealed.append(gateway.say([gateway.delta(name, chance.randrange(KWH)) for name in names]))
    return Bench((gateway,)), gateway, sealed


@pytest.mark.parametrize("seed", range(5))
def test_what_is_remembered_equals_a_full_recompute(seed: int) -> None:
    bench, gateway, sealed = random_store(seed)
    remembered = Quarters()
    for count in (10, 11, 25, 40):
        bench.send(*sealed[:count])
        assert asked(bench, remembered).document == asked(bench).document
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("a", KWH)]))
    assert asked(bench, remembered).document == asked(bench).document


def test_a_late_batch_reads_again_only_what_it_touches() -> None:
    bench, gateway, sealed = random_store(1)
    bench.send(*sealed)
    quarters = Quarters()
    first = quarters.refresh(bench.store)
    assert (first.read > 20, first.kept) == (True, 0)
    assert quarters.refresh(bench.store).read == 0
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("a", KWH), gateway.delta("b", KWH)]))
    late = quarters.refresh(bench.store)
    assert late.read <= 2
    assert late.kept >= first.read - 2


def test_a_released_delta_that_replaces_a_bridge_is_noticed() -> None:
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    options = {"quarantine": lambda delta: "look" if delta.n == 2 else None}
    bench = Bench((gateway,), options=options)
    for _ in range(4):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", KWH)]))
    quarters = Quarters()
    before = asked(bench, quarters)
    bench.platform.release(ORG, "gw01", "a", 1, 2)
    assert quarters.refresh(bench.store).read > 0
    assert asked(bench, quarters).document == asked(bench).document
    assert kwh_of(asked(bench, quarters)) == kwh_of(before)


def test_neighbouring_periods_add_up_to_their_union() -> None:
    bench, _, sealed = random_store(2)
    bench.send(*sealed)
    whole = asked(bench, hours=48).footprint.electricity.value
    parts = Fraction(0)
    for hour in range(48):
        from_ms = FROM_MS + hour * 4 * QUARTER_MS
        said: Any = asked(bench, from_ms=from_ms, to_ms=from_ms + 4 * QUARTER_MS).document["electricity"]
        parts += Fraction(said["steps_kwh"]) * GRID
    assert parts == whole


def test_a_damaged_memory_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.quarters"
    path.write_bytes(b"this is no database, not at all" * 100)
    bench, _, sealed = random_store(3)
    bench.send(*sealed)
    quarters = Quarters(path)
    assert asked(bench, quarters).document == asked(bench).document
    quarters.close()


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    bench, _, sealed = random_store(3)
    bench.send(*sealed)
    quarters = Quarters(tmp_path / "no such folder" / "x.quarters")
    assert asked(bench, quarters).document == asked(bench).document


def of_the_first_version(path: Path, new: Path) -> None:
    """A store as the first release would have written it: its own tables, with the rows of a new one."""
    schema = resources.files("simulators.platform").joinpath(SCHEMAS[0]).read_text("utf-8")
    connection = sqlite3.connect(path)
    connection.executescript(f"{schema};PRAGMA user_version=1;ATTACH '{new}' AS new")
    tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
    for (name,) in tables:
        columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f'PRAGMA main.table_info("{name}")'))
        connection.execute(f'DELETE FROM main."{name}"')
        connection.execute(f'INSERT INTO main."{name}" ({columns}) SELECT {columns} FROM new."{name}"')
    connection.commit()
    connection.close()


def test_a_store_of_the_first_version_is_brought_forward(tmp_path: Path) -> None:
    """As it was before stamps, with energy in it."""
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    bench = Bench((gateway,), tmp_path / "new.db")
    bench.send(*(gateway.interval(KWH) for _ in range(3)))
    expected = asked(bench).document
    bench.store.close()
    path = tmp_path / "platform.db"
    of_the_first_version(path, tmp_path / "new.db")
    with pytest.raises(ConfigError, match=f"is of version 1, not {SCHEMA_VERSION}"):
        Store.read(path)
    store = Store.create(path)
    assert evaluate(store, Quarters(), question()).document == expected
    store.close()


# ----------------------------------------------------------------------------------------------------- corrected maps


def corrected(folder: Path, name: str = "map.2.json", **changes: Any) -> Correction:
    document = {
        "kind": "step-map",
        "id": "gw01",
        "version": "2",
        "agent": f"{ORG}/gw01",
        "valid_from": text_of_ms(FROM_MS + QUARTER_MS),
        "valid_to": None,
        "meters": [{"meter": "a", "role": "step", "parent": None, "steps": {"packaging": "1"}}],
        **changes,
    }
    (folder / name).write_bytes(canonical(document))
    lock(folder / name)
    return Correction.of(open_locked(folder / name))


def quarterly(*meters: MeterDescription, quarters: int = 4) -> tuple[Bench, Gateway]:
    """A gateway that seals 1 kWh of every meter in each quarter of an hour."""
    gateway = Gateway(meters=meters)
    for counter in gateway.counters.values():
        counter.end_ms = FROM_MS
    gateway.now_ms = FROM_MS
    bench = Bench((gateway,))
    for _ in range(quarters):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta(meter.meter, KWH) for meter in meters]))
    return bench, gateway


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


# -------------------------------------------------------------------------------------------------------- command line


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["platform", *words])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with an hour of one step."""
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    gateway.now_ms = gateway.counters["a"].end_ms = FROM_MS
    path = tmp_path / "platform.db"
    bench = Bench((gateway,), path)
    for _ in range(4):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", KWH)]))
    bench.store.close()
    return path


def period(hours: int = 1) -> list[str]:
    return ["--from", text_of_ms(FROM_MS), "--to", text_of_ms(FROM_MS + hours * 4 * QUARTER_MS)]


def test_the_report_of_a_period_on_the_command_line(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    (folder / "production.csv").write_text("product_id,started,good\nmeter,9,8\n")
    words = ["report", "--store", str(store), *period(), "--activity", str(folder)]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["e_electricity_kgco2e"] == text_of(4 * GRID)
    assert said["per_good_piece_kgco2e"] == text_of(GRID / 2)
    people = run(*words).stdout
    assert "partial footprint" in people
    assert "kWh of the steps 4.000000000000, of no step 0.000000000000" in people
    assert "what to meter next: " in people
    assert run(*words, "--json", "--fresh").stdout == done.stdout
    (tmp_path / "old.json").write_text(done.stdout)
    assert run(*words, "--json", "--again", str(tmp_path / "old.json")).stdout == done.stdout


def test_the_exchange_object_on_the_command_line(store: Path, tmp_path: Path) -> None:
    from tests.carbon.test_exchange import STATEMENT, valid

    folder, stated, out = tmp_path / "day", tmp_path / "stated.json", tmp_path / "pcf.json"
    folder.mkdir()
    (folder / "production.csv").write_text("product_id,started,good\nmeter,9,8\n")
    stated.write_text(json.dumps(STATEMENT))
    words = ["report", "--store", str(store), *period(), "--activity", str(folder), "--pact", str(out)]
    assert run(*words).exit_code == 2
    assert run(*words, "--stated", str(stated)).exit_code == 0
    assert valid(json.loads(out.read_text()))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--from", "2026-01-01"], "--to: is missing"),
        (["--from", "soon", "--to", "2026-01-01"], 'report  --from: "soon" is not a time'),
        (["--from", "2026-02-30", "--to", "2026-03-01"], "is not a time"),
        ([*period(), "--org", "nobody"], "knows no gateway of nobody"),
        ([*period(), "--template", "/nowhere/t.json"], "cannot be read"),
        ([*period(), "--activity", "/nowhere"], "is no folder"),
        ([*period(), "--again", "/nowhere/r.json"], "cannot be read"),
    ],
)
def test_a_wrong_question_ends_with_2_and_a_sentence(store: Path, words: list[str], reason: str) -> None:
    done = run("report", "--store", str(store), *words)
    assert done.exit_code == 2, done.output
    assert reason in done.stderr


SERIES = "start,kgco2e_per_kwh\n"


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ("", ["  is not there, or empty"]),
        ("a,b\n", [":1  start: this column is missing", ":1  kgco2e_per_kwh: this column is missing"]),
        (SERIES, ["  h.csv: a series has at least two intervals"]),
        (
            SERIES + "soon,1\n2026-01-01T00:00,1\n2026-01-01T00:00Z,NaN\n2026-01-01T01:00Z,-1\n",
            [
                ':2  start: "soon" is not a time',
                ':3  start: "2026-01-01T00:00" has no time zone',
                ':4  kgco2e_per_kwh: "NaN" is not a decimal number',
                ":5  kgco2e_per_kwh: -1 is negative",
            ],
        ),
        (SERIES + "2026-01-01T01:00Z,1\n" * 2, [":3  start: is not after the row before it"]),
        (
            SERIES + "2026-01-01T00:00Z,1\n2026-01-01T01:00Z,1\n2026-01-01T03:00Z,1\n",
            [":4  start: an interval before it is missing"],
        ),
    ],
)
def test_a_series_that_is_wrong_is_refused_with_its_rows(
    store: Path, tmp_path: Path, rows: str, faults: list[str]
) -> None:
    (tmp_path / "h.csv").write_text(rows)
    done = run("report", "--store", str(store), *period(), "--hourly", str(tmp_path / "h.csv"))
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert len(lines) == len(faults) + 1
    for line, fault in zip(lines, faults, strict=False):
        assert line.startswith(f"{tmp_path}/h.csv{fault}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "is no JSON object"),
        ("null", "is no JSON object"),
        ("", "is not JSON in UTF-8"),
        ("{}", "companyName is not stated"),
        ('{"productMassPerDeclaredUnit": NaN}', "is not a decimal text"),
    ],
)
def test_a_statement_that_is_wrong_is_refused(store: Path, tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "stated.json").write_text(text)
    words = ["--pact", str(tmp_path / "pcf.json"), "--stated", str(tmp_path / "stated.json")]
    done = run("report", "--store", str(store), *period(), *words)
    assert done.exit_code == 2, done.exception
    assert f"{tmp_path}/stated.json  " in done.stderr
    assert fault in done.stderr
    assert not (tmp_path / "pcf.json").exists()


def test_locking_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"kind": "factor-set", "factors": []}')
    done = run("lock", str(tmp_path / "mine.json"))
    assert done.exit_code == 0
    assert done.stdout.split()[0] == sha256_of((tmp_path / "mine.json").read_bytes())
    (tmp_path / "mine.json").write_text('{"kind": "factor-set", "factors": [], "more": 1}')
    assert run("lock", str(tmp_path / "mine.json")).exit_code == 2


def test_the_shipped_template_is_the_one_that_is_used() -> None:
    assert isinstance(question().template, Template)
