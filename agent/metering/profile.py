"""What one model of meter keeps in its registers, as values.

A profile is one TOML file in `config/profiles`; `agent.settings.profiles` reads it into these types. The same profile
drives the reader, the simulated meter, the tests and the documentation, so that adding a meter takes no Python.
"""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from math import gcd

ENERGY_IMPORT = "energy_import"
"""Name of the cumulative active energy that is booked, a register or a sum; every profile has it."""
CT_RATIO, PT_RATIO = "ct_ratio", "pt_ratio"
"""Names of the registers in which a meter keeps the ratios of its transformers; always part of its fingerprint."""


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

    @property
    def parts(self) -> "tuple[Register, ...]":
        """The registers that are read for it: itself."""
        return (self,)

    @property
    def is_float(self) -> bool:
        """Whether its steps grow with its value."""
        return self.type in (WordType.F32, WordType.F64)


@dataclass(frozen=True, slots=True)
class Sum:
    """A quantity that a meter keeps in several registers, such as the two tariffs of its import: their exact sum.

    `parts` are two or more registers that agree in unit, `per_count` and side, so that counts add up as they are. Its
    words are those of its parts, one after the other.

    Every part that rolls over loses its own modulus, so the sum itself is only a counter modulo the greatest common
    divisor of all of them: then `sum of what is shown = sum of what was counted`, whichever part rolled over and
    however often. That is its `modulus_counts`, and it is None as soon as one part's modulus is unknown.
    """

    name: str
    parts: tuple[Register, ...]

    @property
    def unit(self) -> str:
        """That of every part."""
        return self.parts[0].unit

    @property
    def per_count(self) -> Fraction:
        """That of every part."""
        return self.parts[0].per_count

    @property
    def secondary(self) -> bool:
        """That of every part."""
        return self.parts[0].secondary

    @property
    def words(self) -> int:
        """The words of all parts."""
        return sum(part.words for part in self.parts)

    @property
    def is_float(self) -> bool:
        """Whether the steps of a part grow with its value."""
        return any(part.is_float for part in self.parts)

    @property
    def modulus_counts(self) -> int | None:
        """The greatest common divisor of the parts' moduli, None where one is unknown."""
        common = 0
        for part in self.parts:
            if part.modulus_counts is None:
                return None
            common = gcd(common, part.modulus_counts)
        return common


Quantity = Register | Sum
"""What a meter keeps, whether in one register or in several."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold at the meter before its registers mean what the profile says (`conditions.judge`).

    `terms` names registers; their sum is judged. It has to be one of `one_of`, or lie between `at_least` and
    `at_most`, or be equal to the register `equals`, give or take `within`; all in the unit of the registers. With
    several bounds each has to hold. `remedy` tells a person what to do, `other` is the profile to try instead.

    Counters that are all zero say nothing yet: `at_least` and `equals` are undecided until something was counted.
    """

    terms: tuple[str, ...]
    remedy: str
    one_of: "tuple[Fraction | str, ...]" = ()
    at_least: Fraction | None = None
    at_most: Fraction | None = None
    equals: str | None = None
    within: Fraction = Fraction(0)
    other: str | None = None

    @property
    def registers(self) -> tuple[str, ...]:
        """All registers that have to be read for it."""
        return self.terms if self.equals is None else (*self.terms, self.equals)


@dataclass(frozen=True, slots=True)
class Recognition:
    """How a scan tells this model from others: `register` reads one of these texts or numbers.

    Never a reason to refuse a meter: a maker may number a new variant as he likes.
    """

    register: str
    one_of: "tuple[Fraction | str, ...]"


@dataclass(frozen=True, slots=True)
class Circuits:
    """A meter with several circuits: the registers of circuit n lie (n - 1) x `stride` above those of circuit 1.

    `common` names the registers that belong to the whole meter and do not move.
    """

    count: int
    stride: int
    common: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """Words seen on the wire and what they mean; a test reads each one back.

    `reads` is the value in the register's unit (before CT and PT) as exact text, or the text of an ASCII register,
    or None where the words mean "no value". `computed` says that the words were worked out from the documented type
    and scale, and not taken from a manual or a wire.
    """

    register: str
    words: tuple[int, ...]
    reads: str | None
    computed: bool = False


@dataclass(frozen=True, slots=True)
class SerialDefaults:
    """The line settings with which the meter leaves its maker; where no source says, not `stated`: a first guess."""

    baud: int
    parity: str
    stop_bits: int
    stated: bool = True


@dataclass(frozen=True, slots=True)
class Profile:
    """One model of meter.

    `registers` is ordered as in the file. `identity` names the register that holds the serial number, None if it
    cannot be read. `fingerprint` names registers that a person can change at the meter and that change the meaning
    of its energy register; a meter that answers exception 2 for one does not have it, which is as good as a value.
    `quiet_ms` is the rest the meter needs after its answer beyond the 3.5 characters of the
    line. `hash` is the base64url SHA-256 of the file's bytes, `confidence` 2 where two sources agree. `power_max_w` is
    the most active power the model can measure, before CT and PT, None where no source says so.

    `sums` are quantities that are kept in several registers; `energy_import` is in `registers` or in `sums`.
    `conditions` have to hold before the meter counts, `recognition` tells a scan which model it is, `circuits` is None
    for a meter that has one. `counts_both` says that the booked counter adds import and export, or that nobody knows
    that it does not: wrong on a circuit that can feed back. `generation` names the maker's generation of hardware or
    firmware where the model has several, each with a profile of its own and a condition that tells them apart.
    `notes` are sentences for the installer.
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
    sums: dict[str, Sum] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    recognition: Recognition | None = None
    circuits: Circuits | None = None
    counts_both: bool = False
    generation: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def energy(self) -> Quantity:
        """The counter that is booked: one register, or the exact sum of several."""
        return self.sums.get(ENERGY_IMPORT) or self.registers[ENERGY_IMPORT]

    def of_circuit(self, number: int) -> "Profile":
        """The same model as one of its circuits sees it, 1 to `circuits.count`; itself where it has but one circuit.

        The hash is another one for each circuit, because its registers are other registers: base64url SHA-256 of
        the profile's hash, a number sign and the number of the circuit.

        Raises:
            ValueError: the meter has no such circuit.
        """
        if self.circuits is None and number == 1:
            return self
        if self.circuits is None:
            raise ValueError(f"circuit {number} of a meter with one, so that its kWh would count twice")
        if not 1 <= number <= self.circuits.count:
            raise ValueError(f"circuit {number} of a meter with {self.circuits.count}")
        offset, common = (number - 1) * self.circuits.stride, self.circuits.common
        moved = {
            name: register if name in common else replace(register, address=register.address + offset)
            for name, register in self.registers.items()
        }
        sums = {
            name: replace(each, parts=tuple(moved[part.name] for part in each.parts))
            for name, each in self.sums.items()
        }
        digest = hashlib.sha256(f"{self.hash}#{number}".encode("ascii")).digest()
        hash_ = urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        return replace(self, registers=moved, sums=sums, hash=hash_)
