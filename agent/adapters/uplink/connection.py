"""One connection to the broker, from CONNECT to its end: a paho client, its thread, and what waits for its answers.

Made by `supervisor`, which throws it away when it has ended. The network thread only hands over to the event loop;
whatever ends the thread, the loop learns of it and of the cause.
"""

import asyncio
import logging
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.adapters.uplink.answers import (
    Answer,
    ending_of,
    in_its_words,
    packed,
    properties_of,
    refused,
    settle,
)
from agent.adapters.uplink.client import Client
from agent.adapters.uplink.limits import (
    CONTENT_TYPE,
    HANDED_BYTES_MAX,
    HANDED_MAX,
    IN_FLIGHT_BYTES_MAX,
    IN_FLIGHT_MAX,
    PACKET_SIZE_MAX,
    UNREAD_MAX,
)
from agent.adapters.uplink.reasons import (
    CLOSED_WITHOUT_A_WORD,
    CONNECTION_CODES,
    BrokerMisbehaves,
    Ending,
    Pace,
    describe_failure,
)
from agent.adapters.uplink.tunnel import Proxy
from agent.errors import UplinkDown
from agent.service.logline import pairs
from agent.service.ports import Will

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Everything that stays the same from connection to connection."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None
    keepalive_s: int
    ack_timeout_s: float
    connect_timeout_s: float
    will_delay_s: int
    path: str | None = None
    proxy: Proxy | None = None

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(slots=True)
class _Waiting:
    """A publish without its PUBACK. `since`: when it left, or when a later one was acknowledged before it."""

    answer: "asyncio.Future[Answer | None]"
    size: int
    since: float
    overtaken: bool = False


class Connection:
    """One paho client, its thread, and what waits for it. All methods but `_network` run in the event loop."""

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        will: Will,
        deliver: "Callable[[Connection, mqtt.MQTTMessage], None]",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._secure = context is not None
        self._deliver = deliver
        self._connack: asyncio.Future[Answer | None] = self._loop.create_future()
        self._suback: asyncio.Future[Answer | None] = self._loop.create_future()
        self._waiting: dict[int, _Waiting] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._acknowledged = 0
        self._window = IN_FLIGHT_MAX
        self._packet_size_max = 268_435_455
        self._retain_available = True
        self._abandoned = False
        self._places = threading.Semaphore(UNREAD_MAX)
        self.up = False
        self.up_since = 0.0
        self.early: list[mqtt.MQTTMessage] = []
        self.ending: Ending | None = None
        self.ended = asyncio.Event()
        properties = properties_of(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        self._content_type = packed(properties, PacketTypes.PUBLISH)
        self._reports: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._client = self._make_client(context, will)
        self._thread = threading.Thread(target=self._network, name="uplink", daemon=True)

    def _make_client(self, context: ssl.SSLContext | None, will: Will) -> Client:
        client, target = Client(self._target.client_id, self._target.path, self._target.proxy), self._target
        client.connect_timeout = target.connect_timeout_s
        if context is not None:
            client.tls_set_context(context)
        if target.username is not None:
            client.username_pw_set(target.username, target.password)
        properties = properties_of(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = target.will_delay_s
        properties.ContentType = CONTENT_TYPE
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=properties)
        # These run in the network thread. One line each: whatever else they did could fail there.
        client.on_connect = lambda _c, _u, _f, code, properties: self._post(
            self._on_connack, code, properties
        )
        client.on_subscribe = lambda _c, _u, _mid, codes, properties: self._post(
            self._on_suback, codes, properties
        )
        client.on_publish = lambda _c, _u, mid, code, properties: self._post(
            self._on_puback, mid, code, properties
        )
        client.on_message = lambda _c, _u, message: self._hand_over(message)
        client.on_disconnect = lambda _c, _u, flags, code, properties: self._post(
            self._on_disconnect, flags.is_disconnect_packet_from_server, code, properties
        )
        return client

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        """From the network thread: have this done in the event loop, which is woken once for many of them."""
        self._reports.append((function, arguments))
        if len(self._reports) == 1:
            self._loop.call_soon_threadsafe(self._take_reports)

    def _take_reports(self) -> None:
        """In the order in which they were posted; whoever posts into an empty list has woken us again."""
        while self._reports:
            function, arguments = self._reports.popleft()
            self._loop.call_soon(function, *arguments)

    # -- the network thread

    def _network(self) -> None:
        """Connect and serve the connection to its end. Whatever happens, the event loop learns of it."""
        target, client = self._target, self._client
        properties = properties_of(PacketTypes.CONNECT)
        properties.MaximumPacketSize = PACKET_SIZE_MAX
        properties.ReceiveMaximum = UNREAD_MAX
        # The will waits at the broker only as long as the session lives. Nothing else of the session is used.
        properties.SessionExpiryInterval = 2 * target.will_delay_s
        cause: BaseException | None = None
        result = mqtt.MQTT_ERR_SUCCESS
        try:
            client.connect(
                target.host, target.port, target.keepalive_s, clean_start=True, properties=properties
            )
            while not self._abandoned and (result := client.loop(timeout=1.0)) == mqtt.MQTT_ERR_SUCCESS:
                if client.holds_qos_2():
                    raise BrokerMisbehaves("the broker sent a message with QoS 2, which nobody subscribed to")
            if result == mqtt.MQTT_ERR_PROTOCOL:
                raise BrokerMisbehaves(
                    "the broker sent a packet that MQTT 5 does not allow; is it an MQTT 5 broker?"
                )
        except Exception as error:  # noqa: BLE001  # a thread must not end without saying why
            cause = error
        try:
            self._post(self._on_end, cause or client.failure)
        except RuntimeError:
            _log.debug("the event loop was closed before the connection", extra=pairs("M1412"))

    def _hand_over(self, message: mqtt.MQTTMessage) -> None:
        """Hand a message over when there is room for it; until then nothing more is read from the socket.

        The broker was told our Receive Maximum, but mosquitto 2.0.11 sends on regardless. A reader that stays away for
        longer than the keep-alive time loses the connection.
        """
        while self.ending is None:
            if self._places.acquire(timeout=0.2):
                self._post(self._on_message, message)
                return

    # -- what the network thread reports, in its order

    def _on_connack(self, code: ReasonCode, properties: Properties) -> None:
        if code.is_failure:  # the broker closes the connection, and that must not become the reason
            self._end(ending_of(CONNECTION_CODES, code.value, properties))
        settle(self._connack, Answer((code.value,), properties))

    def _on_suback(self, codes: list[ReasonCode], properties: Properties) -> None:
        settle(self._suback, Answer(tuple(code.value for code in codes), properties))

    def _on_puback(self, mid: int, code: ReasonCode, properties: Properties) -> None:
        waiting = self._waiting.pop(mid, None)
        if waiting is None:
            return
        self._acknowledged += 1
        for other in self._waiting.values():
            # A broker acknowledges in the order of arrival, so the PUBACK of an earlier one was lost. Its time-out runs
            # from now on, however much the others move.
            if other.since <= waiting.since and not other.overtaken:
                other.overtaken, other.since = True, self._loop.time()
        value = self._client.foreign_codes.pop(mid, code.value)
        settle(waiting.answer, Answer((value,), properties))
        self._changed.set()

    def _on_message(self, message: mqtt.MQTTMessage) -> None:
        if self.ending is None:
            self._deliver(self, message)

    def _on_disconnect(self, by_broker: bool, code: ReasonCode, properties: Properties) -> None:
        if by_broker:
            if code.value == 0x95 and self._waiting:
                # It does not say which one. The largest is refused for good, the others may try again.
                largest = max(self._waiting.values(), key=lambda waiting: waiting.size)
                settle(largest.answer, Answer((code.value,), properties))
            self._end(ending_of(CONNECTION_CODES, code.value, properties))
        elif code.value == 0x8D:
            self._end(Ending(f"the broker was silent for {2 * self._target.keepalive_s} s"))

    def _on_end(self, cause: BaseException | None) -> None:
        if cause is not None:
            self._end(describe_failure(cause))
        elif self.up:
            self._end(CLOSED_WITHOUT_A_WORD)
        else:
            hint = (
                "; over TLS this is how a missing or refused client certificate looks" if self._secure else ""
            )
            self._end(Ending(f"the broker closed the connection before it let us in{hint}"))
        self._thread.join()  # it has nothing left to do
        self._client.dispose()
        self.ended.set()

    # -- its life, seen from the event loop

    def begin(self) -> None:
        """Start to connect. `ended` is set when the thread has ended, whatever the reason."""
        self._thread.start()

    async def establish(self, topics: tuple[str, ...]) -> None:
        """Wait until the broker let us in and granted the subscription; then `up` is true, or `ending` says why not."""
        try:
            async with asyncio.timeout(self._target.connect_timeout_s):
                self.up = await self._is_admitted() and await self._is_subscribed(topics)
        except TimeoutError:
            self.fail(Ending(f"the broker did not answer within {self._target.connect_timeout_s:g} s"))
        self.up_since = self._loop.time()

    async def _is_admitted(self) -> bool:
        answer = await self._connack
        if answer is None:
            return False
        if getattr(answer.properties, "MaximumQoS", 1) < 1:
            self.fail(CONNECTION_CODES[0x9B])
            return False
        self._window = min(IN_FLIGHT_MAX, getattr(answer.properties, "ReceiveMaximum", IN_FLIGHT_MAX))
        self._packet_size_max = getattr(answer.properties, "MaximumPacketSize", self._packet_size_max)
        self._retain_available = bool(getattr(answer.properties, "RetainAvailable", 1))
        return True

    async def _is_subscribed(self, topics: tuple[str, ...]) -> bool:
        if not topics:
            return True
        self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        answer = await self._suback
        if answer is None:
            return False
        for topic, code in zip(topics, answer.codes, strict=False):
            if code != 1:
                remedy = "ask the platform's operator for the right to subscribe"
                reason = f"the broker did not grant {topic} with QoS 1 (reason code 0x{code:02X}); {remedy}"
                self.fail(Ending(reason + in_its_words(answer.properties), Pace.SLOWLY))
                return False
        return True

    async def watch(self) -> None:
        """Stay until the end; end the connection when a PUBACK does not come in time.

        The time-out runs from the last sign of life: bytes that left, bytes that the other side has acknowledged to
        the kernel, another PUBACK. So a slow link gets its time, and a frozen broker does not.
        """
        look_s = min(1.0, self._target.ack_timeout_s / 10)
        seen, moved = (0, 0, 0), self._loop.time()
        while self.ending is None:
            try:
                async with asyncio.timeout(look_s):
                    await self.ended.wait()
            except TimeoutError:
                mark = (self._client.bytes_sent, self._client.unsent_bytes(), self._acknowledged)
                if mark != seen:
                    seen, moved = mark, self._loop.time()
                if self._is_overdue(moved):
                    reason = f"no acknowledgement came within {self._target.ack_timeout_s:g} s"
                    self.fail(Ending(reason))

    def _is_overdue(self, moved: float) -> bool:
        limit = self._loop.time() - self._target.ack_timeout_s
        return any((w.since if w.overtaken else max(w.since, moved)) < limit for w in self._waiting.values())

    async def publish(self, topic: str, payload: bytes, retain: bool) -> None:
        """Send with QoS 1 and wait for reason code 0. Raises UplinkDown and UplinkRefused as the port says."""
        size = len(payload) + len(topic.encode()) + 64
        if size > self._packet_size_max:
            raise refused(topic, 0x95, f" (its limit is {self._packet_size_max} bytes)")
        if retain and not self._retain_available:
            raise refused(topic, 0x9A)
        async with self._turn:  # first come, first sent
            while self.ending is None and not self._has_room(size):
                self._changed.clear()
                await self._changed.wait()
            waiting = self._send(topic, payload, retain, size)
        # A caller that is cancelled must not free the place of a message that is on its way.
        answer = await asyncio.shield(waiting.answer)
        if answer is None:
            raise self._down()
        if answer.codes != (0,):
            raise refused(topic, answer.codes[0], in_its_words(answer.properties))

    def _has_room(self, size: int) -> bool:
        """Whether one more may be handed to the network thread, which keeps the window in messages and in bytes."""
        sizes = [waiting.size for waiting in self._waiting.values()]
        if sizes and (len(sizes) >= HANDED_MAX or sum(sizes) + size > HANDED_BYTES_MAX):
            return False
        fits = IN_FLIGHT_BYTES_MAX // max([size, *sizes])
        self._client.set_window(max(1, min(self._window, fits)))
        return True

    def _send(self, topic: str, payload: bytes, retain: bool, size: int) -> _Waiting:
        if self.ending is not None:
            raise self._down()
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=self._content_type)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            self.fail(Ending(f"the message could not be sent: {mqtt.error_string(info.rc)}"))
            raise self._down()
        waiting = _Waiting(self._loop.create_future(), size, self._loop.time())
        self._waiting[info.mid] = waiting
        return waiting

    def acknowledge(self, message: mqtt.MQTTMessage) -> None:
        """A message was read (or not wanted): the broker may send another."""
        self._places.release()
        if message.qos == 1 and self.ending is None:
            self._client.ack(message.mid, 1)

    def fail(self, ending: Ending) -> None:
        """End the connection at once, without a word to the broker (which then sends the will)."""
        self._end(ending)
        self._abandoned = True
        self._client.cut()

    async def close(self, limit_s: float) -> None:
        """Wait for PUBACKs that are on their way, say goodbye, and be gone after `limit_s` in any case."""
        answers = {waiting.answer for waiting in self._waiting.values()}
        if answers and self.up:
            await asyncio.wait(answers, timeout=limit_s / 2)
        self._end(Ending("stopped"))
        properties = properties_of(PacketTypes.DISCONNECT)
        properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)
        try:
            async with asyncio.timeout(limit_s / 2):
                await self.ended.wait()
        except TimeoutError:
            self.fail(Ending("stopped"))

    def _end(self, ending: Ending) -> None:
        """The connection is over for everybody who waits for it; the first reason counts."""
        if self.ending is not None:
            return
        self.ending = ending
        for answer in (self._connack, self._suback, *(waiting.answer for waiting in self._waiting.values())):
            settle(answer, None)
        self._waiting.clear()
        self._changed.set()

    def _down(self) -> UplinkDown:
        reason = self.ending.reason if self.ending is not None else "no connection"
        return UplinkDown(f"{self._target.place}: {reason}")
