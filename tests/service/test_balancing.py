"""The balance of a period from the sealed batches, as the control socket and the command give it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.cli import chinese
from agent.cli.balance import ENGLISH, text_of
from agent.metering.plant import Role
from agent.service.balancing import Balancer
from agent.service.close import Closed
from tests.metering.examples import meter
from tests.service.bench import KWH_REGISTER, Bench, two_meters
from tests.service.test_publish import OwnThread


def wired(path: Path, **incomer: Any) -> Bench:
    """An incomer with the reflow oven and the wave soldering machine behind it."""
    plain = meter(KWH_REGISTER, id="incomer-1", address=9, serial="900", role=Role.INCOMER, shares=())
    reflow, wave = (replace(each, parent="incomer-1", accuracy_class="1") for each in two_meters())
    return Bench(path, (replace(plain, accuracy_class="0.5", rated_w=400_000, **incomer), reflow, wave))


async def balance(bench: Bench, from_ms: int | None = None) -> dict[str, Any]:
    begins = 0 if from_ms is None else from_ms
    return await Balancer(OwnThread(bench.journal)).answer(
        {"from_ms": begins, "to_ms": bench.clock.now_ms + 1000}
    )


def read(bench: Bench, incomer: int, reflow: int, wave: int) -> Closed:
    return bench.read({"incomer-1": incomer, "reflow-1": reflow, "wave-1": wave})


async def test_what_came_in_is_compared_with_what_was_counted_behind(tmp_path: Path) -> None:
    bench = wired(tmp_path)
    read(bench, 1000, 0, 0)
    read(bench, 1100, 40, 50)
    read(bench, 1200, 80, 100)
    node = (await balance(bench))["nodes"][0]
    assert (node["meter"], node["verdict"]) == ("incomer-1", "unmetered")
    assert (node["inflow_kwh"], node["behind_kwh"], node["residual_kwh"]) == (
        "2.000000",
        "1.800000",
        "0.200000",
    )
    assert node["behind"] == {"reflow-1": "0.800000", "wave-1": "1.000000"}


@pytest.mark.fault("F27")
async def test_a_meter_with_a_wrong_ratio_is_impossible_and_the_command_says_where_to_look(
    tmp_path: Path,
) -> None:
    bench = wired(tmp_path)
    read(bench, 10_000, 0, 0)
    read(bench, 10_010, 60, 40)
    found = await balance(bench)
    node = found["nodes"][0]
    assert node["verdict"] == "impossible" and node["residual_milliwh"] == -900_000
    text = text_of(found, ENGLISH)
    assert "-0.900000" in text and "IMPOSSIBLE" in text and "(-900.0 %)" in text
    assert "不可能" in text_of(found, chinese.BALANCE)


async def test_only_deltas_that_end_in_the_period_count(tmp_path: Path) -> None:
    bench = wired(tmp_path)
    read(bench, 1000, 0, 0)
    read(bench, 1100, 40, 50)
    middle = bench.clock.now_ms + 1000
    read(bench, 1110, 44, 56)
    assert (await balance(bench, middle))["nodes"][0]["inflow_kwh"] == "0.100000"


async def test_a_meter_that_was_not_read_is_missing_and_holes_are_named(tmp_path: Path) -> None:
    bench = wired(tmp_path)
    for turn in range(2):
        bench.read({"incomer-1": 1000 + turn, "reflow-1": 500_000 + turn})
    found = await balance(bench)
    assert found["nodes"][0]["lacking"] == ["wave-1"]
    assert "no judgement" in text_of(found, ENGLISH)
    for turn in range(4):
        read(bench, 1010 + turn, 3 + turn, 7 + turn)
    assert (await balance(bench))["nodes"][0]["holes"] == {"reflow-1": 1}


async def test_a_parent_of_another_gateway_is_left_to_the_platform(tmp_path: Path) -> None:
    bench = wired(tmp_path, parent="gw02/incomer-0")
    read(bench, 1000, 0, 0)
    read(bench, 1100, 40, 50)
    found = await balance(bench)
    assert found["elsewhere"] == {"incomer-1": "gw02/incomer-0"} and "gw02" in text_of(found, ENGLISH)


@pytest.mark.parametrize("arguments", [{}, {"from_ms": 5, "to_ms": 5}, {"from_ms": "1", "to_ms": 2}])
async def test_other_questions_are_refused(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="two times"):
        await Balancer(OwnThread(wired(tmp_path).journal)).answer(arguments)


def test_both_languages_have_the_same_sentences() -> None:
    assert chinese.BALANCE.keys() == ENGLISH.keys()
