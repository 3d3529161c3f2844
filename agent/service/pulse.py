"""Marks of progress: how the watchdog knows that a stage still moves.

A stage beats its pulse at every turn of its loop, and never waits longer than a few seconds between two turns unless it
says so. The watchdog looks at all pulses and feeds the service manager only while each of them has moved. So an agent
with nothing to do stays alive (silent meters, no broker, no platform, a full disk: all of these still make turns), and
one whose stage hangs does not.

Time is counted in looks, not read from a clock: an event loop that was held up for a minute (a suspended machine, a
slow disk under swap) makes one look late, and its stages get their turn before the next.

Comes before: `poll`, `publish` and the journal's own pulse in `supervise`. Comes after: the watchdog there.
"""

from collections.abc import Iterable

TURN_S_MAX = 15
"""A stage with nothing to do makes a turn at least this often."""


class Pulse:
    """The progress of one stage; beaten by the stage, looked at by the watchdog."""

    __slots__ = ("busy_s", "name", "turns")

    def __init__(self, name: str, *, busy_s: int = 0) -> None:
        """`name` is for the log; `busy_s`: how long the stage may be at work without a turn, whatever the patience."""
        self.name = name
        self.busy_s = busy_s
        self.turns = 0

    def beat(self) -> None:
        """One more turn was made."""
        self.turns += 1


class PulseWatch:
    """Finds the stages that have stopped moving."""

    def __init__(self, pulses: Iterable[Pulse], *, patience_s: float) -> None:
        """A stage is frozen when it makes no turn for `patience_s` beyond what it may be busy."""
        self._patience_s = patience_s
        self._seen: dict[Pulse, tuple[int, float]] = {pulse: (pulse.turns, 0.0) for pulse in pulses}

    def look(self, since_s: float) -> list[Pulse]:
        """The frozen stages. `since_s`: the pause that was meant to lie between the last look and this one."""
        for pulse, (turns, still_s) in self._seen.items():
            self._seen[pulse] = (pulse.turns, still_s + since_s if pulse.turns == turns else 0.0)
        return [
            pulse for pulse, (_, still_s) in self._seen.items() if still_s > self._patience_s + pulse.busy_s
        ]
