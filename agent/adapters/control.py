"""The control socket: the command line asks the running agent, and never opens the live journal.

A Unix socket beside the journal, readable by its owner only. One question a connection: a line with the name of what
is wanted, answered by one JSON document. It can ask and never change anything (promise I12).
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

QUESTION_BYTES_MAX = 1024
PATIENCE_S = 5.0

Answer = Callable[[], Awaitable[object]]


class ControlSocket:
    """Answers questions while it is open."""

    def __init__(self, path: Path, answers: Mapping[str, Answer]) -> None:
        self._path = path
        self._answers = answers
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to answer. A socket left over from a crash is replaced; the journal's lock says that nobody uses it."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=QUESTION_BYTES_MAX)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop answering and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                question = (await reader.readline()).decode("ascii", "replace").strip()
                answer = self._answers.get(question)
                document = {"error": f"unknown question: {question[:40]}"} if answer is None else await answer()
                writer.write(json.dumps(document).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:
            log.debug("a question on the control socket was not answered: %s", error)
        finally:
            writer.close()


def ask(path: Path, question: str, *, timeout_s: float = PATIENCE_S) -> object:
    """Ask the running agent; for the command line.

    Raises ConnectionError or FileNotFoundError where no agent runs, TimeoutError where it does not answer.
    """
    return asyncio.run(asyncio.wait_for(_ask(path, question), timeout_s))


async def _ask(path: Path, question: str) -> object:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(question.encode("ascii") + b"\n")
        await writer.drain()
        return json.loads(await reader.read())
    finally:
        writer.close()
