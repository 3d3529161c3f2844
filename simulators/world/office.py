"""The platform in the world: the reference platform's core, which crashes and is restored from older backups."""

import asyncio
import contextlib
from collections.abc import Callable

from agent.adapters.keys import Ed25519Signer
from agent.reporting import envelope, topics
from agent.reporting.chain import ChainHead
from agent.reporting.enrolment import Enrolment
from simulators.platform.answers import Outgoing
from simulators.platform.ingest import Platform
from simulators.platform.registry import UnknownKey
from simulators.platform.store import Store
from simulators.world.network import Broker
from simulators.world.site import AGENT, AUDIENCE, ORG
from simulators.world.time import Time

ANSWER_S = 2.1
"""An acknowledgement is due two seconds after the first batch it speaks of."""
BACKUPS_MAX = 4


class Office:
    """Runs the platform. `booked` is called after every commit, `said` is given every acknowledgement."""

    def __init__(
        self,
        broker: Broker,
        signer: Ed25519Signer,
        agent_key: Ed25519Signer,
        time: Time,
        booked: Callable[[], None],
        said: Callable[[bytes], None],
        *,
        is_heard: bool = True,
    ) -> None:
        """Without `is_heard` it only consumes: what it says never leaves it."""
        self.gen = 0
        self.restores = 0
        self.store = Store.create(":memory:")
        self.backups: list[bytes] = []
        self.answers: list[Outgoing] = []
        """What was said last, for those who replay it."""
        self._broker = broker
        self._signer = signer
        self._keys = [agent_key]
        self._revoked: dict[str, ChainHead | None] = {}
        self._time = time
        self._booked = booked
        self._said = said
        self._is_heard = is_heard
        self._tick: asyncio.TimerHandle | None = None
        self.platform = self._start()
        broker.platform_returns(self._receive)

    def _start(self) -> Platform:
        return Platform(
            self.store,
            audience=AUDIENCE,
            signer=self._signer,
            keys={(ORG, AGENT): [each.public_key for each in self._keys]},
            clock=self._time,
            gen=self.gen,
        )

    def _receive(self, topic: str, payload: bytes) -> None:
        self._say(self.platform.receive(topic, payload))
        self._booked()
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(ANSWER_S, self._answer)

    def _answer(self) -> None:
        self._tick = None
        if self._broker.platform is not None:
            self._say(self.platform.tick(self._time.wall_ms()))

    def _say(self, answers: list[Outgoing]) -> None:
        for each in answers:
            self.answers.append(each)
            self._said(each.payload)
            del self.answers[:-32]
            if self._is_heard:
                self._broker.route_down(each.topic, each.payload)

    # -- what its operator does; after a restore it is done again

    def admit(self, key: Ed25519Signer) -> None:
        """Register one more key: enrolled, compared, approved."""
        self._keys.append(key)
        said = Enrolment(ORG, AGENT, key.public_jwk, self._time.wall_ms(), "0.1.0")
        jws = envelope.seal(envelope.ENROLMENT, said.to_payload(), key)
        self.platform.receive(topics.enrolment(ORG, AGENT), jws)
        with contextlib.suppress(UnknownKey):  # one that a rotation has brought waits for nobody
            self.platform.approve(ORG, AGENT, key.kid)

    def revoke(self, kid: str) -> None:
        """End a key at the present head; one that no rotation has brought here yet is unknown."""
        try:
            self._revoked[kid] = self.platform.revoke(ORG, AGENT, kid, self._revoked.get(kid))
        except UnknownKey:
            return

    def has_ended(self, kid: str) -> bool:
        """Whether a key signs nothing any more here."""
        ended = "SELECT 1 FROM keys WHERE kid = ? AND ended_chain IS NOT NULL"
        return self.store.first(ended, (kid,)) is not None

    def has_refused(self, kid: str) -> bool:
        """Whether a batch was signed with a key that nobody here knows yet."""
        unknown = "SELECT 1 FROM alarms WHERE kind = 'unknown-key' AND subject = 'batch' AND instr(text, ?)"
        known = "SELECT 1 FROM keys WHERE kid = ?"
        return self.store.first(known, (kid,)) is None and self.store.first(unknown, (kid,)) is not None

    def word(self) -> bytes:
        """A signed statement of where chain and meters stand, for a person to carry to the gateway."""
        said = self.platform.heads_for(ORG, AGENT)
        self._said(said)
        return said

    def by_stick(self, messages: list[tuple[str, bytes]]) -> list[bytes]:
        """A stick is put in; gives the receipts."""
        answers = [each.payload for each in self.platform.receive_many(messages)]
        for each in answers:
            self._said(each)
        self._booked()
        return answers

    # -- what happens to it

    def go_away(self) -> None:
        """It crashes: what is committed stays."""
        self._broker.platform = None

    def come_back(self) -> None:
        """A new process on the same store."""
        self.platform = self._start()
        for kid in list(self._revoked):
            self.revoke(kid)
        self._broker.platform_returns(self._receive)
        self._say(self.platform.acknowledge_all())

    def close(self) -> None:
        """The world is over."""
        self.go_away()
        self.store.close()

    def back_up(self) -> None:
        """Keep a copy of the store."""
        self.backups.append(self.store.image())
        del self.backups[:-BACKUPS_MAX]

    def restore(self, image: bytes) -> None:
        """The operator puts a backup back, and says so by a higher generation."""
        self.go_away()
        self.store.close()
        self.store = Store.of_image(image)
        self.gen += 1
        self.restores += 1
        self.come_back()
