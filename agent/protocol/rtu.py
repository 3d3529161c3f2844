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
  The first answer of that shape after a failure may still be the late one, beyond every window: then that to the
  present question is owed, for as long as it may take.
- *Only the one answer fits.* Unit, function, byte count, length and checksum are those of the request, or it is not
  the answer. Garbage, echoes and frames of others around it are skipped, without losing it. But while an answer is
  owed, two may meet on the wire, and of 65,536 such ruins one has the right checksum: then the answer is believed only
  if no byte stands before it and none follows within the silence, which has to be kept anyway.

The bounds: an answer that begins later than its late window (two time-outs after the request), a unit that answers one
question twice, and one whose late answer also has another shape than it was asked for, cannot be told from the answer
to the next question by anybody; the plausibility gates come after.

Sources: MODBUS over Serial Line Specification V1.02, sections 2.5.1 and 6.2; RTU frames of V1.1b3.
"""

from dataclasses import dataclass, field

from agent.errors import FrameDamaged, MeteringError, MeterSilent
from agent.metering.plant import SerialSettings
from agent.protocol.events import Event, Failed, WaitUntil, Words
from agent.protocol.pdu import EXCEPTION_FLAG, ReadRequest, refusal, words_of
from agent.protocol.rtu_frame import EXCEPTION_BYTES, Found, begins, exception_header, frame, frame_at
from agent.protocol.silence import Silence, character_ns, silence_ns

LATE_FACTOR = 2
"""A late window lasts this many time-outs from the end of the request."""
ELSEWHERE_NS = 1_000_000_000
"""At least so long no other registers are asked for in the same shape where a meter that has answered before does not:
it may think long at once. Where nobody has answered there may be nobody; a search would wait for each address."""
MISSED_NS = 2_000_000_000
"""For so long after a late window the first answer may still be the one that was missed; so late it can be at most."""
SLACK_NS = 60_000_000
"""Most that an adapter, its driver or a terminal server holds back bytes that are on their way (FTDI: 16 ms)."""
SETTLE_NS = 30_000_000
"""Silence after a wrong answer that says nothing better will follow."""
BUFFER_BYTES = 600
"""More unexplained bytes than two of the longest frames need not be kept."""
STRAYS_MAX = 64
"""So many replies that nobody asked for are remembered until somebody wants to know."""


# -------------------------------------------------------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class _Debt:
    """An answer that may still come: its shape, and until when it has to be expected.

    `address` is what was asked for, None where nobody knows. Until `elsewhere_ns` it would be taken for the answer to a
    question after other registers, which would be wrong; as that to the same question it would only be old.
    """

    function: int
    count: int
    until_ns: int
    address: int | None
    elsewhere_ns: int

    def settled_ns(self, request: ReadRequest) -> int:
        """When it cannot be taken for the answer to this request any more; 0 where it never can."""
        if (self.function, self.count) != (request.function, request.count):
            return 0
        return self.until_ns if request.address == self.address else self.elsewhere_ns


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


def _fits(found: Found, debt: _Debt) -> bool:
    """Whether this may be the answer that was owed."""
    if found.is_exception:
        return found.function == debt.function | EXCEPTION_FLAG
    return found.is_data and found.function == debt.function and found.data[2] == 2 * debt.count


@dataclass(frozen=True, slots=True)
class _Missed:
    """A question that was not answered in time: when it was sent, and until when an answer may be the one to it."""

    sent_ns: int
    until_ns: int


@dataclass(slots=True)
class _Unit:
    """What the line knows of one address.

    `window_ns` is how long an answer of it may be late, by its last time-out. `missed` is by function and number of
    registers.
    """

    debts: list[_Debt] = field(default_factory=list)
    window_ns: int = 0
    has_answered: bool = False
    missed: dict[tuple[int, int], _Missed] = field(default_factory=dict)


class RtuMaster:
    """One line. Make one request at a time: `begin`, then `receive` and `tick` as told, until Words or Failed.

    `late_factor` 0 switches the memory for late answers off; tests use it to show what it is for.
    """

    def __init__(self, silence: Silence, *, late_factor: int = LATE_FACTOR) -> None:
        self._silence = silence
        self._late_factor = late_factor
        self._ask: _Ask | None = None
        self._buffer = bytearray()
        self._units: dict[int, _Unit] = {}
        self._strays: list[int] = []
        self._owed_until_ns = 0
        self._garbage = 0
        self._foreign = 0
        self._echoes = 0
        self._overheard = 0
        """So much of the buffer was searched while nothing was outstanding: a babbler is not read all over again."""

    # ----------------------------------------------------------------------------------------------- what callers do

    @property
    def is_busy(self) -> bool:
        """Whether a request is outstanding."""
        return self._ask is not None

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

    def echoes(self) -> int:
        """How many of our own requests came back since this was last called: the adapter hears itself."""
        found, self._echoes = self._echoes, 0
        return found

    def _sweep_out(self) -> None:
        self._garbage += len(self._buffer)
        self._buffer.clear()
        self._overheard = 0

    def connected(self) -> None:
        """The port was opened. Debts are kept: it may still deliver what the one before it was owed."""
        self._buffer.clear()
        self._overheard = 0

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
        patience_ns = self._silence.patience_ns(now_ns, settled_ns) + self._units[request.unit].window_ns
        self._ask = _Ask(request, timeout_ns, quiet_ns, settings or self._silence.settings, patience_ns)
        return self._speak(now_ns, self._ask)

    def receive(self, now_ns: int, data: bytes) -> list[Event]:
        """Take bytes that have just arrived, also while nothing is outstanding."""
        self._silence.heard(now_ns)
        self._buffer += data
        self._cut(max(0, len(self._buffer) - BUFFER_BYTES))
        if self._ask is None or self._ask.sent_ns is None:
            self._overhear(now_ns)
            return [] if self._ask is None else self._speak(now_ns, self._ask)
        self._overheard = 0
        return self._judge(now_ns, self._ask)

    def _cut(self, count: int) -> None:
        """Take so many bytes from the front of the buffer."""
        del self._buffer[:count]
        self._overheard = max(0, self._overheard - count)

    def tick(self, now_ns: int) -> list[Event]:
        """The time of the last WaitUntil has come (or has not: then it is said again)."""
        if self._ask is None:
            return []
        return self._speak(now_ns, self._ask) if self._ask.sent_ns is None else self._judge(now_ns, self._ask)

    def abandon(self) -> None:
        """The caller went away or the port is gone: what was asked may still be answered, and is owed."""
        if self._ask is not None:
            self._close(self._ask)

    # ------------------------------------------------------------------------------------------------ before sending

    def _settled_ns(self, now_ns: int, request: ReadRequest) -> int:
        """When no late answer can be taken for the answer to this request any more."""
        unit = self._units.setdefault(request.unit, _Unit())
        unit.debts = [debt for debt in unit.debts if debt.elsewhere_ns > now_ns]
        return max((debt.settled_ns(request) for debt in unit.debts), default=0)

    def _speak(self, now_ns: int, ask: _Ask) -> list[Event]:
        """Send when the line is silent and owes nothing that would fit; wait until then, but not for ever."""
        settled_ns = self._settled_ns(now_ns, ask.request)
        wait = self._silence.turn(now_ns, ask.settings, settled_ns=settled_ns, patience_ns=ask.patience_ns)
        if wait is None:
            return self._send(now_ns, ask)
        if isinstance(wait, Failed):
            self._ask = None
        return [wait]

    def _send(self, now_ns: int, ask: _Ask) -> list[Event]:
        self._sweep_out()
        ask.sent = frame(ask.request.unit, ask.request.pdu())
        ask.sent_ns = now_ns
        events = self._silence.broken_by(now_ns, ask.settings, ask.sent)
        ask.first_ns = self._silence.last_ns + ask.timeout_ns
        ask.hard_ns = ask.first_ns + ask.reply_bytes * character_ns(ask.settings) + SLACK_NS
        self._units[ask.request.unit].window_ns = self._late_factor * ask.timeout_ns
        return [*events, WaitUntil(ask.first_ns)]

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
        self._close(ask)
        return [Failed(self._verdict(ask))]

    def _release(self, now_ns: int, ask: _Ask, held: Words) -> list[Event]:
        """Believe an answer that came while others were owed: if it stands alone, when the silence after it is over."""
        if self._buffer or ask.noise:
            self._close(ask)
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
        self._close(ask, answered_ns=now_ns)
        return [held]

    def _deadline_ns(self, ask: _Ask) -> int:
        """When to stop waiting, by what has arrived so far; never later than `hard_ns`."""
        hope = self._hope(ask)
        if hope is not None:
            missing = ask.reply_bytes - (len(self._buffer) - hope)
            rest_ns = missing * character_ns(self._silence.settings) + SLACK_NS
            return min(ask.hard_ns, max(ask.first_ns, self._silence.last_ns + rest_ns))
        if ask.doubt:
            return min(
                ask.first_ns, self._silence.last_ns + max(SETTLE_NS, silence_ns(self._silence.settings))
            )
        return ask.first_ns

    def _hope(self, ask: _Ask) -> int | None:
        """Where in the buffer our answer may have begun without being complete; None where it cannot have."""
        header = bytes((ask.request.unit,)) + ask.request.reply_header
        for at in range(len(self._buffer)):
            if begins(self._buffer, at, header, ask.reply_bytes) or begins(
                self._buffer, at, exception_header(ask.request), EXCEPTION_BYTES
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
                begins(self._buffer, at, header, ask.reply_bytes)
                or begins(self._buffer, at, exception_header(ask.request), EXCEPTION_BYTES)
            ):
                return None
            found = frame_at(self._buffer, at)
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

    def _weigh(self, now_ns: int, ask: _Ask, found: Found) -> Event | None:
        """What one sound frame means for the outstanding request; None to go on waiting."""
        request = ask.request
        if found.data == ask.sent:
            self._echoes += 1
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
                ask.held, ask.held_until_ns = answer, now_ns + silence_ns(self._silence.settings)
                return None
            self._close(ask, answered_ns=now_ns)
            return answer
        if found.is_request and not found.is_data:
            self._note_stray(found)
            return None
        if self._is_owed(now_ns, found):
            self._note_stray(found)
            return None
        if found.data[:2] == exception_header(request):
            self._close(ask, answered_ns=now_ns)
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

    def _close(self, ask: _Ask, *, answered_ns: int | None = None) -> None:
        """End the transaction; without a sound answer its unit owes one.

        So it does where the answer may have been the one to an earlier question.
        """
        self._ask = None
        if ask.sent_ns is None:
            return
        self._silence.quiet_ns = ask.quiet_ns
        if not self._late_factor:
            return
        unit, shape = self._units[ask.request.unit], (ask.request.function, ask.request.count)
        unit.has_answered |= answered_ns is not None
        missed = unit.missed.pop(shape, None)
        if missed is not None and missed.until_ns <= ask.sent_ns:
            missed = None
        if answered_ns is None or missed is not None:
            self._owe(ask, unit, missed, answered_ns=answered_ns)

    def _owe(self, ask: _Ask, unit: _Unit, missed: _Missed | None, *, answered_ns: int | None) -> None:
        """Its answer may still come; as late as the one that came, where that may be the one to what was `missed`."""
        assert ask.sent_ns is not None
        shape = (ask.request.function, ask.request.count)
        reply_ns = ask.reply_bytes * character_ns(self._silence.settings) + SLACK_NS
        until_ns = ask.first_ns + (self._late_factor - 1) * ask.timeout_ns + reply_ns
        if answered_ns is not None and missed is not None:
            until_ns = max(until_ns, ask.sent_ns + min(answered_ns - missed.sent_ns, MISSED_NS) + reply_ns)
        else:
            since_ns = ask.sent_ns if missed is None else missed.sent_ns
            unit.missed[shape] = _Missed(since_ns, until_ns + MISSED_NS)
        elsewhere_ns = max(until_ns, ask.sent_ns + ELSEWHERE_NS + reply_ns) if unit.has_answered else until_ns
        unit.debts.append(_Debt(*shape, until_ns, ask.request.address, elsewhere_ns))
        self._owed_until_ns = max(self._owed_until_ns, until_ns)

    def _note_stray(self, found: Found) -> None:
        if found.is_data or found.is_exception:
            self._strays = [*self._strays[1 - STRAYS_MAX :], found.unit]
        elif found.is_request:
            self._foreign += 1

    def _is_owed(self, now_ns: int, found: Found) -> bool:
        """Whether this frame may be an answer that was owed.

        The debt stays until its window is over: the frame may also be the wrong answer of somebody else that only looks
        like it (another function, another unit), and the owed one is still to come. In a million faulty transactions
        this made the difference between eight wrong values and none.
        """
        unit = self._units.get(found.unit)
        if unit is None:
            return False
        return any(debt.elsewhere_ns > now_ns and _fits(found, debt) for debt in unit.debts)

    def _overhear(self, now_ns: int) -> None:
        """Note frames that come while nothing is outstanding: an answer that was owed, or a unit that answers twice."""
        at = 0
        while at < len(self._buffer):
            found = frame_at(self._buffer, at, beyond=self._overheard)
            if found is None:
                at += 1
                continue
            self._cut(at + len(found.data))
            at = 0
            self._note_stray(found)
            if not self._is_owed(now_ns, found) and found.is_data and found.unit in self._units:
                unit = self._units[found.unit]
                until_ns = now_ns + unit.window_ns
                unit.debts.append(_Debt(found.function, found.data[2] // 2, until_ns, None, until_ns))
                self._owed_until_ns = max(self._owed_until_ns, until_ns)
        self._overheard = len(self._buffer)
