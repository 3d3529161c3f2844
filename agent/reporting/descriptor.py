"""The signed meter map: what each meter is, how its counts become energy and which steps it counts for.

A delta alone says how much; the descriptor in force (`cfg` of its batch) says of what. It is signed, retained on the
broker for convenience, and carried inside the chain in parts, so that the chain alone is enough for an auditor (wire
format, section 2). Before this comes the plant, after it `envelope`, `batch` and `attribution`.
"""

from dataclasses import dataclass, replace

from agent.metering.plant import Meter, Role
from agent.reporting.envelope import DESCRIPTOR, SIZE_MAX, EnvelopeError, signing_input_hash
from agent.reporting.event import Event, descriptor_event
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import VERSION, Members, WireError, share_sum

PART_BYTES = 12_000
"""Length of one part of a descriptor in a `descriptor` event, in characters."""

_ROLES = tuple(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class MeterDescription:
    """One meter of a descriptor; what is unknown is None.

    `num/den` is the exact ratio from one raw count to 0.001 Wh with CT and PT included, `modulus` and `resolution` are
    in 0.001 Wh, `rated_w` in W, `steps` the shares `(step, num, den)`, which add up to at most 1.
    """

    meter: str
    serial: str | None
    profile: str
    profile_hash: str
    num: int
    den: int
    modulus: int | None
    resolution: int | None
    accuracy_class: str | None
    ct_class: str | None
    production_line: str | None
    parent: str | None
    rated_w: int | None
    role: str
    steps: tuple[tuple[str, int, int], ...]

    @property
    def step(self) -> str | None:
        """The step that is given the whole meter, None where there is none or where steps share it."""
        if len(self.steps) == 1 and self.steps[0][1] == self.steps[0][2]:
            return self.steps[0][0]
        return None

    def to_payload(self) -> dict[str, object]:
        """As in the array `meters`."""
        return {
            "meter": self.meter,
            "serial": self.serial,
            "profile": self.profile,
            "profile_hash": self.profile_hash,
            "num": self.num,
            "den": self.den,
            "modulus": self.modulus,
            "resolution": self.resolution,
            "accuracy_class": self.accuracy_class,
            "ct_class": self.ct_class,
            "production_line": self.production_line,
            "parent": self.parent,
            "rated_w": self.rated_w,
            "role": self.role,
            "steps": [{"step": step, "num": num, "den": den} for step, num, den in self.steps],
        }

    @classmethod
    def from_payload(cls, value: object, path: str = "$") -> "MeterDescription":
        """Read one meter. Raises WireError."""
        members = Members(value, path)
        return cls(
            meter=members.identifier("meter"),
            serial=members.text_or_none("serial"),
            profile=members.text("profile"),
            profile_hash=members.hash("profile_hash"),
            num=members.integer("num", 1),
            den=members.integer("den", 1),
            modulus=members.integer_or_none("modulus", 1),
            resolution=members.integer_or_none("resolution", 1),
            accuracy_class=members.text_or_none("accuracy_class"),
            ct_class=members.text_or_none("ct_class"),
            production_line=members.text_or_none("production_line"),
            parent=members.parent_or_none("parent"),
            rated_w=members.integer_or_none("rated_w"),
            role=members.choice("role", _ROLES),
            steps=_shares(members),
        )


def _shares(members: Members) -> tuple[tuple[str, int, int], ...]:
    shares = tuple(_share(Members(entry, path)) for entry, path in members.items("steps"))
    if len({step for step, _, _ in shares}) != len(shares):
        raise WireError(members.place("steps"), "names a step twice")
    if share_sum(shares) > 1:
        raise WireError(members.place("steps"), "the shares add up to more than 1")
    return shares


def _share(members: Members) -> tuple[str, int, int]:
    return members.identifier("step"), members.integer("num", 1), members.integer("den", 1)


def describe(meter: Meter, serial: str | None) -> MeterDescription:
    """Describe a meter of the plant.

    Args:
        meter: as wired.
        serial: the serial number that was read or given, None while unknown.
    """
    ratio = meter.per_count_milliwh
    return MeterDescription(
        meter=meter.id,
        serial=serial,
        profile=meter.profile.id,
        profile_hash=meter.profile.hash,
        num=ratio.numerator,
        den=ratio.denominator,
        modulus=meter.modulus_milliwh,
        # A float register has no one resolution: its steps grow with its value (flag `quant`).
        resolution=None if meter.profile.energy.is_float else max(1, round(ratio)),
        accuracy_class=meter.accuracy_class or meter.profile.accuracy_class,
        ct_class=meter.ct_class,
        production_line=meter.production_line,
        parent=meter.parent,
        rated_w=meter.rated_w,
        role=meter.role.value,
        steps=tuple((share.step, share.part.numerator, share.part.denominator) for share in meter.shares),
    )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The map of one gateway. `rev` rises by one with every change; descriptors are ordered by (chain, rev)."""

    org: str
    agent: str
    rev: int
    iat_ms: int
    sw: str
    meters: tuple[MeterDescription, ...]

    def by_meter(self) -> dict[str, MeterDescription]:
        """The meters by their id, in their order."""
        return {meter.meter: meter for meter in self.meters}

    def same_meaning(self, other: "Descriptor") -> bool:
        """Whether nothing differs but the revision, the time of issue and the agent's version."""
        return replace(self, rev=other.rev, iat_ms=other.iat_ms, sw=other.sw) == other

    def to_payload(self) -> dict[str, object]:
        """The payload to seal."""
        return {
            "v": VERSION,
            "org": self.org,
            "agent": self.agent,
            "rev": self.rev,
            "iat": text_of_ms(self.iat_ms),
            "sw": self.sw,
            "meters": [meter.to_payload() for meter in self.meters],
        }

    @classmethod
    def from_payload(cls, payload: object) -> "Descriptor":
        """Read a payload of which the signature was verified. Raises WireError."""
        members = Members(payload)
        members.version()
        meters = tuple(MeterDescription.from_payload(entry, path) for entry, path in members.items("meters"))
        if len({meter.meter for meter in meters}) != len(meters):
            raise WireError(members.place("meters"), "names a meter twice")
        return cls(
            org=members.identifier("org"),
            agent=members.identifier("agent"),
            rev=members.integer("rev", 1),
            iat_ms=members.time_ms("iat"),
            sw=members.text("sw"),
            meters=meters,
        )


def in_parts(jws: bytes, rev: int, at_ms: int, part_bytes: int = PART_BYTES) -> list[Event]:
    """Cut the JWS text of a descriptor into `descriptor` events, in order, parts counted from 1."""
    text, hash_ = jws.decode("ascii"), signing_input_hash(jws)
    pieces = [text[start : start + part_bytes] for start in range(0, len(text), part_bytes)]
    return [
        descriptor_event(at_ms, rev=rev, hash=hash_, part=part, parts=len(pieces), text=piece)
        for part, piece in enumerate(pieces, 1)
    ]


class Assembly:
    """Puts a descriptor together again from its events; holds one unfinished descriptor at a time.

    A repeated part changes nothing; the first part of another descriptor discards what was unfinished.
    """

    def __init__(self) -> None:
        self._key: tuple[str, int, int] | None = None
        self._texts: dict[int, str] = {}

    @property
    def unfinished(self) -> str | None:
        """Hash of the descriptor of which parts are still missing, None if there is none."""
        return self._key[0] if self._key is not None else None

    def add(self, event: Event) -> bytes | None:
        """Take one `descriptor` event.

        Returns:
            the JWS text once all parts are there, else None. Its signature is still to be verified.

        Raises:
            EnvelopeError: the parts are larger than any descriptor, or do not have the hash they promise.
        """
        key = (event.text("hash"), event.integer("rev"), event.integer("parts"))
        if key != self._key:
            self._key, self._texts = key, {}
        part = event.integer("part")
        if not part <= key[2]:
            raise EnvelopeError("malformed", f"part {part} of {key[2]} of descriptor {key[0]}")
        self._texts[part] = event.text("text")
        if sum(map(len, self._texts.values())) > SIZE_MAX[DESCRIPTOR]:
            self._discard()
            raise EnvelopeError(
                "too-large", f"the parts of descriptor {key[0]} exceed {SIZE_MAX[DESCRIPTOR]} bytes"
            )
        return self._join(key) if len(self._texts) == key[2] else None

    def _join(self, key: tuple[str, int, int]) -> bytes:
        text = "".join(self._texts[part] for part in range(1, key[2] + 1))
        self._discard()
        try:
            jws = text.encode("ascii")
        except UnicodeEncodeError:
            raise EnvelopeError("malformed", f"the parts of descriptor {key[0]} are not ASCII") from None
        if signing_input_hash(jws) != key[0]:
            raise EnvelopeError("malformed", f"the parts of descriptor {key[0]} have another hash")
        return jws

    def _discard(self) -> None:
        self._key, self._texts = None, {}
