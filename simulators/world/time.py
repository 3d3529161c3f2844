"""Time of the simulated world: true time by its event loop, a wall clock that is set, boundaries that follow it."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agent.service.ports import ClockQuality, Uptime
from simulators.world.loop import FIRST_NS, WorldLoop

T = TypeVar("T")
START_MS = 1_796_040_000_000
"""True time at the beginning of every world: later than the build date, at noon UTC."""
STEP_MIN_MS = 500
"""A smaller change of the wall clock is drift and not a step."""
WATCH_MS = 1000
UNKNOWN_ERR_MS = 2**31 - 1
S_ERR_MS = 2_000
"""What a steered clock states; the drift of two hours stays below it."""


def run_in_world(main: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own.

    Tasks of a killed agent lie in cycles of references. Were they cleared away whenever the interpreter sees fit, their
    last words would come at a moment that no seed decides, so that is put off to the end.
    """
    was_collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=WorldLoop) as runner:
            return runner.run(main)
    finally:
        if was_collecting:
            gc.enable()


class Time:
    """True time, as nature and the platform know it.

    While the machine is suspended the factory goes on and the gateway's monotonic clock stands still.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WorldLoop)
        self._loop = loop
        self._slept_ms = 0
        self.clocks: list[GatewayClock] = []
        """Those that follow this time."""

    @property
    def slept_ms(self) -> int:
        """For how long the machine was suspended."""
        return self._slept_ms

    @slept_ms.setter
    def slept_ms(self, slept_ms: int) -> None:
        self._slept_ms = slept_ms
        for each in self.clocks:
            each.was_set()

    @property
    def ns(self) -> int:
        """Nanoseconds that the loop has run, from `FIRST_NS`."""
        return self._loop.now_ns

    @property
    def turns(self) -> int:
        """How often the event loop has come round."""
        return self._loop.turns

    @property
    def seconds(self) -> int:
        """Whole seconds since the beginning, without sleep."""
        return (self._loop.now_ns - FIRST_NS) // 1_000_000_000

    def wall_ms(self) -> int:
        """UTC Unix ms; the platform's clock."""
        return START_MS + (self._loop.now_ns - FIRST_NS) // 1_000_000 + self.slept_ms


class GatewayClock:
    """`agent.service.ports.Clock` of one gateway: true time, and how wrong it is.

    `error_ms` is added to the true time; `unset` makes it begin in 1970, until a time service sets it right.
    `drift_ppm` lets the label of a reading wander.
    """

    def __init__(self, time: Time) -> None:
        self._time = time
        self._error_ms = 0
        self.drift_ppm = 0
        self.boots = 1
        """How often the machine was started."""
        self.sync = "S"
        self.on_set: list[Callable[[], None]] = []
        """Called when somebody has set it, or the machine has slept."""
        time.clocks.append(self)

    @property
    def error_ms(self) -> int:
        """What is added to the true time."""
        return self._error_ms

    @error_ms.setter
    def error_ms(self, error_ms: int) -> None:
        self._error_ms = error_ms
        self.was_set()

    def was_set(self) -> None:
        """Tell those who watch."""
        for each in self.on_set:
            each()

    def unset(self) -> None:
        """The machine boots without a battery for its clock."""
        self.error_ms = 60_000 - self._time.wall_ms()
        self.sync = "U"

    def set_right(self) -> None:
        """A time service was reached."""
        self.error_ms = 0
        self.sync = "S"

    def wall_ms(self) -> int:
        """What the gateway believes."""
        drift_ms = (self._time.ns - FIRST_NS) // 1_000_000 * self.drift_ppm // 1_000_000
        return self._time.wall_ms() + self.error_ms + drift_ms

    def monotonic_ns(self) -> int:
        """Never set by anybody."""
        return self._time.ns

    def uptime(self) -> Uptime | None:
        """True time since the power came, sleep included."""
        return Uptime(f"boot-{self.boots}", self._time.ns // 1_000_000 + self._time.slept_ms)

    def quality(self) -> ClockQuality:
        """State and bound of the error; a clock that somebody has set is no longer steered by the time service."""
        sync = "U" if self._error_ms else self.sync
        return ClockQuality(sync, UNKNOWN_ERR_MS if sync == "U" else S_ERR_MS)

    async def sleep(self, seconds: float) -> None:
        """Wait in monotonic time."""
        await asyncio.sleep(max(0, seconds))


class WorldSchedule:
    """`agent.service.ports.Schedule` with the behaviour of `agent.adapters.schedule.AlignedSchedule`, without its
    library (one contract suite for both): ticks at multiples of a period of the gateway's clock, a watcher that looks
    once a second whether the clock was set or the machine slept, and no burst and no silence after that. The watcher
    looks only where there is something to see: in the second after it happened.
    """

    def __init__(self, clock: GatewayClock, on_step: Callable[[int], None]) -> None:
        self._clock = clock
        self._on_step = on_step
        self._offset_ms = self._wall_minus_monotonic_ms()
        self._set_ms = self._wall_minus_uptime_ms()
        self._ticks: list[tuple[int, Callable[[int], None]]] = []
        self._last_ms: dict[int, int] = {}
        self._handles: dict[int, asyncio.TimerHandle] = {}
        self._watcher: asyncio.TimerHandle | None = None
        self._begun_ns = 0
        self._running = False

    def every(self, period_ms: int, tick: Callable[[int], None]) -> None:
        """Call `tick(boundary_ms)` at each multiple of the period."""
        self._ticks.append((period_ms, tick))
        if self._running:
            self._begin(len(self._ticks) - 1)

    def start(self) -> None:
        """Begin to tick."""
        self._running = True
        self._offset_ms = self._wall_minus_monotonic_ms()
        self._set_ms = self._wall_minus_uptime_ms()
        for number in range(len(self._ticks)):
            self._begin(number)
        self._begun_ns = self._clock.monotonic_ns()
        self._clock.on_set.append(self._look_soon)

    async def stop(self) -> None:
        """No tick comes after this."""
        if self._running:
            self._clock.on_set.remove(self._look_soon)
        self._running = False
        for handle in self._handles.values():
            handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self, number: int) -> None:
        period_ms = self._ticks[number][0]
        self._last_ms[number] = self._clock.wall_ms() // period_ms * period_ms
        self._plan(number)

    def _plan(self, number: int) -> None:
        if number in self._handles:
            self._handles[number].cancel()
        period_ms = self._ticks[number][0]
        wait_ms = period_ms - self._clock.wall_ms() % period_ms
        loop = asyncio.get_running_loop()
        self._handles[number] = loop.call_later(wait_ms / 1000, self._fire, number)

    def _fire(self, number: int) -> None:
        if not self._running or self._look():
            return
        period_ms, tick = self._ticks[number]
        self._plan(number)
        boundary_ms = self._clock.wall_ms() // period_ms * period_ms
        if boundary_ms <= self._last_ms[number]:
            return
        self._last_ms[number] = boundary_ms
        tick(boundary_ms)

    def _look_soon(self) -> None:
        """The watcher looks at whole seconds since the start."""
        if self._watcher is not None:
            self._watcher.cancel()
        running_ms = (self._clock.monotonic_ns() - self._begun_ns) // 1_000_000
        wait_ms = WATCH_MS - running_ms % WATCH_MS
        self._watcher = asyncio.get_running_loop().call_later(wait_ms / 1000, self._look)

    def _look(self) -> bool:
        offset_ms, set_ms = self._wall_minus_monotonic_ms(), self._wall_minus_uptime_ms()
        moved_ms, step_ms = offset_ms - self._offset_ms, set_ms - self._set_ms
        if max(abs(moved_ms), abs(step_ms)) <= STEP_MIN_MS:
            return False
        self._offset_ms, self._set_ms = offset_ms, set_ms
        for number in range(len(self._ticks)):
            self._begin(number)
        if abs(step_ms) > STEP_MIN_MS:
            self._on_step(step_ms)
        return True

    def _wall_minus_uptime_ms(self) -> int:
        uptime = self._clock.uptime()
        assert uptime is not None
        return self._clock.wall_ms() - uptime.ms

    def _wall_minus_monotonic_ms(self) -> int:
        return self._clock.wall_ms() - self._clock.monotonic_ns() // 1_000_000
