"""What the agent itself says wrongly, though it signs it: a delta that does not join on, a batch nobody can parse.

A flipped bit in memory or a bug of another version would do it. The platform has to keep its books exact all the same,
and the agent has to find its way out (wire format, section 6, "Held deltas" and "Unparsable").
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import JournalDamaged, JournalFull
from agent.metering.ledger import Head
from agent.reporting import envelope
from agent.reporting.chain import ChainHead
from agent.reporting.event import restart_event
from agent.service.journal import Journal, SealedBatch
from simulators.world.plays import Play
from simulators.world.site import AGENT, AUDIENCE, ORG

if TYPE_CHECKING:
    from simulators.world.world import World

Change = Callable[["World", random.Random, Journal], None]


def _in_journal(change: Change) -> Play:
    """Change the running agent's journal between two pieces of its own work, if there is one that can be changed."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        gateway = world.gateway
        if gateway.journal is None or not gateway.disk.answers:
            return
        try:
            with gateway.journal.transaction():
                change(world, chance, gateway.journal)
        except (JournalDamaged, JournalFull) as error:
            world.tell(f"the journal takes no lie either: {error}")
            await gateway.kill()
        if gateway.stages is not None:
            gateway.stages.publisher.wake()

    return play


def _number_skipped(world: "World", chance: random.Random, journal: Journal) -> None:
    """The next delta of a meter has a number too high: the platform holds it and bridges its span."""
    heads = [head for head in journal.heads().values() if head.n]
    if heads:
        head = chance.choice(sorted(heads, key=lambda each: each.meter))
        journal.save_head(replace(head, n=head.n + 1))
        world.tell(f"{head.meter} skips a number")


def _start_before_its_end(world: "World", chance: random.Random, journal: Journal) -> None:
    """The next delta of a meter begins at a register below the one at which the last one ended."""
    counts = chance.randrange(1, 4)
    heads = [
        head
        for head in journal.heads().values()
        if head.run is not None and head.register_milliwh - head.run.register_milliwh >= counts * _count(head)
    ]
    if heads:
        head = chance.choice(sorted(heads, key=lambda each: each.meter))
        journal.save_head(replace(head, register_milliwh=head.register_milliwh - counts * _count(head)))
        world.places[head.meter].claim(head.register_milliwh // _count(head), counts)
        world.tell(f"{head.meter} begins its next delta {counts} counts too low")


def _count(head: Head) -> int:
    """What a count of this meter is worth, 0.001 Wh: whole in this world."""
    return int(head.basis.per_count_milliwh)


def _unparsable(world: "World", chance: random.Random, journal: Journal) -> None:
    """A batch of another make: validly signed, linked into the chain, without its deltas."""
    state = journal.state()
    if state.head is None:
        return
    now_ms = world.gateway.clock.wall_ms()
    payload = {
        "v": "1.0",
        "org": ORG,
        "agent": AGENT,
        "aud": AUDIENCE,
        "chain": state.chain,
        "seq": state.seq + 1,
        "prev": state.hash,
        "events": [restart_event(now_ms, reason="a batch without its deltas").to_payload()],
    }
    jws = envelope.seal(envelope.BATCH, payload, world.gateway.signers.in_force(journal))
    head = ChainHead(state.head.chain, state.seq + 1, envelope.signing_input_hash(jws))
    journal.append_batch(SealedBatch(head, state.head.hash, None, now_ms, 0, jws))
    journal.save_state(replace(state, seq=head.seq, hash=head.hash))
    world.tell(f"batch {head.seq} cannot be parsed")


number_skipped = _in_journal(_number_skipped)
start_before_its_end = _in_journal(_start_before_its_end)
unparsable = _in_journal(_unparsable)
