"""A plant served where the agent looks for it, and the command that does so, as a real process."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.adapters.rtu_line import RtuLine
from agent.metering.decode import decode
from agent.metering.plant import Line, Plant, Transport
from agent.metering.quantity import to_milliwh
from agent.protocol.pdu import ReadRequest
from agent.resources import config_path
from agent.settings.site import load_site
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from simulators.serving import Served, serve_plant, write_rehearsal
from tests.support.plants import line, meter, plant


async def read_milliwh(served_line: Line, served: Served, name: str) -> int:
    """One register, read by the agent's own line."""
    subject = served.meters[name].meter
    (register,) = subject.profile.energy.parts
    tcp = served_line.transport is Transport.MODBUS_TCP
    port = ModbusTcpLine(served_line) if tcp else RtuLine(served_line, listen_ms=10)
    await port.open()
    try:
        assert isinstance(subject.address, int)
        request = ReadRequest(subject.address, register.function, register.address, register.words)
        counts = decode(register, (await port.read(request, timeout_ms=5_000)).words)
    finally:
        await port.close()
    assert not isinstance(counts, str)
    return to_milliwh(counts, subject.per_count_milliwh)  # type: ignore[arg-type]


def three_lines(device: Path) -> Plant:
    lines = (
        line("hall", device=str(device)),
        line("gateway", transport=Transport.MODBUS_TCP, host="10.0.8.20", port=502),
        line("server", transport=Transport.RS485_OVER_TCP, host="10.0.8.21", port=4196),
    )
    meters = tuple(
        meter(f"{where}-{unit}", unit, profile, line=where)
        for where in ("hall", "gateway", "server")
        for unit, profile in ((1, "eastron-sdm630-v2"), (2, "abb-b23"))
    )
    return plant(lines, meters)


async def test_every_meter_of_every_line_answers_with_its_register(tmp_path: Path) -> None:
    device = tmp_path / "lines" / "hall"
    wired = three_lines(device)
    served = await serve_plant(wired, {each.id: FixedEnergy(123_456_789) for each in wired.meters})
    try:
        assert served.lines["hall"].device == str(device)
        assert not served.lines["hall"].moved
        assert served.lines["gateway"].host == served.lines["server"].host == "127.0.0.1"
        truth = served.truth()
        for at in served.plant_as_served().lines:
            for each in wired.meters_on(at.id):
                assert await read_milliwh(at, served, each.id) == truth[each.id]["register_milliwh"]
    finally:
        await served.aclose()
    assert not device.is_symlink()


async def test_a_device_that_exists_is_left_alone(tmp_path: Path) -> None:
    device = tmp_path / "hall"
    device.write_text("mine")
    wired = plant((line("hall", device=str(device)),), (meter("m", 1, line="hall"),))
    served = await serve_plant(wired, {"m": FixedEnergy()})
    assert served.lines["hall"].moved
    assert str(served.lines["hall"].device).startswith("/dev/pts/")
    await served.aclose()
    assert device.read_text() == "mine"


async def test_a_dead_link_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    device = tmp_path / "hall"
    device.symlink_to("/dev/pts/99999")
    wired = plant((line("hall", device=str(device)),), (meter("m", 1, line="hall"),))
    served = await serve_plant(wired, {"m": FixedEnergy()})
    assert not served.moved
    await served.aclose()


async def test_nothing_is_ever_made_under_dev() -> None:
    wired = plant((line("hall", device="/dev/no-such-adapter"),), (meter("m", 1, line="hall"),))
    served = await serve_plant(wired, {"m": FixedEnergy()})
    assert served.moved
    assert not Path("/dev/no-such-adapter").is_symlink()  # noqa: ASYNC240 - a moment
    await served.aclose()


async def test_two_meters_at_one_address_are_refused() -> None:
    wired = plant((line("hall"),), (meter("m", 1, line="hall"), meter("n", 1, line="hall")))
    with pytest.raises(ValueError, match="share address 1"):
        await serve_plant(wired, {"m": FixedEnergy(), "n": FixedEnergy()})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The shipped example with the files it names."""
    path = tmp_path / "site.toml"
    path.write_text(config_path("site.example.toml").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("ca.pem", "gw01.pem", "gw01.key", "platform.pem", "signing-key.pem"):
        (tmp_path / name).write_text("-", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    return path


async def test_a_rehearsal_copy_is_the_site_elsewhere(site: Path, tmp_path: Path) -> None:
    wired = load_site(site).plant
    served = await serve_plant(wired, {each.id: FixedEnergy(10**9) for each in wired.meters})
    out = tmp_path / "site.rehearsal.toml"
    write_rehearsal(site, served, out)
    copy = load_site(out)
    assert copy.plant == served.plant_as_served()
    assert copy.journal.path != load_site(site).journal.path
    text = out.read_text(encoding="utf-8")
    assert "# One block for each meter." in text
    with pytest.raises(ValueError, match="beside"):
        write_rehearsal(site, served, tmp_path.parent / "elsewhere.toml")
    await served.aclose()


async def test_the_command_serves_tells_the_truth_and_stops(site: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    arguments = ["meters", "--site", str(site), "--truth", str(truth), "--speed", "60"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from simulators.cli import main; main()",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said = ""
        while "run the agent with" not in said:
            said += (await process.stdout.readline()).decode()
        rehearsal = load_site(tmp_path / "site.rehearsal.toml").plant
        assert "line hall-a: 3 meters at /dev/pts/" in said

        async def told(number: signal.Signals) -> dict[str, dict[str, int]]:
            truth.unlink(missing_ok=True)
            process.send_signal(number)
            while not truth.exists():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)
            values: dict[str, dict[str, int]] = json.loads(truth.read_text())
            return values

        first = await told(signal.SIGUSR1)
        await asyncio.sleep(0.3)
        stopped = await told(signal.SIGUSR2)
        assert stopped["incomer-1"]["register_milliwh"] > first["incomer-1"]["register_milliwh"]
        gateway = next(each for each in rehearsal.lines if each.id == "gateway-2")
        wired = plant((gateway,), rehearsal.meters_on("gateway-2"))
        served = Served(wired, {})
        served.meters = {"incomer-1": _only(wired)}
        assert await read_milliwh(gateway, served, "incomer-1") == stopped["incomer-1"]["register_milliwh"]
        assert await told(signal.SIGUSR1) == stopped
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert json.loads(truth.read_text()) == stopped


def _only(wired: Plant) -> SimulatedMeter:
    return SimulatedMeter(wired.meters[0], FixedEnergy())


async def test_a_bad_site_file_is_told_and_nothing_served(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from simulators.cli import main; main()",
        "meters",
        "--site",
        str(tmp_path / "none.toml"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"none.toml" in said
