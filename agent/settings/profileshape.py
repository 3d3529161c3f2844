"""The shape of a profile file: which tables and keys there are, and what type of value each has.

Checked like the tables of a site file (`shape`): every fault of a file is found in one run and told in plain words.
What the values mean together is checked afterwards by `profiles`.
"""

import warnings
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from agent.settings.shape import Baud, Id, Parity, Shape, StopBits, Text, Word

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Number = Annotated[str, Field(max_length=40)]
HexWord = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{4}$")]

_A_NAME = "the name of a register in this file"


def _key(description: str, example: str) -> Any:
    """A key that may be left out; `example` is how its value looks in the file."""
    return Field(default=None, description=description, examples=[example])


class ProfileShape(Shape):
    """The keys at the top of the file."""

    required: ClassVar[tuple[str, ...]] = (
        *("maker", "model", "manual", "protocol", "phases", "read_limit", "confidence", "sources"),
        *("serial", "registers", "examples"),
    )

    maker: Text | None = _key("the maker's name, as text", '"Eastron"')
    model: Text | None = _key("the model's name, as text", '"SDM630-M V2"')
    manual: Text | None = _key("the name of a manual, as text", '"SDM630 Modbus protocol V1.8"')
    protocol: Literal["modbus-rtu", "dlt645-2007"] | None = _key(
        '"modbus-rtu" or "dlt645-2007"', '"modbus-rtu"'
    )
    phases: Annotated[int, Field(ge=1, le=3)] | None = _key("1, 2 or 3", "3")
    read_limit: Annotated[int, Field(ge=1, le=125)] | None = _key(
        "a number of registers from 1 to 125, the most one request may ask for", "80"
    )
    alignment: Annotated[int, Field(ge=1, le=4)] | None = _key(
        "a number from 1 to 4 that start and length of a request must be multiples of", "2"
    )
    quiet_ms: Annotated[int, Field(ge=0, le=1_000)] | None = _key(
        "a whole number of milliseconds from 0 to 1000", "0"
    )
    identity: Name | None = _key(_A_NAME, '"serial_number"')
    fingerprint: list[Name] | None = _key("a list of names of registers in this file", '["ct_ratio"]')
    accuracy_class: Word | None = _key('a class written as text, such as "1" or "0.5S"', '"1"')
    power_max_w: Annotated[int, Field(ge=1, le=10**9)] | None = _key("a whole number of watts", "82800")
    confidence: Annotated[int, Field(ge=1, le=2)] | None = _key(
        "2 where two sources agree on the energy register, else 1", "1"
    )
    sources: Annotated[list[Text], Field(min_length=1)] | None = _key(
        "a list of what the addresses were taken from", '["volkszaehler/mbmd meters/rs485/sdm.go"]'
    )
    counts_both: bool | None = _key("true where the booked counter adds import and export", "true")
    generation: Text | None = _key(
        "the maker's name for a generation of hardware or firmware, as text", '"hardware version 2"'
    )
    notes: list[Text] | None = _key("a list of sentences for the installer", '["Ethernet only."]')
    serial: dict[str, Any] | None = _key("a table", '{ baud = 9600, parity = "none", stop_bits = 1 }')
    registers: dict[Name, Any] | None = _key(
        "a set of tables such as [registers.energy_import]; names are lower case with underscores", "{}"
    )
    sums: dict[Name, Annotated[list[Name], Field(min_length=2)]] | None = _key(
        "a list of two or more names of registers in this file",
        '{ energy_import = ["energy_import_t1", "energy_import_t2"] }',
    )
    conditions: list[Any] | None = _key("a list of tables [[conditions]]", "[]")
    recognition: dict[str, Any] | None = _key("a table", '{ register = "model_id", one_of = ["32"] }')
    circuits: dict[str, Any] | None = _key("a table", "{ count = 4, stride = 256 }")
    examples: list[Any] | None = _key("a list of tables [[examples]]", "[]")


class DltProfileShape(ProfileShape):
    """The same for a meter that speaks DL/T 645: every identifier is a read of its own, so there is no read limit."""

    required: ClassVar[tuple[str, ...]] = tuple(key for key in ProfileShape.required if key != "read_limit")


class SerialShape(Shape):
    """`[serial]`: how the meter leaves its maker."""

    required: ClassVar[tuple[str, ...]] = ("baud", "parity", "stop_bits")

    baud: Baud | None = _key("a speed of a serial line, such as 2400, 9600 or 19200", "9600")
    parity: Parity | None = _key('"none", "even" or "odd"', '"none"')
    stop_bits: StopBits | None = _key("1 or 2", "1")
    stated: bool | None = _key("false where no source says how it leaves its maker", "false")


class ConditionShape(Shape):
    """`[[conditions]]`: what must hold at the meter."""

    required: ClassVar[tuple[str, ...]] = ("registers", "remedy")

    registers: Annotated[list[Name], Field(min_length=1)] | None = _key(
        "a list of names of registers in this file, whose sum is judged", '["application"]'
    )
    one_of: Annotated[list[Number], Field(min_length=1)] | None = _key(
        "a list of values, each an exact number or a text, written as text", '["7"]'
    )
    at_least: Number | None = _key("an exact number, written as text", '"0.01"')
    at_most: Number | None = _key("an exact number, written as text", '"10000000"')
    equals: Name | None = _key(_A_NAME, '"energy_total"')
    within: Number | None = _key("an exact number, written as text", '"0.02"')
    remedy: Text | None = _key(
        "a sentence that tells the installer what to do", '"set the meter to application H"'
    )
    other: Id | None = _key("the id of the profile to try instead", '"hiking-dds238-v1"')


class _RecognitionBase(Shape):
    """`[recognition]` without its register."""

    required: ClassVar[tuple[str, ...]] = ("register", "one_of")

    one_of: Annotated[list[Number], Field(min_length=1)] | None = _key(
        "a list of values, each an exact number or a text, written as text", '["32"]'
    )


class CircuitsShape(Shape):
    """`[circuits]`: a meter with several circuits."""

    required: ClassVar[tuple[str, ...]] = ("count", "stride")

    count: Annotated[int, Field(ge=2, le=999)] | None = _key("a number of circuits, 2 or more", "4")
    stride: Annotated[int, Field(ge=1, le=65_535)] | None = _key(
        "how many registers the next circuit lies above", "256"
    )
    common: list[Name] | None = _key("a list of names of registers that do not move", '["serial_number"]')


class RegisterShape(Shape):
    """`[registers.NAME]`: one quantity."""

    required: ClassVar[tuple[str, ...]] = ("address", "function", "type")

    address: Annotated[int, Field(ge=0, le=65_535)] | None = _key(
        "a zero-based protocol address from 0 to 65535 (0xFFFF)", "0x0048"
    )
    function: Annotated[int, Field(ge=3, le=4)] | None = _key("a function code, 3 or 4", "4")
    type: Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "bcd32", "ascii"] | None = _key(
        "one of u16, s16, u32, s32, u64, s64, f32, f64, bcd32 and ascii", '"f32"'
    )
    words: Annotated[int, Field(ge=1, le=125)] | None = _key("a length in words from 1 to 125", "4")
    word_order: Literal["high-first", "low-first"] | None = _key(
        '"high-first" or "low-first"', '"high-first"'
    )
    unit: Literal["Wh", "kWh", "MWh", "varh", "kvarh", "W", "kW", "var", "V", "A", "Hz"] | None = _key(
        "one of Wh, kWh, MWh, varh, kvarh, W, kW, var, V, A and Hz", '"kWh"'
    )
    per_count: Annotated[str, Field(max_length=40)] | None = _key(
        'how much one count is, an exact number written as text, such as "0.01"', '"1"'
    )
    side: Literal["primary", "secondary"] | None = _key('"primary" or "secondary"', '"primary"')
    modulus: Annotated[int, Field(ge=2, le=2**64)] | None = _key(
        "a whole number of counts, the first one that the register cannot show", "100000000"
    )
    invalid: list[Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{4})+$")]] | None = _key(
        "a list of all words of a value in hex, as text", '["FFFFFFFF"]'
    )


class DltRegisterShape(Shape):
    """`[registers.NAME]` of a meter that speaks DL/T 645."""

    required: ClassVar[tuple[str, ...]] = ("identifier", "type", "bytes")

    identifier: Annotated[str, Field(pattern=r"^[0-9A-F]{8}$")] | None = _key(
        "an identifier DI3 DI2 DI1 DI0, 8 hex digits as text", '"00010000"'
    )
    type: Literal["bcd", "bcd-signed", "digits"] | None = _key(
        '"bcd", "bcd-signed" (its highest bit is the sign) or "digits" (text)', '"bcd"'
    )
    bytes: Annotated[int, Field(ge=1, le=32)] | None = _key("a length in bytes from 1 to 32", "4")
    unit: Literal["Wh", "kWh", "MWh", "varh", "kvarh", "W", "kW", "var", "V", "A", "Hz"] | None = _key(
        "one of Wh, kWh, MWh, varh, kvarh, W, kW, var, V, A and Hz", '"kWh"'
    )
    per_count: Annotated[str, Field(max_length=40)] | None = _key(
        'how much one count is, an exact number written as text, such as "0.01"', '"0.01"'
    )
    side: Literal["primary", "secondary"] | None = _key('"primary" or "secondary"', '"primary"')
    modulus: Annotated[int, Field(ge=2, le=2**64)] | None = _key(
        "a whole number of counts, the first one that the register cannot show", "100000000"
    )
    invalid: list[Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{4})+$")]] | None = _key(
        "a list of all words of a value in hex, as text", '["FFFFFFFF"]'
    )


# pydantic warns that `register` hides a method of abstract base classes; nobody registers subclasses of a table.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message='Field name "register"')

    class ExampleShape(Shape):
        """`[[examples]]`: words and what they mean."""

        required: ClassVar[tuple[str, ...]] = ("register", "words")

        register: Name | None = _key(_A_NAME, '"energy_import"')
        words: list[HexWord] | None = _key(
            "a list of words of four hex digits each, as text", '["4366", "3334"]'
        )
        reads: Annotated[str, Field(max_length=400)] | None = _key(
            "the exact value in the register's unit, written as text", '"230.2"'
        )
        no_value: bool | None = _key("true where the words mean that there is no value", "true")
        computed: bool | None = _key("true where the words were worked out and not seen", "true")

    class RecognitionShape(_RecognitionBase):
        """`[recognition]`: how a scan knows this model."""

        register: Name | None = _key(_A_NAME, '"model_id"')
