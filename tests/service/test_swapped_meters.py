"""Two meters have one another's address: nothing is booked for either until that ends or a person speaks."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.metering.memory import Order
from tests.service.bench import MINUTE_MS, Bench, two_meters
from tests.service.gates import HOUR_MS, epochs, events, newest, read, restart

# --------------------------------------------------------------------------------------------------- two meters swapped


@pytest.mark.fault("F35")
def test_two_meters_exchanged_on_the_bus_are_told_by_their_serial_numbers_and_nothing_is_booked(
    tmp_path: Path,
) -> None:
    reflow, wave = (replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (reflow, wave))
    own = {"reflow-1": "100", "wave-1": "200"}
    bench.read({"reflow-1": 1000, "wave-1": 500_000}, serials=own)
    bench.read({"reflow-1": 1001, "wave-1": 500_001}, serials=own)
    for turn in range(5):
        closed = bench.read(
            {"reflow-1": 500_002 + turn, "wave-1": 1002 + turn},
            serials={"reflow-1": "200", "wave-1": "100"},
        )
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 1010, "wave-1": 500_010}, serials=own)
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [10_000, 90_000]
    assert epochs(bench) == []


@pytest.mark.fault("F19")
@pytest.mark.parametrize("rated_w", [40_000, None])
def test_two_nameless_meters_exchanged_on_the_bus_are_told_by_their_registers(
    tmp_path: Path, rated_w: int | None
) -> None:
    pair = tuple(replace(each, serial=None, rated_w=rated_w) for each in two_meters())
    bench = Bench(tmp_path, (pair[0], pair[1]))
    bench.read({"reflow-1": 1000, "wave-1": 500_000})
    for turn in range(5):
        counts = {"reflow-1": 500_001 + turn, "wave-1": 1001 + turn}
        closed = bench.read(counts, times=3)
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
        restart(bench)
    bench.read({"reflow-1": 1010, "wave-1": 500_010})
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [100_000]
    assert epochs(bench) == []


@pytest.mark.fault("F19")
def test_meters_whose_numbers_are_known_and_cannot_be_read_are_told_by_their_registers_too(
    tmp_path: Path,
) -> None:
    """The site file names both numbers, and nobody said that they hang elsewhere now."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1000, "wave-1": 500_000})
    closed = bench.read({"reflow-1": 500_001, "wave-1": 1001}, times=3)
    assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 1010, "wave-1": 500_010})
    assert bench.deltas("reflow-1") == bench.deltas("wave-1") == [100_000]


@pytest.mark.fault("F19", "F35")
def test_a_serial_number_that_was_read_before_the_exchange_proves_nothing_for_a_register_that_fell(
    tmp_path: Path,
) -> None:
    """World seed 4003: one meter's number was ten minutes old, the other has none to give, and the rise was booked."""
    reflow, wave = (replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (reflow, wave))
    bench.read({"reflow-1": 500_000, "wave-1": 1000}, serials={"reflow-1": "100"})
    closed = bench.read({"reflow-1": 1001, "wave-1": 500_001}, serials={"reflow-1": "100"}, times=3)
    assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    assert bench.deltas("wave-1") == []


@pytest.mark.fault("F15", "F19")
def test_two_nameless_meters_exchanged_while_one_passes_its_modulus_are_told_by_their_registers(
    tmp_path: Path,
) -> None:
    """World seed 4029: the other register had just begun again at zero, and was taken for a reset."""
    pair = tuple(replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (pair[0], pair[1]))
    bench.read({"reflow-1": 999_999, "wave-1": 500_000})
    for turn in range(4):
        closed = bench.read({"reflow-1": 500_001 + turn, "wave-1": 1 + turn}, times=3)
        assert "wave-1" in closed.held["reflow-1"] and "reflow-1" in closed.held["wave-1"]
    bench.read({"reflow-1": 6, "wave-1": 500_010})
    assert bench.deltas("reflow-1") == [70_000] and bench.deltas("wave-1") == [100_000]
    assert epochs(bench) == []


@pytest.mark.fault("F15", "F19")
def test_two_nameless_meters_that_nobody_read_for_weeks_do_not_hold_one_another_for_ever(
    tmp_path: Path,
) -> None:
    """Each register leaves room for a turn, and for the other one's: neither is a sign (world seed 12681)."""
    pair = tuple(replace(each, serial=None) for each in two_meters())
    bench = Bench(tmp_path, (pair[0], pair[1]))
    bench.read({"reflow-1": 1_000, "wave-1": 2_000})
    bench.clock.now_ms += 20 * 24 * HOUR_MS
    for turn in range(4):
        closed = bench.read({"reflow-1": 340_000 + turn, "wave-1": 350_000 + turn}, times=3)
    assert closed.held == {}
    assert epochs(bench) == [("reset", 10_000_000, 3_400_000_000), ("reset", 20_000_000, 3_500_000_000)]


# -------------------------------------------------------------------------- ... and the other one of them is not read


def a_pair(tmp_path: Path, counts: int, other_counts: int, **changes: object) -> Bench:
    """One that cannot say who it is, and one that can; both have been read twice."""
    tmp_path.mkdir(exist_ok=True)
    one, other = two_meters()
    bench = Bench(
        tmp_path,
        (replace(one, serial=None, **changes), replace(other, serial=None, **changes)),  # type: ignore[arg-type]
    )
    for turn in range(2):
        cut = {"reflow-1": counts + turn, "wave-1": other_counts + turn}
        bench.read(cut, serials={"wave-1": "200"})
    return bench


@pytest.mark.fault("F19")
@pytest.mark.parametrize("read_of_the_other", [{}, {"wave-1": 1_900_000}])
def test_a_jump_to_where_another_meter_was_seen_last_waits_until_that_one_is_read(
    tmp_path: Path, read_of_the_other: dict[str, int]
) -> None:
    """World seed 6105: the other one of the pair gave no sound answer, and its register was booked."""
    bench = a_pair(tmp_path, 4_000, 998_000)
    for turn in range(4):
        closed = bench.read({"reflow-1": 998_010 + turn} | read_of_the_other, times=3)
        assert "wave-1" in closed.held["reflow-1"] and closed.not_booked["reflow-1"].kind == "identity"
        restart(bench)
    bench.read({"reflow-1": 4_009, "wave-1": 998_020})
    assert bench.deltas("reflow-1") == [10_000, 80_000] and bench.deltas("wave-1") == [10_000, 190_000]
    assert epochs(bench) == []


@pytest.mark.fault("F19")
def test_a_fall_to_where_another_meter_was_seen_last_opens_no_epoch_until_that_one_is_read(
    tmp_path: Path,
) -> None:
    """World seed 6213: three boundaries made a reset of it."""
    bench = a_pair(tmp_path, 900_000, 4_000)
    for turn in range(5):
        closed = bench.read({"reflow-1": 4_002 + turn})
        assert "wave-1" in closed.held["reflow-1"]
    bench.read({"reflow-1": 900_010, "wave-1": 4_010})
    assert bench.deltas("reflow-1") == [10_000, 90_000] and bench.deltas("wave-1") == [10_000, 90_000]
    assert epochs(bench) == []


@pytest.mark.fault("F15", "F19")
def test_where_nobody_knows_how_long_it_was_the_other_register_may_have_gone_round(tmp_path: Path) -> None:
    """World seed 6248: nine days after a start without a clock."""
    bench = a_pair(tmp_path, 740_000, 998_000)
    bench.clock.sync = "U"
    for turn in range(5):
        bench.clock.boot, bench.clock.up_ms = "another", MINUTE_MS * turn
        closed = bench.read({"reflow-1": 329_000 + turn, "wave-1": 770_000 + turn}, times=3)
        assert "wave-1" in closed.held["reflow-1"]
    assert epochs(bench) == [] and bench.deltas("reflow-1") == [10_000]


@pytest.mark.fault("F16", "F40")
def test_where_nobody_knows_how_long_it_was_a_meter_that_is_only_silent_explains_no_fall(
    tmp_path: Path,
) -> None:
    bench = a_pair(tmp_path, 740_000, 998_000)
    bench.clock.sync = "U"
    for turn in range(3):
        bench.clock.boot, bench.clock.up_ms = "another", MINUTE_MS * turn
        closed = bench.read({"reflow-1": 3 + turn})
        assert turn == 2 or closed.held["reflow-1"].startswith("fall")
    assert len(epochs(bench)) == 1


@pytest.mark.fault("F16")
@pytest.mark.parametrize("counts", [3, 300_000])
def test_a_reset_is_one_where_the_other_meter_is_read_or_cannot_show_that_register(
    tmp_path: Path, counts: int
) -> None:
    bench = a_pair(tmp_path, 900_000, 4_000)
    for turn in range(3):
        bench.read({"reflow-1": counts + turn})
    assert len(epochs(bench)) == 1
    bench = a_pair(tmp_path / "second", 900_000, 4_000)
    for turn in range(3):
        bench.read({"reflow-1": 4_002 + turn, "wave-1": 4_002 + turn}, serials={"wave-1": "200"})
    assert len(epochs(bench)) == 1


@pytest.mark.fault("F19")
def test_a_meter_that_was_away_long_before_explains_a_jump_and_no_fall(tmp_path: Path) -> None:
    """Energy is never guessed; and a reset need not wait for a meter that has left for good."""
    bench = a_pair(tmp_path, 900_000, 4_000)
    bench.clock.now_ms += HOUR_MS
    bench.read({"reflow-1": 900_002}, times=3)
    for turn in range(3):
        bench.read({"reflow-1": 4_010 + turn})
    assert len(epochs(bench)) == 1
    bench = a_pair(tmp_path / "second", 4_000, 990_000)
    bench.clock.now_ms += HOUR_MS
    bench.read({"reflow-1": 4_002}, times=3)
    assert "wave-1" in bench.read({"reflow-1": 990_010}, times=3).held["reflow-1"]


@pytest.mark.fault("F19")
def test_whoever_says_who_it_is_or_for_whom_a_person_speaks_waits_for_no_other(tmp_path: Path) -> None:
    bench = a_pair(tmp_path, 4_000, 998_000)
    cut = bench.cut_of({"reflow-1": 998_010}, times=3)
    proved = tuple(replace(each, serial="100") for each in cut.samples)
    with bench.journal.transaction():
        head = bench.journal.heads()["reflow-1"]
        bench.journal.save_head(replace(head, basis=replace(head.basis, serial="100")))
    bench.closer.close(bench.journal, replace(cut, samples=proved))
    assert "rate" in newest(bench).q

    bench = a_pair(tmp_path / "second", 4_000, 998_000)
    order = Order("reflow-1", "same", bench.clock.now_ms, "Li Na", confirmed=True)
    with bench.journal.transaction():
        bench.journal.save_order(order)
    bench.read({"reflow-1": 998_010}, times=3)
    assert "rate" in newest(bench).q


@pytest.mark.fault("F40")
def test_a_rise_in_a_time_that_nobody_knows_is_the_own_one_unless_another_register_is_very_much_nearer(
    tmp_path: Path,
) -> None:
    bench = a_pair(tmp_path, 4_000, 998_000)
    bench.clock.boot = "another"
    assert "wave-1" in bench.read({"reflow-1": 998_010}, times=3).held["reflow-1"]
    bench.clock.boot = "yet another"
    bench.read({"reflow-1": 5_000}, times=3)
    assert bench.deltas("reflow-1") == [10_000, 9_990_000]


@pytest.mark.fault("F18")
def test_a_serial_number_that_differs_from_the_site_files_is_refused_and_said(bench: Bench) -> None:
    read(bench, 1000, serial="100")
    assert read(bench, 1001, serial="999").not_booked["reflow-1"].kind == "identity"
    assert events(bench, "refused") and bench.deltas("reflow-1") == []
