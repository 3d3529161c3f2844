"""What a profile says about several of its registers: every fault on its line, and circuits that do not overlap."""

from fractions import Fraction
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.metering.profile import Circuits, Condition, Profile, Recognition
from agent.settings.profiles import ProfileShelf, load_profile
from agent.settings.site import load_site
from tests.settings.example_site import meter, write_site

HEAD = """\
maker = "ACME"
model = "M4"
manual = "M4 Modbus map"
protocol = "modbus-rtu"
phases = 1
read_limit = 40
fingerprint = ["mode"]
confidence = 2
sources = ["a manual"]
"""
SUMS = """
[sums]
energy_import = ["energy_import_t1", "energy_import_t2"]
"""
REST = """
[serial]
baud = 9600
parity = "even"
stop_bits = 1
stated = false

[recognition]
register = "kind"
one_of = ["M4", "M4-B"]

[circuits]
count = 3
stride = 0x100
common = ["mode", "kind"]

[[conditions]]
registers = ["mode"]
one_of = ["7"]
remedy = "set it to 7"
other = "acme-m3"

[[conditions]]
registers = ["energy_import_t1", "energy_import_t2"]
equals = "energy_total"
within = "0.02"
remedy = "another version"

[registers.energy_import_t1]
address = 0
function = 3
type = "u32"
unit = "kWh"
per_count = "0.01"
side = "primary"
modulus = 1_000_000

[registers.energy_import_t2]
address = 2
function = 3
type = "u32"
unit = "kWh"
per_count = "0.01"
side = "primary"
modulus = 100_000_000

[registers.energy_total]
address = 4
function = 3
type = "u32"
unit = "kWh"
per_count = "0.01"

[registers.mode]
address = 0xF000
function = 3
type = "u16"

[registers.kind]
address = 0xF010
function = 3
type = "ascii"
words = 2

[[examples]]
register = "energy_import_t1"
words = ["0000", "0064"]
reads = "1"
computed = true

[[examples]]
register = "energy_import_t2"
words = ["0000", "00C8"]
reads = "2"
"""
GOOD = HEAD + SUMS + REST


def load(folder: Path, text: str) -> Profile:
    file = folder / "acme-m4.toml"
    file.write_text(text, encoding="utf-8")
    return load_profile(file)


def test_a_right_file_becomes_a_profile(tmp_path: Path) -> None:
    profile = load(tmp_path, GOOD)
    assert [part.name for part in profile.energy.parts] == ["energy_import_t1", "energy_import_t2"]
    assert profile.energy.modulus_counts == 1_000_000
    assert profile.recognition == Recognition("kind", ("M4", "M4-B"))
    assert profile.circuits == Circuits(3, 0x100, ("mode", "kind"))
    assert profile.conditions == (
        Condition(("mode",), "set it to 7", one_of=(Fraction(7),), other="acme-m3"),
        Condition(
            ("energy_import_t1", "energy_import_t2"),
            "another version",
            equals="energy_total",
            within=Fraction("0.02"),
        ),
    )
    assert not profile.serial_defaults.stated
    assert [example.computed for example in profile.examples] == [True, False]


def test_a_circuit_has_registers_of_its_own_and_those_of_the_meter(tmp_path: Path) -> None:
    profile = load(tmp_path, GOOD)
    third = profile.of_circuit(3)
    assert [part.address for part in third.energy.parts] == [0x200, 0x202]
    assert third.registers["energy_import_t1"] == third.energy.parts[0]
    assert third.registers["mode"].address == 0xF000
    assert len({profile.of_circuit(number).hash for number in (1, 2, 3)} | {profile.hash}) == 4
    for number in (0, 4):
        with pytest.raises(ValueError, match="of a meter with 3"):
            profile.of_circuit(number)


FAULTS = [
    ('"energy_import_t2"]', '"energy_import_t3"]', "sums.energy_import", 'no register "energy_import_t3"'),
    ('"energy_import_t2"]', '"energy_import_t1"]', "sums.energy_import", "count twice"),
    (', "energy_import_t2"]', "]", "sums.energy_import", "is not a list of two or more names"),
    ('"energy_import_t2"]', '"kind"]', "sums.energy_import.#2", "kind is text"),
    ('"energy_import_t2"]', '"mode"]', "sums.energy_import.#2", "unit, per_count and side"),
    ('one_of = ["7"]', 'one_of = ["seven"]', "conditions.#1.one_of.#1", '"seven" is not a number'),
    ('one_of = ["7"]\n', "", "conditions.#1", "does not say what must hold"),
    ('one_of = ["7"]\n', 'one_of = ["7"]\nwithin = "1"\n', "conditions.#1.within", "nothing without equals"),
    ('registers = ["mode"]', 'registers = ["kind"]\nat_least = "1"', "conditions.#1", "a text can only be"),
    ('remedy = "set it to 7"\n', "", "conditions.#1.remedy", "is missing"),
    ('equals = "energy_total"', 'equals = "energy_tot"', "conditions.#2.equals", 'no register "energy_tot"'),
    ('register = "kind"\none_of', 'register = "knid"\none_of', "recognition.register", 'register "knid"'),
    ("stride = 0x100", "stride = 40_000", "circuits", "ends beyond address 65535"),
    ("count = 3", "count = 1", "circuits.count", "2 or more"),
    ('fingerprint = ["mode"]', "", "", ""),
    ("[registers.mode]", "[registers.ct_ratio]", "fingerprint", "does not name ct_ratio"),
    ('register = "energy_import_t2"', 'register = "energy_import_t1"', "examples", "energy_import_t2"),
]


@pytest.mark.parametrize(("old", "new", "key", "says"), FAULTS)
def test_a_fault_is_told_with_its_key(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    assert old in GOOD
    if not says:
        assert load(tmp_path, GOOD.replace(old, new)).fingerprint == ()
        return
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    found = [fault for fault in caught.value.faults if says in fault.reason or says in fault.remedy]
    assert found, str(caught.value)
    assert found[0].key.startswith(key)


def test_a_shelf_reads_what_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "acme-m4.toml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "broken.toml").write_text("maker = 5", encoding="utf-8")
    own = load(tmp_path, GOOD)
    shelf = ProfileShelf(tmp_path, over={"mine": own})
    assert (sorted(shelf), len(shelf)) == (["acme-m4", "broken", "mine"], 3)
    assert shelf["mine"] is own
    assert shelf["acme-m4"] is shelf["acme-m4"]
    assert "broken" in shelf
    assert shelf.get("nobody") is None
    with pytest.raises(ConfigError):
        shelf["broken"]
    with pytest.raises(ConfigError, match="cannot be listed"):
        ProfileShelf(tmp_path / "nowhere")


def test_a_circuit_of_a_site_is_one_the_meter_has(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "acme-m4.toml").write_text(GOOD, encoding="utf-8")
    keys = {"profile": "acme-m4", "display_checked": "2026-11-22 by N. N."}
    file = write_site(tmp_path, meters=[meter(f"m{n}", 5, circuit=n, **keys) for n in (1, 2)])
    first, second = load_site(file).plant.meters
    assert [each.profile.energy.parts[0].address for each in (first, second)] == [0, 0x100]
    assert (first.display_checked, first.is_proved) == ("2026-11-22 by N. N.", True)
    with pytest.raises(ConfigError, match=r"circuit: circuit 4 of a meter with 3; it must be 1 to 3"):
        load_site(write_site(tmp_path, meters=[meter("m4", 5, circuit=4, **keys)]))
    (folder / "acme-m5.toml").write_text(GOOD, encoding="utf-8")
    two_models = [
        meter("m1", 5, circuit=1, **keys),
        meter("m2", 5, circuit=2, **keys | {"profile": "acme-m5"}),
    ]
    with pytest.raises(ConfigError, match="circuits of one meter have one profile"):
        load_site(write_site(tmp_path, meters=two_models))
    with pytest.raises(ConfigError, match="circuit: is missing; a M4 has 3 circuits"):
        load_site(write_site(tmp_path, meters=[meter("m5", 5, **keys)]))
