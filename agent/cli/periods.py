"""A period of a journal, for commands that add up what is sealed in it: `preview` and `balance`.

Both ask the running agent, and walk the journal themselves where none runs, page by page in either case.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from agent.cli.running import NotRunning, ask_agent
from agent.cli.times import Moment, ms_of
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.service.journal import Journal

C = TypeVar("C", bound=Callable[..., object])


class Walker(Protocol):
    """Counts a journal's batches, a page at a time."""

    def page(self, journal: "Journal") -> bool:
        """Count the next page; False once there is none."""

    def to_payload(self) -> dict[str, object]:
        """What was counted, as it goes over the control socket."""


def period_options(command: C) -> C:
    """`--from TIME` and `--to TIME`; today by the clock of this machine where they are left out."""
    begins = click.option(
        "--from",
        "from_ms",
        type=Moment(),
        metavar="TIME",
        help="From this time on [the last local midnight].",
    )
    ends = click.option("--to", "to_ms", type=Moment(), metavar="TIME", help="Up to this time [now].")
    return begins(ends(command))


def period_of(from_ms: int | None, to_ms: int | None) -> tuple[int, int]:
    """The period that was asked for, UTC Unix ms. Raises click.BadParameter where it ends before it begins."""
    now = datetime.now().astimezone()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begins = ms_of(midnight) if from_ms is None else from_ms
    ends = ms_of(now) if to_ms is None else to_ms
    if ends <= begins:
        raise click.BadParameter("the end is not after the beginning", param_hint="--to")
    return begins, ends


def counted(
    site_file: Path, question: str, from_ms: int, to_ms: int, walker: Callable[[int, int], Walker]
) -> dict[str, object]:
    """What is sealed in a period, by the running agent or by the journal itself.

    Args:
        site_file: of the gateway.
        question: what the running agent is asked.
        from_ms, to_ms: the period.
        walker: makes what counts the journal where no agent runs.

    Raises:
        ConfigError: there is neither an agent nor a journal. RetryLater, JournalDamaged.
    """
    try:
        return ask_agent(site_file, question, {"from_ms": from_ms, "to_ms": to_ms})
    except NotRunning:
        return _of_the_journal(site_file, walker(from_ms, to_ms))


def _of_the_journal(site_file: Path, walker: Walker) -> dict[str, object]:
    from agent.adapters.journal import open_journal
    from agent.settings.site import load_site

    path = load_site(site_file, any_budget=True).journal.path
    if not path.is_file():
        reason = "there is no journal, and no agent runs"
        remedy = "name the site file of a gateway that has run, or start it: metering-agent run"
        raise ConfigError.of(path, reason, remedy, key="journal.path")
    journal = open_journal(path)
    try:
        while walker.page(journal):
            pass
        return walker.to_payload()
    finally:
        journal.close()
