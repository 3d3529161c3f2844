"""The conversation with the platform beside the batches: status and descriptor up, acknowledgements down.

On every connection the agent says where it stands and gives the platform a moment to answer before it publishes, so
that a journal which is an old copy learns of it before it says anything twice. The only thing it listens to is a
signed acknowledgement on its own topic (promise I12); anything else is counted and dropped.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from agent.errors import JournalFull, Refused, UplinkDown
from agent.metering.ledger import Head
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement, MeterHead
from agent.reporting.batch import Clock as ClockMember
from agent.reporting.chain import ChainHead
from agent.reporting.status import Backlog, Oldest, Status
from agent.service.acknowledge import Acknowledger, Outcome
from agent.service.closedepochs import LISTED_MS
from agent.service.journal import Backlog as KeptBacklog
from agent.service.journal import Journal, KeptBatch, KeptDescriptor, Standing, State, Storage
from agent.service.logline import pairs
from agent.service.ports import Clock, Connected, Disconnected, Received, Signer, Uplink, Will
from agent.service.publish import Publisher
from agent.service.seal import Identity, read_map
from agent.service.signing import KeyStanding, Question, Signers, key_standing, session_of
from agent.service.waiting import happens

log = logging.getLogger(__name__)

STATUS_S = 60
"""How often the agent says where it stands; each status is answered."""
ANSWER_S = 2.0
"""How long a new connection waits for the platform's answer before it publishes."""
MAP_AGAIN_NS = 3600 * 1_000_000_000
"""Broker mode: so often the meter map is published again; nobody can ask for one that a broker took and lost."""
FORMER_MAPS_MAX = 7
"""So many former maps go before it for 30 days after a change: what was used under them may have come without them."""
ASK_S = (2.0, 60.0)
"""First and longest pause between two requests for heads."""


@dataclass(frozen=True, slots=True)
class Position:
    """What a status says of the journal."""

    state: State
    backlog: KeptBacklog
    oldest: KeptBatch | None
    descriptor: KeptDescriptor | None
    keys: KeyStanding
    heads: dict[str, MeterHead] | None = None
    """Where every meter stands, in broker mode: the platform joins by registers what it cannot ask for."""


def position_of(journal: Journal, *, with_heads: bool = False) -> Position:
    """Read it."""
    state, backlog, oldest = journal.state(), journal.backlog(), journal.oldest()
    heads = {meter: _head_of(head) for meter, head in journal.heads().items()} if with_heads else None
    return Position(state, backlog, oldest, journal.latest_descriptor(), key_standing(journal), heads)


def former_maps(journal: Journal, now_ms: int) -> list[KeptDescriptor]:
    """The maps before the one in force, oldest first, while the last change is less than 30 days ago."""
    kept = journal.descriptors()
    if not kept or read_map(kept[-1]).descriptor.iat_ms <= now_ms - LISTED_MS:
        return []
    return kept[:-1][-FORMER_MAPS_MAX:]


def _head_of(head: Head) -> MeterHead:
    """A ledger's position as a status says it."""
    ratio = head.basis.per_count_milliwh
    return MeterHead(
        epoch=head.epoch,
        n=head.n,
        register=head.register_milliwh,
        end_ms=head.at_ms,
        num=ratio.numerator,
        den=ratio.denominator,
        modulus=head.basis.modulus_milliwh,
        serial=head.basis.serial,
    )


def _named(head: ChainHead | None) -> str:
    """A head for the log."""
    return "none" if head is None else f"{head.chain}/{head.seq}"


class Dialogue:
    """Talks with the platform and takes its acknowledgements."""

    def __init__(
        self,
        identity: Identity,
        signers: Signers,
        platform_keys: envelope.KeyRing,
        storage: Storage,
        uplink: Uplink,
        clock: Clock,
        acknowledger: Acknowledger,
        publisher: Publisher,
        *,
        mode: str,
    ) -> None:
        """`mode` is `platform` or `broker`: who acknowledges."""
        self._identity = identity
        self._signers = signers
        self._question = Question(signers)
        self._platform_keys = platform_keys
        self._storage = storage
        self._uplink = uplink
        self._clock = clock
        self._acknowledger = acknowledger
        self._publisher = publisher
        self._mode = mode
        self._session: str | None = None
        self._answered = asyncio.Event()
        self._tell_now = asyncio.Event()
        self._told_descriptor: str | None = None
        self._told_ns = 0
        self._position: Position | None = None
        self._went_back = False
        self.connection_problem: str | None = "not connected yet"
        self.connection_since_ns = clock.monotonic_ns()
        """Since when the connection is there, or is not."""
        self.connections = 0
        self.last_rejected_ns: int | None = None
        self.rejected = 0
        """Messages on our topics that were not taken: bad signature, malformed, or meant for somebody else."""
        self.last_acknowledged_ms: int | None = None

    @property
    def position(self) -> Position | None:
        """Where the journal stood when it was last looked at."""
        return self._position

    async def begin(self) -> None:
        """Start to connect."""
        await self._look()
        who = self._identity
        await self._uplink.start(subscribe=(who.acknowledgement_topic,), will=self._will)

    async def listen(self) -> None:
        """Take what the uplink reports, for ever."""
        async for event in self._uplink.events():
            match event:
                case Connected(session):
                    self._greet(session)
                case Disconnected(reason):
                    self._part(reason)
                case Received(topic, payload, _):
                    await self._take(topic, payload)

    async def tell(self) -> None:
        """Say where we stand: on a new connection, when asked to, and regularly. For ever."""
        pause_s = ASK_S[0]
        while True:
            asking = self._position is not None and self._position.state.standing is not Standing.NORMAL
            pause_s = min(ASK_S[1], 2 * pause_s) if asking else ASK_S[0]
            await self._wait_to_tell(pause_s if asking else STATUS_S)
            await self._say("online")

    def map_changed(self) -> None:
        """A new descriptor was sealed: the retained copy is brought up to date."""
        self._tell_now.set()

    async def farewell(self) -> None:
        """The last status before a clean stop."""
        await self._say("offline")

    # -- the connection

    def _greet(self, session: str) -> None:
        self._session = session
        self.connections += 1
        self.connection_since_ns = self._clock.monotonic_ns()
        self.connection_problem = None
        self._told_descriptor = None
        self._answered.clear()
        self._tell_now.set()
        log.info("connected to the broker", extra=pairs("M1401"))

    def _part(self, reason: str) -> None:
        if self.connection_problem != reason:
            log.warning("there is no connection to the broker", extra=pairs("M1402", reason=reason))
        if self.connection_problem is None:
            self.connection_since_ns = self._clock.monotonic_ns()
        self.connection_problem = reason
        self._session = None
        self._publisher.connection(up=False)

    async def _wait_to_tell(self, seconds: float) -> None:
        await happens(self._tell_now, seconds)
        self._tell_now.clear()

    async def _say(self, state: str) -> None:
        """Publish the status, and the descriptor where it is news; then the batches may flow. To nobody, nothing."""
        session = self._session
        if session is None:
            return
        position = await self._look()
        try:
            await self._publish_descriptor(position.descriptor)
            who = self._identity
            payload = self._statement(position, session, state)
            await self._uplink.publish(who.status_topic, payload, retain=True)
        except UplinkDown:
            return
        except Refused as error:
            log.warning("the broker does not take our status", extra=pairs("M1403", reason=error))
        if state == "online":
            await self._begin_to_publish(session)

    async def _begin_to_publish(self, session: str) -> None:
        if self._mode == "platform" and not await happens(self._answered, ANSWER_S):
            log.debug("the platform did not answer at once; publishing begins", extra=pairs("M1404"))
        if self._session == session and not self._publisher.connected:
            self._publisher.connection(up=True)

    async def _publish_descriptor(self, descriptor: KeptDescriptor | None) -> None:
        now_ns = self._clock.monotonic_ns()
        if descriptor is None or not self._is_news(descriptor, now_ns):
            return
        topic = self._identity.descriptor_topic
        for former in await self._former_maps():
            await self._uplink.publish(topic, former.jws, retain=False)
        await self._uplink.publish(topic, descriptor.jws, retain=True)
        self._told_descriptor, self._told_ns = descriptor.hash, now_ns

    async def _former_maps(self) -> list[KeptDescriptor]:
        if self._mode != "broker":
            return []
        return await self._storage.run(partial(former_maps, now_ms=self._clock.wall_ms()))

    def _is_news(self, descriptor: KeptDescriptor, now_ns: int) -> bool:
        if descriptor.hash != self._told_descriptor:
            return True
        return self._mode == "broker" and now_ns - self._told_ns >= MAP_AGAIN_NS

    async def _look(self) -> Position:
        look = partial(position_of, with_heads=self._mode == "broker")
        self._position = await self._storage.run(look)
        return self._position

    # -- what we say

    def _will(self, session: str) -> Will:
        assert self._position is not None
        who = self._identity
        signer = self._signer(self._position)
        return Will(who.status_topic, self._status(self._position, session, "offline", signer))

    def _signer(self, position: Position) -> Signer:
        """Who signs what is outside the chain: the old key until the platform has the batch that ends it."""
        keys = position.keys
        former = None if keys.acknowledged else self._signers.by_kid(keys.former)
        return former or self._signers.by_kid(keys.kid) or self._signers.first

    def statements(self, position: Position, session: str) -> list[bytes]:
        """What is said by stick: the status, by each of our keys where only the platform knows which is in force.

        That is while heads are asked for, and while the batch that ends a key may lie on the same stick.
        """
        signer = self._signer(position)
        said = [self._status(position, self._asked(session, signer), "online", signer)]
        if position.state.standing is not Standing.NORMAL or not position.keys.acknowledged:
            others = [each for each in self._signers if each is not signer]
            said += [self._status(position, self._asked(session, each), "online", each) for each in others]
        return said

    def _statement(self, position: Position, session: str, state: str) -> bytes:
        """A status; one that asks for heads is signed by one of our keys after the other."""
        chosen = self._signer(position)
        if position.state.standing is not Standing.NORMAL:
            chosen = self._question.next(chosen)
        return self._status(position, self._asked(session, chosen), state, chosen)

    def _asked(self, session: str, signer: Signer) -> str:
        """The session under which a key speaks: where there are two, an answer has to say which of them it answers."""
        return session if self._signers.following is None else session_of(session, signer)

    def _status(self, position: Position, session: str, state: str, signer: Signer) -> bytes:
        who, own, quality, oldest = self._identity, position.state, self._clock.quality(), position.oldest
        status = Status(
            org=who.org,
            agent=who.agent,
            at_ms=self._clock.wall_ms(),
            state=state,
            session=session,
            sw=who.sw,
            kid=signer.kid,
            cfg=position.descriptor.hash if position.descriptor else None,
            chain=own.chain,
            head=(own.seq, own.hash) if own.hash is not None else None,
            oldest=Oldest(oldest.head.chain, oldest.head.seq, oldest.prev) if oldest else None,
            backlog=Backlog(
                position.backlog.batches, position.backlog.energy_milliwh, position.backlog.since_ms
            ),
            clock=ClockMember(quality.sync, quality.err_ms),
            mode=self._mode,
            need_heads=own.standing is not Standing.NORMAL,
            heads=position.heads,
        )
        return envelope.seal(envelope.STATUS, status.to_payload(), signer)

    # -- what we hear

    async def _take(self, topic: str, payload: bytes) -> None:
        try:
            said = self._verified(topic, payload)
        except ValueError as error:
            self._reject(topic, str(error))
            return
        session, kid = self._question_of(said)
        try:
            await self._apply(said, payload, lambda _: (session, kid))
        except JournalFull as error:
            # Nothing was changed, and the platform answers every status again.
            log.error("an acknowledgement could not be kept", extra=pairs("M1405", reason=error))  # noqa: TRY400

    async def take_by_stick(self, payload: bytes) -> tuple[Outcome, Acknowledgement]:
        """Take an acknowledgement that somebody carried here; believed no more and no less than one from the network.

        Raises Refused with the reason where it is not genuine or not for us, JournalFull.
        """
        try:
            said = self._verified(self._identity.acknowledgement_topic, payload)
        except ValueError as error:
            self._reject("by stick", str(error))
            raise Refused(str(error)) from None
        base = (said.session or "").partition(".")[0]
        kid = next((each.kid for each in self._signers if said.session == session_of(base, each)), None)

        def question(journal: Journal) -> tuple[str | None, str | None]:
            return (said.session, kid) if journal.has_courier_session(base) else (None, None)

        return await self._apply(said, payload, question), said

    async def _apply(
        self,
        said: Acknowledgement,
        payload: bytes,
        question: Callable[[Journal], tuple[str | None, str | None]],
    ) -> Outcome:
        """Take an acknowledgement into the journal; `question` says which of our questions it may answer."""
        now_ms = self._clock.wall_ms()

        def work(journal: Journal) -> Outcome:
            session, kid = question(journal)
            return self._acknowledger.take(journal, said, payload, session=session, now_ms=now_ms, kid=kid)

        outcome = await self._storage.run(work)
        await self._follow_up(outcome, said)
        return outcome

    def _question_of(self, said: Acknowledgement) -> tuple[str | None, str | None]:
        """The session that an acknowledgement may answer, and the key that asked, where it was not the usual one."""
        if self._session is not None:
            for signer in self._signers:
                if said.session == session_of(self._session, signer):
                    return said.session, signer.kid
        return self._session, None

    def _verified(self, topic: str, payload: bytes) -> Acknowledgement:
        """An acknowledgement for us with the platform's signature. Raises ValueError with what is wrong."""
        who = self._identity
        opened = envelope.open_sealed(payload, envelope.ACKNOWLEDGEMENT, self._platform_keys)
        said = Acknowledgement.from_payload(opened.payload)
        if (said.org, said.agent) != (who.org, who.agent) or topic != who.acknowledgement_topic:
            raise ValueError(f"speaks to {said.org}/{said.agent}")
        return said

    def _note_backwards(self, head: ChainHead | None) -> None:
        if not self._went_back:
            log.error(
                "the platform's head went back within its generation; nothing is sent again until that is raised",
                extra=pairs("M1413", head=_named(head)),
            )
        self._went_back = True

    def _reject(self, topic: str, reason: str) -> None:
        self.rejected += 1
        self.last_rejected_ns = self._clock.monotonic_ns()
        log.error("a message to us was not taken", extra=pairs("M1406", topic=topic, reason=reason))

    async def _follow_up(self, outcome: Outcome, said: Acknowledgement) -> None:
        if outcome is Outcome.STALE:
            return
        if outcome is not Outcome.WAITING:
            self.last_acknowledged_ms = said.stored_at_ms
        if said.session is not None and said.session.partition(".")[0] == self._session:
            self._answered.set()
        match outcome:
            case Outcome.TAKEN:
                self._went_back = False
                self._publisher.acknowledged(said.head)
                if said.head is not None and said.need:
                    self._publisher.need(said.head.chain, said.need)
            case Outcome.BACKWARDS:
                self._note_backwards(said.head)
            case Outcome.ASKING:
                log.warning(
                    "the platform's head is not one we can follow; asking where it stands",
                    extra=pairs("M1407", head=_named(said.head)),
                )
                self._answered.clear()
                self._tell_now.set()
            case Outcome.RESTORED:
                await self.went_on(said.head)
        await self._look()

    async def went_on(self, head: ChainHead | None) -> None:
        """A new chain was opened behind the platform's head, or behind the one that a person confirmed."""
        log.warning(
            "a new chain was opened behind the platform's head", extra=pairs("M1408", head=_named(head))
        )
        self._told_descriptor = None
        self._publisher.start_over()
        self._tell_now.set()
        await self._look()
