"""What a running agent hears of a sick line by the way, in virtual time: enough for `status` to name the cause."""

import asyncio
from dataclasses import replace

import pytest

from agent.protocol.doctor import Cause
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
