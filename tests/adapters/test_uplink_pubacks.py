"""What the uplink makes of PUBACKs: lost, late, of nothing, many at once, and behind the end of a connection."""

import asyncio
import contextlib
import socket
import struct
import time

import pytest

from agent.adapters.uplink import MESSAGE_SIZE_MAX
from agent.errors import UplinkDown
from tests.adapters.link import ACKNOWLEDGEMENT, BATCH, PATIENCE_S, on_script
from tests.adapters.scripted_broker import (
    CONNECT,
    DISCONNECT,
    PUBACK,
    SUBSCRIBE,
    Dialogue,
)


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
        while not lost.done() and time.monotonic() - begun < 20:
            with contextlib.suppress(UplinkDown):
                await link.uplink.publish(BATCH, b"others go on")
            await asyncio.sleep(0.02)
        assert 0.4 < time.monotonic() - begun < 20
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

    async with on_script(thin, ack_timeout_s=0.9) as (link, broker):
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


async def test_many_answers_at_once_are_read_in_turns() -> None:
    """More packets than one turn of the event loop takes: none of them waits for the next event of the socket."""

    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        identifier = await dialogue.hear_publish()
        for number in range(60_000, 60_200):
            dialogue.acknowledge(number)
        dialogue.acknowledge(identifier)
        await dialogue.until_the_end()

    async with on_script(script) as (link, _):
        await link.next_connected()
        async with asyncio.timeout(PATIENCE_S):
            await link.uplink.publish(BATCH, b"x")


async def test_nothing_to_send_is_sent_without_a_word() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        await dialogue.until_the_end()

    async with on_script(script) as (link, broker):
        await link.next_connected()
        await link.uplink.publish_all(BATCH, [], lambda place: None)
    assert [kind for kind, _, _ in broker.dialogues[0].heard] == [CONNECT, SUBSCRIBE, DISCONNECT]


async def test_a_message_with_qos_0_is_taken_and_not_acknowledged() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.send(ACKNOWLEDGEMENT, b"without", qos=0)
        dialogue.send(ACKNOWLEDGEMENT, b"with", identifier=7)
        await dialogue.until_the_end()

    async with on_script(script) as (link, broker):
        await link.next_connected()
        assert [(await link.next_received()).payload for _ in range(2)] == [b"without", b"with"]
    heard = [body for kind, _, body in broker.dialogues[0].heard if kind == PUBACK]
    assert [body[:2] for body in heard] == [struct.pack("!H", 7)]


async def test_what_was_taken_before_the_end_can_be_read_after_it_and_what_came_behind_is_not() -> None:
    async def script(dialogue: Dialogue) -> None:
        await dialogue.admit()
        dialogue.send(ACKNOWLEDGEMENT, b"before", identifier=1)
        dialogue.say(DISCONNECT, b"\x8b\0")
        dialogue.send(ACKNOWLEDGEMENT, b"behind", identifier=2)
        await dialogue.until_the_end()

    async def silent(dialogue: Dialogue) -> None:
        await dialogue.until_the_end()

    async with on_script(script, silent) as (link, _):
        await link.next_connected()
        await asyncio.sleep(0.2)
        assert (await link.next_received()).payload == b"before"
        assert "shutting down" in await link.next_disconnected()


async def test_a_broker_that_has_stopped_reading_does_not_hold_up_a_stop() -> None:
    """Neither the PUBACKs that do not come nor a goodbye that does not fit into the line are waited for any longer."""

    async def deaf(dialogue: Dialogue) -> None:
        await dialogue.admit()
        await asyncio.sleep(60)

    async with on_script(deaf, stop_limit_s=0.4) as (link, _):
        await link.next_connected()
        sending = [
            asyncio.create_task(link.uplink.publish(BATCH, bytes(MESSAGE_SIZE_MAX))) for _ in range(40)
        ]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await link.uplink.stop()
        assert time.monotonic() - began < 15, "the time-out of an acknowledgement is 20 s"
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(result, UplinkDown) for result in results)
