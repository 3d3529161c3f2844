"""A meter that has said its serial number and has none to say now: what moved oddly is booked for nobody meanwhile.

Another kind of meter answers at its address then, as after two addresses were swapped, or the meter is sick.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.metering.memory import Order
from agent.service.close import Closed
from tests.service.bench import MINUTE_MS, Bench, two_meters
from tests.service.gates import epochs

OWN = {"reflow-1": "100"}


def a_bench(path: Path, counts: int, *, neighbour: int = 50_000) -> Bench:
    """A meter that says its number, beside one on the same line that has none; both have been read twice."""
    one, other = (replace(each, serial=None) for each in two_meters())
    can_say = replace(one.profile, identity="serial_number")
    bench = Bench(path, (replace(one, profile=can_say), other))
    for turn in range(2):
        bench.read({"reflow-1": counts + turn, "wave-1": neighbour + turn}, serials=OWN)
    return bench


@pytest.mark.fault("F19", "F30")
@pytest.mark.parametrize(
    ("before", "shown"), [(999_990, 5), (400_000, 1_000), (400_000, 700_000)], ids=["round", "fall", "jump"]
)
def test_what_moves_oddly_waits_until_the_number_is_said_again(
    tmp_path: Path, before: int, shown: int
) -> None:
    """World seeds 359, 444, 474, 500 and 895: it was the neighbour's register."""
    bench = a_bench(tmp_path, before)
    for turn in range(5):
        closed = bench.read({"reflow-1": shown + turn}, times=3)
        assert closed.not_booked["reflow-1"].kind == "identity" and "100" in closed.held["reflow-1"]
    bench.read({"reflow-1": before + 9}, serials=OWN)
    assert bench.deltas("reflow-1") == [10_000, 80_000] and len(epochs(bench)) == 0


@pytest.mark.fault("F15")
def test_a_rollover_is_booked_where_the_number_is_said_and_an_ordinary_rise_also_where_it_is_not(
    tmp_path: Path,
) -> None:
    bench = a_bench(tmp_path, 999_990)
    bench.read({"reflow-1": 999_995})
    cut = bench.cut_of({"reflow-1": 5}, serials=OWN)
    assert bench.closer.to_read_again(bench.journal, cut).odd == {"reflow-1"}, "it has to say it for this cut"
    assert bench.closer.close(bench.journal, cut).held == {}
    assert bench.deltas("reflow-1") == [10_000, 40_000, 100_000]


def same(bench: Bench, meter: str) -> None:
    """A person says that it is the meter it always was."""
    with bench.journal.transaction():
        bench.journal.save_order(Order(meter, "same", bench.clock.now_ms, "installer", confirmed=True))


@pytest.mark.fault("F18")
def test_a_person_may_vouch_for_it(tmp_path: Path) -> None:
    bench = a_bench(tmp_path, 999_990)
    same(bench, "reflow-1")
    assert bench.read({"reflow-1": 5}).held == {} and bench.journal.orders() == {}
    assert bench.deltas("reflow-1") == [10_000, 140_000]


@pytest.mark.fault("F16", "F18")
@pytest.mark.parametrize("meter", ["reflow-1", "wave-1"])
def test_what_a_person_said_of_a_meter_that_fell_holds_until_three_boundaries_make_a_reset_of_it(
    tmp_path: Path, meter: str
) -> None:
    """Else the word was used up by the first of them, and the next ones were held again."""
    before = {"reflow-1": 400_000, "wave-1": 500_000}
    bench = a_bench(tmp_path, before["reflow-1"], neighbour=before["wave-1"])
    gone = {"reflow-1": 500_100} if meter == "wave-1" else {}  # something else answers there
    bench.read({meter: 1_000, **gone})
    assert bench.read({meter: 1_001, **gone}).not_booked[meter].kind == "identity"
    same(bench, meter)
    for turn in range(2):
        assert bench.read({meter: 1_002 + turn, **gone}).held[meter].startswith("fall")
    assert bench.read({meter: 1_004, **gone}).held.keys() <= gone.keys()
    assert len(epochs(bench)) == 1 and bench.journal.orders() == {}


@pytest.mark.fault("F16", "F18")
@pytest.mark.parametrize("in_site_file", ["200", None])
def test_a_new_meter_that_has_never_said_its_number_need_not_say_it_after_a_reset(
    tmp_path: Path, in_site_file: str | None
) -> None:
    """A person said it, with the exchange, and may have written it into the site file before: not the meter's word."""
    bench = a_bench(tmp_path, 400_000)
    said, neighbour = (replace(bench.meters[0], serial=in_site_file), bench.meters[1])
    bench.restart()
    bench.wire((said, neighbour))
    order = Order("reflow-1", "exchange", bench.clock.now_ms, "installer", serial="200", confirmed=True)
    with bench.journal.transaction():
        bench.journal.save_order(order)
    assert bench.read({"reflow-1": 50}).held == {}
    for turn in range(2):
        assert bench.read({"reflow-1": turn}, times=3).held["reflow-1"].startswith("fall")
    assert bench.read({"reflow-1": 2}, times=3).held == {}
    assert len(epochs(bench)) == 2


@pytest.mark.fault("F19", "F30")
def test_the_neighbour_without_a_number_waits_too_whatever_its_rise(tmp_path: Path) -> None:
    """World seed 444: the meter that says its number had been exchanged a minute before, its register was new."""
    bench = a_bench(tmp_path, 400_000)
    for turn in range(4):
        closed = bench.read({"reflow-1": 50_010 + turn, "wave-1": 876_000 + turn}, times=3)
        assert "reflow-1" in closed.held["wave-1"] and closed.not_booked["wave-1"].kind == "identity"
    bench.read({"reflow-1": 400_009, "wave-1": 50_020}, serials=OWN)
    assert bench.deltas("wave-1") == [10_000, 190_000] and len(epochs(bench)) == 0


@pytest.mark.fault("F19", "F43")
def test_after_a_long_silence_too(tmp_path: Path) -> None:
    """World seed 474: nine days in which the neighbour can have counted anything."""
    bench = a_bench(tmp_path, 400_000)
    bench.clock.now_ms += 9 * 1440 * MINUTE_MS
    bench.clock.up_ms += 9 * 1440 * MINUTE_MS
    closed = bench.read({"reflow-1": 50_010, "wave-1": 60_000}, times=3)
    assert "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 410_000, "wave-1": 60_001}, serials=OWN, times=3)
    assert bench.deltas("wave-1") == [10_000, 100_000_000]


@pytest.mark.fault("F19", "F30")
def test_two_registers_so_near_that_both_seem_to_rise_are_told_by_the_number_that_is_missing(
    tmp_path: Path,
) -> None:
    """World seed 12469: 0.6 kWh apart, and one of the two meters was new since an hour before."""
    bench = a_bench(tmp_path, 400_000, neighbour=400_020)
    for turn in range(4):
        closed = bench.read({"reflow-1": 400_040 + turn, "wave-1": 400_025 + turn})
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 400_030, "wave-1": 400_050}, serials=OWN)
    assert bench.deltas("reflow-1") == [10_000, 290_000] and bench.deltas("wave-1") == [10_000, 290_000]


@pytest.mark.fault("F19", "F30")
def test_one_that_moved_oddly_without_its_number_is_believed_nothing_until_it_says_it(tmp_path: Path) -> None:
    """What answers there may come to a register that fits while its own meter's is not read (world seed 12469)."""
    bench = a_bench(tmp_path, 400_000)
    bench.read({"reflow-1": 400_900}, times=3)
    for turn in range(3):
        closed = bench.read({"reflow-1": 400_010 + turn})
        assert closed.not_booked["reflow-1"].kind == "identity", "it fits by now"
        bench.restart()
        bench.wire(bench.meters)
    bench.read({"reflow-1": 400_020}, serials=OWN)
    bench.read({"reflow-1": 400_021})
    assert bench.deltas("reflow-1") == [10_000, 190_000, 10_000]


@pytest.mark.fault("F19")
def test_a_meter_that_was_set_otherwise_and_says_its_number_holds_no_neighbour_up(tmp_path: Path) -> None:
    """World seed 474: where nobody knows a circuit's power any rise fits, and the two waited for ever."""
    one, other = (replace(each, serial=None, rated_w=None) for each in two_meters())
    bench = Bench(tmp_path, (replace(one, profile=replace(one.profile, identity="serial_number")), other))

    def read(counts: dict[str, int], ratio: int, serials: dict[str, str]) -> Closed:
        cut = bench.cut_of(counts, serials=serials)
        told = tuple(replace(each, fingerprint=(("ct_ratio", (ratio,)),)) for each in cut.samples[:1])
        return bench.closer.close(bench.journal, replace(cut, samples=(*told, *cut.samples[1:])))

    for turn in range(2):
        read({"reflow-1": 400_000 + turn, "wave-1": 399_000 + turn}, 30, OWN)
    closed = read({"reflow-1": 400_010, "wave-1": 400_500}, 40, OWN)
    assert closed.held.keys() == {"reflow-1"} and closed.held["reflow-1"].startswith("fingerprint")
    closed = read({"reflow-1": 400_510, "wave-1": 400_600}, 40, {})
    assert closed.held.keys() == {"reflow-1", "wave-1"}, "nobody says that it is not the other one"
