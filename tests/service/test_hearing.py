"""What a running agent hears of a sick line by the way, in virtual time: enough for `status` to name the cause."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.protocol.doctor import Cause
from agent.service.advice import FLOODS, advise_line
from agent.service.overview import line_overview
from agent.service.poll import LineWorker
from simulators.line.sick import SickLine
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.plants import line, meter


def heard(seed: int, cause: Cause | None) -> set[Cause]:
    """The causes that the worker of one line sees after some minutes of polling, with a sweep every 10 s."""
    sick = SickLine(seed, cause, [meter(f"m{unit}", unit) for unit in range(1, 4)])

    async def play() -> set[Cause]:
        wired = replace(line(serial=sick.settings), poll_ms=2000)
        worker = LineWorker(wired, sick.meters, sick.port(), VirtualClock())
        task = asyncio.create_task(worker.run())
        for _ in range(25):
            await asyncio.sleep(10)
            worker.sweep()
        found = {each.cause for each in worker.hearing.diagnoses()}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return found

    return run_virtually(play())


@pytest.mark.fault("F30")
@pytest.mark.parametrize("cause", [Cause.TERMINATION, Cause.MASTER])
@pytest.mark.parametrize("seed", range(2))
def test_what_hurts_the_whole_line_is_named_by_the_way(cause: Cause, seed: int) -> None:
    assert heard(seed, cause) == {cause}


@pytest.mark.parametrize("seed", range(2))
def test_a_healthy_line_is_called_nothing(seed: int) -> None:
    assert heard(seed, None) == set()


def on_a_line(*, echo: bool = False, babbling: bool = False) -> dict[str, Any]:
    """What `status` says of a line after forty seconds of polling three meters, with seven of babble."""
    sick = SickLine(0, None, [meter(f"m{unit}", unit) for unit in range(1, 4)])
    port = sick.port()
    port.line.echo = echo

    async def play() -> dict[str, Any]:
        wired = replace(line(serial=sick.settings), poll_ms=2000)
        worker = LineWorker(wired, sick.meters, port, VirtualClock())
        task = asyncio.create_task(worker.run())
        for turn in range(4):
            if babbling and turn < 2:
                port.line.babble(port.bus.now_ns, 7 * sick.settings.baud // 20)
            await asyncio.sleep(10)
            worker.sweep()
        said = line_overview(worker)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return said

    return run_virtually(play())


@pytest.mark.fault("F29")
def test_an_echoing_adapter_is_marked_and_costs_nothing() -> None:
    assert on_a_line()["echoes"] is False
    said = on_a_line(echo=True)
    assert said["echoes"] is True
    assert said["meters_answering"] == 3
    assert said["failed_reads"] == 0
    assert said["diagnoses"] == []


@pytest.mark.fault("F32")
def test_a_babbling_device_is_counted_and_named() -> None:
    assert on_a_line()["floods"] == 0
    said = on_a_line(babbling=True)
    assert said["floods"] >= FLOODS
    problems = [problem.code for problem in advise_line(said)]
    assert problems[0] == "line-babble"
