"""What a running agent hears of its line anyway, as the doctor's tallies: nothing is asked for it.

Kept for five to ten minutes, so that `status` says how the line is and not how it was. Before it comes the line worker,
after it `agent.protocol.doctor`.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.protocol.doctor import Diagnosis, Tally, diagnose
from agent.service.examining import Hears
from agent.service.ports import Line
from agent.service.watch import Watch

WINDOW_NS = 300 * 1_000_000_000
ECHOES_MIN = 3
"""Fewer are somebody else's request that happens to be the same as ours."""


@dataclass(slots=True)
class _Heard:
    """The counters at one moment."""

    at_ns: int
    answered: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    others: int = 0
    foreign: int = 0
    garbage_bytes: int = 0
    echoes: int = 0
    floods: int = 0


class Hearing:
    """The tallies of one line."""

    def __init__(self, watches: Mapping[str, Watch], port: Line, now_ns: int) -> None:
        self._watches = watches
        self._ear = port if isinstance(port, Hears) else None
        self._by_address = {watch.meter.address: id for id, watch in watches.items()}
        self._now = _Heard(now_ns)
        self._before: deque[_Heard] = deque([_Heard(now_ns)], maxlen=2)

    def listen(self, now_ns: int) -> None:
        """Take in what was heard beside the answers; called after every sweep."""
        if self._ear is not None:
            for stray in self._ear.strays():
                id = self._by_address.get(stray)
                if id is None:
                    self._now.others += 1
                else:
                    self._now.own[id] += 1
            self._now.foreign += self._ear.foreign()
            self._now.garbage_bytes += self._ear.garbage()
            self._now.echoes += self._ear.echoes()
            self._now.floods += self._ear.floods()
        if now_ns - self._before[-1].at_ns >= WINDOW_NS:
            self._before.append(self._snapshot(now_ns))

    def tallies(self) -> tuple[Tally, ...]:
        """What became of the reads of the last minutes."""
        then, now = self._before[0], self._snapshot(self._now.at_ns)
        damaged = sum((now.damaged - then.damaged).values())
        per_read = (now.garbage_bytes - then.garbage_bytes) // max(1, damaged)
        made = []
        for place, (id, watch) in enumerate(self._watches.items()):
            hurt = now.damaged[id] - then.damaged[id]
            made.append(
                Tally(
                    id,
                    watch.meter.address,
                    watch.settings,
                    answered=now.answered[id] - then.answered[id],
                    silent=now.silent[id] - then.silent[id],
                    damaged=hurt,
                    own_strays=now.own[id] - then.own[id],
                    other_strays=now.others - then.others if not place else 0,
                    foreign=now.foreign - then.foreign if not place else 0,
                    with_garbage=hurt,
                    garbage_bytes=hurt * per_read,
                )
            )
        return tuple(made)

    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """What is likely wrong with the line; none while it is well, or too little was heard."""
        return diagnose(self.tallies())

    @property
    def echoes(self) -> bool:
        """Whether the adapter gives back what it sends: most requests of the last minutes came in again."""
        heard = self._now.echoes - self._before[0].echoes
        asked = sum(tally.asked for tally in self.tallies())
        return heard >= ECHOES_MIN and 2 * heard > asked

    @property
    def floods(self) -> int:
        """How many reads of the last minutes were given up because the line was never silent."""
        return self._now.floods - self._before[0].floods

    def _snapshot(self, at_ns: int) -> _Heard:
        taken = _Heard(
            at_ns,
            own=Counter(self._now.own),
            others=self._now.others,
            foreign=self._now.foreign,
            garbage_bytes=self._now.garbage_bytes,
            echoes=self._now.echoes,
            floods=self._now.floods,
        )
        for id, watch in self._watches.items():
            taken.answered[id] = watch.reads
            taken.silent[id] = watch.errors["silent"]
            taken.damaged[id] = watch.errors["damaged"]
        return taken
