"""What is not energy but must not be removable: epoch changes, gaps, refused readings, clock steps, restarts.

Events travel inside the signed batches, so none can be dropped unseen (promise I11). One table says which members each
type has; the constructors below are for the stages, the same table checks what comes from the wire. Types that this
version does not know are kept as they are: they were signed, and a newer reader will understand them (wire format,
sections 2 and 9).

Before this come the gates and the stages that notice something, after it `batch`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.metering.quantity import EXACT_MAX
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import Members, WireError

EPOCH_REASONS = frozenset({"exchange", "reset", "ratio", "fingerprint", "restore"})
"""Why a register's continuity ended."""

TEXT_PART_MAX = 32_000
"""Longest piece of a descriptor in one event, in characters: it has to fit into a batch of 48 KiB."""

CLOSED_MAX = 64
"""Most closed epochs that a balance lists, the newest; more of one meter in 30 days are a fault of their own."""

Check = Callable[[Members, str], object]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `at_ms` (UTC Unix ms). `body` has the members of its type, as on the wire."""

    type: str
    at_ms: int
    body: Mapping[str, object]

    def to_payload(self) -> dict[str, object]:
        """As in the array `events` of a batch."""
        return {"type": self.type, "at": text_of_ms(self.at_ms), **self.body}

    @classmethod
    def from_payload(cls, value: object, path: str = "$") -> "Event":
        """Read one event and check the members of a known type. Raises WireError."""
        members = Members(value, path)
        type_, at_ms = members.text("type", 32), members.time_ms("at")
        _check_body(type_, members)
        return cls(type_, at_ms, members.as_dict(without=("type", "at")))

    def text(self, name: str) -> str:
        """A member that the table says is a text."""
        value = self.body[name]
        assert isinstance(value, str)
        return value

    def integer(self, name: str) -> int:
        """A member that the table says is an integer."""
        value = self.body[name]
        assert type(value) is int
        return value

    def closed(self) -> list["Event"]:
        """The epoch changes that a balance lists, the oldest first, each as the event that told it.

        A platform that cannot ask for a batch which a broker lost learns so of an epoch that ended in it.
        """
        listed, meter = self.body.get("closed"), self.body.get("meter")
        if not isinstance(listed, list | tuple):
            return []
        made = [Event("epoch", self.at_ms, {"meter": meter, **each}) for each in listed]
        return sorted(made, key=lambda each: each.integer("epoch_to"))


def _id(members: Members, name: str) -> object:
    return members.identifier(name)


def _text(members: Members, name: str) -> object:
    return members.text(name)


def _text_or_null(members: Members, name: str) -> object:
    return members.text_or_none(name)


def _time(members: Members, name: str) -> object:
    return members.time_ms(name)


def _hash(members: Members, name: str) -> object:
    return members.hash(name)


def _ulid(members: Members, name: str) -> object:
    return members.ulid(name)


def _count(members: Members, name: str) -> object:
    return members.integer(name)


def _positive(members: Members, name: str) -> object:
    return members.integer(name, 1)


def _count_or_null(members: Members, name: str) -> object:
    return members.integer_or_none(name)


def _signed_or_null(members: Members, name: str) -> object:
    return members.integer_or_none(name, -EXACT_MAX)


def _sync(members: Members, name: str) -> object:
    return members.choice(name, ("S", "H", "U"))


def _epoch_reason(members: Members, name: str) -> object:
    return members.choice(name, EPOCH_REASONS)


def _decimal(members: Members, name: str) -> object:
    return members.decimal(name)


def _long_text(members: Members, name: str) -> object:
    return members.text(name, TEXT_PART_MAX)


def _public_jwk(members: Members, name: str) -> object:
    jwk = members.members(name)
    jwk.choice("kty", ("OKP", "EC"))
    if jwk.has("d"):
        raise WireError(jwk.place("d"), "a private key has no place in a message")
    return jwk


_METER_EPOCH: dict[str, Check] = {"meter": _id, "epoch": _positive}

_TABLE: dict[str, dict[str, Check]] = {
    "epoch": {
        "meter": _id,
        "epoch_from": _positive,
        "epoch_to": _positive,
        "last": _count,
        "first": _count,
        "serial_from": _text_or_null,
        "serial_to": _text_or_null,
        "reason": _epoch_reason,
        "unmetered_from": _time,
        "unmetered_to": _time,
        "bound": _count_or_null,
        "by": _text,
    },
    "descriptor": {
        "rev": _positive,
        "hash": _hash,
        "part": _positive,
        "parts": _positive,
        "text": _long_text,
    },
    "balance": {
        **_METER_EPOCH,
        "n_first": _positive,
        "n_last": _positive,
        "reg_first": _count,
        "reg_last": _count,
        "sum": _count,
        "roll": _count,
    },
    "clock": {
        "boot": _text,
        "seq_from": _positive,
        "seq_to": _positive,
        "offset_ms": _signed_or_null,
        "err_ms": _count,
        "state_from": _sync,
        "state_to": _sync,
    },
    "gap": {"meter": _id, "from": _time, "to": _time, "reason": _text},
    "refused": {"meter": _id, "register": _text, "reason": _text, "count": _positive},
    "key-rotate": {"jwk": _public_jwk, "proof": _long_text},
    "restart": {"reason": _text},  # and by, evidence, instead_of where a person confirmed it
    "continuation": {"meter_from": _id, "meter_to": _id, "serial": _text},
    "adjust": {
        **_METER_EPOCH,
        "n_from": _positive,
        "n_to": _positive,
        "reason": _text,
        "evidence": _text,
        "by": _text,
    },
    "witness": {"meter": _id, "display_kwh": _decimal, "register": _text, "by": _text},
    "manual": {"meter": _id, "n": _positive, "text": _text, "by": _text},
}

_CONFIRMED: Mapping[str, Check] = {"by": _text, "evidence": _text, "instead_of": _ulid}

KNOWN_TYPES = frozenset(_TABLE)
"""The types of version 1.0."""


def _check_body(type_: str, members: Members) -> None:
    for name, check in _TABLE.get(type_, {}).items():
        check(members, name)
    if type_ == "adjust":
        _check_adjustment(members)
    if type_ == "manual" and members.has("epoch"):
        members.integer("epoch", 1)
    if type_ == "restart":
        for name, check in _CONFIRMED.items():
            if members.has(name):
                check(members, name)
    if type_ == "balance" and members.has("closed"):
        _check_closed(members)


def _check_closed(members: Members) -> None:
    """The epochs that a balance lists as closed: the members of their events, and the number of their last delta."""
    for value, path in members.items("closed", CLOSED_MAX):
        entry = Members(value, path)
        for name, check in _TABLE["epoch"].items():
            if name != "meter":
                check(entry, name)
        entry.integer("n_last")


def _check_adjustment(members: Members) -> None:
    """An adjustment is an exact factor, or an amount of energy with the most it can be wrong by; never both."""
    if members.has("energy") == members.has("num"):
        raise WireError(members.path, "must have either num and den, or energy and bound")
    if members.has("energy"):
        members.integer("energy", -EXACT_MAX)
        members.integer("bound")
    else:
        members.integer("num", 1)
        members.integer("den", 1)


def _made(type_: str, at_ms: int, body: dict[str, object]) -> Event:
    """An event that passes the check it will meet on the other side. Raises WireError."""
    return Event.from_payload({"type": type_, "at": text_of_ms(at_ms), **body}, f"event {type_}")


def epoch_event(
    at_ms: int,
    *,
    meter: str,
    epoch_from: int,
    epoch_to: int,
    last: int,
    first: int,
    serial_from: str | None,
    serial_to: str | None,
    reason: str,
    unmetered_from_ms: int,
    unmetered_to_ms: int,
    bound: int | None,
    by: str,
) -> Event:
    """Register continuity ended.

    Args:
        at_ms: when it was noticed, UTC Unix ms; all times likewise.
        meter: its id in the descriptor.
        epoch_from: the epoch that ended; epoch_to: the one that opens, epoch_from + 1.
        last: last register of the old epoch, 0.001 Wh; first: first register of the new one.
        serial_from, serial_to: serial numbers, None where unknown.
        reason: one of EPOCH_REASONS.
        unmetered_from_ms, unmetered_to_ms: the span that no register covers.
        bound: most energy the hole can hide, 0.001 Wh, None where nothing is known.
        by: who says so, `agent` or a person.

    Raises:
        WireError: a value that no reader would accept.
    """
    return _made(
        "epoch",
        at_ms,
        {
            "meter": meter,
            "epoch_from": epoch_from,
            "epoch_to": epoch_to,
            "last": last,
            "first": first,
            "serial_from": serial_from,
            "serial_to": serial_to,
            "reason": reason,
            "unmetered_from": text_of_ms(unmetered_from_ms),
            "unmetered_to": text_of_ms(unmetered_to_ms),
            "bound": bound,
            "by": by,
        },
    )


def descriptor_event(at_ms: int, *, rev: int, hash: str, part: int, parts: int, text: str) -> Event:
    """Part `part` (from 1) of `parts` of the descriptor's JWS text. Raises WireError."""
    if part > parts:
        raise WireError("event descriptor.part", f"{part} of {parts}")
    return _made("descriptor", at_ms, {"rev": rev, "hash": hash, "part": part, "parts": parts, "text": text})


def balance_event(
    at_ms: int,
    *,
    meter: str,
    epoch: int,
    n_first: int,
    n_last: int,
    reg_first: int,
    reg_last: int,
    sum_milliwh: int,
    roll: int,
    closed: Sequence[Mapping[str, object]] | None = None,
) -> Event:
    """The deltas n_first..n_last of a meter add up: sum = reg_last - reg_first + roll, all in 0.001 Wh.

    `reg_first` is the `reg_start` of n_first, `reg_last` the `reg_end` of n_last, `roll` the sum of all rollovers.
    `closed` lists the epochs of the meter that ended in the last 30 days, in broker mode: the members of their events
    but for the meter, and the number of their last delta as `n_last`. None where the platform can ask.
    """
    body: dict[str, object] = {
        "meter": meter,
        "epoch": epoch,
        "n_first": n_first,
        "n_last": n_last,
        "reg_first": reg_first,
        "reg_last": reg_last,
        "sum": sum_milliwh,
        "roll": roll,
    }
    if closed is not None:
        body["closed"] = [dict(each) for each in closed[-CLOSED_MAX:]]
    return _made("balance", at_ms, body)


def clock_event(
    at_ms: int,
    *,
    boot: str,
    seq_from: int,
    seq_to: int,
    offset_ms: int | None,
    err_ms: int,
    state_from: str,
    state_to: str,
) -> Event:
    """Relabels the times of the batches seq_from..seq_to that were sealed in this boot; never re-books anything.

    `offset_ms` is to be added to their times, None where it is unknown; the states are S, H or U.
    """
    return _made(
        "clock",
        at_ms,
        {
            "boot": boot,
            "seq_from": seq_from,
            "seq_to": seq_to,
            "offset_ms": offset_ms,
            "err_ms": err_ms,
            "state_from": state_from,
            "state_to": state_to,
        },
    )


def gap_event(at_ms: int, *, meter: str, from_ms: int, to_ms: int, reason: str) -> Event:
    """No boundary reading came between two times; the energy is in the spanning delta."""
    return _made(
        "gap", at_ms, {"meter": meter, "from": text_of_ms(from_ms), "to": text_of_ms(to_ms), "reason": reason}
    )


def refused_event(at_ms: int, *, meter: str, register: str, reason: str, count: int) -> Event:
    """`count` readings of a register (by its name in the profile) did not pass the gates."""
    return _made("refused", at_ms, {"meter": meter, "register": register, "reason": reason, "count": count})


def restart_event(at_ms: int, *, reason: str, details: Mapping[str, str] | None = None) -> Event:
    """The agent began anew; the first event of a restored chain.

    `details` where a person confirmed from which position: `by` (who), `evidence` (SHA-256 of the file that says it)
    and `instead_of` (the chain that was left and is told anew).
    """
    return _made("restart", at_ms, {"reason": reason, **(details or {})})


def key_rotate_event(at_ms: int, *, jwk: Mapping[str, str], proof: bytes) -> Event:
    """The key that signs this batch ends with it; `proof` is an enrolment message signed by the new key `jwk`."""
    return _made("key-rotate", at_ms, {"jwk": dict(jwk), "proof": proof.decode("ascii")})


def continuation_event(at_ms: int, *, meter_from: str, meter_to: str, serial: str) -> Event:
    """A known meter, recognised by its serial number, goes on under a new id."""
    return _made("continuation", at_ms, {"meter_from": meter_from, "meter_to": meter_to, "serial": serial})


def adjust_event(
    at_ms: int,
    *,
    meter: str,
    epoch: int,
    n_from: int,
    n_to: int,
    reason: str,
    evidence: str,
    by: str,
    factor: tuple[int, int] | None = None,
    energy_milliwh: int | None = None,
    bound_milliwh: int | None = None,
) -> Event:
    """Deltas n_from..n_to were wrong by an exact factor, or by an energy with a bound; they stay as sealed."""
    body: dict[str, object] = {"meter": meter, "epoch": epoch, "n_from": n_from, "n_to": n_to}
    if factor is not None:
        body |= {"num": factor[0], "den": factor[1]}
    if energy_milliwh is not None:
        body |= {"energy": energy_milliwh, "bound": bound_milliwh}
    return _made("adjust", at_ms, body | {"reason": reason, "evidence": evidence, "by": by})


def witness_event(at_ms: int, *, meter: str, display_kwh: str, register: str, by: str) -> Event:
    """A person read the meter's own display; the figure stays the decimal text that was read."""
    return _made(
        "witness", at_ms, {"meter": meter, "display_kwh": display_kwh, "register": register, "by": by}
    )


def manual_event(at_ms: int, *, meter: str, n: int, text: str, by: str, epoch: int | None = None) -> Event:
    """What a person has to say of delta `n` of an epoch; without `epoch` of the one that the meter is in."""
    body: dict[str, object] = {"meter": meter, "n": n, "text": text, "by": by}
    return _made("manual", at_ms, body if epoch is None else body | {"epoch": epoch})
