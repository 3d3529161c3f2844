"""Schedules of faults with a name: each of the holes that the wire format closes in its section 6, forced to happen.

A scenario is a few faults whose order matters, at times that the seed draws, before a background of anything else. Its
worlds are shorter than those of the swarm, so that each can be run a thousand times.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

from simulators.world.plan import Planned, draw

SCENARIO_S = 2700
"""Of faults, per seed."""
BACKGROUND = 0.06
"""So many of all other kinds happen beside."""
FORCED_FROM = 10
"""Faults that a scenario forces are numbered from here on, above those that are drawn."""


@dataclass(frozen=True, slots=True)
class Happens:
    """A kind of fault: begins between two times, s after the beginning, and lasts for one of these times, s."""

    kind: str
    earliest_s: int
    latest_s: int
    lasts_s: tuple[int, ...] = (60,)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What it is about, in one line, and what happens."""

    about: str
    happens: tuple[Happens, ...]


SCENARIOS = {
    "bad-delta": Scenario(
        "deltas that do not join on are held and bridged, also across a restart and a lost disk",
        (
            Happens("bad-number", 620, 1200),
            Happens("bad-start", 620, 1800),
            Happens("bad-start", 900, 1500),
            Happens("crash", 900, 1800),
            Happens("disk-lost", 1500, 2400),
        ),
    ),
    "clone": Scenario(
        "a copy of the gateway runs beside it, is switched off, and comes again with another copy",
        (
            Happens("clone", 620, 1000, (400, 900)),
            Happens("crash", 700, 1600),
            Happens("clone", 1500, 1800, (400,)),
            Happens("late", 620, 900, (1200,)),
        ),
    ),
    "disk-lost": Scenario(
        "the journal is lost while batches and answers are on their way, twice",
        (
            Happens("late", 620, 900, (900,)),
            Happens("platform-down", 700, 1300, (150, 400)),
            Happens("disk-lost", 720, 1400),
            Happens("disk-lost", 1500, 2400),
        ),
    ),
    "oversized-descriptor": Scenario(
        "a map that needs several batches, with losses, power cuts and a restore before it is told in full",
        (
            Happens("big-map", 620, 900),
            Happens("lost", 620, 900, (600,)),
            Happens("power-cut-in-write", 640, 1000),
            Happens("step", 1200, 1600),
            Happens("disk-lost", 1000, 2200),
        ),
    ),
    "platform-from-backup": Scenario(
        "the platform is put back to an older copy of its books, twice, the second time behind a restore of the edge",
        (
            Happens("platform-restored", 620, 900, (60, 400, 900)),
            Happens("lost", 620, 1200, (400,)),
            Happens("disk-lost", 1200, 1800),
            Happens("platform-restored", 1000, 1400, (400, 1200)),
        ),
    ),
    "ratio-across-restore": Scenario(
        "a copy of the journal from before a new ratio is put back after it",
        (
            Happens("old-image", 620, 900, (1000, 1200)),
            Happens("ratio", 1000, 1500),
            Happens("ratio", 2000, 2300),
            Happens("old-image", 1900, 1980, (400, 600)),
        ),
    ),
    "restore-races-batches": Scenario(
        "batches of the old chain are still on their way when the edge opens a new one",
        (
            Happens("late", 620, 700, (1800,)),
            Happens("broker-down", 900, 1200, (150, 400)),
            Happens("old-image", 800, 1000, (60, 150, 400)),
            Happens("old-image", 1500, 1800, (60, 150, 400)),
            Happens("double", 800, 1500, (400,)),
        ),
    ),
    "stale-acknowledgement": Scenario(
        "a new subscriber gets an old retained acknowledgement, also right after a restore",
        (
            Happens("stale-retained", 620, 1200, (600, 900)),
            Happens("ack-replayed", 620, 1800),
            Happens("ack-replayed", 620, 2400),
            Happens("disk-lost", 900, 1500),
            Happens("old-image", 1500, 1800, (60, 400)),
        ),
    ),
    "unparsable-batch": Scenario(
        "a signed batch that nobody can parse lies in the chain, is lost, comes late, and again after a restore",
        (
            Happens("unparsable", 620, 1200),
            Happens("lost", 620, 1200, (400,)),
            Happens("platform-down", 900, 1500, (60, 400)),
            Happens("unparsable", 1500, 2400),
        ),
    ),
}


def planned(name: str, seed: int, kinds: Collection[str]) -> tuple[Planned, ...]:
    """The plan of a seed of this scenario; `kinds` are those that may happen beside."""
    chance = random.Random(f"{seed}/scenario/{name}")
    forced = [
        Planned(
            f"{each.kind}.{number}",
            chance.randrange(each.earliest_s, each.latest_s),
            chance.choice(each.lasts_s),
        )
        for number, each in enumerate(SCENARIOS[name].happens, start=FORCED_FROM)
    ]
    beside = draw(seed, kinds, SCENARIO_S, share=BACKGROUND)
    return tuple(sorted((*forced, *beside), key=lambda each: (each.at_s, each.name)))
