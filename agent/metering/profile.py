"""What one model of meter keeps in its registers, as values.

A profile is one TOML file in `config/profiles`; `agent.settings.profiles` reads it into these types. The same profile
drives the reader, the simulated meter, the tests and the documentation, so that adding a meter takes no Python.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

ENERGY_IMPORT = "energy_import"
"""Name of the cumulative active energy register that is booked; every profile has it."""


class WordType(StrEnum):
    """How the words of a register encode its value."""

    U16 = "u16"
    S16 = "s16"
    U32 = "u32"
    S32 = "s32"
    U64 = "u64"
    S64 = "s64"
    F32 = "f32"
    F64 = "f64"
    BCD32 = "bcd32"
    ASCII = "ascii"
    BCD = "bcd"
    BCD_SIGNED = "bcd-signed"
    DIGITS = "digits"


WORDS_OF_TYPE = {
    WordType.U16: 1,
    WordType.S16: 1,
    WordType.U32: 2,
    WordType.S32: 2,
    WordType.U64: 4,
    WordType.S64: 4,
    WordType.F32: 2,
    WordType.F64: 4,
    WordType.BCD32: 2,
}
"""Words per value; ASCII registers say their own length in words, those of DL/T 645 in bytes."""

DLT645 = "dlt645-2007"
"""The protocol of meters whose registers have an identifier instead of address and function."""
DLT645_READ = 0x11
"""Function that reads an identifier."""


@dataclass(frozen=True, slots=True)
class Register:
    """One quantity that a meter keeps.

    `address` is the zero-based protocol address, `function` the Modbus function code that reads it (3 or 4), `words`
    its length. `per_count` is how many `unit` one raw count is. `secondary` says that the value counts behind the
    transformers and has to be multiplied by the site's ratios (`plant.Meter.transformer_ratio`). `modulus_counts` is
    the first count the register cannot show, None where nobody knows it. `invalid` lists raw unsigned values that mean
    "no value".

    A DL/T 645 register has an `identifier` (DI3..DI0 as one number) and `size` bytes of data instead of a place; its
    address is 0, its words are the data with the high byte first. The type bcd-signed has its sign in the highest bit
    of the data, digits are text.
    """

    name: str
    address: int
    function: int
    type: WordType
    words: int
    low_word_first: bool
    unit: str
    per_count: Fraction
    secondary: bool
    modulus_counts: int | None
    invalid: frozenset[int]
    identifier: int | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """Words seen on the wire and what they mean; a test reads each one back.

    `reads` is the value in the register's unit (before CT and PT) as exact text, or the text of an ASCII register,
    or None where the words mean "no value".
    """

    register: str
    words: tuple[int, ...]
    reads: str | None


@dataclass(frozen=True, slots=True)
class SerialDefaults:
    """The line settings with which the meter leaves its maker."""

    baud: int
    parity: str
    stop_bits: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One model of meter.

    `registers` is ordered as in the file. `identity` names the register that holds the serial number, None if it
    cannot be read. `fingerprint` names registers that a person can change at the meter and that change the meaning
    of its energy register; a meter that answers exception 2 for one does not have it, which is as good as a value.
    `quiet_ms` is the rest the meter needs after its answer beyond the 3.5 characters of the
    line. `hash` is the base64url SHA-256 of the file's bytes, `confidence` 2 where two sources agree. `power_max_w` is
    the most active power the model can measure, before CT and PT, None where no source says so.
    """

    id: str
    maker: str
    model: str
    manual: str
    protocol: str
    phases: int
    read_limit: int
    alignment: int
    quiet_ms: int
    serial_defaults: SerialDefaults
    registers: dict[str, Register]
    identity: str | None
    fingerprint: tuple[str, ...]
    accuracy_class: str | None
    confidence: int
    sources: tuple[str, ...]
    examples: tuple[Example, ...]
    hash: str
    power_max_w: int | None = None

    @property
    def energy(self) -> Register:
        """The register that is booked."""
        return self.registers[ENERGY_IMPORT]
