"""Ticks at whole multiples of a period of UTC, whatever the wall clock does.

APScheduler follows the wall clock blindly. Set back by two minutes it is silent for two minutes; set forward by a month
it makes a list of every run it missed, and a gateway that boots in 1970 would die of that list. Three things cure it:

* `AlignedTrigger` names the first boundary strictly after *now* and nothing before, so there is no list to make.
* It asks our own clock how long that is and hands APScheduler a moment of *its* clock. So the schedule follows the
  clock that was injected, and a test can turn that clock without touching the machine's.
* A watcher compares wall minus monotonic time once a second. When that moved by more than 0.5 s somebody has set the
  clock, or the machine slept: every tick is planned anew. A clock that was set is reported through `on_step`; sleep,
  which the time since the boot counts and the monotonic clock does not, is no step: all labels stay right.

After a step the next tick comes within one period (and the second until the watcher looks), at a boundary of the new
time. Boundaries that were jumped over are not made up for; after a step back the same boundary comes a second time.
That is why nothing downstream may use a boundary as a key: intervals are numbered.

The one module that imports apscheduler. Comes before: `agent.adapters.clock`. Comes after: the poll and close stages,
whose tick functions only wake a worker.
"""

import asyncio
import datetime
import logging
from collections.abc import Callable
from typing import TypeVar

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.service.logline import pairs
from agent.service.ports import Clock

WATCH_S = 1.0
STEP_MIN_MS = 500
CALM_NS = 100_000_000
"""Two clocks that are to be compared are read within so long; a process that stood still between has to read anew."""
CALM_TRIES = 5

_log = logging.getLogger(__name__)

T = TypeVar("T")
Tick = Callable[[int], None]
OnStep = Callable[[int], None]


def next_boundary_ms(wall_ms: int, period_ms: int) -> int:
    """The first multiple of `period_ms` since the Unix epoch that is later than `wall_ms`."""
    return (wall_ms // period_ms + 1) * period_ms


class AlignedTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """Fires at the multiples of a period on the injected clock."""

    def __init__(self, clock: Clock, period_ms: int) -> None:
        self._clock = clock
        self._period_ms = period_ms

    def get_next_fire_time(
        self, previous_fire_time: datetime.datetime | None, now: datetime.datetime
    ) -> datetime.datetime:
        """The moment, on the scheduler's own clock that shows `now`, at which the injected clock reaches a boundary.

        Always later than `now`, so that the scheduler never finds a second missed run to make up for.
        """
        wall_ms = self._clock.wall_ms()
        return now + datetime.timedelta(milliseconds=next_boundary_ms(wall_ms, self._period_ms) - wall_ms)


class _Ticker:
    """One period: keeps a boundary from being ticked twice."""

    def __init__(self, schedule: "AlignedSchedule", period_ms: int, tick: Tick) -> None:
        self.period_ms = period_ms
        self.last_ms = 0
        self._schedule = schedule
        self._tick = tick

    def begin(self) -> None:
        """The schedule starts, or the clock was set: what lies behind is not ticked, not even by an early timer."""
        self.last_ms = self._schedule.wall_ms() // self.period_ms * self.period_ms

    async def fire(self) -> None:
        """Called by APScheduler; a coroutine, because it runs plain functions in a thread of its own."""
        if self._schedule.look():
            return  # somebody has set the clock since this run was planned; it has been planned anew
        boundary_ms = self._schedule.wall_ms() // self.period_ms * self.period_ms
        # A timer that is early by a fraction of a ms, or a step too small to be reported, brings the boundary that was
        # ticked last (or one just before it) again. The next one is planned already.
        if boundary_ms <= self.last_ms:
            return
        self.last_ms = boundary_ms
        self._tick(boundary_ms)


class AlignedSchedule:
    """Calls functions at aligned moments in the running event loop.

    `on_step(offset_ms)` is told how far the wall clock was set (positive: forward), counted from the last report.
    """

    def __init__(self, clock: Clock, *, on_step: OnStep | None = None, watch_s: float = WATCH_S) -> None:
        self._clock = clock
        self._on_step = on_step
        self._watch_s = watch_s
        self._offset_ms = self._wall_minus_monotonic_ms()
        self._set_ms = self._wall_minus_uptime_ms()
        self._tickers: dict[str, _Ticker] = {}
        self._watcher: asyncio.Task[None] | None = None
        # Its own log lines (one for every run, and a second one for every error) say nothing that ours do not.
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
        self._scheduler = AsyncIOScheduler(
            timezone=datetime.UTC,
            jobstores={"default": MemoryJobStore()},
            executors={"default": AsyncIOExecutor()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(
            self._report, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES
        )

    def every(self, period_ms: int, tick: Tick) -> None:
        """Call `tick(boundary_ms)` at each wall-clock multiple of `period_ms` (>= 1) since the Unix epoch.

        A period that divides a day is so aligned to the UTC day. `tick` runs in the event loop and must be quick;
        what it raises is logged and the next tick comes all the same. A loop that was blocked over several
        boundaries gets one tick, for the last of them. May be called before and after `start`.
        """
        if period_ms < 1:
            raise ValueError(f"a period is at least 1 ms, not {period_ms}")
        name = f"every {period_ms} ms, number {len(self._tickers) + 1}"
        ticker = self._tickers[name] = _Ticker(self, period_ms, tick)
        ticker.begin()
        self._scheduler.add_job(ticker.fire, AlignedTrigger(self._clock, period_ms), id=name, name=name)

    def start(self) -> None:
        """Begin to tick; needs a running event loop."""
        self._offset_ms = self._wall_minus_monotonic_ms()
        self._set_ms = self._wall_minus_uptime_ms()
        for ticker in self._tickers.values():
            ticker.begin()
        self._scheduler.start()
        self._watcher = asyncio.get_running_loop().create_task(self._watch(), name="clock step watcher")

    async def stop(self) -> None:
        """No tick comes after this has returned. Harmless when it never started."""
        if self._watcher is None:
            return
        self._watcher.cancel()
        await asyncio.wait({self._watcher})
        self._watcher = None
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=False)
        await asyncio.sleep(0)  # APScheduler shuts down in the next turn of the loop

    def wall_ms(self) -> int:
        """The wall clock that the ticks follow."""
        return self._clock.wall_ms()

    def look(self) -> bool:
        """Look whether the wall clock was set; if so report it, plan all ticks anew and return True."""
        offset_ms, set_ms = self._wall_minus_monotonic_ms(), self._wall_minus_uptime_ms()
        moved_ms, step_ms = offset_ms - self._offset_ms, set_ms - self._set_ms
        if max(abs(moved_ms), abs(step_ms)) <= STEP_MIN_MS:
            return False
        self._offset_ms, self._set_ms = offset_ms, set_ms
        self._plan_anew()
        if abs(moved_ms - step_ms) > STEP_MIN_MS:
            slept_ms = moved_ms - step_ms
            _log.warning(
                "the machine slept; all ticks are planned anew", extra=pairs("M1505", slept_ms=slept_ms)
            )
        if abs(step_ms) > STEP_MIN_MS:
            _log.warning(
                "the wall clock was set; all ticks are planned anew", extra=pairs("M1501", step_ms=step_ms)
            )
            if self._on_step is not None:
                self._on_step(step_ms)
        return True

    def _plan_anew(self) -> None:
        for name, ticker in self._tickers.items():
            ticker.begin()
            self._scheduler.reschedule_job(name, trigger=AlignedTrigger(self._clock, ticker.period_ms))

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(self._watch_s)
            try:
                self.look()
            except Exception:  # noqa: BLE001  # whatever `on_step` raises must not end the watch
                _log.exception("the report of a clock step failed", extra=pairs("M1502"))

    def _report(self, event: JobEvent) -> None:
        if event.code == EVENT_JOB_ERROR:
            _log.error(
                "a tick failed; the next one comes",
                exc_info=event.exception,
                extra=pairs("M1503", tick=event.job_id, reason=repr(event.exception)),
            )
        else:
            _log.warning(
                "a tick was skipped, because the one before had not ended",
                extra=pairs("M1504", tick=event.job_id),
            )

    def _wall_minus_uptime_ms(self) -> int:
        """Moves only when the wall clock is set; where the kernel names no boot, sleep cannot be told from that."""
        uptime, wall_ms = self._at_once(self._clock.uptime)
        return self._wall_minus_monotonic_ms() if uptime is None else wall_ms - uptime.ms

    def _wall_minus_monotonic_ms(self) -> int:
        now_ns, wall_ms = self._at_once(self._clock.monotonic_ns)
        return wall_ms - now_ns // 1_000_000

    def _at_once(self, read: Callable[[], T]) -> tuple[T, int]:
        """Another clock and the wall clock; else a process without a processor for a second would see a step."""
        for _ in range(CALM_TRIES):
            begun_ns = self._clock.monotonic_ns()
            found = read(), self._clock.wall_ms()
            if self._clock.monotonic_ns() - begun_ns <= CALM_NS:
                break
        return found
