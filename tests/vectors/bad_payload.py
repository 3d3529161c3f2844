"""Validly signed messages whose payload has no single meaning, or none at all: kept as evidence, never placed."""

from tests.vectors.builder import (
    NEXT,
    Json,
    compact,
    jws,
    without,
)
from tests.vectors.vector import CHAIN, EVIDENCE, Group, Vector, basis, to_batch


def _add(group: Group, name: str, about: str, payload: object, finding: str = "not placed") -> None:
    group.add(Vector(name, about, to_batch(jws(payload)), (CHAIN,), finding, EVIDENCE, "unparsable"))


def _next() -> Json:
    line = basis()
    return line.batch(line.minute(m1=1_000, m2=2_000))


def make_json() -> Group:
    """What the parser must refuse."""
    group = Group(
        "Signed by the gateway, but JSON that two readers would understand differently, or no JSON. The payload is kept"
        " as evidence and never placed."
    )
    good = compact(_next())
    _numbers(group, good)
    _structure(group, good)
    _texts(group, good)
    return group


def _numbers(group: Group, good: bytes) -> None:
    delta = b'"delta":1000,'
    assert good.count(delta) == 1
    for name, about, text in (
        ("number-fraction", "1000.0: most parsers make a binary fraction of it", b"1000.0"),
        ("number-half", "1000.5", b"1000.5"),
        ("number-exponent", "1e3: a JSON Schema integer", b"1e3"),
        ("number-exponent-large", "1E400: infinite in binary", b"1E400"),
        ("number-nan", "NaN", b"NaN"),
        ("number-infinity", "Infinity", b"Infinity"),
        ("number-minus-infinity", "-Infinity", b"-Infinity"),
        ("number-2-53", "2^53: JavaScript rounds beyond 2^53-1", b"9007199254740992"),
        ("number-minus-2-53", "-2^53", b"-9007199254740992"),
        ("number-huge", "a number of 5,000 digits", b"9" * 5_000),
        ("number-leading-zero", "01000", b"01000"),
        ("number-plus", "+1000", b"+1000"),
        ("number-hexadecimal", "0x3e8", b"0x3e8"),
        ("number-thousands", "1_000", b"1_000"),
    ):
        _add(group, name, about, good.replace(delta, b'"delta":' + text + b","))


def _structure(group: Group, good: bytes) -> None:
    twice = good.replace(b'"seq":4', b'"seq":9,"seq":4')
    escaped = good.replace(b'"seq":4', b'"\\u0073eq":9,"seq":4')
    nested = good.replace(b'"delta":1000,', b'"delta":1,"delta":1000,')
    deep = good[:-1] + b',"more":' + b"[" * 16 + b"]" * 16 + b"}"
    very_deep = good[:-1] + b',"more":' + b"[" * 15_000 + b"]" * 15_000 + b"}"
    for name, about, payload in (
        ("json-duplicate-key", "seq twice: parsers keep the first or the last", twice),
        ("json-duplicate-key-escaped", "seq twice, once with an escape", escaped),
        ("json-duplicate-key-in-delta", "delta twice inside a delta", nested),
        ("json-depth-17", "nested 17 deep", deep),
        ("json-depth-15000", "nested 15,000 deep: a stack overflow in many parsers", very_deep),
        ("json-array", "an array at the top", b"[" + good + b"]"),
        ("json-text", "a text at the top", b'"' + b"batch" + b'"'),
        ("json-null", "null at the top", b"null"),
        ("json-empty-object", "an object without members", b"{}"),
        ("json-cut", "cut off before its end", good[:-20]),
        ("json-two-objects", "two objects, one after the other", good + good),
        ("json-trailing-comma", "a comma before the end", good[:-1] + b",}"),
        ("json-comment", "a comment", b"{/* */" + good[1:]),
        ("json-single-quotes", "quotes of another language", good.replace(b'"', b"'")),
        ("json-garbage-after", "a letter after the end", good + b"x"),
    ):
        _add(group, name, about, payload)


def _texts(group: Group, good: bytes) -> None:
    def sw(text: bytes) -> bytes:
        return good.replace(b'"sw":"1.0.0"', b'"sw":"' + text + b'"')

    for name, about, payload in (
        ("text-lone-high-surrogate", "a lone high surrogate, escaped", sw(b"\\ud800")),
        ("text-lone-low-surrogate", "a lone low surrogate, escaped", sw(b"\\udc00x")),
        ("text-reversed-surrogates", "a pair in the wrong order", sw(b"\\udc00\\ud800")),
        ("text-surrogate-in-a-key", "a lone surrogate in a key", good[:-1] + b',"\\ud800":1}'),
        ("text-cesu-8", "a surrogate encoded as UTF-8", sw(b"\xed\xa0\x80")),
        ("text-overlong", "an overlong encoding of NUL", sw(b"\xc0\x80")),
        ("text-latin-1", "Latin-1 instead of UTF-8", sw(b"\xfc")),
        ("text-cut-character", "a character cut in two", sw(b"\xe4\xb8")),
        ("text-control-character", "a raw newline inside a text", sw(b"a\nb")),
        ("text-bom", "a byte order mark before the payload", b"\xef\xbb\xbf" + good),
        ("text-utf-16", "UTF-16", good.decode().encode("utf-16")),
        ("text-nul-after", "a NUL after the end", good + b"\0"),
    ):
        _add(group, name, about, payload)


# ---------------------------------------------------------------------------- members


def make_members() -> Group:
    """What the schema must refuse."""
    group = Group(
        "Signed by the gateway, strict JSON, and not a batch: a member is missing or impossible. Kept as evidence,"
        " never placed, never repaired."
    )
    _missing(group)
    _impossible(group)
    _impossible_deltas(group)
    _events(group)
    return group


def _missing(group: Group) -> None:
    payload = _next()
    for member in payload:
        _add(group, f"batch-without-{member}", f"a batch without {member}", without(payload, member))
    for member in without(payload["deltas"][0], "step"):
        deltas = [without(payload["deltas"][0], member), payload["deltas"][1]]
        _add(group, f"delta-without-{member}", f"a delta without {member}", {**payload, "deltas": deltas})
    for member in payload["clock"]:
        _add(
            group,
            f"clock-without-{member}",
            f"a clock without {member}",
            {**payload, "clock": without(payload["clock"], member)},
        )


def _impossible(group: Group) -> None:
    payload = _next()
    hash_ = payload["prev"]
    for name, about, change in (
        ("v-2", "another major version", {"v": "2.0"}),
        ("v-number", "the version as a number", {"v": 1}),
        ("v-long", "1.0.0 is no version of the wire", {"v": "1.0.0"}),
        ("unit-kwh", "another unit: every number would mean a million times more", {"energy_unit": "kWh"}),
        ("org-slash", "a slash in an id reaches into other topics", {"org": "zj/meterworks"}),
        ("org-wildcard", "a wildcard in an id", {"org": "+"}),
        ("agent-newline", "a newline at the end of an id", {"agent": "gw01\n"}),
        ("agent-long", "an id of 33 characters", {"agent": "g" * 33}),
        ("agent-empty", "an empty id", {"agent": ""}),
        ("agent-chinese", "an id outside ASCII", {"agent": "\u7f51\u5173"}),
        ("aud-array", "several audiences", {"aud": ["carbon.grid.example", "other"]}),
        ("chain-lower-case", "a chain id in small letters", {"chain": payload["chain"].lower()}),
        ("chain-short", "a chain id of 25 characters", {"chain": payload["chain"][:-1]}),
        (
            "chain-letter",
            "a letter that Crockford's alphabet leaves out",
            {"chain": payload["chain"][:-1] + "U"},
        ),
        ("chain-too-large", "a ULID beyond 128 bits", {"chain": "8" + payload["chain"][1:]}),
        ("seq-0", "seq begins at 1", {"seq": 0}),
        ("seq-negative", "a negative seq", {"seq": -4}),
        ("seq-text", "seq as a text", {"seq": "4"}),
        ("seq-true", "true is 1 in some languages", {"seq": True}),
        ("prev-padded", "a hash with padding", {"prev": hash_ + "="}),
        ("prev-short", "a hash of 42 characters", {"prev": hash_[:-1]}),
        ("prev-hexadecimal", "a hash in hexadecimal", {"prev": "ab" * 32}),
        ("prev-null", "no predecessor", {"prev": None}),
        ("prev-chain-at-4", "only the first batch of a chain has a prev_chain", {"prev_chain": None}),
        ("iat-no-milliseconds", "a time without milliseconds", {"iat": "2025-10-09T08:53:20Z"}),
        ("iat-offset", "a time with an offset", {"iat": "2025-10-09T16:53:20.000+08:00"}),
        ("iat-space", "a time with a space", {"iat": "2025-10-09 08:53:20.000Z"}),
        ("iat-lower-case", "a time with a small z", {"iat": "2025-10-09t08:53:20.000z"}),
        ("iat-leap-second", "a leap second", {"iat": "2016-12-31T23:59:60.000Z"}),
        ("iat-february-30", "a day that does not exist", {"iat": "2025-02-30T00:00:00.000Z"}),
        ("iat-24-hours", "24 o'clock", {"iat": "2025-10-09T24:00:00.000Z"}),
        ("iat-1969", "before 1970", {"iat": "1969-12-31T23:59:59.999Z"}),
        ("iat-number", "a time as a number", {"iat": 1_760_000_000_000}),
        ("iat-other-digits", "digits of another script", {"iat": "2025-10-09T08:53:2\u0660.000Z"}),
        (
            "clock-unknown-state",
            "a state of the clock that does not exist",
            {"clock": {"sync": "X", "err_ms": 5}},
        ),
        ("clock-negative-error", "a negative error", {"clock": {"sync": "S", "err_ms": -5}}),
        ("deltas-object", "deltas as an object", {"deltas": {}}),
        ("deltas-null", "deltas as null", {"deltas": None}),
        ("delta-null", "a delta that is null", {"deltas": [None]}),
        ("events-text", "events as a text", {"events": "none"}),
        ("records-object", "records as an object", {"records": {}}),
        (
            "record-unknown-kind",
            "a kind of record that does not exist",
            {"records": [{"kind": "wish", "key": "1", "rev": 1, "source": "s", "at": "t", "fields": {}}]},
        ),
        (
            "record-rev-0",
            "revisions begin at 1",
            {"records": [{"kind": "waste", "key": "1", "rev": 0, "source": "s", "at": "t", "fields": {}}]},
        ),
        ("sw-empty", "an empty text", {"sw": ""}),
        ("sw-long", "a text of 256 characters", {"sw": "s" * 256}),
    ):
        _add(group, name, about, {**payload, **change})
    line = basis(0)
    line.now_ms += 60_000
    first = line.batch([], line.carried())
    for name, about, prev_chain in (
        ("prev-chain-text", "prev_chain as a text", "none"),
        ("prev-chain-seq-0", "prev_chain names a batch 0", {"chain": line.chain, "seq": 0, "hash": hash_}),
        ("prev-chain-without-hash", "prev_chain without a hash", {"chain": line.chain, "seq": 3}),
    ):
        message = jws({**first, "chain": payload["chain"][:-1] + "B", "prev_chain": prev_chain})
        group.add(Vector(name, about, to_batch(message), (CHAIN,), "not placed", EVIDENCE, "unparsable"))


def _impossible_deltas(group: Group) -> None:
    payload = _next()
    for name, about, change in (
        (
            "delta-negative",
            "negative energy: a register that fell is an epoch, never a delta",
            {"delta": -1_000},
        ),
        ("delta-text", "energy as a text", {"delta": "1000"}),
        ("delta-null", "energy that is null: missing is never zero", {"delta": None}),
        ("delta-register-negative", "a negative register", {"reg_start": -1}),
        ("delta-roll-negative", "a negative modulus", {"roll": -1_000_000_000}),
        ("delta-roll-null", "roll is left out where there is none", {"roll": None}),
        ("delta-n-0", "n begins at 1", {"n": 0}),
        ("delta-epoch-0", "epochs begin at 1", {"epoch": 0}),
        ("delta-meter-number", "a meter id as a number", {"meter": 1}),
        ("delta-step-null", "step is left out where there is none", {"step": None}),
        ("delta-step-sql", "a step that is not an id", {"step": "x'; DROP TABLE booked;--"}),
        ("delta-time", "a start without milliseconds", {"start": "2025-10-09T08:56:20Z"}),
        ("delta-flags-unsorted", "flags that are not sorted", {"q": ["late", "gap"]}),
        ("delta-flags-twice", "a flag twice", {"q": ["gap", "gap"]}),
        ("delta-flags-text", "flags as a text", {"q": "gap"}),
        ("delta-flags-number", "a flag that is a number", {"q": [1]}),
    ):
        deltas = [{**payload["deltas"][0], **change}, payload["deltas"][1]]
        _add(group, name, about, {**payload, "deltas": deltas})


def _events(group: Group) -> None:
    line = basis()
    line.now_ms += 60_000
    epoch = line.copy().epoch("m1", 0)
    balance = line.balance("m1", 1, 500_000, 3_000)
    closed = {**{name: epoch[name] for name in epoch if name not in ("type", "at", "meter")}, "n_last": 3}
    rotation = line.rotation(NEXT)
    (part,) = line.carried()
    for name, about, event in (
        ("event-without-type", "an event without a type", without(epoch, "type")),
        ("event-without-at", "an event without a time", without(epoch, "at")),
        ("event-epoch-without-last", "an epoch event without the last register", without(epoch, "last")),
        ("event-epoch-without-first", "an epoch event without the first register", without(epoch, "first")),
        (
            "event-epoch-without-serial",
            "an unknown serial number is null, never left out",
            without(epoch, "serial_to"),
        ),
        ("event-epoch-without-bound", "an unknown bound is null, never left out", without(epoch, "bound")),
        ("event-epoch-reason", "a reason that does not exist", {**epoch, "reason": "because"}),
        ("event-epoch-bound-negative", "a hole that hides less than nothing", {**epoch, "bound": -1}),
        ("event-epoch-by-nobody", "somebody has to say so", {**epoch, "by": ""}),
        ("event-balance-without-roll", "a balance without its rollovers", without(balance, "roll")),
        ("event-balance-sum-text", "a sum as a text", {**balance, "sum": "3000"}),
        ("event-balance-closed-text", "closed epochs as a text", {**balance, "closed": "none"}),
        (
            "event-balance-closed-number",
            "a closed epoch without a number",
            {**balance, "closed": [closed | {"n_last": None}]},
        ),
        (
            "event-balance-closed-last",
            "a closed epoch without its last register",
            {**balance, "closed": [without(closed, "last")]},
        ),
        (
            "event-balance-closed-many",
            "more closed epochs than there may be",
            {**balance, "closed": [closed] * 65},
        ),
        (
            "event-restart-chain",
            "the chain that was left is no chain",
            line.event("restart", reason="lost", by="Li", evidence="x", instead_of="a chain"),
        ),
        ("event-restart-by-nobody", "somebody confirmed it", line.event("restart", reason="lost", by="")),
        ("event-descriptor-part-0", "parts are counted from 1", {**part, "part": 0}),
        ("event-descriptor-without-hash", "a part of nobody knows what", without(part, "hash")),
        ("event-rotate-private-key", "a private key in a message", {**rotation, "jwk": NEXT.private_jwk}),
        ("event-rotate-symmetric-key", "a symmetric key", {**rotation, "jwk": {"kty": "oct", "k": "AAAA"}}),
        ("event-rotate-without-proof", "a new key that nobody has proved", without(rotation, "proof")),
        (
            "event-clock-state",
            "a clock state that does not exist",
            line.event(
                "clock", boot="b", seq_from=1, seq_to=2, offset_ms=0, err_ms=1, state_from="U", state_to="Z"
            ),
        ),
        (
            "event-adjust-both",
            "an adjustment by a factor and by an energy",
            line.event(
                "adjust",
                meter="m1",
                epoch=1,
                n_from=1,
                n_to=2,
                num=3,
                den=2,
                energy=5,
                bound=1,
                reason="ct",
                evidence="x",
                by="Li",
            ),
        ),
        *(
            (
                f"event-adjust-{name}",
                about,
                line.event(
                    "adjust",
                    **{"meter": "m1", "epoch": 1, "n_from": 1, "n_to": 2, "num": 3, "den": 2, **change},
                    reason="ct",
                    evidence="x",
                    by="Li",
                ),
            )
            for name, about, change in (
                ("negative", "a factor below zero", {"num": -3}),
                ("zero", "a factor of zero", {"num": 0}),
                ("by-zero", "a factor without a denominator", {"den": 0}),
            )
        ),
        (
            "event-adjust-neither",
            "an adjustment by nothing",
            line.event("adjust", meter="m1", epoch=1, n_from=1, n_to=2, reason="ct", evidence="x", by="Li"),
        ),
        (
            "event-witness-number",
            "a display as a number",
            line.event("witness", meter="m1", display_kwh=12, register="total", by="Li"),
        ),
        (
            "event-witness-exponent",
            "a display with an exponent",
            line.event("witness", meter="m1", display_kwh="1e3", register="total", by="Li"),
        ),
        (
            "event-refused-none",
            "no reading was refused",
            line.event("refused", meter="m1", register="total", reason="rise", count=0),
        ),
        ("event-text", "an event that is a text", "restart"),
    ):
        _add(group, name, about, line.batch([], [event]))  # type: ignore[list-item]
