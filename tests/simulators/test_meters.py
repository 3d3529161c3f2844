"""Simulated meters are meters: their registers read back as what went through them, their refusals are a meter's."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.metering.decode import decode
from agent.metering.plan import BusCost, plan_reads
from agent.metering.profile import DLT645, Quantity, Sum
from agent.metering.quantity import to_milliwh
from agent.protocol.pdu import ReadRequest, words_of
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.support.plants import PROFILES, meter

PROFILE_IDS = sorted(name for name, profile in PROFILES.items() if profile.protocol != DLT645)


LIVE = {"power_active_total", "voltage_l1", "current_l1", "frequency"}


def simulated(
    profile: str, milliwh: int, *, milliwatts: int = 0, ct: int = 1, holes: bool = False
) -> SimulatedMeter:
    source = FixedEnergy(milliwh, milliwatts)
    return SimulatedMeter(meter("m", 7, profile, ct=ct), source, answers_holes=holes)


def ask(subject: SimulatedMeter, function: int, address: int, count: int) -> bytes:
    return subject.answer(bytes((function, *address.to_bytes(2, "big"), *count.to_bytes(2, "big"))))


def read(subject: SimulatedMeter, quantity: Quantity) -> tuple[int, ...]:
    """The words of a register, or of all parts of a sum, as the agent asks for them."""
    if isinstance(quantity, Sum):
        return tuple(word for part in quantity.parts for word in read(subject, part))
    if quantity.identifier is not None:
        return subject.words_of(quantity)
    alignment = subject.meter.profile.alignment
    count = quantity.words + -quantity.words % alignment
    request = ReadRequest(7, quantity.function, quantity.address, count)
    return words_of(request, subject.answer(request.pdu()))[: quantity.words]


def value(subject: SimulatedMeter, quantity: Quantity) -> object:
    """What it shows, in its unit."""
    shown = decode(quantity, read(subject, quantity))
    return shown * quantity.per_count if isinstance(shown, int | Fraction) else shown


@pytest.mark.parametrize("profile", PROFILE_IDS)
@pytest.mark.parametrize("ct", [1, 30])
@settings(max_examples=20)
@given(st.integers(0, 10**10))
def test_the_register_shows_the_energy_floored_to_its_resolution(profile: str, ct: int, milliwh: int) -> None:
    subject = simulated(profile, milliwh, ct=ct)
    counts = decode(subject.meter.profile.energy, read(subject, subject.meter.profile.energy))
    assert isinstance(counts, int | Fraction)
    assert to_milliwh(counts, subject.meter.per_count_milliwh) == subject.register_milliwh() <= milliwh + 1
    # No count is missing: the next one would be more than has flowed. A float32 has 24 bits.
    step = max(subject.meter.per_count_milliwh, Fraction(milliwh, 2**22)) if milliwh else Fraction(1)
    assert milliwh - subject.register_milliwh() <= step


@pytest.mark.parametrize("profile", PROFILE_IDS)
@settings(max_examples=15)
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
    """As far as the meter has them, and as finely as it shows them."""
    subject = simulated(profile, 10**9, milliwatts=6_900_000)
    registers = subject.meter.profile.registers
    shown = {name: value(subject, registers[name]) for name in LIVE & registers.keys()}
    step = {name: registers[name].per_count for name in shown}
    if "power_active_total" in shown:
        factor = {"W": 1, "kW": 1000}[registers["power_active_total"].unit]
        watts = shown["power_active_total"] * factor  # type: ignore[operator]
        assert float(watts) == pytest.approx(6900, rel=0.01, abs=float(step["power_active_total"] * factor))
    if "voltage_l1" in shown:
        assert 227 - step["voltage_l1"] <= shown["voltage_l1"] <= 233  # type: ignore[operator]
    if shown.keys() >= {"voltage_l1", "current_l1"}:
        phases = subject.meter.profile.phases
        apparent = shown["voltage_l1"] * shown["current_l1"] * phases  # type: ignore[operator]
        coarse = 0.95 * phases * float(230 * step["current_l1"] + 10 * step["voltage_l1"])
        assert float(apparent) * 0.95 == pytest.approx(6900, rel=0.02, abs=coarse)
    if "frequency" in shown:
        assert 49 - step["frequency"] < shown["frequency"] < 51  # type: ignore[operator]


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
    energy, limit = subject.meter.profile.energy.parts[0], subject.meter.profile.read_limit
    assert ask(subject, energy.function, 0xFE00, subject.meter.profile.alignment) == bytes(
        (energy.function | 0x80, 2)
    )
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
