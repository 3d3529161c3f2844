"""DL/T 645-2007, the language of Chinese sub-meters: frames, read requests and what a sound reply to one looks like.

Integers and bytes only. A frame is

    FE FE FE FE  68 A0..A5 68 C L DATA CS 16

with the 12 digits of the address in six bytes, low byte first; every DATA byte is sent plus 33h; CS is the sum of all
bytes from the first 68 to the last of DATA, modulo 256. The FE bytes in front wake the receiver, are no part of the
frame, and replies may have any number of them. Neither 16h nor 68h nor FEh means anything by itself: they are ordinary
values inside address and data, so a frame is found by its structure and its sum alone.

A reply is believed only if address, function, data identifier, frame number and length are those that were asked for.
Before it comes the transaction (`dlt_master`), after it `agent.metering.decode`: the data of one identifier becomes
words, high byte first, so that a DL/T 645 value is decoded, stored and shown like any other.

Sources: the frames and manuals of the project's meter notes, section 7; the `dlt645` library of PyPI as referee.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import FrameDamaged, MeterRefused

START = 0x68
END = 0x16
WAKE_UP = b"\xfe" * 4
"""Sent in front of every request; a receiver takes any number."""
OFFSET = 0x33
ADDRESS_BYTES = 6
HEADER_BYTES = 10
"""From the first 68 to L."""
FRAME_BYTES_MIN = HEADER_BYTES + 2
DATA_BYTES_MAX = 200
"""Most data of a frame that is read; L could say 255."""
FRAME_BYTES_MAX = FRAME_BYTES_MIN + DATA_BYTES_MAX
IDENTIFIER_BYTES = 4

READ, READ_NEXT, READ_ADDRESS, WRITE = 0x11, 0x12, 0x13, 0x14
"""Functions: read, read the next frame, read the address, write."""
REPLY_FLAG, ERROR_FLAG, MORE_FLAG = 0x80, 0x40, 0x20
"""In the control byte: a reply, a refusal, more frames follow."""
_FUNCTION_MASK = 0x1F

ANYBODY = "AAAAAAAAAAAA"
"""The address that the only meter on a line answers to."""
FREQUENCY, FORWARD_TOTAL, VOLTAGE_A = 0x0280_0002, 0x0001_0000, 0x0201_0100
"""Identifiers that the scanner asks for."""

ERRORS = {
    0x01: "other error",
    0x02: "no such data",
    0x04: "wrong password or not allowed",
    0x08: "cannot change the speed",
    0x10: "too many annual time zones",
    0x20: "too many daily time zones",
    0x40: "too many tariffs",
}
"""The bits of the one data byte of a refusal."""
NO_SUCH_DATA = 0x02
ILLEGAL_ADDRESS, DEVICE_FAILURE = 2, 4
"""What a refusal is in Modbus terms, so that callers know one kind: exception 2 where the meter has no such data."""

_ADDRESS = re.compile(r"[0-9A-F]{12}")


@dataclass(frozen=True, slots=True)
class DltRequest:
    """Read one data identifier, DI3..DI0 as one number, of one meter.

    `address` is 12 digits, high digit first, as printed on the meter; `AA` in its high bytes stands for any value.
    `identifier` None reads the address instead (function 13h). `size` is how many bytes of data the answer has to
    have, None where that is not known beforehand. An answer in several frames is put together.
    """

    address: str
    identifier: int | None
    size: int | None = None

    def __str__(self) -> str:
        """For messages: `identifier 00010000`."""
        return "its address" if self.identifier is None else f"identifier {self.identifier:08X}"


@dataclass(frozen=True, slots=True)
class DltFrame:
    """What one frame says: address as on the wire (low byte first), control byte, data without the offset."""

    address: bytes
    control: int
    data: bytes

    @property
    def function(self) -> int:
        """The function, without the flags."""
        return self.control & _FUNCTION_MASK

    @property
    def is_reply(self) -> bool:
        """Whether a meter sent it."""
        return bool(self.control & REPLY_FLAG)

    @property
    def is_error(self) -> bool:
        """Whether it refuses."""
        return bool(self.control & ERROR_FLAG)

    @property
    def has_more(self) -> bool:
        """Whether a follow-up frame has to be asked for."""
        return bool(self.control & MORE_FLAG)

    @property
    def sender(self) -> str:
        """The address as 12 digits."""
        return address_text(self.address)

    def encode(self, wake_up: bytes = WAKE_UP) -> bytes:
        """The bytes on the wire."""
        if len(self.address) != ADDRESS_BYTES or len(self.data) > 255:
            raise ValueError("a frame has 6 bytes of address and at most 255 of data")
        body = bytes((START, *self.address, START, self.control, len(self.data)))
        body += bytes((byte + OFFSET) & 0xFF for byte in self.data)
        return wake_up + body + bytes((sum(body) & 0xFF, END))


# ------------------------------------------------------------------------------------------------------------ addresses


def address_bytes(text: str) -> bytes:
    """An address as on the wire. Raises ValueError unless it is 12 digits (A to F are taken too: AA is a wildcard)."""
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError(f'"{text}" is not a DL/T 645 address of 12 digits')
    return bytes.fromhex(text)[::-1]


def address_text(data: bytes) -> str:
    """An address as people write it."""
    return data[::-1].hex().upper()


def matches(pattern: str, address: str) -> bool:
    """Whether an address is one that a pattern with wildcards asks for."""
    return all(pattern[at : at + 2] in ("AA", address[at : at + 2]) for at in range(0, 2 * ADDRESS_BYTES, 2))


def overlap(pattern: str, other: str) -> bool:
    """Whether some address could be meant by both patterns."""
    pairs = ((pattern[at : at + 2], other[at : at + 2]) for at in range(0, 2 * ADDRESS_BYTES, 2))
    return all("AA" in pair or pair[0] == pair[1] for pair in pairs)


# --------------------------------------------------------------------------------------------------------------- frames


def length_at(buffer: bytes | bytearray, at: int) -> int | None:
    """The length of the frame that may begin here, as far as can be seen: None where no frame begins.

    An incomplete beginning counts with the least it can have; compare with what is there.
    """
    have = len(buffer) - at
    if have <= 0 or buffer[at] != START:
        return None
    if have > ADDRESS_BYTES + 1 and buffer[at + ADDRESS_BYTES + 1] != START:
        return None
    if have < HEADER_BYTES:
        return FRAME_BYTES_MIN
    return FRAME_BYTES_MIN + buffer[at + HEADER_BYTES - 1]


def frame_at(buffer: bytes | bytearray, at: int) -> DltFrame | None:
    """A whole frame with a right sum that begins here, if any."""
    length = length_at(buffer, at)
    if length is None or length > len(buffer) - at:
        return None
    end = at + length
    if buffer[end - 1] != END or buffer[end - 2] != sum(buffer[at : end - 2]) & 0xFF:
        return None
    data = bytes((byte - OFFSET) & 0xFF for byte in buffer[at + HEADER_BYTES : end - 2])
    return DltFrame(bytes(buffer[at + 1 : at + 7]), buffer[at + 8], data)


def frames(buffer: bytes | bytearray) -> Iterator[tuple[DltFrame, int]]:
    """Every whole frame in a run of bytes, each with the place where it ends; whatever is between is skipped."""
    at = 0
    while (at := buffer.find(START, at)) >= 0:
        found = frame_at(buffer, at)
        if found is None:
            at += 1
            continue
        at += FRAME_BYTES_MIN + len(found.data)
        yield found, at


def only_frame(data: bytes) -> DltFrame | None:
    """The frame that these bytes are, wake-up bytes in front allowed; None where they are anything else."""
    begin = len(data) - len(data.lstrip(b"\xfe"))
    found = frame_at(data, begin)
    return found if found is not None and begin + FRAME_BYTES_MIN + len(found.data) == len(data) else None


# --------------------------------------------------------------------------------------------- requests and replies


def request_frame(request: DltRequest, part: int = 0) -> DltFrame:
    """The frame that asks; `part` 1 and up asks for that follow-up frame."""
    address = address_bytes(request.address)
    if request.identifier is None:
        return DltFrame(address, READ_ADDRESS, b"")
    data = request.identifier.to_bytes(IDENTIFIER_BYTES, "little")
    return DltFrame(address, READ_NEXT, data + bytes((part,))) if part else DltFrame(address, READ, data)


def concerns(frame: DltFrame, request: DltRequest, part: int = 0) -> bool:
    """Whether a reply is one to this request: address, function, identifier and frame number. Refusals have no
    identifier."""
    asked = request_frame(request, part)
    if not frame.is_reply or frame.function != asked.function or not matches(request.address, frame.sender):
        return False
    if frame.is_error:
        return len(frame.data) == 1
    if asked.function == READ_ADDRESS:
        return True
    return frame.data[:IDENTIFIER_BYTES] == asked.data[:IDENTIFIER_BYTES] and (
        not part or frame.data[-1:] == asked.data[-1:]
    )


def payload_of(frame: DltFrame, request: DltRequest, part: int = 0) -> bytes:
    """The data of a reply that concerns the request, low byte first as on the wire.

    Raises:
        MeterRefused: the meter says no; `code` is 2 where it has no such data, else 4.
        FrameDamaged: the address that it tells is not the one it answers under.
    """
    if frame.is_error:
        raise refusal(frame.data[0], request, frame.sender)
    if request.identifier is None:
        if frame.data != frame.address:
            raise FrameDamaged(f"meter {frame.sender} tells address {address_text(frame.data)}")
        return frame.data
    return frame.data[IDENTIFIER_BYTES : len(frame.data) - (1 if part else 0)]


def check_size(request: DltRequest, data: bytes) -> None:
    """Raises FrameDamaged where the data are not as long as the register is."""
    if request.size is not None and len(data) != request.size:
        raise FrameDamaged(
            f"meter {request.address} answered {len(data)} bytes of data instead of {request.size} to {request}"
        )


def refusal(code: int, request: DltRequest, sender: str) -> MeterRefused:
    """The error that a refusal with this data byte means."""
    reasons = [text for bit, text in ERRORS.items() if code & bit] or ["no reason"]
    text = f"meter {sender} refused {request}: {', '.join(reasons)} (error {code:02X}h)"
    return MeterRefused(text, ILLEGAL_ADDRESS if code & NO_SUCH_DATA else DEVICE_FAILURE)


def words_of(data: bytes) -> tuple[int, ...]:
    """The data of one identifier as 16-bit words, high byte first, with a zero byte in front if they are odd."""
    padded = (data + b"\0" if len(data) % 2 else data)[::-1]
    return tuple(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))


def data_of(words: tuple[int, ...], size: int) -> bytes:
    """The reverse of `words_of`: `size` bytes, low byte first."""
    return b"".join(word.to_bytes(2, "big") for word in words)[::-1][:size]
