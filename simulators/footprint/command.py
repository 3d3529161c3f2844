"""The command `metering-sim footprint`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agent.carbon.report import document
from agent.carbon.sharing import STATES, UNKNOWN, parts_of_report
from agent.carbon.uncertainty import uncertainty_of
from agent.errors import ConfigError
from agent.settings.locked import open_template
from simulators.footprint.activity import read_folder
from simulators.footprint.sharing import spans_of

REFUSED = 2
NEXT = 5
"""So many steps are named as those to meter next; JSON has all."""


@click.command()
@click.option(
    "--activity",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with steps.csv, materials.csv, fuels.csv, wastes.csv, factors.csv and production.csv.",
)
@click.option(
    "--template", type=click.Path(path_type=Path, dir_okay=False), help="A locked template [the shipped one]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures as decimal strings.")
def footprint(folder: Path, template: Path | None, as_json: bool) -> None:
    """Compute E = Em + Ep of the activity in a folder, by the template's locked rules.

    Sources that no file speaks of are listed as missing and are in no sum. Exit code 2 and every fault on stderr, with
    file and row, where one entry is wrong; then nothing is computed.
    """
    try:
        rules = open_template(template)
        activity = read_folder(folder, rules)
        result = activity.evaluate(rules)
    except ConfigError as error:
        refuse(error)
    said = document(
        result,
        uncertainty=uncertainty_of(result, activity.kwh_variances),
        made_of={"files": dict(sorted(activity.hashes.items()))},
    )
    said |= parts_of_report(result, activity.sharing, spans_of(result, activity.intervals))
    click.echo(json.dumps(said, ensure_ascii=False, indent=1) if as_json else "\n".join(lines_of(said)))


def refuse(error: ConfigError) -> None:
    """Tell all faults and end with 2."""
    faults = [str(fault) for fault in error.faults]
    count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
    click.echo("\n".join([*faults, f"{count}, nothing was computed"]), err=True)
    sys.exit(REFUSED)


def lines_of(said: dict[str, Any]) -> Iterator[str]:
    """A report for people."""
    yield f"{said['title']}; declared unit: {said['declared_unit']}"
    for name, key in (
        ("materials and their transport (Em)", "e_materials_kgco2e"),
        ("fuel (Eb)", "e_fuel_kgco2e"),
        ("electricity of the steps (Edl)", "e_electricity_kgco2e"),
        ("waste (Ew)", "e_waste_kgco2e"),
        ("production (Ep = Eb + Edl + Ew)", "e_production_kgco2e"),
        ("total (E = Em + Ep)", "e_total_kgco2e"),
    ):
        yield f"  {name:<38} {said[key]:>28} kgCO2e"
    if said["per_good_piece_kgco2e"] is not None:
        pieces = f"({said['good']} good of {said['started']})"
        yield f"  {'per good piece':<38} {said['per_good_piece_kgco2e']:>28} kgCO2e   {pieces}"
    yield ""
    for row in (*said["rows"], *said["extra"]):
        number = "" if row["number"] is None else row["number"]
        amount = "-" if row["quantity"] is None else f"{row['quantity']} {row['unit']}"
        emission = "-" if row["kgco2e"] is None else row["kgco2e"]
        yield f"{number:>3} {row['id']:<28} {row['status']:<13} {amount:>30} {emission:>24}"
    yield ""
    yield from _balance(said.get("electricity"))
    yield from _products(said.get("products"))
    yield from _states(said.get("states"))
    counted, whole = said["completeness"], "complete" if said["complete"] else "NOT complete"
    yield f"{counted['with_a_figure']} of {counted['sources']} sources have a figure; {whole}"
    if said["uncertainty"] is not None and said["uncertainty"]["expanded_percent"] is not None:
        yield f"uncertainty (k = 2): {said['uncertainty']['expanded_percent']} %"
    if said["uncertainty"] is not None and said["uncertainty"]["meter_next"]:
        yield f"what to meter next: {', '.join(said['uncertainty']['meter_next'][:NEXT])}"
    yield from (f"note: {note}" for note in said["notes"])


def _balance(said: dict[str, Any] | None) -> Iterator[str]:
    """What came in and where it went, where a platform knows."""
    if said is None:
        return
    flows = ("imported", "generated", "exported", "net_purchased")
    yield "kWh " + ", ".join(f"{flow.replace('_', ' ')} {said[f'{flow}_kwh']}" for flow in flows)
    unassigned = said["unassigned_kwh"] or "not known, a reading is missing"
    yield f"kWh of the steps {said['steps_kwh']}, of no step {unassigned} (raw: as the gateways sealed them)"
    if said["used_by_nobody"]:
        unused = (f"{meter} ({part})" for meter, part in said["used_by_nobody"].items())
        yield f"own load that no step uses: {', '.join(unused)}"
    yield ""


def _products(said: dict[str, Any] | None) -> Iterator[str]:
    """The electricity by product, where a factory has several."""
    if said is None:
        return
    for product in said["products"]:
        each = product["per_good_piece_kgco2e"]
        per_piece = "" if each is None else f"   {each} kgCO2e per good piece"
        yield f"product {product['product_id']:<22} {product['electricity_kgco2e']:>28} kgCO2e of steps{per_piece}"
    yield f"{'idle, of no product':<30} {said['idle_kgco2e']:>28} kgCO2e of steps"
    yield ""


def _states(said: dict[str, Any] | None) -> Iterator[str]:
    """The electricity by state of the equipment, where a factory says what it did."""
    if said is None:
        return
    for row in (*said["steps"], {"id": "these steps", **said}):
        parts = ", ".join(f"{state} {row[f'{state}_kwh']}" for state in (*STATES, UNKNOWN))
        yield f"{row['id']:<28} kWh {parts}"
    yield ""
