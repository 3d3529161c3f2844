"""Seeded lines for the scanner: meters of both languages, each with its speed and turnaround, noise, a shared address.

A dialogue is played in virtual time, as `agent.service.scanning` plays it on a real line.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from agent.errors import FrameDamaged, MeterBusy, MeterRefused
from agent.metering.plant import SerialSettings
from agent.protocol.events import Words
from agent.protocol.pair import PairMaster
from agent.protocol.scan import (
    FAST,
    SLOW,
    USUAL_SETTINGS,
    Ask,
    Dialogue,
    Heard,
    Kind,
    Listed,
    Listen,
    Progress,
    listed,
    search,
    settled,
)
from simulators.line.rs485 import Hear, Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualBus
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.support.plants import PROFILES, meter

T = TypeVar("T")
MODBUS = sorted(
    name
    for name, profile in PROFILES.items()
    if profile.protocol == "modbus-rtu" and {"voltage_l1", "frequency"} & profile.registers.keys()
)
"""Models that a scan can recognise: where only the counter is known, nothing tells it from any other number."""
DLT = ("dlt645-2007-single-phase", "dlt645-2007-three-phase")
EVEN_SPEEDS = tuple(SerialSettings(baud, "even", 1) for baud in (2400, 9600, 19_200, 4800, 1200))


@dataclass
class World:
    """A line, its meters, and virtual time."""

    meters: list[SimulatedMeter]
    flip_every: int = 0
    seed: int = 0
    chunk: int = 8
    asked: int = 0
    written: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = USUAL_SETTINGS[0]
        self.line = Rs485Line(start, self.hear_at(start), flip_every=self.flip_every, seed=self.seed)
        self.master = PairMaster(start)
        self.bus = VirtualBus(
            self.master, self.line, chunk=self.chunk, hold_ns=1_000_000, hear_at=self.hear_at
        )

    def hear_at(self, settings: SerialSettings) -> Hear:
        return on_one_pair(one for one in self.meters if one.meter.serial_settings == settings)

    @property
    def seconds(self) -> float:
        return (self.bus.now_ns - 1_000_000_000) / 1e9

    def play(self, dialogue: Dialogue[T]) -> T:
        """Play a dialogue to its end."""
        heard: Heard | None = None
        while True:
            try:
                question = next(dialogue) if heard is None else dialogue.send(heard)
            except StopIteration as end:
                result: T = end.value
                return result
            match question:
                case Progress() | Listed():
                    heard = Heard(Kind.NOTHING)
                case Listen(duration_ms):
                    self.bus.idle(duration_ms * 1_000_000)
                    heard = self._beside(Heard(Kind.NOTHING))
                case Ask():
                    heard = self._beside(self._ask(question))

    def _beside(self, heard: Heard) -> Heard:
        return replace(heard, strays=tuple(self.master.strays()), garbage=self.master.garbage())

    def _ask(self, question: Ask) -> Heard:
        self.asked += 1
        self.bus.trace.clear()
        end = self.bus.read(question.request, timeout_ms=question.timeout_ms, settings=question.settings)
        if isinstance(end, Words):
            return Heard(Kind.ANSWER, end.words, sender=end.sender, at_ms=end.received_ns // 1_000_000)
        if isinstance(end.error, MeterRefused):
            return Heard(Kind.REFUSED, code=end.error.code)
        if isinstance(end.error, MeterBusy):
            return Heard(Kind.REFUSED, code=6)
        kind = Kind.DAMAGED if isinstance(end.error, FrameDamaged) else Kind.SILENT
        return Heard(kind)


def modbus_meter(unit: int, profile: str, settings: SerialSettings, turnaround_ms: int) -> SimulatedMeter:
    plain = replace(meter(f"u{unit}-{profile[:8]}", unit, profile), serial_settings=settings)
    return SimulatedMeter(
        plain,
        FixedEnergy(123_456_789_012, 2_500_000),
        turnaround_ms=turnaround_ms,
        answers_holes=unit % 2 == 0,
    )


def dlt_meter(address: str, profile: str, settings: SerialSettings, turnaround_ms: int) -> SimulatedMeter:
    plain = replace(meter(f"d{address[-6:]}", 1, profile), address=address, serial_settings=settings)
    return SimulatedMeter(plain, FixedEnergy(987_654_321_000, 1_500_000), turnaround_ms=turnaround_ms)


@dataclass(frozen=True)
class Truth:
    """Who is really there: address and settings, and which address two meters share."""

    present: frozenset[tuple[int | str, SerialSettings | None]]
    shared: frozenset[tuple[int | str, SerialSettings | None]]


def seeded(seed: int, *, slow_ms: int = 150, flip_every: int = 1500) -> tuple[World, Truth]:
    """A line of 3 to 14 Modbus meters and 0 to 4 DL/T 645 meters, one address held twice."""
    chance = random.Random(seed)
    units = chance.sample(range(1, 248), chance.randrange(3, 15))
    settings = chance.sample(USUAL_SETTINGS, 2)
    meters = [
        modbus_meter(unit, chance.choice(MODBUS), _mostly(chance, settings), _turnaround(chance, slow_ms))
        for unit in units
    ]
    double = chance.choice(meters)
    second = modbus_meter(double.unit, chance.choice(MODBUS), _own(double), _turnaround(chance, slow_ms))
    even = [chance.choice(EVEN_SPEEDS)]
    batch = chance.randrange(10**10)
    addresses = {f"{batch * 100 + chance.randrange(100):012d}" for _ in range(chance.randrange(5))}
    meters += [
        dlt_meter(address, chance.choice(DLT), even[0], chance.choice((20, 30, 60, 120, 200)))
        for address in sorted(addresses)
    ]
    present = frozenset((one.meter.address, _own(one)) for one in meters)
    world = World([*meters, second], flip_every=flip_every, seed=seed)
    return world, Truth(present, frozenset({(double.unit, _own(double))}))


def _own(one: SimulatedMeter) -> SerialSettings:
    assert one.meter.serial_settings is not None
    return one.meter.serial_settings


def _mostly(chance: random.Random, settings: Sequence[SerialSettings]) -> SerialSettings:
    return settings[0] if chance.random() < 0.8 else settings[1]


def _turnaround(chance: random.Random, slow_ms: int) -> int:
    """Most meters answer in 3 to 25 ms, one in eight takes longer."""
    return chance.randrange(26, slow_ms) if chance.random() < 0.125 else chance.randrange(3, 26)


def main(seeds: int) -> None:
    """Fast and slow pass with all eight settings on so many seeded lines."""
    wrong = missed_fast = meters = listed_wrong = 0
    for seed in range(seeds):
        world, truth = seeded(seed)
        answered = world.play(listed(USUAL_SETTINGS, FAST))
        listed_wrong += len({(one.address, one.settings) for one in answered} - truth.present)
        fast = world.play(settled(answered))
        slow = world.play(search(USUAL_SETTINGS, SLOW, known=fast))
        found = {(one.address, one.settings) for one in (*fast, *slow)}
        shared = {(one.address, one.settings) for one in (*fast, *slow) if one.shared}
        wrong += found != truth.present or shared != truth.shared
        meters += len(truth.present)
        missed_fast += len(truth.present - {(one.address, one.settings) for one in fast})
    print(f"{seeds} lines, {meters} meters: {wrong} lines wrong, {missed_fast} meters left to the slow pass")
    print(f"phantoms on the lists of the fast pass, before anyone was looked at closely: {listed_wrong}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
