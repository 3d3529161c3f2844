"""How the commands end: exit codes, and errors as sentences instead of tracebacks.

    0   done, and the answer is yes
    1   done, and the answer is no: `check` found faults, `verify` found a broken chain, a meter refused
    2   the command line or a file it names is wrong; a person must change something
    3   nothing speaks against it, but not everything could be looked at, and asking again changes nothing: a person
        has to look (`commission` where a meter shows no power)
    74  stored data is damaged (EX_IOERR); nothing was guessed
    75  the world is briefly unavailable (EX_TEMPFAIL): a silent meter, a broker away, a port in use; try again
    78  `run` with a site file that is not right (EX_CONFIG), so that systemd does not try again and again

Anything that is not an error of ours is a fault of this program and shows its traceback.
"""

import click

from agent.errors import ConfigError, JournalDamaged, MeteringError, Refused, RetryLater

OK = 0
NO = 1
USAGE = 2
NOT_PROVED = 3
DAMAGED = 74
TRY_AGAIN = 75
CONFIGURATION = 78

ONLY_ASK = frozenset(
    {
        "status",
        "preview",
        "balance",
        "exchange",
        "apply",
        "adjust",
        "witness",
        "manual",
        "trace",
        "export",
        "courier",
        "restore",
        "verify",
    }
)
"""Commands that start nothing."""


def code_of(error: MeteringError, command: str | None) -> int:
    """The exit code that says what to do next after an error of a command."""
    match error:
        case ConfigError():
            return CONFIGURATION if command == "run" else USAGE
        case RetryLater():
            return TRY_AGAIN
        case JournalDamaged():
            return DAMAGED
        case Refused():
            return NO
    return NO


def explain(error: MeteringError, command: str | None = None) -> None:
    """Print an error as its sentence, on stderr; that nothing was started is said where something could have been."""
    faults = error.faults if isinstance(error, ConfigError) and command in ONLY_ASK else ()
    click.echo("\n".join(map(str, faults)) or str(error), err=True)
