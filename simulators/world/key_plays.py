"""What people do about keys, and the way to the platform by stick: rotation, revocation, courier."""

import asyncio
import random
from typing import TYPE_CHECKING

from agent.adapters.keys import Ed25519Signer
from agent.errors import MeteringError
from agent.reporting import topics
from agent.reporting.envelope import BATCH, DESCRIPTOR, ENROLMENT, STATUS, typ_of
from agent.service.courier import Courier
from agent.service.seal import Identity
from agent.service.signing import Signers, key_standing
from simulators.world.box_plays import any_cut
from simulators.world.gateway import Dice, Gateway
from simulators.world.site import AGENT, AUDIENCE, ORG

if TYPE_CHECKING:
    from simulators.world.world import World

LOOKS = 60
"""So many minutes the person looks whether the rotation is done."""
_TOPICS = {
    BATCH: topics.batch(ORG, AGENT),
    DESCRIPTOR: topics.descriptor(ORG, AGENT),
    STATUS: topics.status(ORG, AGENT),
    ENROLMENT: topics.enrolment(ORG, AGENT),
}


async def _restart(gateway: Gateway, chance: random.Random) -> None:
    """Another site file takes effect: in good order, or by the plug."""
    if chance.random() < 0.7:
        await gateway.stop()
    else:
        await gateway.cut_power(any_cut(chance))


async def rotated(world: "World", chance: random.Random, for_s: int) -> None:
    """F85: a next key beside the old one; once `status` says so, a person lets it stand alone."""
    gateway = world.gateway
    if gateway.signers.following is not None:
        return
    following = world.new_key()
    gateway.signers = Signers(gateway.signers.first, following)
    world.tell(f"key {following.kid[:8]} is to take over")
    await _restart(gateway, chance)
    await asyncio.sleep(for_s)
    for _ in range(LOOKS):
        if gateway.signers.following is not following:
            return
        if _is_done(gateway, following):
            world.office.admit(following)
            gateway.signers = Signers(following)
            world.tell(f"key {following.kid[:8]} stands alone")
            await _restart(gateway, chance)
            return
        await asyncio.sleep(60)


def _is_done(gateway: Gateway, following: Ed25519Signer) -> bool:
    if gateway.journal is None or not gateway.disk.answers:
        return False
    try:
        standing = key_standing(gateway.journal)
    except MeteringError:
        return False
    return standing.kid == following.kid and standing.acknowledged


async def revoked(world: "World", chance: random.Random, for_s: int) -> None:
    """F85: the keys were stolen: the operator ends them at the head and admits another; the gateway gets it later."""
    if world.broker.platform is None:
        return
    new = world.new_key()
    for each in world.gateway.signers:
        world.office.revoke(each.kid)
    world.office.admit(new)
    world.tell(f"the keys were revoked, {new.kid[:8]} is admitted")
    await asyncio.sleep(for_s)
    world.gateway.signers = Signers(new)
    await _restart(world.gateway, chance)


async def by_stick(world: "World", chance: random.Random, for_s: int) -> None:
    """Somebody carries sticks while the network does what it does: lost, doubled, in any order."""
    sticks: list[list[bytes]] = []
    home: list[bytes] = []
    for _ in range(max(2, for_s // 60)):
        courier = _courier(world, chance)
        try:
            if courier is not None:
                sticks.append([line async for line in courier.export({})])
                for receipt in chance.sample(home, min(2, len(home))):
                    async for _answer in courier.ingest({"jws": receipt.decode()}):
                        world.trace("a receipt came by stick")
        except MeteringError as error:
            world.tell(f"the stick: {error}")
        await asyncio.sleep(chance.randrange(20, 100))
        if sticks and world.broker.platform is not None:
            place = chance.randrange(len(sticks))
            stick = sticks[place] if chance.random() < 0.3 else sticks.pop(place)
            home += world.office.by_stick(
                [(_TOPICS[typ_of(line)], line) for line in stick if line[:1] != b"{"]
            )
            del home[:-8]


def _courier(world: "World", chance: random.Random) -> Courier | None:
    gateway = world.gateway
    if gateway.stages is None or gateway.storage is None or not gateway.disk.answers:
        return None
    who = Identity(ORG, AGENT, AUDIENCE, "0.1.0")
    stages = gateway.stages
    return Courier(who, gateway.signers, gateway.storage, stages.dialogue, gateway.clock, Dice(chance))
