"""Modbus read requests and what a sound reply to one looks like.

A reply is believed only if its unit, function, byte count and number of registers are those that were asked for;
pymodbus leaves three of these four unchecked, so both transports use this module. Before it comes the framing (`rtu`,
`tcp`), after it `agent.metering.decode`. Source: MODBUS Application Protocol Specification V1.1b3, sections 6.3, 6.4
and 7.
"""

import struct
from dataclasses import dataclass

from agent.errors import FrameDamaged, MeterBusy, MeterRefused

READ_HOLDING = 3
READ_INPUT = 4
REGISTERS_MAX = 125
"""Most registers one reply can carry."""

EXCEPTION_FLAG = 0x80
"""Set in the function code of a reply that is an exception."""

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge, needs time",
    6: "busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
BUSY_CODES = frozenset({5, 6})
"""Exceptions that ask for time and refuse nothing."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read `count` registers from `address` (zero-based) of `unit`, with function 3 or 4."""

    unit: int
    function: int
    address: int
    count: int

    def __post_init__(self) -> None:
        # A line that reads must not be able to write, whatever its caller makes up.
        if self.function not in (READ_HOLDING, READ_INPUT):
            raise ValueError(f"function {self.function} is no function that reads registers")

    def pdu(self) -> bytes:
        """Function code, address and count, as sent after the unit number."""
        return bytes((self.function,)) + self.address.to_bytes(2, "big") + self.count.to_bytes(2, "big")

    @property
    def reply_header(self) -> bytes:
        """Function code and byte count with which the only acceptable data reply begins."""
        return bytes((self.function, 2 * self.count))

    def __str__(self) -> str:
        """For messages: `function 4, 2 registers from 342`."""
        plural = "" if self.count == 1 else "s"
        return f"function {self.function}, {self.count} register{plural} from {self.address}"


def words_of(request: ReadRequest, pdu: bytes) -> tuple[int, ...]:
    """Take the words out of a reply PDU (function code and data) whose unit has been checked by the framing.

    Raises:
        MeterBusy: exception 5 or 6.
        MeterRefused: any other exception; carries its code.
        FrameDamaged: another function, byte count or length than the request asks for.
    """
    if len(pdu) == 2 and pdu[0] == request.function | EXCEPTION_FLAG:
        raise refusal(request, pdu[1])
    if not pdu:
        raise FrameDamaged(f"unit {request.unit} sent an empty reply to {request}")
    if pdu[0] != request.function:
        raise FrameDamaged(f"unit {request.unit} answered with function {pdu[0]} to {request}")
    if pdu[:2] != request.reply_header or len(pdu) != 2 + 2 * request.count:
        raise FrameDamaged(
            f"unit {request.unit} answered {len(pdu) - 2} bytes of data instead of {2 * request.count} to {request}"
        )
    return struct.unpack_from(f">{request.count}H", pdu, 2)


def refusal(request: ReadRequest, code: int) -> MeterBusy | MeterRefused:
    """The error that an exception reply with this code means."""
    meaning = EXCEPTIONS.get(code, "no code of the standard")
    text = f"unit {request.unit} answered exception {code} ({meaning}) to {request}"
    return MeterBusy(text) if code in BUSY_CODES else MeterRefused(text, code)
