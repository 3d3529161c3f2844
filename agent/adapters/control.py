"""The control socket: the command line asks the running agent, and never opens the live journal.

A Unix socket beside the journal, readable by its owner only. One question a connection: a line with the name of what
is wanted and, where it needs any, its arguments as a JSON object. The answer is one JSON document, or, for a question
about more than fits into memory, a stream of lines. It can ask, hand over a signed acknowledgement that came by stick,
say that a meter was exchanged (`agent.service.exchanging`), state what was wrong with sealed energy
(`agent.service.correcting`) and confirm from where a restored journal goes on (`agent.service.confirming`); nothing
else changes anything, and the network never comes to a Unix socket (promise I12).

A stream is written no faster than it is read. One that is not read for a while is ended: it must not keep the agent
from stopping. How a stream says that it is complete is a matter of what is in it (`agent.service.export`).
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from agent.errors import MeteringError
from agent.service.logline import pairs

log = logging.getLogger(__name__)

QUESTION_BYTES_MAX = 320 * 1024
"""The longest question brings an acknowledgement that came by stick."""
QUESTION_PATIENCE_S = 5.0
"""How long a question may take to arrive; it is one line of a process of the same machine."""
ANSWER_PATIENCE_S = 20.0
"""How long an answer may take: where it waits in the journal's queue, it waits for the disk, and syncs of ten seconds
were seen on worn flash."""
STREAM_PATIENCE_S = 60.0
"""How long either side of a stream waits for the other: a slow medium, or a journal that is busy with its disk."""
LINE_BYTES_MAX = 320 * 1024
"""No line of a stream is longer; the longest message is 256 KiB."""

Arguments = Mapping[str, object]
Answer = Callable[[Arguments], Awaitable[object]]
Stream = Callable[[Arguments], AsyncIterator[bytes]]
"""Gives lines without their ends. Raises ValueError, before the first line, for arguments that make no sense."""


class ControlSocket:
    """Answers questions while it is open."""

    def __init__(
        self, path: Path, answers: Mapping[str, Answer], streams: Mapping[str, Stream] | None = None
    ) -> None:
        self._path = path
        self._answers = answers
        self._streams = streams or {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[object]] = set()

    async def open(self) -> None:
        """Begin to answer. A socket left over from a crash is replaced; the journal's lock says that nobody uses it."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=QUESTION_BYTES_MAX)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop answering, also what is being answered, and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with asyncio.timeout(QUESTION_PATIENCE_S):
                name, arguments = _question(await reader.readline())
            if name in self._streams:
                await _write_stream(writer, self._streams[name](arguments))
            else:
                async with asyncio.timeout(ANSWER_PATIENCE_S):
                    await self._answer(writer, name, arguments)
        except (ValueError, MeteringError) as error:
            writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
        except (OSError, TimeoutError) as error:
            log.debug("a question on the control socket was not answered", extra=pairs("M1601", reason=error))
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, name: str, arguments: Arguments) -> None:
        answer = self._answers.get(name)
        document = {"error": f"unknown question: {name[:40]}"} if answer is None else await answer(arguments)
        writer.write(json.dumps(document).encode() + b"\n")
        await writer.drain()


def _question(line: bytes) -> tuple[str, Arguments]:
    name, _, rest = line.decode("ascii", "replace").strip().partition(" ")
    arguments = json.loads(rest) if rest else {}
    if not isinstance(arguments, dict):
        raise ValueError("the arguments of a question are a JSON object")
    return name, arguments


async def _write_stream(writer: asyncio.StreamWriter, lines: AsyncIterator[bytes]) -> None:
    async for line in lines:
        writer.write(line + b"\n")
        async with asyncio.timeout(STREAM_PATIENCE_S):
            await writer.drain()


def ask(
    path: Path, question: str, arguments: Arguments | None = None, *, timeout_s: float = ANSWER_PATIENCE_S
) -> object:
    """Ask the running agent; for the command line.

    Raises ConnectionError or FileNotFoundError where no agent runs, TimeoutError where it does not answer in time,
    ValueError where what it answers is no JSON.
    """
    return asyncio.run(asyncio.wait_for(_ask(path, _line(question, arguments)), timeout_s))


def ask_for_lines(path: Path, question: str, arguments: Arguments | None = None) -> Iterator[bytes]:
    """Ask the running agent for a stream; gives its lines, without their ends, one at a time.

    Raises, with the first line, ConnectionError or FileNotFoundError where no agent runs; later TimeoutError where
    it falls silent, ConnectionError where it dies. Whether the stream was complete its reader has to see from it.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(STREAM_PATIENCE_S)
        connection.connect(str(path))
        connection.sendall(_line(question, arguments))
        with connection.makefile("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                yield line.rstrip(b"\n")


def _line(question: str, arguments: Arguments | None) -> bytes:
    return " ".join([question, *([json.dumps(arguments)] if arguments else [])]).encode("ascii") + b"\n"


async def _ask(path: Path, line: bytes) -> object:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(line)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    if not answer:
        raise TimeoutError("no answer came in time")
    return json.loads(answer)
