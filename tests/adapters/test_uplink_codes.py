"""Every reason code of MQTT 5 that a broker can answer with, and what follows from it: a table of the standard's own.

The figures are those of the standard (MQTT 5.0, table 2-6), not those of the library or of the tables under test. For
each: a sentence for a person, and when the next attempt is made.
"""

from collections.abc import Sequence

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.adapters.uplink import MqttUplink
from agent.adapters.uplink.reasons import CONNECTION_CODES, PUBLISH_CODES, SUBSCRIBE_CODES, Pace
from agent.errors import UplinkDown, UplinkRefused
from tests.adapters.link import ACKNOWLEDGEMENT, BATCH, on_script
from tests.adapters.scripted_broker import CONNACK, CONNECT, DISCONNECT, SUBACK, SUBSCRIBE, Dialogue

CONNACK_CODES = (
    *range(0x80, 0x8B),
    *(0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
)
DISCONNECT_CODES = (
    *(0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90),
    *range(0x93, 0xA3),
)
SUBACK_CODES = (0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
PUBACK_CODES = (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
BEYOND_THE_STANDARD = {0x95, 0x9A}
"""Codes that brokers put into a PUBACK although the standard has no room for them there (mosquitto: 0x95)."""
UNKNOWN_CODES = (0x03, 0x11, 0x7F, 0x92, 0xA3, 0xFF)

PASSES_BY_ITSELF = {0x00, 0x80, 0x88, 0x89, 0x8B, 0x8D, 0x93, 0x96, 0xA0}
"""After these the next attempt is made with the usual back-off; after all others a person has to act first."""


def pace_of(code: int) -> Pace:
    """When the standard's code lets us come back."""
    if code == 0x8E:
        return Pace.TAKEN_OVER
    return Pace.SOON if code in PASSES_BY_ITSELF else Pace.SLOWLY


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> list[Pace]:
    """What decided about each wait; the waits themselves are left out."""
    seen: list[Pace] = []

    def note(self: MqttUplink, pace: Pace, failures: int) -> float:
        seen.append(pace)
        return 0.01

    monkeypatch.setattr(MqttUplink, "_wait_s", note)
    return seen


def test_the_library_knows_the_codes_of_the_standard_and_no_others() -> None:
    def codes(packet: int) -> set[int]:
        known = ReasonCode.names.items()
        return {code for code, names in known for packets in names.values() if packet in packets}

    assert codes(PacketTypes.CONNACK) - {0} == set(CONNACK_CODES) - {0x99}, "which it has forgotten"
    assert codes(PacketTypes.DISCONNECT) - {4} == set(DISCONNECT_CODES), "0x04 is the client's own word"
    assert codes(PacketTypes.SUBACK) == set(SUBACK_CODES)
    assert codes(PacketTypes.PUBACK) == set(PUBACK_CODES)


def test_every_code_has_a_sentence_of_its_own() -> None:
    assert set(CONNACK_CODES) | set(DISCONNECT_CODES) == set(CONNECTION_CODES)
    assert set(PUBACK_CODES) - {0} | BEYOND_THE_STANDARD == set(PUBLISH_CODES)
    assert set(SUBACK_CODES) - {1} == set(SUBSCRIBE_CODES)
    reasons = [ending.reason for ending in CONNECTION_CODES.values()]
    for sentences in (reasons, list(PUBLISH_CODES.values()), list(SUBSCRIBE_CODES.values())):
        assert len(set(sentences)) == len(sentences)


@pytest.mark.fault("F69", "F73")
@pytest.mark.parametrize("code", CONNACK_CODES, ids=hex)
async def test_connack(code: int, paces: list[Pace]) -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        dialogue.say(CONNACK, bytes([0, code, 0]))
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        assert await link.next_disconnected() == CONNECTION_CODES[code].reason
    assert paces[0] is pace_of(code)


@pytest.mark.fault("F68", "F69", "F73")
@pytest.mark.parametrize("code", DISCONNECT_CODES, ids=hex)
async def test_disconnect(code: int, paces: list[Pace]) -> None:
    """With a message on its way, which is not lost: its owner is told that it was not delivered."""

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        await dialogue.hear_publish()
        dialogue.say(DISCONNECT, bytes([code, 0]))
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        with pytest.raises((UplinkDown, UplinkRefused)) as error:
            await link.uplink.publish(BATCH, b"x")
        assert await link.next_disconnected() == CONNECTION_CODES[code].reason
        assert isinstance(error.value, UplinkRefused) is (code == 0x95), "too large is said of the message"
    assert paces[0] is pace_of(code)


@pytest.mark.parametrize("code", [code for code in SUBACK_CODES if code != 1], ids=hex)
async def test_suback(code: int, paces: list[Pace]) -> None:
    await _not_granted(bytes([code]), SUBSCRIBE_CODES[code])
    assert paces[0] is Pace.SLOWLY


@pytest.mark.parametrize("codes", [b"", b"\1\1"])
async def test_a_suback_for_other_topics_than_ours(codes: bytes, paces: list[Pace]) -> None:
    await _not_granted(codes, "did not answer for each topic")
    assert paces[0] is Pace.SLOWLY


async def _not_granted(codes: bytes, sentence: str) -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        dialogue.say(CONNACK, b"\0\0\0")
        body = await dialogue.hear_kind(SUBSCRIBE)
        dialogue.say(SUBACK, body[:2] + b"\0" + codes)
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        reason = await link.next_disconnected()
        assert sentence in reason
        if len(codes) == 1:
            assert ACKNOWLEDGEMENT in reason and f"0x{codes[0]:02X}" in reason


@pytest.mark.fault("F66", "F67", "F68", "F69")
@pytest.mark.parametrize("code", [*PUBACK_CODES[1:], *BEYOND_THE_STANDARD, *UNKNOWN_CODES], ids=hex)
async def test_puback(code: int) -> None:
    """Not delivered, in the broker's own words made harmless; the connection stays and the next one is delivered."""

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.acknowledge(await dialogue.hear_publish(), code, "rule\n7")
        dialogue.acknowledge(await dialogue.hear_publish())
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        with pytest.raises(UplinkRefused) as error:
            await link.uplink.publish(BATCH, b"x")
        assert error.value.code == code
        assert BATCH in str(error.value)
        assert PUBLISH_CODES.get(code, "unknown reason code") in str(error.value)
        assert "rule\\n7" in str(error.value)
        await link.uplink.publish(BATCH, b"y")


@pytest.mark.parametrize("form", [b"\0", b"\0\0", b""], ids=["code", "code and properties", "nothing"])
async def test_a_puback_without_a_refusal_has_three_forms(form: bytes) -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.say(4, (await dialogue.hear_publish()).to_bytes(2, "big") + form)
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        await link.uplink.publish(BATCH, b"x")


@pytest.mark.parametrize("kind", [CONNACK, SUBACK, DISCONNECT])
async def test_codes_that_nobody_has_defined_end_the_connection_and_nothing_else(
    kind: int, paces: list[Pace]
) -> None:
    left = list(UNKNOWN_CODES)

    async def script(dialogue: Dialogue) -> None:
        code = left.pop(0) if left else 0
        if kind == CONNACK and code:
            await dialogue.hear_kind(CONNECT)
            dialogue.say(CONNACK, bytes([0, code, 0]))
        elif kind == SUBACK and code:
            await dialogue.hear_kind(CONNECT)
            dialogue.say(CONNACK, b"\0\0\0")
            body = await dialogue.hear_kind(SUBSCRIBE)
            dialogue.say(SUBACK, body[:2] + b"\0" + bytes([code]))
        else:
            await dialogue.admit()
            if code:
                dialogue.say(DISCONNECT, bytes([code, 0]))
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        reasons: list[str] = []
        while len(reasons) < len(UNKNOWN_CODES):
            if kind == DISCONNECT:
                await link.next_connected()
            reasons.append(await link.next_disconnected())
        await link.next_connected()
    _all_say_something(reasons)


def _all_say_something(reasons: Sequence[str]) -> None:
    for reason in reasons:
        assert any(words in reason for words in ("MQTT 5 does not allow", "unknown reason code")), reason
