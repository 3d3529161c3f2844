"""The line worker: boundaries first, sick meters cheap, identities confirmed, lines opened again for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from agent.adapters.clock import SystemClock
from agent.errors import LineDown, MeterRefused, MeterSilent
from agent.metering import plant
from agent.metering.decode import encode
from agent.metering.plant import Meter, SerialSettings, Transport
from agent.metering.profile import WordType
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.service.poll import LineWorker, Sweep
from agent.service.ports import Reply
from tests.metering.examples import meter, profile, register
from tests.support.eventually import eventually

LINE = plant.Line(
    "hall-a", Transport.RS485, "/dev/null", None, None, SerialSettings(9600, "none", 1), 3_600_000
)
SERIAL = register(WordType.U32, name="serial_number", address=100, function=3)
ENERGY = register(WordType.U32)


@dataclass
class ScriptedLine:
    """Answers each unit by a function; counts what it was asked."""

    answers: dict[int, Callable[[ReadRequest], tuple[int, ...]]]
    opened: int = 0
    asked: list[ReadRequest] = field(default_factory=list)

    async def open(self) -> None:
        self.opened += 1

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        assert isinstance(request, ReadRequest)
        self.asked.append(request)
        await asyncio.sleep(0)
        answer = self.answers.get(request.unit)
        if answer is None:
            raise MeterSilent(f"unit {request.unit} is silent")
        now = SystemClock().monotonic_ns()
        return Reply(answer(request), now, now)

    async def close(self) -> None:
        pass


def counting(count: int, serial: int = 4711) -> Callable[[ReadRequest], tuple[int, ...]]:
    def answer(request: ReadRequest) -> tuple[int, ...]:
        value = serial if request.address == SERIAL.address else count
        return encode(ENERGY, value)[: request.count]

    return answer


def metered(address: int, *, identified: bool = False) -> Meter:
    registers = {"energy_import": ENERGY} | ({"serial_number": SERIAL} if identified else {})
    shape = replace(profile(ENERGY), registers=registers, identity="serial_number" if identified else None)
    return meter(id=f"m{address}", address=address, profile=shape)


@asynccontextmanager
async def working(port: ScriptedLine, *meters: Meter) -> AsyncIterator[LineWorker]:
    worker = LineWorker(LINE, meters, port, SystemClock())
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def swept(worker: LineWorker) -> Sweep:
    sweep = worker.sweep()
    await asyncio.wait_for(sweep.done.wait(), 60)
    return sweep


async def test_a_sweep_reads_the_energy_register_of_every_meter() -> None:
    port = ScriptedLine({1: counting(10), 2: counting(20)})
    async with working(port, metered(1), metered(2)) as worker:
        sweep = await swept(worker)
    assert [(sample.meter, sample.words) for sample in sweep.samples] == [("m1", (0, 10)), ("m2", (0, 20))]


@pytest.mark.fault("F1")
async def test_a_silent_meter_is_missing_and_never_zero() -> None:
    port = ScriptedLine({2: counting(20)})
    async with working(port, metered(1), metered(2)) as worker:
        sweep = await swept(worker)
    assert [sample.meter for sample in sweep.samples] == ["m2"]


async def test_a_dead_meter_is_soon_asked_only_now_and_then() -> None:
    port = ScriptedLine({2: counting(20)})
    async with working(port, metered(1), metered(2)) as worker:
        for _ in range(20):
            await swept(worker)
    assert sum(request.unit == 1 for request in port.asked) <= 4
    assert sum(request.unit == 2 for request in port.asked) >= 20


async def test_the_serial_number_is_read_before_the_first_register_counts() -> None:
    port = ScriptedLine({1: counting(10)})
    async with working(port, metered(1, identified=True)) as worker:
        sweep = await swept(worker)
        again = await swept(worker)
    assert (sweep.samples[0].serial, again.samples[0].serial) == ("4711", "4711")
    energy = [request for request in port.asked if request.address == ENERGY.address]
    serial = [request for request in port.asked if request.address == SERIAL.address]
    assert len(serial) == 1 and port.asked.index(serial[0]) <= port.asked.index(energy[-1])


async def test_a_meter_that_has_no_serial_number_register_is_read_all_the_same() -> None:
    def answer(request: ReadRequest) -> tuple[int, ...]:
        if request.address == SERIAL.address:
            raise MeterRefused("illegal data address", 2)
        return counting(10)(request)

    async with working(ScriptedLine({1: answer}), metered(1, identified=True)) as worker:
        sweep = await swept(worker)
    assert sweep.samples[0].serial is None


@pytest.mark.fault("F18", "F19")
async def test_who_has_to_say_again_who_it_is_is_asked_also_for_what_another_meter_refused_there() -> None:
    """World seed 6062: a meter that has no number had hung at the address, and the new one was never asked for its."""
    has_number = False

    def answer(request: ReadRequest) -> tuple[int, ...]:
        if request.address == SERIAL.address and not has_number:
            raise MeterRefused("illegal data address", 2)
        return counting(10)(request)

    async with working(ScriptedLine({1: answer}), metered(1, identified=True)) as worker:
        first = await swept(worker)
        has_number = True
        await swept(worker)
        worker.identify_again("m1")
        again = await swept(worker)
    assert (first.samples[0].serial, again.samples[0].serial) == (None, "4711")


@pytest.mark.fault("F10")
async def test_a_refused_block_is_halved_until_only_what_the_meter_has_is_read() -> None:
    power = register(WordType.U32, name="power_active_total", address=4, unit="W")
    both = meter(
        id="m1", address=1, profile=profile(ENERGY, registers={"energy_import": ENERGY, power.name: power})
    )
    asked: list[ReadRequest] = []

    def answer(request: ReadRequest) -> tuple[int, ...]:
        asked.append(request)
        if request.address + request.count > 2:
            raise MeterRefused("illegal data address", 2)
        return counting(10)(request)

    port = ScriptedLine({1: answer})
    worker = LineWorker(replace(LINE, poll_ms=1), [both], port, SystemClock())
    task = asyncio.create_task(worker.run())
    await eventually(lambda: len(asked) >= 8)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [(request.address, request.count) for request in asked[:4]] == [(0, 6), (0, 2), (4, 2), (0, 2)]
    assert {request.count for request in asked[4:]} == {2} and {request.address for request in asked[4:]} == {
        0
    }
    assert worker.watches["m1"].failures == 0


async def test_one_failed_try_is_retried_and_said() -> None:
    tries = 0

    def answer(request: ReadRequest) -> tuple[int, ...]:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise MeterSilent("once")
        return counting(10)(request)

    async with working(ScriptedLine({1: answer}), metered(1)) as worker:
        await eventually(lambda: tries >= 1)
        sweep = await swept(worker)
    assert [sample.retried for sample in sweep.samples] == [True]


@pytest.mark.fault("F33")
async def test_a_line_that_went_down_is_opened_again_and_identities_are_asked_again() -> None:
    down = False

    def answer(request: ReadRequest) -> tuple[int, ...]:
        nonlocal down
        if down:
            down = False
            raise LineDown("unplugged")
        return counting(10)(request)

    port = ScriptedLine({1: answer})
    async with working(port, metered(1, identified=True)) as worker:
        await swept(worker)
        down = True
        lost = await swept(worker)
        assert lost.samples == []
        await eventually(lambda: worker.health.open)
        back = await swept(worker)
    assert len(back.samples) == 1 and port.opened == 2
    assert sum(request.address == SERIAL.address for request in port.asked) == 2


async def test_a_boundary_does_not_wait_for_a_round_of_live_reads() -> None:
    """With many meters in the middle of a live round, at most one read comes before the sweep's first."""
    order: list[ReadRequest] = []
    gate = asyncio.Event()

    def answer(request: ReadRequest) -> tuple[int, ...]:
        order.append(request)
        if len(order) == 3:
            gate.set()
        return counting(10)(request)

    port = ScriptedLine(dict.fromkeys(range(1, 31), answer))
    async with working(port, *(metered(unit) for unit in range(1, 31))) as worker:
        await gate.wait()
        seen = len(order)
        await swept(worker)
    assert order[seen + 1 : seen + 3] == [order[seen + 1], replace(order[seen + 1], unit=2)]
    assert order[seen + 1].unit == 1
