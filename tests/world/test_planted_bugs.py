"""The small world would notice: each of these faults in the code is caught by some of its first seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.journal import SqliteJournal
from agent.metering.ledger import Head, Point
from agent.service import acknowledge, restore
from agent.service.journal import Retelling
from tests.world.small_world import SmallWorld

SEEDS = 40


def everything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restored chain tells also what the platform has already booked."""

    def all_of_them(points: list[Point], _: Head, **_known: object) -> list[Point]:
        return points

    monkeypatch.setattr(restore, "since", all_of_them)


def forget_on_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed to the broker once is never sent again, as if a PUBACK were a receipt."""
    original = SqliteJournal.queue

    def once(self: SqliteJournal, *, after_ordinal: int, limit: int) -> object:
        batches = original(self, after_ordinal=after_ordinal, limit=limit)
        for batch in batches:
            self.mark_stored(batch.head, 1)
        return batches

    monkeypatch.setattr(SqliteJournal, "queue", once)


def follow_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is not ours is taken for one that we can follow."""
    monkeypatch.setattr(acknowledge, "can_follow", lambda journal, head: True)


def keep_the_old_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restore the own registers go on as if the platform had them."""

    def nothing_to_tell(planner: Any, meters: object, theirs: object) -> Retelling:
        return Retelling(planner._journal.last_reading(), planner._in_force.hash, frozenset(), {})

    monkeypatch.setattr(restore._Planner, "plan", nothing_to_tell)


PLANTED = [everything_again, forget_on_sending, follow_anything, keep_the_old_chain]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    assert any(_is_caught(tmp_path / str(seed), seed) for seed in range(SEEDS))


def _is_caught(folder: Path, seed: int) -> bool:
    """Whether the account is wrong at the end, or something refused to go on before."""
    folder.mkdir()
    world = SmallWorld(folder, seed)
    try:
        world.run(minutes=120)
        return world.faults_in_the_account() != []
    except (AssertionError, ValueError):
        return True
    finally:
        world.close()
