"""What a play is: one kind of fault, begun, waited for and put right again; and what several of them have to ask."""

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.world.world import World

Play = Callable[["World", random.Random, int], Awaitable[None]]
"""Gets the world, its own source of chance, and for how many seconds it lasts."""


def has_settled(world: "World") -> bool:
    """Whether the ledger knows of every register that was set back.

    In a week such a register passes the one it had before, and then nobody can tell that it ever fell; and where two
    meters have one another's address, its position is the only sign of who it is.
    """
    journal = world.gateway.journal
    if journal is None or world.gateway.disk.dead:
        return False
    heads = journal.heads()
    return all(
        device.raw() * heads[id_].basis.per_count_milliwh >= heads[id_].register_milliwh
        for id_, device in world.devices.items()
        if id_ in heads
    )
