"""A small folder of activity as a person would fill it in, and what `metering-sim footprint` says of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def writer(folder: Path) -> Write:
    """What writes a folder: the small activity, other rows for the files that are named; None leaves a file out."""

    def written(**changes: list[str] | None) -> Path:
        named = {f"{name}.csv": rows for name, rows in changes.items()}
        for name, rows in {**SMALL, **named}.items():
            if rows is not None:
                header = ",".join(COLUMNS[name])
                (folder / name).write_text("\n".join([header, *rows]) + "\n", "utf-8")
        return folder

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
