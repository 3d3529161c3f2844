"""`metering-agent restore`: where no platform answers, a person confirms from where a gateway goes on.

Shows what a file says of the chain and of each meter beside what the journal knows, asks for a name, and lets the
running agent open a new chain behind it, in one transaction. What is checked and carried out is in
`agent.service.confirming`, what may be brought in `agent.cli.restoresources`; here are the questions and the words.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.cli.chinese_restore import RESTORE as CHINESE
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, language_option, site_option
from agent.cli.running import ask_agent_once
from agent.settings.site import load_site

ENGLISH: Mapping[str, str] = {
    "platform": "{file} is a word of the platform, said {said_at}.",
    "status": "{file} is this gateway's own last status, said {said_at}. What the platform booked later is not in it.",
    "export": "{file} is this gateway's own export up to {said_at}. What the platform booked later is not in it.",
    "head": "The chain there ends with {head}.",
    "no head": "Nothing of this gateway is booked there.",
    "own": "This journal's own chain is {chain}, up to {seq}; it is left, and all of its readings are told anew.",
    "no own": "This journal has sealed nothing yet.",
    "meter": "{meter}: there epoch {epoch}, delta {n}, {kwh} kWh, read {at}, serial number {serial}",
    "here": "   here {kwh} kWh, read {at}, serial number {serial}",
    "unknown": "unknown",
    "goes-on": "   goes on there: {rise_kwh} kWh since then are told, none twice",
    "new-epoch": "   another or an unknown serial number, or another ratio: a new epoch opens and the hole is declared",
    "below": "   the register here is lower: the readings since then decide between a rollover and a new epoch",
    "unknown-there": "{meter}: not known there; it is told from its first reading here",
    "not-read-here": "   not read by this journal; it goes on when it is read again",
    "ask by": "Your name, for the chain of evidence",
    "ask confirm": "Is this where the platform stands? A new chain opens behind it, and this cannot be taken back",
    "could": "Nothing was changed. It could be: the same with --by NAME --yes.",
    "done": "Done: a new chain goes on behind {head}, and the batches that tell it are on their way.",
    "done anew": "Done: a new chain begins, and the batches that tell it are on their way.",
    "not-genuine": "the file is not to be believed: {reason}",
    "platform-answers": 'here the platform answers itself (acknowledgement = "platform"), so only its own word counts:'
    " wait for it, use courier, or ask its operator for: metering-sim platform heads",
    "stale": "the platform has said something newer since; ask its operator for a new file",
    "follows": "nothing has to be restored: this journal goes on behind {head} by itself",
    "nobody": "nobody says so; give a name: --by NAME",
}


@click.command()
@site_option
@click.argument("path", metavar="FILE_OR_DIR", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--key",
    "keys",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A public key of this gateway beside the site file's, where a lost key signed the file; repeatable.",
)
@click.option("--by", metavar="NAME", help="Who confirms; it is in the chain of evidence.")
@click.option("--yes", is_flag=True, help="Confirm without a question.")
@language_option
@json_option
@click.pass_context
def restore(
    ctx: click.Context,
    site_file: Path,
    path: Path,
    keys: tuple[Path, ...],
    by: str | None,
    yes: bool,
    language: str,
    as_json: bool,
) -> None:
    """After a lost disk where no platform answers: confirm where it stands, and go on from there.

    FILE_OR_DIR says where chain and meters stand: a statement of the platform (its operator types
    `metering-sim platform heads`), the stick of a courier, this gateway's last status from the broker, or the folder of
    its last export. Start the agent with the new journal first; it counts on meanwhile. Without --yes nothing is
    changed, except by the answers to two questions on a terminal.

    Exit code 0: done, or it could be. 1: refused, and why. 2: the file says nothing. 75: no agent runs.
    """
    from agent.cli.restoresources import read_source

    say = CHINESE if language == "zh" else ENGLISH
    source = read_source(load_site(site_file, any_budget=True), path, keys)
    question = {**source.question, "evidence": source.evidence}
    if yes and by:
        answer = _ask(site_file, {"do": "confirm", "by": by, **question})
    else:
        answer = _ask(site_file, {"do": "look", **question})
        answer = _no_name(answer) if yes else answer
    if as_json:
        click.echo(
            json.dumps({"source": source.kind, "evidence": source.evidence, **answer}, ensure_ascii=False)
        )
        ctx.exit(_code(answer))
    if "meters" in answer:
        click.echo(_described(say, source.kind, source.path, answer))
    if not yes and not answer["objections"] and sys.stdin.isatty():
        name = by or str(click.prompt(say["ask by"])).strip()
        if click.confirm(say["ask confirm"]):
            answer = _ask(site_file, {"do": "confirm", "by": name, **question})
    click.echo(ended(say, answer))
    ctx.exit(_code(answer))


def _ask(site_file: Path, question: Mapping[str, object]) -> dict[str, Any]:
    return ask_agent_once(site_file, "restore", question)


def _no_name(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "objections": answer["objections"] or [{"code": "nobody", "values": {}}]}


def _code(answer: Mapping[str, Any]) -> int:
    return NO if answer["objections"] else OK


def _described(say: Mapping[str, str], kind: str, file: Path, answer: Mapping[str, Any]) -> str:
    head, own = answer["head"], answer["own"]
    lines = [say[kind].format(file=file, said_at=answer["said_at"])]
    lines.append(say["no head"] if head is None else say["head"].format(head=_place(head)))
    lines.append(say["no own"] if own is None else say["own"].format_map(own))
    for row in answer["meters"]:
        if "file" in row:
            lines.append(say["meter"].format(meter=row["meter"], **_known(say, row["file"])))
        if "file" in row and "journal" in row:
            lines.append(say["here"].format_map(_known(say, row["journal"])))
        lines.append(say[row["remark"]].format(meter=row["meter"], rise_kwh=row.get("rise_kwh", "")))
    return "\n".join(lines)


def _known(say: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "serial": values["serial"] or say["unknown"]}


def _place(head: Mapping[str, Any]) -> str:
    return f"{head['chain']}/{head['seq']}"


def ended(say: Mapping[str, str], answer: Mapping[str, Any]) -> str:
    """How it ended: objections, what could be done, or what was done; in the words of one language."""
    if answer["objections"]:
        return "\n".join(say[each["code"]].format_map(each["values"]) for each in answer["objections"])
    if not answer["done"]:
        return say["could"]
    if answer["head"] is None:
        return say["done anew"]
    return say["done"].format(head=_place(answer["head"]))
