"""The uplink against brokers that misbehave, bad certificates, and the sentences it has for all of them."""

import asyncio
import contextlib
import errno
import itertools
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.adapters.uplink import MESSAGE_SIZE_MAX, MqttUplink, TlsFiles, connection
from agent.adapters.uplink.address import Address, make_tls_context, parse_url
from agent.adapters.uplink.reasons import CONNECTION_CODES, PUBLISH_CODES, Pace, describe_failure
from agent.errors import ConfigError, UplinkDown, UplinkRefused
from agent.service.ports import Connected, Disconnected, Received, UplinkEvent, Will
from tests.adapters.certificates import Authority
from tests.adapters.scripted_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    SUBACK,
    SUBSCRIBE,
    Dialogue,
    Script,
    ScriptedBroker,
)
from tests.support.mosquitto import Mosquitto

BATCH = "kwh/v1/zj/gw01/up/batch"
STATUS = "kwh/v1/zj/gw01/up/status"
ACKNOWLEDGEMENT = "kwh/v1/zj/gw01/down/ack"
PATIENCE_S = 10


class Link:
    """An uplink and the reader of its events."""

    def __init__(self, url: str, **options: object) -> None:
        quick: dict[str, object] = {"backoff_min_s": 0.05, "backoff_max_s": 0.1, "refused_wait_s": 30.0}
        self.uplink = MqttUplink(url, client_id="gw01", **(quick | options))  # type: ignore[arg-type]
        self._events = self.uplink.events()

    async def next(self) -> UplinkEvent:
        return await asyncio.wait_for(anext(self._events), PATIENCE_S)

    async def next_connected(self) -> Connected:
        event = await self.next()
        assert isinstance(event, Connected), event
        return event

    async def next_disconnected(self) -> str:
        event = await self.next()
        assert isinstance(event, Disconnected), event
        return event.reason

    async def next_received(self) -> Received:
        event = await self.next()
        assert isinstance(event, Received), event
        return event


@contextlib.asynccontextmanager
async def started(url: str, **options: object) -> AsyncIterator[Link]:
    link = Link(url, **options)
    await link.uplink.start(subscribe=(ACKNOWLEDGEMENT,), will=lambda session: Will(STATUS, session.encode()))
    try:
        yield link
    finally:
        await link.uplink.stop()


@contextlib.asynccontextmanager
async def on_script(*scripts: Script, **options: object) -> AsyncIterator[tuple[Link, ScriptedBroker]]:
    async with ScriptedBroker(*scripts) as broker, started(broker.url, **options) as link:
        yield link, broker


# --------------------------------------------------------------------------------------------- what we tell a broker


async def test_connect_says_clean_start_limits_and_the_will_with_its_delay() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        await dialogue.until_the_end()

    async with on_script(script, keepalive_s=15, will_delay_s=30) as (link, broker):
        session = (await link.next_connected()).session
    body = broker.dialogues[0].heard[0][2]
    assert body[:7] == b"\0\4MQTT\5"
    flags = body[7]
    assert flags & 0b0000_0010, "clean start"
    assert flags & 0b0010_1100 == 0b0010_1100, "a retained will with QoS 1"
    assert body[8:10] == struct.pack("!H", 15)
    assert b"\x27" + struct.pack("!I", 256 * 1024 + 4096) in body, "maximum packet size"
    assert b"\x21" + struct.pack("!H", 8) in body, "receive maximum"
    assert b"\x11" + struct.pack("!I", 60) in body, "the session outlives the delay of the will"
    assert b"\x18" + struct.pack("!I", 30) in body, "will delay"
    assert STATUS.encode() in body
    assert session.encode() in body
    assert len(session) == 32


async def test_a_message_says_what_it_is_and_goodbye_ends_the_session() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.acknowledge(await dialogue.hear_publish())
        await dialogue.until_the_end()

    async with on_script(script) as (link, broker):
        await link.next_connected()
        await link.uplink.publish(BATCH, b"x")
    heard = broker.dialogues[0].heard
    kind, flags, body = heard[2]
    assert (kind, flags) == (3, 0b0010), "QoS 1, not retained, not a repeat"
    assert b"\x03" + struct.pack("!H", 16) + b"application/jose" in body
    assert b"\x02" not in body[2 + len(BATCH) + 2 : -1], "a batch has no expiry"
    kind, _, body = heard[-1]
    assert (kind, body[:1]) == (DISCONNECT, b"\0")
    assert b"\x11" + struct.pack("!I", 0) in body


# ---------------------------------------------------------------------------------------------- what a broker answers


@pytest.mark.fault("F69")
@pytest.mark.parametrize("code", sorted(PUBLISH_CODES))
async def test_every_reason_code_of_a_puback_is_a_refusal_with_a_sentence(code: int) -> None:
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
        assert "rule\\n7" in str(error.value), "in the broker's own words, made harmless"
        await link.uplink.publish(BATCH, b"y")


def test_no_code_that_the_library_knows_is_without_a_sentence() -> None:
    def codes(packet: int) -> set[int]:
        known = ReasonCode(packet).names
        return {code for code, names in known.items() for packets in names.values() if packet in packets}

    assert codes(PacketTypes.PUBACK) - {0} <= PUBLISH_CODES.keys()
    assert codes(PacketTypes.CONNACK) - {0} <= CONNECTION_CODES.keys()
    # 0x04 is the client's own word, 0x00 has its sentence.
    assert codes(PacketTypes.DISCONNECT) - {4} <= CONNECTION_CODES.keys()


@pytest.mark.parametrize("code", [0x84, 0x85, 0x86, 0x87, 0x88, 0x8A, 0x97, 0x9C, 0x9F])
async def test_a_refused_connection_says_why(code: int) -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        dialogue.say(CONNACK, bytes([0, code, 0]))

    async with on_script(script) as (link, broker):
        expected = CONNECTION_CODES[code]
        assert await link.next_disconnected() == expected.reason
        await asyncio.sleep(0.4)
        again = len(broker.dialogues) > 1
        assert again is (expected.pace is Pace.SOON)


async def test_an_old_broker_is_told_from_a_broken_one() -> None:
    async def mqtt_3(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        dialogue.say(CONNACK, b"\0\1")

    async with on_script(mqtt_3) as (link, _):
        assert "does not speak MQTT 5" in await link.next_disconnected()


@pytest.mark.fault("F69")
async def test_a_moved_broker_is_named_and_not_followed() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        reference = b"\x1c" + struct.pack("!H", 12) + b"evil.example"
        dialogue.say(CONNACK, bytes([0, 0x9D, len(reference)]) + reference)

    async with on_script(script) as (link, _):
        reason = await link.next_disconnected()
    assert "has moved" in reason
    assert "'evil.example'" in reason


@pytest.mark.parametrize("code", [0x00, 0x02, 0x80, 0x87, 0x8F])
async def test_a_subscription_that_is_not_granted_is_no_connection(code: int) -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        dialogue.say(CONNACK, b"\0\0\0")
        body = await dialogue.hear_kind(SUBSCRIBE)
        dialogue.say(SUBACK, body[:2] + b"\0" + bytes([code]))
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        reason = await link.next_disconnected()
        assert ACKNOWLEDGEMENT in reason
        assert f"0x{code:02X}" in reason


@pytest.mark.fault("F73")
async def test_another_client_with_our_name_makes_us_wait() -> None:
    async def thrown_out(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.say(DISCONNECT, b"\x8e\0")

    async with on_script(thrown_out, takeover_wait_s=0.5) as (link, broker):
        await link.next_connected()
        assert "copied gateway" in await link.next_disconnected()
        begun = time.monotonic()
        await link.next_connected()
        assert time.monotonic() - begun > 0.45
        assert len(broker.dialogues) == 2


@pytest.mark.fault("F73")
async def test_the_wait_after_a_takeover_is_five_minutes() -> None:
    assert MqttUplink("mqtt://localhost", client_id="x")._wait_s(Pace.TAKEN_OVER, 1) == 300


@pytest.mark.fault("F60")
async def test_a_silent_broker_is_given_up_after_the_time_out() -> None:
    async def silent(dialogue: Dialogue) -> None:
        await dialogue.until_the_end()

    async with on_script(silent, connect_timeout_s=0.3) as (link, _):
        assert "did not answer within 0.3 s" in await link.next_disconnected()


async def test_what_is_no_mqtt_is_survived() -> None:
    async def http(dialogue: Dialogue) -> None:
        dialogue.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await dialogue.until_the_end()

    async with on_script(http, connect_timeout_s=0.3, refused_wait_s=0.1) as (link, broker):
        await link.next_disconnected()
        await link.next_disconnected()
        assert len(broker.dialogues) >= 2


async def test_a_packet_that_mqtt_does_not_allow_is_called_that() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.say(CONNECT, b"x")
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        assert "MQTT 5 does not allow" in await link.next_disconnected()


# ---------------------------------------------------------------------------------------------- limits of the broker


@pytest.mark.fault("F61")
async def test_the_window_follows_the_brokers_receive_maximum() -> None:
    seen: list[int] = []

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit(b"\x21" + struct.pack("!H", 3))
        held = [await dialogue.hear_publish() for _ in range(3)]
        with contextlib.suppress(TimeoutError):
            seen.append(await asyncio.wait_for(dialogue.hear_publish(), 0.3))
        for identifier in held:
            dialogue.acknowledge(identifier)
        while True:
            dialogue.acknowledge(await dialogue.hear_publish())

    async with on_script(script) as (link, _):
        await link.next_connected()
        await asyncio.wait_for(
            asyncio.gather(*(link.uplink.publish(BATCH, b"x") for _ in range(10))), PATIENCE_S
        )
    assert seen == [], "a fourth message before the first acknowledgement"


@pytest.mark.fault("F61")
async def test_large_messages_do_not_fill_a_thin_line() -> None:
    counts: list[int] = []

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        held = [await dialogue.hear_publish()]
        with contextlib.suppress(TimeoutError):
            while True:
                held.append(await asyncio.wait_for(dialogue.hear_publish(), 0.3))
        counts.append(len(held))
        for identifier in held:
            dialogue.acknowledge(identifier)
        while True:
            dialogue.acknowledge(await dialogue.hear_publish())

    async with on_script(script) as (link, _):
        await link.next_connected()
        payload = bytes(30 * 1024)
        await asyncio.wait_for(
            asyncio.gather(*(link.uplink.publish(BATCH, payload) for _ in range(6))), PATIENCE_S
        )
        await link.uplink.publish(BATCH, bytes(200 * 1024))
    assert counts == [2], "64 KiB in flight, or one message that is larger"


@pytest.mark.fault("F68")
async def test_a_message_beyond_the_brokers_limit_is_refused_before_it_is_sent() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit(b"\x27" + struct.pack("!I", 1000) + b"\x25\x00")
        dialogue.acknowledge(await dialogue.hear_publish())
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        with pytest.raises(UplinkRefused, match="1000 bytes") as error:
            await link.uplink.publish(BATCH, bytes(1000))
        assert error.value.code == 0x95
        with pytest.raises(UplinkRefused) as error:
            await link.uplink.publish(STATUS, b"x", retain=True)
        assert error.value.code == 0x9A
        await link.uplink.publish(BATCH, bytes(800))


async def test_a_broker_that_hangs_up_on_a_large_message_gets_it_no_second_time() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        await dialogue.hear_publish()
        await dialogue.hear_publish()
        dialogue.say(DISCONNECT, b"\x95\0")

    async with on_script(script) as (link, _):
        await link.next_connected()
        small, large = await asyncio.gather(
            link.uplink.publish(BATCH, b"x"), link.uplink.publish(BATCH, bytes(5000)), return_exceptions=True
        )
    assert isinstance(small, UplinkDown)
    assert isinstance(large, UplinkRefused)
    assert large.code == 0x95


@pytest.mark.fault("F68")
@pytest.mark.mosquitto
async def test_mosquittos_own_size_limit_is_a_refusal(tmp_path: Path) -> None:
    """Its PUBACK carries 0x95, which the standard does not list there and the library calls malformed."""
    with Mosquitto(directory=tmp_path, extra=["message_size_limit 1000"]) as broker:
        async with started(broker.url) as link:
            await link.next_connected()
            with pytest.raises(UplinkRefused) as error:
                await link.uplink.publish(BATCH, bytes(1001))
            assert error.value.code == 0x95
            await link.uplink.publish(ACKNOWLEDGEMENT, bytes(1000))


async def test_a_broker_without_qos_1_is_no_broker_for_us() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit(b"\x24\x00")

    async with on_script(script) as (link, _):
        assert "QoS 1" in await link.next_disconnected()


# ------------------------------------------------------------------------------------------------- acknowledgements


@pytest.mark.fault("F62")
async def test_a_lost_puback_is_noticed_although_others_come() -> None:
    """MQTT acknowledges in order, so a later PUBACK starts the clock of an earlier one that is missing."""

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        await dialogue.hear_publish()
        while True:
            dialogue.acknowledge(await dialogue.hear_publish())

    async with on_script(script, ack_timeout_s=0.5) as (link, _):
        await link.next_connected()
        lost = asyncio.create_task(link.uplink.publish(BATCH, b"lost"))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        while not lost.done() and time.monotonic() - begun < 5:
            with contextlib.suppress(UplinkDown):
                await link.uplink.publish(BATCH, b"others go on")
            await asyncio.sleep(0.02)
        assert 0.4 < time.monotonic() - begun < 2
        with pytest.raises(UplinkDown, match=r"no acknowledgement came within 0\.5 s"):
            await lost


async def test_a_slow_line_gets_more_time_as_long_as_something_moves() -> None:
    """A message that takes longer than the time-out to trickle through is not started over for ever."""

    size = 4 * 1024 * 1024
    slept_s = []

    async def thin(dialogue: Dialogue) -> None:
        dialogue.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        await dialogue.admit()
        begun = time.monotonic()
        head = await dialogue.reader.readexactly(7 + len(BATCH) + 2)
        left = size
        while left > 0:
            left -= len(await dialogue.reader.read(64 * 1024))
            await asyncio.sleep(0.02)
        slept_s.append(time.monotonic() - begun)
        dialogue.acknowledge(int.from_bytes(head[-2:], "big"))
        await dialogue.until_the_end()

    async with on_script(thin, ack_timeout_s=0.5) as (link, broker):
        await link.next_connected()
        await link.uplink.publish(BATCH, bytes(size))
        assert len(broker.dialogues) == 1
    assert slept_s[0] > 1.0, "longer than the time-out"


async def test_a_cancelled_publish_keeps_its_place_until_it_is_acknowledged() -> None:
    release = asyncio.Event()

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit(b"\x21" + struct.pack("!H", 1))
        first = await dialogue.hear_publish()
        await release.wait()
        dialogue.acknowledge(first)
        dialogue.acknowledge(await dialogue.hear_publish())
        await dialogue.until_the_end()

    async with on_script(script) as (link, broker):
        await link.next_connected()
        first = asyncio.create_task(link.uplink.publish(BATCH, b"1"))
        await asyncio.sleep(0.1)
        first.cancel()
        second = asyncio.create_task(link.uplink.publish(BATCH, b"2"))
        await asyncio.sleep(0.2)
        assert len([packet for packet in broker.dialogues[0].heard if packet[0] == 3]) == 1
        release.set()
        await asyncio.wait_for(second, PATIENCE_S)
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_an_acknowledgement_of_nothing_is_ignored() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.acknowledge(4711)
        dialogue.acknowledge(await dialogue.hear_publish())
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        await link.uplink.publish(BATCH, b"x")


# ------------------------------------------------------------------------------------------------------ hostile brokers


async def test_a_packet_that_would_fill_the_memory_is_not_read() -> None:
    async def hostile(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.writer.write(b"\x32\xff\xff\xff\x7f" + bytes(100_000))  # says: 268 million bytes follow
        await dialogue.until_the_end()

    async with on_script(hostile) as (link, _):
        await link.next_connected()
        assert "268435455 bytes" in await link.next_disconnected()


async def test_qos_2_which_the_library_would_keep_ends_the_connection() -> None:
    async def hostile(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.send(ACKNOWLEDGEMENT, b"x", qos=2)
        await dialogue.until_the_end()

    async with on_script(hostile) as (link, _):
        await link.next_connected()
        assert "QoS 2" in await link.next_disconnected()


async def test_what_nobody_asked_for_is_dropped_and_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.send("kwh/v1/zj/gw01/up/batch", b"an order", identifier=1)
        dialogue.send(ACKNOWLEDGEMENT, bytes(MESSAGE_SIZE_MAX + 1), identifier=2)
        dialogue.say(3, b"\0\2\xff\xfe\0\3\0x", 0b0010)  # a topic that is not UTF-8
        dialogue.send(ACKNOWLEDGEMENT, bytes(MESSAGE_SIZE_MAX), identifier=4)
        for _ in range(4):
            await dialogue.hear_kind(PUBACK)
        dialogue.send(ACKNOWLEDGEMENT, b"all acknowledged", identifier=5)
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        assert len((await link.next_received()).payload) == MESSAGE_SIZE_MAX
        assert (await link.next_received()).payload == b"all acknowledged"
    assert caplog.text.count("nobody asked for") == 3


async def test_a_retained_message_that_overtakes_the_suback_comes_after_the_connection() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.hear_kind(CONNECT)
        dialogue.say(CONNACK, b"\0\0\0")
        body = await dialogue.hear_kind(SUBSCRIBE)
        dialogue.send(ACKNOWLEDGEMENT, b"early")
        dialogue.say(SUBACK, body[:2] + b"\0\1")
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        assert (await link.next_received()).payload == b"early"


async def test_a_flood_is_left_in_the_socket_until_somebody_reads() -> None:
    async def flood(dialogue: Dialogue) -> None:
        await dialogue.admit()
        for number in range(1, 201):
            dialogue.send(ACKNOWLEDGEMENT, b"%d" % number, identifier=number)
        await dialogue.until_the_end()

    async with on_script(flood) as (link, _):
        await link.next_connected()
        await asyncio.sleep(0.3)
        assert link.uplink._mailbox.unread() <= 8
        assert [int((await link.next_received()).payload) for _ in range(200)] == list(range(1, 201))


async def test_events_of_a_flapping_line_do_not_pile_up_unread() -> None:
    async def short(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.say(DISCONNECT, b"\x8b\0")

    async with on_script(short, backoff_min_s=0.001, backoff_max_s=0.001) as (link, broker):
        async with asyncio.timeout(30):
            while len(broker.dialogues) < 120:  # noqa: ASYNC110  # a count in another task
                await asyncio.sleep(0.02)
        assert len(link.uplink._mailbox._entries) <= 66
        kinds = [type(entry) for entry in link.uplink._mailbox._entries]
        assert all(a is not b for a, b in itertools.pairwise(kinds)), "still one after the other"


async def test_a_callback_that_fails_ends_the_connection_and_not_the_uplink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """paho's thread dies of it; here it reports what happened and the next connection is made."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug in a callback")

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.send(ACKNOWLEDGEMENT, b"x")
        await dialogue.until_the_end()

    with monkeypatch.context() as patched:
        patched.setattr(connection.Connection, "_hand_over", broken)
        async with on_script(script, backoff_min_s=0.3, backoff_max_s=0.3) as (link, _):
            await link.next_connected()
            assert "a bug in a callback" in await link.next_disconnected()
            patched.undo()
            await link.next_connected()
            assert (await link.next_received()).payload == b"x"


async def test_a_will_that_fails_is_reported_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def failing(session: str) -> Will:
        calls.append(session)
        raise RuntimeError("the signer is gone")

    link = Link("mqtt://127.0.0.1:1", refused_wait_s=0.05)
    with caplog.at_level(logging.ERROR):
        await link.uplink.start(subscribe=(), will=failing)
        assert "the signer is gone" in await link.next_disconnected()
        await asyncio.sleep(0.3)
        await link.uplink.stop()
    assert len(calls) > 2
    assert "not foreseen" in caplog.text


# -------------------------------------------------------------------------------------------------------- its life


async def test_stop_ends_an_attempt_in_progress_and_the_events() -> None:
    async def silent(dialogue: Dialogue) -> None:
        await dialogue.until_the_end()

    threads = threading.active_count()
    async with ScriptedBroker(silent) as broker:
        link = Link(broker.url, stop_limit_s=0.4)
        await link.uplink.start(subscribe=(), will=lambda session: Will(STATUS, session.encode()))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        await link.uplink.stop()
        await link.uplink.stop()
        assert time.monotonic() - begun < 2
        assert [event async for event in link.uplink.events()][:-1] == []
    assert threading.active_count() == threads


async def test_it_is_started_once() -> None:
    link = Link("mqtt://127.0.0.1:1")
    await link.uplink.start(subscribe=(), will=lambda session: Will(STATUS, b""))
    with pytest.raises(RuntimeError, match="once"):
        await link.uplink.start(subscribe=(), will=lambda session: Will(STATUS, b""))
    await link.uplink.stop()


class Chance:
    """Entropy that a test chooses."""

    def __init__(self, byte: int) -> None:
        self.byte = byte

    def token(self, size: int) -> bytes:
        return bytes([self.byte]) * size


@pytest.mark.fault("F72")
@pytest.mark.parametrize("failures", [1, 2, 5, 10, 100, 10**6])
def test_the_wait_has_full_jitter_between_half_a_second_and_a_minute(failures: int) -> None:
    low = MqttUplink("mqtt://localhost", client_id="x", entropy=Chance(0))._wait_s(Pace.SOON, failures)
    high = MqttUplink("mqtt://localhost", client_id="x", entropy=Chance(255))._wait_s(Pace.SOON, failures)
    assert low == 0.5
    assert high == pytest.approx(min(60, 2 ** (failures if failures < 7 else 7) / 2), rel=1e-6)
    slow = [
        MqttUplink("mqtt://localhost", client_id="x", entropy=Chance(b))._wait_s(Pace.SLOWLY, failures)
        for b in (0, 255)
    ]
    assert slow == [30, pytest.approx(60)]
    knock = MqttUplink("mqtt://localhost", client_id="x", entropy=Chance(255))._wait_s(Pace.KNOCK, failures)
    assert knock == pytest.approx(min(4, high), rel=1e-6), "a link that is back is noticed within 5 s"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        socket.gaierror(-2, "Name or service not known"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
    ],
)
def test_where_nobody_is_there_it_knocks_again_soon(error: OSError) -> None:
    assert describe_failure(error).pace is Pace.KNOCK
    assert describe_failure(ConnectionResetError(errno.ECONNRESET, "reset")).pace is Pace.SOON


# ---------------------------------------------------------------------------------------------------- address, TLS


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtts://broker.example", Address(True, "broker.example", 8883)),
        ("mqtts://broker.example:443/", Address(True, "broker.example", 443)),
        ("mqtts://[2001:db8::7]:8884", Address(True, "2001:db8::7", 8884)),
        ("mqtt://localhost", Address(False, "localhost", 1883)),
        ("mqtt://127.3.2.1:18830", Address(False, "127.3.2.1", 18830)),
        ("mqtt://[::1]:1884", Address(False, "::1", 1884)),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: Address) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mqtt://broker.example", "no TLS"),
        ("mqtt://10.0.0.7:1883", "no TLS"),
        ("mqtt://localhost.example", "no TLS"),
        ("mqtts://user:secret@broker.example", "user name"),
        ("mqtts://broker.example/path", "more than host"),
        ("mqtts://broker.example?x=1", "more than host"),
        ("mqtts://broker.example:99999", "no address"),
        ("mqtts://[::1", "no address"),
        ("mqtts://", "no MQTT address"),
        ("http://broker.example", "no MQTT address"),
        ("broker.example:8883", "no MQTT address"),
        ("", "no MQTT address"),
    ],
)
def test_an_address_that_is_unsafe_or_none_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        MqttUplink(url, client_id="x")
    assert "secret" not in str(error.value)


def test_the_tls_context_checks_everything() -> None:
    context = make_tls_context(TlsFiles())
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_tls_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    authority = Authority("test")
    ca = write(tmp_path / "ca.pem", authority.certificate)
    certificate, key = authority.issue("gw01")
    other_key = authority.issue("gw02")[1]
    good, fitting, foreign = (
        write(tmp_path / name, data)
        for name, data in (("c.pem", certificate), ("k.pem", key), ("o.pem", other_key))
    )
    garbage = write(tmp_path / "garbage.pem", b"garbage")
    make_tls_context(TlsFiles(ca, good, fitting))
    cases = [
        (TlsFiles(tmp_path / "absent.pem"), "No such file"),
        (TlsFiles(garbage), "cannot be used"),
        (TlsFiles(ca, good, foreign), "key values mismatch"),
        (TlsFiles(ca, garbage, fitting), "cannot be used"),
        (TlsFiles(ca, good), "cannot be used"),
    ]
    for files, reason in cases:
        uplink = MqttUplink("mqtts://localhost", client_id="x", tls=files)
        with pytest.raises(ConfigError, match=reason):
            await uplink.start(subscribe=(), will=lambda session: Will(STATUS, b""))


class Secured:
    """A mosquitto with TLS, and the files to reach it."""

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", *, wants_client: bool = False, **dates: int
    ) -> None:
        self.authority = Authority("the platform's")
        self.ca = write(folder / "ca.pem", self.authority.certificate)
        certificate, key = self.authority.issue(host, **dates)
        server, server_key = write(folder / "server.pem", certificate), write(folder / "server.key", key)
        extra = [f"cafile {self.ca}", f"certfile {server}", f"keyfile {server_key}"]
        extra += ["require_certificate true"] if wants_client else []
        self.broker = Mosquitto(directory=folder, extra=extra)
        self.folder = folder

    def client(self, authority: Authority | None = None, **dates: int) -> TlsFiles:
        certificate, key = (authority or self.authority).issue("gw01", **dates)
        return TlsFiles(
            self.ca, write(self.folder / "gw.pem", certificate), write(self.folder / "gw.key", key)
        )

    @property
    def url(self) -> str:
        return self.broker.url.replace("mqtt:", "mqtts:")


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Callable[..., Secured]]:
    with contextlib.ExitStack() as stack:

        def start(host: str = "127.0.0.1", **options: int) -> Secured:
            one = Secured(tmp_path, host, **options)  # type: ignore[arg-type]
            stack.enter_context(one.broker)
            return one

        yield start


@pytest.mark.mosquitto
async def test_the_right_authority_connects(secured: Callable[..., Secured]) -> None:
    platform = secured()
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        await link.next_connected()
        with pytest.raises(UplinkRefused):
            await link.uplink.publish(BATCH, bytes(48 * 1024))


@pytest.mark.mosquitto
async def test_a_wrong_authority_is_refused(secured: Callable[..., Secured], tmp_path: Path) -> None:
    platform = secured()
    other = write(tmp_path / "other.pem", Authority("somebody else's").certificate)
    async with started(platform.url, tls=TlsFiles(other)) as link:
        assert "check platform.ca_file" in await link.next_disconnected()
    async with started(platform.url) as link:
        assert "check platform.ca_file" in await link.next_disconnected()


@pytest.mark.mosquitto
@pytest.mark.parametrize("host", ["other.example", "127.0.0.2"])
async def test_a_certificate_for_another_host_is_refused(secured: Callable[..., Secured], host: str) -> None:
    platform = secured(host)
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        assert "check platform.broker" in await link.next_disconnected()


@pytest.mark.fault("F70", "F71")
@pytest.mark.mosquitto
async def test_a_certificate_outside_its_dates_is_refused_and_points_to_the_clock(
    secured: Callable[..., Secured],
) -> None:
    platform = secured(not_before_s=int(time.time()) - 7200, not_after_s=int(time.time()) - 3600)
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        reason = await link.next_disconnected()
    assert "has expired" in reason
    assert "check the time" in reason


@pytest.mark.mosquitto
async def test_a_client_certificate_opens_the_door(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    async with started(platform.url, tls=platform.client()) as link:
        await link.next_connected()


@pytest.mark.mosquitto
async def test_a_missing_or_foreign_client_certificate_is_explained(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        assert "certificate" in await link.next_disconnected()
    async with started(platform.url, tls=platform.client(Authority("somebody else's"))) as link:
        assert "certificate" in await link.next_disconnected()


@pytest.mark.fault("F70")
@pytest.mark.mosquitto
async def test_an_expired_client_certificate_is_named(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    past = int(time.time()) - 3600
    files = platform.client(not_before_s=past - 3600, not_after_s=past)
    async with started(platform.url, tls=files) as link:
        reason = await link.next_disconnected()
    assert f"our client certificate {files.certificate} has expired" in reason


@pytest.mark.fault("F70")
@pytest.mark.mosquitto
async def test_a_new_certificate_counts_without_a_restart(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    past = int(time.time()) - 3600
    async with started(
        platform.url, tls=platform.client(not_before_s=past - 3600, not_after_s=past), refused_wait_s=0.2
    ) as link:
        await link.next_disconnected()
        platform.client()  # the same files, renewed
        event = await link.next()
        while isinstance(event, Disconnected):
            event = await link.next()
        assert isinstance(event, Connected)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nobody listens"),
        (TimeoutError("timed out"), "did not answer"),
        (socket.gaierror(-2, "Name or service not known"), "DNS"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "TLS"),
        (ValueError("surprise"), "surprise"),
    ],
)
def test_every_failure_has_a_sentence(error: BaseException, words: str) -> None:
    assert words in describe_failure(error).reason
