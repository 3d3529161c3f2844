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
    if journal is None or not world.gateway.disk.answers:
        return False
    heads = journal.heads()
    return all(
        device.raw() * heads[id_].basis.per_count_milliwh >= heads[id_].register_milliwh
        for id_, device in world.devices.items()
        if id_ in heads
    )


def is_seen_far(world: "World", id_: str, counts: int) -> bool:
    """Whether the ledger's position of a meter has come that far too, as far as there is anybody to ask.

    A meter can go a long way while nobody reads it. One that then begins a little above the ledger's position is the
    same one to everybody.
    """
    journal = world.gateway.journal
    if journal is None or not world.gateway.disk.answers or (head := journal.heads().get(id_)) is None:
        return True
    return head.register_milliwh >= counts * head.basis.per_count_milliwh
