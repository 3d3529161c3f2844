"""When the wall clock is called synchronised, holding over, or unknown."""

import ctypes
import os
import subprocess
import sys

import pytest

from agent.adapters.clock import (
    BUILD_DATE_MS,
    ERR_UNKNOWN_MS,
    WALL_MAX_MS,
    KernelTime,
    SystemClock,
    boot_id,
    read_kernel_time,
    read_wall_ms,
)
from agent.service.ports import ClockQuality

HOUR_S = 3600
DAY_S = 24 * HOUR_S
UNKNOWN = ClockQuality("U", ERR_UNKNOWN_MS)
UNSYNCHRONISED = KernelTime(synchronised=False, maxerror_us=16_000_000)


class Machine:
    """A machine whose clocks a test turns by hand."""

    def __init__(self) -> None:
        self.wall_ms = BUILD_DATE_MS + 1_000_000
        self.monotonic_ns = 5_000_000_000
        self.kernel: KernelTime | None = KernelTime(synchronised=True, maxerror_us=12_345)
        self.clock = SystemClock(
            wall_ms=lambda: self.wall_ms,
            monotonic_ns=lambda: self.monotonic_ns,
            kernel_time=lambda: self.kernel,
        )

    def run(self, seconds: int) -> None:
        self.wall_ms += seconds * 1000
        self.monotonic_ns += seconds * 10**9


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_steered_clock_is_synchronised_with_the_kernels_own_bound(machine: Machine) -> None:
    assert machine.clock.quality() == ClockQuality("S", 13)  # rounded up: a bound may not shrink


def test_a_clock_without_news_for_more_than_an_hour_is_holding_over(machine: Machine) -> None:
    machine.kernel = KernelTime(synchronised=True, maxerror_us=2_000_000)
    assert machine.clock.quality() == ClockQuality("S", 2000)
    machine.kernel = KernelTime(synchronised=True, maxerror_us=2_000_001)
    assert machine.clock.quality() == ClockQuality("H", 2001)


@pytest.mark.fault("F40")
def test_a_clock_that_never_was_synchronised_is_unknown(machine: Machine) -> None:
    machine.kernel = UNSYNCHRONISED
    assert machine.clock.quality() == UNKNOWN


@pytest.mark.fault("F41")
def test_holdover_grows_by_200_ppm_and_ends_after_seventeen_days(machine: Machine) -> None:
    machine.clock.quality()
    machine.kernel = UNSYNCHRONISED
    machine.run(HOUR_S)
    assert machine.clock.quality() == ClockQuality("H", 13 + 720)
    machine.run(16 * DAY_S)
    quality = machine.clock.quality()
    assert (quality.sync, quality.err_ms) == ("H", 13 + 720 + 16 * DAY_S // 5)
    machine.run(2 * DAY_S)
    assert machine.clock.quality() == UNKNOWN
    machine.kernel = KernelTime(synchronised=True, maxerror_us=1)
    assert machine.clock.quality() == ClockQuality("S", 1)


@pytest.mark.parametrize("step_ms", [-120_000, -501, 501, 30 * DAY_S * 1000])
def test_somebody_who_sets_the_clock_ends_the_holdover(machine: Machine, step_ms: int) -> None:
    machine.clock.quality()
    machine.kernel = UNSYNCHRONISED
    machine.run(10)
    machine.wall_ms += step_ms
    assert machine.clock.quality() == UNKNOWN
    machine.wall_ms -= step_ms
    assert machine.clock.quality() == UNKNOWN, "a second step cannot prove the first one right"


def test_a_small_step_in_holdover_widens_the_bound(machine: Machine) -> None:
    machine.clock.quality()
    machine.kernel = UNSYNCHRONISED
    machine.wall_ms -= 400
    assert machine.clock.quality() == ClockQuality("H", 413)


def test_a_step_while_synchronised_is_the_time_service_at_work(machine: Machine) -> None:
    machine.clock.quality()
    machine.wall_ms += 120_000
    assert machine.clock.quality().sync == "S"


@pytest.mark.fault("F40", "F45")
@pytest.mark.parametrize("wall_ms", [0, 1000, BUILD_DATE_MS - 1, WALL_MAX_MS + 1, 2**62])
def test_a_wall_clock_outside_its_possible_range_is_unknown_whatever_the_kernel_says(
    machine: Machine, wall_ms: int
) -> None:
    machine.wall_ms = wall_ms
    assert machine.clock.quality() == UNKNOWN


@pytest.mark.fault("F45")
@pytest.mark.parametrize("wall_ms", [BUILD_DATE_MS, 2**31 * 1000, WALL_MAX_MS])
def test_the_range_holds_the_build_date_and_the_year_2038(machine: Machine, wall_ms: int) -> None:
    machine.wall_ms = wall_ms
    assert machine.clock.quality().sync == "S"


def test_a_silent_kernel_means_unknown_and_forgets_the_holdover(machine: Machine) -> None:
    machine.clock.quality()
    machine.kernel = None
    assert machine.clock.quality() == UNKNOWN
    machine.kernel = UNSYNCHRONISED
    assert machine.clock.quality() == UNKNOWN


def test_the_build_date_is_not_in_the_future_of_this_machine() -> None:
    assert read_wall_ms() >= BUILD_DATE_MS, "move BUILD_DATE_MS only to the day of the release"


def test_the_kernel_is_asked_the_way_another_program_asks_it() -> None:
    """The status word at its place in the whole structure, read through a second, independent layout."""
    ours = read_kernel_time()
    raw = ctypes.create_string_buffer(1024)
    state = ctypes.CDLL(None).adjtimex(raw)
    if state < 0:
        assert ours is None
        return
    assert ours is not None
    word = ctypes.sizeof(ctypes.c_long)
    maxerror = ctypes.c_long.from_buffer(raw, 3 * word).value
    status = ctypes.c_int.from_buffer(raw, 5 * word).value
    assert ours.synchronised is (state != 5 and not status & 0x40)
    assert 0 <= maxerror - ours.maxerror_us <= 500  # the kernel adds 500 us each second


def test_a_kernel_that_refuses_is_no_crash() -> None:
    """A seccomp filter of a hardened unit answers EPERM; here the function is taken away altogether."""
    program = (
        "import ctypes\n"
        "ctypes.CDLL = lambda *a, **k: object()\n"
        "from agent.adapters.clock import SystemClock\n"
        "print(SystemClock().quality().sync)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    assert done.stdout.strip() == "U"


def test_the_boot_has_an_id_that_stays() -> None:
    first = boot_id()
    assert first == boot_id()
    assert first is None or len(first) == 36
