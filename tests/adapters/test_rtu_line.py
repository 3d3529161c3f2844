"""What is particular to a serial port: who holds it, how fast it talks, and under which name it comes back."""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from agent.adapters.rtu_line import RtuLine
from agent.errors import FrameDamaged, LineDown, MeterSilent
from agent.metering.plant import SerialSettings, Transport
from agent.protocol.pdu import ReadRequest
from simulators.line.pump import PtyLine
from simulators.line.station import on_one_pair
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.support.plants import FAST, SLOW, line, meter

ENERGY = ReadRequest(7, 4, 0x48, 2)
PATIENT_MS = 5_000
"""Time-out of a read that is answered: however slow the machine is."""


def heater(unit: int = 7) -> SimulatedMeter:
    return SimulatedMeter(meter(f"heater-{unit}", unit), FixedEnergy(123_456_789), turnaround_ms=3)


@pytest.fixture
async def pty() -> AsyncIterator[PtyLine]:
    pair = PtyLine(FAST, lambda _: on_one_pair([heater()]))
    yield pair
    pair.close()


async def test_a_port_in_use_says_who_holds_it(pty: PtyLine) -> None:
    claim = f"import fcntl, time; f = open({pty.path!r}); fcntl.flock(f, fcntl.LOCK_EX)"
    script = f"{claim}; print(1, flush=True); time.sleep(30)"
    other = await asyncio.create_subprocess_exec("python3", "-c", script, stdout=asyncio.subprocess.PIPE)
    assert other.stdout is not None
    await other.stdout.readline()
    try:
        with pytest.raises(
            LineDown, match=rf"in use by python3? .*\(process {other.pid}\)|in use by .*{other.pid}"
        ):
            await RtuLine(line(device=pty.path)).open()
    finally:
        other.kill()
        await other.wait()
    port = RtuLine(line(device=pty.path))
    await port.open()
    await port.close()


@pytest.mark.fault("F79")
async def test_two_agents_do_not_share_a_port(pty: PtyLine) -> None:
    first, second = RtuLine(line(device=pty.path)), RtuLine(line(device=pty.path))
    await first.open()
    with pytest.raises(LineDown, match="in use"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("/dev/no-such-adapter", "does not exist"),
        ("/dev/null", "is no serial port; name"),
        (__file__, "is no serial port; name"),
    ],
)
async def test_a_port_that_cannot_be_opened_says_why(device: str, says: str) -> None:
    with pytest.raises(LineDown, match=says):
        await RtuLine(line(device=device)).open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
async def test_a_port_of_somebody_else_says_which_group_is_missing(pty: PtyLine) -> None:
    """A process that begins as root and goes on as nobody, at a port that only root may open."""
    os.chmod(pty.path, 0o600)
    become_nobody = (
        "import asyncio, os, sys\n"
        "from agent.adapters.rtu_line import RtuLine\n"
        "from tests.support.plants import line\n"
        "os.setgroups([]); os.setresuid(65534, 65534, 65534)\n"
        "asyncio.run(RtuLine(line(device=sys.argv[1])).open())\n"
    )
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", become_nobody, pty.path],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert f"{pty.path} may not be opened; add the user to the group of the device" in ended.stderr


async def test_a_server_that_is_not_there_says_where() -> None:
    gone = line(transport=Transport.RS485_OVER_TCP, host="127.0.0.1", port=1)
    with pytest.raises(LineDown, match=r"127\.0\.0\.1:1\b"):
        await RtuLine(gone).open()


async def test_a_meter_may_talk_at_another_speed_than_its_line() -> None:
    slow = SerialSettings(2400, "none", 1)
    quick, lazy = heater(7), heater(8)
    ears = {9600: on_one_pair([quick]), 2400: on_one_pair([lazy])}
    pair = PtyLine(SLOW, lambda baud: ears[baud])
    port = RtuLine(line(device=pair.path, serial=SLOW), listen_ms=10)
    await port.open()
    try:
        for _ in range(2):
            fast_reply = await port.read(ENERGY, timeout_ms=PATIENT_MS)
            slow_reply = await port.read(replace(ENERGY, unit=8), timeout_ms=PATIENT_MS, settings=slow)
            assert slow_reply.words == fast_reply.words
            # 8 and 9 characters of 10 bits: 18 ms at 9600, 71 ms at 2400.
            assert slow_reply.received_ns - slow_reply.sent_ns > 70_000_000
        with pytest.raises(MeterSilent):
            await port.read(replace(ENERGY, unit=8), timeout_ms=50)
    finally:
        await port.close()
        pair.close()


async def test_the_pace_is_that_of_the_baud_rate() -> None:
    pair = PtyLine(SLOW, lambda _: on_one_pair([heater()]))
    port = RtuLine(line(device=pair.path, serial=SLOW), listen_ms=10)
    await port.open()
    replies = [await port.read(ENERGY, timeout_ms=PATIENT_MS) for _ in range(8)]
    await port.close()
    pair.close()
    # t(2) = 17 characters, 3.6 ms of silence that the meter keeps before it answers; the machine adds its own delays,
    # and to most of them much where it is busy elsewhere.
    lasted_ns = [reply.received_ns - reply.sent_ns for reply in replies]
    assert 21_300_000 < min(lasted_ns) < 60_000_000
    for earlier, later in pairwise(replies):
        assert later.sent_ns - earlier.received_ns >= 3_645_834
    assert pair.line.begun_too_early == 0


@pytest.mark.fault("F34")
async def test_an_adapter_that_comes_back_under_another_name_is_found_by_its_link(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    port = RtuLine(line(device=str(link)), listen_ms=0)
    names = set()
    gc.collect()  # what other tests have left is not closed in the middle of this one
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(25):
        pair = PtyLine(FAST, lambda _: on_one_pair([heater()]))
        names.add(pair.path)
        link.symlink_to(pair.path)
        await port.open()
        assert len((await port.read(ENERGY, timeout_ms=PATIENT_MS)).words) == 2
        pair.close()
        link.unlink()
        with pytest.raises(LineDown):
            await port.read(ENERGY, timeout_ms=PATIENT_MS)
    await port.close()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.fault("F33")
async def test_an_unplugged_port_is_noticed_while_nothing_is_read() -> None:
    pair = PtyLine(FAST, lambda _: on_one_pair([heater()]))
    port = RtuLine(line(device=pair.path), listen_ms=0)
    await port.open()
    pair.close()
    await asyncio.sleep(0.02)
    with pytest.raises(LineDown):
        await port.read(ENERGY, timeout_ms=5000)


@pytest.mark.fault("F32")
async def test_a_babbling_device_costs_a_bounded_time_and_no_wrong_words(pty: PtyLine) -> None:
    port = RtuLine(line(device=pty.path), listen_ms=10)
    await port.open()
    right = (await port.read(ENERGY, timeout_ms=PATIENT_MS)).words
    pty.pump.babble(4000)  # a third of a second at 115200
    begun = asyncio.get_running_loop().time()
    answers: list[tuple[int, ...]] = []
    while not answers and asyncio.get_running_loop().time() - begun < 60:
        try:
            answers.append((await port.read(ENERGY, timeout_ms=100)).words)
        except (FrameDamaged, MeterSilent):
            continue
    assert answers == [right]
    await port.close()
