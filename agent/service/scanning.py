"""Plays a search on a real line: what the pure dialogue asks is read, what came of it is told.

Comes between `agent.protocol.scan`, `recognise` and `agent.metering.probe`, which decide, and the command line, which
shows. The line can only read, so a search cannot change a meter.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from agent.errors import FrameDamaged, LineDown, MeterBusy, MeterRefused, MeterSilent
from agent.protocol.scan import Ask, Dialogue, Heard, Kind, Listed, Listen, Progress, Question
from agent.service.ports import Line

T = TypeVar("T")
BUSY_CODE = 6
Tell = Callable[[Progress | Listed], None]
Sleep = Callable[[float], Awaitable[None]]


@runtime_checkable
class Overhearing(Protocol):
    """A line that remembers what it heard beside the answers."""

    def strays(self) -> list[int | str]:
        """Who answered without being asked since this was last called."""

    def garbage(self) -> int:
        """How many bytes came since this was last called that are part of no sound frame."""


async def converse(
    dialogue: Dialogue[T], line: Line, *, tell: Tell = lambda _: None, sleep: Sleep = asyncio.sleep
) -> T:
    """Play a dialogue to its end on an open line. Raises LineDown."""
    heard: Heard | None = None
    while True:
        try:
            question = next(dialogue) if heard is None else dialogue.send(heard)
        except StopIteration as end:
            result: T = end.value
            return result
        heard = await _answer(question, line, tell, sleep)


async def _answer(question: Question, line: Line, tell: Tell, sleep: Sleep) -> Heard:
    match question:
        case Progress() | Listed():
            tell(question)
            return Heard(Kind.NOTHING)
        case Listen(duration_ms):
            await sleep(duration_ms / 1000)
            heard = Heard(Kind.NOTHING)
        case Ask():
            heard = await _ask(question, line)
    if isinstance(line, Overhearing):
        return replace(heard, strays=tuple(line.strays()), garbage=line.garbage())
    return heard


async def _ask(question: Ask, line: Line) -> Heard:
    try:
        reply = await line.read(question.request, timeout_ms=question.timeout_ms, settings=question.settings)
    except LineDown:
        raise
    except MeterRefused as error:
        return Heard(Kind.REFUSED, code=error.code)
    except MeterBusy:
        return Heard(Kind.REFUSED, code=BUSY_CODE)
    except FrameDamaged:
        return Heard(Kind.DAMAGED)
    except MeterSilent:
        return Heard(Kind.SILENT)
    at_ms = reply.received_ns // 1_000_000
    return Heard(Kind.ANSWER, reply.words, sender=reply.sender, at_ms=at_ms)
