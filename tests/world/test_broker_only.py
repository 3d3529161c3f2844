"""A platform that only consumes what the broker has: nobody can ask for what was lost, and the account is exact.

The named schedule `broker-only` of the world, and proofs that its checks can fail.
"""

import pytest

from agent.service import dialogue
from simulators.platform.joining import Joining
from simulators.world.campaign import outcome_of
from simulators.world.nemesis import KINDS
from simulators.world.scenarios import BY_BROKER, SCENARIOS

NAME = "broker-only"
LEARNS = 7
"""A seed in which an epoch ends in a batch that the broker lost."""
LOSES_THE_MAP = 159
"""A seed in which the broker loses a new meter map together with the batch that carries it."""


def violations(seed: int) -> str:
    """What is broken in a seed."""
    return "\n".join(outcome_of(seed, scenario=NAME).violations)


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


def test_nothing_happens_there_that_puts_a_journal_back() -> None:
    forced = {each.kind for each in SCENARIOS[NAME].happens}
    assert forced <= BY_BROKER <= KINDS.keys()
    assert not BY_BROKER & {
        "clone",
        "disk-lost",
        "disk-gone",
        "old-image",
        "platform-restored",
        "wal-deleted",
    }
