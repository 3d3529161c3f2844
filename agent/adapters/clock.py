"""The machine's clocks, and how far the wall clock deserves to be trusted.

Cadence comes from the monotonic clock, labels come from the wall clock, and no kWh depends on either. So a
doubtful wall clock is never an error: it is a letter in every batch (`clock.sync`) with a bound beside it.

    S  synchronised. The kernel says that a time service steers it (no STA_UNSYNC) and its own bound on the error
       is at most 2 s. The kernel lets that bound grow by 500 ppm from update to update, so a larger one means that
       the time service was last heard of more than an hour ago. Error = the kernel's bound.
    H  holdover. It was S since this process began (or still is in the kernel's eyes, with a bound over 2 s), and
       the wall clock has not been stepped since. Error = last known bound + 200 ppm of the time gone by. Ends
       in U when that exceeds five minutes, which takes 17 days.
    U  unknown. Never synchronised since this process began, stepped by somebody while not synchronised, outside
       the range that a wall clock can show (before the build date, or 20 years after it), or the kernel would not say.

The build date is the only floor of a wall clock that we rely on: a gateway without a battery clock boots in 1970,
and nothing that was written by a wrong clock may raise that floor. chrony clears STA_UNSYNC only with `rtcsync`
in its configuration (Debian's default has it); systemd-timesyncd and ntpd always do.

Comes before: the kernel. Comes after: every stage, through `agent.service.ports.Clock`.
"""

import asyncio
import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.service.ports import ClockQuality, Uptime

# 2026-11-22T00:00:00Z. No wall clock can be right and show less. Moved forward with every release.
BUILD_DATE_MS = 1_795_305_600_000
# A wall clock 20 years after the build date is as wrong as one before it (a battery clock with a flipped bit).
WALL_MAX_MS = BUILD_DATE_MS + 20 * 8766 * 3600 * 1000
# What `err_ms` says when there is no bound at all; the largest number every reader can hold. Never zero.
ERR_UNKNOWN_MS = 2**31 - 1

SYNCHRONISED_ERR_MAX_MS = 2_000
HOLDOVER_ERR_MAX_MS = 300_000
HOLDOVER_DRIFT_PPM = 200
STEP_MIN_MS = 500

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class KernelTime:
    """What the kernel's clock discipline says: is it steered, and the largest error it thinks possible."""

    synchronised: bool
    maxerror_us: int


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` (adjtimex(2)), which is the same on every Linux, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def read_kernel_time() -> KernelTime | None:
    """Ask the kernel with adjtimex(2), changing nothing; None when it would not say (a seccomp filter, no Linux)."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    timex = _Timex(modes=0)
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        return None
    unsynchronised = state == _TIME_ERROR or bool(timex.status & _STA_UNSYNC)
    return KernelTime(synchronised=not unsynchronised, maxerror_us=timex.maxerror)


def read_wall_ms() -> int:
    """UTC Unix time in whole ms."""
    return time.time_ns() // 1_000_000


def read_boottime_ns() -> int:
    """CLOCK_BOOTTIME: time since the machine was started, the time it slept included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Anchor:
    """The last moment at which the wall clock was known to be good."""

    monotonic_ns: int
    offset_ms: int  # wall minus monotonic; it changes only when somebody steps the wall clock
    err_ms: int


class SystemClock:
    """`agent.service.ports.Clock` over the machine's own clocks.

    The four sources are parameters for the tests only. `quality()` remembers the last good moment, so that it can
    tell a clock that has lost its time service from one that never had any; ask it at least once an interval.
    """

    def __init__(
        self,
        *,
        wall_ms: Callable[[], int] = read_wall_ms,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        kernel_time: Callable[[], KernelTime | None] = read_kernel_time,
        boottime_ns: Callable[[], int] = read_boottime_ns,
    ) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ns = monotonic_ns
        self._kernel_time = kernel_time
        self._boottime_ns = boottime_ns
        self._boot = boot_id()
        self._anchor: _Anchor | None = None

    def wall_ms(self) -> int:
        """UTC Unix time in ms; may step in both directions."""
        return self._wall_ms()

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC: never steps, and stands still while the machine sleeps."""
        return self._monotonic_ns()

    def uptime(self) -> Uptime | None:
        """CLOCK_BOOTTIME, which goes on while the machine sleeps, and the kernel's name of this boot."""
        return None if self._boot is None else Uptime(self._boot, self._boottime_ns() // 1_000_000)

    async def sleep(self, seconds: float) -> None:
        """Wait in monotonic time; 0 and less only lets others run."""
        await asyncio.sleep(max(0, seconds))

    def quality(self) -> ClockQuality:
        """State S, H or U by the rules above, and the bound of the error in ms."""
        wall_ms, now_ns = self._wall_ms(), self._monotonic_ns()
        kernel = self._kernel_time()
        if kernel is None or not BUILD_DATE_MS <= wall_ms <= WALL_MAX_MS:
            self._anchor = None
            return ClockQuality("U", ERR_UNKNOWN_MS)
        offset_ms = wall_ms - now_ns // 1_000_000
        if kernel.synchronised:
            err_ms = -(-kernel.maxerror_us // 1000)
            self._anchor = _Anchor(now_ns, offset_ms, err_ms)
            return ClockQuality("S" if err_ms <= SYNCHRONISED_ERR_MAX_MS else "H", err_ms)
        return self._holdover(now_ns, offset_ms)

    def _holdover(self, now_ns: int, offset_ms: int) -> ClockQuality:
        anchor = self._anchor
        if anchor is not None and abs(offset_ms - anchor.offset_ms) <= STEP_MIN_MS:
            # 1 ns x 200 ppm / 1e6 ns per ms, rounded up.
            drift_ms = -((anchor.monotonic_ns - now_ns) * HOLDOVER_DRIFT_PPM // 10**12)
            err_ms = anchor.err_ms + abs(offset_ms - anchor.offset_ms) + drift_ms
            if err_ms <= HOLDOVER_ERR_MAX_MS:
                return ClockQuality("H", err_ms)
        self._anchor = None
        return ClockQuality("U", ERR_UNKNOWN_MS)


def boot_id() -> str | None:
    """The kernel's random id of this boot (36 characters), None where there is none; names a provisional clock."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(64).strip() or None
    except (OSError, UnicodeDecodeError):
        return None
