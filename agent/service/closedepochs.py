"""Epochs that ended, kept so that every balance can list them where the platform cannot ask.

A broker's PUBACK is no storage: it may lose a batch that it acknowledged, and the event in it that says where an epoch
ended. A platform that cannot ask for it again learns it from any later balance (wire format, section 6, "Broker mode").
Noted wherever something is sealed (`seal`), listed by `telling`, kept by the journal.

How long an epoch is listed counts from the time at which its event was sealed, and only by a clock that knew the time:
a gateway that began in 1970 would leave out what ended a minute ago.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.metering.interval import DAY_MS
from agent.reporting.event import CLOSED_MAX, Event
from agent.service.clocking import UNKNOWN, Look

LISTED_MS = 30 * DAY_MS
"""So long an epoch's end is listed: as long as what was handed over is kept."""


@dataclass(frozen=True, slots=True)
class ClosedEpoch:
    """The members of an epoch event but its meter, and the number of the last delta before it, 0 where unknown.

    `since_ms` is when the event was sealed, UTC Unix ms; None where no clock knew the time then, or has since.
    """

    body: Mapping[str, object]
    n_last: int
    since_ms: int | None

    @property
    def entry(self) -> Mapping[str, object]:
        """As a balance lists it."""
        return {**self.body, "n_last": self.n_last}


class EpochRecords(Protocol):
    """Epoch changes as they were told. Any method may raise JournalFull or JournalDamaged."""

    def note_epoch(self, event: Event, since_ms: int | None) -> None:
        """Keep an `epoch` event; one that opens the same epoch again takes its place."""

    def epochs_noted(self, meter: str) -> list[ClosedEpoch]:
        """The newest epoch changes of a meter, at least CLOSED_MAX, oldest first."""

    def forget_epochs(self, meter: str, *, after: int) -> None:
        """Drop those that opened a later epoch than this: the chain that told them is given up for another one."""

    def date_epochs(self, meter: str, since_ms: int) -> None:
        """Those that no clock has dated were sealed before this, UTC Unix ms."""


def told_since_ms(look: Look) -> int | None:
    """The time from which a sealed epoch change is listed, as the clock has it now; None if it does not know."""
    return None if look.quality.sync == UNKNOWN else look.wall_ms


def closed_epochs(journal: EpochRecords, meter: str, look: Look) -> list[Mapping[str, object]]:
    """What a balance of now lists: each epoch change of the last 30 days, and those that nobody can date yet.

    A change that was sealed without the time counts from the first balance that is sealed with it.
    """
    now_ms = told_since_ms(look)
    noted = journal.epochs_noted(meter)[-CLOSED_MAX:]
    if now_ms is None:
        return [each.entry for each in noted]
    if any(each.since_ms is None for each in noted):
        journal.date_epochs(meter, now_ms)
    return [each.entry for each in noted if each.since_ms is None or each.since_ms > now_ms - LISTED_MS]
