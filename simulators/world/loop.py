"""An event loop that never waits: when nothing is ready it jumps to the next timer.

It keeps whole nanoseconds. All of a seed's hours therefore take as long as their work, and every run of it takes the
same turns in the same order. There are no files, sockets or threads in the world, so that the loop knows timers and
what is ready, and nothing else; asyncio's own loop takes longer for what is not there.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

FIRST_NS = 1_000_000_000_000
"""What the loop's clock shows at the beginning."""
_NS = 1_000_000_000
_SOON_S = 1e-9
"""Timers that are no further away than this are due."""
_TIMERS_MIN = 100
"""With fewer timers than this nobody looks how many of them were cancelled; from here on half of them is too many."""


class _Call:
    """What is called in one of the next turns, in the context of whoever asked for it."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        """Not any more."""
        self.is_cancelled = True
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        """Whether it will never be called."""
        return self.is_cancelled


class _Timer(_Call):
    """What is called at a time."""

    __slots__ = ("_loop", "_when", "is_waiting")

    def __init__(
        self,
        loop: "WorldLoop",
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
    ) -> None:
        super().__init__(callback, args, context)
        self.is_waiting = True
        self._loop = loop
        self._when = when

    def __lt__(self, other: "_Timer") -> bool:
        return self._when < other._when

    def when(self) -> float:
        """Virtual seconds."""
        return self._when

    def cancel(self) -> None:
        """Not any more."""
        if not self.is_cancelled:
            self._loop.cancelled += self.is_waiting
        super().cancel()


class WorldLoop(asyncio.BaseEventLoop):
    """The event loop of one world."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = FIRST_NS
        self.turns = 0
        """How often the loop came round."""
        self.cancelled = 0
        """How many of the timers will never be called."""
        self._timers: list[_Timer] = []
        self._due: deque[_Call] = deque()
        self._stopping = False

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_ns / _NS

    def call_soon(  # type: ignore[override]  # what is given back can do what a handle can
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Call:
        """Call it in the next turn."""
        call = _Call(callback, args, copy_context() if context is None else context)
        self._due.append(call)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Timer:
        """Call it at a time in virtual seconds."""
        timer = _Timer(self, when, callback, args, copy_context() if context is None else context)
        heapq.heappush(self._timers, timer)
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Timer:
        """Call it after so many virtual seconds."""
        return self.call_at(self.now_ns / _NS + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """One turn: jump to the next timer if nothing is ready, then call what is."""
        due = self._due
        self._drop_cancelled()
        if not due and not self._stopping:
            if not self._timers:
                raise RuntimeError("nobody in the world has anything to do any more")
            wait_s = self._timers[0].when() - self.now_ns / _NS
            if wait_s > 0:
                self.now_ns += -int(-wait_s * _NS // 1)
        self.turns += 1
        timers, until = self._timers, self.now_ns / _NS + _SOON_S
        while timers and timers[0].when() < until:
            timer = heapq.heappop(timers)
            timer.is_waiting = False
            due.append(timer)
        for _ in range(len(due)):
            call = due.popleft()
            if call.callback is not None:
                self._call(call)

    def _drop_cancelled(self) -> None:
        timers = self._timers
        if len(timers) > _TIMERS_MIN and 2 * self.cancelled > len(timers):
            self._timers = [timer for timer in timers if not timer.is_cancelled]
            heapq.heapify(self._timers)
            self.cancelled = 0
            return
        while timers and timers[0].is_cancelled:
            heapq.heappop(timers)
            self.cancelled -= 1

    def _call(self, call: _Call) -> None:
        assert call.callback is not None
        try:
            call.context.run(call.callback, *call.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # as every loop of asyncio does
            self.call_exception_handler({"message": f"an error in {call.callback}", "exception": error})
