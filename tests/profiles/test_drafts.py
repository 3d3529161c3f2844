"""The converter makes drafts that load, with nothing filled in from habit."""

import csv
from fractions import Fraction
from pathlib import Path

import pytest

from agent.settings.profiles import load_profile, load_profiles
from simulators.meters.drafts import COLUMNS, draft, main, read_table, toml_of

HEAD = {
    "vendor": "ACME Instruments",
    "model": "M3 / M4 (panel)",
    "phases": "3",
    "default_baud": "",
    "default_parity": "",
    "default_stopbits": "",
    "max_registers_per_read": "",
    "source": "a manual.pdf; a driver",
    "confidence": "2",
    "notes": "",
    "rollover": "",
    "word_order": "big",
    "needs_ct_multiplication": "no",
    "function_code": "3",
}
ROWS = [
    ("energy_total_kwh", "0", "2", "u32", "0.01", {}),
    ("energy_import_kwh", "10", "2", "u32", "0.01", {"needs_ct_multiplication": "yes", "notes": "a remark"}),
    ("energy_import_kwh", "20", "2", "f32", "1", {"notes": "ALT: the same as a float"}),
    ("energy_export_kwh", "12", "4", "s64", "0.001", {"word_order": "little", "confidence": "1"}),
    ("power_active_total_w", "30", "2", "f32", "1000", {}),
    ("power_active_l1_w", "32", "2", "s32", "10", {}),
    ("voltage_l1_v", "34", "1", "u16", "0.1", {}),
    ("ct_ratio", "50", "1", "u16", "1", {}),
    ("model_id", "60", "4", "ascii", "1", {}),
    ("serial_number", "70", "2", "bcd32", "1", {"function_code": "4"}),
]


def table(folder: Path, rows: list[dict[str, str]]) -> Path:
    file = folder / "maps.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return file


def rows_of(*changes: dict[str, str]) -> list[dict[str, str]]:
    keys = ("quantity", "register_address", "register_count", "data_type", "scale")
    rows = [HEAD | dict(zip(keys, row[:5], strict=True)) | row[5] for row in ROWS]
    return [row | change for row in rows for change in (changes or ({},))]


def test_a_draft_says_what_the_table_says(tmp_path: Path) -> None:
    (rows,) = read_table(table(tmp_path, rows_of())).values()
    file = tmp_path / "acme-m3.toml"
    file.write_text(toml_of(draft(rows)), encoding="utf-8")
    profile = load_profile(file)
    energy = profile.registers["energy_import"]
    assert (energy.address, energy.type, energy.per_count, energy.secondary) == (
        10,
        "u32",
        Fraction(1, 100),
        True,
    )
    assert "energy_total" not in profile.registers
    export = profile.registers["energy_export"]
    assert (export.low_word_first, export.unit, export.per_count) == (True, "Wh", Fraction(1))
    assert [profile.registers[name].unit for name in ("power_active_total", "power_active_l1")] == ["kW", "W"]
    assert profile.registers["power_active_l1"].per_count == 10
    assert (profile.identity, profile.fingerprint) == ("serial_number", ("ct_ratio",))
    assert not profile.serial_defaults.stated
    assert (profile.confidence, profile.counts_both) == (2, False)
    assert all(example.computed for example in profile.examples)
    text = file.read_text("utf-8")
    assert "# a remark" in text
    assert "# one source" in text
    assert "# no source states its speed and parity" in text


def test_a_meter_with_a_total_alone_says_so(tmp_path: Path) -> None:
    rows = [row for row in rows_of() if row["quantity"] in ("energy_total_kwh", "voltage_l1_v")]
    made = draft(rows)
    assert made.top["counts_both"] is True
    assert made.entry("energy_import").keys["address"] == 0


@pytest.mark.parametrize(
    ("rollover", "scale", "modulus"),
    [
        ("1000000 (kWh, display maximum)", "0.1", 10_000_000),
        ("100000000 (raw, range 0-99999999)", "0.01", 10**8),
        ("10000000 (raw Wh; wrap or stop not stated)", "0.001", None),
        ("", "1", None),
    ],
)
def test_a_modulus_is_taken_where_it_is_stated(rollover: str, scale: str, modulus: int | None) -> None:
    row = HEAD | {"quantity": "energy_import_kwh", "register_address": "0", "data_type": "u32"}
    made = draft([row | {"rollover": rollover, "scale": scale, "register_count": "2"}])
    assert made.entry("energy_import").keys.get("modulus") == modulus


def test_every_draft_of_a_table_loads_and_nothing_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [{"model": "M3 (map of 2016)"}, {"model": "M3 (map of 2019)"}, {"model": "M5"}]
    file, out = table(tmp_path, rows_of(*names)), tmp_path / "out"
    assert main([str(file), str(out)]) == 0
    profiles = load_profiles(out)
    assert sorted(profiles) == ["acme-m3", "acme-m3-2", "acme-m5"]
    (out / "acme-m5.toml").write_text("mine", encoding="utf-8")
    assert main([str(file), str(out)]) == 0
    assert (out / "acme-m5.toml").read_text("utf-8") == "mine"
    assert "acme-m5.toml is there already" in capsys.readouterr().err
    assert main([]) == 2


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "maps.csv"
    file.write_text("vendor,model\nACME,M3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="there is no column confidence, data_type"):
        read_table(file)
