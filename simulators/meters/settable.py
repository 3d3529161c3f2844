"""A simulated meter whose address, speed, framing and language can be set over the line, as `meter-setup` does.

It hears only at its own speed, shows and keeps what is in its setting registers, and obeys at once or after its power
was off, as real models do. Chint meters speak Modbus or DL/T 645 as they are told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import WRITE, DltFrame, address_bytes, only_frame
from agent.protocol.rtu_frame import frame, is_sound
from agent.settings.metersetup import Setting
from simulators.line.rs485 import Hear
from simulators.line.station import on_one_pair
from simulators.meters.faults import Transmission
from simulators.meters.meter import SimulatedMeter

_READ, _SINGLE, _WRITE, _NO_SUCH_ADDRESS = 3, 6, 16, 2
_FRAMINGS = {"N": "none", "E": "even", "O": "odd"}


@dataclass
class SettableMeter:
    """One meter of the line; `options` are its settings by name. `other` is what it becomes in its other language."""

    meter: SimulatedMeter
    settings: SerialSettings
    options: Mapping[str, Setting]
    needs_power_cycle: bool = False
    is_locked: bool = False
    other: SimulatedMeter | None = None
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
        if is_sound(data) and data[0] == self.meter.unit and isinstance(self.meter.meter.address, int):
            told = self._told(data[1:-2])
            if told is not None:
                return [Transmission(20_000_000, frame(data[0], told))]
        return on_one_pair([self.meter])(data)

    def _told(self, pdu: bytes) -> bytes | None:
        """The answer to a question about a setting, or to a setting; None where it is about something else."""
        function, address = pdu[0], int.from_bytes(pdu[1:3], "big")
        if function == _READ:
            return self._shown(address, int.from_bytes(pdu[3:5], "big"))
        if function not in (_SINGLE, _WRITE):
            return None
        data = pdu[3:] if function == _SINGLE else pdu[6:]
        words = tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
        here = self._at(address, len(words))
        if self.is_locked or not here or any(setting.function != function for setting in here.values()):
            return bytes((function | 0x80, _NO_SUCH_ADDRESS))
        for name, setting in here.items():
            number = setting.shown(words)
            if number is not None and number != self._number(name):
                self._take(name, number)
        return pdu[:5]

    def _at(self, address: int, count: int) -> dict[str, Setting]:
        """The settings that lie in this register."""
        return {
            name: setting
            for name, setting in self.options.items()
            if (setting.register.address, setting.register.words) == (address, count)
        }

    def _shown(self, address: int, count: int) -> bytes | None:
        words: Sequence[int] | None = None
        for name, setting in self._at(address, count).items():
            number = self._number(name)
            told = next((text for text, code in setting.codes.items() if code == number), str(number))
            if name != "protocol" or words is None:
                words = (0,) if name == "protocol" else setting.words(told, words or (0,))
        if words is None:
            return None
        return bytes((_READ, 2 * count)) + b"".join(word.to_bytes(2, "big") for word in words)

    def _number(self, name: str) -> int | None:
        """What a setting register shows."""
        codes = self.options[name].codes
        if name == "address":
            return self.meter.unit
        if name == "protocol":
            return None
        if name == "baud":
            return codes[str(self.settings.baud)]
        return codes[f"8{self.settings.parity[0].upper()}{self.settings.stop_bits}"]

    def _take(self, name: str, value: int) -> None:
        told = next((text for text, code in self.options[name].codes.items() if code == value), None)
        if self.options[name].codes and told is None:
            return  # another setting of the same register
        self.written.append((name, value))
        self._waiting.append(lambda: self._apply(name, value, told or ""))
        if not self.needs_power_cycle:
            self.power_cycle()

    def _apply(self, name: str, value: int, told: str) -> None:
        if name == "address":
            self.meter.unit = value
            self.meter.meter = replace(self.meter.meter, address=value)
        elif name == "baud":
            self.settings = replace(self.settings, baud=int(told))
        elif name == "framing":
            self.settings = replace(self.settings, parity=_FRAMINGS[told[1]], stop_bits=int(told[2]))
        else:
            self._speak_otherwise()

    def _speak_otherwise(self) -> None:
        assert self.other is not None
        self.meter, self.other = self.other, self.meter

    def _switched(self, asked: DltFrame) -> list[Transmission]:
        address = self.meter.meter.address
        if not isinstance(address, str) or asked.sender != address or self.other is None:
            return []
        self.written.append(("protocol", 2))
        self._waiting.append(self._speak_otherwise)
        if not self.needs_power_cycle:
            self.power_cycle()
        reply = DltFrame(address_bytes(address), WRITE | 0x80, b"").encode()
        return [Transmission(30_000_000, reply)]
