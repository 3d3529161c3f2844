"""Schedules of faults with a name: each of the holes that the wire format closes in its section 6, forced to happen.

A scenario is a few faults whose order matters, at times that the seed draws, before a background of anything else. Its
worlds are shorter than those of the swarm, so that each can be run a thousand times: `make scenarios SEEDS=1000`.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

from simulators.world.plan import Planned, draw

SCENARIO_S = 1500
"""Of faults, per seed: short, so that all scenarios in a thousand seeds each take minutes and not hours."""
INTERVAL_S = 120
"""Short as well: the times below are made for it."""
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
    by_broker: bool = False
    """The platform only consumes; then only what the scenario itself names puts a journal back, loses or copies it."""


SCENARIOS = {
    "bad-delta": Scenario(
        "deltas that do not join on are held and bridged, also across a restart and a lost disk",
        (
            Happens("bad-number", 310, 600),
            Happens("bad-start", 310, 900),
            Happens("bad-start", 450, 750),
            Happens("crash", 450, 900),
            Happens("disk-lost", 750, 1200),
        ),
    ),
    "broker-only": Scenario(
        "the broker is all that answers, and loses what it took; registers and hourly balances bridge what is missing",
        (
            Happens("lost", 310, 450, (200, 450)),
            Happens("puback-lost", 400, 700, (200,)),
            Happens("exchange", 400, 700),
            Happens("reset", 500, 800),
            Happens("crash", 450, 1300),
            Happens("platform-down", 850, 1000, (450,)),
            Happens("broker-amnesia", 1050, 1290),
        ),
        by_broker=True,
    ),
    "broker-only-changes": Scenario(
        "the same, while a ratio is entered anew, a new map is long, and the gateway starts without the time",
        (
            Happens("lost", 310, 1000, (200, 450)),
            Happens("ratio", 350, 1100),
            Happens("exchange", 310, 700),
            Happens("clock-unset", 400, 1100, (60, 200, 450)),
            Happens("ratio-at-meter", 400, 1100, (60, 200)),
            Happens("lost", 400, 1290, (200,)),
            Happens("big-map", 310, 1290),
        ),
        by_broker=True,
    ),
    "broker-only-confirmed": Scenario(
        "the journal is lost, or an old copy is put back, and a person carries the platform's word to the gateway",
        (
            Happens("lost", 310, 600, (60, 200)),
            Happens("old-image", 310, 600, (60, 200, 300)),
            Happens("confirmed", 620, 800, (30, 100)),
            Happens("disk-lost", 500, 900),
            Happens("confirmed", 900, 1100, (30, 100)),
            Happens("confirmed", 1100, 1290, (30, 100)),
        ),
        by_broker=True,
    ),
    "broker-only-own-word": Scenario(
        "the journal is lost, and a person vouches for the gateway's own last status, which the broker has kept",
        (
            Happens("lost", 310, 1000, (60, 200, 450)),
            Happens("exchange", 310, 900),
            Happens("own-word", 400, 700, (10, 100)),
            Happens("own-word", 750, 1290, (10, 100)),
            Happens("confirmed", 1300, 1400, (30,)),
        ),
        by_broker=True,
    ),
    "clone": Scenario(
        "a copy of the gateway runs beside it, is switched off, and comes again with another copy",
        (
            Happens("clone", 310, 500, (200, 450)),
            Happens("crash", 350, 800),
            Happens("clone", 750, 900, (200,)),
            Happens("late", 310, 450, (600,)),
        ),
    ),
    "disk-lost": Scenario(
        "the journal is lost while batches and answers are on their way, twice",
        (
            Happens("late", 310, 450, (450,)),
            Happens("platform-down", 350, 650, (75, 200)),
            Happens("disk-lost", 360, 700),
            Happens("disk-lost", 750, 1200),
        ),
    ),
    "oversized-descriptor": Scenario(
        "a map that needs several batches, with losses, power cuts and a restore before it is told in full",
        (
            Happens("big-map", 310, 450),
            Happens("lost", 310, 450, (300,)),
            Happens("power-cut-in-write", 320, 500),
            Happens("step", 600, 800),
            Happens("disk-lost", 500, 1100),
        ),
    ),
    "platform-from-backup": Scenario(
        "the platform is put back to an older copy of its books, twice, the second time behind a restore of the edge",
        (
            Happens("platform-restored", 310, 450, (60, 200, 450)),
            Happens("lost", 310, 600, (200,)),
            Happens("disk-lost", 600, 900),
            Happens("platform-restored", 500, 700, (200, 600)),
        ),
    ),
    "ratio-across-restore": Scenario(
        "a copy of the journal from before a new ratio is put back after it",
        (
            Happens("old-image", 310, 450, (500, 600)),
            Happens("ratio", 500, 750),
            Happens("ratio", 1000, 1150),
            Happens("old-image", 950, 990, (200, 300)),
        ),
    ),
    "restore-races-batches": Scenario(
        "batches of the old chain are still on their way when the edge opens a new one",
        (
            Happens("late", 310, 350, (900,)),
            Happens("broker-down", 450, 600, (75, 200)),
            Happens("old-image", 400, 500, (60, 75, 200)),
            Happens("old-image", 750, 900, (60, 75, 200)),
            Happens("double", 400, 750, (200,)),
        ),
    ),
    "stale-acknowledgement": Scenario(
        "a new subscriber gets an old retained acknowledgement, also right after a restore",
        (
            Happens("stale-retained", 310, 600, (300, 450)),
            Happens("ack-replayed", 310, 900),
            Happens("ack-replayed", 310, 1200),
            Happens("disk-lost", 450, 750),
            Happens("old-image", 750, 900, (60, 200)),
        ),
    ),
    "unparsable-batch": Scenario(
        "a signed batch that nobody can parse lies in the chain, is lost, comes late, and again after a restore",
        (
            Happens("unparsable", 310, 600),
            Happens("lost", 310, 600, (200,)),
            Happens("platform-down", 450, 750, (60, 200)),
            Happens("unparsable", 750, 1200),
        ),
    ),
}


BY_BROKER = frozenset(
    {
        "ack-forged",
        "ack-of-stranger",
        "ack-replayed",
        "big-map",
        "broker-amnesia",
        "broker-down",
        "clock-step",
        "clock-unset",
        "crash",
        "crash-storm",
        "dark",
        "denied",
        "disk-full",
        "disk-slow",
        "double",
        "drift",
        "eio",
        "exchange",
        "fsync",
        "half-open",
        "key-rotated",
        "late",
        "late-once",
        "lost",
        "meter-bad-checksum",
        "meter-busy",
        "meter-doubles",
        "meter-failed",
        "meter-function",
        "meter-half",
        "meter-late",
        "meter-long",
        "meter-noise-after",
        "meter-noise-before",
        "meter-other-unit",
        "meter-refuses",
        "meter-short",
        "meter-silent",
        "no-subscriber",
        "noise",
        "platform-down",
        "power-cut",
        "power-cut-in-write",
        "puback-lost",
        "ratio-at-meter",
        "register-back",
        "register-jump",
        "register-zero",
        "register-zero-twice",
        "reset",
        "stale-retained",
        "stop",
        "suspend",
        "swapped",
        "unplugged",
        "wakes-wrong",
    }
)
"""What may happen beside where only the broker answers: its promise is exact while no journal is put back, lost or
copied (wire format, section 6); after that a person confirms the heads (`broker-only-confirmed`). Left out are also
maps that give a meter to another step, because a bridge is not cut where they change, and more than the one new ratio
that a schedule forces, because nobody knows the map of an epoch that came and went among what was lost (decision
0022)."""


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
    beside = draw(
        seed, BY_BROKER & set(kinds) if SCENARIOS[name].by_broker else kinds, SCENARIO_S, share=BACKGROUND
    )
    return tuple(sorted((*forced, *beside), key=lambda each: (each.at_s, each.name)))
