"""What the uplink promises, on Debian's mosquitto and on our own broker alike."""

import asyncio
import contextlib
import functools
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest

from agent.adapters.uplink import MqttUplink
from agent.errors import UplinkDown, UplinkRefused
from agent.service.ports import Connected, Disconnected, Received, UplinkEvent, Will
from simulators.broker import Broker
from tests.support.eventually import eventually
from tests.support.mosquitto import Mosquitto

BATCH = "kwh/v1/zj/gw01/up/batch"
STATUS = "kwh/v1/zj/gw01/up/status"
ACKNOWLEDGEMENT = "kwh/v1/zj/gw01/down/ack"
PATIENCE_S = 60


class Stage(Protocol):
    """A broker that a test can hurt."""

    @property
    def url(self) -> str: ...
    async def deny(self, topic: str) -> None:
        """Forbid publishing to this topic."""

    async def want_password(self) -> None:
        """Let nobody in who does not know it."""

    async def kill(self) -> None: ...
    async def start_again(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class MosquittoStage:
    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker

    @property
    def url(self) -> str:
        return self._broker.url

    async def deny(self, topic: str) -> None:
        self._broker.acl = f"topic readwrite #\ntopic deny {topic}\n"
        self._broker.restart()

    async def want_password(self) -> None:
        self._broker.users = {"gw01": "right"}
        self._broker.restart()

    async def kill(self) -> None:
        self._broker.kill()

    async def start_again(self) -> None:
        self._broker.start()

    def freeze(self) -> None:
        self._broker.freeze()

    def thaw(self) -> None:
        self._broker.thaw()


class OwnStage:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def url(self) -> str:
        return self._broker.url

    async def deny(self, topic: str) -> None:
        self._broker.faults.deny.add(topic)

    async def want_password(self) -> None:
        self._broker.faults.refuse_connect = 0x86

    async def kill(self) -> None:
        await self._broker.stop()

    async def start_again(self) -> None:
        self._broker.faults.frozen = False
        await self._broker.start()

    def freeze(self) -> None:
        self._broker.faults.frozen = True

    def thaw(self) -> None:
        self._broker.faults.frozen = False


@pytest.fixture(params=["mosquitto", "ours"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "mosquitto":
        yield MosquittoStage(request.getfixturevalue("mosquitto"))
        return
    async with Broker() as broker:
        yield OwnStage(broker)


class Gateway:
    """An uplink whose events are collected."""

    def __init__(self, url: str, client_id: str = "gw01", **options: object) -> None:
        defaults: dict[str, object] = {
            "backoff_min_s": 0.05,
            "backoff_max_s": 0.5,
            "refused_wait_s": 0.3,
            "will_delay_s": 0,
        }
        self.uplink = MqttUplink(url, client_id=client_id, **(defaults | options))  # type: ignore[arg-type]
        self.events: list[UplinkEvent] = []
        self.sessions: list[str] = []
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def start(self, *topics: str) -> None:
        await self.uplink.start(subscribe=topics, will=self._will)
        self._reader = asyncio.get_running_loop().create_task(self._read())

    def _will(self, session: str) -> Will:
        self.sessions.append(session)
        return Will(STATUS, b"offline " + session.encode())

    async def _read(self) -> None:
        async for event in self.uplink.events():
            self.events.append(event)
            self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def stop(self) -> None:
        await self.uplink.stop()
        if self._reader is not None:
            await self._reader

    def connections(self) -> list[Connected]:
        return [event for event in self.events if isinstance(event, Connected)]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Disconnected)]

    def received(self) -> list[Received]:
        return [event for event in self.events if isinstance(event, Received)]


@contextlib.asynccontextmanager
async def gateway(
    stage: Stage | str, *topics: str, client_id: str = "gw01", **options: object
) -> AsyncIterator[Gateway]:
    """A gateway that is connected, and stopped at the end."""
    one = Gateway(stage if isinstance(stage, str) else stage.url, client_id, **options)
    await one.start(*topics)
    try:
        await one.until(lambda: bool(one.events))
        yield one
    finally:
        await one.stop()


async def delivered(publish: Callable[[], Awaitable[None]]) -> None:
    """Publish until it is delivered, as the publish stage does over an interruption."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await publish()
            except (UplinkDown, UplinkRefused):
                await asyncio.sleep(0.05)


# ------------------------------------------------------------------------------------------------------- publishing


async def test_a_message_reaches_a_subscriber_byte_for_byte(stage: Stage) -> None:
    payload = bytes(range(256)) * 190  # nearly as large as a batch can be
    async with gateway(stage, BATCH, client_id="platform") as platform, gateway(stage) as one:
        await one.uplink.publish(BATCH, payload)
        await platform.until(lambda: bool(platform.received()))
    assert platform.received() == [Received(BATCH, payload, False)]


@pytest.mark.fault("F66")
async def test_nobody_subscribed_is_not_delivered(stage: Stage) -> None:
    async with gateway(stage) as one:
        with pytest.raises(UplinkRefused) as error:
            await one.uplink.publish(BATCH, b"x")
        assert error.value.code == 0x10
        assert "nobody is subscribed" in str(error.value)
        assert one.reasons() == [], "the connection stays"


@pytest.mark.fault("F67")
async def test_a_forbidden_topic_is_refused_and_says_whom_to_ask(stage: Stage) -> None:
    await stage.deny(BATCH)
    async with gateway(stage, BATCH, client_id="platform"), gateway(stage) as one:
        with pytest.raises(UplinkRefused) as error:
            await one.uplink.publish(BATCH, b"x")
        assert error.value.code == 0x87
        assert "operator" in str(error.value)


async def test_two_hundred_messages_in_a_window_of_eight_arrive_once_and_in_order(stage: Stage) -> None:
    async with gateway(stage, BATCH, client_id="platform") as platform, gateway(stage) as one:
        window = asyncio.Semaphore(8)

        async def send(number: int) -> None:
            try:
                await one.uplink.publish(BATCH, b"%d" % number)
            finally:
                window.release()

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                await window.acquire()
                group.create_task(send(number))
        await platform.until(lambda: len(platform.received()) >= 200)
    assert [int(message.payload) for message in platform.received()] == list(range(200))


async def test_publishing_without_a_connection_is_down_at_once_and_nothing_is_sent_later(
    stage: Stage,
) -> None:
    one = Gateway(stage.url)
    with pytest.raises(UplinkDown):
        await one.uplink.publish(BATCH, b"too early")
    async with gateway(stage, BATCH, client_id="platform") as platform:
        await one.start()
        with pytest.raises(UplinkDown):
            await one.uplink.publish(BATCH, b"still too early")
        await one.until(lambda: bool(one.connections()))
        await one.uplink.publish(BATCH, b"in time")
        await one.stop()
        with pytest.raises(UplinkDown):
            await one.uplink.publish(BATCH, b"too late")
        await platform.until(lambda: bool(platform.received()))
        await asyncio.sleep(0.1)
        assert [message.payload for message in platform.received()] == [b"in time"]


# ---------------------------------------------------------------------------------------------------- interruptions


async def test_a_killed_broker_brings_down_every_waiting_publish(stage: Stage) -> None:
    async with gateway(stage, ack_timeout_s=30.0) as one:
        stage.freeze()
        waiting = [asyncio.create_task(one.uplink.publish(BATCH, b"x")) for _ in range(30)]
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        await stage.kill()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [UplinkDown] * 30
        assert time.monotonic() - begun < 20
        await one.until(lambda: bool(one.reasons()))


async def test_a_frozen_broker_is_noticed_by_the_missing_acknowledgement(stage: Stage) -> None:
    async with gateway(stage, ack_timeout_s=0.5) as one:
        stage.freeze()
        begun = time.monotonic()
        with pytest.raises(UplinkDown, match="no acknowledgement"):
            await one.uplink.publish(BATCH, b"x")
        assert 0.4 < time.monotonic() - begun < 15
        stage.thaw()
        await one.until(lambda: len(one.connections()) == 2)


@pytest.mark.fault("F60")
async def test_a_frozen_broker_is_noticed_by_the_keep_alive_when_nothing_is_sent(stage: Stage) -> None:
    async with gateway(stage, keepalive_s=1) as one:
        stage.freeze()
        await one.until(lambda: bool(one.reasons()))
        assert "silent" in one.reasons()[0]
        stage.thaw()


async def test_it_comes_back_by_itself_with_a_new_session_and_sends_nothing_twice(stage: Stage) -> None:
    async with gateway(stage, ACKNOWLEDGEMENT, ack_timeout_s=10.0) as one:
        stage.freeze()
        lost = asyncio.create_task(one.uplink.publish(BATCH, b"lost"))
        await asyncio.sleep(0.1)
        await stage.kill()
        with pytest.raises(UplinkDown):
            await lost
        await asyncio.sleep(0.3)
        await stage.start_again()
        async with gateway(stage, BATCH, client_id="platform") as platform:
            await delivered(lambda: one.uplink.publish(BATCH, b"sent again by its owner"))
            await platform.until(lambda: bool(platform.received()))
            await asyncio.sleep(0.2)
        assert [message.payload for message in platform.received()] == [b"sent again by its owner"]
        # Still subscribed, too.
        await delivered(lambda: one.uplink.publish(ACKNOWLEDGEMENT, b"ack"))
        await one.until(lambda: bool(one.received()))
    sessions = [event.session for event in one.connections()]
    assert len(sessions) == 2
    assert len(set(one.sessions)) == len(one.sessions), "every attempt has a session and a will of its own"
    assert set(sessions) <= set(one.sessions)
    kinds = [type(event) for event in one.events if not isinstance(event, Received)]
    assert kinds[0] is Connected
    assert kinds[-1] is Disconnected


async def test_a_wrong_password_says_so_and_is_tried_again_slowly(stage: Stage) -> None:
    await stage.want_password()
    one = Gateway(stage.url, username="gw01", password="wrong", backoff_min_s=0.01, refused_wait_s=1.0)
    begun = time.monotonic()  # before the refusal: the wait may begin before we hear of it
    await one.start()
    await one.until(lambda: bool(one.reasons()))
    assert re.search("user name.* password", one.reasons()[0])  # mosquitto only says "not authorised"
    await one.until(lambda: len(one.sessions) == 2 and len(one.events) >= 1)
    assert time.monotonic() - begun >= 0.4, "half of the wait at least"
    await one.stop()
    assert one.connections() == []


@pytest.mark.fault("F72")
async def test_no_broker_at_all_is_tried_for_ever(stage: Stage) -> None:
    await stage.kill()
    one = Gateway(stage.url)
    await one.start()
    await eventually(lambda: len(one.sessions) >= 4 and bool(one.reasons()))
    assert "nobody listens there" in one.reasons()[0]
    await stage.start_again()
    await one.until(lambda: bool(one.connections()))
    await one.stop()


async def test_twenty_reconnections_leave_neither_threads_nor_files_behind(stage: Stage) -> None:
    async with gateway(stage, ACKNOWLEDGEMENT, backoff_max_s=0.05, refused_wait_s=0.05) as one:
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for number in range(20):
            connection = one.uplink._connection
            assert connection is not None
            connection._client.cut()
            await one.until(functools.partial(lambda wanted: len(one.connections()) == wanted, number + 2))
        # Our own broker lives in this process and closes its end of the last connection a little later.
        await eventually(lambda: threading.active_count() <= threads)
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= files)
    names = [thread.name for thread in threading.enumerate()]
    assert "uplink" not in names


# -------------------------------------------------------------------------------------------------------- receiving


async def test_a_retained_message_comes_after_the_connection_and_is_marked(stage: Stage) -> None:
    async with gateway(stage, client_id="platform") as platform:
        with contextlib.suppress(UplinkRefused):  # nobody is subscribed yet, and it is retained all the same
            await platform.uplink.publish(ACKNOWLEDGEMENT, b"head 41", retain=True)
        async with gateway(stage, ACKNOWLEDGEMENT) as one:
            await one.until(lambda: bool(one.received()))
            await platform.uplink.publish(ACKNOWLEDGEMENT, b"head 42", retain=True)
            await one.until(lambda: len(one.received()) == 2)
    assert isinstance(one.events[0], Connected)
    assert one.received() == [
        Received(ACKNOWLEDGEMENT, b"head 41", True),
        Received(ACKNOWLEDGEMENT, b"head 42", False),
    ]


async def test_a_slow_reader_holds_the_broker_back_and_loses_nothing(stage: Stage) -> None:
    async with gateway(stage, client_id="platform") as platform:
        one = MqttUplink(stage.url, client_id="gw01")
        await one.start(subscribe=(ACKNOWLEDGEMENT,), will=lambda session: Will(STATUS, session.encode()))
        events = one.events()
        assert isinstance(await anext(events), Connected)
        for number in range(40):
            await platform.uplink.publish(ACKNOWLEDGEMENT, b"%d" % number)
        await asyncio.sleep(0.3)
        assert one._mailbox.unread() <= 8
        payloads = []
        for _ in range(40):
            event = await asyncio.wait_for(anext(events), PATIENCE_S)
            assert isinstance(event, Received)
            payloads.append(int(event.payload))
        assert payloads == list(range(40))
        await one.stop()
        remaining = [event async for event in events]
        assert [type(event) for event in remaining] == [Disconnected]


# ------------------------------------------------------------------------------------------------------------- will


async def test_the_will_speaks_for_a_gateway_that_died_and_names_its_session(stage: Stage) -> None:
    async with gateway(stage, STATUS, client_id="platform") as platform:
        async with gateway(stage, backoff_min_s=5.0, backoff_max_s=5.0) as one:
            connection = one.uplink._connection
            assert connection is not None
            connection._client.cut()  # as after a power cut: the connection is gone without a word
            await platform.until(lambda: bool(platform.received()))
        assert platform.received() == [Received(STATUS, b"offline " + one.sessions[0].encode(), False)]
    async with gateway(stage, STATUS, client_id="auditor") as auditor:
        await auditor.until(lambda: bool(auditor.received()))
        assert auditor.received()[0].retained, "the will is kept for those who come later"


async def test_the_will_waits_for_a_gateway_that_may_come_back(stage: Stage) -> None:
    async with (
        gateway(stage, STATUS, client_id="platform") as platform,
        gateway(stage, backoff_min_s=30.0, will_delay_s=2) as one,
    ):
        connection = one.uplink._connection
        assert connection is not None
        begun = time.monotonic()
        connection._client.cut()
        await platform.until(lambda: bool(platform.received()))
        assert time.monotonic() - begun > 1


async def test_a_gateway_that_stops_in_good_order_leaves_no_will(stage: Stage) -> None:
    async with gateway(stage, STATUS, client_id="platform") as platform:
        async with gateway(stage) as one:
            await one.uplink.publish(STATUS, b"online", retain=True)
        await asyncio.sleep(0.3)
        assert [message.payload for message in platform.received()] == [b"online"]


async def test_stop_waits_for_what_is_on_its_way_but_not_for_ever(stage: Stage) -> None:
    async with gateway(stage, BATCH, client_id="platform"), gateway(stage, stop_limit_s=15) as one:
        sent = [asyncio.create_task(one.uplink.publish(BATCH, b"x")) for _ in range(8)]
        await asyncio.sleep(0)
        await one.uplink.stop()
        assert await asyncio.gather(*sent) == [None] * 8
    async with gateway(stage, stop_limit_s=0.6) as one:
        stage.freeze()
        late = asyncio.create_task(one.uplink.publish(BATCH, b"x"))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        await one.uplink.stop()
        assert time.monotonic() - begun < 15, "the time-out of an acknowledgement is 20 s"
        with pytest.raises(UplinkDown):
            await late
        stage.thaw()


# ------------------------------------------------------------------------------------------------ two with one name


async def hears_of_a_twin(one: Gateway) -> None:
    await one.until(lambda: any("client id" in reason for reason in one.reasons()))


@pytest.mark.fault("F73")
async def test_two_gateways_with_one_name_do_not_throw_each_other_out_for_ever(stage: Stage) -> None:
    async with gateway(stage, refused_wait_s=60.0) as first, gateway(stage, refused_wait_s=60.0) as second:
        both = (first, second)
        await first.until(lambda: bool(first.reasons()))
        twins = [asyncio.ensure_future(hears_of_a_twin(one)) for one in both]
        await asyncio.wait(twins, return_when=asyncio.FIRST_COMPLETED)
        for twin in twins:
            twin.cancel()
        await asyncio.sleep(1.0)
        made = [len(one.connections()) for one in both]
        assert sum(made) <= 2 * 5 + 1
        await asyncio.sleep(0.5)
        assert [len(one.connections()) for one in both] == made, "one waits, and the other one works"
        with pytest.raises(UplinkRefused):
            winner = first if isinstance(first.events[-1], Connected) else second
            await winner.uplink.publish(BATCH, b"x")
