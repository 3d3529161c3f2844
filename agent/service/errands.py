"""Reads that are on nobody's list: of a meter that a new site file would bring, asked for by a person.

The worker of a line makes them, one at a time, between its own (`poll`); who asks waits here. They bypass the patience
with dead meters, because a person does not ask for ever.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from agent.errors import LineDown, MeteringError, Refused, RetryLater
from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import DltRequest
from agent.protocol.pair import Request
from agent.protocol.rtu import SLACK_NS
from agent.service.ports import Clock, Line, Reply
from agent.service.watch import Watch

REPLY_MS = 1_000
"""Longest wait for an answer; a person waits, and a slow meter shall be seen."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One read, and who waits for its outcome."""

    request: Request
    settings: SerialSettings | None
    quiet_ms: int
    outcome: "asyncio.Future[Reply]"


class Errands:
    """The errands of one line that wait; empty is false."""

    def __init__(self, port: Line, clock: Clock, watches: Collection[Watch]) -> None:
        self._port = port
        self._clock = clock
        self._watches = watches
        self._waiting: deque[Errand] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(
        self, request: Request, settings: SerialSettings | None, quiet_ms: int
    ) -> "asyncio.Future[Reply]":
        """Queue one; its outcome comes with the future."""
        errand = Errand(request, settings, quiet_ms, asyncio.get_running_loop().create_future())
        self._waiting.append(errand)
        return errand.outcome

    async def run_next(self) -> SerialSettings | None:
        """Make the first that somebody still waits for; gives how the line is tuned after it. Raises LineDown."""
        errand = self._waiting.popleft()
        if errand.outcome.done():
            return None
        try:
            reply = await self._port.read(
                errand.request,
                timeout_ms=REPLY_MS,
                quiet_ms=errand.quiet_ms,
                settings=errand.settings,
            )
        except LineDown as error:
            _fail(errand, error)
            raise
        except (RetryLater, Refused) as error:
            _fail(errand, error)
            self._note_owed(errand)
        else:
            if not errand.outcome.done():
                errand.outcome.set_result(reply)
        return errand.settings

    def fail_all(self, error: LineDown) -> None:
        """The line is gone: nobody has to wait for it."""
        while self._waiting:
            _fail(self._waiting.popleft(), error)

    def _note_owed(self, errand: Errand) -> None:
        """A late answer to this must not pass for one to the worker's own question."""
        request = errand.request
        if isinstance(request, DltRequest):
            return  # an answer names the identifier that was asked for
        until_ns = self._clock.monotonic_ns() + REPLY_MS * 1_000_000 + SLACK_NS
        for watch in self._watches:
            if watch.meter.address == request.unit:
                watch.owed_ns[(request.function, request.count)] = until_ns


def _fail(errand: Errand, error: MeteringError) -> None:
    if not errand.outcome.done():
        errand.outcome.set_exception(error)
