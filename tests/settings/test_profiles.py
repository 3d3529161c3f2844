"""A faulty profile is refused as a whole, with every fault on its line."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.metering.profile import Register, SerialDefaults, WordType
from agent.settings.profiles import exact_text, load_profile, load_profiles

GOOD = """\
maker = "ACME"
model = "M3-MID"
manual = "M3 Modbus map, rev 1.4"
protocol = "modbus-rtu"
phases = 3
read_limit = 40
alignment = 2
quiet_ms = 5
identity = "serial_number"
fingerprint = ["ct_ratio"]
accuracy_class = "0.5S"
power_max_w = 63_000
confidence = 1
sources = ["a manual"]

[serial]
baud = 9600
parity = "even"
stop_bits = 1

[registers.energy_import]
address = 0x5000
function = 3
type = "u32"
word_order = "low-first"
unit = "Wh"
per_count = "10"
side = "secondary"
modulus = 100000000
invalid = ["FFFFFFFF"]

[registers.serial_number]
address = 0x100
function = 4
type = "ascii"
words = 4

[registers.ct_ratio]
address = 1
function = 3
type = "u16"

[[examples]]
register = "energy_import"
words = ["E240", "0001"]
reads = "1234560"

[[examples]]
register = "energy_import"
words = ["FFFF", "FFFF"]
no_value = true
"""


def write(folder: Path, text: str, name: str = "acme-m3.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path) -> dict[str, tuple[int | None, str]]:
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    assert all(fault.file == str(path) for fault in caught.value.faults)
    found = {fault.key: (fault.line, f"{fault.reason}; {fault.remedy}") for fault in caught.value.faults}
    assert len(found) == len(caught.value.faults)
    return found


def test_a_right_file_becomes_a_profile(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, GOOD))
    assert profile.id == "acme-m3"
    assert profile.serial_defaults == SerialDefaults(9600, "even", 1)
    assert (profile.read_limit, profile.alignment, profile.quiet_ms) == (40, 2, 5)
    assert (profile.identity, profile.fingerprint) == ("serial_number", ("ct_ratio",))
    assert profile.power_max_w == 63_000
    energy = profile.energy
    assert isinstance(energy, Register)
    assert (energy.address, energy.function, energy.type, energy.words) == (0x5000, 3, WordType.U32, 2)
    assert energy.low_word_first
    assert energy.secondary
    assert energy.per_count == 10
    assert energy.modulus_counts == 10**8
    assert energy.invalid == {0xFFFFFFFF}
    assert profile.registers["serial_number"].words == 4
    assert [example.reads for example in profile.examples] == ["1234560", None]


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    """Checked with: openssl dgst -sha256 -binary | base64, in the URL alphabet without padding."""
    first = load_profile(write(tmp_path, GOOD)).hash
    second = load_profile(write(tmp_path, GOOD + "# a comment\n")).hash
    assert first != second
    assert len(first) == len(second) == 43
    assert first == load_profile(write(tmp_path, GOOD, "other.toml")).hash


@pytest.mark.parametrize(
    ("old", "new", "key", "line", "says"),
    [
        ('maker = "ACME"\n', "", "maker", None, "is missing"),
        ("read_limit = 40", "read_limit = 126", "read_limit", 6, "126 is not a number of registers"),
        ("read_limit = 40", "read_limt = 40", "read_limt", 6, 'did you mean "read_limit"'),
        ("phases = 3", "phases = true", "phases", 5, "true is not"),
        ("baud = 9600", "baud = 9601", "serial.baud", 17, "9601 is not a speed"),
        ('identity = "serial_number"', 'identity = "serial"', "identity", 9, 'did you mean "serial_number"'),
        ('["ct_ratio"]', '["ct_ratio", "ct_ratio"]', "fingerprint", 10, "twice"),
        ("address = 0x5000", "address = 65536", "registers.energy_import.address", 22, "65536 is not"),
        (
            "address = 0x5000",
            "address = 65535",
            "registers.energy_import.address",
            22,
            "beyond address 65535",
        ),
        ("read_limit = 40", "read_limit = 3", "registers.serial_number", 32, "3 registers, this one takes 4"),
        ("function = 3", "function = 6", "registers.energy_import.function", 23, "6 is not a function code"),
        ('type = "u32"', 'type = "uint32"', "registers.energy_import.type", 24, "one of u16"),
        ('unit = "Wh"', 'unit = "W"', "registers.energy_import.unit", 26, "no unit of active energy"),
        ('unit = "Wh"\n', "", "registers.energy_import.unit", 21, "no unit of active energy"),
        ('per_count = "10"\n', "", "registers.energy_import.per_count", 21, "is missing"),
        ('per_count = "10"', 'per_count = "0"', "registers.energy_import.per_count", 27, "greater than zero"),
        ('per_count = "10"', "per_count = 0.1", "registers.energy_import.per_count", 27, "exact number"),
        ('side = "secondary"\n', "", "registers.energy_import.side", 21, "is missing"),
        (
            "modulus = 100000000",
            "modulus = 4294967297",
            "registers.energy_import.modulus",
            29,
            "u32 cannot show",
        ),
        ('["FFFFFFFF"]', '["FFFF"]', "registers.energy_import.invalid.#1", 30, "is not 2 words"),
        ("words = 4\n", "", "registers.serial_number.words", 32, "is missing"),
        ('type = "u16"', 'type = "u16"\nwords = 2', "registers.ct_ratio.words", 42, "u16 has 1 words"),
        ("[registers.energy_import]", "[registers.energy]", "registers.energy_import", 21, "is missing"),
        ('reads = "1234560"', 'reads = "123456"', "examples.#1.reads", 46, "the words read 1234560"),
        ('reads = "1234560"', 'reads = "much"', "examples.#1.reads", 46, "not a number"),
        ('reads = "1234560"\n', "", "examples.#1", 43, "does not say what the words mean"),
        ("no_value = true", 'no_value = true\nreads = "1"', "examples.#2", 48, "both"),
        ('["FFFF", "FFFF"]', '["FFFF", "0FFF"]', "examples.#2", 48, "the words read 2684354550"),
        ('["E240", "0001"]', '["E240"]', "examples.#1.words", 45, "2 words, not 1"),
        ('["E240", "0001"]', '["E240", "001"]', "examples.#1.words", 45, "four hex digits"),
    ],
)
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, key: str, line: int | None, says: str
) -> None:
    assert old in GOOD
    found = faults(write(tmp_path, GOOD.replace(old, new, 1)))
    assert key in found, found
    assert found[key][0] == line
    assert says in found[key][1]


@pytest.mark.fault("F26")
@pytest.mark.parametrize(
    ("old", "new"),
    [('word_order = "low-first"\n', ""), ('type = "u32"', 'type = "f32"')],
    ids=["words", "type"],
)
def test_a_wrong_word_order_or_type_is_refused_before_anything_is_read(
    tmp_path: Path, old: str, new: str
) -> None:
    """No profile comes without words of its register and what the display showed: another order reads another."""
    says = faults(write(tmp_path, GOOD.replace(old, new, 1)))["examples.#1.reads"][1]
    assert "1234560" in says and "the words read" in says and "word order" in says


@pytest.mark.fault("F27")
def test_a_wrong_scale_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    found = faults(write(tmp_path, GOOD.replace('per_count = "10"', 'per_count = "0.01"')))
    assert 'the words read 1234.56, not "1234560"' in found["examples.#1.reads"][1]


def test_an_example_of_words_without_value_needs_no_value(tmp_path: Path) -> None:
    text = GOOD.replace("no_value = true", 'reads = "42949672950"')
    assert "mean no value" in faults(write(tmp_path, text))["examples.#2"][1]


def test_all_faults_of_all_files_come_together(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("phases = 3", "phases = 0").replace("baud = 9600", "baud = 1"), "one.toml")
    write(tmp_path, GOOD.replace('parity = "even"', 'parity = "evn"'), "two.toml")
    write(tmp_path, GOOD, "three.toml")
    (tmp_path / "notes.txt").write_text("not a profile")
    with pytest.raises(ConfigError) as caught:
        load_profiles(tmp_path)
    assert [(Path(fault.file).name, fault.key) for fault in caught.value.faults] == [
        ("one.toml", "phases"),
        ("one.toml", "serial.baud"),
        ("two.toml", "serial.parity"),
    ]


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"maker = \n", 1, "not TOML"),
        (b"maker = 1\nmaker = 2\n", 2, "not TOML"),
        (b"maker = 1\n# \xff\n", 2, "not UTF-8"),
        (b"a = " + b"[" * 5000, None, "brackets"),
        (b"#" * 1_000_001, None, "larger than 1 MB"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, data: bytes, line: int | None, says: str) -> None:
    path = tmp_path / "acme-m3.toml"
    path.write_bytes(data)
    found = faults(path)
    assert found[""][0] == line
    assert says in found[""][1]


def test_a_missing_file_and_folder_are_faults(tmp_path: Path) -> None:
    assert "No such file" in faults(tmp_path / "none.toml")[""][1]
    with pytest.raises(ConfigError, match="cannot be listed"):
        load_profiles(tmp_path / "none")
    assert load_profiles(tmp_path) == {}


def test_a_name_that_is_no_id_is_refused(tmp_path: Path) -> None:
    assert "not an id" in faults(write(tmp_path, GOOD, "acme m3.toml"))[""][1]


@given(st.fractions())
def test_exact_text_is_exact(value: Fraction) -> None:
    assert Fraction(exact_text(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-1000, max_value=1000))
def test_exact_text_of_a_decimal_is_its_shortest_form(value: object) -> None:
    exact = Fraction(str(value))
    text = exact_text(exact)
    assert "/" not in text
    assert "." not in text or not text.endswith("0")
