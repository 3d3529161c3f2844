"""What every clock must do, whether it is the machine's or the simulated world's."""

import asyncio
from collections.abc import Callable

import pytest

from agent.adapters.clock import SystemClock
from agent.service.ports import Clock

# Every implementation that lives in real time. The simulated world's clock, which nobody can wait for, joins with its
# own waiting function when the world lands.
CLOCKS: list[Callable[[], Clock]] = [SystemClock]


@pytest.fixture(params=CLOCKS, ids=lambda make: make.__name__)
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_monotonic_time_never_goes_back(clock: Clock) -> None:
    seen = [clock.monotonic_ns() for _ in range(1000)]
    assert seen == sorted(seen)
    assert all(isinstance(value, int) for value in seen)


def test_wall_time_is_whole_milliseconds_of_unix_time(clock: Clock) -> None:
    wall_ms = clock.wall_ms()
    assert isinstance(wall_ms, int)
    assert abs(clock.wall_ms() - wall_ms) < 5_000


async def test_sleep_lasts_its_time_in_monotonic_time(clock: Clock) -> None:
    begun_ns = clock.monotonic_ns()
    await clock.sleep(0.02)
    # The event loop may end a sleep early by the resolution of its clock.
    assert clock.monotonic_ns() - begun_ns >= 19_000_000


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_sleep_of_nothing_lets_others_run(clock: Clock, seconds: float) -> None:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await clock.sleep(seconds)
    assert ran.is_set()


def test_quality_is_one_of_three_letters_with_a_bound(clock: Clock) -> None:
    quality = clock.quality()
    assert quality.sync in ("S", "H", "U")
    assert isinstance(quality.err_ms, int)
    assert 0 <= quality.err_ms <= 2**31 - 1


def test_the_time_since_the_machine_was_started_has_a_name_and_only_grows(clock: Clock) -> None:
    uptimes = [clock.uptime() for _ in range(100)]
    assert all(uptime is not None and uptime.boot for uptime in uptimes)
    seen = [uptime.ms for uptime in uptimes if uptime is not None]
    assert seen == sorted(seen) and all(isinstance(value, int) for value in seen)
    assert len({uptime.boot for uptime in uptimes if uptime is not None}) == 1
    # Sleep counts, so it is never behind the monotonic clock.
    assert seen[-1] >= 0 and clock.monotonic_ns() // 1_000_000 <= seen[-1] + 60_000
