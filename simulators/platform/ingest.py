"""The platform's core: messages in, signed acknowledgements out, one commit in between.

No network and no clock of its own: `receive` takes a topic and a payload, `tick` the time, both return what is to be
published. What they return speaks only of rows that are committed. What is owed to whom is kept by `answers`.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from agent.adapters.keys import PublicKey
from agent.errors import ConfigError
from agent.reporting import topics
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import (
    BATCH,
    STATUS,
    EnvelopeError,
    Opened,
    SigningKey,
    UnparsablePayload,
    open_sealed,
)
from agent.reporting.status import Status
from agent.reporting.strictjson import dumps
from agent.reporting.wire import WireError
from simulators.platform.alarms import Alarms
from simulators.platform.answers import Answers, Name, Outgoing
from simulators.platform.booking import Booking, Quarantine, Release
from simulators.platform.chains import Arrival, Chains
from simulators.platform.dossier import Dossier
from simulators.platform.registry import Clones, Registry
from simulators.platform.store import Store

JOIN_MS = 600_000
"""So long a batch of an agent that cannot be asked waits for the one before it."""
_JOIN_LOOK_MS = 60_000


class WallClock(Protocol):
    """The time that acknowledgements carry; `agent.service.ports.Clock` is one."""

    def wall_ms(self) -> int:
        """UTC Unix time in ms."""


class Platform:
    """Receives what registered agents send, books it once, and answers.

    Args:
        store: an open `Store`; this object is its only writer.
        audience: name of this platform; batches for another one are refused.
        signer: the acknowledgement key.
        keys: registered agents (org, agent) and their public keys. Keys learned by rotation come from the store.
        clock: gives the time that acknowledgements carry.
        gen: generation of this platform, raised by the operator at every restore of the store; None keeps it.
        root: first levels of all topics.
        quarantine: a rule of the operator that holds deltas beyond V1 and V2.
        join_ms: how long a batch of an agent in broker mode waits for the one before it, which nobody can ask for.

    Raises:
        ConfigError: the store belongs to another audience, or `gen` is lower than the store's.
    """

    def __init__(
        self,
        store: Store,
        *,
        audience: str,
        signer: SigningKey,
        keys: Mapping[Name, Iterable[PublicKey]],
        clock: WallClock,
        gen: int | None = None,
        root: str = topics.ROOT,
        quarantine: Quarantine | None = None,
        join_ms: int = JOIN_MS,
    ) -> None:
        self.store = store
        self._join_ms = join_ms
        self._join_looked_ms = 0
        self.audience = audience
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._root = root
        self._alarms = Alarms(store)
        self._answers = Answers(store, self._alarms, signer, root, self.counts)
        self._booking = Booking(store, self._alarms, quarantine)
        self._chains = Chains(store, self._alarms, self._booking)
        self._chains.counts = self.counts
        self._registry = Registry(store, self._alarms)
        self._clones = Clones()
        self._dossiers: dict[Name, Dossier] = {}
        self._given: dict[str, PublicKey] = {}
        with store.transaction():
            self.gen = self._answers.gen = self._settle(gen)
            self._ids = self._register(keys)

    def _settle(self, gen: int | None) -> int:
        row = self.store.first("SELECT audience, gen FROM platform")
        stored: int = gen or 0
        if row is None:
            self.store.run(
                "INSERT INTO platform (id, audience, gen) VALUES (1, ?, ?)", (self.audience, stored)
            )
            return stored
        if row[0] != self.audience:
            raise ConfigError.of(
                "platform",
                f"the store belongs to {row[0]!r}, not {self.audience!r}",
                "use another store",
                key="audience",
            )
        if gen is not None and gen < row[1]:
            raise ConfigError.of(
                "platform",
                f"{gen} is lower than the {row[1]} in use",
                "give a higher one, or none",
                key="gen",
            )
        wanted: int = row[1] if gen is None else gen
        self.store.run("UPDATE platform SET gen = ?", (wanted,))
        return wanted

    def _register(self, keys: Mapping[Name, Iterable[PublicKey]]) -> dict[Name, int]:
        """Trust the keys given; agents of earlier runs that are not named any more are no longer served."""
        ids = {}
        for name, trusted in keys.items():
            self.store.run("INSERT OR IGNORE INTO agents (org, agent) VALUES (?, ?)", name)
            ids[name] = self.store.one("SELECT agent_id FROM agents WHERE org = ? AND agent = ?", name)[0]
            dossier = Dossier(self.store, ids[name], *name)
            given = list(trusted)
            self._given |= {key.kid: key for key in given}
            for key in given:
                dossier.trust(key, "operator")
                self._registry.look_for_doubles(key.kid, self._clock.wall_ms())
            dossier.withdraw_others(key.kid for key in given)
            # Whatever was committed before a stop may not have been acknowledged.
            if dossier.head is not None:
                self._answers.remind([name])
        return {**self._approved(), **ids}

    def _approved(self) -> dict[Name, int]:
        """Agents with a key that an operator approved."""
        rows = self.store.rows(
            "SELECT DISTINCT org, agent, agent_id FROM agents JOIN keys USING (agent_id)"
            " WHERE origin = 'approved' AND NOT withdrawn"
        )
        for org, agent, agent_id in rows:
            if Dossier(self.store, agent_id, org, agent).head is not None:
                self._answers.remind([(org, agent)])
        return {(org, agent): agent_id for org, agent, agent_id in rows}

    # ------------------------------------------------------------------------------------------------- doors

    def receive(self, topic: str, payload: bytes) -> list[Outgoing]:
        """Take one message; returns what to publish, of committed rows only."""
        return self.receive_many([(topic, payload)])

    def receive_many(self, messages: Sequence[tuple[str, bytes]]) -> list[Outgoing]:
        """Take messages in their order in one commit. They may be acknowledged to the broker when this returns."""
        now_ms = self._clock.wall_ms()

        def act() -> None:
            for topic, payload in messages:
                self._take(topic, payload, now_ms)

        return self._committed(act, now_ms)

    def tick(self, now_ms: int) -> list[Outgoing]:
        """Give the acknowledgements that have become due; to be called a few times a second."""
        waiting = self._waiting_to_join(now_ms)
        if not waiting and not self._answers.are_due(now_ms):
            return []

        def act() -> None:
            for name in waiting:
                dossier = self._dossier(name)
                self._answers.owe(dossier, self._chains.join_overdue(dossier, now_ms, self._join_ms), now_ms)

        return self._committed(act, now_ms)

    def _waiting_to_join(self, now_ms: int) -> list[Name]:
        """Once a minute: the agents in broker mode of which something waits for a batch that nobody can ask for."""
        if 0 <= now_ms - self._join_looked_ms < _JOIN_LOOK_MS:
            return []
        self._join_looked_ms = now_ms
        dossiers = {name: self._dossier(name) for name in self._ids}
        return [name for name, each in dossiers.items() if each.mode == "broker" and each.staged]

    def acknowledge_all(self) -> list[Outgoing]:
        """Tell every agent its head: after a reconnect, when the broker may have forgotten what was retained."""
        self._answers.remind(self._ids)
        return self.tick(self._clock.wall_ms())

    def approve(self, org: str, agent: str, thumbprint: str) -> PublicKey:
        """An operator admits a key that waits, having compared its thumbprint. Raises UnknownKey."""
        now_ms = self._clock.wall_ms()
        approved: list[PublicKey] = []
        self._committed(
            lambda: approved.append(self._registry.approve(org, agent, thumbprint, now_ms)),
            now_ms,
            answer=False,
        )
        self._ids[org, agent] = self._registry.dossier(org, agent).agent_id
        self._dossiers.pop((org, agent), None)
        return approved[0]

    def revoke(self, org: str, agent: str, thumbprint: str, place: ChainHead | None = None) -> ChainHead:
        """An operator ends a key: valid up to `place`, None for the present head. Raises UnknownKey."""
        now_ms = self._clock.wall_ms()
        ends: list[ChainHead] = []

        def act() -> None:
            dossier = self._registry.dossier(org, agent)
            ends.append(self._registry.revoke(dossier, thumbprint, place, now_ms)[1])

        self._committed(act, now_ms, answer=False)
        self._dossiers.pop((org, agent), None)
        return ends[0]

    def heads_for(self, org: str, agent: str) -> bytes:
        """A signed statement of where an agent's chain and meters stand, for a person to carry to the gateway.

        Raises UnknownKey for an agent that was never registered.
        """
        now_ms, made = self._clock.wall_ms(), list[bytes]()

        def act() -> None:
            dossier = self._registry.dossier(org, agent)
            made.append(self._answers.acknowledgement(dossier, None, True, set(), now_ms).payload)

        self._committed(act, now_ms, answer=False)
        self._dossiers.pop((org, agent), None)
        return made[0]

    def head_of(self, org: str, agent: str) -> str | None:
        """Up to where an agent is booked, as `CHAIN/SEQ`; None where nothing is."""
        head = self._dossier((org, agent)).head if (org, agent) in self._ids else None
        return None if head is None else f"{head.chain}/{head.seq}"

    def release(self, org: str, agent: str, meter: str, epoch: int, n: int) -> Release:
        """An operator lets a held delta go. Raises KeyError for an agent that is not registered."""
        now_ms = self._clock.wall_ms()
        outcome: list[Release] = []

        def act() -> None:
            outcome.append(self._booking.release(self._dossier((org, agent)), meter, epoch, n, now_ms))

        if (org, agent) not in self._ids:
            raise KeyError(f"{org}/{agent}")
        self._committed(act, now_ms, answer=False)
        return outcome[0]

    def _committed(self, act: Callable[[], None], now_ms: int, *, answer: bool = True) -> list[Outgoing]:
        """Run inside one transaction; what is returned is durable. On failure nothing is remembered either."""
        try:
            with self.store.transaction():
                act()
                return self._answers.sign_due(now_ms, self._dossier) if answer else []
        except BaseException:
            self._dossiers.clear()
            self._answers.remind(self._ids)
            raise

    # ------------------------------------------------------------------------------------------------ intake

    def _take(self, topic: str, payload: bytes, now_ms: int) -> None:
        try:
            org, agent, kind = topics.parse(topic, self._root)
        except ValueError:
            self.counts["foreign-topic"] += 1
            return
        name = (org, agent)
        self.counts[f"received-{kind}"] += 1
        if name not in self._ids and kind != "enrol":
            self.counts["unknown-agent"] += 1
            self._alarms.stranger(name, now_ms)
            return
        handler = {
            "batch": self._batch,
            "status": self._status,
            "desc": self._descriptor,
            "enrol": self._enrolment,
        }
        if kind not in handler:
            return
        try:
            with self.store.savepoint():
                handler[kind](name, payload, now_ms)
        except EnvelopeError as error:
            self.counts[error.verdict] += 1
            self._alarms.say(name, error.verdict, kind, str(error), now_ms)
        except WireError as error:
            self.counts["schema"] += 1
            self._alarms.say(name, "schema", kind, str(error), now_ms)
        except sqlite3.IntegrityError as error:
            # The tables' own constraints are the last line of promises I1 and I2: nothing of this message stands.
            self.counts["invariant"] += 1
            self._dossiers.pop(name, None)
            self._alarms.say(name, "invariant", kind, f"refused by the store: {error}", now_ms)

    def _batch(self, name: Name, jws: bytes, now_ms: int) -> None:
        dossier = self._dossier(name)
        try:
            opened = open_sealed(jws, BATCH, dossier)
            batch = Batch.from_payload(opened.payload)
        except UnparsablePayload as error:
            self._unparsable(name, jws, error.hash, error.reason, now_ms)
            return
        except WireError as error:
            self._unparsable(name, jws, opened.hash, str(error), now_ms)
            return
        if (batch.org, batch.agent, batch.aud) != (*name, self.audience):
            self._misdirected(name, opened, f"{batch.org}/{batch.agent} for {batch.aud}", now_ms)
            return
        outcome = self._chains.arrived(dossier, Arrival(batch, opened.hash, opened.kid, jws, now_ms))
        self._answers.owe(dossier, outcome, now_ms)

    def _unparsable(self, name: Name, jws: bytes, hash_: str, reason: str, now_ms: int) -> None:
        self.counts["unparsable"] += 1
        dossier = self._dossier(name)
        self._answers.owe(dossier, self._chains.unparsable(dossier, jws, hash_, reason, now_ms), now_ms)

    def _misdirected(self, name: Name, opened: Opened, says: str, now_ms: int) -> None:
        """Validly signed, and said of somebody else or to somebody else: a replay."""
        self.counts["misdirected"] += 1
        self._alarms.say(name, "misdirected", opened.typ, f"the payload is of {says}", now_ms)

    def _status(self, name: Name, jws: bytes, now_ms: int) -> None:
        dossier = self._dossier(name)
        opened = open_sealed(jws, STATUS, dossier)
        status = Status.from_payload(opened.payload)
        if (status.org, status.agent) != name:
            self._misdirected(name, opened, f"{status.org}/{status.agent}", now_ms)
            return
        if not dossier.may_sign(opened.kid, None, 0):
            self._alarms.say(name, "ended-key", opened.kid, "it signed a status after its end", now_ms)
            return
        if not self._is_news(dossier, status):
            return
        self.store.run(
            "INSERT OR REPLACE INTO statuses (agent_id, session, state, received_ms, body) VALUES (?, ?, ?, ?, ?)",
            (dossier.agent_id, status.session, status.state, now_ms, dumps(opened.payload).decode()),
        )
        dossier.mode = status.mode
        if status.state == "online":
            self._look_for_clones(name, status, now_ms)
            self._answers.owe_status(dossier, status)

    def _look_for_clones(self, name: Name, status: Status, now_ms: int) -> None:
        head = "nothing sealed" if status.head is None else f"at {status.chain}/{status.head[0]}"
        text = f"one of version {status.sw} in session {status.session[:8]}, {head}"
        found = self._clones.look(name, status.session, status.at_ms, text)
        if found is not None:
            self.counts["clone"] += 1
            self._alarms.say(name, "clone", status.kid, found, now_ms)

    def _is_news(self, dossier: Dossier, status: Status) -> bool:
        """A will counts only for its own session: one of a connection that was replaced says nothing."""
        if status.state == "online":
            return True
        row = self.store.first("SELECT session FROM statuses WHERE agent_id = ?", (dossier.agent_id,))
        return row is None or row[0].partition(".")[0] == status.session

    def _descriptor(self, name: Name, jws: bytes, now_ms: int) -> None:
        """The retained copy is a convenience; the chain carries the same text."""
        self._dossier(name).keep_descriptor(jws)

    def _enrolment(self, name: Name, jws: bytes, now_ms: int) -> None:
        """A key asks to be registered; a person decides."""
        self._registry.apply(*name, jws, now_ms)

    def _dossier(self, name: Name) -> Dossier:
        if name not in self._dossiers:
            self._dossiers[name] = Dossier(self.store, self._ids[name], *name, known=self._given)
        return self._dossiers[name]
