"""The command `metering-agent` itself: which commands there are, and how they end."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click

from agent import __version__
from agent.cli.exits import code_of, explain
from agent.errors import MeteringError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is defined (`module:attribute`) and its line in the list of commands."""

    target: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "run": Entry("agent.cli.run:run", "Read the meters, seal the energy, report it. The service itself."),
    "check": Entry("agent.cli.check:check", "Say what a site file means, or everything that is wrong in it."),
    "keygen": Entry("agent.cli.keygen:keygen", "Make the signing key of this gateway."),
    "enrol": Entry(
        "agent.cli.enrol:enrol", "Show the key's thumbprint and QR code, and ask the platform to register it."
    ),
    "scan": Entry(
        "agent.cli.scan:scan", "Say which meters are on a line, with which settings, and what they are."
    ),
    "probe": Entry(
        "agent.cli.probe:probe",
        "Find out what the registers of an unknown Modbus meter mean, and draft a profile.",
    ),
    "meter-setup": Entry(
        "agent.cli.meter_setup:meter_setup",
        "Give one meter another address or speed. Writes to it; asks first.",
    ),
    "read": Entry(
        "agent.cli.read:read", "Read one meter once, through the real line, and show every register."
    ),
    "commission": Entry(
        "agent.cli.commission:commission",
        "Watch meters for two minutes: can what they show be true, does energy agree with power?",
    ),
    "doctor": Entry(
        "agent.cli.doctor:doctor", "Say what is likely wrong with a line, and by what one can tell."
    ),
    "exchange": Entry(
        "agent.cli.exchange:exchange", "Tell the running agent that a meter was exchanged; it guides you."
    ),
    "adjust": Entry(
        "agent.cli.correct:adjust",
        "State that sealed energy was wrong, by how much and why; it stays sealed.",
    ),
    "witness": Entry(
        "agent.cli.correct:witness", "State what a meter's display showed; evidence, never energy."
    ),
    "manual": Entry("agent.cli.correct:manual", "Put a person's word beside one sealed delta."),
    "apply": Entry(
        "agent.cli.apply:apply",
        "Let another site file take over as one transaction: tried first, undone if it fails.",
    ),
    "status": Entry(
        "agent.cli.status:status", "Say how the running agent is, and what to do about what is not well."
    ),
    "balance": Entry(
        "agent.cli.balance:balance", "Compare each meter with the sum of the meters behind it, over a period."
    ),
    "preview": Entry(
        "agent.cli.preview:preview", "Show today's kWh and kgCO2e by step, marked as a preview."
    ),
    "export": Entry(
        "agent.cli.export:export", "Write the evidence of a period, with everything to check it."
    ),
    "courier": Entry(
        "agent.cli.courier:courier", "Carry batches and receipts on a stick, where there is no network."
    ),
    "restore": Entry(
        "agent.cli.restore:restore",
        "After a lost disk where no platform answers: confirm from where to go on.",
    ),
    "trace": Entry(
        "agent.cli.trace:trace", "Show the whole life of one kWh: words, gates, delta, batch, receipt."
    ),
    "verify": Entry(
        "agent.cli.verify:verify", "Prove from a file of batches that no kWh was lost or changed."
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and ends every command by its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which an installer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a mistyped one is answered with the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from agent.settings.suggest import did_you_mean

            question = did_you_mean(args[0], COMMANDS) or f"there are {', '.join(COMMANDS)}"
            ctx.fail(f'There is no command "{args[0]}"; {question}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an error of ours becomes a sentence and an exit code, a bug keeps its traceback."""
        try:
            return super().invoke(ctx)
        except MeteringError as error:
            explain(error, ctx.invoked_subcommand)
            ctx.exit(code_of(error, ctx.invoked_subcommand))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="metering-agent", message="%(prog)s %(version)s")
def main() -> None:
    """Read electricity meters and report signed kWh: none lost, none doubled.

    A new gateway: write site.toml, run keygen, then check, then read for each meter, then
    commission, then run.

    Exit codes: 0 yes; 1 no; 2 wrong command line or file; 74 damaged data; 75 try again later; 78 run with a wrong
    site file.
    """
