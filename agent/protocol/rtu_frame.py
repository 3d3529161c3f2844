"""Modbus RTU frames: their checksum, and how to find a whole one among other bytes.

Comes before the transaction (`rtu`), which says what a frame means for the question that is out. Source: MODBUS over
Serial Line Specification V1.02, sections 2.3 and 6.2; PDUs of V1.1b3.
"""

from dataclasses import dataclass

from agent.protocol.pdu import EXCEPTION_FLAG, READ_HOLDING, READ_INPUT, ReadRequest

REQUEST_BYTES = 8
EXCEPTION_BYTES = 5


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


@dataclass(frozen=True, slots=True)
class Found:
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


def exception_header(request: ReadRequest) -> bytes:
    """Unit and function code with which an exception to a request begins."""
    return bytes((request.unit, request.function | EXCEPTION_FLAG))


def begins(buffer: bytearray, at: int, header: bytes, length: int) -> bool:
    """Whether an incomplete frame of this header and length may begin here."""
    have = len(buffer) - at
    return 0 < have < length and buffer[at : at + len(header)] == header[:have]


def _lengths(buffer: bytearray, at: int) -> tuple[int, ...]:
    """The lengths that a frame beginning here can have, by its function code."""
    function = buffer[at + 1]
    if function & EXCEPTION_FLAG:
        return (EXCEPTION_BYTES,)
    if 1 <= function <= READ_INPUT:
        return (5 + buffer[at + 2], REQUEST_BYTES)
    return (REQUEST_BYTES, 5 + buffer[at + 2])


def frame_at(buffer: bytearray, at: int, *, beyond: int = 0) -> Found | None:
    """A whole frame with a right checksum that begins here and ends beyond so many bytes of the buffer, if any."""
    have = len(buffer) - at
    if have < EXCEPTION_BYTES:
        return None
    for length in _lengths(buffer, at):
        # Noise is looked at byte by byte, and most of what it would be is longer than what there is.
        if beyond - at < length <= have and is_sound(data := bytes(buffer[at : at + length])):
            return Found(at, data)
    return None
