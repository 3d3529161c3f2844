"""The Modbus RTU transaction as a state machine without I/O: bytes and times in, events out.

One `RtuMaster` per line. It decides when the line is silent long enough to speak, what an answer to the one
outstanding request is, and when there will be none; an adapter (`agent.adapters.rtu_line`) only moves bytes and keeps
an alarm clock. All times are monotonic nanoseconds, all arithmetic is in integers.

Three rules make a wrong value impossible within their bounds, and each is there because a library was measured
without it:

- *We keep the silence.* 3.5 characters (1.75 ms above 19200 baud), and the rest that a meter needs, pass after the last
  character in either direction before a request begins.
- *The line remembers what it is owed.* A request that got no sound answer (time-out, damage, a caller who went away)
  leaves a debt: its unit may still answer, until its late window is over. While a debt runs, a request that a late
  answer would fit (same unit, function and number of registers) has to wait; one of another shape goes out at once,
  and the late answer is known by its shape and skipped. Callers who must not wait ask for one register more or less.
- *Only the one answer fits.* Unit, function, byte count, length and checksum are those of the request, or it is not
  the answer. Garbage, echoes and frames of others around it are skipped, without losing it. But while an answer is
  owed, two may meet on the wire, and of 65,536 such ruins one has the right checksum: then the answer is believed only
  if no byte stands before it and none follows within the silence, which has to be kept anyway.

The bounds: an answer that begins later than its late window (two time-outs after the request), a unit that answers one
question twice, and one whose late answer also has another shape than it was asked for, cannot be told from the answer
to the next question by anybody; the plausibility gates come after.

Sources: MODBUS over Serial Line Specification V1.02, sections 2.5.1 and 6.2; RTU frames of V1.1b3.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.errors import FrameDamaged, MeteringError, MeterSilent
from agent.metering.plant import SerialSettings
from agent.protocol.pdu import EXCEPTION_FLAG, READ_HOLDING, READ_INPUT, ReadRequest, refusal, words_of

REQUEST_BYTES = 8
EXCEPTION_BYTES = 5
FAST_BAUD = 19_200
"""Above this the standard fixes the silence instead of counting characters."""
FAST_SILENCE_NS = 1_750_000

LATE_FACTOR = 2
"""A late window lasts this many time-outs from the end of the request."""
SLACK_NS = 60_000_000
"""Most that an adapter, its driver or a terminal server holds back bytes that are on their way (FTDI: 16 ms)."""
SETTLE_NS = 30_000_000
"""Silence after a wrong answer that says nothing better will follow."""
BABBLE_NS = 1_000_000_000
"""Longest wait for a line that is never silent."""
BUFFER_BYTES = 600
"""More unexplained bytes than two of the longest frames need not be kept."""
STRAYS_MAX = 64
"""So many replies that nobody asked for are remembered until somebody wants to know."""


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """Checksum of an RTU frame (polynomial 0xA001, start 0xFFFF)."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def frame(unit: int, pdu: bytes) -> bytes:
    """An RTU frame: unit, PDU, checksum with its low byte first."""
    body = bytes((unit,)) + pdu
    return body + crc16(body).to_bytes(2, "little")


def is_sound(data: bytes) -> bool:
    """Whether the last two bytes are the checksum of those before them."""
    return len(data) >= 4 and crc16(data[:-2]) == int.from_bytes(data[-2:], "little")


def character_ns(settings: SerialSettings) -> int:
    """How long one character occupies the line, rounded up."""
    return -(-settings.bits_per_character * 1_000_000_000 // settings.baud)


def silence_ns(settings: SerialSettings) -> int:
    """The silence that separates frames: 3.5 characters, 1.75 ms above 19200 baud."""
    if settings.baud > FAST_BAUD:
        return FAST_SILENCE_NS
    return -(-7 * settings.bits_per_character * 1_000_000_000 // (2 * settings.baud))


# ------------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Retune:
    """Change speed and framing of the port, before the next `Send`."""

    settings: SerialSettings


@dataclass(frozen=True, slots=True)
class Send:
    """Write this frame now."""

    data: bytes


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Call `tick` at this time unless bytes arrive before; replaces any earlier wait."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Words:
    """The request is answered. `sent_ns` is when its first byte went out, `received_ns` when the last byte was here.

    `sender` is the address under which a DL/T 645 meter answered, None for Modbus.
    """

    words: tuple[int, ...]
    sent_ns: int
    received_ns: int
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request has no sound answer: MeterSilent, FrameDamaged, MeterBusy or MeterRefused."""

    error: MeteringError


Event = Retune | Send | WaitUntil | Words | Failed


@dataclass(frozen=True, slots=True)
class LineState:
    """What one machine tells the next that speaks on the same line: settings, last character, rest of the meter."""

    settings: SerialSettings
    last_ns: int
    quiet_ns: int


# -------------------------------------------------------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class _Debt:
    """An answer that may still come: its shape, and until when it has to be expected."""

    function: int
    count: int
    until_ns: int


@dataclass(slots=True)
class _Ask:
    """The one request that is being made. Before it is sent `first_ns` and `hard_ns` mean nothing."""

    request: ReadRequest
    timeout_ns: int
    quiet_ns: int
    settings: SerialSettings
    patience_ns: int
    sent_ns: int | None = None
    first_ns: int = 0
    hard_ns: int = 0
    doubt: str = ""
    noise: int = 0
    held: Words | None = None
    held_until_ns: int = 0
    spoke_before: bool = False
    """It has given a sound answer to something else first: an address that speaks twice."""
    sent: bytes = b""

    @property
    def reply_bytes(self) -> int:
        return 5 + 2 * self.request.count


@dataclass(frozen=True, slots=True)
class _Found:
    """A whole frame with a right checksum, somewhere in the buffer."""

    start: int
    data: bytes

    @property
    def unit(self) -> int:
        return self.data[0]

    @property
    def function(self) -> int:
        return self.data[1]

    @property
    def is_exception(self) -> bool:
        return bool(self.function & EXCEPTION_FLAG)

    @property
    def is_data(self) -> bool:
        """A reply with registers; a request has the other parity of length."""
        return self.function in (READ_HOLDING, READ_INPUT) and len(self.data) == 5 + self.data[2]

    @property
    def is_request(self) -> bool:
        """A read request; our own, as an echo, is recognised before this is asked."""
        return len(self.data) == REQUEST_BYTES and self.function in (READ_HOLDING, READ_INPUT)

    def fits(self, debt: _Debt) -> bool:
        """Whether this may be the answer that was owed."""
        if self.is_exception:
            return self.function == debt.function | EXCEPTION_FLAG
        return self.is_data and self.function == debt.function and self.data[2] == 2 * debt.count


@dataclass(slots=True)
class _Unit:
    """What the line knows of one address."""

    debts: list[_Debt] = field(default_factory=list)
    window_ns: int = 0


class RtuMaster:
    """One line. Make one request at a time: `begin`, then `receive` and `tick` as told, until Words or Failed.

    `late_factor` 0 switches the memory for late answers off; tests use it to show what it is for.
    """

    def __init__(self, settings: SerialSettings, *, late_factor: int = LATE_FACTOR) -> None:
        self._settings = settings
        self._late_factor = late_factor
        self._ask: _Ask | None = None
        self._buffer = bytearray()
        self._last_ns = 0
        self._quiet_ns = 0
        self._units: dict[int, _Unit] = {}
        self._strays: list[int] = []
        self._owed_until_ns = 0
        self._garbage = 0
        self._foreign = 0

    # ----------------------------------------------------------------------------------------------- what callers do

    @property
    def settings(self) -> SerialSettings:
        """Speed and framing the port is tuned to."""
        return self._settings

    @property
    def is_busy(self) -> bool:
        """Whether a request is outstanding."""
        return self._ask is not None

    def line_state(self) -> LineState:
        """What the machine of another protocol has to know before it may speak."""
        return LineState(self._settings, self._last_ns, self._quiet_ns)

    def take_over(self, state: LineState) -> None:
        """Speak after the machine of another protocol."""
        self._settings = state.settings
        self._last_ns = max(self._last_ns, state.last_ns)
        self._quiet_ns = state.quiet_ns

    def strays(self) -> list[int]:
        """Units whose replies were heard without being asked for since this was last called, oldest first."""
        heard, self._strays = self._strays, []
        return heard

    def garbage(self) -> int:
        """How many bytes came since this was last called that are part of no sound frame."""
        if self._ask is None:
            self._sweep_out()
        found, self._garbage = self._garbage, 0
        return found

    def foreign(self) -> int:
        """How many requests of somebody else were heard since this was last called."""
        found, self._foreign = self._foreign, 0
        return found

    def _sweep_out(self) -> None:
        self._garbage += len(self._buffer)
        self._buffer.clear()

    def connected(self, now_ns: int, settings: SerialSettings, *, listen_ns: int = 0) -> None:
        """The port was opened with these settings: listen so long before the first request.

        Debts are kept: a reopened port may still deliver what the one before it was owed.
        """
        self._settings = settings
        self._buffer.clear()
        self._last_ns = max(self._last_ns, now_ns + listen_ns)

    def begin(
        self,
        now_ns: int,
        request: ReadRequest,
        *,
        timeout_ns: int,
        quiet_ns: int = 0,
        settings: SerialSettings | None = None,
    ) -> list[Event]:
        """Make a request as soon as the line allows it.

        Args:
            now_ns: monotonic time.
            request: what to read.
            timeout_ns: longest wait from the end of the request to the beginning of the answer.
            quiet_ns: rest of this meter after its answer, beyond the silence of the line.
            settings: speed and framing of this meter, None to leave the line as it is tuned.

        Raises:
            RuntimeError: a request is outstanding; the line has one owner.
        """
        if self._ask is not None:
            raise RuntimeError("one request at a time: the line is still waiting for an answer")
        settled_ns = self._settled_ns(now_ns, request)
        window_ns = self._units[request.unit].window_ns
        patience_ns = max(now_ns, self._last_ns, settled_ns) + self._quiet_ns + window_ns + BABBLE_NS
        self._ask = _Ask(request, timeout_ns, quiet_ns, settings or self._settings, patience_ns)
        return self._speak(now_ns, self._ask)

    def receive(self, now_ns: int, data: bytes) -> list[Event]:
        """Take bytes that have just arrived, also while nothing is outstanding."""
        self._last_ns = max(self._last_ns, now_ns)
        self._buffer += data
        del self._buffer[:-BUFFER_BYTES]
        if self._ask is None or self._ask.sent_ns is None:
            self._overhear(now_ns)
            return [] if self._ask is None else self._speak(now_ns, self._ask)
        return self._judge(now_ns, self._ask)

    def tick(self, now_ns: int) -> list[Event]:
        """The time of the last WaitUntil has come (or has not: then it is said again)."""
        if self._ask is None:
            return []
        return self._speak(now_ns, self._ask) if self._ask.sent_ns is None else self._judge(now_ns, self._ask)

    def abandon(self) -> None:
        """The caller went away or the port is gone: what was asked may still be answered, and is owed."""
        if self._ask is not None:
            self._close(self._ask, answered=False)

    # ------------------------------------------------------------------------------------------------ before sending

    def _settled_ns(self, now_ns: int, request: ReadRequest) -> int:
        """When no late answer can be taken for the answer to this request any more."""
        unit = self._units.setdefault(request.unit, _Unit())
        unit.debts = [debt for debt in unit.debts if debt.until_ns > now_ns]
        shape = (request.function, request.count)
        return max((debt.until_ns for debt in unit.debts if (debt.function, debt.count) == shape), default=0)

    def _speak(self, now_ns: int, ask: _Ask) -> list[Event]:
        """Send when the line is silent and owes nothing that would fit; wait until then, but not for ever."""
        silence = max(silence_ns(self._settings), silence_ns(ask.settings))
        ready_ns = max(self._last_ns + silence + self._quiet_ns, self._settled_ns(now_ns, ask.request))
        if now_ns < ready_ns:
            if now_ns >= ask.patience_ns:
                self._ask = None
                return [
                    Failed(FrameDamaged("the line is never silent: a device or a wrong baud rate floods it"))
                ]
            return [WaitUntil(min(ready_ns, ask.patience_ns))]
        return self._send(now_ns, ask)

    def _send(self, now_ns: int, ask: _Ask) -> list[Event]:
        events: list[Event] = []
        if ask.settings != self._settings:
            self._settings = ask.settings
            events.append(Retune(ask.settings))
        character = character_ns(self._settings)
        self._sweep_out()
        self._quiet_ns = 0
        self._last_ns = now_ns + REQUEST_BYTES * character
        ask.sent = frame(ask.request.unit, ask.request.pdu())
        ask.sent_ns = now_ns
        ask.first_ns = self._last_ns + ask.timeout_ns
        ask.hard_ns = ask.first_ns + ask.reply_bytes * character + SLACK_NS
        self._units[ask.request.unit].window_ns = self._late_factor * ask.timeout_ns
        return [*events, Send(ask.sent), WaitUntil(ask.first_ns)]

    # --------------------------------------------------------------------------------------------- while it is out

    def _judge(self, now_ns: int, ask: _Ask) -> list[Event]:
        """Look for the answer; fail when its time is over."""
        if ask.held is None:
            end = self._search(now_ns, ask, keep_hope=True)
            if end is not None:
                return [end]
        return self._wait(now_ns, ask)

    def _wait(self, now_ns: int, ask: _Ask) -> list[Event]:
        """There is no answer yet, or none that may be believed at once."""
        if ask.held is not None:
            return self._release(now_ns, ask, ask.held)
        deadline_ns = self._deadline_ns(ask)
        if now_ns < deadline_ns:
            return [WaitUntil(deadline_ns)]
        end = self._search(now_ns, ask, keep_hope=False)
        if end is not None:
            return [end]
        return self._give_up(now_ns, ask)

    def _give_up(self, now_ns: int, ask: _Ask) -> list[Event]:
        """Its time is over, unless an answer was found after all and has to stand alone for a moment."""
        if ask.held is not None:
            return self._release(now_ns, ask, ask.held)
        self._close(ask, answered=False)
        return [Failed(self._verdict(ask))]

    def _release(self, now_ns: int, ask: _Ask, held: Words) -> list[Event]:
        """Believe an answer that came while others were owed: if it stands alone, when the silence after it is over."""
        if self._buffer or ask.noise:
            self._close(ask, answered=False)
            unit = ask.request.unit
            return [
                Failed(
                    FrameDamaged(
                        f"unit {unit}: an answer that was owed came together with that to {ask.request}"
                    )
                )
            ]
        if now_ns < ask.held_until_ns:
            return [WaitUntil(ask.held_until_ns)]
        self._close(ask, answered=True)
        return [held]

    def _deadline_ns(self, ask: _Ask) -> int:
        """When to stop waiting, by what has arrived so far; never later than `hard_ns`."""
        hope = self._hope(ask)
        if hope is not None:
            missing = ask.reply_bytes - (len(self._buffer) - hope)
            rest_ns = missing * character_ns(self._settings) + SLACK_NS
            return min(ask.hard_ns, max(ask.first_ns, self._last_ns + rest_ns))
        if ask.doubt:
            return min(ask.first_ns, self._last_ns + max(SETTLE_NS, silence_ns(self._settings)))
        return ask.first_ns

    def _hope(self, ask: _Ask) -> int | None:
        """Where in the buffer our answer may have begun without being complete; None where it cannot have."""
        header = bytes((ask.request.unit,)) + ask.request.reply_header
        for at in range(len(self._buffer)):
            if _begins(self._buffer, at, header, ask.reply_bytes) or _begins(
                self._buffer, at, _exception_header(ask.request), EXCEPTION_BYTES
            ):
                return at
        return None

    def _search(self, now_ns: int, ask: _Ask, *, keep_hope: bool) -> Event | None:
        """Take whole frames out of the buffer until one ends the transaction.

        With `keep_hope` the bytes of an answer that may still be growing are left alone: a part of its payload could
        look like a frame.
        """
        header = bytes((ask.request.unit,)) + ask.request.reply_header
        at = 0
        while at < len(self._buffer):
            if keep_hope and (
                _begins(self._buffer, at, header, ask.reply_bytes)
                or _begins(self._buffer, at, _exception_header(ask.request), EXCEPTION_BYTES)
            ):
                return None
            found = _frame_at(self._buffer, at)
            if found is None:
                if self._buffer[at : at + 3] == header and len(self._buffer) - at >= ask.reply_bytes:
                    ask.doubt = f"unit {ask.request.unit}: wrong checksum in the answer to {ask.request}"
                at += 1
                continue
            ask.noise += at
            self._garbage += at
            del self._buffer[: at + len(found.data)]
            at = 0
            end = self._weigh(now_ns, ask, found)
            if end is not None:
                return end
        return None

    def _weigh(self, now_ns: int, ask: _Ask, found: _Found) -> Event | None:
        """What one sound frame means for the outstanding request; None to go on waiting."""
        request = ask.request
        if found.data == ask.sent:
            return None
        if found.unit != request.unit:
            self._note_stray(found)
            return None
        pdu = found.data[1:-2]
        if pdu[:2] == request.reply_header and found.is_data:
            if ask.spoke_before:
                self._strays = [*self._strays[1 - STRAYS_MAX :], found.unit]
            assert ask.sent_ns is not None
            answer = Words(words_of(request, pdu), ask.sent_ns, now_ns)
            if now_ns < self._owed_until_ns:
                ask.held, ask.held_until_ns = answer, now_ns + silence_ns(self._settings)
                return None
            self._close(ask, answered=True)
            return answer
        if found.is_request and not found.is_data:
            self._note_stray(found)
            return None
        if self._is_owed(now_ns, found):
            self._note_stray(found)
            return None
        if found.data[:2] == _exception_header(request):
            self._close(ask, answered=True)
            return Failed(refusal(request, found.data[2]))
        ask.spoke_before = found.is_data
        size = len(found.data)
        ask.doubt = f"unit {request.unit} answered with function {found.function}, {size} bytes, to {request}"
        return None

    def _verdict(self, ask: _Ask) -> MeteringError:
        """Name what was wrong when the time is over."""
        if ask.doubt:
            return FrameDamaged(ask.doubt)
        stray = ask.noise + len(self._buffer)
        if stray:
            return FrameDamaged(
                f"unit {ask.request.unit}: {stray} bytes came that are no answer to {ask.request}; "
                "check baud rate, parity and wiring"
            )
        return MeterSilent(
            f"unit {ask.request.unit} did not answer {ask.request} in {ask.timeout_ns // 1_000_000} ms"
        )

    # --------------------------------------------------------------------------------------------------------- debts

    def _close(self, ask: _Ask, *, answered: bool) -> None:
        """End the transaction; without a sound answer its unit owes one."""
        self._ask = None
        if ask.sent_ns is None:
            return
        self._quiet_ns = ask.quiet_ns
        if answered or not self._late_factor:
            return
        reply_ns = ask.reply_bytes * character_ns(self._settings) + SLACK_NS
        until_ns = ask.first_ns + (self._late_factor - 1) * ask.timeout_ns + reply_ns
        debt = _Debt(ask.request.function, ask.request.count, until_ns)
        self._units[ask.request.unit].debts.append(debt)
        self._owed_until_ns = max(self._owed_until_ns, until_ns)

    def _note_stray(self, found: _Found) -> None:
        if found.is_data or found.is_exception:
            self._strays = [*self._strays[1 - STRAYS_MAX :], found.unit]
        elif found.is_request:
            self._foreign += 1

    def _is_owed(self, now_ns: int, found: _Found) -> bool:
        """Whether this frame may be an answer that was owed.

        The debt stays until its window is over: the frame may also be the wrong answer of somebody else that only looks
        like it (another function, another unit), and the owed one is still to come. In a million faulty transactions
        this made the difference between eight wrong values and none.
        """
        unit = self._units.get(found.unit)
        if unit is None:
            return False
        return any(debt.until_ns > now_ns and found.fits(debt) for debt in unit.debts)

    def _overhear(self, now_ns: int) -> None:
        """Note frames that come while nothing is outstanding: an answer that was owed, or a unit that answers twice."""
        at = 0
        while at < len(self._buffer):
            found = _frame_at(self._buffer, at)
            if found is None:
                at += 1
                continue
            del self._buffer[: at + len(found.data)]
            at = 0
            self._note_stray(found)
            if not self._is_owed(now_ns, found) and found.is_data and found.unit in self._units:
                unit = self._units[found.unit]
                unit.debts.append(_Debt(found.function, found.data[2] // 2, now_ns + unit.window_ns))
                self._owed_until_ns = max(self._owed_until_ns, now_ns + unit.window_ns)


# ------------------------------------------------------------------------------------------------- frames in a buffer


def _exception_header(request: ReadRequest) -> bytes:
    return bytes((request.unit, request.function | EXCEPTION_FLAG))


def _begins(buffer: bytearray, at: int, header: bytes, length: int) -> bool:
    """Whether an incomplete frame of this header and length may begin here."""
    have = len(buffer) - at
    return 0 < have < length and buffer[at : at + len(header)] == header[:have]


def _lengths(buffer: bytearray, at: int) -> Iterator[int]:
    """The lengths that a frame beginning here can have, by its function code."""
    function = buffer[at + 1]
    if function & EXCEPTION_FLAG:
        yield EXCEPTION_BYTES
        return
    if 1 <= function <= READ_INPUT:
        yield 5 + buffer[at + 2]
        yield REQUEST_BYTES
    else:
        yield REQUEST_BYTES
        yield 5 + buffer[at + 2]


def _frame_at(buffer: bytearray, at: int) -> _Found | None:
    """A whole frame with a right checksum that begins here, if any."""
    if len(buffer) - at < EXCEPTION_BYTES:
        return None
    for length in _lengths(buffer, at):
        data = bytes(buffer[at : at + length])
        if len(data) == length and is_sound(data):
            return _Found(at, data)
    return None
