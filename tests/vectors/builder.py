"""Makes signed messages without any code of the agent, so that the vectors are a second opinion on the wire format.

Plain dictionaries and bytes: whatever a liar with the gateway's own key could write can be written here. Everything is
made from small numbers and fixed times; the same call gives the same bytes on every machine.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Json = dict[str, Any]

ORG, AGENT, AUDIENCE = "zj-meterworks", "gw01", "carbon.grid.example"
START_MS = 1_760_000_000_000
MINUTE_MS = 60_000
MODULUS = 1_000_000_000
CHAIN_A, CHAIN_B, CHAIN_C = (f"01JTESTVECT0R000000000000{letter}" for letter in "ABC")

BATCH, DESCRIPTOR, ACKNOWLEDGEMENT, STATUS, ENROLMENT = (
    f"kwh-{kind}+jws" for kind in ("batch", "desc", "ack", "status", "enrol")
)
_LEVELS = {
    BATCH: "up/batch",
    DESCRIPTOR: "up/desc",
    STATUS: "up/status",
    ENROLMENT: "up/enrol",
    ACKNOWLEDGEMENT: "down/ack",
}


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def sha256(text: str | bytes) -> str:
    """Base64url SHA-256."""
    return b64(hashlib.sha256(text.encode() if isinstance(text, str) else text).digest())


def utc(ms: int) -> str:
    """UTC text of a moment in October 2025; the vectors need no other year."""
    seconds, milli = divmod(ms - START_MS, 1_000)
    # START_MS is 2025-10-09T08:53:20Z.
    of_day = 8 * 3_600 + 53 * 60 + 20 + seconds
    assert 0 <= of_day < 86_400
    return f"2025-10-09T{of_day // 3_600:02d}:{of_day // 60 % 60:02d}:{of_day % 60:02d}.{milli:03d}Z"


def compact(value: object) -> bytes:
    """JSON without spaces, members in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def topic(typ: str, org: str = ORG, agent: str = AGENT) -> str:
    """Where a kind of message goes."""
    return f"kwh/v1/{org}/{agent}/{_LEVELS[typ]}"


# ---------------------------------------------------------------------------- keys


class Signing(Protocol):
    """A test key."""

    alg: str
    jwk: dict[str, str]
    private_jwk: dict[str, str]
    pem: str

    @property
    def kid(self) -> str:
        """RFC 7638 thumbprint."""

    def sign(self, data: bytes) -> bytes:
        """The signature, the same for the same data."""


def _thumbprint(jwk: dict[str, str]) -> str:
    return sha256(compact(dict(sorted(jwk.items()))))


class Ed25519Key:
    """The Ed25519 key whose 32 secret bytes are one small number. For tests only."""

    alg = "Ed25519"

    def __init__(self, number: int) -> None:
        self.secret = number.to_bytes(32, "big")
        self._private = Ed25519PrivateKey.from_private_bytes(self.secret)
        public = self._private.public_key()
        self.raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64(self.raw)}
        self.private_jwk = {**self.jwk, "d": b64(self.secret)}
        self.pem = _pem(public)
        self.kid = _thumbprint(self.jwk)

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


class P256Key:
    """The P-256 key whose secret is one small number, with signatures that do not depend on chance. For tests only."""

    alg = "ES256"
    _ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def __init__(self, number: int) -> None:
        self._secret = number
        public = ec.derive_private_key(number, ec.SECP256R1()).public_key()
        x, y = (b64(value.to_bytes(32, "big")) for value in _point(public))
        self.jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        self.private_jwk = {**self.jwk, "d": b64(number.to_bytes(32, "big"))}
        self.pem = _pem(public)
        self.kid = _thumbprint(self.jwk)

    def sign(self, data: bytes) -> bytes:
        """r||s as in RFC 7518. The nonce is a hash of key and data: enough for a vector, not for a real key."""
        digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
        nonce = int.from_bytes(hashlib.sha512(self._secret.to_bytes(32, "big") + data).digest(), "big")
        nonce = nonce % (self._ORDER - 1) + 1
        r = _point(ec.derive_private_key(nonce, ec.SECP256R1()).public_key())[0] % self._ORDER
        s = pow(nonce, -1, self._ORDER) * (digest + r * self._secret) % self._ORDER
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _point(public: ec.EllipticCurvePublicKey) -> tuple[int, int]:
    numbers = public.public_numbers()
    return numbers.x, numbers.y


def _pem(public: Any) -> str:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = public.public_bytes(serialization.Encoding.PEM, info)
    return text.decode()


GATEWAY, PLATFORM, NEXT, STRANGER, NEIGHBOUR = (Ed25519Key(1_000 + number) for number in range(1, 6))
TPM = P256Key(2_001)
KEYS: dict[str, Signing] = {
    "gateway": GATEWAY,
    "gateway-next": NEXT,
    "gateway-es256": TPM,
    "neighbour": NEIGHBOUR,
    "platform": PLATFORM,
    "stranger": STRANGER,
}


# ---------------------------------------------------------------------------- messages


def jws(
    payload: object,
    key: Signing = GATEWAY,
    typ: str = BATCH,
    *,
    header: object = None,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    """A compact JWS. `payload` and `header` may be bytes, to be taken as they are, or a value to be written."""
    header = {"alg": key.alg, "typ": typ, "kid": key.kid} if header is None else header
    parts = [part if isinstance(part, bytes) else compact(part) for part in (header, payload)]
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64((sign or key.sign)(signed.encode()))}"


def resigned(signed: str, key: Signing = GATEWAY) -> str:
    """Sign a text that is not `header.payload` as `jws` would have written it."""
    return f"{signed}.{b64(key.sign(signed.encode()))}"


def hash_of(message: str) -> str:
    """Hash of the signing input."""
    return sha256(message[: message.rindex(".")])


def without(value: Json, *names: str) -> Json:
    """A copy that lacks some members."""
    return {name: each for name, each in value.items() if name not in names}


def meter(name: str, **changes: Any) -> Json:
    """One meter of a descriptor: 0.01 kWh per count, one step."""
    return {
        "meter": name,
        "serial": f"SN-{name}",
        "profile": "eastron-sdm630-v2",
        "profile_hash": sha256("profile"),
        "num": 10_000,
        "den": 1,
        "modulus": MODULUS,
        "resolution": 10_000,
        "accuracy_class": "1",
        "ct_class": None,
        "production_line": None,
        "parent": None,
        "rated_w": None,
        "role": "step",
        "steps": [{"step": f"step_{name}", "num": 1, "den": 1}],
        **changes,
    }


@dataclass
class Register:
    """Where a meter stands."""

    value: int
    end_ms: int
    epoch: int = 1
    n: int = 0


@dataclass
class Line:
    """One gateway's history. `log` has every sealed batch, `registers` where the meters stand."""

    meters: list[Json]
    key: Signing = GATEWAY
    chain: str = CHAIN_A
    agent: str = AGENT
    now_ms: int = START_MS
    seq: int = 0
    prev: str = ""
    prev_chain: Json | None = None
    registers: dict[str, Register] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    descriptor: str = ""
    rev: int = 0

    def __post_init__(self) -> None:
        for each in self.meters:
            self.registers.setdefault(each["meter"], Register(500_000, self.now_ms))
        if not self.descriptor:
            self.describe(self.meters)

    @property
    def cfg(self) -> str:
        """Hash of the descriptor in force."""
        return hash_of(self.descriptor)

    @property
    def head(self) -> Json:
        """The last batch, as `prev_chain` names it."""
        return {"chain": self.chain, "seq": self.seq, "hash": self.prev}

    def copy(self) -> "Line":
        """The same history, to be continued in another way."""
        registers = {name: Register(**vars(register)) for name, register in self.registers.items()}
        state = {**vars(self), "registers": registers, "log": list(self.log), "meters": list(self.meters)}
        return Line(**state)

    def describe(self, meters: list[Json], **changes: Any) -> str:
        """A new descriptor comes into force."""
        self.meters, self.rev = meters, self.rev + 1
        self.descriptor = jws(self.descriptor_payload(**changes), self.key, DESCRIPTOR)
        return self.descriptor

    def descriptor_payload(self, **changes: Any) -> Json:
        """The descriptor in force."""
        return {
            "v": "1.0",
            "org": ORG,
            "agent": self.agent,
            "rev": self.rev,
            "iat": utc(self.now_ms),
            "sw": "1.0.0",
            "meters": self.meters,
            **changes,
        }

    def carried(self, parts: int = 1) -> list[Json]:
        """The events that carry the descriptor in force."""
        text, size = self.descriptor, -(-len(self.descriptor) // parts)
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        return [
            self.event("descriptor", rev=self.rev, hash=self.cfg, part=part, parts=len(pieces), text=piece)
            for part, piece in enumerate(pieces, 1)
        ]

    def event(self, type_: str, **members: Any) -> Json:
        """An event of this moment."""
        return {"type": type_, "at": utc(self.now_ms), **members}

    def delta(self, name: str, rise: int, *q: str) -> Json:
        """Let a register rise, around its modulus if need be."""
        register = self.registers[name]
        description = next(each for each in self.meters if each["meter"] == name)
        end, modulus, roll = register.value + rise, description["modulus"], None
        if modulus is not None and end >= modulus:
            end, roll = end - modulus, modulus
        made: Json = {"meter": name}
        steps = description["steps"]
        if len(steps) == 1 and steps[0]["num"] == steps[0]["den"]:
            made["step"] = steps[0]["step"]
        register.n += 1
        made |= {
            "epoch": register.epoch,
            "n": register.n,
            "start": utc(register.end_ms),
            "end": utc(self.now_ms),
            "reg_start": register.value,
            "reg_end": end,
            "delta": rise,
        }
        if roll is not None:
            made["roll"] = roll
        register.value, register.end_ms = end, self.now_ms
        return {**made, "q": sorted(q)}

    def epoch(self, name: str, first: int, **changes: Any) -> Json:
        """Register continuity ends; the next epoch opens at `first`."""
        register = self.registers[name]
        event = self.event(
            "epoch",
            **{
                "meter": name,
                "epoch_from": register.epoch,
                "epoch_to": register.epoch + 1,
                "last": register.value,
                "first": first,
                "serial_from": f"SN-{name}",
                "serial_to": f"SN-{name}-{register.epoch + 1}",
                "reason": "exchange",
                "unmetered_from": utc(register.end_ms),
                "unmetered_to": utc(self.now_ms),
                "bound": 2_000,
                "by": "agent",
                **changes,
            },
        )
        self.registers[name] = Register(first, self.now_ms, register.epoch + 1)
        return event

    def batch(self, deltas: list[Json], events: Iterable[Json] = (), **changes: Any) -> Json:
        """The payload of the next batch."""
        payload: Json = {
            "v": "1.0",
            "org": ORG,
            "agent": self.agent,
            "aud": AUDIENCE,
            "chain": self.chain,
            "seq": self.seq + 1,
            "prev": self.prev if self.seq else self.cfg,
        }
        if self.seq == 0:
            payload["prev_chain"] = self.prev_chain
        payload |= {
            "iat": utc(self.now_ms),
            "clock": {"sync": "S", "err_ms": 5},
            "sw": "1.0.0",
            "cfg": self.cfg,
            "energy_unit": "0.001Wh",
            "deltas": deltas,
            "events": list(events),
        }
        return {**payload, **changes}

    def seal(self, payload: object, message: str | None = None) -> str:
        """Sign the next batch and go on from it; `message` if it was signed elsewhere."""
        message = jws(payload, self.key) if message is None else message
        self.seq, self.prev = self.seq + 1, hash_of(message)
        self.log.append(message)
        return message

    def say(self, deltas: list[Json], events: Iterable[Json] = ()) -> str:
        """Seal deltas and events as the next batch."""
        return self.seal(self.batch(deltas, events))

    def minute(self, **rises: int) -> list[Json]:
        """A minute passes; the deltas of the meters named."""
        self.now_ms += MINUTE_MS
        return [self.delta(name, rise) for name, rise in rises.items()]

    def balance(self, name: str, n_first: int, reg_first: int, total: int, roll: int = 0) -> Json:
        """The deltas from `n_first` to the last one add up."""
        register = self.registers[name]
        return self.event(
            "balance",
            meter=name,
            epoch=register.epoch,
            n_first=n_first,
            n_last=register.n,
            reg_first=reg_first,
            reg_last=register.value,
            sum=total,
            roll=roll,
        )

    def open_chain(self, chain: str, prev_chain: Json | None) -> None:
        """Begin a new chain; the next batch is its first."""
        self.chain, self.seq, self.prev, self.prev_chain = chain, 0, "", prev_chain

    def enrolment(self, key: Signing, **changes: Any) -> Json:
        """A key that signs itself."""
        return {
            "v": "1.0",
            "org": ORG,
            "agent": self.agent,
            "jwk": key.jwk,
            "at": utc(self.now_ms),
            "sw": "1.0.0",
            **changes,
        }

    def rotation(self, key: Signing, proof: str | None = None, **changes: Any) -> Json:
        """The event that ends this key."""
        proof = jws(self.enrolment(key), key, ENROLMENT) if proof is None else proof
        return self.event("key-rotate", **{"jwk": key.jwk, "proof": proof, **changes})

    def acknowledgement(self, number: int, **changes: Any) -> Json:
        """What a platform that holds everything would answer."""
        return {
            "v": "1.0",
            "org": ORG,
            "agent": self.agent,
            "gen": 1,
            "ack_no": START_MS + number,
            "chain": self.chain if self.seq else None,
            "acked_seq": self.seq or None,
            "acked_hash": self.prev or None,
            "stored_at": utc(self.now_ms),
            "need": [],
            "held": [],
            "refused": [],
            "accepts": ["1.0"],
            "session": None,
            **changes,
        }

    def heads(self) -> Json:
        """Where every meter stands, as an acknowledgement says it."""
        known = {each["meter"]: each for each in self.meters}
        return {
            name: {
                "epoch": register.epoch,
                "n": register.n,
                "register": register.value,
                "end": utc(register.end_ms),
                "num": known[name]["num"],
                "den": known[name]["den"],
                "modulus": known[name]["modulus"],
                "serial": known[name]["serial"],
            }
            for name, register in sorted(self.registers.items())
        }

    def status(self, **changes: Any) -> Json:
        """What the agent says of itself."""
        head = {"seq": self.seq, "hash": self.prev} if self.seq else None
        return {
            "v": "1.0",
            "org": ORG,
            "agent": self.agent,
            "at": utc(self.now_ms),
            "state": "online",
            "session": "0f3a9c5e7b1d2846",
            "sw": "1.0.0",
            "kid": self.key.kid,
            "cfg": self.cfg,
            "chain": self.chain,
            "head": head,
            "oldest": None,
            "backlog": {"batches": 0, "milliwh": 0, "since": None},
            "clock": {"sync": "S", "err_ms": 5},
            "mode": "platform",
            "need_heads": False,
            **changes,
        }
