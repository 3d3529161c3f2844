"""What the running agent does for a change of its site file: lends its lines, looks at the new file, makes way.

Asked over the control socket by `metering-agent apply`. The agent owns the lines, so reads under the new description go
through it, one transaction between two of its own (`LineWorker.ask`); what the words mean under the new description is
for the asker to say. It looks at the new file as the user that will have to start with it. Then it stops in good order:
all meters are read once more and sealed under the old descriptor, and the next start takes the new file. Nothing here
changes a map, a line or a datum of this process (a plant never changes while the agent runs).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from agent.errors import LineDown, MeteringError, MeterRefused
from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import DltRequest
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.service.asking import kind_of
from agent.service.poll import LineWorker

PATIENCE_S = 40
"""So long a read for a person waits for a line that is busy; a sweep takes 20 s at most."""
QUIET_MS_MAX = 10_000


class Takeover:
    """Answers three streams of the control socket: `read-line`, `examine`, `take-over`."""

    def __init__(
        self,
        workers: Sequence[LineWorker],
        *,
        examine: Callable[[], Awaitable[list[str]]],
        sha256: Callable[[], str | None],
        stop: Callable[[], None],
    ) -> None:
        """`examine` gives the faults of the new file, `sha256` is that of the site file as it lies there now."""
        self._workers = {worker.line.id: worker for worker in workers}
        self._examine = examine
        self._sha256 = sha256
        self._stop = stop
        self.asked = False
        """Whether this process ends in order to be started again."""

    async def read(self, arguments: Mapping[str, object]) -> AsyncIterator[bytes]:
        """One read on one of our lines: its words, or why there are none. Raises ValueError for another question."""
        worker = self._workers.get(str(arguments.get("line")))
        if worker is None:
            raise ValueError(f"there is no line {arguments.get('line')!r}")
        request, settings, quiet_ms = _request(arguments), _settings(arguments), arguments.get("quiet_ms", 0)
        if not isinstance(quiet_ms, int) or not 0 <= quiet_ms <= QUIET_MS_MAX:
            raise ValueError("quiet_ms is a number of ms")
        try:
            async with asyncio.timeout(PATIENCE_S):
                reply = await worker.ask(request, settings=settings, quiet_ms=quiet_ms)
        except TimeoutError:
            yield _said(kind="line", text=f"line {worker.line.id} is busy")
        except LineDown as error:
            yield _said(kind="line", text=str(error))
        except MeteringError as error:
            code = error.code if isinstance(error, MeterRefused) else None
            yield _said(kind=kind_of(error), text=str(error), code=code)
        else:
            yield _said(words=list(reply.words))

    async def examine(self, _: Mapping[str, object]) -> AsyncIterator[bytes]:
        """What the new file lying beside the site file has wrong, as this user sees it."""
        yield _said(faults=await self._examine())

    async def take_over(self, arguments: Mapping[str, object]) -> AsyncIterator[bytes]:
        """Stop in good order, to be started again with the site file that lies there.

        Not where that is another one than the asker believes.
        """
        if arguments.get("sha256") != self._sha256():
            raise ValueError("the site file is another one by now")
        yield _said(stopping=True)
        self.asked = True
        self._stop()


def _said(**values: object) -> bytes:
    return json.dumps(values).encode()


def _request(arguments: Mapping[str, object]) -> Request:
    match arguments:
        case {"modbus": [int(unit), int(function), int(address), int(count)]}:
            if not (1 <= unit <= 247 and 0 <= address <= 0xFFFF and 1 <= count <= 125):
                raise ValueError("a Modbus read out of range")
            return ReadRequest(unit, function, address, count)
        case {"dlt645": [str(address), int() | None as identifier, int() | None as size]}:
            return DltRequest(address, identifier, size)
    raise ValueError("read-line wants modbus or dlt645")


def question_of(
    line: str, request: Request, settings: SerialSettings | None, quiet_ms: int
) -> dict[str, object]:
    """The arguments of `read-line` for one read."""
    said: dict[str, object] = {"line": line, "quiet_ms": quiet_ms}
    if settings is not None:
        said["settings"] = [settings.baud, settings.parity, settings.stop_bits]
    if isinstance(request, DltRequest):
        return {**said, "dlt645": [request.address, request.identifier, request.size]}
    return {**said, "modbus": [request.unit, request.function, request.address, request.count]}


def _settings(arguments: Mapping[str, object]) -> SerialSettings | None:
    match arguments.get("settings"):
        case None:
            return None
        case [int(baud), "none" | "even" | "odd" as parity, (1 | 2) as stop_bits] if baud > 0:
            return SerialSettings(baud, parity, stop_bits)
    raise ValueError("settings are baud, parity and stop bits")
