"""Every profile, served by the simulated meter and read back through the real stack.

Modbus profiles go over a TCP socket, through the real adapter and the line worker, as in the running agent; the parts
of an RTU line are proved elsewhere with a few of them. What comes out has to be what the meter shows, to the count.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.cli.read import decimal_text, read_meter
from agent.metering.decode import NoValue, decode
from agent.metering.gates import admit
from agent.metering.plant import Line, Meter, Role, SerialSettings, Share, Transport
from agent.metering.profile import DLT645, Circuits, Profile, Register, Sum
from agent.metering.quantity import MILLIWH_PER_UNIT
from agent.resources import config_path
from agent.service.poll import LineWorker
from agent.settings.profiles import load_profiles
from simulators.meters.meter import FixedEnergy, SimulatedMeter, join_circuits
from simulators.meters.tcp_server import TcpGateway
from tests.metering.examples import profile as example_profile
from tests.metering.examples import register

PROFILES = load_profiles(config_path("profiles"))
MODBUS = sorted(name for name, profile in PROFILES.items() if profile.protocol != DLT645)
ENERGY_MILLIWH = 1_234_567_890
"""1234.56789 kWh: finer than most meters can show."""


def wired(profile: Profile, **changes: object) -> Meter:
    """A meter behind transformers 150/5, if its profile has a side for that."""
    plain = Meter(
        id="m",
        line="l",
        address=7,
        profile=profile,
        role=Role.STEP,
        shares=(Share("reflow_soldering", Fraction(1)),),
        serial="22104934" if profile.identity is not None else None,
        ct_ratio=Fraction(30) if profile.energy.secondary else Fraction(1),
        rated_w=40_000,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def served(*meters: SimulatedMeter) -> AsyncIterator[Line]:
    """A Modbus TCP gateway on a free port of this machine."""
    for meter in meters:
        meter.turnaround_ms = 0
    gateway = TcpGateway(join_circuits(meters))
    host, port = await gateway.listen("127.0.0.1", 0)
    try:
        yield Line(
            "l", Transport.MODBUS_TCP, None, host, port, SerialSettings(9600, "none", 1), poll_ms=60_000
        )
    finally:
        await gateway.aclose()


async def sweep(line: Line, *meters: Meter) -> dict[str, tuple[int, ...]]:
    """The words of one sweep of the real line worker, by meter."""
    worker = LineWorker(line, meters, ModbusTcpLine(line), SystemClock())
    running = asyncio.create_task(worker.run())
    try:
        request = worker.sweep()
        await asyncio.wait_for(request.done.wait(), 60)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    problems = {id: watch.last_error for id, watch in worker.watches.items() if watch.last_error}
    assert not problems
    return {sample.meter: sample.words for sample in request.samples}


@pytest.mark.parametrize("name", MODBUS)
async def test_a_sweep_reads_what_the_meter_shows(name: str) -> None:
    meter = wired(PROFILES[name])
    simulated = SimulatedMeter(meter, FixedEnergy(ENERGY_MILLIWH, 4_321_000))
    async with served(simulated) as line:
        words = (await sweep(line, meter))["m"]
    value = decode(meter.profile.energy, words)
    assert value == simulated.counts()
    assert admit(meter, value) == simulated.register_milliwh()
    step = meter.per_count_milliwh * len(meter.profile.energy.parts)
    assert not isinstance(value, str | NoValue)
    coarse = max(step, value * meter.per_count_milliwh / 2**22)
    assert 0 <= ENERGY_MILLIWH - simulated.register_milliwh() <= coarse


@pytest.mark.parametrize("name", MODBUS)
async def test_read_shows_every_register(name: str) -> None:
    meter = wired(PROFILES[name])
    simulated = SimulatedMeter(meter, FixedEnergy(ENERGY_MILLIWH, 4_321_000))
    async with served(simulated) as line:
        rows = {row.register.name: row for row in await read_meter(ModbusTcpLine(line), line, meter)}
    assert set(rows) == set(meter.profile.registers) | set(meter.profile.sums)
    booked = meter.profile.energy
    assert rows[booked.name].value == decimal_text(
        simulated.counts() * booked.per_count * meter.transformer_ratio(booked)
    )
    for entry in meter.profile.registers.values():
        row = rows[entry.name]
        assert row.words == simulated.words_of(entry), row.note
        assert row.value is not None
    _check_power(meter, rows["power_active_total"].value if "power_active_total" in rows else None)


def _check_power(meter: Meter, shown: str | None) -> None:
    """4321 W, on the primary side, as finely as the register can."""
    if shown is None:
        return
    entry = meter.profile.registers["power_active_total"]
    factor = {"W": 1, "kW": 1000}[entry.unit]
    step = entry.per_count * factor * meter.transformer_ratio(entry)
    watts = Fraction(shown.lstrip("~")) * factor
    assert abs(watts - 4321) <= max(step, Fraction(1, 100))


def test_every_scale_is_that_of_its_unit() -> None:
    """1234.56789 kWh shown by the meter are 1234.56789 kWh to the agent, give or take one count."""
    for name in MODBUS:
        energy = PROFILES[name].energy
        milliwh = energy.per_count * MILLIWH_PER_UNIT[energy.unit]
        assert Fraction(1) <= milliwh <= 1_000_000, name


# ------------------------------------------------------------------------------------- what no shipped profile has yet


def _tariff(name: str, address: int, modulus: int) -> Register:
    return register(name=name, address=address, modulus_counts=modulus)


async def test_parts_of_a_sum_far_apart_are_read_in_two_requests_and_roll_over_by_themselves() -> None:
    parts = (_tariff("t1", 0, 10**6), _tariff("t2", 9_000, 10**8))
    total = Sum("energy_import", parts)
    assert total.modulus_counts == 10**6
    profile = example_profile(registers={part.name: part for part in parts}, sums={"energy_import": total})
    meter = wired(profile, serial=None)
    energy = FixedEnergy(19_999_990 * 1_000_000)  # 1 999 999 000 counts, both tariffs far beyond 10^6
    simulated = SimulatedMeter(meter, energy)
    async with served(simulated) as line:
        before = decode(total, (await sweep(line, meter))["m"])
        assert simulated.requests == 2
        energy.milliwh += 25 * 1_000_000
        after = decode(total, (await sweep(line, meter))["m"])
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert (after - before) % 10**6 == 2_500
    assert before == 1_999_999_000 % 10**6


async def test_circuits_of_one_meter_share_its_address_and_not_their_energy() -> None:
    serial = register(name="serial_number", address=500)
    profile = example_profile(
        registers={"energy_import": register(address=16), "serial_number": serial},
        identity="serial_number",
        circuits=Circuits(count=3, stride=32, common=("serial_number",)),
    )
    meters = [
        wired(profile.of_circuit(number), id=f"c{number}", circuit=number, serial="22104934")
        for number in (1, 2, 3)
    ]
    assert [meter.profile.registers["energy_import"].address for meter in meters] == [16, 48, 80]
    assert len({meter.profile.hash for meter in meters}) == 3
    simulated = [
        SimulatedMeter(meter, FixedEnergy(10_000_000 * place)) for place, meter in enumerate(meters, 1)
    ]
    async with served(*simulated) as line:
        words = await sweep(line, *meters)
    assert {name: decode(profile.energy, own) for name, own in words.items()} == {
        "c1": 1_000,
        "c2": 2_000,
        "c3": 3_000,
    }
