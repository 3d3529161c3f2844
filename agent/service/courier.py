"""Batches out and acknowledgements back on a stick, where there is no network at all.

The same messages as over the network and the same door for what comes back, so that it is as exact: what the platform
has not acknowledged is written again and again, a batch that arrives twice counts once, and only the platform's
signature releases anything. A stick that is lost, doubled or carried too late costs a walk.

Before this come the journal and the dialogue; after it the control socket and the command `courier` with the files.
"""

import json
from collections.abc import AsyncIterator, Mapping

from agent.errors import JournalFull, Refused
from agent.reporting import envelope
from agent.reporting.courier import SESSION_PREFIX
from agent.reporting.enrolment import Enrolment
from agent.reporting.utc import text_of_ms
from agent.service.dialogue import Dialogue, Position, position_of
from agent.service.journal import Journal, KeptBatch, Standing, Storage
from agent.service.ports import Clock, Entropy
from agent.service.seal import Identity
from agent.service.signing import Signers

PAGE = 100
"""Batches that are read at once, so that a seal never waits for long."""


class Courier:
    """Answers the questions `courier` and `courier-ingest` of the control socket."""

    def __init__(
        self,
        identity: Identity,
        signers: Signers,
        storage: Storage,
        dialogue: Dialogue,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._identity = identity
        self._signers = signers
        self._storage = storage
        self._dialogue = dialogue
        self._clock = clock
        self._entropy = entropy

    async def export(self, _: Mapping[str, object]) -> AsyncIterator[bytes]:
        """The lines of an export: an opening, the messages (batches last), a closing.

        Batches are left out while platform and journal disagree, as over the network: then only the question goes.
        """
        session = SESSION_PREFIX + self._entropy.token(8).hex()
        now_ms = self._clock.wall_ms()
        position = await self._storage.run(lambda journal: _asked(journal, session, now_ms))
        who = self._identity
        opening = {"org": who.org, "agent": who.agent, "aud": who.audience, "made_at": text_of_ms(now_ms)}
        yield json.dumps({"opening": {**opening, "standing": position.state.standing.value}}).encode()
        for jws in self._words(position, session, now_ms):
            yield jws
        count = 0
        async for batch in self._waiting(position):
            count += 1
            yield batch.sealed_text()
        yield json.dumps({"closing": {"batches": count}}).encode()

    def _words(self, position: Position, session: str, now_ms: int) -> list[bytes]:
        who, words = self._identity, []
        if position.state.acked is None:
            for signer in self._signers:
                said = Enrolment(who.org, who.agent, signer.public_jwk, now_ms, who.sw)
                words.append(envelope.seal(envelope.ENROLMENT, said.to_payload(), signer))
        if position.descriptor is not None:
            words.append(position.descriptor.jws)
        return [*words, *self._dialogue.statements(position, session)]

    async def _waiting(self, position: Position) -> AsyncIterator[KeptBatch]:
        if position.state.standing is not Standing.NORMAL:
            return
        rows = await self._page(0)
        while rows:
            for row in rows:
                yield row
            rows = await self._page(rows[-1].ordinal)

    async def _page(self, after: int) -> list[KeptBatch]:
        return await self._storage.run(lambda journal: journal.queue(after_ordinal=after, limit=PAGE))

    async def ingest(self, arguments: Mapping[str, object]) -> AsyncIterator[bytes]:
        """Take one acknowledgement (`jws`); gives one line, `outcome` and the head it names, or `refused` with why."""
        jws = arguments.get("jws")
        if not isinstance(jws, str):
            raise ValueError("an acknowledgement is a text")  # a fault of the question
        try:
            outcome, said = await self._dialogue.take_by_stick(jws.encode())
        except Refused as error:
            answer: dict[str, object] = {"outcome": "refused", "reason": str(error)}
        except JournalFull as error:
            answer = {"outcome": "later", "reason": str(error)}
        else:
            head = None if said.head is None else said.head.to_payload()
            answer = {"outcome": outcome.value, "head": head, "stored_at": text_of_ms(said.stored_at_ms)}
        yield json.dumps(answer).encode()


def _asked(journal: Journal, session: str, now_ms: int) -> Position:
    """Note the question that leaves, and where the journal stands."""
    with journal.transaction():
        journal.add_courier_session(session, now_ms)
    return position_of(journal)
