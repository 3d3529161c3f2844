"""A small HTTP proxy that knows CONNECT, or answers what it is told to."""

import asyncio
import base64
import contextlib
from types import TracebackType
from typing import Self

LOCKED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid\r\n"
    b'Proxy-Authenticate: Negotiate\r\nproxy-authenticate: Basic realm="factory"\r\n\r\n'
)


class ConnectProxy:
    """Listens on a loopback port; `answer` is sent instead of opening the way, None opens it.

    With a `login` (user name, password) it opens the way only for those who know it.
    """

    def __init__(self, answer: bytes | None = None, *, login: tuple[str, str] | None = None) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._login = login

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        place = head.split()[1].decode()
        self.asked.append(place)
        answer = self._answer if self._knows(head) else LOCKED
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            writer.close()
            return
        host, _, port = place.rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
        for source, target in ((reader, up_writer), (up_reader, writer)):
            task = asyncio.ensure_future(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _knows(self, head: bytes) -> bool:
        if self._login is None:
            return True
        token = base64.b64encode(":".join(self._login).encode())
        return b"\r\nProxy-Authorization: Basic " + token + b"\r\n" in head

    @staticmethod
    async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()
