"""Reading and judging all of the journal once a week, while the agent runs.

A bit that flips in what was written long ago shows only when somebody reads it: at a restore, or years later at an
audit. So all of it is read, some rows every few seconds, between the work of the other stages. What is damaged ends the
process, and the next start moves the journal aside and salvages it, while the platform and the meters still have what
is missing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from agent.service.journal import Storage
from agent.service.logline import pairs
from agent.service.ports import Clock

log = logging.getLogger(__name__)

FIRST_S = 6 * 3600
"""So long after the start: whoever restarts the agent once a day has it judged once a day."""
AGAIN_S = 7 * 86_400
PAUSE_S = 2
"""Between two pieces; each takes some milliseconds, a gigabyte with its pauses some four hours."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far it is: which part, and behind which row of it."""

    part: int = 0
    after: int = 0


class Inspector:
    """Judges the journal, piece by piece, for ever."""

    def __init__(self, storage: Storage, inspect: Callable[..., Place | None], clock: Clock) -> None:
        """`inspect` judges the piece of a journal that begins at a place, and gives the next place, None at the end."""
        self._storage = storage
        self._inspect = inspect
        self._clock = clock
        self.sound_ms: int | None = None
        """When all of it was last found sound, UTC Unix ms; None until then."""

    async def run(self) -> None:
        """Raises JournalDamaged."""
        await self._clock.sleep(FIRST_S)
        while True:
            await self.whole()
            await self._clock.sleep(AGAIN_S)

    async def whole(self) -> None:
        """Judge all of it once. Raises JournalDamaged."""
        began_ns, pieces = self._clock.monotonic_ns(), 0
        place: Place | None = Place()
        while place is not None:
            place = await self._storage.run(lambda journal, at=place: self._inspect(journal, at))  # type: ignore[misc]
            pieces += 1
            await self._clock.sleep(PAUSE_S)
        self.sound_ms = self._clock.wall_ms()
        seconds = (self._clock.monotonic_ns() - began_ns) // 1_000_000_000
        log.info(
            "all of the journal was read and is sound", extra=pairs("M1311", pieces=pieces, seconds=seconds)
        )
