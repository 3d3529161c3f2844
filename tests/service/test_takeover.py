"""What the running agent does for `apply`: lends its lines between its own reads, and makes way."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from agent.errors import LineDown
from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import DltRequest
from agent.protocol.pdu import ReadRequest
from agent.service.poll import LineWorker
from agent.service.takeover import Takeover, question_of
from simulators.line.virtual import VirtualLine
from tests.service.line_hall import EACH_SECOND, ENERGY, IDLE, Hall, hall_of, in_hall
from tests.service.virtual import VirtualClock, run_virtually

STRANGER = ReadRequest(7, 4, ENERGY, 2)


async def only(lines: AsyncIterator[bytes]) -> Any:
    (line,) = [line async for line in lines]
    return json.loads(line)


def takeover(
    *workers: LineWorker, faults: list[str] | None = None, stop: Callable[[], None] = lambda: None
) -> Takeover:
    async def examine() -> list[str]:
        return faults or []

    return Takeover(workers, examine=examine, sha256=lambda: "aa", stop=stop)


def test_a_meter_that_is_not_in_the_site_is_read_between_two_reads_of_the_agent() -> None:
    meters = hall_of(7)

    async def scenario(hall: Hall) -> None:
        worker = hall.worker
        for _ in range(3):
            said = await only(takeover(worker).read(question_of("line-1", STRANGER, None, 0)))
            assert len(said["words"]) == 2
        sweep = await hall.sweep()
        assert sweep.keys() == {each.id for each in meters}

    in_hall(meters, scenario, wired=replace(EACH_SECOND, id="line-1"))


def test_what_failed_says_its_kind_and_costs_the_others_one_transaction() -> None:
    async def scenario(hall: Hall) -> None:
        agent = takeover(hall.worker)
        hall.kill("m2")
        silent = await only(agent.read(question_of("line-1", ReadRequest(2, 4, ENERGY, 2), None, 0)))
        assert silent["kind"] == "silent" and "2" in silent["text"]
        assert hall.worker.watches["m2"].failures == 0, "a person's question is not the meter's fault"
        assert hall.worker.watches["m2"].owed_ns, "its late answer passes for none of ours"
        refused = await only(agent.read(question_of("line-1", ReadRequest(1, 4, 0x7000, 2), None, 0)))
        assert (refused["kind"], refused["code"]) == ("refused", 2)
        assert (await hall.sweep()).keys() == {"m1"}

    in_hall(hall_of(2), scenario, wired=replace(IDLE, id="line-1"))


def test_other_settings_hold_for_one_read() -> None:
    async def scenario(hall: Hall) -> None:
        settings = SerialSettings(2400, "even", 1)
        agent, request = takeover(hall.worker), ReadRequest(1, 4, ENERGY, 2)
        before_ns = hall.worker.health.busy_ns
        await only(agent.read(question_of("line-1", request, settings, 0)))
        slow_ns = hall.worker.health.busy_ns - before_ns
        await only(agent.read(question_of("line-1", request, None, 0)))
        fast_ns = hall.worker.health.busy_ns - before_ns - slow_ns
        assert slow_ns > 2 * fast_ns, "2400 baud, then 9600 again"
        assert (await hall.sweep()).keys() == {"m1"}

    in_hall(hall_of(1), scenario, wired=replace(IDLE, id="line-1"))


def test_a_line_that_goes_down_answers_all_who_wait() -> None:
    class Dying(VirtualLine):
        async def open(self) -> None:
            return

        async def read(self, *_: object, **__: object) -> Any:
            await asyncio.sleep(0.5)
            raise LineDown("unplugged")

        async def close(self) -> None:
            return

    async def play() -> None:
        port = Dying.__new__(Dying)
        worker = LineWorker(replace(IDLE, id="line-1"), hall_of(1), port, VirtualClock())
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        agent = takeover(worker)
        asked = [agent.read(question_of("line-1", STRANGER, None, 0)) for _ in range(3)]
        said = await asyncio.gather(*map(only, asked))
        assert [(each["kind"], each["text"]) for each in said] == [("line", "unplugged")] * 3
        with pytest.raises(LineDown, match="unplugged"):
            await worker.ask(STRANGER, settings=None, quiet_ms=0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(play())


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"line": "hall-z", "modbus": [1, 3, 0, 2]},
        {"line": "line-1"},
        {"line": "line-1", "modbus": [1, 16, 0, 2]},
        {"line": "line-1", "modbus": [0, 3, 0, 2]},
        {"line": "line-1", "modbus": [1, 3, 0, 126]},
        {"line": "line-1", "modbus": [1, 3, 0]},
        {"line": "line-1", "modbus": [1, 3, 0, 2], "settings": [9600, "mark", 1]},
        {"line": "line-1", "modbus": [1, 3, 0, 2], "quiet_ms": -1},
    ],
)
def test_nothing_but_a_read_is_made(arguments: Mapping[str, object]) -> None:
    async def scenario(hall: Hall) -> None:
        before = len(hall.port.requests)
        with pytest.raises(ValueError, match=r"."):
            await only(takeover(hall.worker).read(arguments))
        assert len(hall.port.requests) == before

    in_hall(hall_of(1), scenario, wired=replace(IDLE, id="line-1"))


def test_a_question_says_all_that_a_read_needs() -> None:
    dlt = question_of("a", DltRequest("000012345678", 0x00010000, 4), SerialSettings(2400, "even", 1), 5)
    assert dlt == {
        "line": "a",
        "dlt645": ["000012345678", 0x00010000, 4],
        "settings": [2400, "even", 1],
        "quiet_ms": 5,
    }


def test_it_makes_way_only_for_the_file_that_is_meant() -> None:
    stopped: list[bool] = []
    agent = takeover(faults=["a fault"], stop=lambda: stopped.append(True))
    assert asyncio.run(only(agent.examine({}))) == {"faults": ["a fault"]}
    with pytest.raises(ValueError, match="another one"):
        asyncio.run(only(agent.take_over({"sha256": "bb"})))
    assert (agent.asked, stopped) == (False, [])
    assert asyncio.run(only(agent.take_over({"sha256": "aa"}))) == {"stopping": True}
    assert stopped == [True]
