"""A register, a profile and a meter to test with; every test changes only what it is about."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from agent.metering.plant import Meter, Role, Share
from agent.metering.profile import WORDS_OF_TYPE, Profile, Register, SerialDefaults, WordType


def register(type: WordType = WordType.U32, **changes: Any) -> Register:
    """A register that counts 0.01 kWh, high word first, at address 0 of the input registers."""
    plain = Register(
        name="energy_import",
        address=0,
        function=4,
        type=type,
        words=WORDS_OF_TYPE.get(type, 4),
        low_word_first=False,
        unit="kWh",
        per_count=Fraction(1, 100),
        secondary=False,
        modulus_counts=None,
        invalid=frozenset(),
    )
    return replace(plain, **changes)


def profile(energy: Register | None = None, **changes: Any) -> Profile:
    """A profile with one register."""
    energy = energy or register()
    plain = Profile(
        id="acme-m3",
        maker="ACME",
        model="M3",
        manual="none",
        protocol="modbus-rtu",
        phases=3,
        read_limit=125,
        alignment=1,
        quiet_ms=0,
        serial_defaults=SerialDefaults(9600, "none", 1),
        registers={"energy_import": energy},
        identity=None,
        fingerprint=(),
        accuracy_class=None,
        confidence=2,
        sources=(),
        examples=(),
        hash="p" * 43,
    )
    return replace(plain, **changes)


def meter(energy: Register | None = None, **changes: Any) -> Meter:
    """A meter that counts wholly for one step."""
    plain = Meter(
        id="reflow-1",
        line="hall-a",
        address=1,
        profile=profile(energy),
        role=Role.STEP,
        shares=(Share("reflow_soldering", Fraction(1)),),
    )
    return replace(plain, **changes)
