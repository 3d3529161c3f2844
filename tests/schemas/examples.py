"""One full example of every message: every member that exists is there."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.reporting import envelope, event, strictjson
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor
from agent.reporting.event import Event
from agent.reporting.status import Backlog, Oldest, Status
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import VERSION
from tests.reporting.gateway import CHAIN, SECOND_CHAIN, START_MS, Gateway, meter_description
from tests.reporting.keys import Key

HASH = "H" * 43
RECORD = {
    "kind": "production",
    "key": "WO-4711/SN-000123",
    "rev": 1,
    "source": {"import": "mes-orders", "sha256": HASH},
    "at": "2025-10-09T08:53:20.000Z",
    "fields": {"quantity": "120", "unit": "pcs", "line": "smt-2"},
}


def sent(payload: dict[str, object]) -> Any:
    """As it leaves, and as a stranger's JSON parser sees it."""
    return json.loads(strictjson.dumps(payload))


def _gateway() -> Gateway:
    return Gateway(
        Key(1), (meter_description("m1", parent="gw02/m0", rated_w=40_000), meter_description("m2"))
    )


def _batch() -> dict[str, Any]:
    gateway = _gateway()
    gateway.minute({"m1": 10})
    gateway.now_ms += 60_000
    deltas = [gateway.delta("m1", 999_600_000, "gap", "roll"), gateway.delta("m2", 0)]
    batch = replace(gateway.batch(deltas, [event.restart_event(START_MS, reason="test")]), records=(RECORD,))
    return sent(batch.to_payload())  # type: ignore[no-any-return]


def _first_batch() -> dict[str, Any]:
    gateway = _gateway()
    gateway.head = ChainHead(SECOND_CHAIN, 7, HASH)
    return sent(gateway.batch([], []).to_payload())  # type: ignore[no-any-return]


def _descriptor() -> dict[str, Any]:
    payload = envelope.base64url_decode(_gateway().descriptor.decode().split(".")[1])
    return json.loads(payload)  # type: ignore[no-any-return]


def _acknowledgement() -> dict[str, Any]:
    head = {"epoch": 1, "n": 2, "register": 3, "end": text_of_ms(START_MS), "num": 4, "den": 5, "modulus": 6}
    return {
        "v": VERSION,
        "org": "zj",
        "agent": "gw01",
        "gen": 1,
        "ack_no": START_MS,
        "chain": CHAIN,
        "acked_seq": 9,
        "acked_hash": HASH,
        "stored_at": text_of_ms(START_MS),
        "need": [[10, 12]],
        "held": [["m1", 1, 3]],
        "refused": [SECOND_CHAIN],
        "accepts": ["1.0"],
        "session": "s1",
        "heads": {"m1": {**head, "serial": "SN"}},
        "rev": 2,
    }


def _status() -> dict[str, Any]:
    gateway = _gateway()
    status = Status(
        org="zj",
        agent="gw01",
        at_ms=START_MS,
        state="online",
        session="s1",
        sw="1.0.0",
        kid=Key(1).kid,
        cfg=HASH,
        chain=CHAIN,
        head=(3, HASH),
        oldest=Oldest(CHAIN, 1, HASH),
        backlog=Backlog(2, 1_000, START_MS),
        clock=gateway.batch([], []).clock,
        mode="broker",
        need_heads=False,
        heads=Acknowledgement.from_payload(_acknowledgement()).heads,
    )
    return sent(status.to_payload())  # type: ignore[no-any-return]


_AT = text_of_ms(START_MS)
_METER = {"meter": "m1", "epoch": 1}
EVENTS: dict[str, dict[str, Any]] = {
    "epoch": {
        "meter": "m1",
        "epoch_from": 1,
        "epoch_to": 2,
        "last": 5,
        "first": 0,
        "serial_from": "A",
        "serial_to": None,
        "reason": "exchange",
        "unmetered_from": _AT,
        "unmetered_to": _AT,
        "bound": 7,
        "by": "agent",
    },
    "descriptor": {"rev": 1, "hash": HASH, "part": 1, "parts": 1, "text": "abc"},
    "balance": {**_METER, "n_first": 1, "n_last": 2, "reg_first": 0, "reg_last": 9, "sum": 9, "roll": 0},
    "clock": {
        "boot": "b",
        "seq_from": 1,
        "seq_to": 2,
        "offset_ms": -5,
        "err_ms": 1,
        "state_from": "U",
        "state_to": "S",
    },
    "gap": {"meter": "m1", "from": _AT, "to": _AT, "reason": "line"},
    "refused": {"meter": "m1", "register": "total", "reason": "rise", "count": 3},
    "key-rotate": {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}, "proof": "a.b.c"},
    "restart": {"reason": "restore"},
    "continuation": {"meter_from": "m1", "meter_to": "m2", "serial": "SN"},
    "adjust": {
        **_METER,
        "n_from": 1,
        "n_to": 2,
        "num": 3,
        "den": 2,
        "reason": "ct",
        "evidence": HASH,
        "by": "Li",
    },
    "witness": {"meter": "m1", "display_kwh": "12.30", "register": "total", "by": "Li"},
    "manual": {"meter": "m1", "n": 4, "text": "read by eye", "by": "Li"},
}


def _adjusted_by_an_energy() -> dict[str, Any]:
    factor = ("num", "den")
    members = {name: value for name, value in EVENTS["adjust"].items() if name not in factor}
    return {"type": "adjust", "at": _AT, **members, "energy": -5, "bound": 6}


Reader = Callable[[Any], object]
EXAMPLES: dict[str, tuple[str, dict[str, Any], Reader]] = {
    "batch": ("batch.json", _batch(), Batch.from_payload),
    "first batch": ("batch.json", _first_batch(), Batch.from_payload),
    "descriptor": ("descriptor.json", _descriptor(), Descriptor.from_payload),
    "acknowledgement": ("acknowledgement.json", _acknowledgement(), Acknowledgement.from_payload),
    "status": ("status.json", _status(), Status.from_payload),
    **{
        f"event {type_}": ("event.json", {"type": type_, "at": _AT, **body}, Event.from_payload)
        for type_, body in EVENTS.items()
    },
    "event adjust by an energy": ("event.json", _adjusted_by_an_energy(), Event.from_payload),
}
