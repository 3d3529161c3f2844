"""The acknowledgement vectors at an agent's door: the only messages that the network can tell it anything with."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from agent.reporting.envelope import ACKNOWLEDGEMENT
from agent.service.dialogue import Dialogue
from agent.service.ports import Received
from agent.service.seal import Identity
from agent.service.signing import Signers
from tests.vectors.builder import AGENT, AUDIENCE, GATEWAY, ORG, PLATFORM, START_MS, jws, topic
from tests.vectors.readers import ring
from tests.vectors.test_bad import BAD, messages
from tests.vectors.vector import basis

ACKNOWLEDGEMENTS = [name for name in BAD if name.startswith("bad/acknowledgement/")]


class Journal:
    """Only notes that somebody asked for it: then a message was believed."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, _: object) -> None:
        """Refuse, because no vector comes with a journal."""
        self.asked += 1
        raise Believed


class Believed(Exception):
    """A message passed the door."""


class Wire:
    """Delivers the given messages, then is silent."""

    def __init__(self, received: list[Received]) -> None:
        self._received = received

    async def events(self) -> AsyncIterator[Received]:
        """As an uplink does."""
        for each in self._received:
            yield each


class Clock:
    """Stands still."""

    def wall_ms(self) -> int:
        """The time of the vectors."""
        return START_MS

    def monotonic_ns(self) -> int:
        """Never moves."""
        return 0


async def rejected(message: bytes, where: str) -> bool:
    """Whether the agent turns a message away at its door."""
    journal = Journal()
    nothing = cast(Any, None)
    dialogue = Dialogue(
        Identity(ORG, AGENT, AUDIENCE, "1.0.0"),
        Signers(cast(Any, GATEWAY)),
        ring(PLATFORM),
        cast(Any, journal),
        cast(Any, Wire([Received(where, message, retained=True)])),
        cast(Any, Clock()),
        nothing,
        nothing,
        mode="platform",
    )
    try:
        await dialogue.listen()
    except Believed:
        return False
    assert (dialogue.rejected, journal.asked) == (1, 0)
    return True


@pytest.mark.fault("F74")
@pytest.mark.parametrize("name", ACKNOWLEDGEMENTS)
async def test_the_agent_does_at_its_door_what_the_vector_says(name: str) -> None:
    (message,) = messages(BAD[name])
    assert await rejected(message, topic(ACKNOWLEDGEMENT)) is (BAD[name].get("edge") == "rejected")


async def test_a_good_one_passes_and_the_same_on_another_topic_does_not() -> None:
    good = jws(basis().acknowledgement(1), PLATFORM, ACKNOWLEDGEMENT).encode()
    assert not await rejected(good, topic(ACKNOWLEDGEMENT))
    assert await rejected(good, topic(ACKNOWLEDGEMENT, agent="gw02"))


def test_most_of_them_end_at_the_door() -> None:
    """What passes is for the journal to judge: another hash, ahead of the head, another chain."""
    passing = [name.rpartition("/")[2] for name in ACKNOWLEDGEMENTS if "edge" not in BAD[name]]
    assert passing == ["ack-other-hash", "ack-ahead", "ack-far-ahead", "ack-of-another-chain"]
