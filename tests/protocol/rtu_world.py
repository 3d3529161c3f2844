"""A world around the RTU machine for its tests: bytes that arrive at chosen times, and a truth to compare with."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.metering.plant import SerialSettings
from agent.protocol.events import Event, Failed, Send, WaitUntil, Words
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import RtuMaster
from agent.protocol.rtu_frame import REQUEST_BYTES, frame
from agent.protocol.silence import Silence, character_ns, silence_ns

MS = 1_000_000
SETTINGS = SerialSettings(9600, "none", 1)
CHARACTER_NS = character_ns(SETTINGS)
SILENCE_NS = silence_ns(SETTINGS)
TIMEOUT_MS = 100

Chunk = tuple[int, bytes]
"""Nanoseconds after the end of the request, and what arrives then."""


def truth(request: ReadRequest) -> tuple[int, ...]:
    """What the meter of this world keeps there; no two places and units have the same words."""
    first = request.unit * 251 + request.function * 7919 + request.address * 31
    return tuple((first + place * 131) % 65_536 for place in range(request.count))


def good(request: ReadRequest, *, unit: int | None = None) -> bytes:
    """The right answer, or that of another unit to the same question."""
    asked = request if unit is None else ReadRequest(unit, request.function, request.address, request.count)
    words = b"".join(word.to_bytes(2, "big") for word in truth(asked))
    return frame(asked.unit, asked.reply_header + words)


@dataclass
class World:
    """Virtual time and what is still on its way to the master's receiver.

    It insists on the silence before every request: 3.5 characters after the last character in either direction, and
    the rest of the meter that was asked last.
    """

    master: RtuMaster = field(default_factory=lambda: RtuMaster(Silence(SETTINGS)))
    now_ns: int = 1_000 * MS
    last_character_ns: int = 0
    rest_ns: int = 0
    sent: list[int] = field(default_factory=list)
    on_the_way: list[tuple[int, int, bytes]] = field(default_factory=list)
    count: int = 0

    def read(
        self,
        request: ReadRequest,
        replies: Callable[[bytes], Sequence[Chunk]],
        *,
        timeout_ms: int = TIMEOUT_MS,
        quiet_ms: int = 0,
        give_up_ns: int | None = None,
    ) -> Words | Failed | None:
        """One transaction; `replies` says what arrives after the request. None if the caller gave up."""
        give_up_ns = None if give_up_ns is None else self.now_ns + give_up_ns
        alarm_ns = self.now_ns
        events = self.master.begin(self.now_ns, request, timeout_ns=timeout_ms * MS, quiet_ns=quiet_ms * MS)
        while True:
            for event in events:
                match event:
                    case Words() | Failed():
                        return event
                    case WaitUntil(at_ns):
                        alarm_ns = at_ns
                    case Send(data):
                        self._sending(replies(data))
                        self.rest_ns = quiet_ms * MS
            if give_up_ns is not None and min(alarm_ns, self._next_arrival()) > give_up_ns:
                self.now_ns = max(self.now_ns, give_up_ns)
                self.master.abandon()
                return None
            events = self._step(alarm_ns)

    def idle(self, duration_ns: int) -> None:
        """Time passes, bytes may arrive."""
        end_ns = self.now_ns + duration_ns
        while self._next_arrival() <= end_ns:
            self._step(end_ns + 1)
        self.now_ns = end_ns

    def _sending(self, chunks: Sequence[Chunk]) -> None:
        assert self.now_ns >= self.last_character_ns + SILENCE_NS + self.rest_ns, "the silence was not kept"
        self.sent.append(self.now_ns)
        end_ns = self.now_ns + REQUEST_BYTES * CHARACTER_NS
        self.last_character_ns = end_ns
        for after_ns, data in chunks:
            self.count += 1
            heapq.heappush(self.on_the_way, (end_ns + after_ns, self.count, data))

    def _next_arrival(self) -> int:
        return self.on_the_way[0][0] if self.on_the_way else 1 << 62

    def _step(self, alarm_ns: int) -> list[Event]:
        if self._next_arrival() <= alarm_ns:
            at_ns, _, data = heapq.heappop(self.on_the_way)
            self.now_ns = max(self.now_ns, at_ns)
            self.last_character_ns = max(self.last_character_ns, self.now_ns)
            return self.master.receive(self.now_ns, data)
        self.now_ns = max(self.now_ns, alarm_ns)
        return self.master.tick(self.now_ns)
