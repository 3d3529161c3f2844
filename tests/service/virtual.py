"""An event loop whose time passes only when nothing is left to do: hours of waiting in milliseconds, always the same.

File descriptors work as ever (what is readable is read first), so a real socket can listen while time runs.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from agent.service.ports import ClockQuality, Uptime

T = TypeVar("T")
NOON_MS = 1_763_812_800_000


class _Selector(selectors.DefaultSelector):
    """Looks without waiting; a wait becomes a jump of the time."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            ready = super().select(1)  # only another thread can wake us
        elif not ready and timeout:
            self.loop.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 1000 s."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_s


class VirtualClock:
    """`agent.service.ports.Clock` on the running virtual loop."""

    def wall_ms(self) -> int:
        return NOON_MS + self.monotonic_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return int(asyncio.get_running_loop().time() * 1_000_000_000)

    def uptime(self) -> Uptime | None:
        return Uptime("virtual", self.monotonic_ns() // 1_000_000)

    def quality(self) -> ClockQuality:
        return ClockQuality("S", 10)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The running one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
