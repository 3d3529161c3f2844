"""The small broker, with paho as its client and with bytes where paho cannot be made to misbehave."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import MQTTProtocolVersion

from simulators.broker import ALWAYS, Broker, Faults, Limits
from simulators.broker.packets import Cursor, Malformed, decode_connect, decode_publish, decode_subscribe
from simulators.broker.topics import is_filter, matches, split_share
from tests.simulators.mqtt_client import PATIENCE_S, Client, client, will_properties
from tests.support.eventually import eventually


@pytest.mark.parametrize(
    ("pattern", "topic", "wanted"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("kwh/v1/+/+/up/batch", "kwh/v1/o/a/up/batch", True),
        ("kwh/v1/+/+/up/batch", "kwh/v1/o/a/up/desc", False),
        ("+", "/a", False),
        ("/+", "/a", True),
    ],
)
def test_filters_match_as_the_standard_says(pattern: str, topic: str, wanted: bool) -> None:
    assert matches(pattern, topic) is wanted


@pytest.mark.parametrize("pattern", ["", "a#", "a/#/b", "a+/b", "+a"])
def test_a_bad_filter_is_no_filter(pattern: str) -> None:
    assert not is_filter(pattern)


def test_shared_filters_are_split() -> None:
    assert split_share("$share/g/a/+") == ("g", "a/+")
    assert split_share("a/b") == (None, "a/b")
    assert [split_share(bad) for bad in ("$share/g", "$share//a", "$share/+/a", "$share/g/a#")] == [None] * 4


@given(st.binary(max_size=80), st.integers(0, 15))
def test_arbitrary_bytes_are_decoded_or_malformed_and_nothing_else(data: bytes, flags: int) -> None:
    for decode in (
        lambda: decode_connect(data),
        lambda: decode_connect(b"\0\4MQTT\5" + data),
        lambda: decode_publish(flags, data, 5),
        lambda: decode_subscribe(data, 5),
        lambda: Cursor(data).properties(),
    ):
        with contextlib.suppress(Malformed):
            decode()


async def test_connack_tells_the_limits_and_an_assigned_id() -> None:
    async with Broker(limits=Limits(packet_max=50_000, receive_maximum=7)) as broker:
        nameless = Client("")
        _, code, properties = await nameless.connect(broker.url)
        assert code.value == 0
        assert properties.MaximumPacketSize == 50_000
        assert properties.ReceiveMaximum == 7
        assert properties.AssignedClientIdentifier in broker.clients
        nameless.stop()


async def test_messages_reach_plain_and_wildcard_subscribers_with_both_qualities() -> None:
    async with Broker() as broker, client(broker.url, "a") as a, client(broker.url, "b") as b:
        assert await a.subscribe("t/+", "t/x/#") == [1, 1]
        assert await b.publish("t/x", b"once although two filters match") == 0
        assert await a.message() == ("t/x", b"once although two filters match", False)
        await b.publish("t/y", b"zero", qos=0)
        assert await a.message() == ("t/y", b"zero", False)
        await a.silence()


async def test_nobody_subscribed_is_said_in_the_puback() -> None:
    async with Broker() as broker, client(broker.url, "a") as a:
        assert await a.publish("t", b"x") == 0x10


async def test_retained_messages_come_first_and_an_empty_one_clears() -> None:
    async with Broker() as broker, client(broker.url, "a") as a, client(broker.url, "b") as b:
        await a.publish("t", b"old", retain=True)
        await a.publish("t", b"new", retain=True)
        await b.subscribe("t")
        assert await b.message() == ("t", b"new", True)
        await a.publish("t", b"live", retain=True)
        assert await b.message() == ("t", b"live", False)
        await a.publish("t", b"", retain=True)
        assert broker.retained == {}


async def test_a_group_shares_the_messages_and_outlives_a_member() -> None:
    async with Broker() as broker, client(broker.url, "p") as p:
        one, two = Client("one"), Client("two")
        for member in (one, two):
            await member.connect(broker.url)
            await member.subscribe("$share/g/t/#")
        for number in range(10):
            assert await p.publish(f"t/{number}", b"x") == 0
        await eventually(lambda: one.messages.qsize() + two.messages.qsize() == 10)
        assert (one.messages.qsize(), two.messages.qsize()) == (5, 5)
        two.stop()
        for number in range(4):
            await p.publish(f"t/{number}", b"x")
        await eventually(lambda: one.messages.qsize() == 9)
        one.stop()


async def test_a_dying_client_leaves_its_will_and_a_polite_one_does_not() -> None:
    async with Broker() as broker, client(broker.url, "w") as watcher:
        await watcher.subscribe("will/+")
        for name, polite in (("rude", False), ("polite", True)):
            made = Client(name)
            made.paho.will_set(f"will/{name}", b"gone", qos=1, retain=True)
            await made.connect(broker.url)
            if polite:
                made.stop()
            else:
                made.die()
                assert await watcher.message() == ("will/rude", b"gone", False)
                made.stop()
        await watcher.silence()
        assert set(broker.retained) == {"will/rude"}


async def test_a_delayed_will_waits_and_is_cancelled_by_the_return() -> None:
    async with Broker() as broker, client(broker.url, "w") as watcher:
        await watcher.subscribe("will")
        for returns in (True, False):
            first = Client("gw")
            first.paho.will_set("will", b"gone", qos=1, properties=will_properties(2 if returns else 1))
            await first.connect(broker.url, expiry_s=30)
            died = asyncio.get_running_loop().time()
            first.die()
            if returns:
                again = Client("gw")
                flags, _, _ = await again.connect(broker.url, clean=False, expiry_s=30)
                assert flags.session_present
                await watcher.silence(2.2)
                again.stop()
            else:
                assert (await watcher.message())[1] == b"gone"
                assert asyncio.get_running_loop().time() - died >= 0.95
            first.stop()


async def test_a_clean_start_ends_the_old_session_and_sends_its_waiting_will() -> None:
    async with Broker() as broker, client(broker.url, "w") as watcher:
        await watcher.subscribe("will")
        first = Client("gw")
        first.paho.will_set("will", b"gone", qos=1, properties=will_properties(30))
        await first.connect(broker.url, expiry_s=60)
        first.die()
        await watcher.silence(0.2)
        async with client(broker.url, "gw"):
            assert (await watcher.message())[1] == b"gone"
        first.stop()


async def test_the_same_id_takes_the_session_over() -> None:
    async with Broker() as broker, client(broker.url, "twin") as first, client(broker.url, "twin"):
        assert await asyncio.wait_for(first.left.get(), PATIENCE_S) == 0x8E
        assert broker.clients == {"twin"}


async def test_a_kept_session_receives_what_came_while_it_was_away() -> None:
    async with Broker() as broker, client(broker.url, "p") as p:
        first = Client("s")
        await first.connect(broker.url, clean=False, expiry_s=60)
        await first.subscribe("t")
        first.stop()
        assert await p.publish("t", b"kept") == 0
        again = Client("s")
        flags, _, _ = await again.connect(broker.url, clean=False, expiry_s=60)
        assert flags.session_present
        assert (await again.message())[1] == b"kept"
        again.stop()


async def test_what_was_not_acknowledged_is_sent_again_after_a_reconnect() -> None:
    async with Broker() as broker, client(broker.url, "p") as p:
        first = Client("s")
        first.paho.manual_ack_set(True)
        await first.connect(broker.url, clean=False, expiry_s=60)
        await first.subscribe("t")
        await p.publish("t", b"x")
        assert (await first.message())[1] == b"x"
        first.die()
        first.stop()
        again = Client("s")
        await again.connect(broker.url, clean=False, expiry_s=60)
        message = await asyncio.wait_for(again.messages.get(), PATIENCE_S)
        assert message.payload == b"x"
        assert message.dup
        again.stop()


async def test_a_queue_is_bounded_and_says_what_it_dropped() -> None:
    async with Broker(limits=Limits(queue_max=3)) as broker, client(broker.url, "p") as p:
        first = Client("s")
        await first.connect(broker.url, clean=False, expiry_s=60)
        await first.subscribe("t")
        first.stop()
        for number in range(5):
            assert await p.publish("t", bytes([number])) == 0
        assert broker.counts["drop"] == 2


async def test_silence_beyond_the_keep_alive_ends_the_connection() -> None:
    async with Broker() as broker:
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        writer.write(b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x01\x00\x00\x02gw")
        assert (await reader.readexactly(2))[0] == 0x20
        await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert broker.counts["keep-alive"] == 1
        writer.close()


async def test_pings_keep_a_quiet_client_alive() -> None:
    async with Broker() as broker, client(broker.url, "quiet", keep_alive_s=2):
        await asyncio.sleep(3.5)
        assert broker.clients == {"quiet"}


async def test_version_311_is_served_as_it_expects() -> None:
    async with Broker() as broker:
        old = Client("old", version=MQTTProtocolVersion.MQTTv311)
        await old.connect(broker.url)
        assert await old.subscribe("t") == [1]
        assert await old.publish("t", b"x") == 0
        assert await old.message() == ("t", b"x", False)
        assert await old.publish("nobody", b"x") == 0
        old.stop()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", b"\x20\x02\x00\x01"),
        (b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x3c\x00\x00", b"\x20\x03\x00\x84\x00"),
        (b"\xc0\x00", b"\xe0\x01\x81"),
        (b"\x10\xff\xff\xff\x7f", b"\xe0\x01\x95"),
    ],
    ids=["version 3.1", "version 6", "PINGREQ first", "far too large"],
)
async def test_a_wrong_start_is_refused_with_the_right_code(sent: bytes, answer: bytes) -> None:
    async with Broker() as broker:
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == answer
        writer.close()


async def test_a_packet_beyond_the_limit_ends_the_connection_with_its_reason() -> None:
    async with Broker(limits=Limits(packet_max=1000)) as broker, client(broker.url, "a") as a:
        a.paho.publish("t", b"x" * 2000, qos=1)
        assert await asyncio.wait_for(a.left.get(), PATIENCE_S) == 0x95


async def test_quality_two_is_not_offered() -> None:
    async with Broker() as broker, client(broker.url, "a") as a:
        a.paho.publish("t", b"x", qos=2)
        assert await asyncio.wait_for(a.left.get(), PATIENCE_S) == 0x9B


# ---------------------------------------------------------------------------------------------------- faults


async def test_a_dropped_puback_is_delivered_all_the_same() -> None:
    faults = Faults(drop_puback=1)
    async with Broker(faults=faults) as broker, client(broker.url, "a") as a, client(broker.url, "b") as b:
        await b.subscribe("t")
        a.paho.publish("t", b"x", qos=1)
        assert (await b.message())[1] == b"x"
        await asyncio.sleep(0.2)
        assert a.acknowledged.empty()
        assert await a.publish("t", b"y") == 0


async def test_a_delayed_puback_comes_later() -> None:
    async with Broker(faults=Faults(delay_puback_ms=300)) as broker, client(broker.url, "a") as a:
        began = asyncio.get_running_loop().time()
        await a.publish("t", b"x")
        assert asyncio.get_running_loop().time() - began >= 0.29


async def test_acknowledged_and_forgotten() -> None:
    faults = Faults(forget=ALWAYS, topics="t/#")
    async with Broker(faults=faults) as broker, client(broker.url, "a") as a, client(broker.url, "b") as b:
        await b.subscribe("#")
        assert await a.publish("t/1", b"lost") == 0
        assert await a.publish("u", b"spared") == 0
        assert await b.message() == ("u", b"spared", False)
        faults.forget = 0
        await a.publish("t/1", b"back")
        assert (await b.message())[1] == b"back"


async def test_a_duplicate_is_delivered_twice() -> None:
    faults = Faults(duplicate=1)
    async with Broker(faults=faults) as broker, client(broker.url, "a") as a, client(broker.url, "b") as b:
        await b.subscribe("t")
        await a.publish("t", b"x")
        await a.publish("t", b"y")
        assert [(await b.message())[1] for _ in range(3)] == [b"x", b"x", b"y"]


async def test_a_connection_is_cut_after_so_many_packets() -> None:
    faults = Faults(cut_after=2)
    async with Broker(faults=faults) as broker, client(broker.url, "a") as a:
        assert await a.publish("t", b"1") == 0x10
        assert await a.publish("t", b"2") == 0x10
        a.paho.publish("t", b"3", qos=1)
        assert await asyncio.wait_for(a.left.get(), PATIENCE_S) >= 0x80
        assert broker.counts["cut"] == 1


@pytest.mark.parametrize("code", [0x86, 0x87, 0x88])
async def test_connections_are_refused_with_a_reason(code: int) -> None:
    async with Broker(faults=Faults(refuse_connect=code)) as broker:
        refused = Client("a")
        _, reason, _ = await refused.connect(broker.url)
        assert reason.value == code
        refused.stop()


async def test_topics_are_denied_and_quotas_exceeded() -> None:
    faults = Faults(deny={"no/+"}, over_quota={"full/#"})
    async with Broker(faults=faults) as broker, client(broker.url, "a") as a:
        await a.subscribe("#")
        assert await a.publish("no/entry", b"x") == 0x87
        assert await a.publish("full/up", b"x") == 0x97
        assert await a.publish("yes", b"x") == 0
        assert (await a.message())[0] == "yes"


async def test_a_frozen_broker_answers_nothing_until_it_thaws() -> None:
    faults = Faults()
    async with Broker(faults=faults) as broker, client(broker.url, "a") as a:
        faults.frozen = True
        a.paho.publish("t", b"x", qos=1)
        await asyncio.sleep(0.3)
        assert a.acknowledged.empty()
        faults.frozen = False
        assert (await asyncio.wait_for(a.acknowledged.get(), PATIENCE_S))[1] == 0x10


async def test_a_kicked_client_and_a_restarted_broker_on_the_same_port() -> None:
    broker = Broker()
    await broker.start()
    url = broker.url
    first = Client("a")
    await first.connect(url)
    await first.publish("t", b"x", retain=True)
    assert broker.kick("a")
    await asyncio.wait_for(first.left.get(), PATIENCE_S)
    await broker.stop()
    await broker.start()
    assert broker.url == url
    assert broker.retained == {}
    async with client(url, "a") as again:
        assert await again.publish("t", b"x") == 0x10
    first.stop()
    await broker.stop()


async def test_a_thousand_messages_of_a_batch_size_pass_quickly() -> None:
    """Not a benchmark: a floor far below what was measured, so that a quadratic mistake shows."""
    async with (
        Broker(limits=Limits(queue_max=5000)) as broker,
        client(broker.url, "a") as a,
        client(broker.url, "b") as b,
    ):
        await b.subscribe("t")
        began = asyncio.get_running_loop().time()
        for _ in range(1000):
            a.paho.publish("t", b"x" * 12_000, qos=1)
        for _ in range(1000):
            await b.message()
        assert asyncio.get_running_loop().time() - began < 30
