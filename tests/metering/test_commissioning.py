"""The two checks before kWh count, on the simulated meter of every shipped profile: word order, energy against power.

The meter is always true to its profile; what is wrong is the profile by which it is read, as on a factory floor.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from agent.metering.commissioning import (
    POWER,
    Look,
    Order,
    Verdict,
    compare,
    misordered,
    power_w,
    reordered,
)
from agent.metering.plant import Meter, Role
from agent.metering.profile import DLT645, Profile, Register, WordType
from agent.resources import config_path
from agent.settings.profiles import load_profiles
from simulators.meters.meter import FixedEnergy, SimulatedMeter

PROFILES = load_profiles(config_path("profiles"))
MODBUS = sorted(name for name, profile in PROFILES.items() if profile.protocol != DLT645)
CT, PT = Fraction(30), Fraction(1)
SECONDS, PAUSE_S = 120, 3


def a_meter(profile: Profile, ct_ratio: Fraction = Fraction(1)) -> Meter:
    return Meter("m", "hall-a", 7, profile, Role.OTHER, (), ct_ratio=ct_ratio)


def watched(meter: Meter, watts: Callable[[int], int], *, seconds: int = SECONDS) -> list[Look]:
    """What a true meter shows in the course of the load, every three seconds."""
    source = FixedEnergy(milliwh=123_456_789)
    shown = SimulatedMeter(meter, source, opening_milliwh=123_456_789_000)
    looks = []
    for second in range(seconds + 1):
        source.milliwatts = 1_000 * watts(second)
        if second % PAUSE_S == 0:
            words = {register.name: shown.words_of(register) for register in meter.profile.registers.values()}
            looks.append(Look(1_000 * second, words))
        source.milliwh += source.milliwatts // 3600
    return looks


def kilowatts(power: int) -> Callable[[int], int]:
    return lambda second: 1_000 * power


def read_by(meter: Meter, **changes: Callable[[Register], Register]) -> Meter:
    """The same meter, as a profile with other registers reads it."""
    registers = {
        name: changes[name](register) if name in changes else register
        for name, register in meter.profile.registers.items()
    }
    return replace(meter, profile=replace(meter.profile, registers=registers))


def scaled(factor: Fraction | int) -> Callable[[Register], Register]:
    return lambda register: replace(register, per_count=register.per_count * factor)


def in_order(looks: list[Look], order: Order) -> list[Look]:
    """The same as it comes from a meter or a gateway with another order."""
    return [
        Look(look.at_ms, {name: reordered(words, order) for name, words in look.words.items()})
        for look in looks
    ]


# ---------------------------------------------------------------------------------------------------------- word order


@pytest.mark.fault("F26")
@pytest.mark.parametrize("name", MODBUS)
def test_what_a_true_meter_shows_can_be(name: str) -> None:
    meter = a_meter(PROFILES[name])
    for power in (0, 1, 15):
        looks = watched(meter, kilowatts(power), seconds=6)
        assert misordered(meter, looks) == ()
        assert misordered(meter, looks[:1]) == ()


@pytest.mark.fault("F26")
@pytest.mark.parametrize("order", [Order.WORDS, Order.BYTES, Order.BOTH])
@pytest.mark.parametrize("name", MODBUS)
def test_a_meter_in_another_order_is_seen_with_the_order_named(name: str, order: Order) -> None:
    meter = a_meter(PROFILES[name])
    looks = in_order(watched(meter, kilowatts(4), seconds=12), order)
    found = misordered(meter, looks)
    # A word alone has bytes only; the orders of longer values must be named right, whichever register tells.
    assert {one.order for one in found if meter.profile.registers[one.register].words > 1} <= {order}
    wide = [
        each
        for each in meter.profile.registers.values()
        if each.words == 2 and (each.unit in ("V", "Hz") or (each.unit == "W" and each.is_float))
    ]
    if wide:
        assert any(one.order is order and one.register in {each.name for each in wide} for one in found)


@pytest.mark.fault("F26")
@pytest.mark.parametrize(
    "name", ["eastron-sdm120", "eastron-sdm630-v2", "schneider-iem3155", "chint-ddsu666"]
)
def test_a_profile_with_the_wrong_order_is_seen_at_one_look(name: str) -> None:
    true = a_meter(PROFILES[name])

    def turned(register: Register) -> Register:
        return replace(register, low_word_first=not register.low_word_first)

    read = read_by(true, **dict.fromkeys(true.profile.registers, turned))
    found = {one.register: one for one in misordered(read, watched(true, kilowatts(4))[:1])}
    assert found["voltage_l1"].order is Order.WORDS
    assert 229 < found["voltage_l1"].would_show < 232
    assert {one.order for one in found.values()} == {Order.WORDS}


@pytest.mark.fault("F26")
@pytest.mark.parametrize("type_", [WordType.U32, WordType.S32, WordType.BCD32, WordType.U64, WordType.F32])
@pytest.mark.parametrize("low_word_first", [False, True])
def test_a_counter_alone_in_the_wrong_order_is_seen_against_its_power(
    type_: WordType, low_word_first: bool
) -> None:
    words = {WordType.U64: 4}.get(type_, 2)
    per_count = Fraction(1) if type_ is WordType.F32 else Fraction(1, 100)
    made = read_by(
        a_meter(PROFILES["eastron-sdm630-v2"]),
        energy_import=lambda register: replace(
            register, type=type_, words=words, low_word_first=low_word_first, per_count=per_count
        ),
    )
    read = read_by(made, energy_import=lambda one: replace(one, low_word_first=not low_word_first))
    looks = watched(made, kilowatts(15))
    assert misordered(made, looks) == ()
    (one,) = misordered(read, looks)
    assert (one.register, one.order) == ("energy_import", Order.WORDS)
    assert 123_000 < one.would_show < 124_000


def test_no_value_is_no_wrong_order() -> None:
    meter = a_meter(PROFILES["eastron-sdm120"])
    (look,) = watched(meter, kilowatts(1), seconds=0)
    for words in ((0x7FC0, 0), (0xFFFF, 0xFFFF), (0, 0), ()):
        assert misordered(meter, [Look(0, {**look.words, "voltage_l1": words})]) == ()


# --------------------------------------------------------------------------------------------------------------- scale


@pytest.mark.fault("F27")
@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("ct_ratio", [Fraction(1), CT])
def test_energy_and_power_of_a_true_meter_agree(name: str, ct_ratio: Fraction) -> None:
    meter = a_meter(PROFILES[name], ct_ratio)
    looks = watched(meter, lambda second: 4_000 + 5 * second)
    said = compare(meter, looks)
    assert said.verdict in (Verdict.AGREES, Verdict.TOO_LITTLE, Verdict.NOT_SHOWN)
    assert (said.verdict is Verdict.NOT_SHOWN) is (power_w(meter, looks[0]) is None)
    assert said.suspects == ()


@pytest.mark.fault("F27")
@pytest.mark.parametrize(
    ("factor", "suspect"),
    [
        *((Fraction(1000), "unit"), (Fraction(1, 1000), "unit"), (Fraction(10), "decimal")),
        *((Fraction(1, 10), "decimal"), (Fraction(100), "decimal"), (Fraction(1, 3), "phases"), (CT, "ct")),
        *((1 / CT, "ct"), (Fraction(107, 100), None), (Fraction(93, 100), None)),
    ],
)
def test_a_wrong_scale_is_wrong_and_the_usual_mistake_named(factor: Fraction, suspect: str | None) -> None:
    true = a_meter(PROFILES["eastron-sdm630-v2"], CT)
    true = read_by(
        true, energy_import=lambda one: replace(one, type=WordType.U32, per_count=Fraction(1, 100))
    )
    load = kilowatts(1_000 if factor > 1 else 100)
    read = read_by(true, energy_import=scaled(factor))
    said = compare(read, watched(true, load))
    assert said.verdict is Verdict.WRONG
    assert said.high is not None and said.low <= factor <= said.high
    assert said.suspects == ((suspect,) if suspect else ())


@pytest.mark.fault("F27")
@pytest.mark.parametrize(("side", "expected"), [(True, CT), (False, 1 / CT)])
def test_transformers_applied_to_one_of_the_two_only(side: bool, expected: Fraction) -> None:
    true = read_by(
        a_meter(PROFILES["eastron-sdm630-v2"], CT),
        energy_import=lambda one: replace(one, secondary=not side),
        power_active_total=lambda one: replace(one, secondary=not side),
    )
    read = read_by(true, energy_import=lambda one: replace(one, secondary=side))
    said = compare(read, watched(true, kilowatts(60)))
    assert said.verdict is Verdict.WRONG and "ct" in said.suspects
    assert said.low <= expected and (said.high is None or expected <= said.high)


def test_a_coarse_counter_is_not_judged_by_two_steps() -> None:
    meter = read_by(
        a_meter(PROFILES["eastron-sdm630-v2"]),
        energy_import=lambda one: replace(one, type=WordType.U32, per_count=Fraction(1, 10)),
    )
    assert compare(meter, watched(meter, kilowatts(3))).verdict is Verdict.TOO_LITTLE
    assert compare(meter, watched(meter, kilowatts(3), seconds=3600)).verdict is Verdict.AGREES
    wrong = read_by(meter, energy_import=scaled(10))
    assert compare(wrong, watched(meter, kilowatts(3), seconds=3600)).verdict is Verdict.WRONG


def test_a_counter_that_stands_still_under_load_is_wrong() -> None:
    meter = a_meter(PROFILES["eastron-sdm120"])
    looks = watched(meter, kilowatts(5))
    stuck = [
        Look(look.at_ms, {**look.words, "energy_import": looks[0].words["energy_import"]}) for look in looks
    ]
    said = compare(meter, stuck)
    assert said.verdict is Verdict.WRONG and said.low == 0 and said.rise_wh == 0


@pytest.mark.parametrize(
    ("load", "verdict"),
    [(0, Verdict.NO_LOAD), (-4_000, Verdict.FEEDS_BACK)],
)
def test_what_cannot_be_compared_is_said_so(load: int, verdict: Verdict) -> None:
    meter = a_meter(PROFILES["eastron-sdm120"])
    idle = watched(meter, kilowatts(0))
    other: dict[str, Any] = {}
    if load:
        other = {POWER: (0xC57A, 0)}
    assert compare(meter, [Look(one.at_ms, {**one.words, **other}) for one in idle]).verdict is verdict
    assert compare(meter, idle[:1]).verdict is Verdict.NOT_SHOWN
    assert compare(meter, []).verdict is Verdict.NOT_SHOWN


def test_a_load_that_comes_and_goes_widens_what_is_known_and_accuses_nobody() -> None:
    meter = a_meter(PROFILES["eastron-sdm120"])
    looks = watched(meter, lambda second: 5_000 if second // 7 % 2 else 20)
    said = compare(meter, looks)
    assert said.verdict in (Verdict.AGREES, Verdict.TOO_LITTLE)
    assert said.low <= 1 and (said.high is None or said.high >= 1)
