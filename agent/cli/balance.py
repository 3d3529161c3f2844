"""`metering-agent balance`: each meter against the meters behind it, of today or of a period.

The running agent is asked; where none runs, the journal is opened. What is compared, and how far meters may err, is in
`agent.metering.residual`; here are the words.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from agent.cli.chinese import BALANCE as CHINESE
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, site_option
from agent.cli.running import NotRunning, ask_agent
from agent.cli.times import Moment
from agent.errors import ConfigError, Fault

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
@click.option(
    "--from", "from_ms", type=Moment(), metavar="TIME", help="From this time on [the last local midnight]."
)
@click.option("--to", "to_ms", type=Moment(), metavar="TIME", help="Up to this time [now].")
@click.option(
    "--lang", "language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language."
)
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
    begins, ends = _period(from_ms, to_ms)
    try:
        found = ask_agent(site_file, "balance", {"from_ms": begins, "to_ms": ends})
    except NotRunning:
        found = _of_the_journal(site_file, begins, ends)
    words = CHINESE if language == "zh" else ENGLISH
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else text_of(found, words))
    nodes: Any = found["nodes"]
    ctx.exit(NO if any(node["verdict"] == "impossible" for node in nodes) else OK)


def _period(from_ms: int | None, to_ms: int | None) -> tuple[int, int]:
    now = datetime.now().astimezone()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = _ms(midnight) if from_ms is None else from_ms
    ends = _ms(now) if to_ms is None else to_ms
    if ends <= begins:
        raise click.BadParameter("the end is not after the beginning", param_hint="--to")
    return begins, ends


def _ms(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def _of_the_journal(site_file: Path, from_ms: int, to_ms: int) -> dict[str, object]:
    from agent.adapters.journal import open_journal
    from agent.service.balancing import Balance
    from agent.settings.site import load_site

    path = load_site(site_file, any_budget=True).journal.path
    if not path.is_file():
        reason = "there is no journal, and no agent runs"
        remedy = "name the site file of a gateway that has run"
        raise ConfigError([Fault(str(path), None, "journal.path", reason, remedy)])
    journal = open_journal(path)
    try:
        found = Balance(from_ms, to_ms)
        while found.page(journal):
            pass
        return found.to_payload()
    finally:
        journal.close()


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
