"""What a broker answered: its packets as values, and their reason codes as sentences for a person.

Between `connection`, which waits for answers, and `reasons`, which has the sentences.
"""

import asyncio
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties

from agent.adapters.uplink.reasons import PUBLISH_CODES, SUBSCRIBE_CODES, Ending, Pace
from agent.errors import UplinkRefused


@dataclass(frozen=True, slots=True)
class Answer:
    """What a CONNACK, SUBACK or PUBACK said."""

    codes: tuple[int, ...]
    properties: Properties


def properties_of(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


class _Packed(Properties):
    """Properties that are the same for every message, packed once; paho takes 30 us to pack them each time."""

    _bytes: bytes

    def pack(self) -> bytes:  # type: ignore[no-untyped-def, unused-ignore]
        return self._bytes


def packed(properties: Properties, packet_type: int) -> Properties:
    """The same properties, from now on unchangeable and quick to send."""
    made = _Packed(packet_type)  # type: ignore[no-untyped-call]
    object.__setattr__(made, "_bytes", properties.pack())  # type: ignore[no-untyped-call]
    return made


def settle(future: "asyncio.Future[Answer | None]", answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


def ending_of(table: dict[int, Ending], code: int, properties: Properties) -> Ending:
    ending = table.get(
        code, Ending(f"the broker ended the connection with the unknown reason code 0x{code:02X}")
    )
    return Ending(ending.reason + in_its_words(properties), ending.pace)


def not_granted(topic: str, code: int, properties: Properties) -> Ending:
    """What a SUBACK said that is not the QoS 1 we asked for; always for a person to settle."""
    sentence = SUBSCRIBE_CODES.get(code, "with an unknown reason code")
    reason = f"the broker did not grant {topic} with QoS 1 (0x{code:02X}): {sentence}"
    return Ending(reason + in_its_words(properties), Pace.SLOWLY)


def topic_of(message: mqtt.MQTTMessage) -> str | None:
    try:
        return message.topic
    except UnicodeDecodeError:
        return None


def refused(topic: str, code: int, more: str = "") -> UplinkRefused:
    sentence = PUBLISH_CODES.get(code, "the broker refused it with an unknown reason code")
    return UplinkRefused(f"{topic} was not delivered (0x{code:02X}): {sentence}{more}", code)


def in_its_words(properties: Properties) -> str:
    """What the broker adds for people, shortened and made harmless."""
    texts = [getattr(properties, name, None) for name in ("ReasonString", "ServerReference")]
    return "".join(f" (broker: {text[:200]!r})" for text in texts if text)
