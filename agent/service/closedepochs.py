"""Epochs that ended, kept so that every balance can list them where the platform cannot ask.

A broker's PUBACK is no storage: it may lose a batch that it acknowledged, and the event in it that says where an epoch
ended. A platform that cannot ask for it again learns it from any later balance (wire format, section 6, "Broker mode").
Noted wherever something is sealed (`seal`), listed by `telling`, kept by the journal.
"""

from collections.abc import Mapping
from typing import Protocol

from agent.metering.interval import DAY_MS
from agent.reporting.event import CLOSED_MAX, Event

LISTED_MS = 30 * DAY_MS
"""So long an epoch's end is listed: as long as what was handed over is kept."""


class EpochRecords(Protocol):
    """Epoch changes as they were told. Any method may raise JournalFull or JournalDamaged."""

    def note_epoch(self, event: Event) -> None:
        """Keep an `epoch` event; one that opens the same epoch again takes its place."""

    def epochs_noted(self, meter: str) -> list[tuple[Event, int]]:
        """The newest epoch changes of a meter, at least CLOSED_MAX, oldest first; each with the last delta's number."""


def closed_epochs(journal: EpochRecords, meter: str, now_ms: int) -> list[Mapping[str, object]]:
    """What a balance of now lists: the members of each epoch event of the last 30 days but its meter, and `n_last`."""
    return [
        {**{name: value for name, value in event.body.items() if name != "meter"}, "n_last": n_last}
        for event, n_last in journal.epochs_noted(meter)[-CLOSED_MAX:]
        if event.at_ms > now_ms - LISTED_MS
    ]
