"""No kWh lost, none doubled, under any schedule of faults between journal and platform."""

from pathlib import Path

import pytest

from tests.world.small_world import SmallWorld

SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_platforms_account_reaches_the_meters_exactly(tmp_path: Path, seed: int) -> None:
    world = SmallWorld(tmp_path, seed)
    try:
        world.run(minutes=120)
        assert world.faults_in_the_account() == [], (sorted(world.faults), world.told)
    finally:
        world.close()
