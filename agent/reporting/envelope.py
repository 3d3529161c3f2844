"""JWS compact: the bytes that were signed are the bytes that are stored, sent, hashed and archived.

Nothing is ever re-serialised, so there is no canonical form to disagree about. The algorithm belongs to the registered
key and is compared with the header, never taken from it; the header has exactly three members, so nobody can bring a
key, a certificate or an extension along. The hash of a message covers the signing input `header.payload` only: the last
character of a signature has unused bits, and hashing the whole token would let a broker fake a fork (wire format,
sections 1, 2 and 8; RFC 7515, RFC 7638, RFC 9864).

Before this come the payloads (`batch`, `descriptor`, `status`), after it the journal, and on the other side `verify`.
"""

import base64
import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

from agent.reporting import strictjson

BATCH = "kwh-batch+jws"
DESCRIPTOR = "kwh-desc+jws"
ACKNOWLEDGEMENT = "kwh-ack+jws"
STATUS = "kwh-status+jws"
ENROLMENT = "kwh-enrol+jws"

SIZE_MAX = {
    BATCH: 48 * 1024,
    DESCRIPTOR: 256 * 1024,
    ACKNOWLEDGEMENT: 256 * 1024,
    STATUS: 256 * 1024,
    ENROLMENT: 8 * 1024,
}
"""Largest compact JWS of each kind, in bytes."""

HEADER_MEMBERS = ("alg", "typ", "kid")
HEADERS_KEPT = 64
_HEADER_TEXT_MAX = 512
_ALPHABET = (string.ascii_letters + string.digits + "-_").encode("ascii")
"""Deleting these from a text and looking at what is left is many times as fast as a pattern."""
_THUMBPRINT_MEMBERS = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y")}


class EnvelopeError(ValueError):
    """A message that must not be believed.

    `verdict` is one of `malformed`, `header`, `unknown-key`, `algorithm`, `signature`, `too-large`, `payload`.
    """

    def __init__(self, verdict: str, reason: str) -> None:
        super().__init__(f"{verdict}: {reason}")
        self.verdict = verdict
        self.reason = reason


class UnparsablePayload(EnvelopeError):
    """The signature is good and the payload is not JSON of our kind: kept as evidence, never placed in a chain."""

    def __init__(self, reason: str, *, kid: str, hash: str) -> None:
        super().__init__("payload", reason)
        self.kid = kid
        self.hash = hash


class KeyRing(Protocol):
    """The public keys that somebody has pinned."""

    def verify(self, kid: str, alg: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature over the bytes is that of this key. Raises KeyError for an unknown kid."""

    def alg_of(self, kid: str) -> str:
        """The one algorithm of this key. Raises KeyError for an unknown kid."""


class SigningKey(Protocol):
    """What sealing needs of a private key; `agent.service.ports.Signer` is one."""

    @property
    def alg(self) -> str:
        """JWS algorithm of the key."""

    @property
    def kid(self) -> str:
        """RFC 7638 thumbprint of its public key."""

    def sign(self, data: bytes) -> bytes:
        """Sign the bytes."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A message whose signature was verified. `hash` is that of its signing input, `jws` the bytes as received."""

    typ: str
    kid: str
    alg: str
    payload: dict[str, object]
    hash: str
    jws: bytes


@dataclass(frozen=True, slots=True)
class Sound:
    """What stands in a message whose signature was verified: the payload's bytes, the hash of the signing input."""

    kid: str
    alg: str
    payload: bytes
    hash: str


def seal(typ: str, payload: Mapping[str, object], signer: SigningKey) -> bytes:
    """Sign a payload once and for all.

    Returns:
        the compact JWS in ASCII.

    Raises:
        EnvelopeError: `too-large` for its kind.
        strictjson.NotStrict: the payload has a float or something else that the other side would refuse.
    """
    header = {"alg": signer.alg, "typ": typ, "kid": signer.kid}
    signed = f"{base64url(strictjson.dumps(header))}.{base64url(strictjson.dumps(dict(payload)))}".encode(
        "ascii"
    )
    jws = signed + b"." + base64url(signer.sign(signed)).encode("ascii")
    if len(jws) > SIZE_MAX[typ]:
        raise EnvelopeError("too-large", f"{len(jws)} bytes are more than {SIZE_MAX[typ]} for {typ}")
    return jws


def open_sealed(jws: bytes, typ: str, keys: KeyRing) -> Opened:
    """Verify a message of one kind and only then read its payload.

    Raises:
        UnparsablePayload: the signature is good, the payload is not strict JSON.
        EnvelopeError: everything else that keeps the message from being believed.
    """
    sound = check_sealed(jws, typ, keys)
    try:
        members = strictjson.loads(sound.payload, size_max=SIZE_MAX[typ])
    except strictjson.NotStrict as error:
        raise UnparsablePayload(str(error), kid=sound.kid, hash=sound.hash) from None
    return Opened(typ, sound.kid, sound.alg, members, sound.hash, jws)


def check_sealed(jws: bytes, typ: str, keys: KeyRing) -> Sound:
    """Verify a message of one kind and leave its payload unread.

    The order is size, shape, header, key, algorithm, signature, payload, so that no byte of the payload is
    interpreted before somebody known has vouched for it.

    Raises:
        EnvelopeError: whatever keeps the message from being believed.
    """
    if len(jws) > SIZE_MAX[typ]:
        raise EnvelopeError("too-large", f"{len(jws)} bytes are more than {SIZE_MAX[typ]} for {typ}")
    header_text, payload_text, signature_text = _three_parts(jws)
    alg, kid = _read_header(header_text, typ)
    payload, signature = _decode_parts(payload_text, signature_text)
    signed = f"{header_text}.{payload_text}".encode("ascii")
    _check_signature(keys, kid, alg, signed, signature)
    return Sound(kid, alg, payload, base64url(hashlib.sha256(signed).digest()))


def typ_of(jws: bytes) -> str:
    """The kind a message says it is of, nothing verified; to choose what to open it as. Raises EnvelopeError."""
    header = _header_members(_three_parts(jws)[0])
    typ = header["typ"]
    if typ not in SIZE_MAX:
        raise EnvelopeError("header", f"the kind {typ!r} is unknown")
    return typ


def kid_of(jws: bytes) -> str:
    """The key that a message says it was signed by, nothing verified. Raises EnvelopeError."""
    return _header_members(_three_parts(jws)[0])["kid"]


def signing_input_hash(jws: bytes) -> str:
    """Base64url SHA-256 of `header.payload`, 43 characters: the link of the chain. Raises EnvelopeError."""
    _check_shape(jws)
    return base64url(hashlib.sha256(jws[: jws.rindex(b".")]).digest())


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
    """Decode base64url; only the one text that `base64url` would have written is accepted. Raises ValueError."""
    data = _decode_loosely(text)
    rest = len(text) % 4  # only the last, incomplete group has bits that nobody uses
    if rest and base64url(data[len(data) // 3 * 3 :]) != text[-rest:]:
        raise ValueError("base64url with unused bits set")
    return data


def thumbprint(jwk: Mapping[str, str]) -> str:
    """RFC 7638 SHA-256 thumbprint of a public key, base64url. Raises ValueError for a key of another type."""
    members = _THUMBPRINT_MEMBERS.get(jwk.get("kty", ""))
    if members is None or not all(isinstance(jwk.get(name), str) for name in members):
        raise ValueError("not a public key of type OKP or EC")
    return base64url(hashlib.sha256(strictjson.dumps({name: jwk[name] for name in members})).digest())


def jwk_of_ed25519(public: bytes) -> dict[str, str]:
    """The 32 bytes of an Ed25519 public key as a JWK (RFC 8037)."""
    if len(public) != 32:
        raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
    return {"kty": "OKP", "crv": "Ed25519", "x": base64url(public)}


def _three_parts(jws: bytes) -> tuple[str, str, str]:
    _check_shape(jws)
    header, payload, signature = jws.decode("ascii").split(".")
    return header, payload, signature


def _check_shape(jws: bytes) -> None:
    """Three parts in base64url. Also whitespace and padding end here: one newline more is another message."""
    others = jws.translate(None, _ALPHABET)
    if others.strip(b"."):
        raise EnvelopeError("malformed", "characters other than base64url")
    if others != b".." or b".." in jws or jws[:1] == b"." or jws[-1:] == b".":
        raise EnvelopeError("malformed", "not three parts with dots between them")


@lru_cache(maxsize=HEADERS_KEPT)
def _header_members(text: str) -> Mapping[str, str]:
    """What a header says; there are few of them, each comes with every message."""
    try:
        header = strictjson.loads(base64url_decode(text), size_max=_HEADER_TEXT_MAX)
    except ValueError as error:
        raise EnvelopeError("header", str(error)) from None
    if set(header) != set(HEADER_MEMBERS):
        raise EnvelopeError("header", "must have exactly the members alg, typ and kid")
    members = {name: value for name, value in header.items() if isinstance(value, str)}
    if len(members) != len(header):
        raise EnvelopeError("header", "alg, typ and kid must be texts")
    return MappingProxyType(members)


def _read_header(text: str, typ: str) -> tuple[str, str]:
    """Algorithm and key id of a header that is of the kind expected."""
    header = _header_members(text)
    if header["typ"] != typ:
        raise EnvelopeError("header", f"the kind is {header['typ'][:40]!r}, not {typ!r}")
    return header["alg"], header["kid"]


def _decode_parts(payload_text: str, signature_text: str) -> tuple[bytes, bytes]:
    """Payload and signature as bytes.

    The unused bits of the signature's last character are not looked at: many senders' libraries do not either, and
    they are outside the hash, so that they can change nothing.
    """
    try:
        return base64url_decode(payload_text), _decode_loosely(signature_text)
    except ValueError as error:
        raise EnvelopeError("malformed", str(error)) from None


def _check_signature(keys: KeyRing, kid: str, alg: str, signed: bytes, signature: bytes) -> None:
    try:
        registered = keys.alg_of(kid)
        if alg != registered:
            raise EnvelopeError("algorithm", f"the header says {alg[:40]!r}, the key is for {registered}")
        good = keys.verify(kid, registered, signed, signature)
    except KeyError:
        raise EnvelopeError("unknown-key", f"no key {kid[:60]!r} is known") from None
    if not good:
        raise EnvelopeError(
            "signature", f"not signed by key {kid}: it was changed, or signed by somebody else"
        )


def _decode_loosely(text: str) -> bytes:
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError("not base64url without padding") from None
    if data.translate(None, _ALPHABET) or len(data) % 4 == 1:
        raise ValueError("not base64url without padding")
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
