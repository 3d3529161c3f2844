"""What a connection has to send and what it waits for: the window, and what became of each message.

All of it runs in the event loop and costs microseconds a message, because a backlog of a month passes through here:
there is no task and no future for a message, only for a run of them, and whoever gave the run is told of each PUBACK
by a plain call. A single message (a status, a descriptor) does not wait behind the run of batches that it interrupts.

Used by `connection`, which says when something was acknowledged or is over.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agent.adapters.uplink.limits import IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX
from agent.errors import UplinkRefused

OVERHEAD_BYTES = 64
"""What a PUBLISH has beside topic and payload, at most."""

Send = Callable[[str, bytes, bool], int | None]
"""Hand a message (topic, payload, retained) to the network; gives its packet identifier, None where it is gone."""


@dataclass(slots=True)
class Run:
    """Messages of one caller, sent in their order; after the first that is refused no other is sent.

    `taken` is called with the place of each message whose PUBACK carried 0. `done` ends when all that were sent have
    their answer: with None, or with the first refusal, or with an UplinkDown.
    """

    topic: str
    payloads: Sequence[bytes]
    retain: bool
    taken: Callable[[int], None]
    done: "asyncio.Future[None]"
    urgent: bool = False
    """Whether it passes those that are not, because what it says is true now."""
    next: int = 0
    unanswered: int = 0
    refusal: UplinkRefused | None = None

    @property
    def is_sent(self) -> bool:
        """Whether there is nothing left to send: all sent, one refused, or nobody waits for it any more."""
        return self.next >= len(self.payloads) or self.refusal is not None or self.done.done()

    def settle(self) -> None:
        """Tell the caller, if every answer is here."""
        if self.is_sent and not self.unanswered and not self.done.done():
            if self.refusal is not None:
                self.done.set_exception(self.refusal)
            else:
                self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """The connection is over; a refusal that came before says more than that."""
        if not self.done.done():
            self.done.set_exception(self.refusal or error)


@dataclass(slots=True)
class Sent:
    """A message without its PUBACK. `since`: when it left, or when a later one was acknowledged before it."""

    run: Run
    place: int
    size: int
    since: float
    overtaken: bool = False


@dataclass(slots=True)
class Limits:
    """What this broker and this line bear; the broker's own figures come with its CONNACK."""

    window: int = IN_FLIGHT_MAX
    window_bytes: int = IN_FLIGHT_BYTES_MAX
    packet_bytes: int = 268_435_455
    retain: bool = True


@dataclass(slots=True)
class Outbox:
    """The queue of one connection. `send` hands over to the network, `refuse` makes the error for a reason code."""

    send: Send
    refuse: Callable[[str, int, str], UplinkRefused]
    now: Callable[[], float]
    limits: Limits = field(default_factory=Limits)
    acknowledged: int = 0
    _first: deque[Run] = field(default_factory=deque)
    _then: deque[Run] = field(default_factory=deque)
    _sent: dict[int, Sent] = field(default_factory=dict)
    _sent_bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be sent and nothing is on its way."""
        return not (self._sent or self._first or self._then)

    def add(self, run: Run) -> None:
        """To be sent behind what is there, or before all that is not urgent."""
        (self._first if run.urgent else self._then).append(run)

    def pump(self) -> None:
        """Send what the window has room for."""
        while (queue := self._first or self._then) and self._send_next(queue):
            pass

    def _send_next(self, queue: deque[Run]) -> bool:
        """The next message of the first run. False if there is no room for it, or no connection."""
        run = queue[0]
        if run.is_sent:
            queue.popleft()
            run.settle()
            return True
        size = len(run.payloads[run.next]) + len(run.topic) + OVERHEAD_BYTES
        if size > self.limits.packet_bytes:
            run.refusal = self.refuse(run.topic, 0x95, f" (its limit is {self.limits.packet_bytes} bytes)")
            return True
        if run.retain and not self.limits.retain:
            run.refusal = self.refuse(run.topic, 0x9A, "")
            return True
        if not self._has_room(size):
            return False
        identifier = self.send(run.topic, run.payloads[run.next], run.retain)
        if identifier is None:
            return False
        self._sent[identifier] = Sent(run, run.next, size, self.now())
        self._sent_bytes += size
        run.next += 1
        run.unanswered += 1
        return True

    def _has_room(self, size: int) -> bool:
        if not self._sent:
            return True
        return len(self._sent) < self.limits.window and self._sent_bytes + size <= self.limits.window_bytes

    def answered(self, identifier: int, refusal: Callable[[str], UplinkRefused] | None) -> None:
        """A PUBACK came: a refusal makes its error from the topic, None is reason code 0. Unknown ones are ignored."""
        sent = self._sent.get(identifier)
        if sent is None:
            return
        if next(iter(self._sent)) != identifier:
            self._note_overtaken(identifier)
        del self._sent[identifier]
        self._sent_bytes -= sent.size
        self.acknowledged += 1
        run = sent.run
        run.unanswered -= 1
        if refusal is None:
            if not run.done.done():
                run.taken(sent.place)
        elif run.refusal is None:
            run.refusal = refusal(run.topic)
        if not run.unanswered:
            run.settle()

    def _note_overtaken(self, identifier: int) -> None:
        """A broker acknowledges in the order of arrival, so the PUBACKs of those before this one were lost.

        Their time-out runs from now on, however much the others move.
        """
        for earlier, sent in self._sent.items():
            if earlier == identifier:
                return
            if not sent.overtaken:
                sent.overtaken, sent.since = True, self.now()

    def refuse_largest(self, refusal: Callable[[str], UplinkRefused]) -> None:
        """The broker hangs up on a message that is too large and does not say which: the others may try again."""
        largest = max(self._sent, key=lambda identifier: self._sent[identifier].size, default=None)
        if largest is not None:
            self.answered(largest, refusal)

    def is_overdue(self, moved: float, limit_s: float) -> bool:
        """Whether a PUBACK is missing for longer than this, counted from the last sign of life at `moved`."""
        since = self.now() - limit_s
        return any(
            (sent.since if sent.overtaken else max(sent.since, moved)) < since for sent in self._sent.values()
        )

    def end(self, error: Callable[[], Exception]) -> None:
        """The connection is over for everybody who waits for it."""
        runs: Iterable[Run] = [*(sent.run for sent in self._sent.values()), *self._first, *self._then]
        self._sent.clear()
        self._first.clear()
        self._then.clear()
        self._sent_bytes = 0
        for run in runs:
            run.fail(error())
