"""A simulated meter whose address, speed and framing can be set over the line, as `meter-setup` does.

It hears only at its own speed, keeps what is written to its setting registers, and obeys at once or after its power was
off, as real models do. Chint meters that still speak DL/T 645 begin with Modbus when they are told to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from agent.metering.decode import decode
from agent.metering.plant import SerialSettings
from agent.metering.profile import Register
from agent.protocol.dlt645 import WRITE, DltFrame, address_bytes, only_frame
from agent.protocol.rtu_frame import frame, is_sound
from simulators.line.rs485 import Hear
from simulators.line.station import on_one_pair
from simulators.meters.faults import Transmission
from simulators.meters.meter import SimulatedMeter

_WRITE, _REFUSED, _NO_SUCH_ADDRESS = 16, 0x90, 2


@dataclass
class SettableMeter:
    """One meter of the line; `registers` are its settings by name, `codes` what its numbers mean."""

    meter: SimulatedMeter
    settings: SerialSettings
    registers: Mapping[str, Register]
    codes: Mapping[str, Mapping[str, int]]
    needs_power_cycle: bool = False
    switch_to: int | None = None
    written: list[tuple[str, int]] = field(default_factory=list)
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def power_cycle(self) -> None:
        """Off and on: what was written holds now."""
        while self._waiting:
            self._waiting.pop(0)()

    def hear_at(self, baud: int) -> Hear:
        """Its ears at a speed."""
        return lambda data: self._hear(data) if baud == self.settings.baud else []

    def _hear(self, data: bytes) -> list[Transmission]:
        asked = only_frame(data)
        if asked is not None and asked.function == WRITE and not asked.is_reply:
            return self._switched(asked)
        if is_sound(data) and data[0] == self.meter.unit and data[1] == _WRITE:
            return [Transmission(20_000_000, frame(data[0], self._write(data[1:-2])))]
        return on_one_pair([self.meter])(data)

    def _write(self, pdu: bytes) -> bytes:
        address = int.from_bytes(pdu[1:3], "big")
        words = tuple(int.from_bytes(pdu[at : at + 2], "big") for at in range(6, len(pdu), 2))
        for name, register in self.registers.items():
            if register.address == address and register.words == len(words):
                value = decode(register, words)
                assert not isinstance(value, str)
                self._take(name, int(value))  # type: ignore[arg-type]  # settings have no mark for "no value"
                return pdu[:5]
        return bytes((_REFUSED, _NO_SUCH_ADDRESS))

    def _take(self, name: str, value: int) -> None:
        self.written.append((name, value))
        self._waiting.append(lambda: self._apply(name, value))
        if not self.needs_power_cycle:
            self.power_cycle()

    def _apply(self, name: str, value: int) -> None:
        if name == "address":
            self.meter.unit = value
            self.meter.meter = replace(self.meter.meter, address=value)
            return
        told = next(text for text, code in self.codes[name].items() if code == value)
        if name == "baud":
            self.settings = replace(self.settings, baud=int(told))

    def _switched(self, asked: DltFrame) -> list[Transmission]:
        address = self.meter.meter.address
        if not isinstance(address, str) or asked.sender != address or self.switch_to is None:
            return []
        self.written.append(("protocol", self.switch_to))
        unit = self.switch_to
        self._waiting.append(lambda: self._apply("address", unit))
        reply = DltFrame(address_bytes(address), WRITE | 0x80, b"").encode()
        return [Transmission(30_000_000, reply)]
