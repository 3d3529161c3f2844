"""Waiting in a test for something that other tasks bring about."""

import asyncio
from collections.abc import Callable

STEP_S = 0.005


async def eventually(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Give other tasks turns until the condition holds; AssertionError if it does not in time."""
    for _ in range(int(within_s / STEP_S)):
        if condition():
            return
        await asyncio.sleep(STEP_S)
    raise AssertionError(f"it did not happen within {within_s} s")
