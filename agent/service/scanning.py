"""Plays a search on a real line: what the pure dialogue asks is read, what came of it is told.

Comes between `agent.protocol.scan`, `recognise` and `agent.metering.probe`, which decide, and the command line, which
shows. The line can only read, so a search cannot change a meter.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, runtime_checkable

from agent.errors import FrameDamaged, LineDown, MeterBusy, MeterRefused, MeterSilent
from agent.protocol.scan import Ask, Dialogue, Heard, Kind, Listen, Progress, Question
from agent.service.ports import Line

T = TypeVar("T")
BUSY_CODE = 6
Tell = Callable[[Progress], None]
Sleep = Callable[[float], Awaitable[None]]


@runtime_checkable
class Overhearing(Protocol):
    """A line that remembers who answered without being asked."""

    def strays(self) -> list[int | str]:
        """Their addresses since this was last called."""


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
        case Progress():
            tell(question)
            return Heard(Kind.NOTHING)
        case Listen(duration_ms):
            await sleep(duration_ms / 1000)
            return Heard(Kind.NOTHING, strays=_strays(line))
        case Ask():
            return await _ask(question, line)


async def _ask(question: Ask, line: Line) -> Heard:
    try:
        reply = await line.read(question.request, timeout_ms=question.timeout_ms, settings=question.settings)
    except LineDown:
        raise
    except MeterRefused as error:
        return Heard(Kind.REFUSED, code=error.code, strays=_strays(line))
    except MeterBusy:
        return Heard(Kind.REFUSED, code=BUSY_CODE, strays=_strays(line))
    except FrameDamaged:
        return Heard(Kind.DAMAGED, strays=_strays(line))
    except MeterSilent:
        return Heard(Kind.SILENT, strays=_strays(line))
    return Heard(Kind.ANSWER, reply.words, sender=reply.sender, strays=_strays(line))


def _strays(line: Line) -> tuple[int | str, ...]:
    return tuple(line.strays()) if isinstance(line, Overhearing) else ()
