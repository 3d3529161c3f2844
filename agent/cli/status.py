"""`metering-agent status`: how the running agent is, and what to do about each thing that is not well."""

import json
import shutil
from pathlib import Path

import click

from agent.adapters.sitefile import SiteFile
from agent.cli.exits import NO, OK
from agent.cli.options import json_option, site_option
from agent.cli.running import ask_agent
from agent.service.advice import NOTICE, WARNING, Problem


@click.command()
@site_option
@click.option("--all", "everything", is_flag=True, help="Every problem and a table of all meters.")
@click.option(
    "--lang",
    "language",
    type=click.Choice(["en", "zh"]),
    default="en",
    show_default=True,
    help="Language of the text: English or Chinese.",
)
@json_option
@click.pass_context
def status(ctx: click.Context, site_file: Path, everything: bool, language: str, as_json: bool) -> None:
    """Say how the running agent is: meters, lines, journal, platform, clock, certificates.

    The text fits one screen; what needs attention is at its end, each with what to do about it. "!!" marks what cannot
    wait. The JSON has everything, for every meter.

    Exit code 0: all is well. 1: something needs attention. 75: no agent runs.
    """
    from agent.cli import chinese
    from agent.cli.statuspage import ENGLISH, Language, page

    said = ask_agent(site_file, "status")
    problems = said["problems"]
    assert isinstance(problems, list)
    problems += _of_the_site_file(site_file, said)
    if as_json:
        click.echo(json.dumps({"ok": not problems, **said}, ensure_ascii=False))
    else:
        say = Language(chinese.LABELS, chinese.SENTENCES) if language == "zh" else ENGLISH
        screen = shutil.get_terminal_size((80, 24))
        click.echo(
            page(said, say, width=max(60, screen.columns), height=None if everything else screen.lines)
        )
    ctx.exit(NO if problems else OK)


def _of_the_site_file(site_file: Path, said: dict[str, object]) -> list[dict[str, object]]:
    """Whether a change of the site file is open, or the agent runs with another text than the one that is there now."""
    site, file = said["site"], SiteFile(site_file)
    assert isinstance(site, dict)
    now, record, subject = file.sha256(), file.record(), str(site_file)
    if record is not None:
        if file.is_locked():
            return [Problem("apply-running", NOTICE, subject).as_json()]
        which = {record.before: "old", record.after: "new"}.get(now or "", "edited")
        return [Problem("apply-unfinished", WARNING, subject, {"which": which}).as_json()]
    if now is None or now == site["sha256"]:
        return []
    return [Problem("site-changed", NOTICE, subject).as_json()]
