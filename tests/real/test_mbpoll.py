"""Debian's mbpoll (libmodbus) reads our simulated meters: an independent master finds them to be meters."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from agent.metering.plant import Plant, Transport
from agent.metering.quantity import to_milliwh
from simulators.meters.meter import FixedEnergy
from simulators.serving import Served, serve_plant
from tests.support.plants import SLOW, line, meter, plant

pytestmark = pytest.mark.mbpoll

ENERGY = {
    "eastron-sdm630-v2": ("3:float", 0x48),
    "chint-dtsu666-2019": ("4:float", 0x101E),
    "acrel-adl400": ("4:int", 0x0000),
}


def two_lines() -> Plant:
    serial = line("hall", serial=SLOW)
    gateway = line("gateway", transport=Transport.MODBUS_TCP, host="127.0.0.1", port=0)
    meters = [
        meter(f"{where}-{unit}", unit, profile, line=where, ct=30)
        for where in ("hall", "gateway")
        for unit, profile in ((7, "eastron-sdm630-v2"), (8, "chint-dtsu666-2019"))
    ]
    return plant((serial, gateway), tuple(meters))


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    wired = two_lines()
    sources = {
        each.id: FixedEnergy(number * 1_234_567_890, 5_000_000) for number, each in enumerate(wired.meters, 1)
    }
    served = await serve_plant(wired, sources, openings=False)
    yield served
    await served.aclose()


async def mbpoll(program: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")


def place(served: Served, name: str) -> list[str]:
    where = served.lines[name]
    if where.device is not None:
        return ["-m", "rtu", "-b", "9600", "-P", "none", where.device]
    return ["-m", "tcp", "-p", str(where.port), str(where.host)]


def shown(output: str) -> Mapping[int, float]:
    """Reference -> value, as mbpoll prints them: `[72]:  41.1523`."""
    return {int(at): float(value) for at, value in re.findall(r"^\[(\d+)\]:\s+(\S+)", output, re.MULTILINE)}


@pytest.mark.parametrize("name", ["hall", "gateway"])
@pytest.mark.parametrize("unit", [7, 8])
async def test_mbpoll_reads_the_energy_register(
    mbpoll_path: Path, served: Served, name: str, unit: int
) -> None:
    simulated = served.meters[f"{name}-{unit}"]
    kind, address = ENERGY[simulated.meter.profile.id]
    asked = ["-a", str(unit), "-t", kind, "-B", "-0", "-r", str(address), "-c", "1", "-1", "-o", "9"]
    output = await mbpoll(mbpoll_path, *asked, *place(served, name))
    found = shown(output)
    assert set(found) == {address}, output
    # mbpoll prints six digits of the float: the same register, not the same precision.
    exact = simulated.counts()
    assert found[address] == pytest.approx(float(exact), rel=1e-5)
    assert to_milliwh(exact, simulated.meter.per_count_milliwh) == simulated.register_milliwh() > 0


@pytest.mark.parametrize("name", ["hall", "gateway"])
async def test_mbpoll_gets_no_answer_from_nobody(mbpoll_path: Path, served: Served, name: str) -> None:
    asked = ["-a", "33", "-t", "3:float", "-0", "-r", "72", "-c", "1", "-1", "-o", "0.3"]
    assert "timed out" in await mbpoll(mbpoll_path, *asked, *place(served, name))


@pytest.mark.parametrize("name", ["hall", "gateway"])
async def test_mbpoll_is_refused_where_there_is_no_register(
    mbpoll_path: Path, served: Served, name: str
) -> None:
    asked = ["-a", "8", "-t", "4:hex", "-0", "-r", "999", "-c", "1", "-1", "-o", "9"]
    assert "Illegal data address" in await mbpoll(mbpoll_path, *asked, *place(served, name))


@pytest.fixture
def mbpoll_path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("mbpoll")
    return path
