"""The command `metering-sim`: everything around the agent that a factory and a platform would be.

Each command lives beside the thing it runs and is imported when it is asked for, so that starting a broker does not
load a factory.
"""

import importlib

import click

COMMANDS = {
    "broker": ("simulators.broker.commands:broker", "Run a small MQTT 5 broker in memory."),
    "demo": (
        "simulators.demo:demo",
        "Factory, broker, platform and the real agent together, checked to the last 0.001 Wh.",
    ),
    "factory": (
        "simulators.meters_cli:factory",
        "A factory of 26 steps with shifts, standby and believable loads.",
    ),
    "footprint": (
        "simulators.footprint.command:footprint",
        "E = Em + Ep of a folder of activity data, exactly.",
    ),
    "meters": ("simulators.meters_cli:meters", "Serve every meter that a site file names."),
    "platform": ("simulators.platform.commands:platform", "The reference carbon platform."),
    "world": (
        "simulators.world.commands:world",
        "Whole factories by seed, with every fault there is, checked to the last 0.001 Wh.",
    ),
}
"""Command name -> module and attribute of its click command, and what the list of commands says of it."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is first needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, nothing imported."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup)
@click.version_option(package_name="metering-agent", prog_name="metering-sim")
def main() -> None:
    """Meters, factory, broker and carbon platform: the surroundings of the metering agent, for trying and testing."""
