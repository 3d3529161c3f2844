"""What goes wrong in a seed, drawn before it begins: a list of faults, each with a name, a time and a length.

Swarm testing: each seed uses a random part of the kinds, so that some seeds are about few things and others about
everything. Every fault draws its details from its own name and the seed, so that a part of the list is a fair smaller
world: this is what makes a failure small. Each kind is drawn by itself, so that a new kind changes no other one.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

CALM_S = 600
"""Until then nothing happens: what was used before the platform has heard of a meter at all, nobody can prove."""
EACH_MAX = 3
SHARES = (0.15, 0.3, 0.5)
"""So many of the kinds a seed may use."""
INTERVALS_S = {120: 1, 180: 1, 300: 3, 600: 5}
"""Lengths of an interval, and how often each is drawn: a site may have any, and the longer ones cost less time."""
INTERVALS_MIN = 12
"""A world is at least so many of them long, but for the shortest worlds."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: `name` is its kind and a number, `at_s` seconds after the beginning, for `for_s`."""

    name: str
    at_s: int
    for_s: int

    @property
    def kind(self) -> str:
        """Without the number."""
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.name} at {self.at_s} s for {self.for_s} s"


def draw(seed: int, kinds: Collection[str], end_s: int, *, share: float | None = None) -> tuple[Planned, ...]:
    """The plan of a seed; all of it is over at `end_s`. `share` of the kinds is used; by the seed if it is None."""
    share = random.Random(f"{seed}/plan").choice(SHARES) if share is None else share
    found = []
    for kind in sorted(kinds):
        chance = random.Random(f"{seed}/plan/{kind}")
        if chance.random() >= share:
            continue
        for number in range(1, chance.randint(1, EACH_MAX) + 1):
            at_s = chance.randrange(CALM_S, end_s - 120)
            for_s = min(chance.choice((20, 60, 150, 400, 1200)), end_s - at_s)
            found.append(Planned(f"{kind}.{number}", at_s, for_s))
    return tuple(sorted(found, key=lambda each: (each.at_s, each.name)))


def drawn_interval_s(seed: int, end_s: int) -> int:
    """How long the intervals of a seed are whose faults are over at `end_s`."""
    lengths = [each for each in INTERVALS_S if each * INTERVALS_MIN <= end_s] or [min(INTERVALS_S)]
    shares = [INTERVALS_S[each] for each in lengths]
    return random.Random(f"{seed}/interval").choices(lengths, shares)[0]


def only(plan: tuple[Planned, ...], names: Collection[str]) -> tuple[Planned, ...]:
    """The faults that are named, by kind or with their number."""
    return tuple(each for each in plan if each.name in names or each.kind in names)
