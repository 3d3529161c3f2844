"""What the exceptions of a meter mean to the worker of its line: busy, failed, without a path, or no such register."""

import asyncio
from dataclasses import replace

import pytest

from simulators.meters.faults import Fault, Kind
from tests.service.line_hall import (
    EACH_SECOND,
    FLAT_OUT,
    IDLE,
    Hall,
    energy_meter,
    hall_of,
    in_hall,
)
from tests.support.plants import meter


@pytest.mark.fault("F12")
@pytest.mark.parametrize("code", [5, 6])
def test_a_busy_meter_is_left_alone_and_holds_nobody_up(code: int) -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(5)
        hall.meters["m1"].faults.append(Fault(Kind.EXCEPTION, code=code))
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(20)
        assert len(hall.asked(1, since_ns=since_ns)) <= 6
        assert len(hall.asked(2, since_ns=since_ns)) > 300
        assert hall.worker.watches["m1"].failures == 0
        hall.revive("m1")
        await asyncio.sleep(30)
        assert "m1" in await hall.sweep()

    in_hall(hall_of(3), scenario)


@pytest.mark.fault("F12")
def test_a_meter_that_is_busy_for_more_than_a_minute_fails() -> None:
    async def scenario(hall: Hall) -> None:
        hall.meters["m1"].faults.append(Fault(Kind.EXCEPTION, code=6))
        await asyncio.sleep(100)
        assert hall.worker.watches["m1"].failures == 1

    in_hall(hall_of(2), scenario)


@pytest.mark.parametrize("code", [5, 6])
def test_a_meter_that_is_busy_when_the_agent_starts_is_read_when_it_has_time(code: int) -> None:
    """It has never said anything else; after a minute it counts as failing and is still asked."""

    async def scenario(hall: Hall) -> None:
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(600)
        assert hall.worker.watches["m1"].failures == 1
        assert 15 <= len(hall.asked(1, since_ns=since_ns)) <= 30
        hall.revive("m1")
        await asyncio.sleep(31)
        assert set(await hall.sweep()) == {"m1", "m2"}
        assert hall.worker.watches["m1"].failures == 0

    in_hall(hall_of(2), scenario, wired=EACH_SECOND, faults={"m1": Fault(Kind.EXCEPTION, code=code)})


@pytest.mark.parametrize("code", [4, 10, 11])
def test_a_meter_that_fails_by_an_exception_when_the_agent_starts_is_probed(code: int) -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(600)
        hall.revive("m1")
        await asyncio.sleep(60)
        assert set(await hall.sweep()) == {"m1", "m2"}

    in_hall(hall_of(2), scenario, wired=EACH_SECOND, faults={"m1": Fault(Kind.EXCEPTION, code=code)})


def test_a_dead_meter_that_comes_back_busy_is_dead_no_more() -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(120)
        hall.revive("m1")
        hall.meters["m1"].faults.append(Fault(Kind.EXCEPTION, code=6))
        await asyncio.sleep(60)
        assert hall.worker.watches["m1"].failures == 0
        hall.revive("m1")
        hall.kill("m1")
        await asyncio.sleep(120)
        assert hall.worker.watches["m1"].failures >= 3
        hall.revive("m1")
        await asyncio.sleep(60)
        assert set(await hall.sweep()) == {"m1", "m2"}

    in_hall(hall_of(2), scenario, wired=EACH_SECOND, faults={"m1": Fault(Kind.SILENT)})


@pytest.mark.fault("F11")
@pytest.mark.parametrize("code", [4, 11])
def test_a_failure_said_by_an_exception_backs_off(code: int) -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(5)
        hall.meters["m1"].faults.append(Fault(Kind.EXCEPTION, code=code))
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(60)
        assert len(hall.asked(1, since_ns=since_ns)) <= 12
        hall.revive("m1")
        await asyncio.sleep(60)
        assert "m1" in await hall.sweep()

    in_hall(hall_of(3), scenario)


@pytest.mark.fault("F13")
def test_a_gateway_without_a_path_is_left_alone_as_a_whole() -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(5)
        for each in hall.meters.values():
            each.faults.append(Fault(Kind.EXCEPTION, code=10))
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(60)
        assert sum(len(hall.asked(unit, since_ns=since_ns)) for unit in (1, 2, 3)) < 40
        hall.revive(*hall.meters)
        await asyncio.sleep(60)
        assert len(await hall.sweep()) == 3

    in_hall(hall_of(3), scenario)


@pytest.mark.fault("F13")
def test_one_unit_without_a_path_is_its_own_trouble() -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(5)
        hall.meters["m1"].faults.append(Fault(Kind.EXCEPTION, code=10))
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(20)
        assert len(hall.asked(2, since_ns=since_ns)) > 250

    in_hall(hall_of(3), scenario)


@pytest.mark.fault("F10")
@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_refused_energy_register_is_asked_for_again_after_ten_minutes(code: int) -> None:
    async def scenario(hall: Hall) -> None:
        hall.meters["m1"].faults.append(Fault(Kind.EXCEPTION, code=code))
        assert await hall.sweep() == {}
        asked = len(hall.asked(1))
        assert asked == 3  # once in the first round, twice in the sweep
        for _ in range(5):
            await asyncio.sleep(60)
            assert await hall.sweep() == {}
        assert len(hall.asked(1)) == asked
        assert str(code) in (hall.worker.watches["m1"].last_error or "")
        hall.revive("m1")
        await asyncio.sleep(310)
        assert set(await hall.sweep()) == {"m1"}
        assert hall.worker.watches["m1"].last_error is None

    plain = energy_meter("m1", 1)
    in_hall([plain], scenario, wired=IDLE)


@pytest.mark.fault("F10")
def test_a_refused_live_block_is_remembered_and_tried_whole_again_after_ten_minutes() -> None:
    """The meter lacks its current register; everything else is read all the same."""
    lacking = meter("m1", 1)
    registers = {name: each for name, each in lacking.profile.registers.items() if name != "current_l1"}

    async def scenario(hall: Hall) -> None:
        hall.meters["m1"].meter = replace(lacking, profile=replace(lacking.profile, registers=registers))
        await asyncio.sleep(60)
        hall.worker.watches["m1"].live.clear()
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(300)
        assert (6, 2) not in {(address, count) for _, address, count in hall.asked(1, since_ns=since_ns)}
        assert set(hall.worker.watches["m1"].live) == {"energy_import", "power_active_total", "voltage_l1"}
        hall.meters["m1"].meter = lacking
        await asyncio.sleep(300)
        assert "current_l1" in hall.worker.watches["m1"].live

    in_hall([lacking], scenario, wired=replace(FLAT_OUT, poll_ms=5000))
