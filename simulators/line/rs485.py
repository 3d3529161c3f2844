"""The model of one RS485 pair: characters that occupy it for their time, and meters that listen for silence.

No I/O and no clock: `master_sends` puts characters on the line, `advance` says what the master has received by then,
`next_ns` when to look again. All times are monotonic nanoseconds. As on a real line

- a character takes (start + 8 + parity + stop) / baud, and two that overlap damage each other;
- a frame is what lies between two silences of 3.5 characters, so that a request begun too early is lost together with
  what it was begun behind;
- the meter answers its turnaround after the last character of the request, never before the silence is over.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import only_frame
from agent.protocol.rtu_frame import is_sound
from agent.protocol.silence import character_ns, silence_ns
from simulators.meters.faults import Transmission

Hear = Callable[[bytes], list[Transmission]]
"""A whole sound frame was heard: what the meters answer, timed from its last character."""


@dataclass(slots=True)
class _Character:
    """One character on the pair."""

    start_ns: int
    end_ns: int
    value: int
    from_master: bool
    asks: bool
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A character as the master's receiver sees it."""

    at_ns: int
    value: int


class Rs485Line:
    """One pair with the meters behind `hear`.

    `echo` gives the master its own characters back (two-wire adapters without receive disable). `flip_every`
    damages on average one character in so many; 0 is a clean line.
    """

    def __init__(
        self,
        settings: SerialSettings,
        hear: Hear,
        *,
        echo: bool = False,
        flip_every: int = 0,
        seed: int = 0,
    ) -> None:
        self._settings = settings
        self._silence_ns = silence_ns(settings)
        self.echo = echo
        self.flip_every = flip_every
        self.begun_too_early = 0
        self.collisions = 0
        self.requests_heard = 0
        self.overruns = 0
        self.heard_ns = 0
        """When the last character of the latest sound request was over."""
        self._hear = hear
        self._chance = random.Random(seed)
        self._on_line: list[tuple[int, int, _Character]] = []
        """A heap: when each ends, its number, and the character."""
        self._heard = bytearray()
        self._heard_asking_only = True
        self._last_end_ns = 0
        self._master_free_ns = 0
        self._count = 0

    @property
    def settings(self) -> SerialSettings:
        """Speed and framing at which the master's port is tuned."""
        return self._settings

    @settings.setter
    def settings(self, settings: SerialSettings) -> None:
        self._settings = settings
        self._silence_ns = silence_ns(settings)

    def master_sends(self, now_ns: int, data: bytes) -> None:
        """Bytes leave the master's transmitter one after the other, from now or when it is free."""
        start_ns = max(now_ns, self._master_free_ns)
        before_ns = max([self._last_end_ns, *(end for end, _, c in self._on_line if c.start_ns < start_ns)])
        if before_ns != self._master_free_ns and start_ns < before_ns + self._silence_ns:
            self.begun_too_early += 1
        self._master_free_ns = self._put(start_ns, data, from_master=True)

    def other_master_sends(self, now_ns: int, data: bytes) -> None:
        """Somebody else asks, without listening for who is talking; the meters take it for their master."""
        self._put(now_ns, data, from_master=False, asks=True)

    def babble(self, now_ns: int, count: int) -> None:
        """Some device talks without being asked: `count` random characters from now on."""
        self._put(now_ns, self._chance.randbytes(count), from_master=False)

    def retune(self, settings: SerialSettings, hear: Hear) -> None:
        """The master's port has another speed from here on; `hear` are the meters that follow."""
        self.settings = settings
        self._hear = hear

    def next_ns(self, *, characters: int = 1) -> int | None:
        """When something happens next; None while the line is idle.

        With more `characters`: when so many have passed, or all there are, for callers who need not see each one.
        """
        times = [sorted(self._on_line)[:characters][-1][0]] if self._on_line else []
        if self._frame_is_over():
            times.append(self._frame_end_ns())
        return min(times, default=None)

    def next_pause_ns(self, characters: int) -> int | None:
        """When something happens next for a receiver that hands on so many characters at once.

        That is when so many have passed that follow one another without a pause, or all of them; None while the line
        is idle.
        """
        if not self._on_line or self._frame_is_over():
            return self.next_ns()
        run = sorted(self._on_line)[:characters]
        end_ns = run[0][0]
        for each_end_ns, _, character in run:
            if character.start_ns > end_ns:
                break
            end_ns = each_end_ns
        return end_ns

    @property
    def is_sending(self) -> bool:
        """Whether any character is on the line, or about to be."""
        return bool(self._on_line)

    def advance(self, now_ns: int) -> list[Delivery]:
        """Let the line run up to now; the characters that the master has received since."""
        received: list[Delivery] = []
        while True:
            if self._frame_is_over() and self._frame_end_ns() <= now_ns:
                self._end_of_frame()
            elif self._on_line and self._on_line[0][0] <= now_ns:
                self._arrive(heapq.heappop(self._on_line)[-1], received)
            else:
                return received

    # ---------------------------------------------------------------------------------------------------- characters

    def _put(self, start_ns: int, data: bytes, *, from_master: bool, asks: bool = False) -> int:
        """Occupy the line; returns when the last character is over."""
        duration_ns = character_ns(self.settings)
        others = list(self._on_line)  # those of this frame follow one another
        for value in data:
            self._count += 1
            new = _Character(start_ns, start_ns + duration_ns, value, from_master, asks or from_master)
            for other_end_ns, _, other in others:
                if other.start_ns < new.end_ns and start_ns < other_end_ns:
                    self.collisions += not (other.damaged and new.damaged)
                    other.damaged = new.damaged = True
            heapq.heappush(self._on_line, (new.end_ns, self._count, new))
            start_ns += duration_ns
        return start_ns

    def _arrive(self, character: _Character, received: list[Delivery]) -> None:
        value = character.value
        if character.damaged or (self.flip_every and self._chance.randrange(self.flip_every) == 0):
            value ^= self._chance.randrange(1, 256)
        if character.start_ns - self._last_end_ns >= self._silence_ns:
            self._begin_frame()
        self._heard.append(value)
        self._heard_asking_only &= character.asks
        self._last_end_ns = max(self._last_end_ns, character.end_ns)
        if self.echo or not character.from_master:
            received.append(Delivery(character.end_ns, value))

    def _begin_frame(self) -> None:
        self._heard.clear()
        self._heard_asking_only = True

    def _frame_end_ns(self) -> int:
        return self._last_end_ns + self._silence_ns

    def _frame_is_over(self) -> bool:
        """Whether something was heard, and no character begins before the silence after it is over."""
        if not self._heard:
            return False
        end_ns = self._last_end_ns + self._silence_ns
        for _, _, character in self._on_line:  # noqa: SIM110  # asked for at every character: twice as fast as all()
            if character.start_ns < end_ns:
                return False
        return True

    def _end_of_frame(self) -> None:
        frame, end_ns, asks = bytes(self._heard), self._last_end_ns, self._heard_asking_only
        self._begin_frame()
        if not asks or not (is_sound(frame) or only_frame(frame)):
            return
        self.requests_heard += 1
        self.heard_ns = end_ns
        after_ns: dict[int, int] = {}
        for transmission in self._hear(frame):
            ready_ns = end_ns + max(transmission.delay_ns, self._silence_ns)
            start_ns = max(ready_ns, after_ns.get(transmission.talker, end_ns))
            after_ns[transmission.talker] = self._put(start_ns, transmission.data, from_master=False)
