"""`metering-agent run`: the service itself."""

from pathlib import Path

import click

from agent.cli.options import site_option


@click.command()
@site_option
@click.pass_context
def run(ctx: click.Context, site_file: Path) -> None:
    """Read the meters, seal the energy of each interval and report it, until stopped.

    Stops in good order on SIGTERM and Ctrl-C: what was read is sealed and kept, and sent after the next start. Whether
    a site file is right is better asked before: metering-agent check.
    """
    from agent.settings.apart import load_site_apart

    site = load_site_apart(site_file, any_budget=True)

    # Only now: with a wrong site file nothing else matters, not even whether every library is there.
    from agent.wiring import run_agent

    ctx.exit(run_agent(site))
