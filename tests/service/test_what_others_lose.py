"""Sixteen ways in which other agents lose or double kWh, each found in the code or the bug list of one: ours does not.

The names and numbers are those of section 2 of our study of them. Where two ends are needed, the other end is scripted
and everything of ours is real: journal, signatures, ledger, publisher, line worker.
"""

import asyncio
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import JournalFull, UplinkDown, UplinkRefused
from agent.metering.interval import DAY_MS
from agent.metering.plant import Line
from agent.protocol.events import Send
from agent.protocol.tcp_master import TcpMaster
from agent.reporting.chain import ChainHead
from agent.service.poll import LineWorker
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualLine
from simulators.meters.faults import Fault, Kind
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.protocol.test_tcp_master import asked, data
from tests.service.bench import MINUTE_MS, Bench
from tests.service.line_hall import EACH_SECOND, Hall, energy_meter, in_hall
from tests.service.test_publish import ScriptedUplink, publisher_of, run_until, sealed
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.eventually import eventually

RISE = 10_000
"""One count of the bench's meters, 0.001 Wh."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Thirty intervals are sealed; one count was used in each but the first."""
    made = Bench(tmp_path)
    for count in range(30):
        made.read({"reflow-1": 1000 + count})
    return made


def heads(bench: Bench) -> list[ChainHead]:
    return [head for head, _ in bench.batches()]


def booked(bench: Bench) -> int:
    return sum(bench.deltas("reflow-1"))


async def send_all(bench: Bench, uplink: ScriptedUplink, count: int) -> None:
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: len(uplink.taken) >= count)


async def test_01_a_connection_that_comes_and_goes_creates_no_storage_anew(bench: Bench) -> None:
    before = sealed(bench)
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    task = asyncio.create_task(publisher.run())
    for turn in range(20):
        publisher.connection(up=turn % 2 == 0)
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sealed(bench) == before
    await send_all(bench, uplink := ScriptedUplink(), 30)
    assert uplink.taken == before


async def test_02_what_was_read_before_a_delete_is_not_sent_after_it(bench: Bench) -> None:
    """The queue is asked for each time; nothing that was released meanwhile is in a cache."""
    uplink = ScriptedUplink()
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    await run_until(publisher, lambda: len(uplink.taken) >= 30)
    bench.acknowledge(heads(bench)[19], number=1)
    publisher.start_over()
    uplink.taken.clear()
    await run_until(publisher, lambda: len(uplink.taken) >= 10)
    assert uplink.taken == sealed(bench) and len(uplink.taken) == 10


def test_03_nothing_waits_in_memory_in_front_of_the_store(bench: Bench, tmp_path: Path) -> None:
    """The plug is pulled right after each commit: the copy of the file has it."""
    for turn in range(3):
        bench.read({"reflow-1": 1030 + turn})
        copy = tmp_path / f"copy-{turn}"
        copy.mkdir()
        for file in tmp_path.glob("journal.db*"):
            shutil.copy(file, copy / file.name)
        shutil.copy(tmp_path / "key.pem", copy / "key.pem")
        found = Bench(copy)
        assert sealed(found) == sealed(bench) and booked(found) == (30 + turn) * RISE
        found.journal.close()


async def test_04_a_brokers_receipt_releases_nothing(bench: Bench) -> None:
    uplink = ScriptedUplink()
    await send_all(bench, uplink, 30)
    assert sealed(bench) == uplink.taken
    assert bench.journal.purge(stored_before_ms=bench.clock.now_ms + 400 * DAY_MS) == 0
    assert bench.journal.backlog().energy_milliwh == 29 * RISE


ERRORS = (UplinkDown("gone"), UplinkRefused("nobody is there", 0x10), UplinkRefused("no", 0x87))


@pytest.mark.parametrize("error", ERRORS, ids=str)
async def test_05_an_error_of_any_kind_is_not_a_delivery(bench: Bench, error: Exception) -> None:
    uplink = ScriptedUplink(answers={4: error})
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    with pytest.raises(AssertionError):
        await run_until(publisher, lambda: len(set(uplink.taken)) >= 30, within_s=0.1)
    assert len(sealed(bench)) == 30
    await send_all(bench, again := ScriptedUplink(), 30)
    assert again.taken == sealed(bench)


async def test_06_what_is_sent_again_is_the_same_bytes_and_counts_once(bench: Bench) -> None:
    uplink = ScriptedUplink(answers={6: UplinkDown("time is up")})
    publisher = publisher_of(bench, uplink)
    publisher.connection(up=True)
    task = asyncio.create_task(publisher.run())
    await eventually(lambda: uplink.tries >= 6)
    await asyncio.sleep(0.05)
    publisher.connection(up=True)
    publisher.start_over()
    await eventually(lambda: set(uplink.taken) >= set(sealed(bench)))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(uplink.taken) == set(sealed(bench))
    identities = Counter((d.meter, d.epoch, d.n) for _, batch in bench.batches() for d in batch.deltas)
    assert max(identities.values()) == 1


def test_07_another_configuration_leaves_the_backlog_as_it_was(bench: Bench) -> None:
    before = sealed(bench)
    bench.restart()
    bench.wire((replace(bench.meters[0], address=77, rated_w=9_000),))
    bench.read({"reflow-1": 1031})
    assert sealed(bench)[:30] == before


async def test_08_no_number_of_failures_and_no_age_deletes_anything(bench: Bench) -> None:
    uplink = ScriptedUplink(answers={number: UplinkDown("away") for number in range(1, 20_000)})
    publisher = publisher_of(bench, uplink)
    for _ in range(40):
        publisher.connection(up=True)
        publisher.start_over()
        task = asyncio.create_task(publisher.run())
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert uplink.tries > 40 and uplink.taken == [] and len(sealed(bench)) == 30
    bench.clock.now_ms += 2000 * DAY_MS
    bench.journal.purge(stored_before_ms=bench.clock.now_ms)
    assert len(sealed(bench)) == 30


async def test_09_nothing_is_sent_again_after_a_restart_once_it_is_acknowledged(bench: Bench) -> None:
    bench.acknowledge(heads(bench)[-1], number=1)
    uplink = ScriptedUplink()
    for _ in range(3):
        bench.restart()
        publisher = publisher_of(bench, uplink)
        publisher.connection(up=True)
        with pytest.raises(AssertionError):
            await run_until(publisher, lambda: uplink.tries > 0, within_s=0.05)


def test_10_what_is_released_is_named_by_its_hash_and_never_by_an_offset(bench: Bench) -> None:
    third = heads(bench)[2]
    bench.acknowledge(third, number=1)
    assert heads(bench)[0].seq == 4
    bench.acknowledge(replace(heads(bench)[9], hash="x" * 43), number=2)
    assert heads(bench)[0].seq == 4 and len(heads(bench)) == 27


def test_11_a_low_glitch_moves_no_baseline_and_energy_after_a_gap_is_kept(bench: Bench) -> None:
    bench.read({"reflow-1": 12})
    bench.read({"reflow-1": 1030})
    assert booked(bench) == 30 * RISE
    bench.clock.now_ms += 200 * MINUTE_MS
    bench.read({"reflow-1": 1500})
    assert bench.deltas("reflow-1")[-1] == 470 * RISE and "gap" in bench.batches()[-1][1].deltas[-1].q


def test_12_a_true_reset_counts_from_where_it_began(bench: Bench) -> None:
    for count in (0, 2, 5, 9):
        bench.read({"reflow-1": count})
    assert booked(bench) == 29 * RISE + 9 * RISE
    event = next(e for _, batch in bench.batches() for e in batch.events if e.type == "epoch")
    assert (event.body["last"], event.body["first"]) == (1029 * RISE, 0)


@pytest.mark.parametrize("step_ms", [DAY_MS, -DAY_MS, 9000 * DAY_MS, -9000 * DAY_MS])
def test_13_a_clock_that_is_set_makes_no_energy_and_mutes_nothing(bench: Bench, step_ms: int) -> None:
    """The uptime of the machine goes on, and measures how long it was."""
    bench.clock.boot = "boot-1"
    bench.read({"reflow-1": 1030})
    bench.clock.now_ms += step_ms
    bench.read({"reflow-1": 1031})
    bench.read({"reflow-1": 1032})
    bench.clock.now_ms -= step_ms
    bench.read({"reflow-1": 1033})
    assert booked(bench) == 33 * RISE and all(delta >= 0 for delta in bench.deltas("reflow-1"))
    batches = [batch for _, batch in bench.batches()]
    assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1))


def test_14_a_late_answer_is_never_the_answer_to_the_next_question() -> None:
    """On TCP by its number; on a pair of wires by what is asked next (also when it has the same shape)."""
    master = TcpMaster()
    first = asked(master)
    master.tick(100_000_000)
    second = asked(master, now_ns=200_000_000)
    assert second != first
    assert master.receive(200_000_001, data(first, words=(9, 9))) == []
    (end,) = master.receive(200_000_002, data(second))
    assert not isinstance(end, Send) and getattr(end, "words", None) == (1, 2)

    async def late(hall: Hall) -> None:
        true = (await hall.sweep())["m1"]
        hall.meters["m1"].faults.append(Fault(Kind.LATE))
        for _ in range(30):
            found = await hall.sweep()
            assert found.get("m1", true) == true and found["m2"] != true
            await asyncio.sleep(1)

    in_hall([energy_meter("m1", 1), energy_meter("m2", 2)], late, wired=EACH_SECOND)


def test_15_a_dead_meter_mutes_nobody_of_its_number_on_another_line() -> None:
    async def play() -> None:
        worked: dict[str, LineWorker] = {}
        for name in ("a", "b"):
            wired: Line = replace(EACH_SECOND, id=name)
            fifth = energy_meter(f"{name}-5", 5)
            simulated = SimulatedMeter(fifth, FixedEnergy(5_000_000), turnaround_ms=10)
            if name == "a":
                simulated.faults.append(Fault(Kind.SILENT))
            port = VirtualLine(Rs485Line(wired.serial, on_one_pair([simulated])), wired.serial)
            worked[name] = LineWorker(wired, [fifth], port, VirtualClock())
        tasks = [asyncio.create_task(worker.run()) for worker in worked.values()]
        for _ in range(20):
            await asyncio.sleep(5)
            sweeps = {name: worker.sweep() for name, worker in worked.items()}
            await asyncio.gather(*(sweep.done.wait() for sweep in sweeps.values()))
            assert [len(sweeps[name].samples) for name in ("a", "b")] == [0, 1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtually(play())


async def test_16_what_was_full_goes_on_by_itself_when_there_is_room_and_a_link(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise JournalFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append_batch", full)
        for turn in range(50):
            with pytest.raises(JournalFull):
                bench.read({"reflow-1": 1030 + turn})
    bench.read({"reflow-1": 1080})
    assert booked(bench) == 80 * RISE
    uplink = ScriptedUplink()
    await send_all(bench, uplink, 31)
    assert uplink.taken == sealed(bench)
