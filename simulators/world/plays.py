"""What a play is: one kind of fault, begun, waited for and put right again; and what several of them have to ask."""

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.world.world import World

Play = Callable[["World", random.Random, int], Awaitable[None]]
"""Gets the world, its own source of chance, and for how many seconds it lasts."""


def has_settled(world: "World", *, doubts_count: bool = False) -> bool:
    """Whether the ledger knows of every register that was set back; or the gates do, where their doubts count as well.

    In a week such a register passes the one it had before, and then nobody can tell that it ever fell; and where two
    meters have one another's address, its position is the only sign of who it is.
    """
    journal = world.gateway.journal
    if journal is None or not world.gateway.disk.answers:
        return False
    heads = journal.heads()
    doubts = journal.doubts() if doubts_count else {}
    return all(
        doubts.get(id_) or device.raw() * heads[id_].basis.per_count_milliwh >= heads[id_].register_milliwh
        for id_, device in world.devices.items()
        if id_ in heads
    )


def misread_falls(world: "World") -> list[str]:
    """The meters of which the gates have seen a fall that was none, and wait for what comes next.

    Where nothing comes for more than an hour a register that was set back may have passed its position, too: nobody can
    know, and the hole that is then declared is right (seeds 3150, 3888).
    """
    journal = world.gateway.journal
    if journal is None or not world.gateway.disk.answers:
        return []
    heads = journal.heads()
    return [
        id_
        for id_, waiting in journal.doubts().items()
        if id_ in world.devices and id_ in heads and waiting
        if waiting[-1].point.register_milliwh < heads[id_].register_milliwh
        if world.devices[id_].raw() * heads[id_].basis.per_count_milliwh >= heads[id_].register_milliwh
    ]


def is_seen_far(world: "World", id_: str, counts: int) -> bool:
    """Whether the ledger's position of a meter has come that far too, as far as there is anybody to ask.

    A meter can go a long way while nobody reads it. One that then begins a little above the ledger's position is the
    same one to everybody.
    """
    journal = world.gateway.journal
    if journal is None or not world.gateway.disk.answers or (head := journal.heads().get(id_)) is None:
        return True
    return head.register_milliwh >= counts * head.basis.per_count_milliwh
