"""The first reading, of a new journal or behind a position that tells nothing: one wrong answer must not get in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.metering.decode import encode
from agent.service.boundary import Boundary
from agent.service.clocking import moment_of
from agent.service.close import Sample
from agent.service.journal import Standing
from tests.service.bench import MINUTE_MS, Bench, two_meters
from tests.service.test_boundary_doubt import Shelf
from tests.service.test_publish import OwnThread
from tests.service.test_restore import opened, restore

HOUR_MS = 60 * MINUTE_MS
BIT = 1 << 12
"""One bit of a register that was read wrongly: 40.96 MWh, what 40 kW use in 43 days."""


class Worker:
    """One meter that gives the next of these counts each time it is read; None is no answer."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.answers: list[int | None] = []
        self.asked_who = 0

    def sweep(self, only: object = None) -> Shelf:
        """Read it."""
        self.bench.clock.now_ms += 40
        self.bench.clock.up_ms += 40
        count = self.answers.pop(0)
        shelf = Shelf([] if count is None else [self._sample(count)])
        shelf.finish()
        return shelf

    def _sample(self, count: int) -> Sample:
        meter, clock = self.bench.meters[0], self.bench.clock
        words = encode(meter.profile.energy, count)
        return Sample(meter.id, words, clock.now_ms, meter.serial, False, when=moment_of(clock))

    def identify_again(self, meter: str) -> None:
        """It has to say who it is."""
        self.asked_who += 1


class Hall:
    """A bench whose boundaries read that meter."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.worker = Worker(bench)
        self.boundary = Boundary(
            [self.worker],  # type: ignore[list-item]  # a worker as far as a boundary knows it
            bench.closer,
            OwnThread(bench.journal),
            bench.clock,
            MINUTE_MS,
            sealed=lambda _: None,
        )

    async def cut(self, answers: Sequence[int | None], *, after_ms: int = MINUTE_MS) -> str | None:
        """The next boundary, at which the meter answers so; gives why nothing was booked. All has to be asked for."""
        self.bench.clock.now_ms += after_ms
        self.bench.clock.up_ms += after_ms
        self.worker.answers = list(answers)
        await self.boundary.cut(self.bench.clock.now_ms)
        assert self.worker.answers == [], "it was not asked so often"
        assert self.boundary.last is not None
        return self.boundary.last.held.get("reflow-1")

    @property
    def register(self) -> int | None:
        """Where the ledger stands, in counts of the meter."""
        head = self.bench.journal.heads().get("reflow-1")
        return None if head is None else head.register_milliwh // 10_000


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(Bench(tmp_path, two_meters()[:1]))


async def test_a_journal_begins_at_the_first_of_three_readings_that_run_on(hall: Hall) -> None:
    assert await hall.cut([5000, 5000, 5001]) is None
    assert hall.register == 5000 and hall.worker.asked_who == 0, "it had just said who it is"
    assert await hall.cut([5002]) is None
    assert hall.bench.deltas("reflow-1") == [20_000]


@pytest.mark.fault("F17", "F75")
@pytest.mark.parametrize(
    "answers",
    [
        [0, 5000, 5000],
        [5000, 0, 5000],
        [0, 0, 5000],
        [5000 ^ BIT, 5000, 5000],
        [5000, 5000, 5000 ^ BIT],
        [5000, None, 5000],
        [0, None, None],
    ],
)
async def test_a_journal_begins_at_no_reading_that_stands_alone(
    hall: Hall, answers: Sequence[int | None]
) -> None:
    held = await hall.cut(answers)
    assert held is not None and held.startswith("first: ")
    assert hall.register is None
    assert await hall.cut([5003, 5003, 5003]) is None
    assert await hall.cut([5004]) is None
    assert hall.bench.deltas("reflow-1") == [10_000]


@pytest.mark.fault("F17", "F56")
async def test_one_wrong_bit_after_a_long_silence_of_the_platforms_position(tmp_path: Path) -> None:
    """In 90 days the circuit can have used what the wrong bit makes of it, so only the next readings tell."""
    _, said = opened(tmp_path)
    fresh = Bench(tmp_path, two_meters()[:1], name="fresh.db")
    fresh.clock.boot = "another"
    restore(fresh, said)
    hall = Hall(fresh)
    held = await hall.cut([1020 ^ BIT, 1020, 1020], after_ms=90 * 24 * HOUR_MS)
    assert held is not None and held.startswith("first: ") and fresh.deltas("reflow-1") == []
    assert await hall.cut([1021, 1021, 1021]) is None
    assert fresh.deltas("reflow-1") == [110_000]


@pytest.mark.fault("F17", "F44")
async def test_one_wrong_bit_after_the_machine_has_slept_for_long(hall: Hall) -> None:
    await hall.cut([5000, 5000, 5000])
    held = await hall.cut([5001 ^ BIT, 5001, 5001], after_ms=9 * 24 * HOUR_MS)
    assert held is not None and held.startswith("first: ")
    assert hall.worker.asked_who, "another meter may hang there since"
    assert await hall.cut([5002, 5002, 5002], after_ms=2 * HOUR_MS) is None
    assert sum(hall.bench.deltas("reflow-1")) == 20_000


async def test_what_will_not_be_booked_is_not_read_again(hall: Hall) -> None:
    """While the platform has still to say whether this journal counts."""
    journal = hall.bench.journal
    with journal.transaction():
        journal.save_state(replace(journal.state(), standing=Standing.CONFIRMING))
    await hall.cut([5000])
    assert hall.register is None


async def test_boundaries_that_pass_during_first_readings_are_no_fault_and_later_ones_are(hall: Hall) -> None:
    """At intervals of a second a line of many meters needs more than one cut to read each for the first time."""

    def pass_by() -> int:
        for turn in range(3):
            hall.boundary.tick(turn * MINUTE_MS)
        return hall.boundary.skipped

    assert pass_by() == 0
    await hall.cut([5000, 5000, 5000])
    assert pass_by() == 0
    await hall.cut([5001])
    assert pass_by() == 3
