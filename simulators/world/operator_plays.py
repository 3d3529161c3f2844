"""What people do: exchange and reset meters, change the site file, clone a gateway, carry the platform's word to it."""

import asyncio
import hashlib
import random
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from agent.adapters.keys import Ed25519Signer
from agent.errors import MeteringError
from agent.metering.plant import Share
from agent.reporting.acknowledgement import heads_to_payload
from agent.reporting.envelope import STATUS, open_sealed
from agent.reporting.status import Status
from agent.reporting.utc import text_of_ms
from agent.service.signing import Signers
from simulators.meters.faults import Fault, Kind
from simulators.world.box_plays import any_cut, disk_lost
from simulators.world.bus_plays import FAR_COUNTS, far_from_rollover, loose_plug
from simulators.world.plays import is_seen_far
from simulators.world.site import STEPS, Site

if TYPE_CHECKING:
    from simulators.world.world import World

RATIOS = ("m3",)
"""Meters behind transformers."""
QUARRELS_MAX = 1000
LOOKS, LOOK_S = 6, 600
"""How often, and after how many seconds, somebody who has brought the platform's word brings it again."""
SPARE_METERS = 50
"""Their descriptions are more than one batch of 48 KiB can carry."""


async def exchanged(world: "World", chance: random.Random, for_s: int) -> None:
    """F18, F19: another meter in the same place."""
    id_ = chance.choice(sorted(world.devices))
    old = world.devices[id_]
    silence = Fault(Kind.SILENT)
    old.faults.append(silence)  # nobody exchanges a meter in less time, nor while it answers
    await asyncio.sleep(300)
    old.faults[:] = [each for each in old.faults if each is not silence]  # another fault may be equal to it
    if world.devices[id_] is not old:
        return
    has_number = old.meter.profile.identity is not None
    if not has_number and (old.raw() < FAR_COUNTS or not is_seen_far(world, id_, FAR_COUNTS)):
        return  # a meter without a number that begins higher than the old one ended is the same one to everybody
    opening = chance.randrange(10**6) if has_number else chance.randrange(1000, 5000)
    if abs(opening - old.raw()) < FAR_COUNTS:
        # Else nobody sees that a meter was away between two boundaries; in a factory the live reads do.
        opening = (opening + 2 * FAR_COUNTS) % 10**6
    serial = str(chance.randrange(10**6, 10**7))
    new = world.devices[id_] = old.replaced(serial, opening)
    new.faults = old.faults
    world.rewire()
    world.tell(f"{id_} was exchanged; the new one begins at {opening}")


async def reset(world: "World", chance: random.Random, for_s: int) -> None:
    """F16: somebody sets a register back; not to zero, where a misread of the same moment would look like it, and not
    while the meter has another one's address: with its register it would lose the only sign of who it is.
    """
    device = far_from_rollover(world, chance)
    if not is_seen_far(world, device.meter.id, FAR_COUNTS):
        return
    if device.raw() >= FAR_COUNTS and device.unit == device.meter.address:
        device.reset(chance.randrange(1000, 5000))


async def change_site(world: "World", site: Site, chance: random.Random) -> None:
    """F81: another site file, applied by a restart: in good order, or by the plug."""
    world.site = world.gateway.site = world.new_site(site)
    if chance.random() < 0.7:
        await world.gateway.stop()
    else:
        await world.gateway.cut_power(any_cut(chance))


async def other_step(world: "World", chance: random.Random, for_s: int) -> None:
    """F81: a meter counts for another step from now on."""
    meter = world.site.meter(chance.choice(sorted(world.devices)))
    step = chance.choice([each for each in STEPS if each != meter.step])
    await change_site(world, world.site.changed(replace(meter, shares=(Share(step, Fraction(1)),))), chance)


async def other_ratio(world: "World", chance: random.Random, for_s: int) -> None:
    """F27: the current transformers of a meter are entered anew."""
    meter = world.site.meter(RATIOS[0])
    ratio = Fraction(chance.choice([each for each in (20, 40, 60, 80) if each != meter.ct_ratio]))
    world.places[meter.id].breaks += 1
    await change_site(world, world.site.changed(replace(meter, ct_ratio=ratio)), chance)


async def ratio_at_meter(world: "World", chance: random.Random, for_s: int) -> None:
    """F27: somebody sets another transformer ratio at the meter, and sets it right again; the site file's counts."""
    device = world.devices[RATIOS[0]]
    set_at_meter = Fraction(chance.choice((5, 30, 100)))
    for ratio in (set_at_meter, world.site.meter(RATIOS[0]).ct_ratio):
        device.show_ratio(ratio)
        await loose_plug(world, device.meter.line)
        world.places[RATIOS[0]].breaks += 1
        await asyncio.sleep(for_s)


async def big_map(world: "World", chance: random.Random, for_s: int) -> None:
    """Meters are planned in advance on a line that is not there yet: the descriptor needs several batches."""
    await change_site(world, replace(world.site, version=world.site.version + 1, spare=SPARE_METERS), chance)


async def cloned(world: "World", chance: random.Random, for_s: int) -> None:
    """F85: a copy of the disk runs in a second box beside the first, for a while."""
    clone = world.new_gateway(f"clone {chance.randrange(1000)}", world.new_pairs("clone"))
    clone.site, clone.applied = world.gateway.site, world.gateway.applied
    clone.signers = world.gateway.signers
    clone.disk.replace(world.gateway.disk.image())
    clone.switch_on()
    await asyncio.sleep(max(300, for_s))
    await clone.switch_off()
    world.auditor.taken_away(clone)
    if any(
        world.site.meter(id_).per_count_milliwh != clone.site.meter(id_).per_count_milliwh for id_ in RATIOS
    ):
        for (
            id_
        ) in RATIOS:  # two boxes that disagree about a ratio open an epoch each time one follows the other
            world.places[id_].breaks += QUARRELS_MAX


async def confirmed(world: "World", chance: random.Random, for_s: int) -> None:
    """F56: somebody brings the platform's signed word to the gateway (`restore`), at once or when it is old.

    Where the platform is not heard nobody else can end a disagreement, so it is looked after now and then: a word that
    the journal follows already changes nothing, and keys are put right where the platform's alarms name one.
    """
    await _bring_word(world, chance.choice((0, for_s)))
    for _ in range(LOOKS if world.by_broker else 0):
        await asyncio.sleep(LOOK_S)
        await _put_keys_right(world)
        await _bring_word(world, 0)


async def _bring_word(world: "World", way_s: int) -> None:
    if world.broker.platform is None:
        return
    word = world.office.word()
    await asyncio.sleep(way_s)
    await _confirm(world, word, {"jws": word.decode()})


async def own_word(world: "World", chance: random.Random, for_s: int) -> None:
    """F56: a new card, and somebody vouches that nothing was booked after the last status that the broker has."""
    word = world.last_status
    if word is None:
        return
    said = Status.from_payload(open_sealed(word, STATUS, world.gateway_keys).payload)
    await disk_lost(world, chance, for_s)
    await asyncio.sleep(for_s)
    for _ in range(LOOKS):
        if world.gateway.stages is not None:
            break
        await asyncio.sleep(LOOK_S)
    if said.head is None or said.heads is None:
        return
    head = {"chain": said.chain, "seq": said.head[0], "hash": said.head[1]}
    place = {"head": head, "heads": heads_to_payload(said.heads), "rev": None, "at": text_of_ms(said.at_ms)}
    await _confirm(world, word, {"position": place})


async def _confirm(world: "World", word: bytes, says: dict[str, object]) -> None:
    gateway = world.gateway
    if gateway.stages is None or not gateway.disk.answers:
        return
    who = {"by": "anna", "evidence": hashlib.sha256(word).hexdigest()}
    try:
        answer = await gateway.stages.confirming.answer({"do": "confirm", **who, **says})
    except MeteringError as error:
        world.tell(f"the word could not be confirmed: {error}")
        return
    if answer["done"]:
        world.tell("the word was confirmed")
        world.auditor.retold = True


async def _put_keys_right(world: "World") -> None:
    """Only the platform knows which keys it knows: `ended-key` where the journal lost the rotation, `unknown-key` where
    its chain was refused."""
    gateway, following = world.gateway, world.gateway.signers.following
    if not isinstance(following, Ed25519Signer) or world.broker.platform is None:
        return
    if world.office.has_ended(gateway.signers.first.kid):
        gateway.signers = Signers(following)
        world.tell(f"key {following.kid[:8]} stands alone, as the platform has it")
        await gateway.stop()
    elif world.office.has_refused(following.kid):
        world.office.admit(following)
        world.tell(f"key {following.kid[:8]} is admitted")
