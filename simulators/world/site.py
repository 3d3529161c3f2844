"""The factory's site: four meters of four kinds on two lines, and what an operator changes about them.

The kinds are those that matter to the ledger: a small modulus about to roll over, no readable serial number, counting
behind current transformers, and a long register in Wh. A `Site` is what a site file would say; each change makes a new
one with the next version.
"""

import hashlib
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from agent.metering.plant import Line, Meter, Role, SerialSettings, Share, Transport
from agent.metering.profile import WORDS_OF_TYPE, Profile, Register, SerialDefaults, WordType
from agent.reporting.wire import TEXT_MAX

RATED_W = 40_000
SETTINGS = SerialSettings(9600, "even", 1)
PLANNED_LINE = "c"
FED_BY_CIRCUIT = "m4"
"""Goes dark with the circuit that it measures."""
POLL_MS = 900_000
"""Live reads are not what the world is about; they keep to themselves."""
FLOAT_EXACT_COUNTS = 1 << 24
"""Above this a binary float of 32 bits does not know every count any more."""
STEPS = ("reflow_soldering", "wave_soldering", "burn_in", "conformal_coating", "smt_placement")
ORG, AGENT, AUDIENCE = "org", "gw01", "carbon.example"


def _register(name: str, address: int, type_: WordType, **changes: object) -> Register:
    plain = Register(
        name=name,
        address=address,
        function=4,
        type=type_,
        words=WORDS_OF_TYPE[type_],
        low_word_first=False,
        unit="kWh",
        per_count=Fraction(1, 100),
        secondary=False,
        modulus_counts=None,
        invalid=frozenset(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def _profile(id_: str, energy: Register, *, has_serial: bool, has_ratio: bool = False) -> Profile:
    registers = {"energy_import": energy}
    if has_serial:
        registers["serial_number"] = _register(
            "serial_number", 100, WordType.U32, unit="", per_count=Fraction(1)
        )
    if has_ratio:
        registers["ct_ratio"] = _register("ct_ratio", 110, WordType.U16, unit="", per_count=Fraction(1))
    return Profile(
        id=id_,
        maker="World",
        model=id_,
        manual="none",
        protocol="modbus-rtu",
        phases=3,
        read_limit=125,
        alignment=1,
        quiet_ms=0,
        serial_defaults=SerialDefaults(9600, "even", 1),
        registers=registers,
        identity="serial_number" if has_serial else None,
        fingerprint=("ct_ratio",) if has_ratio else (),
        accuracy_class=None,
        confidence=2,
        sources=(),
        examples=(),
        hash=hashlib.sha256(id_.encode()).hexdigest()[:43],
    )


SMALL_MODULUS = _profile(
    "small-modulus", _register("energy_import", 0, WordType.U32, modulus_counts=10**6), has_serial=True
)
NAMELESS = _profile("nameless", _register("energy_import", 0, WordType.U32), has_serial=False)
SECONDARY = _profile(
    "secondary",
    _register("energy_import", 0, WordType.U32, secondary=True, modulus_counts=10**8),
    has_serial=True,
    has_ratio=True,
)
LONG = _profile(
    "long", _register("energy_import", 0, WordType.U64, unit="Wh", per_count=Fraction(1)), has_serial=True
)


@dataclass(frozen=True, slots=True)
class Site:
    """One version of the site file."""

    version: int
    wired: tuple[Meter, ...]
    spare: int = 0
    """Meters that are planned on a line which does not exist yet."""

    @property
    def meters(self) -> tuple[Meter, ...]:
        """All that the file names."""
        return (*self.wired, *(_planned(number) for number in range(self.spare)))

    @property
    def sha256(self) -> str:
        """Stands for the hash of the file."""
        return hashlib.sha256(f"site {self.version}".encode()).hexdigest()

    @property
    def lines(self) -> tuple[Line, ...]:
        """Two RS485 pairs, and perhaps one that is planned."""
        ids = ("a", "b", PLANNED_LINE) if self.spare else ("a", "b")
        return tuple(Line(id_, Transport.RS485, f"/dev/{id_}", None, None, SETTINGS, POLL_MS) for id_ in ids)

    def meter(self, id_: str) -> Meter:
        """One of its meters."""
        return next(each for each in self.wired if each.id == id_)

    def changed(self, changed: Meter) -> "Site":
        """The next version, with one meter described otherwise."""
        wired = tuple(changed if each.id == changed.id else each for each in self.wired)
        return replace(self, version=self.version + 1, wired=wired)


def _wired(id_: str, line: str, address: int, profile: Profile, step: str, **more: object) -> Meter:
    plain = Meter(id_, line, address, profile, Role.STEP, (Share(step, Fraction(1)),), rated_w=RATED_W)
    return replace(plain, **more)  # type: ignore[arg-type]


@cache
def _planned(number: int) -> Meter:
    """Its texts are as long as a message may have them: few meters make a large map, and few cost little time."""
    return _wired(
        f"planned-{number}",
        PLANNED_LINE,
        1 + number,
        LONG,
        STEPS[number % len(STEPS)],
        production_line="l" * TEXT_MAX,
        accuracy_class="a" * TEXT_MAX,
        ct_class="c" * TEXT_MAX,
    )


def first_site() -> Site:
    """As the installer left it."""
    return Site(
        1,
        (
            _wired("m1", "a", 1, SMALL_MODULUS, STEPS[0]),
            _wired("m2", "a", 2, NAMELESS, STEPS[1], serial="2002"),
            _wired("m3", "b", 1, SECONDARY, STEPS[2], ct_ratio=Fraction(40)),
            _wired(FED_BY_CIRCUIT, "b", 2, LONG, STEPS[3], powered_by_circuit=True),
        ),
    )


def opening_counts(id_: str, chance: random.Random) -> int:
    """What a meter shows when the world begins: the first one is about to roll over."""
    if id_ == "m1":
        return 10**6 - chance.randrange(20, 4000)
    if id_ == "m4":
        return FLOAT_EXACT_COUNTS + chance.randrange(10**5, 10**7)
    return chance.randrange(10**5, 10**7)
