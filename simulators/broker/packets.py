"""MQTT control packets as values: bytes in, values out, and back (MQTT 5 and 3.1.1).

Only what a broker reads and writes: it decodes CONNECT, PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE and DISCONNECT and
encodes CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP and DISCONNECT. Whatever does not follow the standard
raises `Malformed` with the reason code to disconnect with. No I/O here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

V311, V5 = 4, 5

Property = int | str | bytes | list[tuple[str, str]]

_KINDS: dict[int, tuple[str, str]] = {
    0x01: ("payload_format_indicator", "byte"),
    0x02: ("message_expiry", "four"),
    0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"),
    0x09: ("correlation_data", "data"),
    0x0B: ("subscription_identifier", "varint"),
    0x11: ("session_expiry", "four"),
    0x12: ("assigned_client_id", "text"),
    0x13: ("server_keep_alive", "two"),
    0x15: ("authentication_method", "text"),
    0x16: ("authentication_data", "data"),
    0x17: ("request_problem_information", "byte"),
    0x18: ("will_delay", "four"),
    0x19: ("request_response_information", "byte"),
    0x1F: ("reason_string", "text"),
    0x21: ("receive_maximum", "two"),
    0x22: ("topic_alias_maximum", "two"),
    0x23: ("topic_alias", "two"),
    0x24: ("maximum_qos", "byte"),
    0x25: ("retain_available", "byte"),
    0x26: ("user_property", "pair"),
    0x27: ("maximum_packet_size", "four"),
    0x28: ("wildcard_available", "byte"),
    0x29: ("subscription_identifier_available", "byte"),
    0x2A: ("shared_available", "byte"),
}
_IDS = {name: (number, kind) for number, (name, kind) in _KINDS.items()}
_WIDTHS = {"byte": 1, "two": 2, "four": 4}

FORWARDED = (
    "payload_format_indicator",
    "message_expiry",
    "content_type",
    "response_topic",
    "correlation_data",
    "user_property",
)
"""Properties of a PUBLISH that travel on to the subscribers."""


class Malformed(Exception):
    """The peer broke the protocol; `code` is the reason to disconnect with."""

    def __init__(self, text: str, code: int = 0x81) -> None:
        super().__init__(text)
        self.code = code


class Cursor:
    """Reads the fields of one packet from left to right."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def raw(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise Malformed("packet ends inside a field")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, width: int) -> int:
        """A big-endian number of so many bytes."""
        return int.from_bytes(self.raw(width), "big")

    def varint(self) -> int:
        """A variable byte integer of at most four bytes."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Malformed("variable byte integer is longer than four bytes")

    def data(self) -> bytes:
        """Bytes with their length before them."""
        return self.raw(self.number(2))

    def text(self) -> str:
        """UTF-8 text with its length before it."""
        try:
            text = self.data().decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("text is not UTF-8") from None
        if "\0" in text:
            raise Malformed("text holds a NUL")
        return text

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.raw(self.left)

    def properties(self) -> dict[str, Property]:
        """A property list of MQTT 5; user properties are collected, others may come once."""
        inner = Cursor(self.raw(self.varint()))
        found: dict[str, Property] = {}
        pairs: list[tuple[str, str]] = []
        while inner.left:
            number = inner.varint()
            if number not in _KINDS:
                raise Malformed(f"unknown property 0x{number:02x}")
            name, kind = _KINDS[number]
            if kind == "pair":
                pairs.append((inner.text(), inner.text()))
                found[name] = pairs
                continue
            if name in found:
                raise Malformed(f"property {name} comes twice", 0x82)
            found[name] = inner._value(kind)
        return found

    def _value(self, kind: str) -> Property:
        if kind in _WIDTHS:
            return self.number(_WIDTHS[kind])
        if kind == "varint":
            return self.varint()
        return self.text() if kind == "text" else self.data()


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _data(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _text(value: str) -> bytes:
    return _data(value.encode("utf-8"))


def _encoded(kind: str, value: Property) -> bytes:
    if isinstance(value, int):
        return _varint(value) if kind == "varint" else value.to_bytes(_WIDTHS[kind], "big")
    if isinstance(value, str):
        return _text(value)
    assert isinstance(value, bytes)
    return _data(value)


def _properties(properties: Mapping[str, Property]) -> bytes:
    out = bytearray()
    for name, value in properties.items():
        number, kind = _IDS[name]
        if isinstance(value, list):
            for key, text in value:
                out += _varint(number) + _text(key) + _text(text)
        else:
            out += _varint(number) + _encoded(kind, value)
    return _varint(len(out)) + bytes(out)


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + _varint(len(body)) + body


@dataclass(frozen=True, slots=True)
class Message:
    """An application message. `expires_at` is in the broker's monotonic seconds, None for never."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Mapping[str, Property] = field(default_factory=dict)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """What a client says first. `session_expiry_s` is 0 where the session ends with the connection."""

    version: int
    client_id: str
    clean_start: bool
    keep_alive_s: int
    session_expiry_s: int
    receive_maximum: int
    packet_max: int | None
    will: Message | None
    will_delay_s: int
    username: str | None
    password: bytes | None


class UnsupportedVersion(Malformed):
    """A protocol level this broker does not speak."""

    def __init__(self, level: int) -> None:
        super().__init__(f"protocol level {level} is not supported", 0x84)
        self.level = level


def _number(properties: Mapping[str, Property], name: str, default: int) -> int:
    value = properties.get(name, default)
    assert isinstance(value, int)
    return value


def decode_connect(body: bytes) -> Connect:
    """Read a CONNECT; raises UnsupportedVersion, or Malformed."""
    cursor = Cursor(body)
    protocol, level = cursor.text(), cursor.number(1)
    if protocol != "MQTT" or level not in (V311, V5):
        raise UnsupportedVersion(level)
    flags, keep_alive_s = cursor.number(1), cursor.number(2)
    if flags & 1 or (flags & 0x38 and not flags & 4) or flags >> 3 & 3 == 3:
        raise Malformed("reserved or senseless connect flags")
    properties = cursor.properties() if level == V5 else {}
    client_id = cursor.text()
    will, delay_s = _will(cursor, flags, level) if flags & 4 else (None, 0)
    username = cursor.text() if flags & 0x80 else None
    password = cursor.data() if flags & 0x40 else None
    clean = bool(flags & 2)
    expiry = _number(properties, "session_expiry", 0) if level == V5 else (0 if clean else 0xFFFFFFFF)
    if (receive_maximum := _number(properties, "receive_maximum", 65535)) == 0:
        raise Malformed("receive maximum of zero", 0x82)
    return Connect(
        version=level,
        client_id=client_id,
        clean_start=clean,
        keep_alive_s=keep_alive_s,
        session_expiry_s=expiry,
        receive_maximum=receive_maximum,
        packet_max=_number(properties, "maximum_packet_size", 0) or None,
        will=will,
        will_delay_s=delay_s,
        username=username,
        password=password,
    )


def _will(cursor: Cursor, flags: int, level: int) -> tuple[Message, int]:
    properties = cursor.properties() if level == V5 else {}
    topic, payload = cursor.text(), cursor.data()
    kept = {name: properties[name] for name in FORWARDED if name in properties}
    will = Message(topic, payload, qos=min(flags >> 3 & 3, 1), retain=bool(flags & 0x20), properties=kept)
    return will, _number(properties, "will_delay", 0)


def decode_publish(flags: int, body: bytes, version: int) -> tuple[Message, int]:
    """Read a PUBLISH: the message and its packet id (0 for QoS 0)."""
    qos = flags >> 1 & 3
    if qos == 3:
        raise Malformed("QoS 3")
    if qos == 2:
        raise Malformed("QoS 2 is not supported", 0x9B)
    cursor = Cursor(body)
    topic = cursor.text()
    packet_id = cursor.number(2) if qos else 0
    if qos and not packet_id:
        raise Malformed("packet id 0")
    properties = cursor.properties() if version == V5 else {}
    if "topic_alias" in properties:
        raise Malformed("topic aliases are not offered", 0x94)
    kept = {name: properties[name] for name in FORWARDED if name in properties}
    return Message(topic, cursor.rest(), qos=qos, retain=bool(flags & 1), properties=kept), packet_id


@dataclass(frozen=True, slots=True)
class Wish:
    """One filter of a SUBSCRIBE with its options (`retain_handling` 0 send, 1 send if new, 2 never)."""

    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int


def decode_subscribe(body: bytes, version: int) -> tuple[int, list[Wish]]:
    """Read a SUBSCRIBE: packet id and filters."""
    cursor = Cursor(body)
    packet_id = cursor.number(2)
    if version == V5 and "subscription_identifier" in cursor.properties():
        raise Malformed("subscription identifiers are not offered", 0xA1)
    wishes = []
    while cursor.left:
        pattern, options = cursor.text(), cursor.number(1)
        if options & 0xC0 or options & 3 == 3 or options >> 4 & 3 == 3:
            raise Malformed("reserved subscription options")
        wishes.append(
            Wish(pattern, min(options & 3, 1), bool(options & 4), bool(options & 8), options >> 4 & 3)
        )
    if not wishes:
        raise Malformed("SUBSCRIBE without a filter", 0x82)
    return packet_id, wishes


def decode_unsubscribe(body: bytes, version: int) -> tuple[int, list[str]]:
    """Read an UNSUBSCRIBE: packet id and filters."""
    cursor = Cursor(body)
    packet_id = cursor.number(2)
    if version == V5:
        cursor.properties()
    filters = []
    while cursor.left:
        filters.append(cursor.text())
    if not filters:
        raise Malformed("UNSUBSCRIBE without a filter", 0x82)
    return packet_id, filters


def decode_puback(body: bytes) -> int:
    """Read a PUBACK: the packet id. Whatever its reason code says, the message is done with."""
    return Cursor(body).number(2)


def decode_disconnect(body: bytes, version: int) -> tuple[int, int | None]:
    """Read a DISCONNECT: reason code and the session expiry if the client changed it."""
    if version != V5 or not body:
        return 0, None
    cursor = Cursor(body)
    reason = cursor.number(1)
    properties = cursor.properties() if cursor.left else {}
    expiry = properties.get("session_expiry")
    return reason, expiry if isinstance(expiry, int) else None


_CONNACK_311 = {0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x8A: 5, 0x8C: 4}
"""MQTT 5 reasons as the return codes of 3.1.1; whatever is not here is 3, server unavailable."""


def encode_connack(version: int, reason: int, present: bool, properties: Mapping[str, Property]) -> bytes:
    """Write a CONNACK; in 3.1.1 the reason becomes the nearest of its six return codes."""
    if version == V5:
        return _packet(CONNACK, 0, bytes([present, reason]) + _properties(properties))
    return _packet(CONNACK, 0, bytes([present, _CONNACK_311.get(reason, 3) if reason else 0]))


def encode_publish(
    message: Message, packet_id: int, version: int, *, dup: bool, properties: Mapping[str, Property]
) -> bytes:
    """Write a PUBLISH to a subscriber."""
    body = _text(message.topic)
    if message.qos:
        body += packet_id.to_bytes(2, "big")
    if version == V5:
        body += _properties(properties)
    return _packet(PUBLISH, dup << 3 | message.qos << 1 | message.retain, body + message.payload)


def encode_puback(packet_id: int, reason: int, version: int) -> bytes:
    """Write a PUBACK; 3.1.1 has no reason code, so there a refusal looks like success."""
    body = packet_id.to_bytes(2, "big")
    return _packet(PUBACK, 0, body + bytes([reason]) if version == V5 and reason else body)


def encode_suback(packet_id: int, reasons: list[int], version: int) -> bytes:
    """Write a SUBACK; 3.1.1 knows one failure code only."""
    head = packet_id.to_bytes(2, "big")
    if version == V5:
        return _packet(SUBACK, 0, head + b"\0" + bytes(reasons))
    return _packet(SUBACK, 0, head + bytes(min(reason, 0x80) for reason in reasons))


def encode_unsuback(packet_id: int, reasons: list[int], version: int) -> bytes:
    """Write an UNSUBACK."""
    head = packet_id.to_bytes(2, "big")
    return _packet(UNSUBACK, 0, head + b"\0" + bytes(reasons) if version == V5 else head)


def encode_pingresp() -> bytes:
    """Write a PINGRESP."""
    return _packet(PINGRESP, 0, b"")


def encode_disconnect(reason: int) -> bytes:
    """Write a DISCONNECT of MQTT 5 (in 3.1.1 a server just closes)."""
    return _packet(DISCONNECT, 0, bytes([reason]))
