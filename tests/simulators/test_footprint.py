"""`metering-sim footprint`: the fixed interface, and folders as people and spreadsheets leave them."""

import json
import random
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal, getcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.resources import config_path
from agent.settings.catalogue import load_catalogue
from simulators.cli import main
from simulators.footprint.activity import COLUMNS

CATALOGUE = load_catalogue(config_path("emission_sources.csv"))
FIGURES = (
    "e_total_kgco2e",
    "e_materials_kgco2e",
    "e_production_kgco2e",
    "e_fuel_kgco2e",
    "e_electricity_kgco2e",
    "e_waste_kgco2e",
    "per_good_piece_kgco2e",
)
SMALL = {
    "steps.csv": ["smt_placement,10.5", "reflow_soldering,0"],
    "materials.csv": [
        "1,metering_ic,100,piece,0.001,50,1200,0.0002157,供应商甲",
        "26,flux,2.5,L,0.8,3,10,0.0001,x",
        "28,solder_bar,3,kg,,20,10,0.0001,y",
    ],
    "fuels.csv": ["diesel,0.1,t,42.652,0.0202,0.98"],
    "wastes.csv": ["dross,4,kg,0.25"],
    "factors.csv": ["grid_electricity,0.5777,kgCO2e/kWh,2024,CN,life_cycle,announcement"],
    "production.csv": ["单相电能表,12,10"],
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a folder: the small activity, with other rows for the files that are named; None leaves a file out."""

    def written(**changes: list[str] | None) -> Path:
        named = {f"{name}.csv": rows for name, rows in changes.items()}
        for name, rows in {**SMALL, **named}.items():
            if rows is not None:
                header = ",".join(COLUMNS[name])
                (tmp_path / name).write_text("\n".join([header, *rows]) + "\n", "utf-8")
        return tmp_path

    return written


def run(folder: Path, *words: str) -> Any:
    return CliRunner().invoke(main, ["footprint", "--activity", str(folder), "--json", *words])


def computed(folder: Path) -> dict[str, Any]:
    done = run(folder)
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(folder: Path) -> list[str]:
    done = run(folder)
    assert (done.exit_code, done.stdout) == (2, "")
    lines: list[str] = done.stderr.replace(f"{folder}/", "").splitlines()
    count = len(lines) - 1
    assert lines[-1] == f"{count} problem{'' if count == 1 else 's'}, nothing was computed"
    return lines[:-1]


# ----------------------------------------------------------------------------------------------------------- interface


def test_the_figures_of_a_small_activity(write: Write) -> None:
    said = computed(write())
    assert {name: said[name] for name in FIGURES} == {
        "e_materials_kgco2e": "71.030884000000",
        "e_fuel_kgco2e": "309.590963733333",
        "e_electricity_kgco2e": "6.065850000000",
        "e_waste_kgco2e": "1.000000000000",
        "e_production_kgco2e": "316.656813733333",
        "e_total_kgco2e": "387.687697733333",
        "per_good_piece_kgco2e": "38.768769773333",
    }


def test_all_58_rows_with_their_status(write: Write) -> None:
    rows = computed(write())["rows"]
    assert [(row["number"], row["id"]) for row in rows] == [
        (source.number, source.id) for source in CATALOGUE.sources.values()
    ]
    statuses = {row["id"]: row["status"] for row in rows if row["status"] != "missing"}
    assert statuses == {
        "metering_ic": "imported",
        "flux": "imported",
        "solder_bar": "imported",
        "smt_placement": "measured",
        "reflow_soldering": "declared zero",
    }
    assert all((row["kgco2e"] is None) == (row["status"] == "missing") for row in rows)


def whole_activity(chance: random.Random) -> tuple[dict[str, list[str]], dict[str, Decimal]]:
    """All 58 sources with random decimals, and the terms in decimal arithmetic of 200 digits."""
    getcontext().prec = 200

    def number(digits: int = 6) -> Decimal:
        return Decimal(chance.randrange(1, 10**digits)).scaleb(-chance.randrange(0, 6))

    grid = number(4)
    files: dict[str, list[str]] = {name: [] for name in COLUMNS}
    terms = dict.fromkeys(("materials", "fuel", "electricity", "waste"), Decimal(0))
    for source in CATALOGUE.sources.values():
        if source.kind == "electricity":
            kwh = number()
            files["steps.csv"].append(f"{source.id},{kwh}")
            terms["electricity"] += kwh * grid
            continue
        q, m, ef, km, eft = number(), number(4), number(4), number(4), number(3)
        mass = Decimal(1) if source.unit == "kg" else m
        shown = "" if source.unit == "kg" else str(m)
        files["materials.csv"].append(
            f"{source.number},{source.id},{q},{source.unit},{shown},{ef},{km},{eft},s"
        )
        terms["materials"] += q * mass * ef + q * mass * km * eft
    for name in ("diesel", "natural_gas"):
        q, ncv, carbon, oxidation = number(), number(5), number(3), Decimal(chance.randrange(1, 101)) / 100
        files["fuels.csv"].append(f"{name},{q},t,{ncv},{carbon},{oxidation}")
        terms["fuel"] += q * ncv * carbon * oxidation * 1000 * 44 / 12
    q, ef = number(), number()
    files["wastes.csv"].append(f"dross,{q},kg,{ef}")
    terms["waste"] += q * ef
    files["factors.csv"].append(f"grid_electricity,{grid},kgCO2e/kWh,2024,CN,life_cycle,s")
    files["production.csv"].append("meter,500,480")
    return files, terms


def rounded(value: Decimal) -> str:
    return str(value.quantize(Decimal("1e-12"), rounding=ROUND_HALF_EVEN))


@pytest.mark.parametrize("seed", range(25))
def test_random_folders_equal_decimal_arithmetic(write: Write, seed: int) -> None:
    files, terms = whole_activity(random.Random(seed))
    said = computed(write(**{name.removesuffix(".csv"): rows for name, rows in files.items()}))
    total = sum(terms.values(), Decimal(0))
    assert {name: said[name] for name in FIGURES} == {
        "e_materials_kgco2e": rounded(terms["materials"]),
        "e_fuel_kgco2e": rounded(terms["fuel"]),
        "e_electricity_kgco2e": rounded(terms["electricity"]),
        "e_waste_kgco2e": rounded(terms["waste"]),
        "e_production_kgco2e": rounded(total - terms["materials"]),
        "e_total_kgco2e": rounded(total),
        "per_good_piece_kgco2e": rounded(total / 480),
    }
    assert said["complete"] is True


def test_the_same_folder_gives_the_same_bytes(write: Write) -> None:
    folder = write()
    assert run(folder).stdout == run(folder).stdout


def test_for_people_there_is_a_table(write: Write) -> None:
    done = CliRunner().invoke(main, ["footprint", "--activity", str(write())])
    assert done.exit_code == 0
    assert "partial footprint, cradle to gate" in done.stdout
    assert "NOT complete" in done.stdout


# --------------------------------------------------------------------------------------------------- missing, not zero


@pytest.mark.parametrize(
    ("name", "term", "figure"),
    [
        ("steps", "electricity", "e_electricity_kgco2e"),
        ("materials", "materials", "e_materials_kgco2e"),
        ("fuels", "fuel", "e_fuel_kgco2e"),
        ("wastes", "waste", "e_waste_kgco2e"),
    ],
)
def test_a_file_that_is_not_there_leaves_its_term_unsaid(
    write: Write, name: str, term: str, figure: str
) -> None:
    said = computed(write(**{name: None}))
    assert said["completeness"]["terms_unsaid"] == [term]
    assert said[figure] == "0.000000000000"
    assert any(f"nothing was said of {term}" in note for note in said["notes"])
    assert said["complete"] is False


def test_a_header_without_rows_says_that_there_was_none(write: Write) -> None:
    said = computed(write(fuels=[], wastes=[]))
    assert said["completeness"]["terms_unsaid"] == []


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\r\n\r\n"])
def test_a_file_with_nothing_in_it_is_as_good_as_none(write: Write, content: bytes) -> None:
    folder = write()
    (folder / "steps.csv").write_bytes(content)
    said = computed(folder)
    assert said["completeness"]["terms_unsaid"] == ["electricity"]
    assert {row["status"] for row in said["rows"] if row["kind"] == "electricity"} == {"missing"}


def test_an_empty_quantity_is_missing_and_a_zero_is_declared(write: Write) -> None:
    rows = ["26,flux,,,,,,,", "27,conformal_coating_material,,L,0.9,3,,,s", "16,battery,0,piece,,,,,"]
    said = computed(write(materials=rows, steps=["fct_test,", "packaging,0"]))
    statuses = {row["id"]: row["status"] for row in said["rows"]}
    assert (statuses["flux"], statuses["conformal_coating_material"]) == ("missing", "missing")
    assert statuses["fct_test"] == "missing"
    assert (statuses["battery"], statuses["packaging"]) == ("declared zero", "declared zero")


def test_no_good_piece_divides_nothing(write: Write) -> None:
    said = computed(write(production=["meter,12,0"]))
    assert said["per_good_piece_kgco2e"] is None
    assert said["e_total_kgco2e"] == "387.687697733333"
    assert any("no good piece" in note for note in said["notes"])
    assert computed(write(production=["meter,0,0"]))["per_good_piece_kgco2e"] is None


def test_without_production_there_is_no_figure_per_piece(write: Write) -> None:
    said = computed(write(production=[]))
    assert said["per_good_piece_kgco2e"] is None
    assert "production" in said["completeness"]["terms_unsaid"]


# -------------------------------------------------------------------------------------------------- spreadsheets' files


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_as_spreadsheets_save_them(write: Write, encoding: str, newline: str) -> None:
    folder = write()
    expected = {name: computed(folder)[name] for name in FIGURES}
    for path in folder.glob("*.csv"):
        text = path.read_text("utf-8").replace("\n", newline) + f",,{newline}" * 2
        path.write_bytes(text.encode(encoding))
    said = computed(folder)
    assert {name: said[name] for name in FIGURES} == expected
    assert said["product_id"] == "单相电能表"


def test_quoted_cells_and_columns_in_any_order(write: Write) -> None:
    folder = write()
    (folder / "steps.csv").write_text('remark,kwh,id\n"two, both ""old""\nlines",10.5, smt_placement \n')
    assert computed(folder)["e_electricity_kgco2e"] == "6.065850000000"


def test_further_legs_of_transport_have_a_file(write: Write) -> None:
    folder = write(materials=["26,flux,2.5,L,0.8,3,10,0.0001,x"])
    (folder / "transport_legs.csv").write_text("id,distance_km,ef,ef_unit\nflux,500,0.0978,kgCO2e/(t*km)\n")
    # 2 kg: 6, and 2 x 10 x 0.0001, and 0.002 t x 500 km x 0.0978
    assert computed(folder)["e_materials_kgco2e"] == "6.099800000000"


def test_a_material_outside_the_list_is_added_and_marked(write: Write) -> None:
    said = computed(write(materials=[",user-carton,5,kg,,1,0,0,s"]))
    assert said["e_materials_kgco2e"] == "5.000000000000"
    outside = said["extra"][0]
    assert (outside["id"], outside["note"]) == ("user-carton", "outside the paper's list")


def test_a_stranger_among_the_files_is_named(write: Write) -> None:
    folder = write()
    (folder / "material.csv").write_text("x")
    assert any(
        'material.csv was not read; did you mean "materials.csv"' in note
        for note in computed(folder)["notes"]
    )


def test_several_products_share_the_steps_and_add_up(write: Write) -> None:
    """Of 10.5 kWh of placement a takes 100 x 40 of 10 000 placements, b 50 x 120; nobody passed packaging."""
    folder = write(steps=["smt_placement,10.5", "packaging,2"])
    (folder / "processed.csv").write_text(
        "product_id,step,pieces,weight\na,smt_placement,100,40\nb,smt_placement,50,120\n"
    )
    (folder / "products.csv").write_text("product_id,good\na,96\nb,0\n")
    said = computed(folder)
    shared = said["products"]
    assert [(each["product_id"], each["electricity_kwh"]) for each in shared["products"]] == [
        ("a", "4.200000000000"),
        ("b", "6.300000000000"),
    ]
    assert shared["products"][0]["per_good_piece_kgco2e"] == "0.025274375000"
    assert shared["products"][1]["per_good_piece_kgco2e"] is None
    assert (shared["idle_kwh"], shared["idle_kgco2e"]) == ("2.000000000000", "1.155400000000")
    parts = [*(each["electricity_kgco2e"] for each in shared["products"]), shared["idle_kgco2e"]]
    assert sum(map(Decimal, parts)) == Decimal(said["e_electricity_kgco2e"])
    people = CliRunner().invoke(main, ["footprint", "--activity", str(folder)]).stdout
    assert "idle, of no product" in people


@pytest.mark.parametrize(
    ("name", "rows", "fault"),
    [
        (
            "processed.csv",
            "product_id,step,pieces,weight\na,smt,1,1\n",
            'processed.csv:2  step: there is no step "smt"',
        ),
        (
            "processed.csv",
            "product_id,step,pieces,weight\na,fct_test,1.5,1\n",
            "processed.csv:2  pieces: 1.5 is not",
        ),
        (
            "processed.csv",
            "product_id,step,pieces,weight\na,fct_test,1,0\n",
            "processed.csv:2  weight: is zero",
        ),
        ("processed.csv", "product_id,step\n", "processed.csv:1  pieces: this column is missing"),
        (
            "products.csv",
            "product_id,good\na,1\na,2\n",
            'products.csv:3  product_id: "a" is there a second time',
        ),
        ("products.csv", "product_id,good\na,-1\n", "products.csv:2  good: -1 is negative"),
        (
            "transport_legs.csv",
            "id,distance_km,ef,ef_unit\nflux,1,1,kgCO2e/km\n",
            "transport_legs.csv:2  distance_km",
        ),
        (
            "transport_legs.csv",
            "id,distance_km,ef,ef_unit\nglue,1,1,kgCO2e/(t*km)\n",
            "transport_legs.csv:2  id",
        ),
    ],
)
def test_faults_of_the_further_files(write: Write, name: str, rows: str, fault: str) -> None:
    folder = write()
    (folder / name).write_text(rows)
    assert refused(folder)[0].startswith(fault)


def test_methods_and_classes_of_steps(write: Write) -> None:
    folder = write()
    (folder / "steps.csv").write_text(
        "id,kwh,method,accuracy_class,ct_class\nfct_test,10,measured,1,0.5\npackaging,5,estimated,,\n"
    )
    said = computed(folder)
    statuses = {row["id"]: row["status"] for row in said["rows"]}
    assert (statuses["fct_test"], statuses["packaging"]) == ("measured", "estimated")
    assert said["uncertainty"]["meter_next"][0] == "packaging"
    assert "fct_test" not in said["uncertainty"]["assumed"]


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"steps": ["smt_placment,1"]},
            'steps.csv:2  id: there is no step "smt_placment"; did you mean "smt_placement"?',
        ),
        (
            {"steps": ["fct_test,1", "fct_test,1"]},
            'steps.csv:3  id: "fct_test" is there a second time (line 2)',
        ),
        ({"steps": ["fct_test,-1"]}, "steps.csv:2  kwh: -1 is negative"),
        ({"steps": ['fct_test,"1,5"']}, 'steps.csv:2  kwh: "1,5" has a comma'),
        ({"steps": ['fct_test,"1,234.5"']}, 'steps.csv:2  kwh: "1,234.5" has a comma'),
        ({"steps": ["fct_test,1,5"]}, "steps.csv:2  has 3 cells, not 2"),
        ({"steps": ["fct_test,十"]}, 'steps.csv:2  kwh: "十" is not a decimal number'),
        ({"steps": ["fct_test,NaN"]}, 'steps.csv:2  kwh: "NaN" is not a decimal number'),
        ({"steps": [",4"]}, "steps.csv:2  id: is empty"),
        ({"steps": ["flux,4"]}, 'steps.csv:2  id: "flux" is a source of material'),
        (
            {"materials": ["1,metering_ic,1,piece,,5,1,1,s"]},
            "materials.csv:2  kg_per_unit: a piece meets a factor per kg",
        ),
        (
            {"materials": ["26,flux,1,L,,5,1,1,s"]},
            "materials.csv:2  kg_per_unit: a L meets a factor per kg without a density",
        ),
        ({"materials": ["26,flux,1,L,0,5,1,1,s"]}, "materials.csv:2  kg_per_unit: is zero"),
        (
            {"materials": ["26,flux,1,piece,1,5,1,1,s"]},
            "materials.csv:2  unit: flux is counted in L, not in piece",
        ),
        (
            {"materials": ["26,flux,1,kWh,1,5,1,1,s"]},
            "materials.csv:2  unit: flux is counted in L, not in kWh",
        ),
        (
            {"materials": ["26,flux,1,bottle,1,5,1,1,s"]},
            'materials.csv:2  unit: "bottle" is no unit known here',
        ),
        ({"materials": ["26,flux,1,g,1,5,1,1,s"]}, "materials.csv:2  kg_per_unit: g is 0.001 kg, not 1"),
        (
            {"materials": ["26,flux,1,L,1,,1,1,s"]},
            "materials.csv:2  ef_kgco2e_per_kg: flux has a quantity and no factor",
        ),
        ({"materials": ["26,flux,1,L,1,-5,1,1,s"]}, "materials.csv:2  ef_kgco2e_per_kg: -5 is negative"),
        (
            {"materials": ["26,flux,1,L,1,5,10,,s"]},
            "materials.csv:2  transport_ef_kgco2e_per_kg_km: is empty beside a distance",
        ),
        (
            {"materials": ["26,flux,1,L,1,5,,1,s"]},
            "materials.csv:2  distance_km: is empty beside a factor of transport",
        ),
        ({"materials": ["25,flux,1,L,1,5,1,1,s"]}, 'materials.csv:2  number: "flux" is number 26, not 25'),
        ({"materials": ["99,glue,1,L,1,5,1,1,s"]}, 'materials.csv:2  id: there is no material "glue"'),
        (
            {"materials": ["26,flux,1,L,1,5,1,1,s"] * 2},
            'materials.csv:3  id: "flux" is there a second time (line 2)',
        ),
        (
            {"materials": ["7,user-box,1,kg,,5,1,1,s"]},
            "materials.csv:2  number: user-box is outside the list",
        ),
        (
            {"fuels": ["diesel,1,t,42,0.02,98"]},
            "fuels.csv:2  oxidation: 98 is more than 1; write 98 % as 0.98",
        ),
        ({"fuels": ["diesel,1,kWh,42,0.02,1"]}, "fuels.csv:2  unit: a fuel is not counted in kWh"),
        ({"fuels": ["diesel,,t,42,0.02,1"]}, "fuels.csv:2  quantity: is empty"),
        ({"fuels": ["diesel,1,t,42,0.02,1"] * 2}, 'fuels.csv:3  id: fuel "diesel" is there a second time'),
        ({"wastes": ["dross,1,km,1"]}, "wastes.csv:2  unit: waste is not counted in km"),
        ({"wastes": ["dross,1,kg,"]}, "wastes.csv:2  ef_kgco2e_per_unit: is empty"),
        ({"wastes": ["dross,1,kg,1"] * 2}, 'wastes.csv:3  id: waste "dross" is there a second time'),
        (
            {"factors": ["grid_electricity,0.5306,kgCO2/kWh,2023,CN,generation,s"]},
            "factors.csv:2  unit: kgCO2 cannot be added to kgCO2e",
        ),
        (
            {"factors": ["grid_electricity,0.5,kgCO2e/kg,2023,CN,x,s"]},
            "factors.csv:2  unit: kWh meets a factor in kgCO2e/kg",
        ),
        (
            {"factors": ["grid_electricity,0.5,kWh,2023,CN,x,s"]},
            'factors.csv:2  unit: "kWh" is not a unit of a factor',
        ),
        (
            {"factors": ["grid_electricity,-0.5,kgCO2e/kWh,2023,CN,x,s"]},
            "factors.csv:2  value: -0.5 is negative",
        ),
        ({"factors": ["grid_electricity,,kgCO2e/kWh,2023,CN,x,s"]}, "factors.csv:2  value: is empty"),
        ({"factors": ["grid_electricity,1,kgCO2e/kWh,24,CN,x,s"]}, "factors.csv:2  year: 24 is not a year"),
        (
            {"factors": ["grid_electricity,1,kgCO2e/kWh,2024,CN,x,s"] * 2},
            'factors.csv:3  id: "grid_electricity" is there a second time',
        ),
        (
            {"factors": ["grid,0.5,kgCO2e/kWh,2023,CN,x,s"]},
            'factors.csv  id: there is no factor "grid_electricity"',
        ),
        ({"factors": None}, 'factors.csv  id: there is no factor "grid_electricity"'),
        ({"production": ["meter,10,12"]}, "production.csv:2  good: 12 are good, but only 10 were started"),
        ({"production": ["meter,10,9.5"]}, "production.csv:2  good: 9.5 is not a whole number"),
        ({"production": ["meter,10,-1"]}, "production.csv:2  good: -1 is negative"),
        ({"production": ["meter,10,9", "other,10,9"]}, "production.csv:3  product_id: is a second product"),
        ({"production": [",10,9"]}, "production.csv:2  product_id: is empty"),
    ],
)  # fmt: skip
def test_every_fault_is_refused_with_file_and_row(write: Write, changes: dict[str, Any], fault: str) -> None:
    lines = refused(write(**changes))
    assert len(lines) == 1, lines
    assert lines[0].startswith(fault)


def test_all_faults_of_all_files_are_told_at_once(write: Write) -> None:
    lines = refused(
        write(
            steps=["smt_placment,1", "fct_test,-1"],
            materials=["26,flux,1,L,,5,1,1,s", "99,glue,1,L,1,5,1,1,s"],
            fuels=["diesel,1,t,42,0.02,98"],
            wastes=["dross,x,kg,1"],
            factors=["grid_electricity,0.5,kgCO2/kWh,2023,CN,x,s"],
            production=["meter,10,12"],
        )
    )
    assert [line.split("  ")[0] for line in lines] == [
        "factors.csv:2",
        "fuels.csv:2",
        "materials.csv:2",
        "materials.csv:3",
        "production.csv:2",
        "steps.csv:2",
        "steps.csv:3",
        "wastes.csv:2",
    ]


def test_a_faulty_row_tells_its_unknown_or_repeated_id_too(write: Write) -> None:
    lines = refused(
        write(
            steps=["smt,-1", "fct_test,1", "fct_test,x"],
            materials=["99,glue,x,L,1,5,1,1,s", "xx,flux,1,L,1,5,1,1,s"],
            fuels=["diesel,x,t,42,0.02,1", "diesel,1,t,42,0.02,1"],
            wastes=["dross,x,kg,1", "dross,1,kg,1"],
        )
    )
    assert [line.partition(";")[0] for line in lines] == [
        'fuels.csv:2  quantity: "x" is not a decimal number such as 12.5',
        'fuels.csv:3  id: fuel "diesel" is there a second time',
        'materials.csv:2  quantity: "x" is not a decimal number such as 12.5',
        'materials.csv:2  id: there is no material "glue"',
        'materials.csv:3  number: "xx" is not a decimal number such as 12.5',
        "steps.csv:2  kwh: -1 is negative",
        'steps.csv:2  id: there is no step "smt"',
        'steps.csv:4  kwh: "x" is not a decimal number such as 12.5',
        'steps.csv:4  id: "fct_test" is there a second time (line 3)',
        'wastes.csv:2  quantity: "x" is not a decimal number such as 12.5',
        'wastes.csv:3  id: waste "dross" is there a second time',
    ]


def test_a_folder_in_the_place_of_a_file(write: Write) -> None:
    folder = write(steps=None)
    (folder / "steps.csv").mkdir()
    (line,) = refused(folder)
    assert line.startswith("steps.csv  is a folder")


def test_a_factor_is_primary_only_where_its_row_says_so(write: Write) -> None:
    """3 kg of solder of its supplier's own 20 kgCO2e/kg: 60 of 387.687... kgCO2e."""
    folder = write()
    rows = [*SMALL["materials.csv"][:2], "28,solder_bar,3,kg,,20,10,0.0001,y"]
    header = ",".join([*COLUMNS["materials.csv"], "factor_data"])
    (folder / "materials.csv").write_text(
        "\n".join([header, rows[0] + ",", rows[1] + ",", rows[2] + ",primary"])
    )
    said = computed(folder)
    assert said["primary_data_share_percent"] == "15.48"
    assert said["primary_activity_share_percent"] == "100.00"
    (folder / "materials.csv").write_text("\n".join([header, rows[2] + ",own"]))
    (line,) = refused(folder)
    assert line.startswith('materials.csv:2  factor_data: "own" is neither primary nor secondary')


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"id;kwh\nfct_test;1\n", "steps.csv:1  the columns are not separated by commas"),
        (b"id,kWh\nfct_test,1\n", 'steps.csv:1  kwh: this column is missing; did you mean "kWh"?'),
        (b"id,kwh,kwh\nfct_test,1,2\n", "steps.csv:1  kwh: this column is there twice"),
        (b'id,kwh\n"fct_test,1\n', "steps.csv:2  this is not CSV"),
        ("id,kwh\n".encode("utf-16"), "steps.csv  is not UTF-8 text"),
        (b"id,kwh\nfct_\xff\xfftest,1\n", "steps.csv:2  is neither UTF-8 nor GB18030 text"),
        (b"id,kwh\nfct_test,\0001\n", "steps.csv  is not UTF-8 text"),
    ],
)
def test_files_that_cannot_be_understood(write: Write, content: bytes, fault: str) -> None:
    folder = write()
    (folder / "steps.csv").write_bytes(content)
    (line,) = refused(folder)
    assert line.startswith(fault)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (line,) = refused(tmp_path / "nowhere")
    assert "is no folder" in line
    (line,) = refused(tmp_path)
    assert "holds none of the files of an activity" in line


def test_a_template_that_was_changed_is_refused(write: Write, tmp_path: Path) -> None:
    data = config_path("factors", "electricity-meter.1.json").read_bytes()
    (tmp_path / "electricity-meter.1.json").write_bytes(data.replace(b"good meter", b"good  eter"))
    (tmp_path / "locked.json").write_bytes(config_path("factors", "locked.json").read_bytes())
    done = run(write(), "--template", str(tmp_path / "electricity-meter.1.json"))
    assert done.exit_code == 2
    assert "was changed" in done.stderr


def test_half_a_file_never_ends_in_a_traceback(write: Write) -> None:
    """A file cut anywhere, or with one byte changed: a report or faults, never anything else."""
    folder = write()
    chance = random.Random(7)
    for name in COLUMNS:
        data = (folder / name).read_bytes()
        for _ in range(25):
            place = chance.randrange(len(data))
            kept = b"" if chance.random() < 0.5 else bytes([chance.randrange(256)]) + data[place + 1 :]
            damaged = data[:place] + kept
            (folder / name).write_bytes(damaged)
            done = run(folder)
            assert done.exit_code in (0, 2), done.output
            assert done.exception is None or isinstance(done.exception, SystemExit)
        (folder / name).write_bytes(data)
