"""The Modbus TCP transaction as a state machine without I/O: bytes and times in, events out.

One `TcpMaster` per connection, used like `rtu.RtuMaster` and with its events. A gateway gives every answer the number
of its question back, so a late answer is known and skipped. Gateways that give back 0 instead number nothing: there the
connection remembers, as a pair does, what it is owed. A unit that did not answer is asked the same shape again only
after its late window, and an answer without a number that an earlier question could have brought is not believed.

What is no Modbus TCP, and an answer that broke off in the middle, end the connection: nobody can say where the next
frame begins. Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, sections 3.1.3 and 4.4.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import FrameDamaged, LineDown, MeteringError, MeterSilent
from agent.protocol.events import Event, Failed, Send, WaitUntil, Words
from agent.protocol.pdu import EXCEPTION_FLAG, ReadRequest, words_of
from agent.protocol.rtu import LATE_FACTOR
from agent.protocol.tcp import HEADER_BYTES, Frame, frames

LENGTH_MAX = 254
"""Most that the length field of a frame can say: unit and a PDU of 253 bytes."""
_NUMBERS = 65_535

Encode = Callable[[int, ReadRequest], bytes]
"""Transaction number and request -> frame."""


def encoded(number: int, request: ReadRequest) -> bytes:
    """The frame of a numbered request."""
    return Frame(number, request.unit, request.pdu()).encode()


@dataclass(frozen=True, slots=True)
class _Debt:
    """An answer that may still come, and until when."""

    request: ReadRequest
    until_ns: int


@dataclass(slots=True)
class _Ask:
    """The one request that is being made; `sent_ns` is None while it waits for what is owed."""

    request: ReadRequest
    timeout_ns: int
    number: int = 0
    sent_ns: int | None = None


class TcpMaster:
    """One connection. Make one request at a time: `begin`, then `receive` and `tick` as told, until Words or Failed.

    `late_factor` is the late window of a unit that did not answer, in time-outs from the request. `encode` makes the
    frame of a numbered request.
    """

    def __init__(self, *, late_factor: int = LATE_FACTOR, encode: Encode | None = None) -> None:
        self._encode = encode or encoded
        self._late_factor = late_factor
        self._ask: _Ask | None = None
        self._number = 0
        self._nameless = False
        self._buffer = b""
        self._debts: list[_Debt] = []

    def connected(self) -> None:
        """A new connection brings nothing of the old one."""
        self._buffer = b""
        self._debts.clear()

    def begin(self, now_ns: int, request: ReadRequest, *, timeout_ns: int) -> list[Event]:
        """Make a request as soon as no answer that is owed could be taken for the answer to it.

        Raises:
            RuntimeError: a request is outstanding.
            LineDown: the last answer broke off in the middle; connect anew.
        """
        if self._ask is not None:
            raise RuntimeError("one request at a time: the connection is still waiting for an answer")
        if self._buffer:
            raise LineDown("the gateway broke off in the middle of a reply")
        self._ask = _Ask(request, timeout_ns)
        return self._speak(now_ns, self._ask)

    def receive(self, now_ns: int, data: bytes) -> list[Event]:
        """Take bytes that have just arrived, also while nothing is outstanding. Raises LineDown for senseless ones."""
        buffer = self._buffer + data if self._buffer else data
        end = 0
        events: list[Event] = []
        for frame, behind in frames(buffer):
            events = events or self._weigh(now_ns, frame)
            end = behind
        self._buffer = buffer[end:]
        if self._buffer and not _may_begin(self._buffer):
            raise LineDown("what came is no Modbus TCP; check the transport in the site file")
        return events

    def tick(self, now_ns: int) -> list[Event]:
        """The time of the last WaitUntil has come (or has not: then it is said again)."""
        ask = self._ask
        if ask is None:
            return []
        if ask.sent_ns is None:
            return self._speak(now_ns, ask)
        deadline_ns = ask.sent_ns + ask.timeout_ns
        if now_ns < deadline_ns:
            return [WaitUntil(deadline_ns)]
        self._owe(ask)
        silent = f"unit {ask.request.unit} did not answer {ask.request} in {ask.timeout_ns // 1_000_000} ms"
        return [Failed(MeterSilent(silent))]

    def abandon(self) -> None:
        """The caller went away: what was asked may still be answered, and is owed."""
        if self._ask is not None:
            self._owe(self._ask)

    # ------------------------------------------------------------------------------------------------------- inside

    def _speak(self, now_ns: int, ask: _Ask) -> list[Event]:
        if self._debts:
            self._debts = [debt for debt in self._debts if debt.until_ns > now_ns]
            owed_ns = self._owed_ns(ask.request) if self._nameless else 0
            if owed_ns:
                return [WaitUntil(owed_ns)]
        self._number = self._number % _NUMBERS + 1
        ask.number, ask.sent_ns = self._number, now_ns
        return [Send(self._encode(ask.number, ask.request)), WaitUntil(now_ns + ask.timeout_ns)]

    def _weigh(self, now_ns: int, frame: Frame) -> list[Event]:
        """What one frame means for the outstanding request; nothing if it is not its answer."""
        ask = self._ask
        if ask is None or ask.sent_ns is None or frame.unit != ask.request.unit:
            return []
        if frame.transaction not in (0, ask.number):
            return []
        if frame.transaction == 0:
            self._nameless = True
            if self._may_be_late(now_ns, ask.request, frame):
                return self._fail(ask, FrameDamaged(_without_number(ask.request)))
        try:
            words = words_of(ask.request, frame.pdu)
        except FrameDamaged as error:
            return self._fail(ask, error)
        except MeteringError as error:
            self._ask = None
            return [Failed(error)]
        self._ask = None
        return [Words(words, ask.sent_ns, now_ns)]

    def _fail(self, ask: _Ask, error: MeteringError) -> list[Event]:
        self._owe(ask)
        return [Failed(error)]

    def _owe(self, ask: _Ask) -> None:
        """End the transaction; its unit may still answer."""
        self._ask = None
        if ask.sent_ns is not None and self._late_factor:
            self._debts.append(_Debt(ask.request, ask.sent_ns + self._late_factor * ask.timeout_ns))

    def _owed_ns(self, request: ReadRequest) -> int:
        """Until when a late answer could be taken for the answer to this request; 0 if none can."""
        shape = _shape(request)
        return max((debt.until_ns for debt in self._debts if _shape(debt.request) == shape), default=0)

    def _may_be_late(self, now_ns: int, request: ReadRequest, frame: Frame) -> bool:
        """Whether an answer without a number may be that to an earlier question; exceptions have no shape."""
        shape = _shape(request)
        known = 2 if frame.pdu[0] & EXCEPTION_FLAG else 3
        return any(
            debt.until_ns > now_ns and _shape(debt.request)[:known] == shape[:known] for debt in self._debts
        )


def _shape(request: ReadRequest) -> tuple[int, int, int]:
    return request.unit, request.function, request.count


def _without_number(request: ReadRequest) -> str:
    return f"unit {request.unit} answered {request} without a transaction number while an answer was owed"


def _may_begin(buffer: bytes) -> bool:
    """Whether these bytes can be the beginning of a frame."""
    if len(buffer) < HEADER_BYTES - 1:
        return buffer[2:4] == b"\0\0"[: max(0, len(buffer) - 2)]
    return buffer[2:4] == b"\0\0" and 2 <= int.from_bytes(buffer[4:6], "big") <= LENGTH_MAX
