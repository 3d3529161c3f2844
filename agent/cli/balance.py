"""`metering-agent balance`: each meter against the meters behind it, of today or of a period.

The running agent is asked; where none runs, the journal is opened. What is compared, and how far meters may err, is in
`agent.metering.residual`; here are the words.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.chinese import BALANCE as CHINESE
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, language_option, site_option
from agent.cli.periods import counted, period_of, period_options

ENGLISH: Mapping[str, str] = {
    "title": "Balance from {from} to {to}",
    "nothing": "No meter of the site file has others behind it (parent = ...), or nothing is sealed in this period.",
    "node": "{meter}: {inflow_kwh} kWh came in, {behind_kwh} kWh counted behind it ({meters})",
    "residual": "  left over {residual_kwh} kWh{percent}; the meters' classes allow {tolerance_kwh} kWh",
    "agrees": "  agrees",
    "unmetered": "  unmetered: loads without a meter, or losses",
    "impossible": "  IMPOSSIBLE: more is counted behind it than came in. Check the CT ratios of these meters, and"
    " whether each stands behind {meter}",
    "incomplete": "  incomplete, no judgement: nothing sealed of {lacking}",
    "assumed": "  class {assumed_class} is assumed for {assumed}: put accuracy_class into the site file",
    "holes": "  not all of it was metered: epochs changed at {holes}; what was used meanwhile is in no delta",
    "elsewhere": "{meter} stands behind {parent} of another gateway; the platform compares those",
    "maps": "The site file was changed in this period; meters are compared as they stood at its end.",
}


@click.command()
@site_option
@period_options
@language_option
@json_option
@click.pass_context
def balance(
    ctx: click.Context, site_file: Path, from_ms: int | None, to_ms: int | None, language: str, as_json: bool
) -> None:
    """Compare every meter that has others behind it (parent = ... in the site file) with their sum.

    What is left over keeps its sign: below zero the meters behind counted more than came in, which beyond their
    accuracy classes is a wrong CT ratio or a meter at the wrong place. Times are UTC unless they have an offset.

    Exit code 0: nothing is impossible. 1: a balance is impossible.
    """
    from agent.service.balancing import Balance

    found = counted(site_file, "balance", *period_of(from_ms, to_ms), Balance)
    words = CHINESE if language == "zh" else ENGLISH
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else text_of(found, words))
    nodes: Any = found["nodes"]
    ctx.exit(NO if any(node["verdict"] == "impossible" for node in nodes) else OK)


def text_of(found: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """The balance for a person, one node below the other."""
    lines = [words["title"].format_map(found)]
    lines += [line for node in found["nodes"] for line in _node(node, found, words)]
    if not found["nodes"]:
        lines.append(words["nothing"])
    lines += [
        words["elsewhere"].format(meter=meter, parent=parent) for meter, parent in found["elsewhere"].items()
    ]
    if found["maps"] > 1:
        lines.append(words["maps"])
    return "\n".join(lines)


def _node(node: Mapping[str, Any], found: Mapping[str, Any], words: Mapping[str, str]) -> list[str]:
    values = {
        **node,
        "meters": ", ".join(node["behind"]),
        "percent": _percent(node["residual_milliwh"], node["inflow_milliwh"]),
        "lacking": ", ".join(node["lacking"]),
        "assumed": ", ".join(node["assumed"]),
        "assumed_class": found["assumed_class"],
        "holes": ", ".join(node["holes"]),
    }
    wanted = ["node", "residual", node["verdict"]]
    wanted += [name for name in ("assumed", "holes") if node[name]]
    return [words[name].format_map(values) for name in wanted]


def _percent(part: int, whole: int) -> str:
    """A signed share in tenths of a percent, by integers; nothing where there is no whole."""
    if whole <= 0:
        return ""
    tenths = (2 * abs(part) * 1000 + whole) // (2 * whole)
    return f" ({'-' if part < 0 else ''}{tenths // 10}.{tenths % 10} %)"
