"""Ed25519 keys for tests, straight over the library, so that the core is tested without adapters."""

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.reporting.envelope import base64url_decode, jwk_of_ed25519, thumbprint


class Key:
    """A signing key made from one number, the same in every run."""

    alg = "Ed25519"

    def __init__(self, number: int = 1) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        self.public = self.private.public_key()
        self.raw = self.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.jwk = jwk_of_ed25519(self.raw)
        self.kid = thumbprint(self.jwk)

    @property
    def pem(self) -> bytes:
        """The public key as a PEM file."""
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.public.public_bytes(serialization.Encoding.PEM, info)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(data)


class Ring:
    """Known public keys."""

    def __init__(self, *keys: Key) -> None:
        self.keys: dict[str, Ed25519PublicKey] = {key.kid: key.public for key in keys}
        self.asked: set[str] = set()

    def alg_of(self, kid: str) -> str:
        """Always Ed25519."""
        self.keys[kid]
        return "Ed25519"

    def verify(self, kid: str, alg: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is good; notes that it was asked."""
        self.asked.add(kid)
        try:
            self.keys[kid].verify(signature, signed)
        except InvalidSignature:
            return False
        return True


def ring_of_jwk(jwk: Mapping[str, object]) -> Ring:
    """A ring that knows the one key of a JWK."""
    x = jwk.get("x")
    if jwk.get("kty") != "OKP" or not isinstance(x, str):
        raise ValueError("not an Ed25519 key")
    ring = Ring()
    ring.keys[thumbprint({"kty": "OKP", "crv": "Ed25519", "x": x})] = Ed25519PublicKey.from_public_bytes(
        base64url_decode(x)
    )
    return ring
