"""`metering-agent check`: everything that is wrong in a site file, or what it means in plain words."""

import json
from pathlib import Path

import click

from agent.cli.exits import NO, explain
from agent.cli.options import json_option, site_option
from agent.errors import ConfigError, Fault


@click.command()
@site_option
@json_option
@click.pass_context
def check(ctx: click.Context, site_file: Path, as_json: bool) -> None:
    """Say what a site file means, or everything that is wrong in it.

    Nothing is started and no meter is asked. Exit code 0: run would start with it. 1: there are faults, each with its
    line and its remedy.
    """
    from agent.cli.keycheck import check_keys
    from agent.cli.summary import summarise, text_of
    from agent.settings.site import load_site

    try:
        site = load_site(site_file)
        check_keys(site)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "faults": [_fault_json(fault) for fault in error.faults]}))
        else:
            explain(error)
        ctx.exit(NO)
    summary = summarise(site)
    click.echo(json.dumps({"ok": True, "faults": [], **summary}) if as_json else text_of(summary))


def _fault_json(fault: Fault) -> dict[str, object]:
    return {
        "file": fault.file,
        "line": fault.line,
        "key": fault.key,
        "reason": fault.reason,
        "remedy": fault.remedy,
    }
