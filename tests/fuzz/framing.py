"""What must hold for any bytes that come from a bus: RTU, Modbus TCP, DL/T 645, the words of a register.

Each `check_...` takes any bytes and raises where a parser lets through an exception that it does not document, or
accepts something that an independent calculation does not find in the bytes. Used by `targets`.
"""

import struct
from fractions import Fraction
from itertools import count

from agent.errors import FrameDamaged, MeterBusy, MeteringError, MeterRefused, MeterSilent
from agent.metering.decode import NoValue, decode, encode
from agent.metering.plant import SerialSettings
from agent.metering.profile import WORDS_OF_TYPE, Register, WordType
from agent.protocol import dlt645, tcp
from agent.protocol.events import Event, Failed, Send, WaitUntil, Words
from agent.protocol.pdu import ReadRequest, words_of
from agent.protocol.rtu import RtuMaster
from agent.protocol.silence import Silence

_LINE = SerialSettings(baud=9_600, parity="none", stop_bits=1)
_REFUSALS = (MeterBusy, MeterRefused)
_STEPS_MAX = 2_000


class Reader:
    """Takes small numbers and runs of bytes from the front of the input; zeros where it has ended."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def is_empty(self) -> bool:
        """Whether everything was taken."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def run(self, size: int) -> bytes:
        """The next bytes, as many as there are."""
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.run(max(0, len(self._data) - self._at))


def reference_crc(data: bytes) -> bytes:
    """The checksum of an RTU frame bit by bit, as the standard describes it; not the agent's table."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


_CRC_OF_BYTE = tuple(int.from_bytes(reference_crc(bytes((byte,))), "little") ^ 0x40BF for byte in range(256))
"""What one byte makes of a checksum of zero; 40BFh is what the 16 ones at the start become in the same 8 steps."""


def framed(body: bytes) -> bytes:
    """A body with its right checksum, a byte at a time: the target is run millions of times."""
    crc = 0xFFFF
    for byte in body:
        crc = crc >> 8 ^ _CRC_OF_BYTE[(crc ^ byte) & 0xFF]
    return body + crc.to_bytes(2, "little")


def request_of(reader: Reader) -> ReadRequest:
    """One of few requests, so that replies fit often."""
    return ReadRequest(1 + reader.byte() % 3, 3 + reader.byte() % 2, reader.byte(), 1 + reader.byte() % 125)


class _Line:
    """One RTU machine, the clock it is driven by and every byte it was given since it spoke."""

    def __init__(self, request: ReadRequest) -> None:
        self.request = request
        self.master = RtuMaster(Silence(_LINE))
        self.now_ns, self.wake_ns = 0, 0
        self.heard = b""
        self.done = False

    def begin(self) -> None:
        self.heard, self.done = b"", False
        self.take(self.master.begin(self.now_ns, self.request, timeout_ns=300_000_000))

    def receive(self, data: bytes) -> None:
        self.heard += data
        self.now_ns += 1_041_667 * len(data)
        self.take(self.master.receive(self.now_ns, data))

    def wait(self) -> None:
        self.now_ns = max(self.now_ns, self.wake_ns)
        self.take(self.master.tick(self.now_ns))

    def take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Send(data):
                    assert data == framed(bytes((self.request.unit,)) + self.request.pdu())
                    self.heard = b""
                case WaitUntil(at_ns):
                    self.wake_ns = at_ns
                case Words(words):
                    self.done = True
                    assert self.reply(words) in self.heard, "words that nobody sent with a right checksum"
                case Failed(error):
                    self.done = True
                    self.judge(error)

    def judge(self, error: MeteringError) -> None:
        assert isinstance(error, FrameDamaged | MeterSilent | MeterBusy | MeterRefused)
        if isinstance(error, _REFUSALS):
            header = bytes((self.request.unit, self.request.function | 0x80))
            starts = (at for at in range(len(self.heard)) if self.heard.startswith(header, at))
            assert any(framed(self.heard[at : at + 3]) == self.heard[at : at + 5] for at in starts)

    def reply(self, words: tuple[int, ...]) -> bytes:
        assert len(words) == self.request.count
        head = bytes((self.request.unit, self.request.function, 2 * self.request.count))
        return framed(head + b"".join(word.to_bytes(2, "big") for word in words))


def check_rtu(data: bytes) -> None:
    """No words but those of a frame with a right checksum that was heard after the request, and always an end."""
    reader = Reader(data)
    line = _Line(request_of(reader))
    line.begin()
    while not reader.is_empty:
        operation = reader.byte()
        size = operation >> 3
        match operation & 7:
            case 0 | 1:
                line.receive(reader.run(size))
            case 2:
                line.receive(framed(reader.run(size)))
            case 3:
                line.receive(framed(bytes((line.request.unit, line.request.function)) + reader.run(size)))
            case 4:
                line.receive(line.reply(tuple(reader.byte() for _ in range(line.request.count))))
            case 5:
                line.now_ns += size * size * 1_000_000
                line.take(line.master.tick(line.now_ns))
            case 6:
                line.wait()
            case 7:
                line.master.abandon()
                line.begin()
        if line.done:
            line.begin()
    for step in count():
        if line.done or not line.master.is_busy:
            break
        assert step < _STEPS_MAX, "it waits for ever"
        line.wait()


def check_mbap(data: bytes) -> None:
    """What is cut out of a stream is written back as the same bytes; words are those of a reply of the right shape."""
    reader = Reader(data)
    request, stream = request_of(reader), reader.rest()
    at = 0
    for frame, end in tcp.frames(stream):
        assert frame.encode() == stream[at:end]
        at = end
        try:
            words = words_of(request, frame.pdu)
        except (FrameDamaged, MeterBusy, MeterRefused):
            continue
        body = b"".join(word.to_bytes(2, "big") for word in words)
        assert len(words) == request.count
        assert frame.pdu == bytes((request.function, 2 * request.count)) + body


def check_dlt645(data: bytes) -> None:
    """A frame is in the bytes as it would be written, its sum is right, and its words keep its data."""
    reader = Reader(data)
    sizes = (None, 2, 3, 4, 5, 6)
    identifier = (dlt645.FORWARD_TOTAL, dlt645.FREQUENCY, None)[reader.byte() % 3]
    request = dlt645.DltRequest("AAAAAAAAAAAA", identifier, sizes[reader.byte() % 6])
    part = reader.byte() % 3
    stream = reader.rest()
    for frame, end in dlt645.frames(stream):
        written = frame.encode(b"")
        assert stream[end - len(written) : end] == written
        assert written[-2] == sum(written[:-2]) % 256
        assert dlt645.only_frame(b"\xfe" + written) == frame
        if not dlt645.concerns(frame, request, part):
            continue
        try:
            value = dlt645.payload_of(frame, request, part)
            dlt645.check_size(request, value)
        except (FrameDamaged, MeterRefused):
            continue
        assert request.size in (None, len(value))
        assert dlt645.data_of(dlt645.words_of(value), len(value)) == value
    only = dlt645.only_frame(stream)
    assert only is None or stream.lstrip(b"\xfe") == only.encode(b"")


_TYPES = tuple(WordType)


def _register(reader: Reader) -> Register:
    type_ = _TYPES[reader.byte() % len(_TYPES)]
    size = 1 + reader.byte() % 8
    words = WORDS_OF_TYPE.get(type_) or -(-size // 2)
    low_word_first = bool(reader.byte() & 1)
    invalid = frozenset({reader.byte()}) if reader.byte() & 1 else frozenset[int]()
    own = size if type_ in (WordType.BCD, WordType.BCD_SIGNED, WordType.DIGITS) else 0
    return Register(
        "r", 0, 3, type_, words, low_word_first, "Wh", Fraction(1), False, None, invalid, size=own
    )


def check_decode(data: bytes) -> None:
    """Words to a value and back are the same words; a float is the number that the processor says it is."""
    reader = Reader(data)
    register = _register(reader)
    raw = reader.rest()
    words = tuple(int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2))
    if len(words) != register.words:
        try:
            decode(register, words)
        except ValueError:
            return
        raise AssertionError("another number of words was accepted")
    value = decode(register, words)
    if isinstance(value, NoValue):
        assert value.reason
        return
    if register.type in (WordType.F32, WordType.F64):
        ordered = words[::-1] if register.low_word_first else words
        body = b"".join(word.to_bytes(2, "big") for word in ordered)
        assert value == Fraction(struct.unpack(">f" if register.words == 2 else ">d", body)[0])
    if register.type is WordType.ASCII or (
        register.size % 2 and words[-1 if register.low_word_first else 0] > 255
    ):
        return  # blanks around a text are not kept, and a size in bytes leaves half a word open
    try:
        again = encode(register, value)
    except ValueError:
        raise AssertionError(f"{value!r} was read and cannot be shown") from None
    assert again == words or (value == 0 and not any(again))  # -0.0 is shown as zero
