"""Refused readings as events: the first at once, the rest of an hour in one.

A sick meter is refused at every boundary, for months if nobody comes. Each refusal would be an event, for ever; so a
meter has at most one event an hour for one reason, and its `count` says how often that was. What is still uncounted
lives in memory and is told when the hour is over or the agent stops; only a crash can forget it, and never energy.

Used by `close`, which keeps the memory of a cut only once the cut is committed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.reporting.event import Event, refused_event

TELL_MS = 3_600_000
"""So long a meter and a reason are silent after an event."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Untold:
    """How often a meter was refused since the last event for this reason, and what the latest one said."""

    meter: str
    register: str
    reason: str
    told_ms: int
    at_ms: int
    count: int = 0


class Refusals:
    """The memory of one cut: made from that of the cut before, thrown away with a transaction that fails."""

    def __init__(self, untold: dict[Key, Untold], cut_ms: int) -> None:
        self._untold = dict(untold)
        self._cut_ms = cut_ms

    @property
    def untold(self) -> dict[Key, Untold]:
        """What the next cut has to know."""
        return dict(self._untold)

    def add(self, meter: str, register: str, reason: str, at_ms: int) -> Event | None:
        """Note a refusal; its event, if it is the first of its kind for an hour."""
        key = (meter, _without_figures(reason))
        before = self._untold.get(key)
        if before is None:
            self._untold[key] = Untold(meter, register, reason, self._cut_ms, at_ms)
            return refused_event(at_ms, meter=meter, register=register, reason=reason, count=1)
        self._untold[key] = replace(before, reason=reason, at_ms=at_ms, count=before.count + 1)
        return None

    def due(self, *, all_of_them: bool = False) -> Iterator[Event]:
        """The events of hours that are over; of all, where the agent stops."""
        for key, each in list(self._untold.items()):
            # A clock that was set back must not hold an event.
            if not all_of_them and 0 <= self._cut_ms - each.told_ms < TELL_MS:
                continue
            del self._untold[key]
            if each.count:
                self._untold[key] = replace(each, told_ms=self._cut_ms, count=0)
                yield refused_event(
                    each.at_ms, meter=each.meter, register=each.register, reason=each.reason, count=each.count
                )


def _without_figures(reason: str) -> str:
    """Reasons that differ in figures only are one: noise has a new figure every time."""
    return re.sub(r"\d+", "0", reason)
