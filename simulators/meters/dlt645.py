"""The half of a simulated meter that speaks DL/T 645: what it answers to a frame.

The values are those of `SimulatedMeter`; here they become the data of identifiers. A meter may be told to cut long
answers into follow-up frames (`part_bytes`), as real ones do with blocks.
"""

from agent.metering.profile import Register
from agent.protocol.dlt645 import (
    ERROR_FLAG,
    IDENTIFIER_BYTES,
    MORE_FLAG,
    NO_SUCH_DATA,
    READ,
    READ_ADDRESS,
    READ_NEXT,
    REPLY_FLAG,
    DltFrame,
    address_bytes,
    data_of,
    matches,
)
from simulators.meters.meter import SimulatedMeter

_OTHER_ERROR = 0x01


def is_meant(meter: SimulatedMeter, frame: DltFrame) -> bool:
    """Whether the meter feels asked: its own address, or a wildcard that includes it."""
    address = meter.meter.address
    return isinstance(address, str) and not frame.is_reply and matches(frame.sender, address)


def answer(meter: SimulatedMeter, asked: DltFrame) -> DltFrame:
    """The reply frame, or the refusal, of one meter."""
    meter.requests += 1
    address = address_bytes(str(meter.meter.address))

    def reply(data: bytes, flags: int = 0) -> DltFrame:
        return DltFrame(address, asked.function | REPLY_FLAG | flags, data)

    if asked.function == READ_ADDRESS:
        return reply(address)
    if asked.function not in (READ, READ_NEXT) or len(asked.data) < IDENTIFIER_BYTES:
        return reply(bytes((_OTHER_ERROR,)), ERROR_FLAG)
    identifier = int.from_bytes(asked.data[:IDENTIFIER_BYTES], "little")
    register = _register(meter, identifier)
    if register is None:
        return reply(bytes((NO_SUCH_DATA,)), ERROR_FLAG)
    data = data_of(meter.words_of(register), register.size)
    part = asked.data[-1] if asked.function == READ_NEXT else 0
    most = meter.part_bytes or len(data)
    piece, rest = data[part * most : (part + 1) * most], data[(part + 1) * most :]
    number = bytes((part,)) if part else b""
    return reply(asked.data[:IDENTIFIER_BYTES] + piece + number, MORE_FLAG if rest else 0)


def _register(meter: SimulatedMeter, identifier: int) -> Register | None:
    for register in meter.meter.profile.registers.values():
        if register.identifier == identifier:
            return register
    return None
