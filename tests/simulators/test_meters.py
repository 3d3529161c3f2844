"""Simulated meters are meters: their registers read back as what went through them, their refusals are a meter's."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.decode import decode
from agent.metering.plan import BusCost, plan_reads
from agent.metering.profile import Register
from agent.metering.quantity import to_milliwh
from agent.protocol.pdu import ReadRequest, words_of
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.support.plants import PROFILES, meter

PROFILE_IDS = sorted(PROFILES)


def simulated(
    profile: str, milliwh: int, *, milliwatts: int = 0, ct: int = 1, holes: bool = False
) -> SimulatedMeter:
    source = FixedEnergy(milliwh, milliwatts)
    return SimulatedMeter(meter("m", 7, profile, ct=ct), source, answers_holes=holes)


def ask(subject: SimulatedMeter, function: int, address: int, count: int) -> bytes:
    return subject.answer(ReadRequest(7, function, address, count).pdu())


def value(subject: SimulatedMeter, register: Register) -> object:
    """What the register shows, in its unit, read as the agent reads it."""
    alignment = subject.meter.profile.alignment
    count = register.words + -register.words % alignment
    request = ReadRequest(7, register.function, register.address, count)
    if register.identifier is not None:
        words = subject.words_of(register)
    else:
        words = words_of(request, subject.answer(request.pdu()))[: register.words]
    shown = decode(register, words)
    return shown * register.per_count if isinstance(shown, int | Fraction) else shown


@pytest.mark.parametrize("profile", PROFILE_IDS)
@pytest.mark.parametrize("ct", [1, 30])
@given(st.integers(0, 10**10))
def test_the_register_shows_the_energy_floored_to_its_resolution(profile: str, ct: int, milliwh: int) -> None:
    subject = simulated(profile, milliwh, ct=ct)
    register = subject.meter.profile.energy
    words = words_of(
        ReadRequest(7, register.function, register.address, register.words),
        ask(subject, register.function, register.address, register.words),
    )
    counts = decode(register, words)
    assert isinstance(counts, int | Fraction)
    assert to_milliwh(counts, subject.meter.per_count_milliwh) == subject.register_milliwh() <= milliwh + 1
    # No count is missing: the next one would be more than has flowed. A float32 has 24 bits.
    step = max(subject.meter.per_count_milliwh, Fraction(milliwh, 2**22)) if milliwh else Fraction(1)
    assert milliwh - subject.register_milliwh() <= step


@pytest.mark.parametrize("profile", PROFILE_IDS)
@given(st.lists(st.integers(0, 10**7), max_size=20))
def test_a_register_never_falls_while_energy_flows(profile: str, rises: list[int]) -> None:
    source = FixedEnergy(123_456_789)
    subject = SimulatedMeter(meter("m", 7, profile), source)
    before = subject.register_milliwh()
    for rise in rises:
        source.milliwh += rise
        assert subject.register_milliwh() >= before
        before = subject.register_milliwh()


@pytest.mark.parametrize("profile", PROFILE_IDS)
def test_live_values_agree_with_each_other_and_with_the_load(profile: str) -> None:
    subject = simulated(profile, 10**9, milliwatts=6_900_000)
    registers = subject.meter.profile.registers
    power = value(subject, registers["power_active_total"])
    voltage, current = value(subject, registers["voltage_l1"]), value(subject, registers["current_l1"])
    assert isinstance(power, Fraction | int)
    watts = power * {"W": 1, "kW": 1000}[registers["power_active_total"].unit]
    assert float(watts) == pytest.approx(6900, rel=0.01)
    assert isinstance(voltage, Fraction | int)
    assert 227 <= voltage <= 233
    assert isinstance(current, Fraction | int)
    apparent = voltage * current * subject.meter.profile.phases
    assert float(apparent) * 0.95 == pytest.approx(6900, rel=0.02)
    assert 49 < value(subject, registers["frequency"]) < 51  # type: ignore[operator]


@pytest.mark.parametrize("profile", PROFILE_IDS)
def test_a_behind_transformers_register_counts_the_secondary_side(profile: str) -> None:
    direct, behind = simulated(profile, 3 * 10**9), simulated(profile, 3 * 10**9, ct=30)
    energy = direct.meter.profile.energy
    factor = 30 if energy.secondary else 1
    shown = value(direct, energy), value(behind, energy)
    assert float(shown[0] / shown[1]) == pytest.approx(factor, rel=0.001)  # type: ignore[operator]


def test_the_serial_number_is_that_of_the_site_file() -> None:
    numbered = replace(meter("m", 7, "abb-b23"), serial="22104934")
    subject = SimulatedMeter(numbered, FixedEnergy())
    assert value(subject, numbered.profile.registers["serial_number"]) == 22104934


def test_the_ratio_registers_show_the_ratios() -> None:
    registers = PROFILES["chint-dtsu666-2019"].registers
    subject = simulated("chint-dtsu666-2019", 0, ct=40)
    assert value(subject, registers["ct_ratio"]) == 40
    assert value(subject, registers["pt_ratio"]) == 1


@pytest.mark.parametrize("profile", PROFILE_IDS)
def test_refusals_are_those_of_the_standard(profile: str) -> None:
    subject = simulated(profile, 0)
    energy, limit = subject.meter.profile.energy, subject.meter.profile.read_limit
    assert ask(subject, energy.function, 0xF000, 2) == bytes((energy.function | 0x80, 2))
    assert ask(subject, energy.function, energy.address, limit + 1) == bytes((energy.function | 0x80, 3))
    assert ask(subject, energy.function, energy.address, 0) == bytes((energy.function | 0x80, 3))
    assert ask(subject, 6, energy.address, 2) == bytes((0x86, 1))


def test_an_odd_start_is_refused_where_pairs_are_read() -> None:
    subject = simulated("eastron-sdm630-v2", 0)
    assert subject.meter.profile.alignment == 2
    assert ask(subject, 4, 0x47, 2) == b"\x84\x02"
    assert ask(subject, 4, 0x48, 2)[0] == 4


def test_holes_are_refused_or_zero() -> None:
    strict, lenient = simulated("abb-b23", 10**9), simulated("abb-b23", 10**9, holes=True)
    assert ask(strict, 3, 0x5B00, 16) == b"\x83\x02"
    words = words_of(ReadRequest(7, 3, 0x5B00, 16), ask(lenient, 3, 0x5B00, 16))
    assert words[6:12] == (0,) * 6
    assert words[1] > 2000


@pytest.mark.parametrize("profile", PROFILE_IDS)
def test_every_plan_of_the_agent_is_answered(profile: str) -> None:
    subject = simulated(profile, 10**9, milliwatts=10**6, holes=True)
    model = subject.meter.profile
    wanted = list(model.registers.values())
    for block in plan_reads(
        wanted, read_limit=model.read_limit, alignment=model.alignment, cost=BusCost.tcp(10**6)
    ):
        reply = ask(subject, block.function, block.address, block.count)
        words = words_of(ReadRequest(7, block.function, block.address, block.count), reply)
        for register in block.registers:
            decode(register, block.words_of(register, words))
