"""The master's machine on the simulated pair in virtual time: no waiting, no sockets, the same result every time."""

import asyncio
from collections.abc import Callable

from agent.errors import LineDown
from agent.metering.plant import SerialSettings
from agent.protocol.events import Event, Failed, Retune, Send, WaitUntil, Words
from agent.protocol.pair import PairMaster, Request
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import LATE_FACTOR, RtuMaster
from agent.service.ports import Reply
from simulators.line.rs485 import Hear, Rs485Line


class VirtualBus:
    """One master and one pair, with a clock that jumps to whatever happens next.

    `chunk` is after how many characters the receiver hands bytes on (16 in a UART's buffer, more in a USB adapter);
    what is left is handed on after `hold_ns`. `hear_at` makes the ears of the meters that
    understand the settings to which the master tunes; without it all do.
    """

    def __init__(
        self,
        master: RtuMaster | PairMaster,
        line: Rs485Line,
        *,
        now_ns: int = 1_000_000_000,
        chunk: int = 1,
        hold_ns: int = 0,
        hear_at: Callable[[SerialSettings], Hear] | None = None,
    ) -> None:
        self.now_ns = now_ns
        self.trace: list[tuple[int, Event]] = []
        self._master = master
        self._line = line
        self._chunk = chunk
        self._hold_ns = hold_ns
        self._hear_at = hear_at
        self._received = bytearray()
        self._hand_on_ns: int | None = None
        self._alarm_ns: int | None = None

    def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Words | Failed:
        """One read transaction from beginning to end."""
        events = self._begin(
            request, settings, timeout_ns=timeout_ms * 1_000_000, quiet_ns=quiet_ms * 1_000_000
        )
        while (end := self._obey(events)) is None:
            events = self._next()
        return end

    def _begin(
        self, request: Request, settings: SerialSettings | None, *, timeout_ns: int, quiet_ns: int
    ) -> list[Event]:
        if isinstance(self._master, PairMaster):
            master: RtuMaster | PairMaster = self._master
        elif isinstance(request, ReadRequest):
            master = self._master
        else:
            raise TypeError(f"this master speaks Modbus only, {request} is not")
        return master.begin(
            self.now_ns,
            request,  # type: ignore[arg-type]  # a machine of Modbus only has just been given nothing else
            timeout_ns=timeout_ns,
            quiet_ns=quiet_ns,
            settings=settings,
        )

    def give_up(self, request: ReadRequest, *, timeout_ms: int, after_ns: int) -> None:
        """A read whose caller goes away after this time; what was asked may still be answered."""
        self._obey(self._master.begin(self.now_ns, request, timeout_ns=timeout_ms * 1_000_000))
        self.idle(after_ns)
        self._master.abandon()
        self._alarm_ns = None

    def idle(self, duration_ns: int) -> None:
        """Let time pass without asking anything."""
        until_ns = self.now_ns + duration_ns
        while (due_ns := self._due_ns()) is not None and due_ns <= until_ns:
            self._obey(self._next())
        self.now_ns = until_ns

    def _obey(self, events: list[Event]) -> Words | Failed | None:
        for event in events:
            self.trace.append((self.now_ns, event))
            match event:
                case Send(data):
                    self._line.master_sends(self.now_ns, data)
                case Retune(settings):
                    if self._hear_at is None:
                        self._line.settings = settings
                    else:
                        self._line.retune(settings, self._hear_at(settings))
                case WaitUntil(at_ns):
                    self._alarm_ns = at_ns
                case Words() | Failed():
                    self._alarm_ns = None
                    return event
        return None

    def _due_ns(self) -> int | None:
        due_ns = (
            self._line.next_pause_ns(self._chunk - len(self._received))
            if self._chunk > 1
            else self._line.next_ns()
        )
        for at_ns in (self._hand_on_ns, self._alarm_ns):
            if at_ns is not None and (due_ns is None or at_ns < due_ns):
                due_ns = at_ns
        return due_ns

    def _next(self) -> list[Event]:
        """Jump to the next moment and say what the master makes of it."""
        due_ns = self._due_ns()
        if due_ns is None:
            raise RuntimeError("nobody has anything to do, and the master still waits")
        self.now_ns = max(self.now_ns, due_ns)
        for delivery in self._line.advance(self.now_ns):
            self._received.append(delivery.value)
            self._hand_on_ns = self.now_ns + self._hold_ns
        if len(self._received) >= self._chunk or (
            self._hand_on_ns is not None and self._hand_on_ns <= self.now_ns
        ):
            data, self._received, self._hand_on_ns = bytes(self._received), bytearray(), None
            if data:
                return self._master.receive(self.now_ns, data)
        if self._alarm_ns is not None and self._alarm_ns <= self.now_ns:
            self._alarm_ns = None
            return self._master.tick(self.now_ns)
        return []


class VirtualLine:
    """The agent's port `Line` on a simulated pair, for an event loop of virtual time: hours of polling in seconds.

    A transaction is played at once, to its end, and then time passes for as long as it took.
    """

    def __init__(
        self,
        line: Rs485Line,
        settings: SerialSettings,
        *,
        late_factor: int = LATE_FACTOR,
        hear_at: Callable[[SerialSettings], Hear] | None = None,
    ) -> None:
        self.line = line
        self._master = PairMaster(settings, late_factor=late_factor)
        self.bus = VirtualBus(self._master, line, hear_at=hear_at)
        self.requests: list[tuple[int, ReadRequest, int]] = []
        """When each was asked, what, and with which time-out in ms."""
        self.broken: str | None = None
        self._settings = settings

    async def open(self) -> None:
        """Claim the pair; fails while `broken` says why."""
        if self.broken is not None:
            raise LineDown(self.broken)

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        """One transaction; see `agent.service.ports.Line.read`."""
        if self.broken is not None:
            raise LineDown(self.broken)
        assert isinstance(request, ReadRequest), "only Modbus is recorded"
        loop = asyncio.get_running_loop()
        begun_ns = round(loop.time() * 1_000_000_000)
        self.bus.idle(max(0, begun_ns - self.bus.now_ns))
        self.requests.append((self.bus.now_ns, request, timeout_ms))
        self.bus.trace.clear()
        end = self.bus.read(
            request, timeout_ms=timeout_ms, quiet_ms=quiet_ms, settings=settings or self._settings
        )
        await asyncio.sleep(max(0, self.bus.now_ns - begun_ns) / 1_000_000_000)
        if isinstance(end, Failed):
            raise end.error
        return Reply(end.words, end.sent_ns, end.received_ns)

    async def close(self) -> None:
        """Nothing to let go of."""

    def strays(self) -> list[int | str]:
        """Who answered without being asked since this was last called."""
        return self._master.strays()

    def foreign(self) -> int:
        """How many requests of somebody else were heard since this was last called."""
        return self._master.foreign()

    def echoes(self) -> int:
        """How many of our own requests came back since this was last called."""
        return self._master.echoes()

    def floods(self) -> int:
        """How many reads were given up since this was last called because the line was never silent."""
        return self._master.floods()

    def garbage(self) -> int:
        """How many bytes came since this was last called that are part of no sound frame."""
        return self._master.garbage()
