"""One connection to the broker, from CONNECT to its end: a paho client, its socket, and what waits for its answers.

Made by `supervisor`, which throws it away when it has ended. Only the way to the broker (name, TCP, proxy, TLS) blocks,
so only that has a thread, which ends with it. From then on the event loop watches the socket and calls paho when there
is something to read or to write: a message costs no change of threads, and what a read brought in is answered by one
write. Whatever goes wrong in there ends the connection and nothing else.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Sequence
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
    not_granted,
    packed,
    properties_of,
    refused,
    settle,
)
from agent.adapters.uplink.client import Client
from agent.adapters.uplink.limits import (
    CONTENT_TYPE,
    PACKET_SIZE_MAX,
    UNREAD_MAX,
)
from agent.adapters.uplink.outbox import Outbox, Run
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

LOOK_S = 1.0
"""So often paho is asked whether it is time for a ping, and the PUBACKs that wait whether they are overdue."""

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


class Connection:
    """One paho client and what waits for it. All methods but `_connect` run in the event loop."""

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
        self._outbox = Outbox(self._send, refused, self._loop.time)
        self._unread = 0
        self._abandoned = False
        self._served: int | None = None
        """The descriptor of the socket that the event loop watches."""
        self._is_writing = False
        self._is_flush_due = False
        self._idle = asyncio.Event()
        self.up = False
        self.up_since = 0.0
        self.early: list[mqtt.MQTTMessage] = []
        self.ending: Ending | None = None
        self.ended = asyncio.Event()
        properties = properties_of(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        self._content_type = packed(properties, PacketTypes.PUBLISH)
        self._client = self._make_client(context, will)
        self._thread = threading.Thread(target=self._connect, name="uplink", daemon=True)

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
        # paho holds a lock while they run, so they only note: nothing in there may write to the socket.
        client.on_connect = lambda _c, _u, _f, code, properties: self._on_connack(code, properties)
        client.on_subscribe = lambda _c, _u, _mid, codes, properties: self._on_suback(codes, properties)
        client.on_publish = lambda _c, _u, mid, code, properties: self._on_puback(mid, code, properties)
        client.on_message = lambda _c, _u, message: self._hand_over(message)
        client.on_disconnect = lambda _c, _u, flags, code, properties: self._on_disconnect(
            flags.is_disconnect_packet_from_server, code, properties
        )
        client.on_socket_close = lambda *_: self._stop_serving()
        return client

    # -- the thread that connects

    def _connect(self) -> None:
        """Find the way to the broker and prepare CONNECT. Whatever happens, the event loop learns of it."""
        target, client = self._target, self._client
        properties = properties_of(PacketTypes.CONNECT)
        properties.MaximumPacketSize = PACKET_SIZE_MAX
        properties.ReceiveMaximum = UNREAD_MAX
        # The will waits at the broker only as long as the session lives. Nothing else of the session is used.
        properties.SessionExpiryInterval = 2 * target.will_delay_s
        cause: BaseException | None = None
        try:
            client.connect(
                target.host, target.port, target.keepalive_s, clean_start=True, properties=properties
            )
        except Exception as error:  # noqa: BLE001  # a thread must not end without saying why
            cause = error
        try:
            self._loop.call_soon_threadsafe(self._on_way_found, cause)
        except RuntimeError:
            client.dispose()
            _log.debug("the event loop was closed before the connection", extra=pairs("M1412"))

    # -- the socket, watched by the event loop

    def _on_way_found(self, cause: BaseException | None) -> None:
        self._thread.join()  # it has nothing left to do
        sock = self._client.socket()
        if cause is not None or self._abandoned or sock is None:
            self._finish(cause)
            return
        self._served = sock.fileno()
        self._loop.add_reader(self._served, self._on_readable)
        self._flush()
        self._look()

    def _look(self) -> None:
        """Once a second: paho sends a ping where it is time, and ends what was silent for too long."""
        if self._served is None:
            return
        try:
            self._client.loop_misc()
        except Exception as error:  # noqa: BLE001  # paho's or ours: it ends this connection and nothing else
            self._finish(error)
            return
        self._flush()
        if self._served is not None:
            self._loop.call_later(LOOK_S, self._look)

    def _on_readable(self) -> None:
        """Handle what came in, send what there is room for now, and write it."""
        client = self._client
        if self._served is None:
            return
        try:
            result = client.read()
            if client.holds_qos_2():
                raise BrokerMisbehaves("the broker sent a message with QoS 2, which nobody subscribed to")
            if result == mqtt.MQTT_ERR_PROTOCOL:
                raise BrokerMisbehaves(
                    "the broker sent a packet that MQTT 5 does not allow; is it an MQTT 5 broker?"
                )
        except Exception as error:  # noqa: BLE001  # paho's, the broker's or ours: it ends this connection only
            self._finish(error)
            return
        self._go_on()
        if self._served is not None and not client.is_dry and not client.paused:
            self._loop.call_soon(self._on_readable)

    def _go_on(self) -> None:
        """Send what the window has room for now."""
        if self.up and self.ending is None:
            try:
                self._outbox.pump()
            except Exception as error:  # noqa: BLE001  # as in _on_readable
                self._finish(error)
                return
            if self._outbox.is_empty:
                self._idle.set()
        self._flush()

    def _flush(self) -> None:
        """Write what paho has to say; what the kernel does not take now is written when it does."""
        self._is_flush_due = False
        client = self._client
        if self._served is None:
            return
        try:
            client.loop_write()
        except Exception as error:  # noqa: BLE001  # as in _on_readable
            self._finish(error)
            return
        if client.socket() is None:  # it broke, or we have said goodbye
            self._finish(None)
        elif client.want_write() and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._served, self._flush)
        elif self._is_writing and not client.want_write():
            self._is_writing = False
            self._loop.remove_writer(self._served)

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _stop_serving(self) -> None:
        """The socket is about to be closed."""
        if self._served is not None:
            self._loop.remove_reader(self._served)
            self._loop.remove_writer(self._served)
            self._served, self._is_writing = None, False
            self._loop.call_soon(self._finish, None)

    def _finish(self, cause: BaseException | None) -> None:
        """The socket is of no use any more, or there never was one; nothing follows."""
        if self.ended.is_set():
            return
        cause = cause or self._client.failure
        if cause is not None:
            self._end(describe_failure(cause))
        elif self.up:
            self._end(CLOSED_WITHOUT_A_WORD)
        else:
            hint = (
                "; over TLS this is how a missing or refused client certificate looks" if self._secure else ""
            )
            self._end(Ending(f"the broker closed the connection before it let us in{hint}"))
        self.ended.set()
        self._client.dispose()

    def _hand_over(self, message: mqtt.MQTTMessage) -> None:
        """Hand a message over; when there is no room for another, nothing more is read from the socket until there is.

        The broker was told our Receive Maximum, but mosquitto 2.0.11 sends on regardless. A reader that stays away for
        longer than the keep-alive time loses the connection.
        """
        self._unread += 1
        if self._unread >= UNREAD_MAX and self._served is not None:
            self._client.paused = True
            self._loop.remove_reader(self._served)
        if self.ending is None:
            self._deliver(self, message)

    # -- what the broker says

    def _on_connack(self, code: ReasonCode, properties: Properties) -> None:
        value = self._client.foreign_refusal or code.value
        if code.is_failure:  # the broker closes the connection, and that must not become the reason
            self._end_soon(ending_of(CONNECTION_CODES, value, properties))
        settle(self._connack, Answer((value,), properties))

    def _on_suback(self, codes: list[ReasonCode], properties: Properties) -> None:
        settle(self._suback, Answer(tuple(code.value for code in codes), properties))

    def _on_puback(self, mid: int, code: ReasonCode, properties: Properties) -> None:
        value = self._client.foreign_codes.pop(mid, code.value)
        if value == 0:
            self._outbox.answered(mid, None)
        else:
            self._outbox.answered(mid, lambda topic: refused(topic, value, in_its_words(properties)))

    def _on_disconnect(self, by_broker: bool, code: ReasonCode, properties: Properties) -> None:
        if by_broker:
            if code.value == 0x95:
                # It does not say which one. The largest is refused for good, the others may try again.
                self._outbox.refuse_largest(lambda topic: refused(topic, 0x95, in_its_words(properties)))
            self._end_soon(ending_of(CONNECTION_CODES, code.value, properties))
        elif code.value == 0x8D:
            self._end(Ending(f"the broker was silent for {2 * self._target.keepalive_s} s"))

    # -- its life, seen from the event loop

    def begin(self) -> None:
        """Start to connect. `ended` is set when it is over, whatever the reason."""
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
        limits = self._outbox.limits
        limits.window = min(limits.window, getattr(answer.properties, "ReceiveMaximum", limits.window))
        limits.packet_bytes = getattr(answer.properties, "MaximumPacketSize", limits.packet_bytes)
        limits.retain = bool(getattr(answer.properties, "RetainAvailable", 1))
        return True

    async def _is_subscribed(self, topics: tuple[str, ...]) -> bool:
        if not topics:
            return True
        self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        self._flush()
        answer = await self._suback
        if answer is None:
            return False
        if len(answer.codes) != len(topics):
            self.fail(Ending("the broker did not answer for each topic we subscribed to", Pace.SLOWLY))
            return False
        for topic, code in zip(topics, answer.codes, strict=True):
            if code != 1:
                self.fail(not_granted(topic, code, answer.properties))
                return False
        return True

    async def watch(self) -> None:
        """Stay until the end; end the connection when a PUBACK does not come in time.

        The time-out runs from the last sign of life: bytes that left, bytes that the other side has acknowledged to
        the kernel, another PUBACK. So a slow link gets its time, and a frozen broker does not.
        """
        look_s = min(LOOK_S, self._target.ack_timeout_s / 10)
        seen, moved = (0, 0, 0), self._loop.time()
        while self.ending is None:
            try:
                async with asyncio.timeout(look_s):
                    await self.ended.wait()
            except TimeoutError:
                mark = (self._client.bytes_sent, self._client.unsent_bytes(), self._outbox.acknowledged)
                if mark != seen:
                    seen, moved = mark, self._loop.time()
                if self._outbox.is_overdue(moved, self._target.ack_timeout_s):
                    reason = f"no acknowledgement came within {self._target.ack_timeout_s:g} s"
                    self.fail(Ending(reason))

    async def publish(
        self,
        topic: str,
        payloads: Sequence[bytes],
        taken: Callable[[int], None],
        *,
        retain: bool = False,
        urgent: bool = False,
    ) -> None:
        """Send with QoS 1 and wait for reason code 0. Raises UplinkDown and UplinkRefused as the port says."""
        if self.ending is not None:
            raise self._down()
        run = Run(topic, payloads, retain, taken, self._loop.create_future(), urgent)
        self._idle.clear()
        self._outbox.add(run)
        self._go_on()
        # A caller that is cancelled ends what was not sent yet; what is on its way keeps its place in the window.
        await run.done

    def _send(self, topic: str, payload: bytes, retain: bool) -> int | None:
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=self._content_type)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            self._loop.call_soon(
                self.fail, Ending(f"the message could not be sent: {mqtt.error_string(info.rc)}")
            )
            return None
        return info.mid

    def acknowledge(self, message: mqtt.MQTTMessage) -> None:
        """A message was read (or not wanted): the broker may send another."""
        self._unread -= 1
        if self.ending is not None:
            return
        if message.qos == 1:
            self._client.ack(message.mid, 1)
            self._flush_soon()
        if self._client.paused and self._served is not None:
            self._client.paused = False
            self._loop.add_reader(self._served, self._on_readable)
            self._loop.call_soon(self._on_readable)  # it may have been fetched already

    def fail(self, ending: Ending) -> None:
        """End the connection at once, without a word to the broker (which then sends the will)."""
        self._end(ending)
        self._abandoned = True
        if self._served is not None:
            self._finish(None)

    async def close(self, limit_s: float) -> None:
        """Wait for PUBACKs that are on their way, say goodbye, and be gone after `limit_s` in any case."""
        if self.up and self.ending is None and not self._outbox.is_empty:
            await self._wait_for(self._idle, limit_s / 2)
        self._end(Ending("stopped"))
        if self._served is not None:
            properties = properties_of(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
            self._flush()
        if not await self._wait_for(self.ended, limit_s / 2):
            self.fail(Ending("stopped"))

    async def _wait_for(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether it came about in time, or the connection ended."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _end(self, ending: Ending) -> None:
        """The connection is over for everybody who waits for it; the first reason counts."""
        if self.ending is not None:
            return
        self.ending = ending
        for answer in (self._connack, self._suback):
            settle(answer, None)
        self._outbox.end(self._down)
        self._idle.set()

    def _end_soon(self, ending: Ending) -> None:
        """The broker ended it: whether it closes the socket too is not waited for."""
        self._end(ending)
        self._loop.call_soon(self._finish, None)

    def _down(self) -> UplinkDown:
        reason = self.ending.reason if self.ending is not None else "no connection"
        return UplinkDown(f"{self._target.place}: {reason}")
