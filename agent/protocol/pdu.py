"""Modbus read requests and what a sound reply to one looks like.

A reply is believed only if its unit, function, byte count and number of registers are those that were asked for;
pymodbus leaves three of these four unchecked, so both transports use this module. Source: MODBUS Application Protocol
Specification V1.1b3, sections 6.3, 6.4 and 7.
"""

from dataclasses import dataclass

from agent.errors import FrameDamaged, MeterBusy, MeterRefused

READ_HOLDING = 3
READ_INPUT = 4
REGISTERS_MAX = 125
"""Most registers one reply can carry."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read `count` registers from `address` (zero-based) of `unit`, with function 3 or 4."""

    unit: int
    function: int
    address: int
    count: int

    def pdu(self) -> bytes:
        """Function code, address and count, as sent after the unit number."""
        return bytes((self.function,)) + self.address.to_bytes(2, "big") + self.count.to_bytes(2, "big")
