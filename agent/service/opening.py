"""Waiting until the journal is open.

After a power cut, or where something in it seemed to be damaged, it is read and judged as a whole before anything else:
on a slow card a gigabyte takes minutes. Meanwhile the service manager is told to be patient, for as long as the opening
moves: one that hangs is ended by it like any other start that never comes to an end. And a stop is heard at once; the
next start begins the opening anew, which any power cut would make it do too.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol

from agent.errors import OpeningEnded
from agent.service.logline import pairs

log = logging.getLogger(__name__)

LOOK_S = 10
"""So often it is looked whether the opening has moved."""
PATIENCE_S = 900
"""How long the service manager waits from each sign of life on: one step may read a whole table from a slow card."""


class Movement(Protocol):
    """What is known of an opening while it is at work in a thread of its own."""

    steps: int

    def end(self) -> None:
        """It is to end at its next step, with OpeningEnded."""


class Manager(Protocol):
    """The service manager that waits for the start."""

    def starting(self, more_s: int) -> None:
        """The start goes on; the next word comes within so many seconds."""


async def is_open(
    open_it: Callable[[], Coroutine[object, object, None]],
    movement: Movement,
    manager: Manager,
    stop: asyncio.Event,
    look_s: float = LOOK_S,
) -> bool:
    """Open the journal, and wait for it; False where the agent is to stop before it has begun.

    Raises what `open_it` raises.
    """
    opening, stopping = asyncio.create_task(open_it()), asyncio.create_task(stop.wait())
    try:
        await _wait(opening, stopping, movement, manager, look_s)
        opening.result()
    except OpeningEnded:
        log.info("stopped before the journal was open", extra=pairs("M1007"))
    finally:
        stopping.cancel()
    return not stop.is_set()


async def _wait(
    opening: "asyncio.Task[None]",
    stopping: "asyncio.Task[bool]",
    movement: Movement,
    manager: Manager,
    look_s: float,
) -> None:
    steps, is_told = movement.steps, False
    while not opening.done():
        awaited: set[asyncio.Task[None] | asyncio.Task[bool]] = {opening}
        if not stopping.done():
            awaited.add(stopping)
        done, _ = await asyncio.wait(awaited, timeout=look_s, return_when=asyncio.FIRST_COMPLETED)
        if stopping in done:
            movement.end()
        elif not done and movement.steps != steps:
            steps = movement.steps
            manager.starting(PATIENCE_S)
            if not is_told:
                is_told = True
                log.info("the journal is read and judged before the start goes on", extra=pairs("M1006"))
