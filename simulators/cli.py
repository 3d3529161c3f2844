"""The command `metering-sim`: everything around the agent that a factory and a platform would be.

Each command lives beside the thing it runs and is imported when it is asked for, so that starting a broker does not
load a factory.
"""

import importlib

import click

COMMANDS = {
    "broker": "simulators.broker.commands:broker",
    "demo": "simulators.demo:demo",
    "factory": "simulators.meters_cli:factory",
    "meters": "simulators.meters_cli:meters",
    "platform": "simulators.platform.commands:platform",
}
"""Command name -> module and attribute of its click command."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is first needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, nothing imported."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="metering-agent", prog_name="metering-sim")
def main() -> None:
    """Meters, factory, broker and carbon platform: the surroundings of the metering agent, for trying and testing."""
