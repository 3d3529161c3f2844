"""What the platform knows of one agent, in memory as in its tables.

Loaded once and kept beside the open transaction; thrown away whenever a transaction is rolled back, so that it can
never know more than the file. It is also the agent's key ring.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from agent.adapters.keys import PublicKey, public_key_of_jwk
from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Assembly, Descriptor, MeterDescription
from agent.reporting.envelope import (
    BATCH,
    DESCRIPTOR,
    SIZE_MAX,
    EnvelopeError,
    base64url_decode,
    check_sealed,
)
from agent.reporting.event import Event
from agent.reporting.strictjson import NotStrict, loads
from agent.reporting.wire import WireError
from simulators.platform.store import Store

_EVENTS_TO_ASSEMBLE = 64
_UNKNOWN_RATIO = (1, 1)
DESCRIPTORS_READ = 64


@dataclass(slots=True)
class Standing:
    """Where one meter stands, as judged and as booked; energies in 0.001 Wh, times in UTC Unix ms.

    The judged part includes held deltas: it is the meter's head. `booked_position` is the booked register plus the
    rollovers of the epoch.
    """

    epoch: int
    n: int
    register: int
    end_ms: int
    num: int
    den: int
    modulus: int | None
    serial: str | None
    booked_n: int
    booked_register: int
    booked_end_ms: int
    booked_position: int

    @classmethod
    def opening(cls, epoch: int, n: int, register: int, at_ms: int) -> "Standing":
        """A meter at the beginning of an epoch; the ratio is still to be told by a descriptor."""
        return cls(epoch, n, register, at_ms, *_UNKNOWN_RATIO, None, None, n, register, at_ms, register)

    def describe(self, description: MeterDescription | None, serial: str | None = None) -> None:
        """Take ratio, modulus and serial number from the descriptor in force; what it does not know stays."""
        if description is not None:
            self.num, self.den, self.modulus = description.num, description.den, description.modulus
            self.serial = description.serial or serial or self.serial
        elif serial is not None:
            self.serial = serial

    def head(self) -> MeterHead:
        """What a restoring agent is told."""
        return MeterHead(
            self.epoch, self.n, self.register, self.end_ms, self.num, self.den, self.modulus, self.serial
        )


@dataclass(slots=True)
class RegisteredKey:
    """A key of the agent; `ended` names the batch that rotated it."""

    key: PublicKey
    ended: ChainHead | None = None


class Dossier:
    """One agent: keys, head, chains, meters and descriptors."""

    def __init__(
        self,
        store: Store,
        agent_id: int,
        org: str,
        agent: str,
        *,
        known: Mapping[str, PublicKey] | None = None,
    ) -> None:
        """`known` are keys that are at hand already, by their thumbprint; the others are made from the store."""
        self._store = store
        self._known = known or {}
        self.agent_id, self.org, self.agent = agent_id, org, agent
        self.head: ChainHead | None = None
        self.head_descriptor: int | None = None
        self.ack_no = 0
        self.chains: dict[str, str] = {}
        self.unparsable: set[str] = set()
        self.staged = 0
        self.mode = "platform"
        """Who acknowledges, by the agent's last status; in broker mode nothing can be asked for again."""
        self.skipped: list[tuple[str, int, int]] = []
        """Batches that never came and were passed over: chain, first and last seq."""
        self.joined: dict[str, dict[str, int]] = {}
        """What is added to the epochs of a chain's meters, where it was joined by registers or counts as such a one."""
        self.begun: str | None = None
        """The newest chain that began behind another one, and that one (`behind`), while it may be the head's."""
        self.behind: str | None = None
        self.meters: dict[str, Standing] = {}
        self.assembly = Assembly()
        self._keys: dict[str, RegisteredKey] = {}
        self._descriptors: dict[int, Descriptor] = {}
        self._descriptions: dict[int, dict[str, MeterDescription]] = {}
        self._descriptor_ids: dict[str, int] = {}
        self._load()

    @property
    def name(self) -> str:
        """`org/agent`."""
        return f"{self.org}/{self.agent}"

    def _load(self) -> None:
        mine = (self.agent_id,)
        chain, seq, hash_, self.head_descriptor, self.ack_no = self._store.one(
            "SELECT head_chain, head_seq, head_hash, head_descriptor, ack_no FROM agents WHERE agent_id = ?",
            mine,
        )
        self.head = ChainHead(chain, seq, hash_) if chain is not None else None
        self.chains = dict(self._store.rows("SELECT chain, state FROM chains WHERE agent_id = ?", mine))
        unparsable = "SELECT hash FROM evidence WHERE agent_id = ? AND reason = 'unparsable'"
        self.unparsable = {row[0] for row in self._store.rows(unparsable, mine)}
        self.staged = self._store.one("SELECT count(*) FROM staged WHERE agent_id = ?", mine)[0]
        for meter, *standing in self._store.rows(
            "SELECT meter, epoch, n, register, end_ms, num, den, modulus, serial, booked_n, booked_register,"
            " booked_end_ms, booked_position FROM meters WHERE agent_id = ?",
            mine,
        ):
            self.meters[meter] = Standing(*standing)
        self._load_keys()
        self._load_assembly()
        self._load_joins()
        self._load_beginning()

    def _load_joins(self) -> None:
        mine = (self.agent_id,)
        mode = self._store.first("SELECT body ->> 'mode' FROM statuses WHERE agent_id = ?", mine)
        self.mode = "platform" if mode is None else mode[0]
        self.skipped = self._store.rows(
            "SELECT chain, seq_from, seq_to FROM skipped WHERE agent_id = ?", mine
        )
        for (chain,) in self._store.rows("SELECT chain FROM joined_chains WHERE agent_id = ?", mine):
            self.joined[chain] = {}
        for chain, meter, shift in self._store.rows(
            "SELECT chain, meter, shift FROM joined_meters WHERE agent_id = ?", mine
        ):
            self.joined[chain][meter] = shift

    def skip(self, chain: str, seq_from: int, seq_to: int, now_ms: int) -> None:
        """Pass over batches that never came."""
        self._store.run(
            "INSERT OR IGNORE INTO skipped (agent_id, chain, seq_from, seq_to, after_batch, at_ms)"
            " SELECT ?1, ?2, ?3, ?4, coalesce(max(batch_id), 0), ?5 FROM batches",
            (self.agent_id, chain, seq_from, seq_to, now_ms),
        )
        self.skipped.append((chain, seq_from, seq_to))

    def was_skipped(self, chain: str, seq: int) -> bool:
        """Whether this batch is one of those."""
        return any(each == chain and first <= seq <= last for each, first, last in self.skipped)

    def join(self, chain: str, now_ms: int) -> None:
        """A chain that follows nothing that is here is taken up; its meters are joined as they are heard of."""
        self.joined[chain] = {}
        self._store.run(
            "INSERT INTO joined_chains (agent_id, chain, at_ms) VALUES (?, ?, ?)",
            (self.agent_id, chain, now_ms),
        )

    def begin(self, chain: str, *, behind: str | None) -> None:
        """A chain begins that follows another one."""
        self.begun, self.behind = chain, behind

    def _load_beginning(self) -> None:
        """What the first batch of the head's chain said that it follows; of interest only where chains were joined."""
        if self.head is None or not self.joined:
            return
        first = self._store.first(
            "SELECT jws FROM batches WHERE agent_id = ? AND chain = ? AND seq = 1",
            (self.agent_id, self.head.chain),
        )
        if first is not None:
            said = stored_batch(first[0])
            self.begin(self.head.chain, behind=None if said.prev_chain is None else said.prev_chain.chain)

    def _load_keys(self) -> None:
        sql = "SELECT kid, jwk, ended_chain, ended_seq FROM keys WHERE agent_id = ? AND NOT withdrawn"
        for kid, jwk, chain, seq in self._store.rows(sql, (self.agent_id,)):
            key = self._known.get(kid) or public_key_of_jwk(json.loads(jwk))
            ended = None if chain is None else ChainHead(chain, seq, "")
            self._keys[key.kid] = RegisteredKey(key, ended)

    def _load_assembly(self) -> None:
        """A descriptor may be half told when the platform stops."""
        sql = (
            "SELECT at_ms, body FROM (SELECT event_id, at_ms, body FROM events WHERE agent_id = ? AND"
            f" type = 'descriptor' ORDER BY event_id DESC LIMIT {_EVENTS_TO_ASSEMBLE}) ORDER BY event_id"
        )
        for at_ms, body in self._store.rows(sql, (self.agent_id,)):
            try:
                self.assembly.add(Event("descriptor", at_ms, json.loads(body)))
            except EnvelopeError:
                continue  # it was alarmed when it arrived

    # ------------------------------------------------------------------------------------------------ keys

    def alg_of(self, kid: str) -> str:
        """The algorithm a key is registered for. Raises KeyError for an unknown one."""
        return self._keys[kid].key.alg

    def verify(self, kid: str, alg: str, signed: bytes, signature: bytes) -> bool:
        """Whether the key made this signature. Raises KeyError for an unknown one."""
        key = self._keys[kid].key
        return alg == key.alg and key.verify(signed, signature)

    def may_sign(self, kid: str, chain: str | None, seq: int) -> bool:
        """Whether a key was in force for the batch (chain, seq); None for a message outside all chains."""
        if kid not in self._keys:
            return False  # withdrawn since
        ended = self._keys[kid].ended
        return ended is None or (chain == ended.chain and seq <= ended.seq)

    def trust(self, key: PublicKey, origin: str) -> None:
        """Register a key of the operator or of a rotation; one that has ended stays ended."""
        if key.kid not in self._keys:
            self._keys[key.kid] = RegisteredKey(key)
            self._store.run(
                "INSERT INTO keys (agent_id, kid, jwk, origin) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET withdrawn = 0",
                (self.agent_id, key.kid, json.dumps(dict(key.jwk), sort_keys=True), origin),
            )

    def withdraw_others(self, kids: Iterable[str]) -> None:
        """The operator trusts these keys and none that he named before; rotations go on from what they ended."""
        named = set(kids)
        for kid, registered in list(self._keys.items()):
            sql = "UPDATE keys SET withdrawn = 1 WHERE agent_id = ? AND kid = ? AND origin = 'operator' RETURNING 1"
            if kid not in named and registered.ended is None and self._store.rows(sql, (self.agent_id, kid)):
                del self._keys[kid]

    def has_ended(self, kid: str) -> bool:
        """Whether a key was registered and rotated away."""
        return kid in self._keys and self._keys[kid].ended is not None

    def end_key(self, kid: str, chain: str, seq: int, *, revoked: bool = False) -> None:
        """A key ends with this batch, in every chain; by a rotation, or revoked by an operator."""
        self._keys[kid].ended = ChainHead(chain, seq, "")
        self._store.run(
            "UPDATE keys SET ended_chain = ?, ended_seq = ?, revoked = ? WHERE agent_id = ? AND kid = ?",
            (chain, seq, int(revoked), self.agent_id, kid),
        )

    def kids(self) -> Iterable[tuple[str, ChainHead | None]]:
        """Registered keys and where they ended."""
        return ((kid, registered.ended) for kid, registered in self._keys.items())

    # ---------------------------------------------------------------------------------------- chain and head

    def move_head(self, head: ChainHead, descriptor_id: int | None) -> None:
        """The next batch was taken, or what never came was passed over."""
        self.head, self.head_descriptor = head, descriptor_id
        self._store.run(
            "UPDATE agents SET head_chain = ?, head_seq = ?, head_hash = ?, head_descriptor = ? WHERE agent_id = ?",
            (head.chain, head.seq, head.hash, descriptor_id, self.agent_id),
        )

    def set_chain(self, chain: str, state: str, reason: str, at_ms: int) -> None:
        """Open, close or refuse a chain."""
        self.chains[chain] = state
        self._store.run(
            "INSERT INTO chains (agent_id, chain, state, reason, at_ms) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, reason = excluded.reason, at_ms = excluded.at_ms",
            (self.agent_id, chain, state, reason, at_ms),
        )

    def next_ack_no(self, now_ms: int) -> int:
        """The number of the next acknowledgement, made durable with the rows it acknowledges."""
        self.ack_no = max(self.ack_no + 1, now_ms)
        self._store.run("UPDATE agents SET ack_no = ? WHERE agent_id = ?", (self.ack_no, self.agent_id))
        return self.ack_no

    # ------------------------------------------------------------------------------------------- descriptors

    def descriptor_id(self, hash_: str) -> int:
        """The row of a descriptor, made if its hash is spoken of for the first time."""
        if hash_ not in self._descriptor_ids:
            sql = "SELECT descriptor_id FROM descriptors WHERE agent_id = ? AND hash = ?"
            row = self._store.first(sql, (self.agent_id, hash_))
            self._descriptor_ids[hash_] = (
                row[0]
                if row is not None
                else self._store.run(
                    "INSERT INTO descriptors (agent_id, hash) VALUES (?, ?)", (self.agent_id, hash_)
                )
            )
        return self._descriptor_ids[hash_]

    def keep_descriptor(self, jws: bytes) -> Descriptor:
        """Verify and keep a descriptor. It comes with every connection, so that the last ones are read only once.

        Raises:
            EnvelopeError: not signed by this agent. WireError: not a descriptor, or another agent's.
        """
        sound = check_sealed(jws, DESCRIPTOR, self)
        try:
            descriptor = stored_descriptor(jws)
        except NotStrict as error:
            raise EnvelopeError("payload", str(error)) from None
        if (descriptor.org, descriptor.agent) != (self.org, self.agent):
            raise WireError("$.agent", f"is {descriptor.org}/{descriptor.agent}, not {self.name}")
        descriptor_id = self.descriptor_id(sound.hash)
        self._store.run(
            "UPDATE descriptors SET rev = ?, jws = ? WHERE descriptor_id = ? AND jws IS NULL",
            (descriptor.rev, jws, descriptor_id),
        )
        return descriptor

    def descriptor(self, descriptor_id: int) -> Descriptor | None:
        """A descriptor by its row, None while its text is not there."""
        if descriptor_id not in self._descriptors:
            sql = "SELECT jws FROM descriptors WHERE descriptor_id = ? AND jws IS NOT NULL"
            row = self._store.first(sql, (descriptor_id,))
            if row is None:
                return None
            self._descriptors[descriptor_id] = stored_descriptor(row[0])
        return self._descriptors[descriptor_id]

    def descriptions(self, descriptor_id: int) -> dict[str, MeterDescription] | None:
        """The meters of a descriptor by their id, None while its text is not there."""
        if descriptor_id not in self._descriptions:
            descriptor = self.descriptor(descriptor_id)
            if descriptor is None:
                return None
            self._descriptions[descriptor_id] = descriptor.by_meter()
        return self._descriptions[descriptor_id]

    def save_meters(self, meters: Iterable[str]) -> None:
        """Write the standing of these meters to their table."""
        self._store.run_many(
            "INSERT OR REPLACE INTO meters (agent_id, meter, epoch, n, register, end_ms, num, den, modulus, serial,"
            " booked_n, booked_register, booked_end_ms, booked_position) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [(self.agent_id, meter, *_values(self.meters[meter])) for meter in meters],
        )


@lru_cache(maxsize=DESCRIPTORS_READ)
def stored_descriptor(jws: bytes) -> Descriptor:
    """Read a descriptor from the store; its signature was verified before it was put there."""
    payload = base64url_decode(jws.decode("ascii").split(".")[1])
    return Descriptor.from_payload(loads(payload, size_max=SIZE_MAX[DESCRIPTOR]))


def stored_batch(jws: bytes) -> Batch:
    """Read a batch from the store; its signature was verified before it was put there."""
    payload = base64url_decode(jws.decode("ascii").split(".")[1])
    return Batch.from_payload(loads(payload, size_max=SIZE_MAX[BATCH]))


def _values(x: Standing) -> tuple[object, ...]:
    return (
        x.epoch, x.n, x.register, x.end_ms, x.num, x.den, x.modulus, x.serial,
        x.booked_n, x.booked_register, x.booked_end_ms, x.booked_position,
    )  # fmt: skip
