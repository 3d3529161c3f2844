"""Meters that may show one another's register stay in question until one of them says who it is, or a person does.

What was seen once is remembered where nothing can be compared any more: after a restart, and while one of the two does
not answer.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.metering.memory import Order
from tests.service.bench import MINUTE_MS, Bench, two_meters
from tests.service.gates import epochs
from tests.service.test_exchanging import Desk, codes
from tests.service.test_number_not_said import OWN, a_bench, same

DAYS_MS = 9 * 1440 * MINUTE_MS


def sleep(bench: Bench) -> None:
    """Nine days in which a circuit can have used anything."""
    bench.clock.now_ms += DAYS_MS
    bench.clock.up_ms += DAYS_MS


@pytest.mark.fault("F19", "F30", "F43")
def test_the_neighbour_waits_also_while_the_meter_that_hid_its_number_is_not_read(tmp_path: Path) -> None:
    """World seed 359: bad checksums came just from the one that would have told, after nine days of sleep."""
    bench = a_bench(tmp_path, 400_000)
    sleep(bench)
    assert len(bench.read({"reflow-1": 50_010, "wave-1": 410_000}, times=3).held) == 2
    bench.restart()
    bench.wire(bench.meters)
    assert "reflow-1" in bench.read({"wave-1": 410_005}, times=3).held["wave-1"]
    bench.read({"reflow-1": 410_010, "wave-1": 50_020}, serials=OWN, times=3)
    bench.read({"wave-1": 50_025}, times=3)
    assert bench.deltas("wave-1") == [10_000, 190_000, 50_000], "once it has said its number nothing waits"


@pytest.mark.fault("F19")
def test_one_that_was_not_read_and_never_hid_its_number_holds_nobody_up(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, 400_000)
    sleep(bench)
    assert bench.read({"wave-1": 60_000}, times=3).held == {}


@pytest.mark.fault("F19", "F30", "F43")
def test_after_a_long_silence_a_meter_that_hides_its_number_is_not_believed_either(tmp_path: Path) -> None:
    """World seed 2285: both registers were low, and in nine days each can have come to what the other one shows."""
    bench = a_bench(tmp_path, 400)
    sleep(bench)
    assert len(bench.read({"reflow-1": 90_000, "wave-1": 60_000}, times=3).held) == 2
    bench.read({"reflow-1": 60_001, "wave-1": 90_001}, serials=OWN, times=3)
    assert bench.deltas("reflow-1") == [10_000, 596_000_000]


@pytest.mark.fault("F18", "F19")
def test_a_new_meter_says_a_new_number_and_is_no_exchange_of_addresses(tmp_path: Path) -> None:
    """World seed 1699: after nine days each register could be the other's, and the new meter waited for ever."""
    bench = a_bench(tmp_path, 400, neighbour=500)
    sleep(bench)
    for turn in range(3):
        counts = {"reflow-1": 90_000 + turn, "wave-1": 60_000 + turn}
        assert bench.read(counts, serials={"reflow-1": "101"}, times=3).held.keys() <= {"reflow-1"}
    assert len(epochs(bench)) == 1


@pytest.mark.fault("F19", "F30")
@pytest.mark.parametrize("said", ["100", None], ids=["said", "only written down"])
def test_a_number_in_the_site_file_counts_where_the_meter_has_said_it_itself(
    tmp_path: Path, said: str | None
) -> None:
    reflow, wave = two_meters()
    can_say = replace(reflow, profile=replace(reflow.profile, identity="serial_number"))
    bench = Bench(tmp_path, (can_say, replace(wave, serial=None)))
    for turn in range(2):
        serials = {} if said is None else {"reflow-1": said}
        bench.read({"reflow-1": 999_990 + turn, "wave-1": 50_000 + turn}, serials=serials)
    bench.restart()
    bench.wire(bench.meters)
    held = bench.read({"reflow-1": 5}).held
    assert ("100" in held.get("reflow-1", "")) is (said is not None)


@pytest.mark.fault("F18")
def test_a_question_that_ends_by_itself_leaves_nothing_to_confirm(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, 400_000)
    bench.read({"reflow-1": 50_010, "wave-1": 400_010}, times=3)
    assert all(each.is_in_question for each in bench.journal.memories().values())
    bench.read({"reflow-1": 400_009, "wave-1": 50_020}, serials=OWN)
    assert not any(each.returned_ms for each in bench.journal.memories().values())


@pytest.mark.fault("F18", "F19")
def test_a_person_who_vouches_for_one_of_two_ends_the_question_of_the_pair(tmp_path: Path) -> None:
    """It was set back, and shows by chance what the other one showed: three boundaries, and no exchange."""
    bench = Bench(tmp_path, tuple(replace(each, serial=None) for each in two_meters()))
    for turn in range(2):
        bench.read({"reflow-1": 400_000 + turn, "wave-1": 399_000 + turn})
    assert len(bench.read({"reflow-1": 399_002, "wave-1": 400_002}, times=3).held) == 2
    same(bench, "reflow-1")
    held = bench.read({"reflow-1": 399_003, "wave-1": 400_003}, times=3).held
    assert held["reflow-1"].startswith("fall")


@pytest.mark.fault("F18", "F19")
async def test_a_person_can_vouch_for_a_meter_in_question(tmp_path: Path) -> None:
    """Nothing was to be confirmed before, and what the log asks for could not be said."""
    reflow = two_meters()[0]
    can_say = replace(reflow, serial=None, profile=replace(reflow.profile, identity="serial_number"))
    desk = Desk(tmp_path, can_say, serial="100")
    assert codes(await desk.say("same", by="Li Wei")) == ["nothing-to-confirm"]
    desk.worker.serial, desk.worker.count = None, 3
    desk.worker.read()
    assert (await desk.say("same", by="Li Wei"))["done"]
    assert desk.bench.journal.orders()["reflow-1"] == Order(
        "reflow-1", "same", desk.bench.clock.now_ms, "Li Wei", confirmed=True
    )
