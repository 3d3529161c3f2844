"""What the plays of the world take care of: that what they do can be noticed, and that they ask nobody in vain."""

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agent.adapters.journal import SqliteJournal
from agent.errors import JournalDamaged, JournalFailed
from simulators.world.bus_plays import FAR_COUNTS
from simulators.world.gateway import Gateway
from simulators.world.network_plays import claim, forged_release
from simulators.world.operator_plays import exchanged
from simulators.world.plays import has_settled, is_seen_far, misread_falls
from simulators.world.time import run_in_world
from simulators.world.world import World


class Drawn(random.Random):
    """Chance that chooses one meter, and the number at which a new one begins."""

    def __init__(self, world: World, meter: str, beyond: int) -> None:
        super().__init__(0)
        self._old = world.devices[meter]
        self._beyond = beyond

    def choice(self, seq: Any) -> Any:
        return self._old.meter.id

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """So far beyond the old one's register."""
        return self._old.raw() + self._beyond


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("beyond", "begins_at"),
    [(0, 2 * FAR_COUNTS), (FAR_COUNTS - 1, 3 * FAR_COUNTS - 1), (FAR_COUNTS, FAR_COUNTS)],
)
def test_a_new_meter_does_not_begin_where_the_old_one_ended(beyond: int, begins_at: int) -> None:
    """Between two boundaries the world has nobody who would see that it was away (seed 13481)."""

    async def live() -> int:
        world = World(0, (), interval_s=120)
        old = world.devices["m1"]
        await exchanged(world, Drawn(world, "m1", beyond), 0)
        assert world.devices["m1"] is not old
        return (world.devices["m1"].raw() - old.raw()) % 10**6

    assert run_in_world(live()) == begins_at


class OutOfReach:
    """A journal on a disk that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise JournalFailed(f"{name}: the disk does not answer")


@pytest.mark.fault("F47", "F48")
@pytest.mark.parametrize("what", ["broken", "dead"])
def test_nobody_looks_into_a_journal_whose_disk_does_not_answer(what: str) -> None:
    """A stranger who did ended the world (seed 12139)."""

    async def live() -> None:
        world = World(0, (), interval_s=120)
        gateway, chance = world.gateway, random.Random(0)
        gateway.journal = OutOfReach()  # type: ignore[assignment]
        with pytest.raises(JournalFailed):
            claim(world, chance, 1, None)
        setattr(gateway.disk, what, True)
        assert claim(world, chance, 1, None) is None
        await forged_release(world, chance, 1)
        assert not has_settled(world) and is_seen_far(world, "m1", FAR_COUNTS)

    run_in_world(live())


@pytest.mark.fault("F17", "F20", "F44")
@pytest.mark.parametrize(
    ("fell_by", "was_set_back", "expected"), [(3, False, ["m1"]), (3, True, []), (0, False, [])]
)
def test_only_a_fall_that_was_none_excuses_a_hole_after_a_week(
    fell_by: int, was_set_back: bool, expected: list[str]
) -> None:
    """A register that was really set back is in the books of the world already (seed 3150)."""

    async def live() -> list[str]:
        world = World(0, (), interval_s=120)
        raw, unit = world.devices["m1"].raw(), 1_000
        head = SimpleNamespace(
            register_milliwh=(raw + was_set_back) * unit, basis=SimpleNamespace(per_count_milliwh=unit)
        )
        waiting = SimpleNamespace(point=SimpleNamespace(register_milliwh=(raw - fell_by) * unit))
        journal: Any = SimpleNamespace(heads=lambda: {"m1": head}, doubts=lambda: {"m1": (waiting,)})
        world.gateway.journal = journal
        return misread_falls(world)

    assert run_in_world(live()) == expected


@pytest.mark.fault("F53")
@pytest.mark.parametrize(
    ("error", "is_noted"), [(JournalDamaged("rot"), True), (JournalFailed("EIO"), False)]
)
def test_damage_that_a_start_meets_is_noted_as_the_agent_notes_it(error: Exception, is_noted: bool) -> None:
    """Else each start would find the file sound, and each run would end at once (seed 12371)."""

    def met(_: SqliteJournal) -> None:
        raise error

    async def live() -> bool:
        gateway: Gateway = World(0, (), interval_s=120).gateway
        gateway._around = replace(gateway._around, opened=met)
        with pytest.raises(type(error)):
            await gateway._run()
        place = gateway._place
        assert place is not None
        found = place.files.marked(place.mark) is not None
        gateway._let_go()
        return found

    assert run_in_world(live()) is is_noted
