"""Sending what is sealed: stored bytes, oldest first, within a window; live and backlog are the same queue.

The journal is the only queue, read by pages. Two pages are with the uplink, so that its window never runs empty, while
the next one is read and, where the broker's word has to do, the page that was taken last is marked, in one turn of the
journal's thread and one commit: a receipt costs a sixty-fourth of a sync.

What was sent but is not yet acknowledged by the platform lies between the platform's head and a pointer that lives in
memory only: losing it means sending some batches twice, which is harmless. A PUBACK releases nothing; only
`acknowledge` does.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from agent.errors import JournalFull, UplinkDown, UplinkRefused
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

PAGE = 64
"""Batches that are read from the journal and given to the uplink at once; its window is its own affair."""
PAGES = 2
"""Pages that the uplink has: one leaves, and the other follows without a pause."""
AGAIN_MAX = 24
"""Of what the platform asks for once more, so much is sent in a turn."""
AHEAD_MAX = 256
"""Batches sent beyond the platform's head before waiting for it."""
RESEND_S = 30
"""Without progress of the platform's head for this long, plus a random part of as much again, sending starts over."""
REFUSED_S = (5, 60)
"""First and longest pause after the broker refused a message; it ends if the platform speaks or connects us anew.

Where nobody has subscribed yet, the platform is often about to.
"""
PUBACKS_KEPT = 1024
"""Of so many batches it is remembered when the broker took them."""
RETRY_S = 1.0
"""Pause before a batch is tried again that the uplink could not send while the connection stands."""
LOOK_S = 60
"""Whoever puts something into the queue wakes us; after this long it is looked at all the same."""
NEED_S = 5
"""A batch that the platform asks for is sent again at once, but not more often than this: it may be on its way."""
PUBACK_S = 20
"""So long no PUBACK may come while the uplink still believes in its connection; it ends one that shows no life."""


@dataclass(slots=True)
class _Page:
    """Batches that the uplink has, how many of them from the first on were taken, and what becomes of them."""

    batches: list[KeptBatch]
    taken: set[int]
    sending: "asyncio.Task[None]"

    def taken_in_order(self) -> list[KeptBatch]:
        """Those before the first that was not taken."""
        count = 0
        while count in self.taken:
            count += 1
        return self.batches[:count]


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
        self._taken: ChainHead | None = None
        """Broker mode: up to here the broker took everything, and the journal does not know it yet."""
        self._beginnings = 0
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
        self._refused_s = 0
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
        self._refused_s = 0
        self._encouraged.set()
        self.start_over()

    def start_over(self) -> None:
        """Send again from the platform's head on."""
        self._beginnings += 1
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
                await self._send_if_there_is_room()
            else:  # an idle agent leaves its journal alone
                self._wake.clear()
                await happens(self._wake, min(TURN_S_MAX, self._look_in_s(), self._stuck_in_s()))

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

    async def _send_if_there_is_room(self) -> None:
        """A disk so full that not even a read can be done is no reason to end: metering goes on, and so does this."""
        try:
            await self._send_some()
        except JournalFull as error:
            _note_full(error)
            self._look_ns = self._clock.monotonic_ns() + LOOK_S * 1_000_000_000

    async def _send_some(self) -> None:
        """Send what may be sent, and say when it is worth looking again."""
        beginning, going_on = self._beginnings, True
        pages: deque[_Page] = deque()
        batches: list[KeptBatch] | None = None
        try:
            while going_on and self._beginnings == beginning:
                if (
                    batches != [] or self._wake.is_set()
                ):  # an end that was reached stays one until somebody wakes us
                    turn = partial(self._turn_page, after=self._given_up_to(pages))
                    batches = await self._storage.run(turn)
                if self._beginnings != beginning:
                    break  # what was sent meanwhile is sent once more
                if batches:
                    pages.append(self._give(batches))
                elif not pages:
                    break
                if len(pages) == PAGES or not batches:
                    going_on = await self._note_result(pages.popleft(), beginning)
        finally:
            await self._take_back(pages)
        if self._taken is not None:
            await self._storage.run(self._hand_over)
        pause_s = 0.0 if self._beginnings != beginning else LOOK_S if going_on else RETRY_S
        self._look_ns = self._clock.monotonic_ns() + int(pause_s * 1_000_000_000)

    def _given_up_to(self, pages: deque[_Page]) -> int:
        return max([self._sent_up_to, *(page.batches[-1].ordinal for page in pages)])

    def _give(self, batches: list[KeptBatch]) -> _Page:
        """Have the uplink send a page behind those that it has. Raises JournalDamaged."""
        taken: set[int] = set()

        def note(place: int) -> None:
            taken.add(place)
            self._note_taken(batches[place])
            self.pulse.beat()  # each PUBACK is progress, so that a slow link may take its time

        payloads = [batch.sealed_text() for batch in batches]
        sending = asyncio.create_task(self._uplink.publish_all(self._topic, payloads, note))
        return _Page(batches, taken, sending)

    async def _take_back(self, pages: deque[_Page]) -> None:
        """What was not sent yet is not sent now."""
        for page in pages:
            page.sending.cancel()
        await asyncio.gather(*(page.sending for page in pages), return_exceptions=True)

    def _note_taken(self, batch: KeptBatch) -> None:
        self.published += 1
        self.pubacks[batch.ordinal] = self._clock.wall_ms()
        if len(self.pubacks) > PUBACKS_KEPT:
            self.pubacks.popitem(last=False)

    def _due(self, journal: Journal) -> list[KeptBatch]:
        return self._next_page(journal, self._sent_up_to)

    def _turn_page(self, journal: Journal, *, after: int) -> list[KeptBatch]:
        """Mark what was taken before this page, and read what comes after it."""
        self._hand_over(journal)
        return self._next_page(journal, after)

    def _next_page(self, journal: Journal, after: int) -> list[KeptBatch]:
        if journal.state().standing is not Standing.NORMAL:
            return []
        again = self._due_again(journal)
        if again:
            return again
        room = AHEAD_MAX
        if after and not self._broker_acknowledges:
            room -= journal.waiting_up_to(after)
        return journal.queue(after_ordinal=after, limit=max(0, min(PAGE, room)))

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
        found = found[:AGAIN_MAX]
        self._sent_again_ns |= {batch.ordinal: now_ns for batch in found}
        return found

    def _hand_over(self, journal: Journal) -> None:
        """Mark what was taken; where there is no room for the mark, it is tried again with what is taken next."""
        if self._taken is None:
            return
        try:
            hand_over(journal, self._taken, self._clock.wall_ms())
        except JournalFull as error:
            _note_full(error)
        else:
            self._taken = None

    async def _note_result(self, page: _Page, beginning: int) -> bool:
        """Wait for a page, and move the pointer over what the broker took of it. False where it did not take all."""
        refused: UplinkRefused | None = None
        try:
            await page.sending
        except UplinkRefused as error:
            refused = error
        except UplinkDown:
            pass  # the uplink says so itself, and comes back by itself
        except asyncio.CancelledError:
            page.sending.cancel()
            raise
        if self._beginnings != beginning:
            return True
        in_order = page.taken_in_order()
        if in_order:
            self._sent_up_to = max(self._sent_up_to, in_order[-1].ordinal)
            if self._broker_acknowledges:
                self._taken = in_order[-1].head
        if refused is not None:
            await self._wait_after_refusal(page.batches[min(len(in_order), len(page.batches) - 1)], refused)
            return False
        if len(in_order) < len(page.batches):
            return False
        self.refusal, self._refused_s = None, 0
        self._resend_if_stuck()
        return True

    async def _wait_after_refusal(self, batch: KeptBatch, refused: UplinkRefused) -> None:
        if self.refusal is None:
            log.error(
                "the broker refused a batch; it stays in the journal and is sent again",
                extra=pairs("M1409", chain=batch.head.chain, seq=batch.head.seq, reason=refused),
            )
        self.refusal = str(refused)
        self._encouraged.clear()
        self._refused_s = min(REFUSED_S[1], 2 * self._refused_s) if self._refused_s else REFUSED_S[0]
        for waited_s in range(0, self._refused_s, TURN_S_MAX):
            self.pulse.beat()
            if await happens(self._encouraged, min(TURN_S_MAX, self._refused_s - waited_s)):
                return

    def _note_progress(self) -> None:
        jitter = int.from_bytes(self._entropy.token(2), "big")
        self._progress_ns = self._clock.monotonic_ns()
        self._patience_ns = int(RESEND_S * 1_000_000_000) * (65_536 + jitter) // 65_536

    def _resend_if_stuck(self) -> None:
        """Sent, but not acknowledged for too long: the broker may have lost it."""
        if self._stuck_in_s() <= 0:
            self.start_over()

    def _stuck_in_s(self) -> float:
        """When patience with the platform ends."""
        if not self._sent_up_to:
            return TURN_S_MAX
        waited_ns = self._clock.monotonic_ns() - self._progress_ns
        return (self._patience_ns - waited_ns) / 1_000_000_000


def _note_full(error: JournalFull) -> None:
    log.debug("no room in the journal to read or mark what is sent", extra=pairs("M1313", reason=error))
