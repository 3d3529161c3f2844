"""Every profile in `config/profiles`: its examples decode, a simulated meter can show them, a plan reads it."""

from fractions import Fraction
from pathlib import Path

import pytest

from agent.metering.decode import NoValue, decode, encode
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
    assert shown >= {"energy_import", "power_active_total", "voltage_l1", *profile.fingerprint}
    assert profile.identity is None or profile.identity in shown
    marked = {register.name for register in profile.registers.values() if register.invalid}
    empty = {example.register for example in profile.examples if example.reads is None}
    assert not marked or empty & marked
    floats = {register.name for register in profile.registers.values() if register.type is WordType.F32}
    assert "energy_import" not in floats or "energy_import" in empty


@pytest.mark.parametrize("baud", [2400, 9600, 115_200])
def test_a_plan_reads_it_within_its_limits(profile: Profile, baud: int) -> None:
    cost = BusCost.serial(SerialSettings(baud, "none", 1), 20_000_000, profile.quiet_ms)
    plan = plan_for(profile, list(profile.registers.values()), cost)
    assert all(block.count <= profile.read_limit for block in plan)
    assert all(block.address % profile.alignment == block.count % profile.alignment == 0 for block in plan)
    assert {item.name for block in plan for item in block.registers} == set(profile.registers)


def test_its_words_fit_the_vocabulary(profile: Profile) -> None:
    known = {"energy_import", "energy_export", "power_active_total", "power_factor", "frequency"}
    known |= {f"energy_import_t{tariff}" for tariff in (1, 2, 3, 4)} | {"clock_date", "clock_time"}
    known |= {"serial_number", "model_id", "ct_ratio", "pt_ratio"}
    known |= {f"{quantity}_l{phase}" for quantity in ("voltage", "current") for phase in (1, 2, 3)}
    assert set(profile.registers) - known <= set(profile.fingerprint)
    phases = {name for name in profile.registers if name.startswith("voltage_")}
    assert len(phases) == profile.phases


def test_no_rollover_is_assumed_where_none_is_documented() -> None:
    for profile in load_profiles(config_path("profiles")).values():
        if profile.id in SPINE:
            assert profile.energy.modulus_counts is None


def test_chinese_meters_count_on_the_secondary_side() -> None:
    profiles = load_profiles(config_path("profiles"))
    secondary = {name for name in SPINE if profiles[name].energy.secondary}
    assert secondary == {"acrel-adl400", "chint-ddsu666", "chint-dtsu666-2019"}
