"""The world would notice: some planted bugs, each caught by the first seeds (all of them: tests/world/planted.py)."""

from collections.abc import Callable

import pytest

from tests.world.planted import caught_after, purge_on_puback, purges_below_the_floor, synchronous_normal

FIRST_SEEDS = 6


@pytest.mark.parametrize("plant", [synchronous_normal, purge_on_puback, purges_below_the_floor])
def test_a_planted_bug_is_caught(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    assert caught_after(plant, FIRST_SEEDS) is not None
