"""Four models of Modbus meters and two DL/T 645 meters of other speeds on one pair, read by the real worker over a pty.

The line is paced as its baud rate says and switches its speed between meters.
"""

import asyncio
from dataclasses import replace
from fractions import Fraction

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.rtu_line import RtuLine
from agent.cli.read import read_meter
from agent.metering.decode import decode
from agent.metering.plant import Meter, Plant, SerialSettings, Transport
from agent.metering.quantity import to_milliwh
from agent.service import watch
from agent.service.poll import LineWorker, Sweep
from simulators.meters.meter import FixedEnergy
from simulators.serving import Served, serve_plant
from tests.support.plants import SLOW, line, meter, plant

EVEN_2400 = SerialSettings(2400, "even", 1)
EVEN_4800 = SerialSettings(4800, "even", 1)
MODELS = {7: "eastron-sdm630-v2", 8: "abb-b23", 9: "schneider-iem3155", 22: "chint-ddsu666"}


def mixed_plant() -> Plant:
    modbus = [meter(f"m{unit}", unit, profile) for unit, profile in MODELS.items()]
    dlt: list[Meter] = [
        replace(
            meter("single", 1, "dlt645-2007-single-phase"), address="000012345678", serial_settings=EVEN_2400
        ),
        replace(
            meter("three", 1, "dlt645-2007-three-phase"), address="161668160016", serial_settings=EVEN_4800
        ),
    ]
    return plant((line(serial=SLOW, device="unused"),), (*modbus[:2], *dlt, *modbus[2:]))


async def swept(worker: LineWorker) -> Sweep:
    sweep = worker.sweep()
    async with asyncio.timeout(60):
        await sweep.done.wait()
    return sweep


def registers(served: Served, sweep: Sweep) -> dict[str, int]:
    """What the worker read, as 0.001 Wh."""
    found = {}
    for sample in sweep.samples:
        of = served.meters[sample.meter].meter
        energy = of.profile.registers["energy_import"]
        counts = decode(energy, sample.words)
        assert isinstance(counts, int | Fraction)
        found[sample.meter] = to_milliwh(counts, of.per_count_milliwh)
    return found


@pytest.mark.slow
async def test_every_register_of_a_mixed_line_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for bounds in (
        watch.REPLY_MS_MIN,
        watch.REPLY_MS,
    ):  # this process plays the meters too, and may have to wait
        monkeypatch.setitem(bounds, Transport.RS485, 3_000)
    sources = {
        of.id: FixedEnergy(5_000_000_000 + number, 4_000_000)
        for number, of in enumerate(mixed_plant().meters)
    }
    served = await serve_plant(mixed_plant(), sources, device_links=False)
    wired = served.plant_as_served()
    worker = LineWorker(wired.lines[0], wired.meters, RtuLine(wired.lines[0], listen_ms=20), SystemClock())
    running = asyncio.create_task(worker.run())
    try:
        await swept(worker)  # the first one also asks who is there
        for _ in range(3):
            before = {name: one.register_milliwh() for name, one in served.meters.items()}
            sweep = await swept(worker)
            assert registers(served, sweep) == before
            for number, source in enumerate(sources.values()):
                source.milliwh += 123_456_789 + 1_000_003 * number
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await served.aclose()
    assert all(each.failed_reads == 0 for each in worker.watches.values())


async def test_metering_agent_read_shows_every_register_of_a_dl_t_645_meter() -> None:
    sources = {of.id: FixedEnergy(1_206_420_000, 4_000_000) for of in mixed_plant().meters}
    served = await serve_plant(mixed_plant(), sources, device_links=False, openings=False)
    (wired,) = served.plant_as_served().lines
    of = next(one for one in mixed_plant().meters if one.id == "single")
    try:
        rows = await read_meter(RtuLine(wired, listen_ms=20), wired, of)
    finally:
        await served.aclose()
    shown = {row.register.name: row.value for row in rows}
    assert shown["energy_import"] == "1206.42"
    assert shown["power_active_total"] == "4"
    assert shown["serial_number"] == "000012345678"
    assert shown["clock_time"] == "235902"
    assert list(shown) == list(of.profile.registers)
