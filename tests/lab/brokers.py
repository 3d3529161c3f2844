"""Campaigns against mosquitto: what it gave a PUBACK for is nobody's but the agent's, until the platform has said so.

A round freezes the platform (SIGSTOP: the broker takes on for it) and lets the broker lose what it took, because it is
killed, or because its queue for the platform is full. The platform's calendar goes on by eight days a round, so that
the agent forgets what is acknowledged; had it forgotten anything else, nobody could make the platform's books whole.
"""

import asyncio
import random
import re
import time

from agent.reporting import topics
from simulators.demo.rig import ORG
from simulators.platform.serve import RECEIVE_MAXIMUM
from tests.lab.installation import PATIENCE_S, Installation
from tests.simulators.mqtt_client import client
from tests.support.mosquitto import Mosquitto

QUEUE_MAX = 3
"""Messages that the broker keeps for a client beyond those which that client lets it have on their way."""
NARROW = (f"max_queued_messages {QUEUE_MAX}",)
_TAKEN = re.compile(r"Received PUBLISH from \S+ \(.*'\S+/gw01/up/batch'")
_PASSED_ON = re.compile(r"Sending PUBLISH to carbon-platform \(.*'\S+/gw01/up/batch'")
_REST_EVERY = 4
"""Rounds after which the agent is replaced: a fifth closing within seconds looks like a second client of the same
name, and the agent has patience then."""


def kill_broker(lab: Installation, mosquitto: Mosquitto, rounds: int, *, seed: int = 0) -> None:
    """SIGKILL of a broker that keeps nothing; every other time with batches that it had given a PUBACK for.

    Those had left for a platform that hangs, and that is killed too.
    """
    chance = random.Random(seed)
    for number in range(rounds):
        _rest(lab, number)
        lose(lab, mosquitto, with_batches=number % 2 == 1, after_s=chance.uniform(0, 0.5))
        _await_whole(lab, time.monotonic())
    lab.kill("agent")


def lose(lab: Installation, mosquitto: Mosquitto, *, with_batches: bool, after_s: float) -> None:
    """One such death, so long after now or after the PUBACKs, and both programs begin anew."""
    if with_batches:
        lab.wait_until(
            lambda: lab.published() > 0, PATIENCE_S, "the broker has somebody to pass a batch on to"
        )
        lab.freeze("platform")
        wanted = lab.published() + 2
        lab.wait_until(lambda: lab.published() >= wanted, PATIENCE_S, "two PUBACKs")
    time.sleep(after_s)
    mosquitto.kill()
    if with_batches:
        lab.kill("platform")
    mosquitto.start()
    if with_batches:
        lab.pass_days(8)
        lab.start_platform()


def overflow(lab: Installation, mosquitto: Mosquitto, rounds: int) -> int:
    """The broker's queue for the platform runs over, and more batches are dropped after their PUBACK; gives how many.

    The room is filled by a gateway nobody knows, as a busy neighbour would: the platform lets the broker have more on
    their way than one agent sends ahead. Then, in turn: the platform goes on; it is killed, and its queue emptied
    with it; both are killed.
    """
    dropped = 0
    for number in range(rounds):
        _rest(lab, number)
        lab.await_acknowledged(lab.seq())
        lab.freeze("platform")
        asyncio.run(_crowd(mosquitto.url, RECEIVE_MAXIMUM + QUEUE_MAX + 1))
        dropped += _await_dropped(lab, mosquitto)
        lab.pass_days(8)
        began = time.monotonic()
        if number % 3 == 0:
            lab.thaw("platform")
        else:
            lab.kill("platform")
            if number % 3 == 2:
                mosquitto.kill()
                mosquitto.start()
            lab.start_platform()
        _await_whole(lab, began)
    lab.kill("agent")
    return dropped


def _await_dropped(lab: Installation, mosquitto: Mosquitto) -> int:
    """Wait until the broker has taken batches that it can neither pass on nor keep; how many."""
    booked, before, said = lab.booked_head(), lab.published(), len(mosquitto.log)
    lab.wait_until(lambda: lab.published() >= before + 4, PATIENCE_S, "four PUBACKs")
    since = mosquitto.log[said:]
    assert not _PASSED_ON.search(since), "the queue has to run over"
    assert lab.booked_head() == booked, "nobody but the agent has these batches"
    return len(_TAKEN.findall(since))


def _rest(lab: Installation, number: int) -> None:
    if number % _REST_EVERY == 0:
        lab.kill_if_alive("agent")
        lab.recover()


def _await_whole(lab: Installation, began: float) -> None:
    """Wait until the platform has acknowledged all that was sealed up to now, and one more: then it is connected."""
    lab.await_acknowledged(lab.seq() + 1)
    lab.note_recovery(began)
    lab.check_books()


async def _crowd(url: str, messages: int) -> None:
    """Messages of another gateway, each with its PUBACK."""
    topic = topics.batch(ORG, "gw02")
    async with client(url, "neighbour") as neighbour:
        for number in range(messages):
            neighbour.paho.publish(topic, f"nobody knows me, {number}".encode(), qos=1)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(messages):
                await neighbour.acknowledged.get()
