"""A closing read belongs to the old map only where it is surely the same register read in the same way."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.metering.plant import Meter, Share
from tests.metering.examples import profile, register
from tests.service.bench import Bench, two_meters


def events(bench: Bench, kind: str) -> list[dict[str, object]]:
    return [dict(event.body) for _, batch in bench.batches() for event in batch.events if event.type == kind]


def told(bench: Bench, meter_id: str) -> list[tuple[bool, int, int, int]]:
    """Of each delta: whether it stands under the first map, its epoch, its number and its energy."""
    batches = bench.batches()
    first = batches[0][1].cfg
    deltas = ((batch.cfg == first, each) for _, batch in batches for each in batch.deltas)
    return [(old, each.epoch, each.n, each.delta) for old, each in deltas if each.meter == meter_id]


def read_through(each: Meter, mark: str, per_count: str) -> Meter:
    """The same meter through another profile, on another scale."""
    other = profile(register(modulus_counts=10**6, per_count=Fraction(per_count)), hash=mark * 43)
    return replace(each, profile=other)


@pytest.mark.fault("F81")
def test_another_profile_on_another_scale_closes_nothing_and_declares_the_hole(tmp_path: Path) -> None:
    """1000 of the old counts are 100 of the new ones: what lies between was read by nobody in either."""
    reflow, wave = two_meters()
    bench = Bench(tmp_path, (reflow, wave))
    bench.read({"reflow-1": 1000})
    bench.wire((read_through(reflow, "P", "1/10"), wave))
    for count in (101, 102, 104):
        bench.read({"reflow-1": count})
    assert told(bench, "reflow-1") == [(False, 2, 1, 100_000), (False, 2, 2, 200_000)]
    (epoch,) = events(bench, "epoch")
    assert (epoch["reason"], epoch["last"], epoch["first"]) == ("ratio", 10_000_000, 10_100_000)


@pytest.mark.fault("F81")
def test_a_serial_number_that_is_not_read_at_the_change_stops_no_closing_read(
    tmp_path: Path,
) -> None:
    """It was learned at the meter and not forgotten; what was used before the change stays with the old step."""
    nameless = replace(two_meters()[0], serial=None)
    bench = Bench(tmp_path, (nameless,))
    bench.read({"reflow-1": 1000}, serials={"reflow-1": "77"})
    bench.wire((replace(nameless, shares=(Share("another_step", Fraction(1)),)),))
    bench.read({"reflow-1": 1004})
    bench.read({"reflow-1": 1009}, serials={"reflow-1": "77"})
    assert told(bench, "reflow-1") == [(True, 1, 1, 40_000), (False, 1, 2, 50_000)]
    assert events(bench, "epoch") == []


def test_a_renamed_meter_that_is_read_through_another_profile_is_declared_and_not_closed(
    tmp_path: Path,
) -> None:
    reflow, wave = two_meters()
    bench = Bench(tmp_path, (reflow, wave))
    bench.read({"reflow-1": 1000})
    bench.wire((replace(read_through(reflow, "P", "1/100"), id="reflow-2"), wave))
    bench.read({"reflow-2": 1004})
    bench.read({"reflow-2": 1009})
    assert told(bench, "reflow-1") == []
    assert [energy for _, _, _, energy in told(bench, "reflow-2")] == [50_000]
    said = [event for kind in ("continuation", "epoch") for event in events(bench, kind)]
    assert any("reflow-1" in map(str, event.values()) for event in said)


@pytest.mark.fault("F81", "F54")
@pytest.mark.parametrize("renamed", [False, True])
def test_a_position_whose_map_is_lost_closes_nothing_and_loses_nothing(tmp_path: Path, renamed: bool) -> None:
    """As a salvaged journal may have it: in which way it was read nobody can say, and its registers still count."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1000, "wave-1": 7})
    bench.read({"reflow-1": 1003, "wave-1": 7})
    with bench.journal.transaction():
        bench.journal.save_head(replace(bench.journal.heads()["reflow-1"], cfg="B" * 43))
    reflow, wave = bench.meters
    name = "oven-7" if renamed else "reflow-1"
    bench.wire((replace(reflow, id=name, shares=(Share("another_step", Fraction(1)),)), wave))
    bench.read({name: 1010, "wave-1": 7})
    bench.read({name: 1012, "wave-1": 7})
    assert bench.deltas("reflow-1") == [30_000, *([] if renamed else [70_000, 20_000])]
    if renamed:
        assert bench.deltas("oven-7") == [20_000]
        assert [event["meter_from"] for event in events(bench, "continuation")] == ["reflow-1"], (
            "said all the same"
        )
