"""The world would notice: each planted bug is caught by the seed that the table names for it (`make planted`)."""

from collections.abc import Callable

import pytest

from tests.world.planted import PLANTED, catches, known

MORE = 3
"""A change of the agent may move a bug's seed a little: so many seeds are tried before the table is out of date."""
QUICK = 4
"""Later seeds are left to `make planted`."""


@pytest.mark.parametrize(
    "plant",
    [each for each in PLANTED if known().get(each.__name__, QUICK) < QUICK],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_caught(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    seed = known()[plant.__name__]
    assert any(catches(plant, each) for each in (seed, *range(MORE))), "run make planted"
