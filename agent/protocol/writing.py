"""The only frames of this project that change something in a meter: address, speed, framing and language, as bytes.

Used by `metering-agent meter-setup` and by nothing else. The line that reads (`agent.service.ports.Line`) has no
request that could become one of these; the writer is an adapter of its own (`agent.adapters.meter_writer`). What may
be written where is data (`config/meter_setup.toml`), read by `agent.settings.metersetup`.
"""

from dataclasses import dataclass

from agent.errors import FrameDamaged, MeterRefused
from agent.protocol.dlt645 import REPLY_FLAG, WAKE_UP, WRITE, DltFrame, address_bytes, frames
from agent.protocol.pdu import EXCEPTION_FLAG, EXCEPTIONS
from agent.protocol.rtu_frame import frame, is_sound

WRITE_SINGLE = 6
WRITE_MULTIPLE = 16
REPLY_BYTES = 8
EXCEPTION_BYTES = 5


@dataclass(frozen=True, slots=True)
class Write:
    """Write one setting, `words` long, to the holding register `address` of `unit`.

    With function 16, or with 6 where a meter knows no other and the setting is one word.
    """

    unit: int
    address: int
    words: tuple[int, ...]
    function: int = WRITE_MULTIPLE

    def __post_init__(self) -> None:
        if self.function not in (WRITE_SINGLE, WRITE_MULTIPLE):
            raise ValueError(f"{self.function} is no function that sets a register")
        if self.function == WRITE_SINGLE and len(self.words) != 1:
            raise ValueError("function 6 writes one word")

    def encode(self) -> bytes:
        """The frame on the wire."""
        data = b"".join(word.to_bytes(2, "big") for word in self.words)
        if self.function == WRITE_SINGLE:
            return frame(self.unit, bytes((WRITE_SINGLE,)) + self.address.to_bytes(2, "big") + data)
        head = self.address.to_bytes(2, "big") + len(self.words).to_bytes(2, "big")
        return frame(self.unit, bytes((WRITE_MULTIPLE,)) + head + bytes((len(data),)) + data)

    def is_done(self, received: bytes) -> bool:
        """Whether the meter says that it took the value; False while its answer is not whole.

        Raises:
            MeterRefused: it said no. FrameDamaged: what came is no answer to this.
        """
        header = bytes((self.unit, self.function))
        refused = bytes((self.unit, self.function | EXCEPTION_FLAG))
        for at in range(len(received)):
            exception = received[at : at + EXCEPTION_BYTES]
            if exception[:2] == refused and len(exception) == EXCEPTION_BYTES and is_sound(exception):
                meaning = EXCEPTIONS.get(exception[2], "no code of the standard")
                raise MeterRefused(
                    f"unit {self.unit} refuses to have its setting changed: {meaning}", exception[2]
                )
            answer = received[at : at + REPLY_BYTES]
            if answer[:2] == header and len(answer) == REPLY_BYTES and is_sound(answer):
                if answer[2:6] == self.encode()[2:6]:
                    return True
                raise FrameDamaged(f"unit {self.unit} confirms another write than was asked for")
        return False


@dataclass(frozen=True, slots=True)
class SwitchToModbus:
    """Make a DL/T 645 meter of this address speak Modbus: identifier, password, operator and data of its maker."""

    address: str
    identifier: int
    password: bytes
    operator: bytes
    data: bytes

    def encode(self) -> bytes:
        """The frame on the wire, wake-up bytes in front."""
        told = self.identifier.to_bytes(4, "little") + self.password + self.operator + self.data
        return DltFrame(address_bytes(self.address), WRITE, told).encode(WAKE_UP)

    def is_done(self, received: bytes) -> bool:
        """Whether the meter says that it did. Raises MeterRefused where it says no."""
        for found, _ in frames(received):
            if found.sender == self.address and found.is_reply and found.function == WRITE:
                if found.is_error:
                    raise MeterRefused(f"meter {self.address} refuses to be switched to Modbus", 4)
                return bool(found.control & REPLY_FLAG)
        return False


Command = Write | SwitchToModbus
