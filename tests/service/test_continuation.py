"""A known meter under a new id: its last energy stays with the old id, and that it is the same meter is declared."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.reporting.event import Event
from tests.service.bench import Bench
from tests.service.test_restore import opened, restore


def continuations(bench: Bench) -> list[Event]:
    return [event for _, batch in bench.batches() for event in batch.events if event.type == "continuation"]


def rename(bench: Bench, **changes: object) -> None:
    reflow, wave = bench.meters
    bench.wire((replace(reflow, id="oven-7", **changes), wave))  # type: ignore[arg-type]


@pytest.mark.fault("F81")
def test_a_renamed_meter_is_closed_under_its_old_id_and_declared(tmp_path: Path) -> None:
    bench, _ = opened(tmp_path)
    rename(bench)
    bench.read({"oven-7": 1025, "wave-1": 506})
    bench.read({"oven-7": 1030, "wave-1": 507})
    (event,) = continuations(bench)
    assert (event.body["meter_from"], event.body["meter_to"], event.body["serial"]) == (
        "reflow-1",
        "oven-7",
        "100",
    )
    assert bench.deltas("reflow-1") == [100_000, 150_000]
    assert bench.deltas("oven-7") == [50_000]


def test_another_meter_under_a_new_id_is_a_new_meter(tmp_path: Path) -> None:
    bench, _ = opened(tmp_path)
    rename(bench, serial="300")
    bench.read({"oven-7": 1025})
    assert continuations(bench) == []
    assert bench.deltas("reflow-1") == [100_000]


def test_a_register_that_fell_meanwhile_is_declared_and_not_closed(tmp_path: Path) -> None:
    bench, _ = opened(tmp_path)
    rename(bench)
    bench.read({"oven-7": 3})
    assert len(continuations(bench)) == 1
    assert bench.deltas("reflow-1") == [100_000]


def test_a_jump_that_no_circuit_can_make_is_not_booked_by_a_new_name(tmp_path: Path) -> None:
    bench, _ = opened(tmp_path)
    rename(bench)
    bench.read({"oven-7": 900_000})
    assert bench.deltas("reflow-1") == [100_000]


def test_a_restored_chain_says_it_again(tmp_path: Path) -> None:
    bench, said = opened(tmp_path)
    rename(bench)
    bench.read({"oven-7": 1025})
    bench.read({"oven-7": 1030})
    restore(bench, said)
    assert len(continuations(bench)) == 1
    assert (bench.deltas("reflow-1"), bench.deltas("oven-7")) == ([150_000], [50_000])
