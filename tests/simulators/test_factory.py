"""The simulated factory: exact integrals, the same on every run, loads a plant engineer would believe."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.plant import Role, Transport
from agent.resources import config_path
from agent.settings.catalogue import load_catalogue
from simulators.factory import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    MW_MS_PER_MILLIWH,
    SLOT_MS,
    Factory,
    FactoryClock,
    circuits_of,
    read_loads,
)
from simulators.meters_cli import factory as factory_command
from tests.support.plants import line, meter, plant

LOADS = read_loads()
STEPS = load_catalogue(config_path("emission_sources.csv")).steps


class Time:
    """A factory time that a test sets."""

    def __init__(self, at_ms: int = 9 * HOUR_MS) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        return self.at_ms


def test_every_step_of_the_catalogue_has_a_load_of_its_own() -> None:
    assert set(LOADS.steps) == set(STEPS)
    assert len(STEPS) == 26


def test_another_industrys_step_gets_a_believable_load() -> None:
    load = LOADS.of_step("core_stacking")
    assert 1000 <= load.run_w <= 20_000
    assert load == LOADS.of_step("core_stacking")


@given(st.lists(st.integers(0, 400_000), max_size=30), st.sampled_from(sorted(LOADS.steps)))
def test_the_integral_does_not_depend_on_when_one_looks(steps_ms: list[int], name: str) -> None:
    looked, straight = Time(), Time()
    often, once = Factory(looked), Factory(straight)
    for step_ms in steps_ms:
        looked.at_ms += step_ms
        often.energy_milliwh(LOADS.steps[name])
    straight.at_ms = looked.at_ms
    assert often.energy_milliwh(LOADS.steps[name]) == once.energy_milliwh(LOADS.steps[name])


def test_the_integral_is_power_times_time() -> None:
    now = Time()
    simulated = Factory(now)
    load = LOADS.steps["smt_placement"]
    expected = 0
    for _ in range(30):
        expected += simulated.power_mw(load) * SLOT_MS
        now.at_ms += SLOT_MS
    assert simulated.energy_milliwh(load) == expected // MW_MS_PER_MILLIWH


@pytest.mark.parametrize(
    ("name", "at", "low_kw", "high_kw"),
    [
        ("smt_placement", "1 09:30", 10, 13),
        ("smt_placement", "1 12:30", 3.6, 4.8),
        ("smt_placement", "1 03:00", 0.3, 0.4),
        ("smt_placement", "7 09:30", 0.3, 0.4),
        ("reflow_soldering", "1 07:30", 21, 27),
        ("reflow_soldering", "1 12:30", 21, 27),
        ("high_temperature_burn_in", "7 03:00", 19, 25),
        ("in_plant_transport", "1 12:30", 8, 11),
    ],
)
def test_loads_follow_the_working_day(name: str, at: str, low_kw: float, high_kw: float) -> None:
    day, clock = at.split()
    hour, minute = clock.split(":")
    at_ms = (int(day) - 1) * DAY_MS + int(hour) * HOUR_MS + int(minute) * MINUTE_MS
    assert low_kw <= Factory(Time(at_ms)).power_mw(LOADS.steps[name]) / 1_000_000 <= high_kw


def test_the_sun_shines_at_noon_only() -> None:
    generation = LOADS.roles["generation"]
    assert Factory(Time(12 * HOUR_MS)).power_mw(generation) > 50_000_000
    assert Factory(Time(2 * HOUR_MS)).power_mw(generation) == 0


def test_an_incomer_counts_what_it_feeds_and_the_losses() -> None:
    fed = [
        replace(meter(step, 2 + at), parent="main") for at, step in enumerate(("packaging", "calibration"))
    ]
    main = replace(meter("main", 1), role=Role.INCOMER, shares=())
    now = Time()
    circuits = circuits_of(plant((line(),), (main, *fed)), Factory(now))
    now.at_ms += HOUR_MS
    children = sum(circuits[each.id].energy_milliwh() for each in fed)
    assert circuits["main"].energy_milliwh() == children + children // 200


def test_meters_that_count_for_one_step_share_its_load() -> None:
    one = meter("packaging", 1)
    two = replace(one, id="packaging-2", address=2)
    now = Time()
    circuits = circuits_of(plant((line(transport=Transport.RS485),), (one, two)), Factory(now))
    now.at_ms += HOUR_MS
    whole = Factory(Time())
    assert abs(circuits["packaging"].energy_milliwh() - circuits["packaging-2"].energy_milliwh()) == 0
    assert circuits["packaging"].energy_milliwh() > 1_000_000
    assert whole.energy_milliwh(LOADS.steps["packaging"]) == 0


def test_a_frozen_clock_stands_and_nothing_counts() -> None:
    ticks = [0]
    clock = FactoryClock(lambda: ticks[0], speed=60)
    stopped = circuits_of(
        plant((line(),), (meter("packaging", 1),)), Factory(clock.now_ms), stopped=lambda: clock.is_frozen
    )
    ticks[0] = 60 * 10**9
    before = stopped["packaging"].energy_milliwh()
    assert before > 2_000_000  # an hour of packaging in a minute
    clock.freeze()
    ticks[0] *= 10
    assert stopped["packaging"].energy_milliwh() == before
    assert stopped["packaging"].power_mw() == 0


def test_the_command_prints_a_day() -> None:
    result = CliRunner().invoke(factory_command, ["--json"])
    assert result.exit_code == 0
    day = json.loads(result.output)
    assert set(day) == set(STEPS)
    total_kwh = sum(step["energy_milliwh"] for step in day.values()) / 1_000_000
    assert 2000 < total_kwh < 4000
    table = CliRunner().invoke(factory_command, [])
    assert table.exit_code == 0
    assert len(table.output.splitlines()) == 28
    assert CliRunner().invoke(factory_command, ["--json", "--seed", "2"]).output != result.output
