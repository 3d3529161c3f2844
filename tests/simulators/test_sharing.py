"""Work orders and equipment states: `platform report` by verified quarters, `footprint` by given intervals."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from agent.carbon.exact import text_of
from agent.carbon.template import canonical
from agent.reporting.utc import text_of_ms
from agent.resources import config_path
from agent.settings.locked import lock, open_template
from simulators.cli import main
from simulators.footprint.activity import COLUMNS, LEGS
from simulators.footprint.sharing import COLUMNS as OF_SHARING
from simulators.footprint.tables import time_of_text
from simulators.platform.quarters import QUARTER_MS
from tests.simulators.bench import Bench
from tests.simulators.chains import START_MS, Gateway, described

FROM_MS = START_MS // QUARTER_MS * QUARTER_MS
KWH = 1_000_000
GRID = Fraction("0.5777")
DAY = 86_400_000


def at(quarters: float) -> str:
    """So many quarters of an hour after the beginning, as a factory in China writes it."""
    local = text_of_ms(FROM_MS + int(quarters * QUARTER_MS) + 8 * 3_600_000)
    return local.replace(".000Z", "+08:00").replace("T", " ")


def table(name: str, *rows: str) -> str:
    return "\n".join([",".join(OF_SHARING[name]), *rows]) + "\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An hour and a quarter: placement uses 1, 2, 3, 4, 5 kWh, packaging 1 each, the hall 20 each."""
    meters = (
        described("hall", role="incomer", steps=(), modulus=None),
        described("a", steps=(("smt_placement", 1, 1),), parent="hall", modulus=None),
        described("b", steps=(("packaging", 1, 1),), parent="hall", modulus=None),
    )
    gateway = Gateway(meters=meters)
    gateway.now_ms = FROM_MS
    for counter in gateway.counters.values():
        counter.end_ms = FROM_MS
    path = tmp_path / "platform.db"
    bench = Bench((gateway,), path)
    for number in range(1, 6):
        gateway.now_ms += QUARTER_MS
        rises = {"hall": 20, "a": number, "b": 1}
        bench.send(gateway.say([gateway.delta(meter, kwh * KWH) for meter, kwh in rises.items()]))
    bench.store.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "activity"
    made.mkdir()
    (made / "production.csv").write_text("product_id,started,good\nmeter,9,8\n")
    return made


def asked(store: Path, folder: Path, *words: str, json_too: bool = True) -> Any:
    period = ["--from", text_of_ms(FROM_MS), "--to", text_of_ms(FROM_MS + 5 * QUARTER_MS)]
    options = ["--store", str(store), *period, "--activity", str(folder), *(["--json"] if json_too else [])]
    return CliRunner().invoke(main, ["platform", "report", *options, *words])


def report(store: Path, folder: Path, *words: str) -> dict[str, Any]:
    done = asked(store, folder, *words)
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def by_product(said: dict[str, Any]) -> dict[str, str]:
    return {each["product_id"]: each["electricity_kwh"] for each in said["products"]["products"]}


def written(kwh: str) -> str:
    return text_of(Fraction(kwh))


# ------------------------------------------------------------------------------------------------------------- orders


def orders(folder: Path) -> None:
    """Meter a from 0 to 1.5 quarters: 1 + 2/2 kWh; b from 2 to 4: 3 + 4; outside are 1 + 5; packaging has none."""
    rows = (f"wo-1,a,smt_placement,{at(0)},{at(1.5)}", f"wo-2,b,smt_placement,{at(2)},{at(4)}")
    (folder / "work_orders.csv").write_text(table("work_orders.csv", *rows))
    (folder / "products.csv").write_text("product_id,good\na,4\nb,0\n")


def test_work_orders_share_a_step_by_the_quarters_they_ran_in(store: Path, folder: Path) -> None:
    """Within: 2 and 7 kWh of 9; the 6 outside are 4/3 and 14/3 more; packaging's 5 had no order and stay idle."""
    orders(folder)
    said = report(store, folder)
    assert by_product(said) == {"a": written("10/3"), "b": written("35/3")}
    shared = said["products"]
    assert shared["idle_kwh"] == written("5")
    assert shared["steps_by_orders"] == ["smt_placement"]
    a, b = shared["products"]
    assert (a["of_which_outside_orders_kwh"], b["of_which_outside_orders_kwh"]) == (
        written("4/3"),
        written("14/3"),
    )
    assert a["per_good_piece_kgco2e"] == text_of(Fraction(10, 3) * GRID / 4)
    assert b["per_good_piece_kgco2e"] is None
    assert {"work_orders.csv", "products.csv"} < said["made_of"]["files"].keys()
    assert "product a" in asked(store, folder, json_too=False).stdout


def test_what_is_written_of_products_and_idle_adds_up_to_the_steps(store: Path, folder: Path) -> None:
    orders(folder)
    said = report(store, folder)
    shared = said["products"]
    kwh = [each["electricity_kwh"] for each in shared["products"]] + [shared["idle_kwh"]]
    assert sum(map(Decimal, kwh)) == Decimal(said["electricity"]["steps_kwh"])
    kgco2e = [each["electricity_kgco2e"] for each in shared["products"]] + [shared["idle_kgco2e"]]
    assert sum(map(Decimal, kgco2e)) == Decimal(said["e_electricity_kgco2e"])


def other_template(folder: Path, name: str = "electricity-meter.9.json", **rules: Any) -> str:
    document = json.loads(config_path("factors", "electricity-meter.1.json").read_text("utf-8"))
    document["rules"] |= rules
    path = folder.parent / name
    path.write_bytes(canonical({**document, "version": "9"}))
    lock(path)
    return str(path)


def test_a_template_may_leave_idle_what_was_used_outside_orders(store: Path, folder: Path) -> None:
    orders(folder)
    said = report(store, folder, "--template", other_template(folder, outside_orders="idle"))
    assert by_product(said) == {"a": written("2"), "b": written("7")}
    assert said["products"]["idle_kwh"] == written("11")
    assert "stays in the period" in said["products"]["rule"]
    done = asked(
        store,
        folder,
        "--template",
        other_template(folder, "electricity-meter.10.json", outside_orders="maybe"),
    )
    assert done.exit_code == 2
    assert "'maybe' is none of spread, idle" in done.stderr


def test_orders_count_each_quarter_by_its_own_factor(store: Path, folder: Path, tmp_path: Path) -> None:
    """Factors 0.1 to 0.5: of a 1 x 0.1 + 1 x 0.2 within; outside 1 x 0.2 + 5 x 0.5, of which it has 2/9."""
    orders(folder)
    lines = [f"{text_of_ms(FROM_MS + place * QUARTER_MS)},0.{place + 1}" for place in range(5)]
    (tmp_path / "grid.csv").write_text("\n".join(["start,kgco2e_per_kwh", *lines]))
    said = report(store, folder, "--hourly", str(tmp_path / "grid.csv"))
    a = said["products"]["products"][0]
    assert a["electricity_kgco2e"] == text_of(Fraction("0.3") + Fraction("2.7") * Fraction(2, 9))
    parts = [each["electricity_kgco2e"] for each in said["products"]["products"]]
    assert sum(map(Decimal, [*parts, said["products"]["idle_kgco2e"]])) == Decimal(
        said["e_electricity_kgco2e"]
    )


def test_utilities_by_key_are_shared_too(store: Path, folder: Path) -> None:
    """The hall counted 100 kWh, steps 20: placement is given 80 more, even over the period, and all is shared."""
    orders(folder)
    said = report(store, folder, "--template", other_template(folder, utilities={"smt_placement": "1"}))
    shared = said["products"]
    kwh = [*by_product(said).values(), shared["idle_kwh"]]
    assert sum(map(Decimal, kwh)) == 100
    # 24 + 2 and 32 + 7 kWh within their orders; the 24 + 6 outside by 26 to 39
    assert by_product(said) == {"a": written("38"), "b": written("57")}


def test_pieces_serve_the_steps_without_orders(store: Path, folder: Path) -> None:
    orders(folder)
    (folder / "processed.csv").write_text("product_id,step,pieces,weight\na,packaging,1,\nb,packaging,3,\n")
    said = report(store, folder)
    assert by_product(said) == {"a": written("55/12"), "b": written("185/12")}
    assert said["products"]["steps_by_pieces"] == ["packaging"]
    (folder / "processed.csv").write_text("product_id,step,pieces,weight\na,smt_placement,1,\n")
    done = asked(store, folder)
    assert 'processed.csv:2  step: "smt_placement" has work orders too' in done.stderr


def test_orders_of_another_year_are_said(store: Path, folder: Path) -> None:
    row = "wo-1,a,smt_placement,2001-01-01T00:00Z,2001-01-02T00:00Z"
    (folder / "work_orders.csv").write_text(table("work_orders.csv", row))
    said = report(store, folder)
    assert "1 of 1 rows of work_orders.csv lie outside the period" in said["notes"]
    assert said["products"]["idle_kwh"] == written("20")


def test_orders_change_no_figure_of_the_footprint(store: Path, folder: Path) -> None:
    before = report(store, folder)
    orders(folder)
    after = report(store, folder)
    for name in ("e_total_kgco2e", "rows", "electricity", "completeness", "uncertainty"):
        assert after[name] == before[name]


# ------------------------------------------------------------------------------------------------------------- states


def test_states_of_the_equipment_add_up_to_the_step(store: Path, folder: Path) -> None:
    """Producing for 2 quarters, 1 + 2; standby for 1.5, 3 + 4/2; off for none; 4/2 + 5 nobody knows."""
    rows = (
        f"smt_placement,producing,{at(0)},{at(2)}",
        f"smt_placement,standby,{at(2)},{at(3.5)}",
        f"packaging,off,{at(0)},{at(5)}",
    )
    (folder / "equipment_states.csv").write_text(table("equipment_states.csv", *rows))
    states = report(store, folder)["states"]
    packaging, placement = states["steps"]
    found = {name: placement[f"{name}_kwh"] for name in ("producing", "standby", "off", "unknown")}
    assert found == {
        "producing": written("3"),
        "standby": written("5"),
        "off": written("0"),
        "unknown": written("7"),
    }
    assert placement["standby_kgco2e"] == text_of(5 * GRID)
    assert packaging["off_kwh"] == written("5")
    sums = [states[f"{name}_kwh"] for name in ("producing", "standby", "off", "unknown")]
    assert sum(map(Decimal, sums)) == Decimal(states["kwh"]) == 20
    people = asked(store, folder, json_too=False).stdout
    assert "standby 5.000000000000" in people


# ---------------------------------------------------------------------------------------------------------- by a file


def intervals(folder: Path, *rows: str) -> None:
    (folder / "steps.csv").write_text("id,kwh\nsmt_placement,15\npackaging,5\n")
    (folder / "factors.csv").write_text(
        f"{','.join(COLUMNS['factors.csv'])}\ngrid_electricity,0.5777,kgCO2e/kWh,2024,CN,life_cycle,s\n"
    )
    if rows:
        (folder / "step_intervals.csv").write_text(table("step_intervals.csv", *rows))


def footprint(folder: Path) -> Any:
    return CliRunner().invoke(main, ["footprint", "--activity", str(folder), "--json"])


def test_a_folder_with_intervals_gives_what_the_platform_gives(store: Path, folder: Path) -> None:
    orders(folder)
    (folder / "equipment_states.csv").write_text(
        table("equipment_states.csv", f"smt_placement,standby,{at(2)},{at(3.5)}")
    )
    intervals(folder, *(f"smt_placement,{at(n)},{at(n + 1)},{n + 1}" for n in range(5)))
    by_platform, done = report(store, folder), footprint(folder)
    assert done.exit_code == 0, done.stderr
    by_folder = json.loads(done.stdout)
    assert (by_folder["products"], by_folder["states"]) == (by_platform["products"], by_platform["states"])


def test_thirds_are_written_so_that_they_add_up(folder: Path) -> None:
    """Each rounded by itself would leave 0.000000000001 kWh out."""
    intervals(folder)
    (folder / "steps.csv").write_text("id,kwh\npackaging,1\n")
    (folder / "processed.csv").write_text(
        table("processed.csv", *(f"{product},packaging,1," for product in "abc"))
    )
    done = footprint(folder)
    said = json.loads(done.stdout)
    assert by_product(said) == {"a": "0.333333333334", "b": "0.333333333333", "c": "0.333333333333"}
    parts = [each["electricity_kgco2e"] for each in said["products"]["products"]]
    assert sum(map(Decimal, parts)) == Decimal(said["e_electricity_kgco2e"]) == Decimal("0.5777")


def refused(folder: Path) -> list[str]:
    done = footprint(folder)
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr.replace(f"{folder}/", "").splitlines()[:-1]  # type: ignore[no-any-return]


def test_orders_without_times_of_the_kwh_are_refused(folder: Path) -> None:
    orders(folder)
    intervals(folder)
    (line,) = refused(folder)
    assert line.startswith("work_orders.csv:2  step: nobody says when smt_placement used its kWh")


def test_intervals_have_to_add_up(folder: Path) -> None:
    intervals(folder, f"smt_placement,{at(0)},{at(1)},14.9", f"fct_test,{at(0)},{at(1)},1")
    lines = refused(folder)
    assert lines[0].startswith(
        "step_intervals.csv:2  kwh: the kWh of smt_placement add up to 14.9, steps.csv says 15"
    )
    assert lines[1].startswith("step_intervals.csv:3  step: fct_test has no kWh in steps.csv")


def test_all_faults_of_all_files_are_told_at_once(store: Path, folder: Path) -> None:
    (folder / "work_orders.csv").write_text(
        table(
            "work_orders.csv",
            "wo-1,a,smt,2026-01-01T00:00Z,2026-01-01T01:00Z",
            "wo-2,,smt_placement,2026-01-01T00:00Z,2026-01-01T01:00Z",
            "wo-3,a,smt_placement,2026-01-01T00:00,2026-01-01T01:00Z",
            "wo-4,a,smt_placement,2026-02-30T00:00Z,2026-03-01T01:00Z",
            "wo-5,a,smt_placement,2026-01-02T02:00Z,2026-01-02T02:00Z",
            "wo-6,a,smt_placement,2026-01-03T00:00Z,2026-01-03T03:00Z",
            "wo-7,b,smt_placement,2026-01-03T10:00+08:00,2026-01-03T12:00+08:00",
            ",b,smt_placement,1/3/2026 8:00,2026-01-03T12:00+99:00",
        )
    )
    (folder / "equipment_states.csv").write_text(
        table("equipment_states.csv", "smt_placement,idle,2026-01-01T00:00Z,2026-01-01T01:00Z")
    )
    done = asked(store, folder)
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.replace(f"{folder}/", "").splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        'equipment_states.csv:2  state: there is no state "idle"',
        'work_orders.csv:2  step: there is no step "smt"',
        "work_orders.csv:3  product_id: is empty",
        'work_orders.csv:4  start: "2026-01-01T00:00" has no time zone',
        'work_orders.csv:5  start: "2026-02-30T00:00Z" is a time that there is not',
        "work_orders.csv:6  end: 2026-01-02T02:00Z is not after 2026-01-02T02:00Z",
        "work_orders.csv:8  start: overlaps line 7 at smt_placement",
        "work_orders.csv:9  order: is empty",
        'work_orders.csv:9  start: "1/3/2026 8:00" is not a time',
        'work_orders.csv:9  end: "2026-01-03T12:00+99:00" is in a time zone that there is not',
        "10 problems, nothing was computed",
    ]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-05-03T08:15+08:00", "2026-05-03T00:15:00.000Z"),
        ("2026-05-03 08:15:30+0800", "2026-05-03T00:15:30.000Z"),
        ("2026-05-03T00:15Z", "2026-05-03T00:15:00.000Z"),
        ("2026-05-02T20:15:00.250-04:00", "2026-05-03T00:15:00.250Z"),
    ],
)
def test_times_as_systems_write_them(text: str, same: str) -> None:
    assert text_of_ms(time_of_text(text)) == same


# ------------------------------------------------------------------------------------------------------- documentation


def test_the_schema_knows_every_file_and_its_columns() -> None:
    schema = json.loads(config_path("activity", "schema.json").read_text("utf-8"))
    files = {**COLUMNS, LEGS[0]: LEGS[1], **OF_SHARING}
    assert {name: entry["items"]["required"] for name, entry in schema["properties"].items()} == {
        name: list(columns) for name, columns in files.items()
    }


def test_the_examples_of_the_page_are_read_and_match_the_schema(tmp_path: Path) -> None:
    """Every example is put into one folder and computed."""
    page = config_path("activity", "README.md").read_text("utf-8")
    schema = json.loads(config_path("activity", "schema.json").read_text("utf-8"))
    found = {}
    for section in page.split("\n### ")[1:]:
        name = section.split("`")[1]
        text = section.split("```csv\n")[1].split("```")[0]
        (tmp_path / name).write_text(text)
        header, *rows = (line.split(",") for line in text.splitlines())
        found[name] = [dict(zip(header, row, strict=True)) for row in rows]
    assert found.keys() == schema["properties"].keys()
    jsonschema.Draft202012Validator(schema).validate(found)
    done = footprint(tmp_path)
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (len(said["products"]["products"]), len(said["states"]["steps"])) == (2, 1)
    assert len(open_template().sources) == len(said["rows"])
