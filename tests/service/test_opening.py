"""A start that takes long: the service manager is told as long as it moves, and a stop is heard meanwhile."""

import asyncio
import logging
from dataclasses import dataclass, field

import pytest

from agent.errors import JournalDamaged, OpeningEnded
from agent.service.opening import PATIENCE_S, is_open

LOOK_S = 0.01


@dataclass
class Journal:
    """Takes its time; its steps are counted."""

    takes: int
    moves: bool = True
    steps: int = 0
    ended: bool = False
    told: list[int] = field(default_factory=list)

    def end(self) -> None:
        self.ended = True

    def starting(self, more_s: int) -> None:
        self.told.append(more_s)

    async def open(self) -> None:
        for _ in range(self.takes):
            await asyncio.sleep(LOOK_S)
            self.steps += self.moves
            if self.ended:
                raise OpeningEnded("broken off")


async def open_it(journal: Journal, stop: asyncio.Event | None = None) -> bool:
    return await is_open(journal.open, journal, journal, stop or asyncio.Event(), LOOK_S)


@pytest.mark.fault("F54")
async def test_the_service_manager_is_told_for_as_long_as_the_opening_moves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    slow = Journal(20)
    assert await open_it(slow)
    assert len(slow.told) > 3 and set(slow.told) == {PATIENCE_S}
    assert caplog.messages == ["the journal is read and judged before the start goes on"], "said once"


async def test_one_that_hangs_gets_no_more_time() -> None:
    hanging = Journal(10, moves=False)
    assert await open_it(hanging)
    assert hanging.told == []


async def test_one_that_is_quick_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    quick = Journal(0)
    assert await open_it(quick)
    assert quick.told == [] and caplog.messages == []


async def test_a_stop_breaks_it_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    endless, stop = Journal(100_000), asyncio.Event()
    asyncio.get_running_loop().call_later(3 * LOOK_S, stop.set)
    async with asyncio.timeout(60):
        assert not await open_it(endless, stop)
    assert endless.ended
    assert caplog.messages[-1] == "stopped before the journal was open"


async def test_a_stop_that_comes_too_late_to_break_it_off_counts_all_the_same() -> None:
    deaf, stop = Journal(3), asyncio.Event()
    stop.set()
    deaf.end = lambda: None  # type: ignore[method-assign]
    assert not await open_it(deaf, stop)
    assert deaf.steps == 3, "it was waited for"


async def test_what_makes_it_impossible_comes_through() -> None:
    async def damaged() -> None:
        raise JournalDamaged("not a database")

    journal = Journal(0)
    with pytest.raises(JournalDamaged, match="not a database"):
        await is_open(damaged, journal, journal, asyncio.Event(), LOOK_S)
