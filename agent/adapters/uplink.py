"""The MQTT connection to the platform's broker, on paho, made so that it cannot lose, double or hide a message.

paho keeps a queue in memory, sends it again after it has reconnected by itself, tells its user that a refused message
was published, and can lose its network thread without a word. So it gets none of these chances:

* Every connection has a paho client of its own, which is thrown away with it. Nothing can be sent twice behind our
  back; the journal is the only queue, and whoever publishes from it decides what is sent again.
* paho runs in a thread of ours, which reports its end and the cause whatever happens inside. Callbacks only hand over
  to the event loop, one line each.
* A message counts as delivered when its PUBACK carries reason code 0. "Nobody is subscribed" and "not authorised" are
  success to paho; here they are `UplinkRefused`.
* What comes in is bounded: eight unread messages of at most 256 KiB (the broker is told so, and acknowledged when a
  message is read); beyond them the socket is not read, and a larger packet ends the connection before it takes memory.

The connection is MQTT 5 with a clean start every time; nothing depends on what the broker remembers. It is made anew
for ever, with full jitter between half a second and a minute. Where a person has to act (password, permission,
protocol) the next attempt takes its time, and when another client took our session it waits five minutes, so that two
gateways with one name do not throw each other out for ever. TLS is 1.2 or later with the host name checked, and there
is no switch for that.

Comes before: `agent.service.publish`, which hands over stored bytes. Comes after: the broker, and
`agent.service.acknowledge`, which reads `events()`. The one module that imports paho.
"""

import asyncio
import fcntl
import logging
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.adapters.clock import read_wall_ms
from agent.adapters.entropy import SystemEntropy
from agent.adapters.keys import certificate_dates
from agent.adapters.uplink_address import TlsFiles, make_tls_context, parse_url
from agent.adapters.uplink_reasons import (
    CONNECTION_CODES,
    PUBLISH_CODES,
    BrokerMisbehaves,
    Ending,
    Pace,
    describe_failure,
)
from agent.errors import ConfigError, UplinkDown, UplinkRefused
from agent.service.logline import pairs
from agent.service.ports import Connected, Disconnected, Entropy, Received, UplinkEvent, Will

CONTENT_TYPE = "application/jose"
MESSAGE_SIZE_MAX = 256 * 1024
# The payload, its topic and its properties. The broker is told, and a packet beyond it is not even read.
PACKET_SIZE_MAX = MESSAGE_SIZE_MAX + 4096
UNREAD_MAX = 8
UNREAD_STATES_MAX = 64
# Brokers accept 20 unacknowledged publishes by default and paho does not look at what they announce.
IN_FLIGHT_MAX = 20
# paho closes a connection whose ping is not answered within the keep-alive time, and the ping queues behind our data.
# This much leaves in 15 s at 4.4 kB/s, so that a full window gets through a bad radio link instead of starting over.
IN_FLIGHT_BYTES_MAX = 64 * 1024
# A connection that lasted this long was a good one: the next wait is short again.
STABLE_S = 30.0
# So many short connections in a row that the broker closes without a word are no accident.
CLOSED_IN_A_ROW_MAX = 5

CLOSED_WITHOUT_A_WORD = Ending("the broker closed the connection without a word")
# Mosquitto 2.0.11 does not send "session taken over", it just closes.
_TAKEN_OVER_IN_SILENCE = Ending(
    "the broker closes the connection again and again; look for a second agent with our client id or a copied gateway",
    Pace.SLOWLY,
)

__all__ = ["MqttUplink", "TlsFiles"]

_log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------------- the client


_PUBACK_CODES = frozenset(
    code
    for code, names in ReasonCode.names.items()
    for packets in names.values()
    if PacketTypes.PUBACK in packets
)


class _Client(mqtt.Client):
    """paho's client for one connection: never reads more than allowed, and remembers why its socket failed.

    The private names of paho that are used here are pinned by tests/contracts/test_uplink.py.
    """

    def __init__(self, client_id: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.failure: OSError | None = None
        self.bytes_sent = 0
        self.foreign_codes: dict[int, int] = {}
        self.max_inflight_messages_set(0)  # never hold a message back: it would be a second queue
        self.max_queued_messages_set(2 * IN_FLIGHT_MAX)
        # Setting it is how paho is told that only the network thread may write to the socket.
        self.on_socket_register_write = lambda *_: None

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            if bufsize > PACKET_SIZE_MAX:
                raise BrokerMisbehaves(
                    f"the broker sent a packet of {bufsize} bytes, beyond the limit it was told"
                )
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error
            raise

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            count = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error
            raise
        self.bytes_sent += count
        return count

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Let reason codes through that paho calls malformed; mosquitto uses one (0x95, beyond message_size_limit)."""
        packet = self._in_packet["packet"]
        if len(packet) > 2 and packet[2] not in _PUBACK_CODES:
            self.foreign_codes[int.from_bytes(packet[:2], "big")] = packet[2]
            packet[2] = 0x83
        return super()._handle_pubackcomp(cmd)

    def holds_qos_2(self) -> bool:
        """A message came with QoS 2, which nobody asked for and paho would keep in memory."""
        return bool(self._in_messages)

    def unsent_bytes(self) -> int:
        """What the kernel has of ours and the other side has not acknowledged yet (SIOCOUTQ), or 0."""
        sock = self.socket()
        try:
            answer = fcntl.ioctl(sock.fileno(), 0x5411, b"\0\0\0\0") if sock is not None else b"\0\0\0\0"
        except (OSError, ValueError):
            return 0  # it was closed in this moment
        unsent: int = struct.unpack("i", answer)[0]
        return unsent

    def dispose(self) -> None:
        """Close what is still open, once the network thread has ended."""
        self._reset_sockets()

    def cut(self) -> None:
        """End the connection without a word, so that the network thread finds it closed."""
        sock = self.socket()
        if isinstance(sock, socket.socket):
            try:
                # Past the SSL layer, which the network thread may be using.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already


# --------------------------------------------------------------------------------------------------- one connection


@dataclass(frozen=True, slots=True)
class _Target:
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

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(slots=True)
class _Waiting:
    """A publish without its PUBACK. `since`: when it left, or when a later one was acknowledged before it."""

    answer: "asyncio.Future[_Answer | None]"
    size: int
    since: float
    overtaken: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a CONNACK, SUBACK or PUBACK said."""

    codes: tuple[int, ...]
    properties: Properties


class _Connection:
    """One paho client, its thread, and what waits for it. All methods but `_network` run in the event loop."""

    def __init__(
        self,
        target: _Target,
        context: ssl.SSLContext | None,
        will: Will,
        deliver: "Callable[[_Connection, mqtt.MQTTMessage], None]",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._secure = context is not None
        self._deliver = deliver
        self._connack: asyncio.Future[_Answer | None] = self._loop.create_future()
        self._suback: asyncio.Future[_Answer | None] = self._loop.create_future()
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
        self._client = self._make_client(context, will)
        self._thread = threading.Thread(target=self._network, name="uplink", daemon=True)

    def _make_client(self, context: ssl.SSLContext | None, will: Will) -> _Client:
        client, target = _Client(self._target.client_id), self._target
        client.connect_timeout = target.connect_timeout_s
        if context is not None:
            client.tls_set_context(context)
        if target.username is not None:
            client.username_pw_set(target.username, target.password)
        properties = _properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = target.will_delay_s
        properties.ContentType = CONTENT_TYPE
        client.will_set(will.topic, will.payload, qos=1, retain=True, properties=properties)
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
        self._loop.call_soon_threadsafe(function, *arguments)

    # -- the network thread

    def _network(self) -> None:
        """Connect and serve the connection to its end. Whatever happens, the event loop learns of it."""
        target, client = self._target, self._client
        properties = _properties(PacketTypes.CONNECT)
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
            self._end(_ending_of(CONNECTION_CODES, code.value, properties))
        _answer(self._connack, _Answer((code.value,), properties))

    def _on_suback(self, codes: list[ReasonCode], properties: Properties) -> None:
        _answer(self._suback, _Answer(tuple(code.value for code in codes), properties))

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
        _answer(waiting.answer, _Answer((value,), properties))
        self._changed.set()

    def _on_message(self, message: mqtt.MQTTMessage) -> None:
        if self.ending is None:
            self._deliver(self, message)

    def _on_disconnect(self, by_broker: bool, code: ReasonCode, properties: Properties) -> None:
        if by_broker:
            if code.value == 0x95 and self._waiting:
                # It does not say which one. The largest is refused for good, the others may try again.
                largest = max(self._waiting.values(), key=lambda waiting: waiting.size)
                _answer(largest.answer, _Answer((code.value,), properties))
            self._end(_ending_of(CONNECTION_CODES, code.value, properties))
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
                self.fail(Ending(reason + _in_its_words(answer.properties), Pace.SLOWLY))
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
            raise _refused(topic, 0x95, f" (its limit is {self._packet_size_max} bytes)")
        if retain and not self._retain_available:
            raise _refused(topic, 0x9A)
        async with self._turn:  # first come, first sent
            while self.ending is None and not self._has_room(size):
                self._changed.clear()
                await self._changed.wait()
            waiting = self._send(topic, payload, retain, size)
        # Not awaited itself: a caller that is cancelled must not free the place of a message that is on its way.
        await asyncio.wait({waiting.answer})
        answer = waiting.answer.result()
        if answer is None:
            raise self._down()
        if answer.codes != (0,):
            raise _refused(topic, answer.codes[0], _in_its_words(answer.properties))

    def _has_room(self, size: int) -> bool:
        in_flight = sum(waiting.size for waiting in self._waiting.values())
        return not self._waiting or (
            len(self._waiting) < self._window and in_flight + size <= IN_FLIGHT_BYTES_MAX
        )

    def _send(self, topic: str, payload: bytes, retain: bool, size: int) -> _Waiting:
        if self.ending is not None:
            raise self._down()
        properties = _properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
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
        properties = _properties(PacketTypes.DISCONNECT)
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
            _answer(answer, None)
        self._waiting.clear()
        self._changed.set()

    def _down(self) -> UplinkDown:
        reason = self.ending.reason if self.ending is not None else "no connection"
        return UplinkDown(f"{self._target.place}: {reason}")


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def _answer(future: "asyncio.Future[_Answer | None]", answer: _Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


def _ending_of(table: dict[int, Ending], code: int, properties: Properties) -> Ending:
    ending = table.get(
        code, Ending(f"the broker ended the connection with the unknown reason code 0x{code:02X}")
    )
    return Ending(ending.reason + _in_its_words(properties), ending.pace)


def _topic_of(message: mqtt.MQTTMessage) -> str | None:
    try:
        return message.topic
    except UnicodeDecodeError:
        return None


def _refused(topic: str, code: int, more: str = "") -> UplinkRefused:
    sentence = PUBLISH_CODES.get(code, "the broker refused it with an unknown reason code")
    return UplinkRefused(f"{topic} was not delivered (0x{code:02X}): {sentence}{more}", code)


def _in_its_words(properties: Properties) -> str:
    """What the broker adds for people, shortened and made harmless."""
    texts = [getattr(properties, name, None) for name in ("ReasonString", "ServerReference")]
    return "".join(f" (broker: {text[:200]!r})" for text in texts if text)


# ----------------------------------------------------------------------------------------------------- the mailbox


@dataclass(slots=True)
class _Unread:
    """A message that nobody has read yet, and the connection that wants to know when somebody does."""

    connection: _Connection
    message: mqtt.MQTTMessage
    event: Received


class _Mailbox:
    """Events in their order, for one reader, of bounded size however slow the reader is."""

    def __init__(self) -> None:
        self._entries: deque[Connected | Disconnected | _Unread] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, entry: Connected | Disconnected | _Unread) -> None:
        """Add an event. When nobody has read for dozens of connections, only the last of them are kept."""
        if isinstance(entry, Disconnected) and self._entries and isinstance(self._entries[-1], Disconnected):
            self._entries.pop()
        if isinstance(entry, Connected) and (
            len(self._entries) >= UNREAD_STATES_MAX or self.unread() >= UNREAD_MAX
        ):
            # What is retained comes again with the new connection; the old one cannot be acknowledged any more.
            self._entries.clear()
            self._entries.append(Disconnected("earlier events were dropped, because nobody read them"))
        self._entries.append(entry)
        self._changed.set()

    def unread(self) -> int:
        """Messages that wait for the reader."""
        return sum(isinstance(entry, _Unread) for entry in self._entries)

    def close(self) -> None:
        """No event will follow."""
        self._closed = True
        self._changed.set()

    async def take(self) -> UplinkEvent | None:
        """The next event, None after the last one."""
        while not self._entries:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        entry = self._entries.popleft()
        if isinstance(entry, _Unread):
            entry.connection.acknowledge(entry.message)
            return entry.event
        return entry


# -------------------------------------------------------------------------------------------------------- the port


class MqttUplink:
    """`agent.service.ports.Uplink` over MQTT 5.

    Args:
        url: `mqtts://host[:port]`, or `mqtt://` to a loopback address.
        client_id: the gateway's name at the broker; two clients with one name throw each other out.
        tls: files for mqtts.
        username, password: where the broker wants them beside or instead of a client certificate.
        keepalive_s: a dead connection without traffic is noticed after twice this time.
        ack_timeout_s: longest wait for a PUBACK without any sign of life.
        connect_timeout_s: longest wait for an address to answer, and then for the broker to let us in.
        will_delay_s: how long the broker waits for us to come back before it announces that we are gone.
        backoff_min_s, backoff_max_s: bounds of the wait between attempts, which is random and doubles.
        refused_wait_s: wait after a refusal that a person has to settle (random, at least half of it).
        takeover_wait_s: wait after another client took our name.
        stop_limit_s: `stop` returns after this time in any case.
        entropy: source of session ids and jitter.

    Raises ConfigError for an address that is none, or not to be used without TLS.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        tls: TlsFiles | None = None,
        username: str | None = None,
        password: str | None = None,
        keepalive_s: int = 15,
        ack_timeout_s: float = 20.0,
        connect_timeout_s: float = 20.0,
        will_delay_s: int = 30,
        backoff_min_s: float = 0.5,
        backoff_max_s: float = 60.0,
        refused_wait_s: float = 60.0,
        takeover_wait_s: float = 300.0,
        stop_limit_s: float = 5.0,
        entropy: Entropy | None = None,
    ) -> None:
        secure, host, port = parse_url(url)
        self._target = _Target(
            host,
            port,
            client_id,
            username,
            password,
            keepalive_s,
            ack_timeout_s,
            connect_timeout_s,
            will_delay_s,
        )
        self._tls = (tls or TlsFiles()) if secure else None
        self._backoff_s = (backoff_min_s, backoff_max_s)
        self._waits_s = {Pace.SLOWLY: refused_wait_s, Pace.TAKEN_OVER: takeover_wait_s}
        self._stop_limit_s = stop_limit_s
        self._entropy = entropy or SystemEntropy()
        self._subscribe: tuple[str, ...] = ()
        self._will: Callable[[str], Will] | None = None
        self._mailbox = _Mailbox()
        self._stopping = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._connection: _Connection | None = None
        self._closed_in_a_row = 0

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        """Begin to connect in the background. `will(session)` is asked once for every connection attempt.

        Raises ConfigError when the TLS files cannot be used.
        """
        if self._will is not None:
            raise RuntimeError("an uplink is started once")
        if self._tls is not None:
            make_tls_context(self._tls)
        self._subscribe, self._will = subscribe, will
        self._supervisor = asyncio.get_running_loop().create_task(
            self._supervise(will), name="uplink supervisor"
        )

    async def events(self) -> AsyncIterator[UplinkEvent]:
        """Connections, disconnections and messages, in their order; one consumer. Ends after `stop`.

        A message is acknowledged to the broker when it is taken from here; eight may wait.
        """
        while (event := await self._mailbox.take()) is not None:
            yield event

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1 and wait for the PUBACK. Messages leave in the order of the calls.

        Raises UplinkDown where there is no connection, it broke, or no PUBACK came in time (the connection is then
        made anew); UplinkRefused with the reason code for 0x10 (nobody subscribed) and every failure code.
        """
        connection = self._connection
        if connection is None or not connection.up or self._stopping.is_set():
            raise UplinkDown(f"{self._target.place}: there is no connection to the broker at the moment")
        await connection.publish(topic, payload, retain)

    async def stop(self) -> None:
        """Disconnect in good order (the will is not sent), within `stop_limit_s`; harmless when called again."""
        self._stopping.set()
        if self._supervisor is not None:
            connection = self._connection
            if connection is not None:
                await connection.close(self._stop_limit_s)
            # An attempt that hangs in the resolver cannot be interrupted; its thread ends with it or the process.
            await asyncio.wait({self._supervisor}, timeout=1.0)
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            self._supervisor = None
        self._mailbox.close()

    # -- the supervisor

    async def _supervise(self, will: Callable[[str], Will]) -> None:
        """Connect, for ever. Nothing that happens to one connection ends the making of the next."""
        failures = 0
        while not self._stopping.is_set():
            stable = False
            try:
                ending, stable = await self._connect_once(will)
            except ConfigError as error:
                ending = Ending(str(error), Pace.SLOWLY)
            except Exception as error:  # noqa: BLE001  # no fault makes the process give up for good
                _log.exception(
                    "an attempt to connect failed in a way that was not foreseen", extra=pairs("M1410")
                )
                ending = Ending(f"an attempt to connect failed: {error!r}", Pace.SLOWLY)
            failures = 1 if stable else failures + 1
            self._mailbox.put(Disconnected(ending.reason))
            await self._pause(self._wait_s(ending.pace, failures))

    async def _connect_once(self, will: Callable[[str], Will]) -> tuple[Ending, bool]:
        """Make one connection and stay with it to its end. Returns why it ended, and whether it had been a good one."""
        session = self._entropy.token(16).hex()
        context = make_tls_context(self._tls) if self._tls is not None else None
        connection = _Connection(self._target, context, will(session), self._receive)
        connection.begin()
        self._connection = connection
        try:
            await connection.establish(self._subscribe)
            if connection.up:
                self._mailbox.put(Connected(session))
                for message in connection.early:
                    self._receive(connection, message)
                await connection.watch()
            await connection.ended.wait()
        finally:
            self._connection = None
            connection.fail(Ending("given up"))
        ending = connection.ending or CLOSED_WITHOUT_A_WORD
        stable = connection.up and asyncio.get_running_loop().time() - connection.up_since >= STABLE_S
        return self._explain(self._suspect(ending, stable)), stable

    def _suspect(self, ending: Ending, stable: bool) -> Ending:
        """Tell an unlucky connection from two clients that throw each other out."""
        self._closed_in_a_row = (
            self._closed_in_a_row + 1 if ending is CLOSED_WITHOUT_A_WORD and not stable else 0
        )
        return _TAKEN_OVER_IN_SILENCE if self._closed_in_a_row >= CLOSED_IN_A_ROW_MAX else ending

    def _receive(self, connection: _Connection, message: mqtt.MQTTMessage) -> None:
        """Put a message in the mailbox, after its connection; drop what nobody asked for."""
        if not connection.up:
            # Retained messages may overtake the answer to the subscription that they belong to.
            connection.early.append(message)
            return
        topic = _topic_of(message)
        wanted = topic is not None and any(mqtt.topic_matches_sub(one, topic) for one in self._subscribe)
        if topic is None or not wanted or len(message.payload) > MESSAGE_SIZE_MAX:
            _log.warning(
                "a message that nobody asked for was dropped",
                extra=pairs("M1411", bytes=len(message.payload)),
            )
            connection.acknowledge(message)
            return
        event = Received(topic, bytes(message.payload), bool(message.retain))
        self._mailbox.put(_Unread(connection, message, event))

    def _explain(self, ending: Ending) -> Ending:
        """Add what our own client certificate has to do with it: with TLS 1.3 its refusal looks like a broken line."""
        if self._tls is None or self._tls.certificate is None:
            return ending
        dates, now_ms = certificate_dates(self._tls.certificate), read_wall_ms()
        if dates.not_before_ms <= now_ms <= dates.not_after_ms:
            return ending
        what = (
            "has expired"
            if now_ms > dates.not_after_ms
            else "is not valid yet (check the time of this gateway)"
        )
        return Ending(f"{ending.reason}; our client certificate {self._tls.certificate} {what}", Pace.SLOWLY)

    def _wait_s(self, pace: Pace, failures: int) -> float:
        if pace is Pace.TAKEN_OVER:
            return self._waits_s[pace]
        if pace is Pace.SLOWLY:
            return self._between(self._waits_s[pace] / 2, self._waits_s[pace])
        least_s, most_s = self._backoff_s
        return self._between(least_s, min(most_s, 2 * least_s * 2 ** min(failures - 1, 16)))

    def _between(self, least_s: float, most_s: float) -> float:
        share = int.from_bytes(self._entropy.token(4), "big") / 2**32
        return least_s + share * max(0.0, most_s - least_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the pause is over
