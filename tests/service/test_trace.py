"""The life of a delta is found again, and recomputed, from what the journal keeps."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.cli.group import main
from agent.cli.trace import text_of
from agent.service.trace import Tracer, _plain, trace
from tests.service.bench import MINUTE_MS, NOON_MS, Bench, HandClock, with_ratio


def life(bench: Bench, at_ms: int, meter: str = "reflow-1") -> dict[str, Any]:
    each = next(each for each in bench.meters if each.id == meter)
    found = trace(bench.journal, each, at_ms)
    assert text_of(found, Path("site.toml")), "everything that is found can be told"
    json.dumps(found)
    return found


def minute(number: int) -> int:
    """A moment in the middle of the interval that the reading `number` closes; 1 is the first reading."""
    return NOON_MS + number * MINUTE_MS - MINUTE_MS // 2


def test_a_delta_is_found_with_everything_that_made_it(bench: Bench) -> None:
    for count in (100, 107, 120):
        bench.read({"reflow-1": count, "wave-1": 5}, serials={"reflow-1": "100"})
    found = life(bench, minute(2))
    assert found["found"] == "delta"
    assert found["delta"]["delta"] == 70_000
    assert (found["before"]["words"], found["after"]["words"]) == (["0000", "0064"], ["0000", "006B"])
    assert (found["after"]["counts"], found["after"]["per_count_milliwh"]) == ("107", "10000")
    assert [gate["passed"] for gate in found["gates"]] == [None, True, True, True, True]
    head, _ = bench.batches()[1]
    assert (found["batch"]["chain"], found["batch"]["seq"], found["batch"]["hash"]) == (
        head.chain,
        2,
        head.hash,
    )
    assert found["batch"]["stored_ms"] is None and found["receipt"] is None
    assert "0.070000 kWh" in text_of(found, Path("site.toml"))


@pytest.mark.fault("F40")
def test_a_time_of_1970_is_shown_with_what_it_should_have_been(tmp_path: Path) -> None:
    bench = Bench(tmp_path, clock=HandClock(MINUTE_MS, sync="U", boot="one", up_ms=MINUTE_MS))
    for count in (100, 107, 120):
        bench.read({"reflow-1": count})
    bench.clock.now_ms, bench.clock.sync = bench.clock.now_ms + NOON_MS, "S"
    for count in (130, 140):
        bench.read({"reflow-1": count})
    found = life(bench, MINUTE_MS * 7 // 2)
    told_ms = found["after"]["at_ms"]
    assert told_ms < 10 * MINUTE_MS
    right = found["after"]["corrected"]
    assert (right["at_ms"], right["said_in"]) == (told_ms + NOON_MS, 4) and right["err_ms"] > 0
    assert found["before"]["corrected"]["at_ms"] == found["before"]["at_ms"] + NOON_MS
    assert "by the clock event of batch 4 that was 2025-" in text_of(found, Path("site.toml"))
    assert "corrected" not in life(bench, bench.clock.now_ms - MINUTE_MS // 2)["after"]


def test_a_moment_belongs_to_the_interval_that_ends_at_or_after_it(bench: Bench) -> None:
    for count in (100, 107, 120):
        bench.read({"reflow-1": count})
    end_ms = life(bench, minute(2))["delta"]["end_ms"]
    assert life(bench, end_ms)["delta"]["n"] == 1
    assert life(bench, end_ms + 1)["delta"]["n"] == 2


def test_the_receipt_that_covers_it(bench: Bench) -> None:
    for count in (100, 107, 120):
        bench.read({"reflow-1": count})
    bench.acknowledge(bench.batches()[1][0], number=7)
    found = life(bench, minute(2))
    assert found["batch"]["stored_ms"] == bench.clock.now_ms
    assert (found["receipt"]["gen"], found["receipt"]["ack_no"]) == (0, 7)
    assert life(bench, minute(3))["receipt"] is None, "acknowledged is only what the head covers"


def test_a_rollover_is_recomputed(bench: Bench) -> None:
    for count in (999_990, 999_995, 5):
        bench.read({"reflow-1": count})
    found = life(bench, minute(3))
    assert found["delta"]["roll"] == 10**10
    assert found["gates"][-1]["passed"] and "rollover" in found["gates"][-1]["text"]


def test_before_the_first_and_after_the_last_reading(bench: Bench) -> None:
    assert life(bench, NOON_MS)["found"] == "nothing"
    bench.read({"reflow-1": 100})
    opening = life(bench, NOON_MS)
    assert (opening["found"], opening["after"]["opens"], opening["event"]) == ("opening", "first", None)
    later = life(bench, minute(2))
    assert later["found"] == "later" and later["before"]["register_milliwh"] == 1_000_000


def test_a_declared_hole_is_shown_with_its_event(bench: Bench) -> None:
    bench.wire((replace(bench.meters[0], serial=None), bench.meters[1]))
    for count in (100, 107):
        bench.read({"reflow-1": count}, serials={"reflow-1": "100"})
    for count in (3, 4, 5, 6):
        bench.read({"reflow-1": count}, serials={"reflow-1": "999"})
    hole = life(bench, minute(3))
    assert (hole["found"], hole["after"]["opens"]) == ("opening", "exchange")
    assert hole["event"]["type"] == "epoch"
    assert (hole["event"]["serial_from"], hole["event"]["serial_to"]) == ("100", "999")
    assert hole["batch"]["seq"] >= 3
    assert life(bench, minute(6))["delta"]["epoch"] == 2


def test_the_closing_read_of_a_change_of_the_map_is_a_delta_of_the_old_one(bench: Bench) -> None:
    for count in (100, 107):
        bench.read({"reflow-1": count})
    old = bench.batches()[-1][1].cfg
    bench.wire((with_ratio(bench.meters[0], "30"), bench.meters[1]))
    bench.read({"reflow-1": 110})
    found = life(bench, minute(3))
    assert (found["found"], found["delta"]["delta"], found["batch"]["cfg"]) == ("delta", 30_000, old)


def test_what_retention_removed_is_not_made_up(bench: Bench) -> None:
    for count in range(100, 110):
        bench.read({"reflow-1": count})
    bench.acknowledge(bench.batches()[7][0], number=1)
    with bench.journal.transaction():
        bench.journal.purge(stored_before_ms=bench.clock.now_ms + 1)
    found = life(bench, minute(4))
    assert found["found"] == "purged" and "delta" not in found
    assert life(bench, minute(10))["found"] == "delta"


def test_a_superseded_batch_is_named_as_such(bench: Bench) -> None:
    for count in (100, 107):
        bench.read({"reflow-1": count})
    with bench.journal.transaction():
        bench.journal.supersede_after(None)
    assert life(bench, minute(2))["batch"]["superseded"] is True


def test_a_delta_is_found_among_thousands(bench: Bench) -> None:
    for count in range(300):
        bench.read({"reflow-1": count, "wave-1": 1})
    for number in (2, 150, 299, 300):
        assert life(bench, minute(number))["delta"]["n"] == number - 1


async def test_the_running_agent_adds_the_puback_and_knows_its_meters(bench: Bench) -> None:
    class Storage:
        async def run(self, work: Any) -> Any:
            return work(bench.journal)

    for count in (100, 107):
        bench.read({"reflow-1": count})
    tracer = Tracer(bench.meters, Storage(), {2: 1_763_812_999_000})
    found: Any = await tracer.answer({"meter": "reflow-1", "at_ms": minute(2)})
    assert found["batch"]["puback_ms"] == 1_763_812_999_000
    assert (await tracer.answer({"meter": "reflow", "at_ms": 1}))["unknown_meter"] == "reflow"
    with pytest.raises(ValueError, match="a meter and a time"):
        await tracer.answer({"meter": "reflow-1", "at_ms": "now"})


def test_a_gate_that_would_not_pass_today_says_so(bench: Bench) -> None:
    for count in (100, 107):
        bench.read({"reflow-1": count})
    bench.meters = (replace(bench.meters[0], rated_w=1), bench.meters[1])
    move = life(bench, minute(2))["gates"][-1]
    assert move["passed"] is False and "NOT confirmed" in move["text"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(13869885, 8192), "1693.1011962890625"),
        (Fraction(1, 3), "1/3"),
        (Fraction(-7, 20), "-0.35"),
        (Fraction(10_000), "10000"),
        (Fraction(0), "0"),
        (Fraction(1, 2**40), "1/1099511627776"),
    ],
)
def test_values_are_exact_decimals_where_there_are_any(value: Fraction, text: str) -> None:
    assert _plain(value) == text


@pytest.mark.parametrize(
    ("time", "words"), [("yesterday", "is not a time"), ("1969-12-31", "is before 1970")]
)
def test_a_wrong_time_is_told_with_an_example(tmp_path: Path, time: str, words: str) -> None:
    result = CliRunner().invoke(main, ["trace", "--site", str(tmp_path / "site.toml"), "m1", time])
    assert result.exit_code == 2 and words in result.stderr
