"""The registry of gateways and keys: who asks to be registered, whom an operator approved, whose key was revoked.

A key comes in three ways: named when the platform is started, approved from an enrolment message after a person has
compared its thumbprint over another channel, or brought by a rotation inside the chain. It ends in two: by a rotation,
or revoked by an operator, as `valid for chain C up to seq N`: by sequence, because a thief controls timestamps but not
the chain that was acknowledged (wire format, section 7).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from agent.adapters.keys import PublicKey, PublicKeys, public_key_of_jwk
from agent.reporting.chain import ChainHead
from agent.reporting.courier import SESSION_PREFIX
from agent.reporting.enrolment import Enrolment, short_form
from agent.reporting.envelope import ENROLMENT, SIZE_MAX, EnvelopeError, base64url_decode, open_sealed
from agent.reporting.strictjson import loads
from agent.reporting.wire import WireError
from simulators.platform.alarms import Alarms
from simulators.platform.dossier import Dossier
from simulators.platform.store import Store

ENROLMENTS_MAX = 200
"""Enrolments that wait; anybody on the broker can send some."""
NOTHING = ChainHead("-", 0, "")
"""Where a key ends that was revoked before it signed anything."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A key that waits for a person."""

    org: str
    agent: str
    kid: str
    jwk: str
    sw: str
    last_ms: int

    @property
    def short(self) -> str:
        """What the person at the gateway reads out."""
        return short_form(self.kid)


class UnknownKey(LookupError):
    """There is no such key, or more than one that begins like that."""


def read_enrolment(org: str, agent: str, jws: bytes) -> tuple[Enrolment, PublicKey]:
    """An enrolment message that its own key signed. Raises EnvelopeError, WireError."""
    try:
        payload = loads(base64url_decode(jws.split(b".")[1].decode("ascii")), size_max=SIZE_MAX[ENROLMENT])
        key = public_key_of_jwk(Enrolment.from_payload(payload).jwk)
    except WireError:
        raise
    except (ValueError, IndexError) as error:
        raise EnvelopeError("malformed", f"no enrolment: {error}") from None
    said = Enrolment.from_payload(open_sealed(jws, ENROLMENT, PublicKeys([key])).payload)
    if (said.org, said.agent) != (org, agent):
        raise WireError("$.agent", f"speaks of {said.org}/{said.agent}")
    return said, key


class Registry:
    """Questions to the registry and changes of it, inside the caller's transaction."""

    def __init__(self, store: Store, alarms: Alarms) -> None:
        self._store = store
        self._alarms = alarms

    # ------------------------------------------------------------------------------------------ asking to come in

    def apply(self, org: str, agent: str, jws: bytes, now_ms: int) -> None:
        """Somebody asks; a person decides. Raises EnvelopeError, WireError."""
        said, key = read_enrolment(org, agent, jws)
        if self._is_registered(org, agent, key.kid):
            return
        known = self._store.first(
            "SELECT 1 FROM enrolments WHERE org = ? AND agent = ? AND kid = ?", (org, agent, key.kid)
        )
        waiting = self._store.one("SELECT count(*) FROM enrolments")[0]
        if known is None and waiting >= ENROLMENTS_MAX:
            self._alarms.say(("*", "*"), "enrolment", "full", f"{waiting} keys wait for approval", now_ms)
            return
        self._store.run(
            "INSERT INTO enrolments VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET sw = excluded.sw, last_ms = excluded.last_ms",
            (org, agent, key.kid, json.dumps(dict(key.jwk), sort_keys=True), said.sw, now_ms, now_ms),
        )
        text = f"key {short_form(key.kid)} waits for approval"
        self._alarms.say((org, agent), "enrolment", key.kid, text, now_ms)

    def pending(self) -> list[Pending]:
        """The keys that wait."""
        sql = "SELECT org, agent, kid, jwk, sw, last_ms FROM enrolments ORDER BY org, agent, first_ms"
        return [Pending(*row) for row in self._store.rows(sql)]

    def _is_registered(self, org: str, agent: str, kid: str) -> bool:
        sql = (
            "SELECT 1 FROM keys JOIN agents USING (agent_id)"
            " WHERE org = ? AND agent = ? AND kid = ? AND NOT withdrawn"
        )
        return self._store.first(sql, (org, agent, kid)) is not None

    # --------------------------------------------------------------------------------------------------- approving

    def approve(self, org: str, agent: str, thumbprint: str, now_ms: int) -> PublicKey:
        """Register a key that waits; `thumbprint` is all of it or its short form, blanks do not count.

        Raises UnknownKey.
        """
        beginning = "".join(thumbprint.split())
        found = [
            each
            for each in self.pending()
            if (each.org, each.agent) == (org, agent) and each.kid.startswith(beginning)
        ]
        if len(found) != 1 or len(beginning) < len(short_form(found[0].kid).replace(" ", "")):
            raise UnknownKey(
                f"no key of {org}/{agent} waits for approval whose thumbprint, or its whole short form, is"
                f" {beginning!r}; `metering-sim platform keys` lists those that wait"
            )
        key = public_key_of_jwk(json.loads(found[0].jwk))
        self._store.run("INSERT OR IGNORE INTO agents (org, agent) VALUES (?, ?)", (org, agent))
        dossier = self.dossier(org, agent)
        dossier.trust(key, "approved")
        self._store.run(
            "DELETE FROM enrolments WHERE org = ? AND agent = ? AND kid = ?", (org, agent, key.kid)
        )
        self.look_for_doubles(key.kid, now_ms)
        return key

    def look_for_doubles(self, kid: str, now_ms: int) -> None:
        """One key for two gateways: one of them is a copy of the other."""
        sql = "SELECT org, agent FROM keys JOIN agents USING (agent_id) WHERE kid = ? AND NOT withdrawn ORDER BY 1, 2"
        names = self._store.rows(sql, (kid,))
        if len(names) > 1:
            text = f"key {kid} is registered for {' and '.join('/'.join(name) for name in names)}"
            for org, agent in names:
                self._alarms.say((org, agent), "shared-key", kid, text, now_ms)

    # ---------------------------------------------------------------------------------------------------- revoking

    def revoke(
        self, dossier: Dossier, thumbprint: str, place: ChainHead | None, now_ms: int
    ) -> tuple[str, ChainHead, int]:
        """End a key: valid for `place.chain` up to `place.seq`, None for the present head.

        What was booked beyond that stays booked and is named by an alarm.

        Returns:
            the kid, where it ended, and how many batches beyond that were booked before.

        Raises UnknownKey.
        """
        beginning = "".join(thumbprint.split())
        kids = [kid for kid, _ in dossier.kids() if beginning and kid.startswith(beginning)]
        if len(kids) != 1:
            raise UnknownKey(
                f"{dossier.name} has {len(kids)} keys whose thumbprint begins with {beginning!r}"
            )
        end = place or dossier.head or NOTHING
        dossier.end_key(kids[0], end.chain, end.seq, revoked=True)
        beyond = list(self._signed_beyond(dossier, kids[0], end))
        text = f"revoked; valid for chain {end.chain} up to {end.seq}"
        if beyond:
            text += f"; {len(beyond)} batches beyond that are booked: {beyond[0]} to {beyond[-1]}"
        self._alarms.say((dossier.org, dossier.agent), "revoked-key", kids[0], text, now_ms)
        return kids[0], end, len(beyond)

    def _signed_beyond(self, dossier: Dossier, kid: str, end: ChainHead) -> Iterator[str]:
        mine = (dossier.agent_id, end.chain, end.seq)
        last = self._store.first(
            "SELECT max(batch_id) FROM batches WHERE agent_id = ? AND chain = ? AND seq <= ?", mine
        )
        after = last[0] if last is not None and last[0] is not None else 0
        sql = "SELECT chain, seq, jws FROM batches WHERE agent_id = ? AND batch_id > ? ORDER BY batch_id"
        for chain, seq, jws in self._store.rows(sql, (dossier.agent_id, after)):
            header = loads(base64url_decode(jws.split(b".")[0].decode("ascii")), size_max=1024)
            if header["kid"] == kid:
                yield f"{chain}/{seq}"

    def dossier(self, org: str, agent: str) -> Dossier:
        """What is known of an agent. Raises UnknownKey."""
        row = self._store.first("SELECT agent_id FROM agents WHERE org = ? AND agent = ?", (org, agent))
        if row is None:
            raise UnknownKey(f"{org}/{agent} is not known to this store")
        return Dossier(self._store, row[0], org, agent)

    def keys(self) -> list[dict[str, object]]:
        """Every key that was ever registered."""
        rows = self._store.rows(
            "SELECT org, agent, kid, origin, withdrawn, revoked, ended_chain, ended_seq FROM keys"
            " JOIN agents USING (agent_id) ORDER BY org, agent, keys.rowid"
        )
        names = ("org", "agent", "kid", "origin", "withdrawn", "revoked", "ended_chain", "ended_seq")
        return [dict(zip(names, row, strict=True)) for row in rows]


@dataclass(slots=True)
class _Session:
    at_ms: int
    text: str


class Clones:
    """Notices two gateways that speak with one key at once.

    A session is one connection, so a session that speaks again after another one has begun is a second gateway.
    Asked in memory only: a clone speaks every minute.
    """

    _MAX = 8

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[str, _Session]] = {}

    def look(self, name: tuple[str, str], session: str, at_ms: int, text: str) -> str | None:
        """Note a status said at `at_ms` by its own clock; a sentence that names both where there are two."""
        if session.startswith(SESSION_PREFIX):
            return None  # asked by stick, beside a connection
        connection = session.partition(".")[0]
        seen = self._seen.setdefault(name, {})
        latest = next(reversed(seen), None)
        is_back = connection in seen and latest != connection and at_ms > seen[latest or ""].at_ms
        other = seen[latest].text if latest is not None and is_back else None
        if latest == connection or connection not in seen or is_back:
            seen.pop(connection, None)
            seen[connection] = _Session(at_ms, text)
            while len(seen) > self._MAX:
                del seen[next(iter(seen))]
        return None if other is None else f"two gateways speak with one key: {text}, and {other}"
