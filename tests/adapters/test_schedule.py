"""Ticks at aligned moments: no burst and no silence, whoever turns the wall clock."""

import asyncio
import datetime
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import apscheduler.schedulers.base
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.clock import SystemClock
from agent.adapters.schedule import AlignedSchedule, AlignedTrigger, next_boundary_ms
from tests.support.eventually import eventually

PERIOD_MS = 50
DAY_MS = 86_400_000
# The machines that run this are slow and shared; a tick may be this late and prove nothing. How late it may be at most
# is proved in virtual time (tests/contracts/test_schedule.py), on the same schedule over the same library.
SLACK_S = 2.0
REPORT_SLACK_MS = 250  # the clocks are read one after the other, twice, with 0.1 s between at most


class TurnedClock(SystemClock):
    """The machine's clock with a wall clock that a test turns by hand."""

    def __init__(self, turn_ms: int = 0) -> None:
        super().__init__()
        self.turn_ms = turn_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self.turn_ms


class Record:
    """What was ticked, when (monotonic seconds), and which steps were reported."""

    def __init__(self) -> None:
        self.ticks: list[tuple[float, int]] = []
        self.steps: list[int] = []

    def tick(self, boundary_ms: int) -> None:
        self.ticks.append((time.monotonic(), boundary_ms))

    @property
    def boundaries(self) -> list[int]:
        return [boundary_ms for _, boundary_ms in self.ticks]

    def longest_silence_s(self, since: float, until: float) -> float:
        moments = [since, *(moment for moment, _ in self.ticks if since <= moment <= until), until]
        return max(later - earlier for earlier, later in pairwise(moments))


@asynccontextmanager
async def running(
    clock: TurnedClock, record: Record, period_ms: int = PERIOD_MS
) -> AsyncIterator[AlignedSchedule]:
    schedule = AlignedSchedule(clock, on_step=record.steps.append, watch_s=0.05)
    schedule.every(period_ms, record.tick)
    schedule.start()
    try:
        yield schedule
    finally:
        await schedule.stop()


@pytest.fixture(params=["only our clock steps", "the scheduler's own clock steps too"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TurnedClock:
    """The clock to turn. In the second case APScheduler reads the same turned time, as it does on a real machine."""
    turned = TurnedClock()
    if "too" in request.param:

        class TurnedDatetime(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "TurnedDatetime":
                return super().now(tz) + datetime.timedelta(milliseconds=turned.turn_ms)

        monkeypatch.setattr(apscheduler.schedulers.base, "datetime", TurnedDatetime)
    return turned


async def test_ticks_come_at_every_multiple_of_the_period_and_only_there(clock: TurnedClock) -> None:
    record = Record()

    def followed() -> int:
        """A machine that was busy elsewhere may have cost some, but others follow one another."""
        return sum(b - a == PERIOD_MS for a, b in pairwise(record.boundaries))

    async with running(clock, record):
        await eventually(lambda: followed() >= 8)
    boundaries = record.boundaries
    assert all(boundary_ms % PERIOD_MS == 0 for boundary_ms in boundaries)
    assert len(set(boundaries)) == len(boundaries)
    assert record.steps == []


async def test_no_tick_comes_before_its_boundary() -> None:
    clock = TurnedClock()
    early_ms: list[int] = []
    schedule = AlignedSchedule(clock)
    schedule.every(7, lambda boundary_ms: early_ms.append(boundary_ms - clock.wall_ms()))
    schedule.start()
    await eventually(lambda: len(early_ms) > 40)
    await schedule.stop()
    assert max(early_ms) <= 0


STEPS_MS = {
    "back two minutes": -120_000,
    "back half a period more than is reported": -525,
    "forward two seconds": 2_000,
    "forward thirty days": 30 * DAY_MS,
    "forward from 1970": None,
}


@pytest.mark.fault("F38", "F39")
@pytest.mark.parametrize("step_ms", STEPS_MS.values(), ids=STEPS_MS.keys())
async def test_a_step_brings_neither_a_burst_nor_silence(clock: TurnedClock, step_ms: int | None) -> None:
    record = Record()
    if step_ms is None:
        step_ms = time.time_ns() // 1_000_000 - 5_000
        clock.turn_ms = -step_ms
    async with running(clock, record):
        await eventually(lambda: len(record.ticks) >= 1)
        before, stepped = len(record.ticks), time.monotonic()
        clock.turn_ms += step_ms
        await asyncio.sleep(0.3)
        # The ticks follow the new time; by the old one the last would be early or late by the step.
        await eventually(lambda: len(record.ticks) > before)
        await eventually(lambda: 0 <= clock.wall_ms() - record.boundaries[-1] < PERIOD_MS)
        after, ended = len(record.ticks), time.monotonic()
    assert record.longest_silence_s(stepped, ended) < 2 * PERIOD_MS / 1000 + 0.05 + SLACK_S
    assert 1 <= after - before <= (ended - stepped) * 1000 / PERIOD_MS + 2, "a burst"
    assert len(record.steps) == 1
    assert abs(record.steps[0] - step_ms) <= REPORT_SLACK_MS


async def test_small_steps_are_not_reported_and_no_boundary_comes_twice(clock: TurnedClock) -> None:
    record = Record()
    async with running(clock, record):
        for step_ms in (-200, 300, -400, 250):
            await asyncio.sleep(0.12)
            clock.turn_ms += step_ms
        before = len(record.ticks)
        await eventually(lambda: len(record.ticks) >= before + 5)
    assert record.steps == []
    assert len(set(record.boundaries)) == len(record.boundaries)
    assert record.boundaries == sorted(record.boundaries)


async def test_many_small_steps_add_up_to_a_report(clock: TurnedClock) -> None:
    record = Record()
    async with running(clock, record):
        for _ in range(2):
            clock.turn_ms += 300
            await asyncio.sleep(0.12)
        await eventually(lambda: len(record.steps) == 1)
        clock.turn_ms += 300
        await asyncio.sleep(0.12)
    assert len(record.steps) == 1
    assert abs(record.steps[0] - 600) <= REPORT_SLACK_MS


async def test_a_step_is_found_by_the_tick_itself_when_the_watcher_sleeps() -> None:
    """The tick that was planned before the step must not pass as one of the new time."""
    clock, record = TurnedClock(), Record()
    schedule = AlignedSchedule(clock, on_step=record.steps.append, watch_s=3600)
    schedule.every(PERIOD_MS, record.tick)
    schedule.start()
    await eventually(lambda: len(record.ticks) >= 1)
    clock.turn_ms = -120_000
    await eventually(lambda: record.boundaries[-1] < record.boundaries[0])
    await schedule.stop()
    assert len(record.steps) == 1


async def test_a_tick_that_fails_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def failing(boundary_ms: int) -> None:
        seen.append(boundary_ms)
        raise RuntimeError("the worker is gone")

    schedule = AlignedSchedule(TurnedClock())
    schedule.every(PERIOD_MS, failing)
    with caplog.at_level(logging.INFO):
        schedule.start()
        await eventually(lambda: len(seen) >= 2)
        await schedule.stop()
    lines = [record for record in caplog.records if "a tick failed" in record.getMessage()]
    assert len(lines) == len(seen), "one line for each failure, ours and not the library's"
    assert {record.name for record in caplog.records} == {"agent.adapters.schedule"}


async def test_a_failing_report_of_a_step_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    steps: list[int] = []

    def failing(offset_ms: int) -> None:
        steps.append(offset_ms)
        raise RuntimeError("nobody listens")

    clock, record = TurnedClock(), Record()
    schedule = AlignedSchedule(clock, on_step=failing, watch_s=0.02)
    schedule.every(60_000, record.tick)
    schedule.start()
    for count in (1, 2):
        clock.turn_ms -= 10_000
        await eventually(lambda wanted=count: len(steps) == wanted)  # type: ignore[misc]
    await schedule.stop()
    assert "the report of a clock step failed" in caplog.text


async def test_a_loop_that_was_blocked_gets_one_tick_for_the_last_boundary() -> None:
    clock, record = TurnedClock(), Record()
    async with running(clock, record):
        await eventually(lambda: len(record.ticks) >= 1)
        before = len(record.ticks)
        time.sleep(0.5)  # noqa: ASYNC251  # the fault under test
        woken_ms, woken = clock.wall_ms(), time.monotonic()
        await eventually(lambda: len(record.ticks) > before)
        caught_up, ended = record.boundaries[before:], time.monotonic()
    assert len(caught_up) <= 2 + (ended - woken) * 1000 // PERIOD_MS
    assert caught_up[0] > woken_ms - PERIOD_MS


async def test_no_tick_after_stop_and_nothing_left_behind() -> None:
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    record = Record()
    schedule = AlignedSchedule(TurnedClock())
    await schedule.stop()
    schedule.every(PERIOD_MS, record.tick)
    schedule.start()
    schedule.every(PERIOD_MS * 2, record.tick)
    await eventually(lambda: len(record.ticks) >= 3)
    assert threading.active_count() <= threads, "ticks run in the loop, not in a pool"
    await schedule.stop()
    await schedule.stop()
    count = len(record.ticks)
    await asyncio.sleep(0.15)
    assert len(record.ticks) == count
    assert len(asyncio.all_tasks()) == tasks


@pytest.mark.parametrize("period_ms", [0, -1])
def test_a_period_of_nothing_is_refused(period_ms: int) -> None:
    with pytest.raises(ValueError, match="at least 1 ms"):
        AlignedSchedule(TurnedClock()).every(period_ms, print)


@pytest.mark.fault("F43")
@pytest.mark.parametrize("period_ms", [1_000, 60_000, 900_000, 3_600_000, DAY_MS])
def test_a_period_that_divides_a_day_is_aligned_to_the_utc_day(period_ms: int) -> None:
    midnight_ms = 20_000 * DAY_MS
    assert next_boundary_ms(midnight_ms - 1, period_ms) == midnight_ms
    assert next_boundary_ms(midnight_ms, period_ms) == midnight_ms + period_ms


@given(wall_ms=st.integers(-(2**40), 2**44), period_ms=st.integers(1, DAY_MS))
def test_the_trigger_never_names_a_moment_that_is_not_in_the_future(wall_ms: int, period_ms: int) -> None:
    """What keeps APScheduler from making a list of missed runs, and the next moment is a boundary of our clock."""
    clock = SystemClock(wall_ms=lambda: wall_ms)
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for previous in (None, now - datetime.timedelta(days=20_000), now):
        wait = AlignedTrigger(clock, period_ms).get_next_fire_time(previous, now) - now
        wait_ms = wait // datetime.timedelta(milliseconds=1)
        assert 0 < wait_ms <= period_ms
        assert (wall_ms + wait_ms) % period_ms == 0


async def test_where_the_kernel_names_no_boot_a_step_is_seen_all_the_same() -> None:
    class Nameless(TurnedClock):
        def uptime(self) -> None:
            return None

    clock, record = Nameless(), Record()
    async with running(clock, record) as schedule:
        clock.turn_ms += 5_000
        assert schedule.look()
    assert len(record.steps) == 1 and abs(record.steps[0] - 5_000) <= REPORT_SLACK_MS


@pytest.mark.fault("F38", "F39")
@pytest.mark.parametrize("before", ["it starts", "it looks"])
async def test_a_process_that_stands_still_between_two_clocks_sees_no_step(before: str) -> None:
    """Stopped or swapped out for longer than a step that is reported, between the readings that are compared."""

    class Halting(TurnedClock):
        halts = 0

        def wall_ms(self) -> int:
            if self.halts:
                self.halts -= 1
                time.sleep(0.6)
            return super().wall_ms()

    clock, record = Halting(), Record()
    schedule = AlignedSchedule(clock, on_step=record.steps.append, watch_s=3600)
    clock.halts = int(before == "it starts")
    schedule.start()
    clock.halts = int(before == "it looks")
    assert not schedule.look() and not schedule.look()
    await schedule.stop()
    assert record.steps == [] and clock.halts == 0
