"""`metering-sim footprint` refuses what it cannot understand, every fault at once, with file and row."""

import random
from pathlib import Path
from typing import Any

import pytest

from agent.resources import config_path
from simulators.footprint.activity import COLUMNS
from tests.simulators.footprint_folder import SMALL, Write, computed, refused, run


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
