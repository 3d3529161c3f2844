"""Meters that are in no profile: the registers of a seeded map, showing a seeded circuit.

Types and scales are combined as makers of real meters do (`CONVENTIONS`, counted over the models of the meter notes);
where the registers are, their order, the word order, holes, and all other registers around them are thrown.
"""

import random
import sys
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from typing import TypeVar

from agent.metering.decode import encode
from agent.metering.probe import Draft, rank, wants_more
from agent.metering.profile import WORDS_OF_TYPE, Register, WordType
from agent.metering.series import Place, Snapshot
from agent.protocol.pdu import ReadRequest
from agent.protocol.scan import Ask, Dialogue, Heard, Kind, Listen

CONVENTIONS = (
    (9, "ffff", "1", "1", "1", "1"),
    (8, "ffff", "1", "1", "1", "1000"),
    (7, "ffff", "1", "1", "1000", "1000"),
    (7, "fffq", "1", "1", "1000", "1"),
    (6, "dddd", "1/10", "1/1000", "1/10", "100"),
    (5, "dddq", "1/10", "1/100", "1/100", "10"),
    (4, "wwwd", "1/10", "1/100", "1", "10"),
    (4, "dddd", "1/100", "1/1000", "10", "10"),
    (3, "wwdd", "1/10", "1/100", "1", "10"),
    (3, "fffF", "1", "1", "1", "1"),
    (2, "fffF", "1", "1", "1000", "1000"),
    (2, "ffff", "1/10", "1/1000", "1/10", "1000"),
    (2, "dddd", "1/1000", "1/1000", "1", "10"),
    (1, "fffd", "1", "1", "1", "100"),
    (1, "dddd", "1/100", "1/100", "1", "10"),
    (1, "wddd", "1/100", "1/1000", "1", "10"),
    (1, "wddd", "1/10", "1/1000", "1/10", "1"),
    (1, "wwwd", "1", "1/10", "10", "10"),
)
"""Models that combine so: types of voltage, current, power, energy (word, double, quad, float, Float64), and scales."""

TYPE = {"w": WordType.U16, "d": WordType.U32, "q": WordType.U64, "f": WordType.F32, "F": WordType.F64}
WATCHED_S = 240
WATCHED_MAX_S = 1920
STEP_S = 12


@dataclass
class Circuit:
    """What flows, second by second, exact."""

    chance: random.Random
    phases: int
    watt_max: int
    power_factor: Fraction
    opening_wh: Fraction
    levels: list[Fraction] = field(default_factory=list)
    _summed: list[Fraction] = field(default_factory=list)
    _sums: list[Fraction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.levels = [Fraction(self.chance.randrange(25, 101), 100) for _ in range(WATCHED_S // 10 + 40)]
        later = random.Random(int(self.opening_wh))
        self.levels += [Fraction(later.randrange(25, 101), 100) for _ in range(WATCHED_MAX_S // 10)]
        shares = [Fraction(self.chance.randrange(29, 38)) for _ in range(self.phases)]
        self.shares = [share / sum(shares) for share in shares]

    def watt(self, second: int) -> Fraction:
        return self.watt_max * self.levels[second // 10]

    def energy_wh(self, second: int) -> Fraction:
        levels = 10 * self._before()[second // 10] + second % 10 * self.levels[second // 10]
        return self.opening_wh + self.watt_max * levels / 3600

    def _before(self) -> list[Fraction]:
        """The sum of all levels before each; made anew when a test has changed the levels."""
        if self._summed != self.levels:
            self._summed = list(self.levels)
            self._sums = list(accumulate(self.levels, initial=Fraction(0)))
        return self._sums

    def volt(self, phase: int, second: int) -> Fraction:
        wobble = random.Random(phase * 1009 + second).randrange(-9, 10)
        return Fraction(2305 + 7 * phase + wobble, 10) - self.levels[second // 10]

    def ampere(self, phase: int, second: int) -> Fraction:
        return self.watt(second) * self.shares[phase] / self.volt(phase, second) / self.power_factor

    def hertz(self, second: int) -> Fraction:
        return Fraction(5000 + random.Random(second).randrange(-3, 4), 100)


@dataclass
class UnknownMeter:
    """A map: registers by name, and what they show at a second; `answers_holes` reads zero between them."""

    seed: int
    circuit: Circuit
    registers: dict[str, Register]
    answers_holes: bool
    limit: int
    second: int = 0
    _kept: tuple[int, int, dict[int, int]] = (0, -1, {})

    def words(self, function: int, address: int, count: int) -> tuple[int, ...] | int:
        """The words, or the code of an exception."""
        if count > self.limit:
            return 3
        shown = self._shown(function)
        if not shown:
            return 1
        asked = range(address, address + count)
        known = [place for place in asked if place in shown]
        low, high = min(shown), max(shown)
        inside = self.answers_holes and all(low <= place <= high for place in asked)
        if len(known) < count and not inside:
            return 2
        return tuple(shown.get(place, 0) for place in asked)

    def _shown(self, function: int) -> dict[int, int]:
        """All words of a function now."""
        if self._kept[:2] != (function, self.second):
            shown: dict[int, int] = {}
            for register in self.registers.values():
                if register.function == function:
                    words = encode(register, self._value(register.name) / register.per_count)
                    shown.update(
                        zip(range(register.address, register.address + register.words), words, strict=True)
                    )
            self._kept = function, self.second, shown
        return self._kept[2]

    def _value(self, name: str) -> Fraction:
        now, circuit = self.second, self.circuit
        kind, _, rest = name.rpartition("_l")
        if kind == "voltage":
            return circuit.volt(int(rest) - 1, now)
        if kind == "current":
            return circuit.ampere(int(rest) - 1, now)
        if kind == "power_active":
            return circuit.watt(now) * circuit.shares[int(rest) - 1]
        reactive = Fraction(int((1 - circuit.power_factor**2) * 10**8), 10**8)
        sine = Fraction(int(reactive.numerator * 10**6 // reactive.denominator) ** 1, 10**6)
        tangent = _root(sine) / circuit.power_factor
        return {
            "power_active_total": circuit.watt(now),
            "power_apparent_total": circuit.watt(now) / circuit.power_factor,
            "power_reactive_total": circuit.watt(now) * tangent,
            "power_factor": circuit.power_factor,
            "frequency": circuit.hertz(now),
            "energy_import": circuit.energy_wh(now),
            "energy_export": Fraction(self.seed % 3 * 1234),
            "energy_reactive": (circuit.energy_wh(now) - circuit.opening_wh / 2) * tangent,
            "constant_a": Fraction(self.seed % 7),
            "constant_b": Fraction(1),
        }[name]


def _root(value: Fraction) -> Fraction:
    scaled = int(value * 10**12)
    low, high = 0, 10**7
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle * middle <= scaled else (low, middle - 1)
    return Fraction(low, 10**6)


def unknown_meter(seed: int) -> UnknownMeter:
    """The meter of this seed."""
    chance = random.Random(seed)
    _, kinds, *texts = chance.choices(CONVENTIONS, [row[0] for row in CONVENTIONS])[0]
    volt, ampere, watt, wh = (Fraction(text) for text in texts)
    phases = chance.choice((1, 3, 3))
    function = chance.choice((3, 4))
    low_first = chance.random() < 0.25
    maximum = chance.randrange(600, 3500) * phases
    # A 32-bit float in Wh is only exact enough while it is young.
    opening = Fraction(
        chance.randrange(10_000, 900_000) if kinds[3] == "f" else chance.randrange(10_000, 9_000_000)
    )
    circuit = Circuit(chance, phases, maximum, Fraction(chance.randrange(80, 98), 100), opening)
    per_phase = {"voltage": (kinds[0], volt), "current": (kinds[1], ampere), "power_active": (kinds[2], watt)}
    blocks: list[list[tuple[str, str, Fraction]]] = []
    for name, (kind, scale) in per_phase.items():
        if name != "power_active" or (phases == 3 and chance.random() < 0.6):
            blocks.append([(f"{name}_l{phase}", kind, scale) for phase in range(1, phases + 1)])
    totals = [("power_active_total", kinds[2], watt)]
    totals += [("power_apparent_total", kinds[2], watt)] if chance.random() < 0.5 else []
    totals += [("power_reactive_total", kinds[2], watt)] if chance.random() < 0.5 else []
    chance.shuffle(totals)
    small = Fraction(1) if kinds[0] == "f" else Fraction(1, 1000)
    totals.append(("power_factor", kinds[0], small))
    hertz = Fraction(1) if kinds[0] == "f" else Fraction(1, 100)
    totals.append(("frequency", kinds[0], hertz))
    blocks.append(totals)
    chance.shuffle(blocks)
    energies = [("energy_import", kinds[3], wh), ("energy_export", kinds[3], wh)]
    energies += [("energy_reactive", kinds[3], wh)] if chance.random() < 0.6 else []
    chance.shuffle(energies)
    registers = _laid_out(chance, [*blocks, energies], function, low_first)
    return UnknownMeter(seed, circuit, registers, chance.random() < 0.5, chance.choice((16, 32, 60, 125)))


def _laid_out(
    chance: random.Random, blocks: list[list[tuple[str, str, Fraction]]], function: int, low_first: bool
) -> dict[str, Register]:
    """Blocks one behind the other or with gaps, from an even or an odd place; energy perhaps elsewhere."""
    address = chance.choice((0, 1, 32 * chance.randrange(1, 700), 32 * chance.randrange(1, 700) + 1))
    registers: dict[str, Register] = {}
    for block in blocks:
        if block[0][0].startswith("energy") and chance.random() < 0.5:
            address = (address // 32 + chance.randrange(2, 40)) * 32 + address % 2
        for name, kind, scale in block:
            type_ = TYPE[kind]
            words = WORDS_OF_TYPE[type_]
            registers[name] = Register(
                name,
                address,
                function,
                type_,
                words,
                low_first and words > 1,
                "",
                scale,
                False,
                None,
                frozenset(),
            )
            address += words
        address += 2 * chance.choice((0, 0, 1, 3))
    constant = replace(registers["voltage_l1"], name="constant_a", address=address, per_count=Fraction(1))
    registers["constant_a"] = constant
    registers["constant_b"] = replace(constant, name="constant_b", address=address + constant.words)
    return registers


# ------------------------------------------------------------------------------------------------------ reading a map

UNITS = {"energy_import": 1000, "power_active_total": 1, "voltage_l1": 1, "current_l1": 1}
"""What is compared, and how many of the map's unit the draft's is."""

T = TypeVar("T")


def understood(meter: UnknownMeter) -> tuple[Draft, ...]:
    """What the command would make of it: watched for longer while the counter took too few steps."""
    seconds, drafts = WATCHED_S, rank(snapshots_of(meter))
    while seconds < WATCHED_MAX_S and wants_more(snapshots_of(meter, seconds), drafts):
        seconds *= 2
        drafts = rank(snapshots_of(meter, seconds))
    return drafts


def snapshots_of(meter: UnknownMeter, watched_s: int = WATCHED_S) -> list[Snapshot]:
    """What all its registers show over the watch."""
    found = []
    areas = [(register.function, register.address, register.words) for register in meter.registers.values()]
    if meter.answers_holes:
        first = min(address for _, address, _ in areas)
        last = max(address + words for _, address, words in areas)
        if last - first < 400:
            areas = [
                (areas[0][0], first + at, min(16, last - first - at)) for at in range(0, last - first, 16)
            ]
    for second in range(0, watched_s + 1, STEP_S):
        meter.second = second
        words: dict[Place, int] = {}
        for function, address, count in areas:
            shown = meter.words(function, address, count)
            assert isinstance(shown, tuple)
            words.update(((function, address + place), word) for place, word in enumerate(shown))
        found.append(Snapshot(second * 1000, words))
    return found


def is_right(draft: Draft, meter: UnknownMeter) -> bool:
    """Whether place, type, word order and scale of energy, power, voltage and current are those of the map."""
    for name, per in UNITS.items():
        found, true = draft.registers.get(name), meter.registers[name]
        if found is None or found.per_count * per != true.per_count:
            return False
        if (found.function, found.address, found.type) != (true.function, true.address, true.type):
            return False
        if found.low_word_first != true.low_word_first:
            return False
    return True


class Reader:
    """Answers a dialogue from a map; time passes as at 9600 baud with 10 ms of turnaround."""

    def __init__(self, meter: UnknownMeter, *, mute: bool = False) -> None:
        self.functions: set[int] = set()
        self._meter = meter
        self._mute = mute
        self._now_us = 0

    @property
    def seconds(self) -> int:
        return self._now_us // 1_000_000

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
                case Ask(ReadRequest() as request, timeout_ms, _):
                    heard = self._read(request, timeout_ms)
                case Listen(duration_ms):
                    self._now_us += 1000 * duration_ms
                    heard = Heard(Kind.NOTHING)
                case _:
                    heard = Heard(Kind.NOTHING)

    def _read(self, request: ReadRequest, timeout_ms: int) -> Heard:
        self.functions.add(request.function)
        self._meter.second = self.seconds % 600
        shown = self._meter.words(request.function, request.address, request.count)
        if isinstance(shown, int):
            self._now_us += 1000 * timeout_ms if self._mute else 27_000
            return Heard(Kind.SILENT) if self._mute else Heard(Kind.REFUSED, code=shown)
        self._now_us += 27_000 + 2083 * request.count
        return Heard(Kind.ANSWER, shown, at_ms=self._now_us // 1000)


def main(seeds: int, first: int) -> None:
    """How many of so many maps are understood first time."""
    wrong = []
    for done, seed in enumerate(range(first, first + seeds), 1):
        if not is_understood(seed):
            wrong.append(seed)
        if done % 10 == 0 or done == seeds:
            print(f"{done - len(wrong)} of {done} maps right, wrong: {wrong}", flush=True)


def is_understood(seed: int) -> bool:
    """Whether the right understanding of this map comes first."""
    meter = unknown_meter(seed)
    drafts = understood(meter)
    return bool(drafts) and is_right(drafts[0], meter)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
