"""What must hold for any bytes that come from the network or from a file: JSON, envelopes, payloads, packets, TOML.

Each `check_...` takes any bytes and raises where a parser lets through an exception that it does not document, or
accepts something that does not read back as the same. Used by `targets`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from agent.errors import ConfigError
from agent.reporting import strictjson
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import Batch, broken_rules
from agent.reporting.descriptor import Descriptor
from agent.reporting.enrolment import Enrolment
from agent.reporting.envelope import (
    ACKNOWLEDGEMENT,
    BATCH,
    DESCRIPTOR,
    ENROLMENT,
    SIZE_MAX,
    STATUS,
    EnvelopeError,
    open_sealed,
    signing_input_hash,
    typ_of,
)
from agent.reporting.event import Event
from agent.reporting.status import Status
from agent.reporting.wire import WireError
from agent.settings.site import parse
from agent.settings.tomlines import line_of
from simulators.broker import packets
from simulators.broker.packets import V5, V311, Malformed
from tests.fuzz.corpus import known_hashes, known_keys

_NOWHERE = Path("site.toml")
KINDS = (BATCH, DESCRIPTOR, ACKNOWLEDGEMENT, STATUS, ENROLMENT)


class _Message(Protocol):
    def to_payload(self) -> dict[str, object]: ...


READERS: tuple[Callable[[object], _Message], ...] = (
    Batch.from_payload,
    Descriptor.from_payload,
    Acknowledgement.from_payload,
    Status.from_payload,
    Enrolment.from_payload,
    Event.from_payload,
)


def _demand(holds: bool) -> None:
    """What an exception says has to be in order as well."""
    if not holds:
        raise AssertionError("an exception without what it promises to say")


def check_json(data: bytes) -> None:
    """What is accepted is what Python's own parser reads, and is written and read again as the same."""
    try:
        value = strictjson.loads(data, size_max=4_096)
    except strictjson.NotStrict:
        return
    assert value == json.loads(data)
    assert strictjson.loads(strictjson.dumps(value), size_max=1 << 20) == value


def check_envelope(data: bytes) -> None:
    """Only a message that somebody known has signed is opened, and its kind is the one that was asked for."""
    for typ in KINDS:
        try:
            opened = open_sealed(data, typ, known_keys())
        except EnvelopeError as error:
            _demand(bool(error.verdict and error.reason))
            continue
        assert opened.typ == typ == typ_of(data)
        assert len(data) <= SIZE_MAX[typ]
        assert opened.hash == signing_input_hash(data)
        assert opened.hash in known_hashes(), "a message that nobody signed was believed"


def check_payload(data: bytes) -> None:
    """A payload of any kind: what is accepted is written and read again as the same message."""
    reader = READERS[data[0] % len(READERS)] if data else Batch.from_payload
    try:
        payload = strictjson.loads(data[1:], size_max=SIZE_MAX[DESCRIPTOR])
        message = reader(payload)
    except (strictjson.NotStrict, WireError):
        return
    again = strictjson.loads(strictjson.dumps(message.to_payload()), size_max=1 << 20)
    assert reader(again) == message
    if isinstance(message, Batch):
        for delta in message.deltas:
            broken = broken_rules(delta, None)
            balanced = delta.delta == delta.reg_end - delta.reg_start and not delta.roll
            assert balanced is (broken == [])
        assert len(list(message.in_effect_order())) == len(message.deltas) + len(message.events)


def check_packets(data: bytes) -> None:
    """The simulated broker's packets: Malformed or a value; a PUBLISH is written and read again as the same."""
    if len(data) < 2:
        return
    kind, flags, version, body = data[0] % 6, data[1] & 15, V5 if data[1] & 16 else V311, data[2:]
    try:
        match kind:
            case 0:
                connect = packets.decode_connect(body)
                assert connect.version in (V5, V311) and connect.receive_maximum > 0
            case 1:
                _check_publish(flags, body, version)
            case 2:
                assert packets.decode_subscribe(body, version)[1]
            case 3:
                assert packets.decode_unsubscribe(body, version)[1]
            case 4:
                assert 0 <= packets.decode_puback(body) <= 0xFFFF
            case _:
                packets.decode_disconnect(body, version)
    except Malformed as error:
        _demand(0x80 <= error.code <= 0xFF)


def _check_publish(flags: int, body: bytes, version: int) -> None:
    message, packet_id = packets.decode_publish(flags, body, version)
    sent = packets.encode_publish(message, packet_id, version, dup=False, properties=message.properties)
    cursor = packets.Cursor(sent)
    first = cursor.number(1)
    assert cursor.varint() == cursor.left
    assert packets.decode_publish(first & 15, cursor.rest(), version) == (message, packet_id)


def check_toml(data: bytes) -> None:
    """The text of a site file: one fault in a line of it, or tables, with a line for every key and for nothing else."""
    last = data.count(b"\n") + 1
    try:
        document, lines = parse(_NOWHERE, data)
    except ConfigError as error:
        (fault,) = error.faults
        _demand(bool(str(error)) and (fault.line is None or 1 <= fault.line <= last))
        return
    paths = set(paths_of(document))
    assert set(lines) == paths
    assert all(1 <= line <= last for line in lines.values())
    assert all(line_of(lines, (*path, "absent")) == lines[path] for path in paths)


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every key and of every element of a list."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    found: list[tuple[str | int, ...]] = []
    for key, member in inner:
        found += [(*path, key), *paths_of(member, (*path, key))]
    return found
