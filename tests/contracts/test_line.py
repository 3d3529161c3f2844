"""The promises of the port `Line`, kept by RTU on a pty, RTU over TCP and Modbus TCP alike.

Each subclass serves two simulated meters, `heater` at 7 and `oven` at 9, on its own kind of line.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.adapters.rtu_line import RtuLine
from agent.errors import FrameDamaged, LineDown, MeterBusy, MeterRefused, MeterSilent, RetryLater
from agent.metering.decode import decode
from agent.metering.plant import Transport
from agent.metering.quantity import to_milliwh
from agent.protocol.pdu import ReadRequest
from agent.service.ports import Line, Reply
from simulators.line.pump import PtyLine, TcpLine
from simulators.line.station import on_one_pair
from simulators.meters.faults import Fault, Kind
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from simulators.meters.tcp_server import TcpGateway
from tests.support.plants import FAST, line, meter

TIMEOUT_MS = 80
"""Of a question that is not answered in time."""
PATIENT_MS = 5_000
"""Of one that is answered, however slow the machine is."""
HEATER, OVEN, NOBODY = 7, 9, 33
ENERGY = 0x48
"""Address of the energy register of both meters: two input registers."""
VOLTAGE = 0x00
"""Of the first phase: as many registers, other words."""


@dataclass
class Stage:
    """A line that is open, its meters, and how to pull its plug and put it back."""

    line: Line
    heater: SimulatedMeter
    oven: SimulatedMeter
    unplug: Callable[[], Awaitable[None]]
    replug: Callable[[], Awaitable[None]]
    connections: Callable[[], int]


def make_meters() -> tuple[SimulatedMeter, SimulatedMeter]:
    heater = SimulatedMeter(
        meter("heater", HEATER), FixedEnergy(123_456_789, 40_000_000), turnaround_ms=3, answers_holes=True
    )
    oven = SimulatedMeter(meter("oven", OVEN), FixedEnergy(987_654_321), turnaround_ms=3, answers_holes=True)
    return heater, oven


def energy(unit: int, *, address: int = ENERGY, count: int = 2) -> ReadRequest:
    return ReadRequest(unit, 4, address, count)


class LineContract:
    """What the stages rely on."""

    async def ask(self, stage: Stage, request: ReadRequest, timeout_ms: int = TIMEOUT_MS) -> Reply:
        return await stage.line.read(request, timeout_ms=timeout_ms)

    async def read_milliwh(self, stage: Stage, unit: int, timeout_ms: int = PATIENT_MS) -> int:
        reply = await self.ask(stage, energy(unit), timeout_ms)
        counts = decode(stage.heater.meter.profile.energy, reply.words)
        assert not isinstance(counts, str)
        return to_milliwh(counts, stage.heater.meter.per_count_milliwh)  # type: ignore[arg-type]

    async def test_the_words_are_those_of_the_meter_that_was_asked(self, stage: Stage) -> None:
        assert await self.read_milliwh(stage, HEATER) == stage.heater.register_milliwh()
        assert await self.read_milliwh(stage, OVEN) == stage.oven.register_milliwh()

    async def test_a_reply_says_when_it_was_asked_for_and_when_it_was_there(self, stage: Stage) -> None:
        begun_ns = time.monotonic_ns()
        reply = await self.ask(stage, energy(HEATER), PATIENT_MS)
        assert begun_ns <= reply.sent_ns < reply.received_ns <= time.monotonic_ns()

    @pytest.mark.fault("F1")
    async def test_a_missing_meter_is_silent_rather_than_zero(self, stage: Stage) -> None:
        with pytest.raises(MeterSilent):
            await self.ask(stage, energy(NOBODY))
        assert await self.read_milliwh(stage, HEATER) == stage.heater.register_milliwh()

    async def test_a_dead_unit_leaves_the_connection_to_the_others(self, stage: Stage) -> None:
        before = stage.connections()
        for _ in range(6):
            with pytest.raises(MeterSilent):
                await stage.line.read(energy(NOBODY), timeout_ms=20)
        assert await self.read_milliwh(stage, OVEN) == stage.oven.register_milliwh()
        assert stage.connections() == before

    @pytest.mark.fault("F4", "F7", "F8", "F9")
    @pytest.mark.parametrize("kind", [Kind.WRONG_UNIT, Kind.WRONG_FUNCTION, Kind.SHORT, Kind.LONG, Kind.HALF])
    async def test_an_answer_that_does_not_fit_is_never_taken(self, stage: Stage, kind: Kind) -> None:
        stage.heater.faults.append(Fault(kind, times=1))
        with pytest.raises(RetryLater):
            await self.ask(stage, energy(HEATER))

    @pytest.mark.fault("F2", "F6")
    async def test_another_units_answer_is_never_taken_and_the_line_goes_on(self, stage: Stage) -> None:
        stage.heater.faults.append(Fault(Kind.WRONG_UNIT))
        with pytest.raises((MeterSilent, FrameDamaged)):
            await self.ask(stage, energy(HEATER))
        assert await self.read_milliwh(stage, OVEN) == stage.oven.register_milliwh()

    @pytest.mark.fault("F12")
    @pytest.mark.parametrize("code", [5, 6])
    async def test_a_busy_meter_asks_for_time(self, stage: Stage, code: int) -> None:
        stage.heater.faults.append(Fault(Kind.EXCEPTION, code=code))
        with pytest.raises(MeterBusy):
            await self.ask(stage, energy(HEATER), PATIENT_MS)

    @pytest.mark.fault("F10")
    @pytest.mark.parametrize("code", [1, 2, 3, 4, 10, 11])
    async def test_a_refusal_says_its_code(self, stage: Stage, code: int) -> None:
        stage.heater.faults.append(Fault(Kind.EXCEPTION, code=code))
        with pytest.raises(MeterRefused) as refused:
            await self.ask(stage, energy(HEATER), PATIENT_MS)
        assert refused.value.code == code

    @pytest.mark.fault("F5")
    @pytest.mark.parametrize("late_ms", [TIMEOUT_MS, TIMEOUT_MS + 40])
    async def test_a_late_answer_never_becomes_the_next_one(self, stage: Stage, late_ms: int) -> None:
        await self.answer_late(stage, TIMEOUT_MS, late_ms)
        assert await self.energy_in_the_end(stage) == stage.heater.register_milliwh()

    async def answer_late(self, stage: Stage, timeout_ms: int, late_ms: int) -> None:
        """The voltage comes after its time. Where this process stood still meanwhile it lies there in time: again."""
        for _ in range(20):
            stage.heater.faults.append(Fault(Kind.LATE, delay_ms=late_ms, times=1))
            try:
                await self.ask(stage, energy(HEATER, address=VOLTAGE), timeout_ms)
            except MeterSilent:
                return
        pytest.fail("no answer was late")

    async def energy_in_the_end(self, stage: Stage, timeout_ms: int = PATIENT_MS) -> int:
        """Ask until there is an answer; a damaged one is no answer, and a late window is two time-outs long."""
        for _ in range(5):
            try:
                return await self.read_milliwh(stage, HEATER, timeout_ms)
            except (FrameDamaged, MeterSilent):
                continue
        pytest.fail("the meter did not come back")

    async def test_a_cancelled_read_leaves_nothing_to_the_next_one(self, stage: Stage) -> None:
        stage.heater.faults.append(Fault(Kind.LATE, delay_ms=30, times=1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.ask(stage, energy(HEATER, address=VOLTAGE)), 0.015)
        assert await self.energy_in_the_end(stage) == stage.heater.register_milliwh()

    @pytest.mark.fault("F33")
    async def test_a_line_that_goes_away_fails_the_waiting_read_at_once(self, stage: Stage) -> None:
        stage.heater.faults.append(Fault(Kind.SILENT))
        begun = asyncio.get_running_loop().time()
        reading = asyncio.create_task(stage.line.read(energy(HEATER), timeout_ms=60_000))
        await asyncio.sleep(0.05)
        await stage.unplug()
        with pytest.raises(LineDown):
            await reading
        assert asyncio.get_running_loop().time() - begun < 30

    @pytest.mark.fault("F33")
    async def test_a_line_that_went_away_works_after_open(self, stage: Stage) -> None:
        await stage.unplug()
        await asyncio.sleep(0.02)
        for _ in range(2):
            with pytest.raises(LineDown):
                await self.ask(stage, energy(HEATER))
        with pytest.raises(LineDown):
            await stage.line.open()
        await stage.replug()
        await stage.line.open()
        assert await self.read_milliwh(stage, HEATER) == stage.heater.register_milliwh()

    async def test_a_line_that_is_not_open_is_down(self, stage: Stage) -> None:
        await stage.line.close()
        await stage.line.close()
        with pytest.raises(LineDown):
            await self.ask(stage, energy(HEATER))

    async def test_open_twice_is_open_once(self, stage: Stage) -> None:
        await stage.line.open()
        assert await self.read_milliwh(stage, HEATER) == stage.heater.register_milliwh()


class TestRtuOnAPty(LineContract):
    @pytest.fixture
    async def stage(self, tmp_path: object) -> AsyncIterator[Stage]:
        heater, oven = make_meters()
        link = tmp_path / "adapter"  # type: ignore[operator]
        ptys: list[PtyLine] = []

        async def replug() -> None:
            ptys.append(PtyLine(FAST, lambda _: on_one_pair([heater, oven])))
            link.symlink_to(ptys[-1].path)

        async def unplug() -> None:
            link.unlink()
            ptys.pop().close()

        await replug()
        port = RtuLine(line(device=str(link)), listen_ms=20)
        await port.open()
        yield Stage(port, heater, oven, unplug, replug, lambda: 1)
        await port.close()
        for pty in ptys:
            assert pty.line.begun_too_early == 0
            pty.close()


class TestRtuOverTcp(LineContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        heater, oven = make_meters()
        pairs = [TcpLine(FAST, on_one_pair([heater, oven]))]
        host, number = await pairs[0].listen("127.0.0.1", 0)

        async def replug() -> None:
            pairs.append(TcpLine(FAST, on_one_pair([heater, oven])))
            await pairs[-1].listen(host, number)

        async def unplug() -> None:
            pairs[-1].drop_clients()
            await pairs.pop().aclose()

        plugged = line(transport=Transport.RS485_OVER_TCP, host=host, port=number)
        port = RtuLine(plugged, listen_ms=20)
        await port.open()
        yield Stage(port, heater, oven, unplug, replug, lambda: 1)
        await port.close()
        for pair in pairs:
            await pair.aclose()


class TestModbusTcp(LineContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        heater, oven = make_meters()
        gateways = [TcpGateway([heater, oven])]
        host, number = await gateways[0].listen("127.0.0.1", 0)

        async def replug() -> None:
            gateways.append(TcpGateway([heater, oven]))
            await gateways[-1].listen(host, number)

        async def unplug() -> None:
            gateways[-1].drop_clients()
            await gateways.pop().aclose()

        port = ModbusTcpLine(line(transport=Transport.MODBUS_TCP, host=host, port=number))
        await port.open()
        yield Stage(port, heater, oven, unplug, replug, lambda: gateways[-1].connections)
        await port.close()
        for gateway in gateways:
            await gateway.aclose()

    @pytest.mark.fault("F5")
    @pytest.mark.parametrize("late_ms", [250, 290])
    async def test_a_late_answer_without_a_number_never_becomes_the_next_one(
        self, stage: Stage, late_ms: int
    ) -> None:
        """Never beyond its window, where this process stands still for a moment: hence the longer time-out."""
        stage.heater.faults.append(Fault(Kind.TRANSACTION_ZERO))
        await self.answer_late(stage, 250, late_ms)
        assert await self.energy_in_the_end(stage, 250) == stage.heater.register_milliwh()
