"""`metering-agent preview`: today's kWh and kgCO2e by step, from what is sealed.

The running agent is asked; where none runs, the journal is opened. The arithmetic is `agent.carbon`, the same that the
platform uses; what comes of it here is a preview and never a footprint, and says so.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.options import json_option, site_option
from agent.cli.periods import counted, period_of, period_options
from agent.errors import ConfigError, Fault
from agent.metering.quantity import format_kwh
from agent.reporting.utc import text_of_ms

SAID = (
    "preview: kWh as sealed here, with a default factor; no materials, fuels or wastes."
    " A footprint is issued by the platform."
)


@click.command()
@site_option
@period_options
@json_option
def preview(site_file: Path, from_ms: int | None, to_ms: int | None, as_json: bool) -> None:
    """Show kWh and kgCO2e of each step, of today or of a period, marked as a preview.

    A step of which nothing is sealed is shown as missing, not as zero. Times are UTC unless they have an offset. The
    agent may run meanwhile; where none runs, its journal is opened.
    """
    from agent.service.preview import Pager

    found = counted(site_file, "preview", *period_of(from_ms, to_ms), Pager)
    said = as_document(found, site_file)
    click.echo(json.dumps(said, ensure_ascii=False) if as_json else text_of(said))


def as_document(found: Mapping[str, Any], site_file: Path) -> dict[str, Any]:
    """The energies with their emission, for programs. Raises ConfigError."""
    from fractions import Fraction

    from agent.carbon.exact import text_of as decimal
    from agent.carbon.preview import preview as evaluate
    from agent.carbon.template import Source, factor_in_force
    from agent.service.preview import tallies_of
    from agent.settings.locked import open_factors, open_template
    from agent.settings.site import load_site

    template, (factor_set, factors) = open_template(), open_factors()
    year = int(text_of_ms(found["from_ms"])[:4])
    factor = factor_in_force(factors.values(), template.electricity_family, year)
    if factor is None:
        raise ConfigError(
            [Fault(factor_set.name, None, "", f"has no factor for {year}", "ask for a later day")]
        )
    catalogue = load_site(site_file, any_budget=True).catalogue
    sources = [
        Source(each.number, each.id, each.kind, each.name_en, each.name_zh, each.unit)
        for each in catalogue.sources.values()
    ]
    footprint = evaluate(tallies_of(found), sources, template, factor)
    steps = [row for row in footprint.rows if row.kind == "electricity"]
    kwh = sum((row.amount.value for row in steps if row.amount is not None), Fraction(0))
    return {
        "preview": True,
        "said": SAID,
        "from": text_of_ms(found["from_ms"]),
        "to": text_of_ms(found["to_ms"]),
        "factor": factor.to_payload(),
        "factor_set": factor_set.quoted(),
        "template": template.locked.quoted(),
        "steps": [
            {
                "number": row.number,
                "id": row.id,
                "name_en": row.name_en,
                "name_zh": row.name_zh,
                "status": row.status.value,
                "kwh": None if row.amount is None else decimal(row.amount.value),
                "kgco2e": None if row.emission is None else decimal(row.emission.value),
                "covered_percent": decimal(row.covered * 100, 2),
                "note": row.note,
            }
            for row in steps
        ],
        "kwh": decimal(kwh),
        "kgco2e": decimal(footprint.electricity.value),
        "unassigned_kwh": decimal(Fraction(found["unassigned"]) / 1_000_000),
        "missing": [row.id for row in steps if row.amount is None],
    }


def text_of(said: Mapping[str, Any]) -> str:
    """For people: a line a step, the sums, and what it is not."""
    factor = said["factor"]
    lines = [
        f"PREVIEW, {said['from']} to {said['to']}, {factor['value']} {factor['unit']} ({factor['id']})",
        f"{'step':<30} {'kWh':>14} {'kgCO2e':>14}  status",
    ]
    for step in said["steps"]:
        note = f", {step['note']}" if step["note"] else ""
        lines.append(
            f"{step['id']:<30} {_short(step['kwh']):>14} {_short(step['kgco2e']):>14}  {step['status']}{note}"
        )
    lines.append(f"{'all steps with a figure':<30} {_short(said['kwh']):>14} {_short(said['kgco2e']):>14}")
    lines.append(f"{'unassigned':<30} {_short(said['unassigned_kwh']):>14}")
    if said["missing"]:
        lines.append(f"{len(said['missing'])} steps are missing, and in no sum")
    return "\n".join([*lines, said["said"]])


def _short(figure: str | None) -> str:
    """Six decimals for the eye, a dash for what is missing."""
    from fractions import Fraction

    return "-" if figure is None else format_kwh(round(Fraction(figure) * 1_000_000))
