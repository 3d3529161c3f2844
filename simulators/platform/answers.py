"""What agents are still to be told, and the signed acknowledgements that tell it.

An acknowledgement is due after 64 batches or 2 s, whichever is first, and at once where somebody asked or a chain was
refused (wire format, section 6). Its number is taken in the same commit as the rows that it speaks of. Before this come
the outcomes of `chains` and the statuses; `ingest` publishes what it returns.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from agent.reporting import topics
from agent.reporting.acknowledgement import NEED_MAX, Acknowledgement
from agent.reporting.envelope import ACKNOWLEDGEMENT, EnvelopeError, SigningKey, seal
from agent.reporting.status import Status
from simulators.platform.alarms import Alarms
from simulators.platform.chains import Outcome
from simulators.platform.dossier import Dossier
from simulators.platform.heads import heads_of
from simulators.platform.store import Store

ACKNOWLEDGE_BATCHES = 64
ACKNOWLEDGE_MS = 2_000
_HELD_MAX = 1_000
_SESSIONS_MAX = 8

Name = tuple[str, str]
"""Organisation and agent."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish with QoS 1."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class _Due:
    """What one agent is still to be told."""

    batches: int = 0
    since_ms: int | None = None
    now: bool = False
    refused: set[str] = field(default_factory=set)
    sessions: dict[str, bool] = field(default_factory=dict)

    def is_due(self, now_ms: int) -> bool:
        if self.now or self.batches >= ACKNOWLEDGE_BATCHES:
            return True
        # A clock that was set back must not hold an acknowledgement.
        return self.since_ms is not None and not 0 <= now_ms - self.since_ms < ACKNOWLEDGE_MS


class Answers:
    """Debts of the platform to its agents; `gen` is the generation that acknowledgements carry."""

    def __init__(
        self, store: Store, alarms: Alarms, signer: SigningKey, root: str, counts: Counter[str]
    ) -> None:
        self.gen = 0
        self._store = store
        self._alarms = alarms
        self._signer = signer
        self._root = root
        self._counts = counts
        self._due: dict[Name, _Due] = {}

    # ------------------------------------------------------------------------------------------------- debts

    def remind(self, names: Iterable[Name]) -> None:
        """These agents are to be told their heads at once."""
        for name in names:
            self._note(name).now = True

    def owe(self, dossier: Dossier, outcome: Outcome, now_ms: int) -> None:
        """Remember what an agent is to be told of an arrival."""
        refused = outcome.refused or set()
        if dossier.head is None and not refused:
            return  # while nothing of an agent is held, nothing of it is acknowledged
        due = self._note((dossier.org, dossier.agent))
        due.batches += 1
        due.since_ms = now_ms if due.since_ms is None else due.since_ms
        due.refused |= refused
        due.now |= outcome.answer_now or bool(refused)

    def owe_status(self, dossier: Dossier, status: Status) -> None:
        """Somebody who came online wants to know where we stand, and maybe heads."""
        due = self._note((dossier.org, dossier.agent))
        due.now = True
        if len(due.sessions) < _SESSIONS_MAX:
            due.sessions[status.session] = due.sessions.get(status.session, False) or status.need_heads
        if status.chain is not None and dossier.chains.get(status.chain) == "refused":
            due.refused.add(status.chain)

    def are_due(self, now_ms: int) -> bool:
        """Whether anybody is to be told anything now."""
        return any(due.is_due(now_ms) for due in self._due.values())

    def _note(self, name: Name) -> _Due:
        return self._due.setdefault(name, _Due())

    # ----------------------------------------------------------------------------------------------- answers

    def sign_due(self, now_ms: int, dossier_of: Callable[[Name], Dossier]) -> list[Outgoing]:
        """Sign what is due, its numbers in the same commit as the rows it speaks of."""
        outgoing = []
        for name in [name for name, due in self._due.items() if due.is_due(now_ms)]:
            due, dossier = self._due.pop(name), dossier_of(name)
            if dossier.head is None and not due.sessions and not due.refused:
                continue
            sessions: list[tuple[str | None, bool]] = [*due.sessions.items()] or [(None, False)]
            for session, heads in sessions:
                with_heads = heads or bool(due.refused)
                outgoing.append(self.acknowledgement(dossier, session, with_heads, due.refused, now_ms))
        return outgoing

    def acknowledgement(
        self, dossier: Dossier, session: str | None, with_heads: bool, refused: set[str], now_ms: int
    ) -> Outgoing:
        """One signed acknowledgement of where an agent stands; takes a number in the open transaction."""
        acknowledgement = Acknowledgement(
            org=dossier.org,
            agent=dossier.agent,
            gen=self.gen,
            ack_no=dossier.next_ack_no(now_ms),
            head=dossier.head,
            stored_at_ms=now_ms,
            need=self._need(dossier, now_ms),
            held=self._held(dossier),
            refused=tuple(sorted(refused)),
            session=session,
            heads=heads_of(self._store, dossier) if with_heads else None,
            rev=_rev(dossier) if with_heads else None,
        )
        self._counts["acknowledgements"] += 1
        topic = topics.acknowledgement(dossier.org, dossier.agent, self._root)
        return Outgoing(topic, self._sealed(acknowledgement), retain=True)

    def _sealed(self, acknowledgement: Acknowledgement) -> bytes:
        """Sign an acknowledgement; one that is too large goes without what it cannot carry, and a person is told."""
        try:
            return seal(ACKNOWLEDGEMENT, acknowledgement.to_payload(), self._signer)
        except EnvelopeError as error:
            name = (acknowledgement.org, acknowledgement.agent)
            self._alarms.say(name, "acknowledgement", "size", str(error), acknowledgement.stored_at_ms)
            less = replace(acknowledgement, heads=None, rev=None, held=())
            return seal(ACKNOWLEDGEMENT, less.to_payload(), self._signer)

    def _need(self, dossier: Dossier, now_ms: int) -> tuple[tuple[int, int], ...]:
        """What is missing between the head and the batches that wait behind it; what just came may be reordered."""
        if dossier.head is None or not dossier.staged:
            return ()
        waiting = self._store.rows(
            "SELECT DISTINCT seq FROM staged WHERE agent_id = ? AND chain = ? AND seq > ? AND received_ms <= ?"
            " ORDER BY seq",
            (dossier.agent_id, dossier.head.chain, dossier.head.seq, now_ms - ACKNOWLEDGE_MS),
        )
        need, expected = [], dossier.head.seq + 1
        for (seq,) in waiting:
            if seq > expected:
                need.append((expected, seq - 1))
            expected = seq + 1
        return tuple(need[:NEED_MAX])

    def _held(self, dossier: Dossier) -> tuple[tuple[str, int, int], ...]:
        sql = "SELECT meter, epoch, n FROM held WHERE agent_id = ? AND state = 'held' ORDER BY meter, epoch, n LIMIT ?"
        return tuple(self._store.rows(sql, (dossier.agent_id, _HELD_MAX)))


def _rev(dossier: Dossier) -> int | None:
    if dossier.head_descriptor is None:
        return None
    descriptor = dossier.descriptor(dossier.head_descriptor)
    return None if descriptor is None else descriptor.rev
