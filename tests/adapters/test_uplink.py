"""The uplink against brokers that misbehave: what it tells them, takes from them, and survives."""

import asyncio
import contextlib
import errno
import itertools
import logging
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from agent.adapters.uplink import MESSAGE_SIZE_MAX, MqttUplink, connection
from agent.adapters.uplink.reasons import Pace, describe_failure
from agent.errors import UplinkDown, UplinkRefused
from agent.service.ports import Will
from tests.adapters.link import ACKNOWLEDGEMENT, BATCH, PATIENCE_S, STATUS, Link, on_script, started
from tests.adapters.scripted_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    SUBACK,
    SUBSCRIBE,
    Dialogue,
    ScriptedBroker,
)
from tests.support.eventually import eventually
from tests.support.mosquitto import Mosquitto

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


@pytest.mark.fault("F73")
async def test_another_client_with_our_name_makes_us_wait() -> None:
    async def thrown_out(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.say(DISCONNECT, b"\x8e\0")

    async with on_script(thrown_out, takeover_wait_s=0.5) as (link, broker):
        await link.next_connected()
        begun = time.monotonic()  # before it was thrown out: the wait may begin before we hear of it
        assert "copied gateway" in await link.next_disconnected()
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
        held = [await dialogue.hear_publish() for _ in range(2)]
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
        async with asyncio.timeout(90):
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
        await eventually(lambda: len(calls) > 2)
        await link.uplink.stop()
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
        assert time.monotonic() - begun < 10, "the attempt itself would take 20 s"
        assert [event async for event in link.uplink.events()][:-1] == []
    assert threading.active_count() <= threads


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
