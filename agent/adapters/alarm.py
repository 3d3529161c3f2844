"""An alarm clock that rings when it should: the kernel's high resolution timers on the event loop.

asyncio waits in whole milliseconds of `epoll_wait`, always rounded up: a silence of 1.75 ms ends after 2.1 to 3 ms, and
at 115200 baud that is a tenth of the line. A timer that is a file descriptor (`timerfd`) wakes the same loop some 50 us
after its time, without a thread and without spinning. Used by `rtu_line` alone; where the system has no such timer, or
time is not the machine's own, the loop's timers do.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_SECOND_NS = 1_000_000_000


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm(Protocol):
    """Calls its owner at one time to come."""

    def set(self, at_ns: int) -> None:
        """Ring at this monotonic time, and not at the one set before; at once if it is over."""

    def stop(self) -> None:
        """Do not ring."""

    def close(self) -> None:
        """Never ring again."""


class LoopAlarm:
    """The event loop's own timers: late by up to a millisecond and more."""

    def __init__(self, ring: Callable[[], None], monotonic_ns: Callable[[], int]) -> None:
        self._ring = ring
        self._monotonic_ns = monotonic_ns
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_ns: int) -> None:
        """See `Alarm`."""
        self.stop()
        seconds = max(0, at_ns - self._monotonic_ns()) / _SECOND_NS
        self._handle = asyncio.get_running_loop().call_later(seconds, self._ring)

    def stop(self) -> None:
        """See `Alarm`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    close = stop


class TimerAlarm:
    """A timer of the kernel as a file descriptor that the event loop watches. Raises OSError if there is none."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._settime = _timer_function("timerfd_settime")
        self._is_set = False
        self._spec = _TimerSpec()
        self._at = ctypes.byref(self._spec)
        self._fd = _timer_function("timerfd_create")(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._on_readable)

    def set(self, at_ns: int) -> None:
        """See `Alarm`. A time of 0 would switch the timer off, so what is over rings at 1 ns."""
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(max(1, at_ns), _SECOND_NS)
        self._settime(self._fd, _ABSOLUTE, self._at, None)
        self._is_set = True

    def stop(self) -> None:
        """See `Alarm`. A timer that is set anew or off is not readable any more."""
        if not self._is_set:
            return
        self._is_set = False
        value = self._spec.value
        value.seconds = value.nanoseconds = 0
        self._settime(self._fd, _ABSOLUTE, self._at, None)

    def close(self) -> None:
        """See `Alarm`."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set to another time between ringing and being heard
        self._is_set = False
        self._ring()


def make_alarm(ring: Callable[[], None], monotonic_ns: Callable[[], int]) -> Alarm:
    """The most exact alarm there is for this clock; to be made while an event loop runs."""
    if monotonic_ns is time.monotonic_ns:
        try:
            return TimerAlarm(ring)
        except (OSError, AttributeError, NotImplementedError):
            return LoopAlarm(ring, monotonic_ns)
    return LoopAlarm(ring, monotonic_ns)


def _timer_function(name: str) -> Callable[..., int]:
    """A function of the C library. Raises AttributeError where it has none of that name."""
    function: Callable[..., int] = getattr(_LIBC, name)
    return function


_LIBC = ctypes.CDLL(None, use_errno=True)
