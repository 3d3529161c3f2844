"""`metering-sim footprint`: the fixed interface, and folders as people and spreadsheets leave them."""

import random
from decimal import ROUND_HALF_EVEN, Decimal, getcontext

import pytest
from click.testing import CliRunner

from simulators.cli import main
from simulators.footprint.activity import COLUMNS
from tests.simulators.footprint_folder import CATALOGUE, FIGURES, Write, computed, refused, run

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
