"""`/metrics` and `/healthz` over HTTP, where `[web] listen` says and nowhere else.

They can be asked and change nothing (promise I12): GET and HEAD only, no request body is used, one answer for each
connection. h11 reads and writes the protocol, asyncio the bytes; what the two do not bound is bounded here:
connections at once, the size of a request, the time for it. A port that cannot be had is tried again for ever;
metering does not wait for it. It is said once in the log, and in `problem` for as long as it lasts.

Why h11 and not a web framework: agent/decisions/0009-metrics-without-a-framework.md. The one module that imports h11.

Comes before: a function for each path, given by `wiring`. Comes after: Prometheus, a load balancer, a person with curl.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import h11

from agent.service.logline import pairs

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 8
HEAD_BYTES_MAX = 8 * 1024
CHUNK_BYTES = 4 * 1024
PATIENCE_S = 5.0
"""For the whole of a request, and again for its answer."""
REOPEN_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[str], Awaitable[Answer]]
"""Makes the answer of a path; is given the header `Accept`."""


class Endpoints:
    """Serves a few paths while it is open."""

    def __init__(self, host: str, port: int) -> None:
        self.problem: str | None = None
        """Why nobody is answered; None once the port is open, and before the first attempt."""
        self._host = host
        self._port = port
        self._pages: Mapping[str, Page] = {}
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[object]] = set()

    @property
    def ports(self) -> list[int]:
        """The ports that are open."""
        return [socket.getsockname()[1] for socket in self._server.sockets] if self._server else []

    async def open(self, pages: Mapping[str, Page]) -> None:
        """Answer with `pages` as soon as the port can be had; returns after the first attempt."""
        self._pages = pages
        if not await self._listen():
            self._opening = asyncio.get_running_loop().create_task(self._keep_trying(), name="endpoints")

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _listen(self) -> bool:
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=CHUNK_BYTES)
        except OSError as error:
            reason = _reason(error)
            if reason != self.problem:
                log.error(  # noqa: TRY400  # another program has the port; that is no fault of ours
                    "metrics cannot be served; it is tried again and again",
                    extra=pairs("M1602", host=self._host, port=self._port, reason=reason),
                )
            self.problem = reason
            return False
        if self.problem is not None:
            log.info("metrics are served now", extra=pairs("M1605", host=self._host, port=self._port))
        self.problem = None
        return True

    async def _keep_trying(self) -> None:
        while True:
            await asyncio.sleep(REOPEN_S)
            if await self._listen():
                return

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        try:
            if len(self._connections) > CONNECTIONS_MAX:
                return
            async with asyncio.timeout(PATIENCE_S):
                request = await _request(connection, reader)
            if request is not None:
                async with asyncio.timeout(PATIENCE_S):
                    await self._answer(connection, request, writer)
        except h11.RemoteProtocolError as error:
            await _refuse(connection, writer, error.error_status_hint)
        except (OSError, TimeoutError) as error:
            log.debug("a request for metrics was not answered", extra=pairs("M1603", reason=repr(error)))
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(
        self, connection: h11.Connection, request: h11.Request, writer: asyncio.StreamWriter
    ) -> None:
        path = request.target.split(b"?", 1)[0].decode("ascii", "replace")
        page = self._pages.get(path)
        if page is None:
            answer = Answer(404, f"There is {' and '.join(self._pages)}.\n".encode())
        elif request.method not in (b"GET", b"HEAD"):
            answer = Answer(405, b"GET and HEAD only.\n")
        else:
            accept = next((value for name, value in request.headers if name == b"accept"), b"")
            answer = await page(accept.decode("latin-1"))
        await _send(connection, writer, answer, with_body=request.method != b"HEAD")


def _reason(error: OSError) -> str:
    """In the system's words: asyncio puts the address and more around them, and several of them into one error."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The head of the request; None where the other side left before it was complete. Bodies are not read."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(CHUNK_BYTES))


async def _refuse(connection: h11.Connection, writer: asyncio.StreamWriter, status: int) -> None:
    """Say what is wrong with a request that is none, if it can still be said."""
    try:
        if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            async with asyncio.timeout(PATIENCE_S):
                await _send(
                    connection, writer, Answer(status, b"This is not an HTTP request.\n"), with_body=True
                )
    except (OSError, TimeoutError, h11.LocalProtocolError) as error:
        log.debug("a request for metrics could not be refused", extra=pairs("M1604", reason=repr(error)))


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, with_body: bool
) -> None:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    ]
    reason = HTTPStatus(answer.status).phrase
    events: list[h11.Event] = [h11.Response(status_code=answer.status, reason=reason, headers=headers)]
    if with_body:
        events.append(h11.Data(data=answer.body))
    for event in [*events, h11.EndOfMessage()]:
        data = connection.send(event)
        if data:
            writer.write(data)
    await writer.drain()
