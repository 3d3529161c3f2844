"""The command as a whole: quick help, plain errors, and exit codes that a service manager can act on."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from agent import __version__
from agent.cli import exits, group, main
from agent.cli.group import COMMANDS
from agent.errors import (
    ConfigError,
    Fault,
    JournalDamaged,
    JournalFull,
    JournalHeld,
    LineDown,
    MeteringError,
    MeterRefused,
    MeterSilent,
    UplinkDown,
    UplinkRefused,
)

FAULT = ConfigError([Fault("site.toml", 3, "gateway.org", "is missing", "add it")])


def test_help_lists_every_command_without_importing_any_of_them() -> None:
    code = (
        "import sys; from agent.cli import main; main(['--help'], standalone_mode=False);"
        "print(sorted(name for name in sys.modules if name.startswith(('agent.', 'pydantic', 'paho', 'asyncio'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *page, modules = done.stdout.splitlines()
    for name in COMMANDS:
        assert any(row.split()[:1] == [name] for row in page)
    assert "pydantic" not in modules
    assert "agent.settings" not in modules
    assert "agent.cli.run" not in modules


def test_the_version() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"metering-agent {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert "Usage: " in done.stdout
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    assert command.help


def test_without_a_command_the_help_is_shown() -> None:
    done = CliRunner().invoke(main, [])
    assert "Commands:" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chekc"], 'There is no command "chekc"; did you mean "check"?'),
        (["zzz"], 'There is no command "zzz"; there are run, check, '),
        (["check"], "Missing option '--site'"),
        (["check", "--sight", "x"], "No such option"),
        (["read", "--site", "x"], "Missing argument 'METER'"),
    ],
)
def test_a_mistyped_command_line_ends_with_2_and_says_why(words: list[str], message: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == exits.USAGE
    assert message in done.stderr


@pytest.mark.parametrize(
    ("error", "command", "code"),
    [
        (FAULT, "read", 2),
        (FAULT, "keygen", 2),
        (FAULT, "run", 78),
        (LineDown("x"), "read", 75),
        (MeterSilent("x"), "read", 75),
        (UplinkDown("x"), "run", 75),
        (JournalHeld("x"), "run", 75),
        (JournalFull("x"), "run", 75),
        (MeterRefused("x", 2), "read", 1),
        (UplinkRefused("x", 0x87), "run", 1),
        (JournalDamaged("x"), "run", 74),
        (MeteringError("x"), "run", 1),
    ],
)
def test_every_error_of_ours_is_a_sentence_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: MeteringError, command: str, code: int
) -> None:
    _replace(monkeypatch, command, error)
    done = CliRunner().invoke(main, [command])
    assert done.exit_code == code
    assert done.stderr == f"{error}\n"
    assert done.stdout == ""


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace(monkeypatch, "read", ZeroDivisionError("a bug"))
    done = CliRunner().invoke(main, ["read"])
    assert isinstance(done.exception, ZeroDivisionError)


def test_the_exit_codes_are_documented_where_people_look() -> None:
    page = CliRunner().invoke(main, ["--help"]).stdout
    for code in (exits.OK, exits.NO, exits.USAGE, exits.DAMAGED, exits.TRY_AGAIN, exits.CONFIGURATION):
        assert f"{code} " in page


def _replace(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(group.LazyGroup, "get_command", lambda self, ctx, cmd_name: failing)
