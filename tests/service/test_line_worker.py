"""The line worker on a byte-true pair in virtual time: what sick meters cost, what is learned, who is asked when."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agent.metering.plan import BusCost
from agent.metering.plant import SerialSettings, Transport
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.service.poll import LineWorker
from agent.service.ports import Reply, Uptime
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualLine
from simulators.meters.faults import Fault, Kind
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.service.line_hall import (
    ENERGY,
    FLAT_OUT,
    IDLE,
    MS,
    TURNAROUND_MS,
    Hall,
    cycle_ns,
    hall_of,
    in_hall,
)
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.plants import SLOW, line, meter

# ---------------------------------------------------------------------------------------------- dead meters


@pytest.mark.fault("F1")
@pytest.mark.parametrize("dead", [1, 5, 20])
def test_dead_meters_cost_the_others_one_twentieth_and_are_noticed_within_a_minute(dead: int) -> None:
    """The figures of the issue: of 32 meters, at most 5.3 % more cycle, and back within 60 s."""
    names = [f"m{unit}" for unit in range(33 - dead, 33)]
    alone_ns = (32 - dead) * BusCost.serial(SLOW, TURNAROUND_MS * MS).transaction_ns(2)

    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(30)
        hall.kill(*names)
        await asyncio.sleep(30)
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(120)
        assert cycle_ns(hall, 1, since_ns) <= alone_ns * 1053 // 1000
        revived_ns = hall.port.bus.now_ns
        hall.revive(*names)
        await asyncio.sleep(60)
        for name in names:
            unit = hall.meters[name].unit
            assert len(hall.asked(unit, since_ns=revived_ns)) > 5, f"{name} was not read again"

    in_hall(hall_of(32), scenario)


def test_meters_dead_from_the_start_are_found_when_they_come() -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(60)
        hall.revive("m3", "m4")
        await asyncio.sleep(60)
        assert set(await hall.sweep()) == {"m1", "m2", "m3", "m4"}

    meters = hall_of(4)

    async def with_two_dead(hall: Hall) -> None:
        await scenario(hall)

    async def begin(hall: Hall) -> None:
        hall.kill("m3", "m4")
        await with_two_dead(hall)

    in_hall(meters, begin)


def test_a_whole_dead_line_is_asked_little_and_comes_back() -> None:
    names = [f"m{unit}" for unit in range(1, 32)]

    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(10)
        hall.kill(*names)
        await asyncio.sleep(60)
        since_ns, busy_ns = hall.port.bus.now_ns, hall.worker.health.busy_ns
        await asyncio.sleep(120)
        spent_ns = hall.worker.health.busy_ns - busy_ns
        assert 0 < spent_ns <= (hall.port.bus.now_ns - since_ns) // 20
        hall.revive(*names)
        await asyncio.sleep(60)
        assert len(await hall.sweep()) == 31

    in_hall(hall_of(31), scenario, wired=replace(FLAT_OUT, poll_ms=1000))


def test_a_dead_meter_on_one_line_costs_another_line_nothing() -> None:
    async def play() -> None:
        halls = []
        for name in ("a", "b"):
            meters = hall_of(4)
            simulated = {each.id: SimulatedMeter(each, FixedEnergy(5)) for each in meters}
            port = VirtualLine(Rs485Line(SLOW, on_one_pair(simulated.values())), SLOW)
            worker = LineWorker(replace(FLAT_OUT, id=name), meters, port, VirtualClock())
            halls.append(Hall(worker, port, simulated))
        tasks = [asyncio.create_task(hall.worker.run()) for hall in halls]
        await asyncio.sleep(10)
        halls[0].kill("m2")
        since_ns = halls[1].port.bus.now_ns
        await asyncio.sleep(20)
        limit_ns = 4 * BusCost.serial(SLOW, TURNAROUND_MS * MS).transaction_ns(2)
        assert cycle_ns(halls[1], 2, since_ns) <= limit_ns * 1001 // 1000
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtually(play())


# ------------------------------------------------------------------------------------------ what is learned


def test_the_time_out_follows_the_turnaround() -> None:
    async def scenario(hall: Hall) -> None:
        hall.meters["m2"].turnaround_ms = 100
        await asyncio.sleep(30)
        waits = {request.unit: timeout_ms for _, request, timeout_ms in hall.port.requests}
        assert waits[1] < 100 and 300 < waits[2] < 400
        assert hall.port.requests[0][2] >= 500
        quick = hall.worker.watches["m1"].pace.turnaround_ns
        assert quick is not None and abs(quick - TURNAROUND_MS * MS) < MS

    in_hall(hall_of(2), scenario)


def test_a_meter_that_becomes_slow_is_read_again_and_waited_for() -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(10)
        hall.meters["m1"].turnaround_ms = 250
        await asyncio.sleep(60)
        before = hall.worker.watches["m1"].failed_reads
        await asyncio.sleep(20)
        assert hall.worker.watches["m1"].failed_reads == before
        assert "m1" in await hall.sweep()

    in_hall(hall_of(3), scenario)


def test_the_line_is_used_to_its_limit() -> None:
    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(30)
        since_ns = hall.port.bus.now_ns
        await asyncio.sleep(30)
        limit_ns = 26 * BusCost.serial(SLOW, TURNAROUND_MS * MS).transaction_ns(2)
        assert cycle_ns(hall, 1, since_ns) <= limit_ns * 1001 // 1000

    in_hall(hall_of(26), scenario)


def test_blocks_are_planned_anew_when_the_meter_turns_out_slow() -> None:
    """At 10 ms a hole of 50 registers is dearer than a request; at 200 ms it is cheaper."""

    async def scenario(hall: Hall) -> None:
        await asyncio.sleep(20)
        assert {count for _, address, count in hall.asked(1)[-6:] if address == 0} == {8}
        hall.meters["m1"].turnaround_ms = 120
        await asyncio.sleep(60)
        assert max(count for _, _, count in hall.asked(1)[-6:]) > 50

    in_hall([replace(meter("m1", 1))], scenario, holes=True)


# --------------------------------------------------------------------------------------------- late answers


@pytest.mark.fault("F1")
def test_the_retry_comes_at_the_end_of_the_sweep_and_never_takes_the_late_answer() -> None:
    async def scenario(hall: Hall) -> None:
        await hall.sweep()
        truth = {name: each.counts() for name, each in hall.meters.items()}
        since_ns = hall.port.bus.now_ns
        hall.meters["m1"].faults.append(Fault(Kind.LATE, delay_ms=600, times=1))
        got = await hall.sweep()
        assert set(got) == set(truth)
        order = [request.unit for at_ns, request, _ in hall.port.requests if at_ns >= since_ns]
        assert order[0] == 1 and order[-1] == 1 and order.count(1) == 2

    in_hall(hall_of(5), scenario, wired=IDLE)


@pytest.mark.fault("F5")
def test_a_retry_while_an_answer_is_owed_has_another_shape() -> None:
    """Alone on its line there is nobody to wait for: the energy register is read together with its neighbour."""

    async def scenario(hall: Hall) -> None:
        before = await hall.sweep()
        since_ns = hall.port.bus.now_ns
        hall.meters["m1"].faults.append(Fault(Kind.SILENT, times=1))
        got = await hall.sweep()
        assert got["m1"] == before["m1"]
        assert [count for _, _, count in hall.asked(1, since_ns=since_ns)] == [2, 4]

    in_hall([meter("m1", 1)], scenario, wired=IDLE)


# --------------------------------------------------------------------------------------- identity and order


@pytest.mark.fault("F34", "F35")
def test_identity_and_fingerprint_are_read_after_every_event_of_the_line() -> None:
    async def scenario(hall: Hall) -> None:
        sweep = hall.worker.sweep()
        await sweep.done.wait()
        (first,) = sweep.samples
        assert first.serial is not None
        assert [name for name, _ in first.fingerprint] == list(hall.meters["m1"].meter.profile.fingerprint)
        asked = len(hall.asked(1))
        await hall.sweep()
        assert len(hall.asked(1)) == asked + 1
        hall.port.broken = "unplugged"
        await hall.sweep()
        hall.port.broken = None
        await asyncio.sleep(6)
        await hall.sweep()
        assert len(hall.asked(1)) > asked + 3

    in_hall([meter("m1", 1)], scenario, wired=IDLE)


def test_a_fingerprint_register_that_the_meter_lacks_is_said_so() -> None:
    full = meter("m1", 1)
    registers = {name: each for name, each in full.profile.registers.items() if name != "word_order"}

    async def scenario(hall: Hall) -> None:
        hall.meters["m1"].meter = replace(full, profile=replace(full.profile, registers=registers))
        sweep = hall.worker.sweep()
        await sweep.done.wait()
        found = dict(sweep.samples[0].fingerprint)
        assert found["word_order"] is None and found["energy_prefix"] is not None

    in_hall([full], scenario, wired=IDLE)


def test_serial_number_and_fingerprint_are_read_again_every_ten_minutes() -> None:
    async def scenario(hall: Hall) -> None:
        await hall.sweep()
        before = hall.worker.watches["m1"].identified_ns
        await asyncio.sleep(700)
        assert hall.worker.watches["m1"].identified_ns > before

    in_hall([meter("m1", 1)], scenario, wired=replace(FLAT_OUT, poll_ms=10_000))


def test_meters_of_one_speed_are_read_together_and_the_present_speed_comes_first() -> None:
    fast = SerialSettings(19_200, "even", 1)
    meters = [replace(each, serial_settings=fast if each.address in (2, 4) else None) for each in hall_of(5)]

    async def scenario(hall: Hall) -> None:
        orders = []
        for _ in range(4):
            since = len(hall.port.requests)
            await hall.sweep()
            orders.append([request.unit for _, request, _ in hall.port.requests[since:]])
        assert orders == [[2, 4, 1, 3, 5], [1, 3, 5, 2, 4], [2, 4, 1, 3, 5], [1, 3, 5, 2, 4]]

    in_hall(meters, scenario, wired=IDLE)


def test_a_transport_has_its_own_shortest_wait() -> None:
    worker = LineWorker(
        line(transport=Transport.MODBUS_TCP, host="h", port=1), hall_of(1), _Nowhere(), _StillClock()
    )
    assert worker.watches["m1"].pace.floor_ns > 200 * MS


class _StillClock(VirtualClock):
    def monotonic_ns(self) -> int:
        return 0


class _Nowhere(VirtualLine):
    def __init__(self) -> None:
        super().__init__(Rs485Line(SLOW, lambda _: []), SLOW)


class _SleepyClock(VirtualClock):
    """Of a machine that can be suspended: what counts its time on goes on, what the loop waits by stands still."""

    slept_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.slept_ms

    def uptime(self) -> Uptime | None:
        return Uptime("virtual", self.monotonic_ns() // 1_000_000 + self.slept_ms)


class _SleepyLine(VirtualLine):
    """Lets the machine sleep while a reading of the energy register is on its way."""

    def __init__(self, simulated: SimulatedMeter, clock: _SleepyClock) -> None:
        super().__init__(Rs485Line(SLOW, on_one_pair([simulated])), SLOW)
        self.clock = clock
        self.sleeps_ms = 0

    async def read(self, request: Request, **how: Any) -> Reply:
        reply = await super().read(request, **how)
        if isinstance(request, ReadRequest) and request.address == ENERGY:
            self.clock.slept_ms, self.sleeps_ms = self.clock.slept_ms + self.sleeps_ms, 0
        return reply


@pytest.mark.fault("F44")
@pytest.mark.parametrize("slept_ms", [90_000, 9 * 86_400_000])
def test_an_answer_that_was_on_its_way_while_the_machine_slept_is_asked_for_again(slept_ms: int) -> None:
    """It is of before; labelled as of after it makes nine days of energy those of ten minutes (world seed 12675)."""

    async def play() -> None:
        one, clock = meter("m1", 1), _SleepyClock()
        port = _SleepyLine(SimulatedMeter(one, FixedEnergy(1_000_000), turnaround_ms=TURNAROUND_MS), clock)
        worker = LineWorker(IDLE, [one], port, clock)
        task = asyncio.create_task(worker.run())
        await worker.sweep().done.wait()
        asked, port.sleeps_ms = len(port.requests), slept_ms
        began_ms = clock.wall_ms()
        sweep = worker.sweep()
        await sweep.done.wait()
        again = [request.address for _, request, _ in port.requests[asked:]]
        assert again.count(ENERGY) == 2
        assert again.index(ENERGY, 1) > 1, "who answers is asked anew between the two"
        assert len(sweep.samples) == 1
        (sample,) = sweep.samples
        assert sample.retried
        assert began_ms + slept_ms < sample.at_ms < began_ms + slept_ms + 1000
        asked = len(port.requests)
        await worker.sweep().done.wait()
        once = [request.address for _, request, _ in port.requests[asked:]]
        assert once.count(ENERGY) == 1, "no sleep, no question more"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(play())


def test_what_a_sweep_did_not_reach_comes_first_in_the_next_one() -> None:
    async def scenario(hall: Hall) -> None:
        sweep = hall.worker.sweep()
        await asyncio.sleep(0.2)
        sweep.finish()
        await asyncio.sleep(0.2)
        first = {sample.meter for sample in sweep.samples}
        assert 3 <= len(first) < 20
        since = len(hall.port.requests)
        await hall.sweep()
        order = [f"m{request.unit}" for _, request, _ in hall.port.requests[since:]]
        assert not first & set(order[: 19 - len(first)])  # one was being read when the sweep was cut short
        assert len(set(order)) == 20

    in_hall(hall_of(20), scenario, wired=IDLE)
