"""Reads `config/meter_setup.toml`: which settings of which models may be written, and how.

The file is part of this project; a site cannot bring one of its own, so that no file on a gateway can make the agent
write somewhere new.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from agent.metering.decode import Decoded, decode, encode
from agent.metering.profile import WORDS_OF_TYPE, Register, WordType
from agent.protocol.writing import WRITE_MULTIPLE
from agent.resources import config_path

PARAMETERS = ("address", "baud", "framing", "protocol")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: the holding register that keeps it, and the meter's numbers for what people write.

    Without `codes` the number itself is written. `shift` is 8 where the setting is the high byte of its word, and 0
    where it is the low one or the whole register; `is_byte` tells these apart. `function` is what writes it.
    """

    register: Register
    codes: Mapping[str, int]
    is_byte: bool = False
    shift: int = 0
    function: int = WRITE_MULTIPLE

    def number(self, value: str) -> int:
        """The meter's number for what a person writes. Raises ValueError where the meter has no such setting."""
        if self.codes and value not in self.codes:
            raise ValueError(f"{value} is not one of {', '.join(self.codes)}")
        return self.codes[value] if self.codes else int(value)

    def words(self, value: str, present: Sequence[int] = (0,)) -> tuple[int, ...]:
        """The words to write, where these are there at present; the other half of a shared word is kept."""
        number = self.number(value)
        if not self.is_byte:
            return encode(self.register, number)
        kept = present[0] & (0xFF00 >> self.shift)
        return (kept | number << self.shift,)

    def shown(self, words: Sequence[int]) -> int | None:
        """The number that these words of the meter show; None where they show none."""
        if self.is_byte:
            return words[0] >> self.shift & 0xFF
        value = decode(self.register, words)
        return value if isinstance(value, int) else _whole(value)


@dataclass(frozen=True, slots=True)
class Settable:
    """One model: what may be set, what a person does before (may be empty), and when it holds."""

    settings: Mapping[str, Setting]
    preparation: str
    needs_power_cycle: bool


@dataclass(frozen=True, slots=True)
class Dlt645Switch:
    """What makes a Chint meter that speaks DL/T 645 speak Modbus."""

    identifier: int
    password: bytes
    operator: bytes
    data: bytes


def load_settable() -> dict[str, Settable]:
    """All models that may be written to, by their profile."""
    found = {}
    for model in _document()["models"]:
        settings = {name: _setting(name, model[name]) for name in PARAMETERS if name in model}
        for profile in model["profiles"]:
            found[profile] = Settable(settings, model["preparation"], model["effect"] == "power")
    return found


def load_switch() -> Dlt645Switch:
    """The switch from DL/T 645 to Modbus."""
    given = _document()["dlt645_switch"]
    password, operator, data = (bytes.fromhex(given[key]) for key in ("password", "operator", "data"))
    return Dlt645Switch(int(given["identifier"], 16), password, operator, data)


def _whole(value: Decoded) -> int | None:
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    return None


def _document() -> dict[str, Any]:
    return tomllib.loads(config_path("meter_setup.toml").read_text("utf-8"))


def _setting(name: str, given: Mapping[str, Any]) -> Setting:
    kind = WordType(given["type"])
    register = Register(
        name=name,
        address=given["register"],
        function=3,
        type=kind,
        words=WORDS_OF_TYPE[kind],
        low_word_first=False,
        unit="",
        per_count=Fraction(1),
        secondary=False,
        modulus_counts=None,
        invalid=frozenset(),
    )
    return Setting(
        register,
        {str(key): code for key, code in given.get("codes", {}).items()},
        is_byte="byte" in given,
        shift=8 if given.get("byte") == "high" else 0,
        function=given.get("function", WRITE_MULTIPLE),
    )
