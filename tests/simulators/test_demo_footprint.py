"""The demo's last word: the platform's footprint beside an account that shares no code with it."""

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.carbon.footprint import Footprint
from agent.settings.locked import open_template
from simulators.demo.account import Account, own_account
from simulators.demo.footprint import compared, of_platform
from tests.simulators.bench import Bench
from tests.simulators.chains import ORG, Gateway, described

STEPS = [source.id for source in open_template().steps]


def installation(path: Path, seed: int) -> tuple[Footprint, dict[str, int]]:
    """26 meters, some intervals of uneven length; what the platform says, and what each register rose by."""
    chance = random.Random(seed)
    meters = tuple(described(f"m{place:02d}", steps=((step, 1, 1),)) for place, step in enumerate(STEPS))
    gateway = Gateway(meters=meters)
    before = {id: counter.register for id, counter in gateway.counters.items()}
    bench = Bench((gateway,), path)
    for _ in range(6):
        gateway.now_ms += chance.randrange(1, 2_000_000)
        bench.send(gateway.say([gateway.delta(each.meter, chance.randrange(10**6)) for each in meters]))
    bench.store.close()
    risen = {id: counter.register - before[id] for id, counter in gateway.counters.items()}
    return of_platform(path, ORG), risen


@pytest.mark.parametrize("seed", range(5))
def test_the_platform_equals_the_simulators_own_account_exactly(tmp_path: Path, seed: int) -> None:
    platform, risen = installation(tmp_path / "platform.db", seed)
    lines = compared(platform, own_account(risen.values()))
    assert [line.name for line in lines if not line.is_equal] == []
    assert platform.missing == ()


def test_a_thousandth_of_a_watt_hour_is_noticed(tmp_path: Path) -> None:
    platform, risen = installation(tmp_path / "platform.db", 1)
    wrong = own_account([*risen.values(), 1])
    assert [line.name.split(" ")[0] for line in compared(platform, wrong) if not line.is_equal] == [
        "electricity",
        "total",
        "per",
    ]
    own = own_account(risen.values())
    dearer: Account = replace(own, waste=own.waste + Fraction(1, 10**12))
    assert len([line for line in compared(platform, dearer) if not line.is_equal]) == 3
