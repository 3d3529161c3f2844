"""Every profile in `config/profiles`: its examples decode, a simulated meter can show them, a plan reads it."""

from fractions import Fraction
from pathlib import Path

import pytest

from agent.metering.conditions import Broken, Met, Undecided, judge
from agent.metering.decode import Decoded, NoValue, decode, encode
from agent.metering.plan import BusCost, plan_for
from agent.metering.plant import SerialSettings
from agent.metering.profile import Profile, WordType
from agent.resources import config_path
from agent.settings.profiles import exact_text, load_profile, load_profiles

SPINE = {
    "abb-b23",
    "acrel-adl400",
    "chint-ddsu666",
    "chint-dtsu666-2019",
    "eastron-sdm120",
    "eastron-sdm630-v2",
    "schneider-iem3155",
}
VERIFIED = {
    *("abb-b21", "abb-b23", "abb-b24", "acrel-adl3000", "acrel-adl400", "acrel-dtsd1352", "bernecker-mpm3pm"),
    *("carlo-gavazzi-em112", "carlo-gavazzi-em24-e1", "carlo-gavazzi-em340", "carlo-gavazzi-em540"),
    *("chint-ddsu666", "chint-dtsu666-2016", "chint-dtsu666-2019", "dzg-dvh4013", "eastron-sdm120"),
    *("eastron-sdm220", "eastron-sdm230", "eastron-sdm630-v2", "eastron-sdm72d", "eastron-sdm72d-v2"),
    *("eltako-dsz15", "hager-ecr380d", "hiking-dds238-v2", "huawei-dtsu666-h", "inepro-pro380"),
    *("janitza-umg96rm", "orno-or-we-514", "orno-or-we-517", "schneider-iem3155", "schneider-iem3255"),
    *("schneider-pm5110", "siemens-7kt-pac1600", "siemens-pac2200", "siemens-pac4200", "wago-879-3000"),
}
"""Models of which two sources agree on the energy register that is booked."""
BOTH_WAYS = {
    *("acrel-amc72l-e4", "acrel-amc72l-e4-c", "acrel-ddsd1352", "acrel-pz80-e4-c", "ddm-ddm18sd"),
    *("huanuo-hn70e-7s3", "huatong-br963e", "nayu-dts96k", "nayu-jz-dts125", "orno-or-we-504"),
    *("orno-or-we-514", "sfere-pd194z", "yada-yada336d"),
}
"""Models of which only a total is known."""
ONE_VOLTAGE = {"eastron-sdm630mct", "sfere-pd194z"}
"""Three-phase meters of which one phase is known."""
FILES = sorted(config_path("profiles").glob("*.toml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def profile(request: pytest.FixtureRequest) -> Profile:
    path: Path = request.param
    return load_profile(path)


def test_the_profiles_of_the_spine_are_there() -> None:
    assert set(load_profiles(config_path("profiles"))) >= SPINE


def test_every_example_means_what_it_says(profile: Profile) -> None:
    for example in profile.examples:
        register = profile.registers[example.register]
        value = decode(register, example.words)
        if example.reads is None:
            assert isinstance(value, NoValue)
        elif isinstance(value, str):
            assert value == example.reads
        else:
            assert not isinstance(value, NoValue)
            assert value * register.per_count == Fraction(example.reads)
            assert exact_text(value * register.per_count) == example.reads


def test_a_simulated_meter_shows_the_words_of_the_example(profile: Profile) -> None:
    for example in profile.examples:
        register = profile.registers[example.register]
        if example.reads is None:
            continue
        is_text = register.type in (WordType.ASCII, WordType.DIGITS)
        value = example.reads if is_text else Fraction(example.reads) / register.per_count
        if register.type is not WordType.ASCII:
            assert encode(register, value) == example.words
        assert decode(register, encode(register, value)) == decode(register, example.words)


def test_what_matters_has_an_example(profile: Profile) -> None:
    shown = {example.register for example in profile.examples if example.reads is not None}
    assert shown >= {part.name for part in profile.energy.parts} | set(profile.fingerprint)
    assert shown >= {"power_active_total", "voltage_l1"} & set(profile.registers)
    assert profile.identity is None or profile.identity in shown
    marked = {register.name for register in profile.registers.values() if register.invalid}
    empty = {example.register for example in profile.examples if example.reads is None}
    assert not marked or empty & marked
    floats = {part.name for part in profile.energy.parts if part.is_float}
    assert floats <= empty


@pytest.mark.parametrize("baud", [2400, 9600, 115_200])
def test_a_plan_reads_it_within_its_limits(profile: Profile, baud: int) -> None:
    cost = BusCost.serial(SerialSettings(baud, "none", 1), 20_000_000, profile.quiet_ms)
    plan = plan_for(profile, list(profile.registers.values()), cost)
    assert all(block.count <= profile.read_limit for block in plan)
    assert all(block.address % profile.alignment == block.count % profile.alignment == 0 for block in plan)
    assert {item.name for block in plan for item in block.registers} == set(profile.registers)


def test_its_words_fit_the_vocabulary(profile: Profile) -> None:
    known = {
        "energy_import",
        "energy_export",
        "energy_total",
        "power_active_total",
        "power_factor",
        "frequency",
    }
    known |= {f"energy_{way}_t{tariff}" for way in ("import", "export") for tariff in (1, 2, 3, 4)}
    known |= {"energy_reactive_import", "energy_reactive_export", "clock_date", "clock_time"}
    known |= {"serial_number", "model_id", "ct_ratio", "pt_ratio"}
    known |= {f"{name}_l{phase}" for name in ("voltage", "current", "power_active") for phase in (1, 2, 3)}
    assert set(profile.registers) - known <= set(profile.fingerprint)
    phases = {name for name in profile.registers if name.startswith("voltage_")}
    assert profile.id in ONE_VOLTAGE or len(phases) in (0, profile.phases)


def test_all_models_of_the_collected_maps_are_there() -> None:
    profiles = load_profiles(config_path("profiles")).values()
    modbus = [profile for profile in profiles if profile.protocol == "modbus-rtu"]
    assert len(modbus) == 87
    assert {profile.id for profile in modbus if profile.confidence == 2} == VERIFIED
    assert {profile.id for profile in modbus if profile.counts_both} == BOTH_WAYS


def test_no_rollover_is_assumed_where_none_is_documented() -> None:
    profiles = load_profiles(config_path("profiles")).values()
    moduli = {profile.id: profile.energy.modulus_counts for profile in profiles}
    assert {name: modulus for name, modulus in moduli.items() if modulus is not None} == {
        "dlt645-2007-single-phase": 10**8,
        "dlt645-2007-three-phase": 10**8,
        "eastron-sdm72d": 10**6,
        "eastron-sdm72d-v2": 10**6,
        "orno-or-we-514": 10**8,
        "siemens-pac4200": 10**12,
    }


def test_meters_that_count_on_the_secondary_side() -> None:
    profiles = load_profiles(config_path("profiles"))
    secondary = {name for name, profile in profiles.items() if profile.energy.secondary}
    assert secondary - {"dlt645-2007-three-phase"} == {
        *("acrel-adl3000", "acrel-adl400", "acrel-dtsd1352"),
        *("chint-ddsu666", "chint-dtsu666-2016", "chint-dtsu666-2019"),
    }


def test_a_doubtful_side_is_said_to_the_installer() -> None:
    """Behind current transformers a meter counts on one side or the other; where nobody says which, a note does."""
    for profile in load_profiles(config_path("profiles")).values():
        if any("side = primary is a guess" in note for note in profile.notes):
            assert not profile.energy.secondary


def test_conditions_name_profiles_that_exist_and_that_name_them_back() -> None:
    profiles = load_profiles(config_path("profiles"))
    for profile in profiles.values():
        for condition in profile.conditions:
            if condition.other is not None:
                assert condition.other in profiles
                assert profiles[condition.other].maker == profile.maker


def test_generations_of_one_model_are_told_apart() -> None:
    """The same examples put to both generations: each knows its own, and names the other instead."""
    profiles = load_profiles(config_path("profiles"))
    one, two = profiles["hiking-dds238-v1"], profiles["hiking-dds238-v2"]
    # A frame of version 2: total, nothing, nothing, nothing, export, import (registers 0 to 11).
    frame = (0x0000, 0x1CAD, 0, 0, 0, 0, 0, 0, 0x0000, 0x04F3, 0x0000, 0x17BA)
    assert judge(two, _read(two, frame)) == Met()
    verdict = judge(one, _read(one, frame))
    assert isinstance(verdict, Broken)
    assert "hiking-dds238-v2" in verdict.reason
    assert judge(one, _read(one, (0,) * 12)) == Undecided()


def _read(profile: Profile, frame: tuple[int, ...]) -> dict[str, Decoded]:
    return {
        register.name: decode(register, frame[register.address : register.address + register.words])
        for register in profile.registers.values()
        if register.name.startswith("energy")
    }
