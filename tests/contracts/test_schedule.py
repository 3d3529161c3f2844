"""What every schedule must do, over the library and in the simulated world: one suite, hours of virtual time at once.

APScheduler asks `datetime.now` for its own time. Here that is the virtual loop's, so that a step of a month, a boot in
1970 or a week of sleep are tried on the real `AlignedSchedule` as they are in the world.
"""

import asyncio
import datetime
from collections.abc import Callable
from itertools import pairwise

import apscheduler.schedulers.base
import pytest

from agent.adapters.schedule import AlignedSchedule
from agent.service.ports import Schedule
from simulators.world.time import START_MS, GatewayClock, Time, WorldSchedule, run_in_world

PERIOD_MS = 60_000
DAY_MS = 86_400_000
EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
Make = Callable[[GatewayClock, Callable[[int], None]], Schedule]
SCHEDULES: dict[str, Make] = {
    "aligned": lambda clock, on_step: AlignedSchedule(clock, on_step=on_step),
    "world": WorldSchedule,
}


class LoopDatetime(datetime.datetime):
    """`now` of the running loop."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "LoopDatetime":
        at = EPOCH + datetime.timedelta(seconds=asyncio.get_running_loop().time())
        return cls.fromtimestamp(at.timestamp(), tz)


@pytest.fixture(params=list(SCHEDULES.values()), ids=list(SCHEDULES))
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", LoopDatetime)
    made: Make = request.param
    return made


class Watched:
    """A running schedule, and what it did: virtual seconds and boundary of each tick, and the steps it reported."""

    def __init__(self, make: Make, *, unset: bool = False) -> None:
        self.time = Time()
        self.clock = GatewayClock(self.time)
        if unset:
            self.clock.unset()
        self.ticks: list[tuple[float, int]] = []
        self.labels: list[int] = []
        self.steps: list[int] = []
        self.schedule = make(self.clock, self.steps.append)
        self.schedule.every(PERIOD_MS, self._tick)
        self.schedule.start()
        self.begun_s = asyncio.get_running_loop().time()

    def _tick(self, boundary_ms: int) -> None:
        self.ticks.append((asyncio.get_running_loop().time(), boundary_ms))
        self.labels.append(self.clock.wall_ms())

    async def finish(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.schedule.stop()
        ended_s = asyncio.get_running_loop().time()
        self._has_neither_burst_nor_silence(ended_s)
        told = len(self.ticks)
        await asyncio.sleep(3 * PERIOD_MS / 1000)
        assert len(self.ticks) == told, "a tick after the stop"

    def _has_neither_burst_nor_silence(self, ended_s: float) -> None:
        moments = [self.begun_s, *(at_s for at_s, _ in self.ticks), ended_s]
        # A step is seen within a second, and the next boundary of the new time is at most a period away.
        assert max(later - earlier for earlier, later in pairwise(moments)) <= PERIOD_MS / 1000 + 1.1 + 59
        assert len(self.ticks) <= (ended_s - self.begun_s) * 1000 / PERIOD_MS + 2
        for (_, boundary_ms), label_ms in zip(self.ticks, self.labels, strict=True):
            assert boundary_ms % PERIOD_MS == 0
            assert 0 <= label_ms - boundary_ms < 1_000, "a tick belongs to the boundary that was just reached"


def test_ticks_come_at_every_boundary_once(make: Make) -> None:
    async def scenario() -> None:
        watched = Watched(make)
        await watched.finish(3_600)
        boundaries = [boundary_ms for _, boundary_ms in watched.ticks]
        assert boundaries == [START_MS + (number + 1) * PERIOD_MS for number in range(len(boundaries))]
        assert len(boundaries) in (59, 60)
        assert watched.steps == []

    run_in_world(scenario())


@pytest.mark.fault("F38", "F39", "F40", "F45")
@pytest.mark.parametrize(
    "step_ms",
    [-30 * DAY_MS, -7_200_000, -90_000, -600, 600, 90_000, 30 * DAY_MS, 73 * 365 * DAY_MS],
)
def test_a_step_is_reported_once_and_brings_neither_a_burst_nor_silence(make: Make, step_ms: int) -> None:
    async def scenario() -> None:
        watched = Watched(make)
        await asyncio.sleep(301.5)
        watched.clock.error_ms += step_ms
        await watched.finish(900)
        assert watched.steps == [step_ms]

    run_in_world(scenario())


@pytest.mark.fault("F40")
def test_a_boot_in_1970_and_the_time_service_that_comes_later(make: Make) -> None:
    async def scenario() -> None:
        watched = Watched(make, unset=True)
        await asyncio.sleep(301.5)
        watched.clock.set_right()
        await watched.finish(900)
        assert len(watched.steps) == 1 and abs(watched.steps[0] - START_MS) < DAY_MS

    run_in_world(scenario())


@pytest.mark.fault("F38", "F39")
def test_there_and_back_again(make: Make) -> None:
    async def scenario() -> None:
        watched = Watched(make)
        for step_ms in (3_600_000, -3_600_000, -DAY_MS, DAY_MS):
            await asyncio.sleep(130.5)
            watched.clock.error_ms += step_ms
        await watched.finish(300)
        assert watched.steps == [3_600_000, -3_600_000, -DAY_MS, DAY_MS]

    run_in_world(scenario())


@pytest.mark.fault("F44")
@pytest.mark.parametrize("slept_ms", [90_000, 3_600_000, 9 * DAY_MS])
def test_sleep_is_no_step_and_ticks_go_on(make: Make, slept_ms: int) -> None:
    async def scenario() -> None:
        watched = Watched(make)
        await asyncio.sleep(301.5)
        watched.time.slept_ms += slept_ms
        await watched.finish(900)
        assert watched.steps == []
        assert watched.ticks[-1][1] > START_MS + 1_100_000 + slept_ms

    run_in_world(scenario())


@pytest.mark.fault("F41")
@pytest.mark.parametrize("drift_ppm", [-200, 200])
def test_drift_is_no_step(make: Make, drift_ppm: int) -> None:
    async def scenario() -> None:
        watched = Watched(make)
        watched.clock.drift_ppm = drift_ppm
        await watched.finish(1_800)
        assert watched.steps == []
        assert 28 <= len(watched.ticks) <= 31

    run_in_world(scenario())


@pytest.mark.fault("F42")
def test_a_leap_second_repeated_or_left_out_costs_no_boundary(make: Make) -> None:
    async def scenario() -> None:
        watched = Watched(make)
        await asyncio.sleep(300.2)  # just after a boundary, so that the second before it comes again
        watched.clock.error_ms -= 1_000
        await asyncio.sleep(630)
        watched.clock.error_ms += 1_000
        await watched.finish(600)
        boundaries = [boundary_ms for _, boundary_ms in watched.ticks]
        assert set(boundaries) == set(range(START_MS + PERIOD_MS, boundaries[-1] + 1, PERIOD_MS))
        assert len(boundaries) - len(set(boundaries)) <= 1

    run_in_world(scenario())
