"""The DL/T 645 transaction as a state machine without I/O: bytes and times in, events out.

The same promises as `rtu.RtuMaster`, and the same events, so that an adapter need not know which of the two speaks:

- *We keep the silence* of the pair, which is one for both languages (`silence.Silence`).
- *The line remembers what it is owed.* A request without a sound answer leaves a debt. While it runs, the same
  question to the same meter has to wait; every other question goes out, because an answer names what it answers.
- *Only the one answer fits*: address, function, identifier, frame number, length and sum. Garbage, echoes and frames
  of others around it are skipped, without losing it.

A meter may pause between characters and may cut a long answer into frames; both are borne.

What looks alike here and in `rtu` is the order of the steps: begin, search the buffer, weigh a frame, give up. Each
step differs in what it knows: a Modbus answer does not name its question, so that debts go by shape and an answer may
have to stand alone; a DL/T 645 answer names it, comes in parts, with gaps and from an address that the question did not
have to say. A common class would be hooks for all of this; two plain machines are shorter to read and to prove.
"""

from dataclasses import dataclass, field

from agent.errors import FrameDamaged, MeteringError, MeterSilent
from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import (
    FRAME_BYTES_MAX,
    FRAME_BYTES_MIN,
    HEADER_BYTES,
    REPLY_FLAG,
    WAKE_UP,
    DltFrame,
    DltRequest,
    address_text,
    check_size,
    concerns,
    frame_at,
    length_at,
    matches,
    overlap,
    payload_of,
    request_frame,
    words_of,
)
from agent.protocol.events import Event, Failed, WaitUntil, Words
from agent.protocol.rtu import LATE_FACTOR, SETTLE_NS, SLACK_NS, STRAYS_MAX
from agent.protocol.silence import BABBLE_NS, Silence, character_ns, silence_ns

BYTE_GAP_NS = 500_000_000
"""Longest pause between two characters of one answer."""
BUFFER_BYTES = 2 * FRAME_BYTES_MAX
PARTS_MAX = 255
"""Most follow-up frames of an answer: their number is one byte."""


@dataclass(frozen=True, slots=True)
class _Debt:
    """An answer that may still come: to which question, and until when it has to be expected."""

    request: DltRequest
    part: int
    until_ns: int


@dataclass(slots=True)
class _Ask:
    """The one request that is being made. Before it is sent `first_ns` and `hard_ns` mean nothing."""

    request: DltRequest
    timeout_ns: int
    quiet_ns: int
    settings: SerialSettings
    patience_ns: int
    part: int = 0
    data: bytearray = field(default_factory=bytearray)
    begun_ns: int | None = None
    sent_ns: int | None = None
    first_ns: int = 0
    hard_ns: int = 0
    doubt: str = ""
    noise: int = 0

    def reply_bytes(self) -> int:
        """The most characters of an answer, a few wake-up bytes included."""
        size = self.request.size
        return len(WAKE_UP) + (FRAME_BYTES_MAX if size is None else FRAME_BYTES_MIN + 5 + size)


class DltMaster:
    """One line. Make one request at a time: `begin`, then `receive` and `tick` as told, until Words or Failed."""

    def __init__(self, silence: Silence, *, late_factor: int = LATE_FACTOR) -> None:
        self._silence = silence
        self._late_factor = late_factor
        self._ask: _Ask | None = None
        self._buffer = bytearray()
        self._debts: list[_Debt] = []
        self._strays: list[str] = []
        self._garbage = 0

    # ----------------------------------------------------------------------------------------------- what callers do

    @property
    def is_busy(self) -> bool:
        """Whether a request is outstanding."""
        return self._ask is not None

    def connected(self) -> None:
        """The port was opened. Debts are kept: it may still deliver what the one before it was owed."""
        self._buffer.clear()

    def strays(self) -> list[str]:
        """Addresses of meters that were heard without being asked since this was last called, oldest first."""
        heard, self._strays = self._strays, []
        return heard

    def garbage(self) -> int:
        """How many bytes came since this was last called that are part of no sound frame, wake-up bytes apart."""
        if self._ask is None:
            self._sweep_out(len(self._buffer))
        found, self._garbage = self._garbage, 0
        return found

    def _sweep_out(self, count: int) -> int:
        """Take so many bytes out of the buffer that nothing explains; how many they are without wake-up bytes."""
        strange = count - self._buffer.count(WAKE_UP[0], 0, count)
        self._garbage += strange
        del self._buffer[:count]
        return strange

    def begin(
        self,
        now_ns: int,
        request: DltRequest,
        *,
        timeout_ns: int,
        quiet_ns: int = 0,
        settings: SerialSettings | None = None,
    ) -> list[Event]:
        """Make a request as soon as the line allows it; see `rtu.RtuMaster.begin`.

        Raises:
            RuntimeError: a request is outstanding; the line has one owner.
        """
        if self._ask is not None:
            raise RuntimeError("one request at a time: the line is still waiting for an answer")
        settled_ns = self._settled_ns(now_ns, request, 0)
        patience_ns = self._silence.patience_ns(now_ns, settled_ns)
        self._ask = _Ask(request, timeout_ns, quiet_ns, settings or self._silence.settings, patience_ns)
        return self._speak(now_ns, self._ask)

    def receive(self, now_ns: int, data: bytes) -> list[Event]:
        """Take bytes that have just arrived, also while nothing is outstanding."""
        self._silence.heard(now_ns)
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

    def _settled_ns(self, now_ns: int, request: DltRequest, part: int) -> int:
        """When no late answer can be taken for the answer to this request any more."""
        self._debts = [debt for debt in self._debts if debt.until_ns > now_ns]
        return max(
            (
                debt.until_ns
                for debt in self._debts
                if debt.request.identifier == request.identifier
                and debt.part == part
                and overlap(debt.request.address, request.address)
            ),
            default=0,
        )

    def _speak(self, now_ns: int, ask: _Ask) -> list[Event]:
        """Send when the line is silent and owes nothing that would fit; wait until then, but not for ever."""
        settled_ns = self._settled_ns(now_ns, ask.request, ask.part)
        wait = self._silence.turn(now_ns, ask.settings, settled_ns=settled_ns, patience_ns=ask.patience_ns)
        if wait is None:
            return self._send(now_ns, ask)
        if isinstance(wait, Failed):
            self._ask = None
        return [wait]

    def _send(self, now_ns: int, ask: _Ask) -> list[Event]:
        self._sweep_out(len(self._buffer))
        ask.sent_ns = now_ns
        ask.begun_ns = now_ns if ask.begun_ns is None else ask.begun_ns
        events = self._silence.broken_by(now_ns, ask.settings, request_frame(ask.request, ask.part).encode())
        ask.first_ns = self._silence.last_ns + ask.timeout_ns
        ask.hard_ns = ask.first_ns + ask.reply_bytes() * character_ns(ask.settings) + BYTE_GAP_NS + SLACK_NS
        return [*events, WaitUntil(ask.first_ns)]

    # --------------------------------------------------------------------------------------------- while it is out

    def _judge(self, now_ns: int, ask: _Ask) -> list[Event]:
        """Look for the answer; fail when its time is over."""
        end = self._search(now_ns, ask, keep_hope=True)
        if end is not None:
            return end
        deadline_ns = self._deadline_ns(ask)
        if now_ns < deadline_ns:
            return [WaitUntil(deadline_ns)]
        end = self._search(now_ns, ask, keep_hope=False)
        if end is not None:
            return end
        self._close(ask, answered=False)
        return [Failed(self._verdict(ask))]

    def _deadline_ns(self, ask: _Ask) -> int:
        """When to stop waiting, by what has arrived so far; never later than `hard_ns`."""
        hope = next((at for at in range(len(self._buffer)) if self._may_begin(ask, at)), None)
        if hope is not None:
            return min(ask.hard_ns, max(ask.first_ns, self._silence.last_ns + BYTE_GAP_NS))
        if ask.doubt:
            return min(
                ask.first_ns, self._silence.last_ns + max(SETTLE_NS, silence_ns(self._silence.settings))
            )
        return ask.first_ns

    def _may_begin(self, ask: _Ask, at: int) -> bool:
        """Whether our answer may have begun here without being complete."""
        length = length_at(self._buffer, at)
        have = len(self._buffer) - at
        if length is None or length <= have or length > FRAME_BYTES_MAX:
            return False
        if have > HEADER_BYTES - 2:
            control = self._buffer[at + HEADER_BYTES - 2]
            asked = request_frame(ask.request, ask.part).control
            if not control & REPLY_FLAG or control & 0x1F != asked:
                return False
        sender = bytes(self._buffer[at + 1 : at + 7])
        return len(sender) < 6 or matches(ask.request.address, address_text(sender))

    def _search(self, now_ns: int, ask: _Ask, *, keep_hope: bool) -> list[Event] | None:
        """Take whole frames out of the buffer until one ends the transaction or asks for the next frame."""
        at = 0
        while at < len(self._buffer):
            if keep_hope and self._may_begin(ask, at):
                return None
            found = frame_at(self._buffer, at)
            if found is None:
                at += 1
                continue
            ask.noise += self._sweep_out(at)
            del self._buffer[: FRAME_BYTES_MIN + len(found.data)]
            at = 0
            end = self._weigh(now_ns, ask, found)
            if end is not None:
                return end
        return None

    def _weigh(self, now_ns: int, ask: _Ask, found: DltFrame) -> list[Event] | None:
        """What one sound frame means for the outstanding request; None to go on waiting."""
        if not found.is_reply:
            return None
        if found.is_error and self._settle(now_ns, found):
            return None
        if not concerns(found, ask.request, ask.part):
            self._note(now_ns, found)
            if matches(ask.request.address, found.sender):
                ask.doubt = f"meter {found.sender} answered something else to {ask.request}"
            return None
        try:
            ask.data += payload_of(found, ask.request, ask.part)
            if found.has_more and ask.request.identifier is not None and ask.part < PARTS_MAX:
                return self._ask_for_more(now_ns, ask)
            check_size(ask.request, bytes(ask.data))
        except MeteringError as error:
            self._close(ask, answered=True)
            return [Failed(error)]
        self._close(ask, answered=True)
        assert ask.begun_ns is not None
        return [Words(words_of(bytes(ask.data)), ask.begun_ns, now_ns, found.sender)]

    def _ask_for_more(self, now_ns: int, ask: _Ask) -> list[Event]:
        ask.part += 1
        ask.sent_ns = None
        ask.patience_ns = now_ns + BABBLE_NS
        return self._speak(now_ns, ask)

    def _verdict(self, ask: _Ask) -> MeteringError:
        """Name what was wrong when the time is over."""
        if ask.doubt:
            return FrameDamaged(ask.doubt)
        stray = ask.noise + len(self._buffer)
        who = f"meter {ask.request.address}"
        if stray:
            return FrameDamaged(
                f"{who}: {stray} bytes came that are no answer to {ask.request}; check baud rate, parity and wiring"
            )
        return MeterSilent(f"{who} did not answer {ask.request} in {ask.timeout_ns // 1_000_000} ms")

    # --------------------------------------------------------------------------------------------------------- debts

    def _close(self, ask: _Ask, *, answered: bool) -> None:
        """End the transaction; without a sound answer its meter owes one."""
        self._ask = None
        if ask.sent_ns is None:
            return
        self._silence.quiet_ns = ask.quiet_ns
        if answered or not self._late_factor:
            return
        reply_ns = ask.reply_bytes() * character_ns(self._silence.settings) + SLACK_NS
        until_ns = ask.first_ns + (self._late_factor - 1) * ask.timeout_ns + reply_ns
        self._debts.append(_Debt(ask.request, ask.part, until_ns))

    def _settle(self, now_ns: int, found: DltFrame) -> bool:
        """Cross out the oldest debt that this frame may pay; False if there is none."""
        for debt in self._debts:
            if debt.until_ns > now_ns and concerns(found, debt.request, debt.part):
                self._debts.remove(debt)
                return True
        return False

    def _note(self, now_ns: int, found: DltFrame) -> None:
        """A frame that answers nothing that is outstanding."""
        self._settle(now_ns, found)
        self._strays = [*self._strays[1 - STRAYS_MAX :], found.sender]

    def _overhear(self, now_ns: int) -> None:
        """Note frames that come while nothing is outstanding."""
        at = 0
        while at < len(self._buffer):
            found = frame_at(self._buffer, at)
            if found is None:
                at += 1
                continue
            del self._buffer[: at + FRAME_BYTES_MIN + len(found.data)]
            at = 0
            if found.is_reply:
                self._note(now_ns, found)
