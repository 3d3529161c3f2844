"""A broker that says byte for byte what a test tells it to, for what no real broker can be made to do."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    1,
    2,
    3,
    4,
    8,
    9,
    12,
    13,
    14,
)


class Dialogue:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[tuple[int, int, bytes]] = []

    async def hear(self) -> tuple[int, int, bytes]:
        """The next packet: kind, flags, body. Raises IncompleteReadError at the end of the connection."""
        first = (await self.reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        packet = (first >> 4, first & 15, await self.reader.readexactly(length))
        self.heard.append(packet)
        return packet

    async def hear_kind(self, kind: int) -> bytes:
        """The body of the next packet of this kind; pings are answered, others are passed over."""
        while True:
            heard, _, body = await self.hear()
            if heard == kind:
                return body
            if heard == PINGREQ:
                self.say(PINGRESP)

    def say(self, kind: int, body: bytes = b"", flags: int = 0) -> None:
        length, rest = b"", len(body)
        while True:
            rest, digit = divmod(rest, 128)
            length += bytes([digit | (128 if rest else 0)])
            if not rest:
                break
        self.writer.write(bytes([kind << 4 | flags]) + length + body)

    async def admit(self, properties: bytes = b"") -> None:
        """Let the client in, and grant what it subscribes to."""
        await self.hear_kind(CONNECT)
        self.say(CONNACK, bytes([0, 0, len(properties)]) + properties)
        body = await self.hear_kind(SUBSCRIBE)
        self.say(SUBACK, body[:2] + b"\0\1")

    async def hear_publish(self) -> int:
        """The packet identifier of the next PUBLISH (QoS 1)."""
        body = await self.hear_kind(PUBLISH)
        (length,) = struct.unpack("!H", body[:2])
        (identifier,) = struct.unpack("!H", body[2 + length : 4 + length])
        return int(identifier)

    def acknowledge(self, identifier: int, code: int = 0, reason: str = "") -> None:
        text = reason.encode()
        properties = b"\x1f" + struct.pack("!H", len(text)) + text if text else b""
        self.say(PUBACK, struct.pack("!HB", identifier, code) + bytes([len(properties)]) + properties)

    def send(self, topic: str, payload: bytes, qos: int = 1, identifier: int = 1) -> None:
        name = topic.encode()
        head = struct.pack("!H", len(name)) + name + (struct.pack("!H", identifier) if qos else b"")
        self.say(PUBLISH, head + b"\0" + payload, qos << 1)

    async def until_the_end(self) -> None:
        """Listen until the client is gone."""
        try:
            while True:
                await self.hear()
        except (asyncio.IncompleteReadError, ConnectionError):
            return


Script = Callable[[Dialogue], Awaitable[None]]


class ScriptedBroker:
    """Plays one script for each connection; the last one is played again for all that follow."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.dialogues: list[Dialogue] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        dialogue = Dialogue(reader, writer)
        self.dialogues.append(dialogue)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        try:
            await script(dialogue)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went first
        finally:
            writer.close()
