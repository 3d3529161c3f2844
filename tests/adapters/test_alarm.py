"""The alarm rings once, at its time and not before; set anew it forgets what it was set to."""

import asyncio
import gc
import os
import time
from collections.abc import Callable

import pytest

from agent.adapters.alarm import Alarm, LoopAlarm, TimerAlarm, make_alarm
from tests.support.eventually import eventually

MS = 1_000_000
Make = Callable[[Callable[[], None]], Alarm]


@pytest.fixture(params=[TimerAlarm, lambda ring: LoopAlarm(ring, time.monotonic_ns)], ids=["timer", "loop"])
def make(request: pytest.FixtureRequest) -> Make:
    chosen: Make = request.param
    return chosen


async def test_it_rings_once_and_not_too_early(make: Make) -> None:
    rung: list[int] = []
    alarm = make(lambda: rung.append(time.monotonic_ns()))
    at_ns = time.monotonic_ns() + 20 * MS
    alarm.set(at_ns)
    await eventually(lambda: bool(rung))
    await asyncio.sleep(0.05)
    alarm.close()
    assert len(rung) == 1 and rung[0] >= at_ns - MS // 10


async def test_the_last_setting_counts(make: Make) -> None:
    rung: list[int] = []
    alarm = make(lambda: rung.append(time.monotonic_ns()))
    begun_ns = time.monotonic_ns()
    alarm.set(begun_ns + 5 * MS)
    alarm.set(begun_ns + 40 * MS)
    await eventually(lambda: bool(rung))
    await asyncio.sleep(0.05)
    alarm.close()
    assert len(rung) == 1 and rung[0] >= begun_ns + 39 * MS


async def test_stopped_or_closed_it_does_not_ring(make: Make) -> None:
    rung: list[int] = []
    for end in ("stop", "close"):
        alarm = make(lambda: rung.append(1))
        alarm.set(time.monotonic_ns() + 5 * MS)
        getattr(alarm, end)()
        await asyncio.sleep(0.03)
        alarm.close()
    assert rung == []


@pytest.mark.parametrize("at_ns", [0, 1, 10 * MS])
async def test_a_time_that_is_over_rings_at_once(make: Make, at_ns: int) -> None:
    rung = asyncio.Event()
    alarm = make(rung.set)
    alarm.set(at_ns)
    await asyncio.wait_for(rung.wait(), 30)
    alarm.close()


async def test_it_may_be_set_again_while_it_rings(make: Make) -> None:
    rung: list[int] = []

    def ring() -> None:
        rung.append(1)
        if len(rung) < 5:
            alarm.set(time.monotonic_ns() + MS)

    alarm = make(ring)
    alarm.set(time.monotonic_ns())
    await eventually(lambda: len(rung) >= 5)
    await asyncio.sleep(0.02)
    alarm.close()
    assert len(rung) == 5


async def test_no_descriptor_is_left_behind() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    make_alarm(lambda: None, time.monotonic_ns).close()
    gc.collect()  # what other tests have left is not closed in the middle of this one
    before = descriptors()
    for _ in range(50):
        alarm = make_alarm(lambda: None, time.monotonic_ns)
        alarm.set(time.monotonic_ns() + MS)
        alarm.close()
        alarm.close()
    assert descriptors() <= before


async def test_a_clock_that_is_not_the_machines_gets_the_timers_of_the_loop() -> None:
    assert isinstance(make_alarm(lambda: None, lambda: 0), LoopAlarm)
    exact = make_alarm(lambda: None, time.monotonic_ns)
    assert isinstance(exact, TimerAlarm)
    exact.close()
