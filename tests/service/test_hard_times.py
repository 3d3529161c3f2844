"""What a host does to an agent: a slow disk, one that became read-only, no memory, start after start, worn flash."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.journal import Place, open_or_replace
from agent.adapters.schedule import next_boundary_ms
from agent.errors import JournalUnusable
from agent.service.supervise import mark_started, run_until
from simulators.world.disk import Disk
from tests.metering.examples import meter
from tests.service.bench import KWH_REGISTER, MINUTE_MS, Bench, Dice, HandClock
from tests.service.virtual import run_virtually
from tests.service.watched import Agent, Manager, ScriptedUplink, after, at_once, live
from tests.support.disks import place_on

HOUR_MS = 60 * MINUTE_MS
OWNER = "org/gw01 to carbon.example"


@pytest.fixture
def agent(tmp_path: Path, manager: Manager) -> Iterator[Agent]:
    made = Agent(tmp_path, manager.environment, interval_ms=10_000)
    yield made
    made.bench.journal.close()


# --------------------------------------------------------------------------------------------------------- a slow disk


@pytest.mark.fault("F50")
def test_a_journal_that_takes_ten_seconds_each_time_slows_no_line_and_is_not_taken_for_a_hang(
    agent: Agent, manager: Manager, tmp_path: Path
) -> None:
    """Ten minutes of each: the meters are read as often, and the energy of all of them is booked all the same."""
    assert live(agent, manager, 600) is None
    folder = tmp_path / "slow"
    folder.mkdir()
    slow = Agent(folder, manager.environment, interval_ms=10_000)
    slow.storage.before = after(10)
    manager.heard.clear()
    assert live(slow, manager, 600) is None
    for quick_line, slow_line in zip(agent.lines, slow.lines, strict=True):
        assert slow_line.reads >= 0.95 * quick_line.reads > 100
    assert slow.bench.journal.state().seq >= 10
    _conserved(slow)
    slow.bench.journal.close()


def _conserved(agent: Agent) -> None:
    """The deltas of each meter telescope to where its register stands."""
    heads = agent.bench.journal.heads()
    batches = agent.bench.batches()
    for each in agent.bench.meters:
        deltas = [delta for _, batch in batches for delta in batch.deltas if delta.meter == each.id]
        assert deltas
        total = sum(delta.delta for delta in deltas)
        assert total == heads[each.id].register_milliwh - deltas[0].reg_start > 0


# ------------------------------------------------------------------------------------------------- read-only, no memory


@pytest.mark.fault("F47")
def test_a_journal_that_becomes_read_only_while_the_agent_runs_loses_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1000, "wave-1": 7})
    state, heads = bench.journal.state(), bench.journal.heads()
    bench.journal._db.execute("PRAGMA query_only=1")
    for count in (1003, 1005):
        with pytest.raises(JournalUnusable):
            bench.read({"reflow-1": count, "wave-1": 8})
    assert (bench.journal.state(), bench.journal.heads()) == (state, heads)
    bench.restart()
    bench.wire(bench.meters)
    bench.read({"reflow-1": 1010, "wave-1": 9})
    assert (bench.deltas("reflow-1"), bench.deltas("wave-1")) == ([100_000], [20_000])
    assert bench.batches()[-1][0].seq == state.seq + 1


@pytest.mark.fault("F76")
def test_a_stage_without_memory_ends_the_process_and_the_next_one_goes_on(agent: Agent) -> None:
    """It is no error of a line that a worker would wait for: who has no memory cannot know what it forgot."""

    async def life(error: Exception | None) -> None:
        agent.uplink = ScriptedUplink()
        agent.lines[1].before_read = at_once
        running = asyncio.create_task(run_until(agent.stages(), asyncio.Event()))
        await asyncio.sleep(35)
        if error is None:
            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return
        agent.lines[1].before_read = after(0, error)
        async with asyncio.timeout(30):
            with pytest.raises(type(error)):
                await running

    run_virtually(life(MemoryError()))
    before = agent.bench.journal.heads()
    run_virtually(life(None))
    for meter_id, now in agent.bench.journal.heads().items():
        assert now.register_milliwh > before[meter_id].register_milliwh
    _conserved(agent)


# ---------------------------------------------------------------------------------------------------- start after start


@pytest.mark.fault("F78")
def test_two_hundred_starts_in_a_row_lose_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Each life ends right after its start; only every fiftieth lasts long enough to close an interval."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1000})
    bench.journal.close()
    sealed = 1
    for number in range(1, 201):
        opened = open_or_replace(Place(tmp_path / "journal.db"), number)
        assert opened.aside is None
        bench.journal = opened.journal
        mark_started(bench.journal, "site", owner=OWNER, applied_sha256="site", platform_answers=True)
        if number % 50 == 0:
            bench.wire(bench.meters)
            bench.read({"reflow-1": 1000 + number})
            sealed += 1
        assert bench.journal.state().seq == sealed
        bench.journal.close()
    bench.journal = open_or_replace(Place(tmp_path / "journal.db"), 201).journal
    assert bench.deltas("reflow-1") == [500_000] * 4
    assert [head.seq for head, _ in bench.batches()] == list(range(1, 6))
    assert [path.name for path in tmp_path.iterdir() if "damaged" in path.name] == []


# ----------------------------------------------------------------------------------------------------------- worn flash


@pytest.mark.fault("F57")
def test_an_interval_of_a_whole_site_costs_one_sync_and_a_bounded_number_of_pages(tmp_path: Path) -> None:
    """26 meters; what wears a card is how often it has to make something durable, and how many pages of it."""
    plant = tuple(
        meter(KWH_REGISTER, id=f"m{number:02d}", address=number + 1, serial=str(number), rated_w=40_000)
        for number in range(26)
    )
    disk = Disk()
    bench = Bench(tmp_path, plant)
    bench.journal.close()
    bench.journal = open_or_replace(place_on(disk), 0).journal
    turns = 60
    for turn in range(5):
        bench.read({each.id: 1000 + turn for each in plant})
    disk.recording = True
    for turn in range(turns):
        bench.read({each.id: 1005 + turn for each in plant})
    syncs = [name for name in disk.names if name == "sync journal.db-wal"]
    checkpoints = sum(name == "sync journal.db" for name in disk.names)
    assert turns <= len(syncs) <= turns + 2 * checkpoints
    assert checkpoints <= 1 + turns // 10
    pages = sum(name.startswith("write") for name in disk.names)
    assert pages <= WRITES_MAX * turns, f"{pages / turns:.1f} writes an interval"


WRITES_MAX = 40


# ------------------------------------------------------------------------------------------------------- its time zone

CLOCKS_GO_BACK_MS = 1_762_063_200_000
"""2025-11-02 06:00 UTC: in New York 02:00 of summer is followed by 01:00 of winter."""


@pytest.mark.fault("F43")
def test_the_hour_that_comes_twice_changes_no_boundary_and_no_byte_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    try:
        for zone in ("UTC", "America/New_York", "Asia/Shanghai"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            told.append(_told_around(tmp_path, zone.replace("/", "-")))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert time.localtime(0).tm_zone  # the zone of the machine counts again
    assert told[0] == told[1] == told[2]
    boundaries, batches = told[0]
    assert boundaries == [CLOCKS_GO_BACK_MS + place * HOUR_MS for place in range(4)]
    assert len(batches) == 4


def _told_around(folder: Path, name: str) -> tuple[list[int], list[object]]:
    """The hours' boundaries from just before the change on, and what is sealed at them."""
    bench = Bench(folder, name=f"{name}.db", clock=HandClock(CLOCKS_GO_BACK_MS - 1), dice=Dice())
    boundaries = []
    for count in range(4):
        bench.clock.now_ms = next_boundary_ms(bench.clock.now_ms, HOUR_MS)
        boundaries.append(bench.clock.now_ms)
        bench.clock.now_ms -= MINUTE_MS
        bench.read({"reflow-1": 1000 + count, "wave-1": 7})
    batches: list[object] = [batch for _, batch in bench.batches()]
    bench.journal.close()
    return boundaries, batches
