"""One simulated meter: a circuit's energy as the registers that a profile describes.

Before it comes an energy source (the factory), after it a line or a TCP gateway that carries its replies. The world's
truth is an exact integer of 0.001 Wh on the primary side; what a meter shows of it is floored to its register's own
resolution, as in a real counter. That shown value, not the truth behind it, is what the platform has to arrive at.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from agent.metering.decode import NoValue, decode, encode, split
from agent.metering.plant import Meter
from agent.metering.profile import Quantity, Register, Sum, WordType
from agent.metering.quantity import MILLIWH_PER_UNIT, Counts, to_milliwh
from agent.protocol.pdu import EXCEPTION_FLAG, REGISTERS_MAX
from simulators.meters.faults import Fault

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3

DLT645_TURNAROUND_MS = 20
"""A DL/T 645 meter answers no sooner."""
VOLTAGE_V = 230
POWER_FACTOR = Fraction(95, 100)
WATTS_PER_UNIT = {"W": 1, "kW": 1000, "MW": 1_000_000}

ENERGY_TOTAL = "energy_total"
"""The register in which some meters add import and export; here nothing is ever exported."""
TARIFF_COUNTS = 1_000
"""A meter with tariffs counts so much in one of them, then as much in the next: never in two at once."""

_BCD_CAPACITY = 10**8
_CAPACITY_BITS = {
    WordType.U16: 16,
    WordType.U32: 32,
    WordType.U64: 64,
    WordType.S16: 15,
    WordType.S32: 31,
    WordType.S64: 63,
}


class EnergySource(Protocol):
    """A circuit: what has flowed through it, and what flows."""

    def energy_milliwh(self) -> int:
        """Active energy so far, 0.001 Wh on the primary side; never falls."""

    def power_mw(self) -> int:
        """Active power now, milliwatts on the primary side."""


@dataclass
class FixedEnergy:
    """An energy source that a test sets by hand."""

    milliwh: int = 0
    milliwatts: int = 0

    def energy_milliwh(self) -> int:
        """What was set."""
        return self.milliwh

    def power_mw(self) -> int:
        """What was set."""
        return self.milliwatts


class SimulatedMeter:
    """A meter of the plant with its register image.

    `opening_milliwh` is what it had counted before it was installed here. `turnaround_ms` is how long it thinks before
    it answers, a DL/T 645 meter (whose `unit` is 0) never less than 20 ms; it cuts its answers into frames of
    `part_bytes`, 0 for one. With `answers_holes` addresses between its registers read as zero, as many meters do;
    without, a read that touches one is refused with exception 2. `circuits` are the other circuits of the same device,
    which are read through this one.
    """

    def __init__(
        self,
        meter: Meter,
        source: EnergySource,
        *,
        opening_milliwh: int = 0,
        turnaround_ms: int = 10,
        answers_holes: bool = False,
    ) -> None:
        self.meter = meter
        self.unit = meter.address if isinstance(meter.address, int) else 0
        self.turnaround_ms = turnaround_ms if self.unit else max(turnaround_ms, DLT645_TURNAROUND_MS)
        self.part_bytes = 0
        self.faults: list[Fault] = []
        self.requests = 0
        self.circuits: list[SimulatedMeter] = []
        self._source = source
        self._opening_milliwh = opening_milliwh
        self._answers_holes = answers_holes
        self._constants = {
            register.name: words
            for register in meter.profile.registers.values()
            if (words := self._constant_words(register)) is not None
        }

    # ------------------------------------------------------------------------------------------------------ the truth

    def energy_milliwh(self) -> int:
        """All energy that ever went through, exact."""
        return self._opening_milliwh + self._source.energy_milliwh()

    def counts(self) -> Counts:
        """What the energy register shows, in its own counts."""
        register = self.meter.profile.energy
        shown = decode(register, self._energy_words(register))
        if isinstance(shown, str | NoValue):
            raise TypeError(f"meter {self.meter.id}: the energy register shows {shown}")
        return shown

    def register_milliwh(self) -> int:
        """What the energy register shows, as the agent has to understand it: 0.001 Wh of the primary side."""
        return to_milliwh(self.counts(), self.meter.per_count_milliwh)

    # ------------------------------------------------------------------------------------------------------- requests

    def answer(self, pdu: bytes) -> bytes:
        """The reply PDU to a request PDU: words, or an exception as a real meter gives it."""
        self.requests += 1
        function = pdu[0]
        if function not in self._functions() or len(pdu) != 5:
            return _refuse(function, ILLEGAL_FUNCTION)
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        profile = self.meter.profile
        if not 1 <= count <= min(profile.read_limit, REGISTERS_MAX):
            return _refuse(function, ILLEGAL_VALUE)
        if address % profile.alignment or count % profile.alignment:
            return _refuse(function, ILLEGAL_ADDRESS)
        words = self._words(function, address, count)
        if words is None:
            return _refuse(function, ILLEGAL_ADDRESS)
        return bytes((function, 2 * count)) + b"".join(word.to_bytes(2, "big") for word in words)

    def _functions(self) -> set[int]:
        return {register.function for register in self.meter.profile.registers.values()}

    def _words(self, function: int, address: int, count: int) -> list[int] | None:
        """The words at these addresses; None where there is nothing to read."""
        wanted = range(address, address + count)
        found: dict[int, int] = {}
        for meter, register in self._all_registers():
            if register.function != function or not _overlap(register, wanted):
                continue
            words = meter.words_of(register)
            # Where pairs are read, the second half of a lone register is there and empty.
            padding = -(register.address + register.words) % self.meter.profile.alignment
            for place, word in enumerate((*words, *([0] * padding))):
                found.setdefault(register.address + place, word)
        known = found.keys() & set(wanted)
        if not known or (len(known) < count and not self._answers_holes):
            return None
        return [found.get(place, 0) for place in wanted]

    def _all_registers(self) -> list[tuple["SimulatedMeter", Register]]:
        """Those of every circuit of the device, each with the circuit that knows what it shows."""
        return [(each, register) for each in (self, *self.circuits) for register in each.registers()]

    def registers(self) -> list[Register]:
        """The registers as this circuit sees them."""
        return list(self.meter.profile.registers.values())

    # ---------------------------------------------------------------------------------------------- values of registers

    def words_of(self, register: Register) -> tuple[int, ...]:
        """What one register shows now."""
        return self._register_words(register)

    def _register_words(self, register: Register) -> tuple[int, ...]:
        energy = self.meter.profile.energy
        if register.name == energy.name:
            return self._energy_words(energy)
        if isinstance(energy, Sum) and register in energy.parts:
            return dict(split(energy, self._energy_words(energy)))[register]
        if register.name == ENERGY_TOTAL:
            per_count = register.per_count * MILLIWH_PER_UNIT[register.unit]
            counts = self.energy_milliwh() / (per_count * self.meter.transformer_ratio(register))
            return _wrapped(register, counts)
        if register.name in self._constants:
            return self._constants[register.name]
        value = self._live_value(register)
        if register.secondary:
            value /= _transformer(self.meter, register)
        return _at_its_end(register, value / register.per_count)

    def _energy_words(self, energy: Quantity) -> tuple[int, ...]:
        counts = self.energy_milliwh() / self.meter.per_count_milliwh
        if isinstance(energy, Register):
            return _wrapped(energy, counts)
        parts = tariffs(counts, len(energy.parts))
        return tuple(
            word for part, own in zip(energy.parts, parts, strict=True) for word in _wrapped(part, own)
        )

    def _live_value(self, register: Register) -> Fraction:
        """Power, current, voltage and the like on the primary side, in its unit; 0 for what we do not know."""
        watts = Fraction(self._source.power_mw(), 1000)
        phases = max(1, self.meter.profile.phases)
        if register.name == "power_active_total":
            return watts / WATTS_PER_UNIT.get(register.unit, 1)
        if register.name.startswith("power_active_"):
            return watts / phases / WATTS_PER_UNIT.get(register.unit, 1)
        if register.name.startswith("current_"):
            return watts / phases / (self._voltage() * POWER_FACTOR)
        if register.name.startswith("voltage_"):
            return self._voltage() * self.meter.pt_ratio
        if register.name == "frequency":
            return Fraction(5000 + self._wobble(3), 100)
        if register.name == "power_factor":
            return POWER_FACTOR
        return Fraction(0)

    def _voltage(self) -> Fraction:
        """230 V, half a percent up and down; it sags a little under load as mains do."""
        return Fraction(VOLTAGE_V * 10 + self._wobble(12), 10)

    def _wobble(self, most: int) -> int:
        """A whole number between -most and most that changes with the energy counted, the same on every run."""
        return zlib.crc32(f"{self.meter.id}{self.energy_milliwh()}".encode()) % (2 * most + 1) - most

    def _constant_words(self, register: Register) -> tuple[int, ...] | None:
        """Words of a register that stays as it is: serial number, ratios, settings as delivered."""
        if register.name == self.meter.profile.identity:
            return encode(register, self._serial(register))
        if register.name == "ct_ratio":
            return encode(register, self.meter.ct_ratio / register.per_count)
        if register.name == "pt_ratio":
            return encode(register, self.meter.pt_ratio / register.per_count)
        if register.unit or register.name == "power_factor":
            return None
        for example in self.meter.profile.examples:
            if example.register == register.name and example.reads is not None:
                return example.words
        return None

    def _serial(self, register: Register) -> int | str:
        """The serial number of the site file; where it names none, one made of the meter's id."""
        if register.type is WordType.DIGITS:
            number = self.meter.serial or str(self.meter.address)
            return "".join(digit if digit.isdecimal() else "0" for digit in number).rjust(
                2 * register.size, "0"
            )
        text = self.meter.serial or str(10_000_000 + zlib.crc32(self.meter.id.encode()) % 10_000_000)
        return text if register.type is WordType.ASCII else int(text)


def tariffs(counts: Fraction, number: int) -> list[Fraction]:
    """How much each of several tariffs has counted when all have counted `counts`; only one moves at a time."""
    turns, rest = divmod(counts, TARIFF_COUNTS)
    shares = [Fraction((turns - place + number - 1) // number * TARIFF_COUNTS) for place in range(number)]
    shares[turns % number] += rest
    return shares


def join_circuits(meters: Iterable[SimulatedMeter]) -> list[SimulatedMeter]:
    """The devices among meters of one line: circuits of one address become one device, read through the first."""
    devices: dict[int | str, SimulatedMeter] = {}
    for meter in meters:
        device = devices.setdefault(meter.meter.address, meter)
        if device is not meter:
            device.circuits.append(meter)
    return list(devices.values())


def _wrapped(register: Register, counts: Fraction) -> tuple[int, ...]:
    """A counter's words, begun anew where it can show no more."""
    capacity = _capacity(register)
    return encode(register, counts if capacity is None else counts % capacity)


def _at_its_end(register: Register, counts: Fraction) -> tuple[int, ...]:
    """The words of a live value, which stops at the end of what its register can show."""
    bits = _CAPACITY_BITS.get(register.type)
    if bits is None:
        return encode(register, counts)
    lowest = -(1 << bits) if register.type in (WordType.S16, WordType.S32, WordType.S64) else 0
    return encode(register, max(Fraction(lowest), min(counts, Fraction((1 << bits) - 1))))


def _refuse(function: int, code: int) -> bytes:
    return bytes((function | EXCEPTION_FLAG, code))


def _overlap(register: Register, wanted: range) -> bool:
    return register.address < wanted.stop and wanted.start < register.address + register.words


def _transformer(meter: Meter, register: Register) -> Fraction:
    """By what a value of the secondary side is smaller than that of the primary side."""
    if register.name.startswith("current_"):
        return meter.ct_ratio
    if register.name.startswith("voltage_"):
        return meter.pt_ratio
    return meter.ct_ratio * meter.pt_ratio


def _capacity(register: Register) -> int | None:
    """The first count the register cannot show: the profile's modulus, or the end of its type."""
    if register.modulus_counts is not None:
        return register.modulus_counts
    if register.type is WordType.BCD32:
        return _BCD_CAPACITY
    bits = _CAPACITY_BITS.get(register.type)
    return None if bits is None else 1 << bits
