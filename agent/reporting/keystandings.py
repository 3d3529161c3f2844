"""Which keys may sign a batch of a file: pinned by a person, brought by a rotation, ended by one or by an operator.

A key is not good or bad but good up to a place in a chain: a rotation ends the old one with the batch that has it, a
revocation ends a stolen one by sequence, because a thief controls times and not the acknowledged chain (wire format,
section 7). Used by `verify` line by line; before it comes the envelope, which asks this for keys.
"""

from collections.abc import Callable, Mapping

from agent.reporting import envelope
from agent.reporting.batch import Batch
from agent.reporting.envelope import KeyRing, Opened
from agent.reporting.event import Event
from agent.reporting.wire import Members

Admit = Callable[[Mapping[str, object]], KeyRing]
"""Makes a key ring of the one public key of a JWK. Raises ValueError for a key that cannot be used."""

Place = tuple[str, int]
"""A chain and a seq in it."""


class KeyStandings:
    """A key ring that grows with verified rotations, and says where each of its keys ended."""

    def __init__(self, pinned: KeyRing, admit: Admit | None, revoked: Mapping[str, Place]) -> None:
        """Begin with what people say.

        Args:
            pinned: the keys that a person vouches for.
            admit: makes a ring of a rotated key; without it a rotation cannot be followed.
            revoked: keys that an operator ended, by their kid: valid for a chain up to a seq.
        """
        self._rings = [pinned]
        self._admit = admit
        self._ended: dict[str, Place] = {}
        self._revoked = dict(revoked)
        self._revoked_chains = {chain: False for chain, _ in self._revoked.values()}

    def _ring_with(self, kid: str) -> KeyRing:
        for ring in self._rings:
            try:
                ring.alg_of(kid)
            except KeyError:
                continue
            return ring
        raise KeyError(kid)

    def alg_of(self, kid: str) -> str:
        """The algorithm that a key is registered with. Raises KeyError for a key that is not known."""
        return self._ring_with(kid).alg_of(kid)

    def verify(self, kid: str, alg: str, signed: bytes, signature: bytes) -> bool:
        """Whether a key made a signature."""
        return self._ring_with(kid).verify(kid, alg, signed, signature)

    def is_over(self, kid: str, batch: Batch) -> str | None:
        """What is wrong with a key that was not in force for a batch; None where it was."""
        end = self._ended.get(kid)
        if end is not None and not (batch.chain == end[0] and batch.seq <= end[1]):
            return f"signed by key {kid}, which ended with chain {end[0]}, seq {end[1]}"
        if batch.chain in self._revoked_chains:
            self._revoked_chains[batch.chain] = True
        if kid in self._revoked:
            # Chains before the one named are not concerned: the file has them before it.
            chain, seq = self._revoked[kid]
            if batch.seq > seq if batch.chain == chain else self._revoked_chains[chain]:
                return f"signed by key {kid}, which was revoked and ended with chain {chain}, seq {seq}"
        return None

    def rotate(self, event: Event, batch: Batch, opened: Opened) -> None:
        """Believe a new key, because the old one signed the event and it signed its own enrolment; the old one ends.

        A rotation that fails proves nothing: it neither begins a key nor ends one (decision 0015).

        Raises:
            ValueError: the new key is not proved, cannot be checked here, or has ended before.
        """
        if self._admit is None:
            raise ValueError("the new key cannot be checked here")
        try:
            ring, kid = self._proved(event, batch, self._admit)
        except ValueError as error:
            raise ValueError(f"the new key is not proved: {error}") from error
        if kid == opened.kid or kid in self._ended:
            raise ValueError(f"key {kid} has ended before")
        self._ended[opened.kid] = (batch.chain, batch.seq)
        self._rings.append(ring)

    @staticmethod
    def _proved(event: Event, batch: Batch, admit: Admit) -> tuple[KeyRing, str]:
        """The ring of the new key, and its kid."""
        jwk = Members(event.body["jwk"])
        ring = admit(jwk.as_dict())
        proof = envelope.open_sealed(event.text("proof").encode(), envelope.ENROLMENT, ring)
        members = Members(proof.payload)
        if (members.identifier("org"), members.identifier("agent")) != (batch.org, batch.agent):
            raise ValueError("the proof is that of another gateway")
        if members.members("jwk").as_dict() != jwk.as_dict():
            raise ValueError("the proof is that of another key")
        return ring, proof.kid
