"""What goes wrong between gateway and platform, and at the platform; and what an attacker tries there."""

import asyncio
import random
from typing import TYPE_CHECKING

from agent.adapters.keys import Ed25519Signer
from agent.reporting import envelope, topics
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.chain import ChainHead
from simulators.world.plays import Play
from simulators.world.site import AGENT, ORG

if TYPE_CHECKING:
    from simulators.world.world import World


def weather(name: str, value: object, calm: object) -> Play:
    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        setattr(world.broker.weather, name, value)
        await asyncio.sleep(for_s)
        setattr(world.broker.weather, name, calm)

    return play


async def broker_down(world: "World", chance: random.Random, for_s: int) -> None:
    """F59, F72: nobody answers."""
    world.broker.weather.down = True
    world.broker.disconnect_all("the broker went away")
    await asyncio.sleep(for_s)
    world.broker.weather.down = False


async def half_open(world: "World", chance: random.Random, for_s: int) -> None:
    """F60: the cable is pulled; only the keep-alive notices."""
    world.broker.weather.half_open = True
    await asyncio.sleep(min(for_s, 45))
    world.broker.disconnect_all("no answer to a ping")
    await asyncio.sleep(max(0, for_s - 45))
    world.broker.weather.half_open = False


async def broker_forgets(world: "World", chance: random.Random, for_s: int) -> None:
    """F63: restarted without its memory."""
    world.broker.forget()
    world.broker.disconnect_all("the broker was restarted")


async def stale_retained(world: "World", chance: random.Random, for_s: int) -> None:
    """F74: a new subscriber gets an old acknowledgement."""
    world.broker.weather.stale_retained = True
    for _ in range(max(1, for_s // 60)):
        world.broker.disconnect_all("the connection was reset")
        await asyncio.sleep(60)
    world.broker.weather.stale_retained = False


async def platform_down(world: "World", chance: random.Random, for_s: int) -> None:
    """It crashes; the broker keeps its queue."""
    if world.broker.platform is None:
        return
    world.office.go_away()
    await asyncio.sleep(for_s)
    world.office.come_back()


async def platform_restored(world: "World", chance: random.Random, for_s: int) -> None:
    """An older backup is put back."""
    world.office.back_up()
    await asyncio.sleep(for_s)
    if world.broker.platform is None:
        return
    world.office.restore(chance.choice(world.office.backups))
    world.auditor.platform_restored()
    world.tell("the platform was restored from a backup")


def said_to_gateway(world: "World", acknowledgement: Acknowledgement, key: Ed25519Signer) -> None:
    jws = envelope.seal(envelope.ACKNOWLEDGEMENT, acknowledgement.to_payload(), key)
    if key is world.platform_key:
        world.auditor.said_by_platform.add(jws)
    world.broker.route_down(topics.acknowledgement(ORG, AGENT), jws)


def claim(world: "World", chance: random.Random, ahead: int, hash_: str | None) -> Acknowledgement | None:
    journal = world.gateway.journal
    head = None if journal is None or not world.gateway.disk.answers else journal.state().head
    if head is None:
        return None
    now_ms = world.time.wall_ms()
    wrong = hash_ or envelope.base64url(chance.randbytes(32))
    claimed = ChainHead(head.chain, head.seq + ahead, wrong)
    return Acknowledgement(ORG, AGENT, world.office.gen, now_ms, claimed, now_ms)


def false_acknowledgement(ahead: int, *, by_platform: bool) -> Play:
    """F74, F84: signed by a stranger, or by a platform that is out of its mind: ahead of us, or of another past."""

    async def play(world: "World", chance: random.Random, for_s: int) -> None:
        said = claim(world, chance, ahead, None)
        if said is not None:
            said_to_gateway(world, said, world.platform_key if by_platform else world.stranger_key)

    return play


async def forged_release(world: "World", chance: random.Random, for_s: int) -> None:
    """F85: a stranger acknowledges exactly our own head while nothing gets through: nothing may be released."""
    journal = world.gateway.journal
    if journal is None or not world.gateway.disk.answers:
        return
    head = journal.state().head
    said = None if head is None else claim(world, chance, 0, head.hash)
    if said is not None:
        said_to_gateway(world, said, world.stranger_key)


async def replayed(world: "World", chance: random.Random, for_s: int) -> None:
    """F74, F84: an old acknowledgement comes again, and one of our own batches comes back on the platform's topic."""
    if world.office.answers:
        old = chance.choice(world.office.answers)
        world.broker.route_down(old.topic, old.payload)
