"""Keys of the simulated world: real signatures, of which those made here need not be checked by arithmetic again.

Half of the time that a world spends on cryptography is the checking of signatures that the same process made a moment
ago. A key here remembers what its signer has signed; only what it has not signed (forged, altered, of a stranger) is
put to the real test.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters.keys import Ed25519Signer, PublicKey


@dataclass(frozen=True, slots=True)
class RememberedKey(PublicKey):
    """The public half, with what the private half has signed, by signature."""

    made: dict[bytes, bytes] = field(default_factory=dict, repr=False, compare=False)

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """Whether the private half made this signature over these bytes."""
        return self.made.get(signature) == signed or PublicKey.verify(self, signed, signature)


class WorldSigner(Ed25519Signer):
    """A private key that anybody can work out from its number, so that every run of a seed has the same."""

    def __init__(self, number: int) -> None:
        super().__init__(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))
        plain = super().public_key
        self._remembered = RememberedKey(plain.kid, plain.alg, plain.jwk, plain.pem, plain._key)

    @property
    def public_key(self) -> PublicKey:
        """The public half, which knows what was signed."""
        return self._remembered

    def sign(self, data: bytes) -> bytes:
        """Sign the bytes, and remember it."""
        signature = super().sign(data)
        self._remembered.made[signature] = data
        return signature
