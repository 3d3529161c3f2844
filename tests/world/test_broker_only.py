"""A platform that only consumes what the broker has: nobody can ask for what was lost, and the account is exact.

The named schedule `broker-only` of the world, and proofs that its checks can fail.
"""

import pytest

from agent.adapters.journal import SqliteJournal
from agent.service import dialogue, seal
from simulators.platform.joining import Joining
from simulators.world.campaign import outcome_of
from simulators.world.nemesis import KINDS
from simulators.world.scenarios import BY_BROKER, SCENARIOS

NAME = "broker-only"
LEARNS = 7
"""A seed in which an epoch ends in a batch that the broker lost."""
LOSES_THE_MAP = 159
"""A seed in which the broker loses a new meter map together with the batch that carries it."""


CHANGES = "broker-only-changes"
ENDS_BEFORE_THE_TIME_IS_KNOWN = 18
"""A seed of the other schedule in which an epoch ends in 1970, in a batch that the broker lost."""
ENDS_WITH_A_RATIO = 9
"""One in which the last stretch before a new ratio is lost."""
CHANGES_TWICE = 41
"""One in which a map that was lost is replaced within the hour."""

CONFIRMED = "broker-only-confirmed"
ROTATES = 24
"""A seed in which the next key takes over in a batch that never comes."""
ENDS_A_KEY = 230
"""One in which batches wait whose key ends meanwhile."""
BEGINS_IN_1970 = 200
"""One in which a new journal begins with a clock that knows no time."""
OWN_WORD = "broker-only-own-word"
OWN_WORD_BROKE = (38, 82, 175, 396, 1077)
"""Seeds that broke a promise: epochs were counted otherwise behind a joined chain, told again behind one, opened behind
a word that a newer one took the place of, and listed in a balance although their chain was given up; and the end of one
was told behind the end of the books, with a higher register."""


def violations(seed: int, name: str = NAME) -> str:
    """What is broken in a seed."""
    return "\n".join(outcome_of(seed, scenario=name).violations)


@pytest.mark.fault("F63", "F65")
@pytest.mark.parametrize("seed", [*range(8), LOSES_THE_MAP])
def test_what_the_broker_has_comes_to_the_meters_account(seed: int) -> None:
    assert violations(seed) == ""


def test_a_platform_that_learns_no_epoch_from_balances_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Joining, "learn", lambda *_: None)
    assert "nobody has told how epoch 2 began" in violations(LEARNS)


def test_an_agent_that_tells_its_map_only_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "MAP_AGAIN_NS", 10**18)
    assert "I7" in violations(LOSES_THE_MAP)


@pytest.mark.fault("F27", "F40", "F65", "F81")
@pytest.mark.parametrize("seed", [ENDS_BEFORE_THE_TIME_IS_KNOWN, ENDS_WITH_A_RATIO, CHANGES_TWICE])
def test_changes_of_map_and_clock_among_what_was_lost_cost_nothing(seed: int) -> None:
    assert violations(seed, CHANGES) == ""


def test_an_epoch_that_is_left_out_for_a_label_of_1970_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "told_since_ms", lambda look: look.wall_ms)
    assert "nobody has told how epoch 2 began" in violations(ENDS_BEFORE_THE_TIME_IS_KNOWN, CHANGES)


def test_a_platform_that_books_by_the_ratio_of_the_next_epoch_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Joining, "_map_beside", lambda *_: None)
    assert "I5" in violations(ENDS_WITH_A_RATIO, CHANGES)


def test_an_agent_that_tells_no_former_map_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "former_maps", lambda *_, **__: [])
    assert "I7" in violations(CHANGES_TWICE, CHANGES)


@pytest.mark.fault("F40", "F55", "F56", "F85")
@pytest.mark.parametrize("seed", [ROTATES, ENDS_A_KEY, BEGINS_IN_1970, *range(3)])
def test_behind_a_lost_disk_a_person_brings_the_platforms_word(seed: int) -> None:
    assert violations(seed, CONFIRMED) == ""


@pytest.mark.fault("F18", "F56", "F65")
@pytest.mark.parametrize("seed", OWN_WORD_BROKE)
def test_behind_a_lost_disk_a_person_vouches_for_the_last_status(seed: int) -> None:
    assert violations(seed, OWN_WORD) == ""


@pytest.mark.parametrize("seed", [1, 4])
def test_an_agent_that_notes_no_epoch_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteJournal, "note_epoch", lambda *_: None)
    assert "nobody has told how epoch 2 began" in violations(seed)


def test_an_agent_that_forgets_what_it_handed_over_in_1970_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SqliteJournal, "date_stored", lambda *_: None)
    assert "was purged within 30 days of its PUBACK" in violations(BEGINS_IN_1970, CONFIRMED)


def test_nothing_happens_there_that_puts_a_journal_back() -> None:
    forced = {each.kind for each in SCENARIOS[NAME].happens}
    changes = [each.kind for each in SCENARIOS[CHANGES].happens]
    assert set(changes) <= BY_BROKER | {"ratio"} and changes.count("ratio") == 1
    assert forced <= BY_BROKER <= KINDS.keys()
    assert not BY_BROKER & {
        "clone",
        "disk-lost",
        "disk-gone",
        "old-image",
        "platform-restored",
        "wal-deleted",
    }
