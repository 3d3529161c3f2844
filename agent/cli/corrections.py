"""Raw, adjusted and estimated energy beside one another, for `verify` and whoever else shows them.

Rounded here and nowhere else, to 0.001 Wh.
"""

from collections.abc import Iterator

from agent.metering.quantity import format_kwh
from agent.reporting.adjustment import Adjustment, Corrected, Corrections
from agent.reporting.utc import text_of_ms
from agent.reporting.verdict import Report

_HEADING = ("", "raw kWh", "adjusted kWh", "estimated kWh", "wrong by at most")


def as_text(report: Report) -> Iterator[str]:
    """The paragraphs about adjustments; none where there is no adjustment."""
    found = report.corrections
    if found is None:
        yield (
            "ADJUSTMENTS are in the file. Standard input can be read only once: name the file to see adjusted energy."
        )
    elif found.applied or found.not_here:
        yield text_of(found)


def text_of(found: Corrections) -> str:
    """A table of what was moved, and who moved it."""
    meters = [(meter, each) for meter, each in sorted(found.by_meter.items())]
    steps = [(step or "unassigned", each) for step, each in sorted(found.by_step.items(), key=_by_name)]
    rows = [_HEADING, *(_row(name, each) for name, each in [*meters, *steps])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADING))]
    lines = [
        "ADJUSTMENTS (the totals above are raw: as sealed, nothing of this is in them)",
        *("  " + _aligned(row, widths) for row in rows),
        *(f"  {sentence(each)}" for each in found.applied),
    ]
    if found.not_here:
        lines.append(f"  {found.not_here} more of deltas that are not all here; not applied")
    return "\n".join(lines)


def _by_name(item: tuple[str | None, Corrected]) -> tuple[bool, str]:
    return item[0] is None, item[0] or ""


def _row(name: str, each: Corrected) -> tuple[str, ...]:
    exact = (each.raw, each.adjusted, each.estimated, each.bound)
    return name, *(format_kwh(round(value)) for value in exact)


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    name, *figures = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([name, *figures])


def sentence(adjustment: Adjustment) -> str:
    """Who adjusted what, by how much and why."""
    run = f"{adjustment.meter}, epoch {adjustment.epoch}, deltas {adjustment.n_from} to {adjustment.n_to}"
    if adjustment.energy_milliwh is None:
        what = f"times {adjustment.factor}"
    else:
        energy, bound = format_kwh(adjustment.energy_milliwh), format_kwh(adjustment.bound_milliwh)
        what = f"{energy} kWh added, wrong by at most {bound} kWh"
    at = text_of_ms(adjustment.at_ms)
    return f"{run}: {what}; {adjustment.reason} ({adjustment.by}, {at}, evidence {adjustment.evidence})"


def as_json(found: Corrections | None) -> dict[str, object] | None:
    """For programs: exact fractions of 0.001 Wh as text; null where they were not computed."""
    if found is None:
        return None
    return {
        "by_meter": {meter: _figures(each) for meter, each in sorted(found.by_meter.items())},
        "by_step": {
            step: _figures(each) for step, each in sorted(found.by_step.items(), key=_by_name) if step
        },
        "unassigned": _figures(found.by_step[None]) if None in found.by_step else None,
        "applied": [
            {
                "meter": each.meter,
                "epoch": each.epoch,
                "n_from": each.n_from,
                "n_to": each.n_to,
                "factor": None if each.factor is None else str(each.factor),
                "energy": each.energy_milliwh,
                "bound": each.bound_milliwh,
                "reason": each.reason,
                "evidence": each.evidence,
                "by": each.by,
                "at": text_of_ms(each.at_ms),
            }
            for each in found.applied
        ],
        "not_here": found.not_here,
    }


def _figures(each: Corrected) -> dict[str, str]:
    return {
        "raw": str(each.raw),
        "adjusted": str(each.adjusted),
        "estimated": str(each.estimated),
        "bound": str(each.bound),
    }
