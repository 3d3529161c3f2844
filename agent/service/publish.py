"""Sending what is sealed: stored bytes, oldest first, within a window; live and backlog are the same queue.

The journal is the only queue. What was sent but is not yet acknowledged by the platform lies between the platform's
head and a pointer that lives in memory only: losing it means sending some batches twice, which is harmless. A PUBACK
releases nothing; only `acknowledge` does.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence

from agent.errors import UplinkDown, UplinkRefused
from agent.reporting.chain import ChainHead
from agent.service.acknowledge import hand_over
from agent.service.journal import Journal, KeptBatch, Standing, Storage
from agent.service.logline import pairs
from agent.service.ports import Clock, Entropy, Uplink
from agent.service.pulse import TURN_S_MAX, Pulse
from agent.service.seal import Identity
from agent.service.waiting import happens

log = logging.getLogger(__name__)

Span = tuple[str, int, int]
"""A chain, and the first and last sequence of a part of it."""

AT_ONCE = 8
"""Publishes without a PUBACK."""
AHEAD_MAX = 256
"""Batches sent beyond the platform's head before waiting for it."""
RESEND_S = 30
"""Without progress of the platform's head for this long, plus a random part of as much again, sending starts over."""
REFUSED_S = 60
"""Pause after the broker refused a message; shorter if the platform speaks or the connection is a new one."""
PUBACKS_KEPT = 1024
"""Of so many batches it is remembered when the broker took them."""
RETRY_S = 1.0
"""Pause before a batch is tried again that the uplink could not send while the connection stands."""
LOOK_S = 30
"""Whoever puts something into the queue wakes us; after this long it is looked at all the same."""
NEED_S = 5
"""A batch that the platform asks for is sent again at once, but not more often than this: it may be on its way."""
PUBACK_S = 20
"""So long no PUBACK may come while the uplink still believes in its connection; it ends one that shows no life."""


class Publisher:
    """Keeps the platform fed while there is a connection."""

    def __init__(
        self,
        identity: Identity,
        storage: Storage,
        uplink: Uplink,
        clock: Clock,
        entropy: Entropy,
        *,
        broker_acknowledges: bool = False,
    ) -> None:
        """With `broker_acknowledges` a PUBACK is the receipt, because the platform cannot give one."""
        self._topic = identity.batch_topic
        self._storage = storage
        self._uplink = uplink
        self._clock = clock
        self._entropy = entropy
        self._broker_acknowledges = broker_acknowledges
        self._wake = asyncio.Event()
        self._encouraged = asyncio.Event()
        self._connected = False
        self._sent_up_to = 0
        self._needed: tuple[Span, ...] = ()
        self._sent_again_ns: dict[int, int] = {}
        self._acknowledged: ChainHead | None = None
        self._progress_ns = 0
        self._patience_ns = 0
        self._look_ns = 0
        self.pulse = Pulse("publish", busy_s=PUBACK_S)
        self.pubacks: OrderedDict[int, int] = OrderedDict()
        """When the broker took the newest batches (ordinal to UTC ms), for `trace`; forgotten with the process."""
        self.published = 0
        self.refusal: str | None = None
        """Why the broker refused the last message, None while it takes them."""

    @property
    def connected(self) -> bool:
        """Whether it may send."""
        return self._connected

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def connection(self, up: bool) -> None:
        """The connection came up (and the platform answered, or had its chance to) or went away."""
        self._connected = up
        self._encouraged.set()
        self.start_over()

    def start_over(self) -> None:
        """Send again from the platform's head on."""
        self._sent_up_to = 0
        self._note_progress()
        self.wake()

    def acknowledged(self, head: ChainHead | None) -> None:
        """The platform said where its head is; only a head that moved is progress.

        Every batch is answered, also one that the platform cannot place because the one before it was lost. Were
        each answer progress, live batches would keep the lost one from ever being sent again.
        """
        if head != self._acknowledged:
            self._acknowledged = head
            self._note_progress()
        self._encouraged.set()
        self.wake()

    def need(self, chain: str, spans: Sequence[tuple[int, int]]) -> None:
        """The platform misses these sequences of a chain: what of them was sent and is kept is sent again at once."""
        self._needed = tuple((chain, first, last) for first, last in spans)
        self.wake()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            self.pulse.beat()
            self._resend_if_stuck()
            if self._connected and (self._wake.is_set() or self._look_in_s() <= 0):
                self._wake.clear()
                await self._send_some()
            else:  # an idle agent leaves its journal alone
                self._wake.clear()
                await happens(self._wake, min(TURN_S_MAX, self._look_in_s()))

    async def drain(self, seconds: float) -> bool:
        """Before a stop: wait until the broker took everything once, at most this long; whether it did."""
        deadline_ns = self._clock.monotonic_ns() + int(seconds * 1_000_000_000)
        while self._connected and self._clock.monotonic_ns() < deadline_ns:
            if not await self._storage.run(self._due):
                return True
            await self._clock.sleep(0.05)
        return False

    def _look_in_s(self) -> float:
        """When the queue is looked at next if nobody wakes us."""
        if not self._connected:
            return TURN_S_MAX
        return (self._look_ns - self._clock.monotonic_ns()) / 1_000_000_000

    async def _send_some(self) -> None:
        """Send the next few batches, and say when it is worth looking again."""
        due = await self._storage.run(self._due)
        pause_s: float = LOOK_S
        if due:
            results = await asyncio.gather(*(self._send(batch) for batch in due), return_exceptions=True)
            pause_s = 0 if await self._note_results(due, results) else RETRY_S
        self._look_ns = self._clock.monotonic_ns() + int(pause_s * 1_000_000_000)

    async def _send(self, batch: KeptBatch) -> None:
        """Publish one batch; each PUBACK is progress, so that a slow link may take its time."""
        await self._uplink.publish(self._topic, batch.jws or b"")
        self._note_taken(batch)
        self.pulse.beat()

    def _note_taken(self, batch: KeptBatch) -> None:
        self.published += 1
        self.pubacks[batch.ordinal] = self._clock.wall_ms()
        if len(self.pubacks) > PUBACKS_KEPT:
            self.pubacks.popitem(last=False)

    def _due(self, journal: Journal) -> list[KeptBatch]:
        if journal.state().standing is not Standing.NORMAL:
            return []
        again = self._due_again(journal)
        if again:
            return again
        room = AHEAD_MAX
        if self._sent_up_to:
            room -= journal.waiting_up_to(self._sent_up_to)
        return journal.queue(after_ordinal=self._sent_up_to, limit=max(0, min(AT_ONCE, room)))

    def _due_again(self, journal: Journal) -> list[KeptBatch]:
        """Batches that the platform asked for, and only such as were sent since the connection came up."""
        needed, self._needed = self._needed, ()
        now_ns = self._clock.monotonic_ns()
        self._sent_again_ns = {
            ordinal: at_ns
            for ordinal, at_ns in self._sent_again_ns.items()
            if now_ns - at_ns < NEED_S * 1_000_000_000
        }
        found: list[KeptBatch] = []
        for chain, first, last in needed:
            kept = journal.batches_of(chain, first, last, limit=AHEAD_MAX)
            found += [
                batch
                for batch in kept
                if batch.ordinal <= self._sent_up_to and batch.ordinal not in self._sent_again_ns
            ]
        found = found[:AT_ONCE]
        self._sent_again_ns |= {batch.ordinal: now_ns for batch in found}
        return found

    async def _note_results(self, due: list[KeptBatch], results: list[BaseException | None]) -> bool:
        """Move the pointer over what the broker took; stop at the first that it did not."""
        for batch, result in zip(due, results, strict=True):
            if isinstance(result, UplinkDown):
                return False
            if isinstance(result, UplinkRefused):
                await self._wait_after_refusal(batch, result)
                return False
            if result is not None:
                raise result
            self._sent_up_to = max(self._sent_up_to, batch.ordinal)
        self.refusal = None
        if self._broker_acknowledges:
            last, now_ms = due[-1].head, self._clock.wall_ms()
            await self._storage.run(lambda journal: hand_over(journal, last, now_ms))
        return True

    async def _wait_after_refusal(self, batch: KeptBatch, refused: UplinkRefused) -> None:
        if self.refusal is None:
            log.error(
                "the broker refused a batch; it stays in the journal and is sent again",
                extra=pairs("M1409", chain=batch.head.chain, seq=batch.head.seq, reason=refused),
            )
        self.refusal = str(refused)
        self._encouraged.clear()
        for _ in range(REFUSED_S // TURN_S_MAX):
            self.pulse.beat()
            if await happens(self._encouraged, TURN_S_MAX):
                return

    def _note_progress(self) -> None:
        jitter = int.from_bytes(self._entropy.token(2), "big")
        self._progress_ns = self._clock.monotonic_ns()
        self._patience_ns = int(RESEND_S * 1_000_000_000) * (65_536 + jitter) // 65_536

    def _resend_if_stuck(self) -> None:
        """Sent, but not acknowledged for too long: the broker may have lost it."""
        if self._sent_up_to and self._clock.monotonic_ns() - self._progress_ns > self._patience_ns:
            self.start_over()
