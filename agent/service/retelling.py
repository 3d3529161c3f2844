"""Telling a platform that has lost everything what it lost: one piece after the other, so that nobody waits for it.

`restore` opens the chain and tells the first piece; what is left stands in the journal. This stage tells the rest, also
after a restart. Between two pieces the journal's thread is free for whatever else waits.

With nothing to tell it asks the journal every few seconds whether that is still so. That the journal answers is the
journal's own pulse, and this stage beats it.
"""

import logging
from collections.abc import Callable

from agent.errors import JournalFull
from agent.service.journal import Storage
from agent.service.logline import pairs
from agent.service.ports import Clock
from agent.service.pressure import relieve
from agent.service.pulse import TURN_S_MAX, Pulse
from agent.service.restore import Restorer

log = logging.getLogger(__name__)

JOURNAL_S = 10
"""A flash card may take this long over one write before the journal's thread counts as silent at all."""


class Reteller:
    """Goes on with a restored chain until all of it is told."""

    def __init__(
        self, restorer: Restorer, storage: Storage, clock: Clock, *, told: Callable[[], None]
    ) -> None:
        """`told` is called after every piece: there is something to send."""
        self._restorer = restorer
        self._storage = storage
        self._clock = clock
        self._told = told
        self.pulse = Pulse("journal", busy_s=JOURNAL_S)

    async def run(self) -> None:
        """Tell for ever; begins with what the last run left."""
        while True:
            goes_on = await self._goes_on()
            self.pulse.beat()
            if goes_on:
                self._told()
            else:
                await self._clock.sleep(TURN_S_MAX)

    async def _goes_on(self) -> bool:
        """Tell a piece; where there was no room for it, make some. Whether another try is worth it at once."""
        try:
            return await self._storage.run(self._restorer.go_on)
        except JournalFull as error:
            log.debug("no room to tell on what the platform lost", extra=pairs("M1312", reason=error))
            # Nothing is sealed meanwhile, so no boundary would make room.
            return await self._storage.run(relieve)
