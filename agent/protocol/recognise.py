"""What model a meter is that answers at an address: the questions and the judgement, without I/O.

First the registers in which makers write a model's name or number, then plausibility: a profile fits if its voltage is
a voltage, its frequency a mains frequency and its counter a counter. Many models share a map, so the answer is a list
of profiles that fit equally well, and a person chooses; a single value is never enough (meter notes, section 5).

Comes after `scan` found the address; the profiles come from `config/profiles`. It only ever reads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.decode import Decoded, NoValue, decode
from agent.metering.plant import SerialSettings
from agent.metering.profile import DLT645, ENERGY_IMPORT, Profile, Register
from agent.protocol.dlt645 import DltRequest
from agent.protocol.pdu import ReadRequest
from agent.protocol.scan import Ask, Dialogue, Heard, Kind

REPLY_MS = 400
DLT_REPLY_MS = 600
ATTEMPTS = 3
CANDIDATES_MAX = 8

_ENOUGH = 3
"""Points below which nothing but a counter spoke for a profile."""
_CERTAIN = 7
"""Points (voltage, frequency and more) at which a model found on this line before is not compared with all others."""

ENERGY_KWH_MAX = 10**8
"""A counter above this is a misread one: 100 GWh."""
POWER_W_MAX = 10**7

_SCALE: dict[str, int | Fraction] = {"kW": 1000, "Wh": Fraction(1, 1000), "MWh": 1000}
"""To W, V, A, Hz and kWh."""
_SECOND_PHASE = 0x0201_0200
_METER_NUMBER = 0x0400_0402


@dataclass(frozen=True, slots=True)
class Candidate:
    """A profile that fits, how well, and why. `named` says that the meter itself told its model."""

    profile: str
    score: int
    named: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recognised:
    """The best profiles, best first, all of the same score; and the serial number, None where none can be read."""

    candidates: tuple[Candidate, ...]
    serial: str | None


def recognise(
    address: int | str,
    settings: SerialSettings | None,
    profiles: Mapping[str, Profile],
    *,
    likely: Iterable[str] = (),
) -> Dialogue[Recognised]:
    """Find the profiles that fit a meter.

    `likely` ones (already found on this line) are tried first, and where one of them fits well no other is.
    """
    if isinstance(address, str):
        return (yield from _recognise_dlt645(address, settings, profiles))
    reader = _Reader(address, settings)
    order = {name: place for place, name in enumerate(likely)}
    modbus = [profile for profile in profiles.values() if profile.protocol != DLT645]
    named: list[str] = []
    for profile in modbus:
        named += [profile.id] if (yield from _tells_its_name(reader, profile)) else []
    judged: list[Candidate] = []
    if not named:
        for profile in modbus:
            if profile.id in order:
                candidate = yield from _judge(reader, profile, named=False)
                judged += [] if candidate is None or candidate.score < _CERTAIN else [candidate]
    for profile in [] if judged else modbus:
        if not named or profile.id in named:
            candidate = yield from _judge(reader, profile, named=profile.id in named)
            judged += [] if candidate is None else [candidate]
    best = max((candidate.score for candidate in judged), default=0)
    equals = sorted(
        (candidate for candidate in judged if candidate.score == best),
        key=lambda one: (order.get(one.profile, len(order)), -profiles[one.profile].confidence, one.profile),
    )
    serial = None
    for candidate in equals[:1]:
        serial = yield from _serial(reader, profiles[candidate.profile])
    return Recognised(tuple(equals[:CANDIDATES_MAX]), serial)


class _Reader:
    """Reads registers of one unit, each place once."""

    def __init__(self, unit: int, settings: SerialSettings | None) -> None:
        self._unit = unit
        self._settings = settings
        self._seen: dict[tuple[int, int, int], tuple[int, ...] | None] = {}

    def read(self, profile: Profile, register: Register) -> Dialogue[Decoded | None]:
        """The decoded register, None where the meter has none there."""
        start = register.address // profile.alignment * profile.alignment
        end = -(-(register.address + register.words) // profile.alignment) * profile.alignment
        words = yield from self._words(register.function, start, end - start)
        if words is None:
            return None
        offset = register.address - start
        return decode(register, words[offset : offset + register.words])

    def _words(self, function: int, address: int, count: int) -> Dialogue[tuple[int, ...] | None]:
        place = (function, address, count)
        if place not in self._seen:
            request = ReadRequest(self._unit, function, address, count)
            self._seen[place] = None
            for _ in range(ATTEMPTS):
                heard: Heard = yield Ask(request, REPLY_MS, self._settings)
                if heard.is_sound:
                    self._seen[place] = heard.words if heard.kind is Kind.ANSWER else None
                    break
        return self._seen[place]


def _tells_its_name(reader: _Reader, profile: Profile) -> Dialogue[bool]:
    """Whether the register that names the model holds what this profile expects."""
    rule = profile.recognition
    if rule is None:
        return False
    register = profile.registers[rule.register]
    value = yield from reader.read(profile, register)
    if value is None or isinstance(value, NoValue):
        return False
    shown = value.strip() if isinstance(value, str) else value * register.per_count
    return shown in [wanted.strip() if isinstance(wanted, str) else wanted for wanted in rule.one_of]


def _judge(reader: _Reader, profile: Profile, *, named: bool) -> Dialogue[Candidate | None]:
    """Score one profile; None where a register shows what it cannot be."""
    score = 100 if named else 0
    reasons = ["the meter tells its model"] if named else []
    checks: list[tuple[str, Register]] = [
        (name, profile.registers[name])
        for name in ("voltage_l1", "frequency", "power_active_total")
        if name in profile.registers
    ]
    checks += [(ENERGY_IMPORT, part) for part in profile.energy.parts]
    for name, register in checks:
        value = yield from reader.read(profile, register)
        if value is None or isinstance(value, NoValue | str):
            if name == ENERGY_IMPORT:
                return None
            continue
        points, reason = _plausible(name, register, Fraction(value))
        if points < 0:
            return None
        score += points
        reasons += [reason] if reason else []
    if score < _ENOUGH:
        reasons.append("only its counter fits, and almost any number could be one: look at the display")
    return Candidate(profile.id, score, named, tuple(reasons))


def _plausible(name: str, register: Register, counts: Fraction) -> tuple[int, str]:
    """Points and a sentence for one value; negative where it cannot be what the profile says."""
    value = counts * register.per_count * _SCALE.get(register.unit, 1)
    if name == "voltage_l1":
        if value == 0:
            return 0, ""
        fits = any(low <= value <= high for low, high in ((52, 64), (90, 130), (190, 280), (330, 480)))
        return (3, f"voltage {value.__round__()} V") if fits else (-1, "")
    if name == "frequency":
        return (3, f"frequency {value.__round__()} Hz") if 45 <= value <= 65 else (-1, "")
    if name == "power_active_total":
        return (1, "") if abs(value) <= POWER_W_MAX else (-1, "")
    return (1, "") if 0 <= value <= ENERGY_KWH_MAX and _is_no_speck(value) else (-1, "")


def _is_no_speck(value: Fraction) -> bool:
    """Integers read as floats are tiny numbers that no counter shows."""
    return value == 0 or value >= Fraction(1, 10_000)


def _serial(reader: _Reader, profile: Profile) -> Dialogue[str | None]:
    if profile.identity is None:
        return None
    value = yield from reader.read(profile, profile.registers[profile.identity])
    return None if value is None or isinstance(value, NoValue) or value in (0, "") else str(value)


# ------------------------------------------------------------------------------------------------------------- DL/T 645


def _recognise_dlt645(
    address: str, settings: SerialSettings | None, profiles: Mapping[str, Profile]
) -> Dialogue[Recognised]:
    """One or three phases, by whether the second has a voltage."""
    second = yield from _dlt_read(address, settings, _SECOND_PHASE, 2)
    digits = "" if second is None or len(second) != 1 else f"{second[0]:04X}"
    phases = 3 if digits.isdecimal() and int(digits) > 500 else 1
    number = yield from _dlt_read(address, settings, _METER_NUMBER, 6)
    serial = None if number is None else "".join(f"{word:04X}" for word in number)
    fitting = [
        Candidate(profile.id, 10, True, (f"speaks DL/T 645, phases with voltage: {phases}",))
        for profile in profiles.values()
        if profile.protocol == DLT645 and profile.phases == phases
    ]
    return Recognised(tuple(fitting), serial if serial is not None and serial.isdecimal() else None)


def _dlt_read(
    address: str, settings: SerialSettings | None, identifier: int, size: int
) -> Dialogue[tuple[int, ...] | None]:
    for _ in range(ATTEMPTS):
        heard = yield Ask(DltRequest(address, identifier, size), DLT_REPLY_MS, settings)
        if heard.is_sound:
            return heard.words if heard.kind is Kind.ANSWER else None
    return None
