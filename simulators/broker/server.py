"""The broker itself: sockets, packets and the duties of a server (MQTT 5, chapters 3 and 4).

Reading and writing are separate tasks for each connection: a subscriber that does not read costs its own queue and
nothing else. Who gets a message is `routing`. Whatever may go wrong on purpose is asked of `Faults` at one place each.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Mapping
from itertools import count
from types import TracebackType
from typing import Self

from simulators.broker import packets
from simulators.broker.connection import Connection
from simulators.broker.faults import Faults
from simulators.broker.packets import V5, Connect, Malformed, Message, Property, UnsupportedVersion
from simulators.broker.routing import Limits, Router
from simulators.broker.sessions import Session
from simulators.broker.topics import is_name

log = logging.getLogger(__name__)

_NO_SUBSCRIBER, _RECEIVE_EXCEEDED, _TOO_LARGE = 0x10, 0x93, 0x95
_NORMAL, _SHUTTING_DOWN, _KEEP_ALIVE = 0x00, 0x8B, 0x8D
_WRITE_BUFFER_MAX = 1 << 20
_CONNECT_TIMEOUT_S = 10


class Broker:
    """An MQTT broker on one port; `async with Broker() as broker:` serves until the block ends.

    Args:
        port: TCP port, 0 lets the system choose; `broker.port` and `broker.url` tell which.
        host: address to listen on; loopback unless told.
        faults: switchboard of misbehaviour, may be changed while the broker runs.
        limits: sizes and numbers it accepts.
        tls: context of a TLS listener, None for plain TCP.

    Attributes:
        counts: how often what happened: `connect`, `publish`, `deliver`, `drop`, `no-subscriber`, `refuse`, `cut`, ...
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        faults: Faults | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.faults = faults if faults is not None else Faults()
        self.limits = limits if limits is not None else Limits()
        self.counts: Counter[str] = Counter()
        self._tls = tls
        self._router = Router(self.counts, self.limits)
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._names = count(1)
        self._server: asyncio.Server | None = None

    # ------------------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(
            self._accepted, self.host, self.port, ssl=self._tls, limit=self.limits.packet_max
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self, *, forget: bool = True) -> None:
        """Stop serving. With `forget` all sessions and retained messages are lost, as in a killed broker.

        `start` serves again on the same port.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.left_in_order = True
            connection.close(_SHUTTING_DOWN)
            connection.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._router.stop(forget=forget)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where clients connect: `mqtt://127.0.0.1:40123`."""
        return f"{'mqtts' if self._tls else 'mqtt'}://{self.host}:{self.port}"

    @property
    def clients(self) -> frozenset[str]:
        """Ids of the clients that are connected now."""
        return self._router.clients

    @property
    def retained(self) -> Mapping[str, Message]:
        """What is retained, by topic."""
        return self._router.retained

    def kick(self, client_id: str) -> bool:
        """Cut a client's connection without a word; False if it is not connected."""
        session = self._router.sessions.get(client_id)
        if session is None or session.link is None:
            return False
        session.link.cut()
        return True

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Publish from inside; returns to how many clients the message went."""
        return self._router.route(Message(topic, payload, qos=qos, retain=retain), None)

    # ------------------------------------------------------------------------------------- one connection

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(reader, writer)
        self._connections.add(connection)
        sender: asyncio.Task[None] | None = None
        try:
            if await self._welcome(connection):
                sender = asyncio.ensure_future(self._send(connection))
                self._tasks.add(sender)
                await self._listen(connection)
        except Malformed as error:
            self.counts["malformed"] += 1
            log.info("%s: %s", connection.client_id or "a client", error)
            connection.close(error.code)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            self.counts["broken"] += 1
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            if sender is not None:
                sender.cancel()
                self._tasks.discard(sender)
            self._left(connection)
            self._connections.discard(connection)
            self._tasks.discard(task)

    async def _packet(self, connection: Connection) -> tuple[int, int, bytes]:
        """The next packet: kind, flags and body. Raises Malformed, IncompleteReadError at the end."""
        read = connection.reader.readexactly
        first = (await read(1))[0]
        size = 0
        for shift in (0, 7, 14, 21):
            byte = (await read(1))[0]
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            raise Malformed("remaining length is longer than four bytes")
        if size > self.limits.packet_max:
            raise Malformed(f"packet of {size} bytes", _TOO_LARGE)
        return first >> 4, first & 0x0F, await read(size)

    async def _welcome(self, connection: Connection) -> bool:
        """Read CONNECT and answer it; True when the client is in."""
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            kind, _, body = await self._packet(connection)
        await self._thaw()
        if kind != packets.CONNECT:
            raise Malformed("the first packet is not CONNECT")
        try:
            connect = packets.decode_connect(body)
        except UnsupportedVersion as error:
            version = V5 if error.level > V5 else packets.V311
            if version == V5:
                connection.write(packets.encode_connack(V5, 0x84, False, {}))
            else:
                connection.write(b"\x20\x02\x00\x01")
            self.counts["refuse"] += 1
            connection.close()
            return False
        connection.version = connect.version
        if (reason := self._refusal(connect)) is not None:
            self.counts["refuse"] += 1
            connection.write(packets.encode_connack(connect.version, reason, False, {}))
            connection.close()
            return False
        self._enter(connection, connect)
        return True

    def _refusal(self, connect: Connect) -> int | None:
        if self.faults.refuse_connect is not None:
            return self.faults.refuse_connect
        if connect.version != V5 and not connect.client_id and not connect.clean_start:
            return 0x85
        if len(self.clients) >= self.limits.connections_max:
            return 0x97
        if connect.will is not None and not is_name(connect.will.topic):
            return 0x90
        return None

    def _enter(self, connection: Connection, connect: Connect) -> None:
        """Find or make the session, put an older connection out, answer CONNACK."""
        self.counts["connect"] += 1
        client_id = connect.client_id or f"auto-{next(self._names)}"
        session, is_old = self._router.session_for(client_id, connect)
        connection.client_id, connection.keep_alive_s = client_id, connect.keep_alive_s
        connection.heard = asyncio.get_running_loop().time()
        properties = self._connack_properties(connect, client_id)
        connection.write(packets.encode_connack(connect.version, 0, is_old, properties))
        session.attach(connection, connect)
        connection.wake.set()

    def _connack_properties(self, connect: Connect, client_id: str) -> dict[str, Property]:
        properties: dict[str, Property] = {
            "receive_maximum": self.limits.receive_maximum,
            "maximum_qos": 1,
            "maximum_packet_size": self.limits.packet_max,
            "subscription_identifier_available": 0,
        }
        if not connect.client_id:
            properties["assigned_client_id"] = client_id
        return properties

    async def _thaw(self) -> None:
        while self.faults.frozen:  # noqa: ASYNC110 - a test switches a plain field, from any place
            await asyncio.sleep(0.02)

    async def _listen(self, connection: Connection) -> None:
        """Handle packets until the client leaves."""
        loop = asyncio.get_running_loop()
        watch = self._watch(connection)
        try:
            while not connection.gone:
                kind, flags, body = await self._packet(connection)
                await self._thaw()
                connection.heard = loop.time()
                if self._is_cut(connection):
                    return
                if kind == packets.DISCONNECT:
                    self._says_goodbye(connection, body)
                    return
                self._handle(connection, kind, flags, body)
                if connection.writer.transport.get_write_buffer_size() > _WRITE_BUFFER_MAX:
                    await connection.writer.drain()
        finally:
            watch.cancel()

    def _is_cut(self, connection: Connection) -> bool:
        connection.arrived += 1
        if self.faults.cut_after is None or connection.arrived <= self.faults.cut_after:
            return False
        self.counts["cut"] += 1
        connection.cut()
        return True

    def _watch(self, connection: Connection) -> asyncio.Task[None]:
        """Enforce the keep-alive: one and a half times the promised silence is the end."""

        async def watching() -> None:
            loop = asyncio.get_running_loop()
            allowed_s = connection.keep_alive_s * 1.5
            while connection.keep_alive_s and not connection.gone:
                silent_s = loop.time() - connection.heard
                if silent_s >= allowed_s and not self.faults.frozen:
                    self.counts["keep-alive"] += 1
                    connection.close(_KEEP_ALIVE)
                await asyncio.sleep(max(allowed_s - silent_s, 0.05))

        return asyncio.ensure_future(watching())

    def _says_goodbye(self, connection: Connection, body: bytes) -> None:
        reason, expiry_s = packets.decode_disconnect(body, connection.version)
        session = self._router.session_of(connection)
        if session is not None and expiry_s is not None:
            if session.expiry_s == 0 and expiry_s:
                raise Malformed("session expiry raised from zero at DISCONNECT", 0x82)
            session.expiry_s = expiry_s
        connection.left_in_order = reason == _NORMAL
        connection.close()

    def _handle(self, connection: Connection, kind: int, flags: int, body: bytes) -> None:
        session = self._router.session_of(connection)
        if session is None:
            return
        if kind == packets.PUBLISH:
            self._published(connection, *packets.decode_publish(flags, body, connection.version))
        elif kind == packets.PUBACK:
            session.settle(packets.decode_puback(body))
            connection.wake.set()
        elif kind == packets.SUBSCRIBE:
            packet_id, wishes = packets.decode_subscribe(body, connection.version)
            reasons, stored = self._router.subscribe(session, wishes)
            connection.write(packets.encode_suback(packet_id, reasons, connection.version))
            self._router.offer_all(session, stored)
        elif kind == packets.UNSUBSCRIBE:
            packet_id, filters = packets.decode_unsubscribe(body, connection.version)
            reasons = [0 if session.subscriptions.pop(each, None) else 0x11 for each in filters]
            connection.write(packets.encode_unsuback(packet_id, reasons, connection.version))
        elif kind == packets.PINGREQ:
            connection.write(packets.encode_pingresp())
        else:
            raise Malformed(f"unexpected packet of kind {kind}", 0x82)

    # ----------------------------------------------------------------------------------------- publishing

    def _published(self, connection: Connection, message: Message, packet_id: int) -> None:
        """A client published: judge, deliver, acknowledge."""
        if not is_name(message.topic):
            raise Malformed(f"{message.topic!r} is not a topic name", 0x90)
        self.counts["publish"] += 1
        refusal = self.faults.verdict(message.topic)
        reason = refusal if refusal is not None else self._deliver(message, connection.client_id)
        if not message.qos:
            return
        connection.unanswered.add(packet_id)
        if len(connection.unanswered) > self.limits.receive_maximum:
            raise Malformed("more unacknowledged publishes than the receive maximum", _RECEIVE_EXCEEDED)
        if refusal is None and self.faults.take("drop_puback", message.topic):
            self.counts["puback-dropped"] += 1
            return
        if self.faults.delay_puback_ms and self.faults.concerns(message.topic):
            delay_s = self.faults.delay_puback_ms / 1000
            asyncio.get_running_loop().call_later(delay_s, self._acknowledge, connection, packet_id, reason)
        else:
            self._acknowledge(connection, packet_id, reason)

    def _acknowledge(self, connection: Connection, packet_id: int, reason: int) -> None:
        connection.unanswered.discard(packet_id)
        connection.write(packets.encode_puback(packet_id, reason, connection.version))

    def _deliver(self, message: Message, publisher: str) -> int:
        """Route a client's message with the faults in force; returns the reason code of its PUBACK."""
        if self.faults.take("forget", message.topic):
            self.counts["forgotten"] += 1
            return 0
        reached = self._router.route(message, publisher)
        if self.faults.take("duplicate", message.topic):
            self.counts["duplicated"] += 1
            self._router.route(message, publisher)
        return 0 if reached else _NO_SUBSCRIBER

    async def _send(self, connection: Connection) -> None:
        """Write what the session owes to its connection, as fast as the client reads."""
        loop = asyncio.get_running_loop()
        session = self._router.sessions[connection.client_id]
        while not connection.gone:
            await connection.wake.wait()
            connection.wake.clear()
            await self._thaw()
            while session.link is connection and (owed := session.next(loop.time())) is not None:
                self._write_publish(session, connection, *owed)
                if connection.writer.transport.get_write_buffer_size() > _WRITE_BUFFER_MAX:
                    try:
                        await connection.writer.drain()
                    except ConnectionError:
                        return

    def _write_publish(
        self,
        session: Session[Connection],
        connection: Connection,
        message: Message,
        packet_id: int,
        dup: bool,
    ) -> None:
        properties: Mapping[str, Property] = message.properties
        if message.expires_at is not None:
            left_s = max(1, int(message.expires_at - asyncio.get_running_loop().time()))
            properties = {**properties, "message_expiry": left_s}
        data = packets.encode_publish(message, packet_id, connection.version, dup=dup, properties=properties)
        if session.packet_max is not None and len(data) > session.packet_max:
            self.counts["drop"] += 1
            session.settle(packet_id)
            return
        self.counts["deliver"] += 1
        connection.write(data)

    def _left(self, connection: Connection) -> None:
        """The socket ended, for whatever reason."""
        session = self._router.session_of(connection)
        if session is not None:
            session.link = None
            self._router.part(session, in_order=connection.left_in_order)
        connection.close()
