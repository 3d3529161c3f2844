"""The agent's line port on a byte-timed pair: every transaction is played through the agent's own RTU machine."""

import asyncio
from collections.abc import Callable

from agent.errors import LineDown
from agent.metering.plant import SerialSettings
from agent.protocol.events import Failed
from agent.protocol.pair import PairMaster, Request
from agent.protocol.pdu import ReadRequest
from agent.service.ports import Reply
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualBus
from simulators.meters.faults import Kind, neighbour
from simulators.world.site import SETTINGS
from simulators.world.time import Time
from simulators.world.truth import Device

CHUNK, HOLD_NS = 16, 2_000_000
"""A UART hands on 16 characters, or what it has after a while."""


class Pair:
    """One RS485 pair of the factory with the devices that hang on it."""

    def __init__(self, devices: list[Device], seed: int) -> None:
        self.line = Rs485Line(SETTINGS, on_one_pair(devices), seed=seed)
        self.devices = devices
        self.unplugged: str | None = None
        self.plugged_ns = 0
        """When it was plugged in last."""

    def rewire(self, devices: list[Device]) -> None:
        """Other devices hang on it from now on."""
        self.devices = devices
        self.line.retune(SETTINGS, on_one_pair(devices))

    def judge(self, request: Request, words: tuple[int, ...]) -> str | None:
        """Why these words are no answer to the request: a wrong length, or the answer to another question (I5).

        A late answer to the same question is an older register of the same meter, which is true energy. What noise
        made of an answer has a right checksum once in 65,536 times; that is for the gates to find, and so is what a
        meter says under its neighbour's address while the neighbour is being asked.
        """
        assert isinstance(request, ReadRequest)
        if len(words) != request.count:
            return f"{len(words)} words for {request} of unit {request.unit}"
        told = b"".join(word.to_bytes(2, "big") for word in words)
        told_to = {
            (unit, pdu) for d in self.devices for pdu, data in d.said if data == told for unit in _units_of(d)
        }
        if not told_to or (request.unit, request.pdu()) in told_to:
            return None
        return f"the answer to another question for {request} of unit {request.unit}"


def _units_of(device: Device) -> tuple[int, ...]:
    """The addresses under which a meter answers at present."""
    says_another = any(fault.kind is Kind.WRONG_UNIT for fault in device.faults)
    return (device.unit, neighbour(device.unit)) if says_another else (device.unit,)


class WorldLine:
    """`agent.service.ports.Line`: a transaction is played at once to its end, and then the time it took passes."""

    def __init__(
        self, pair: Pair, time: Time, on_bus: Callable[[], None], alarm: Callable[[str], None]
    ) -> None:
        """`on_bus` is called before each transaction, so that the world knows who is asking."""
        self._pair = pair
        self._on_bus = on_bus
        self._alarm = alarm
        self._time = time
        self._bus = VirtualBus(PairMaster(SETTINGS), pair.line, now_ns=time.ns, chunk=CHUNK, hold_ns=HOLD_NS)
        self.open_count = 0

    async def open(self) -> None:
        """Claim the port; what came while nobody had it is gone."""
        self._check()
        self._pair.line.advance(self._time.ns)
        self.open_count += 1

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        """One transaction."""
        self._check()
        begun_ns = self._time.ns
        self._bus.idle(max(0, begun_ns - self._bus.now_ns))
        self._on_bus()
        end = self._bus.read(request, timeout_ms=timeout_ms, quiet_ms=quiet_ms, settings=settings or SETTINGS)
        self._bus.trace.clear()
        if not isinstance(end, Failed):
            wrong = self._pair.judge(request, end.words)
            if wrong is not None:
                self._alarm(f"I5: took {wrong}")
        await asyncio.sleep(max(0, self._bus.now_ns - begun_ns) / 1_000_000_000)
        self._check()
        if isinstance(end, Failed):
            raise end.error
        return Reply(end.words, end.sent_ns, end.received_ns)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _check(self) -> None:
        if self._pair.unplugged is not None:
            raise LineDown(self._pair.unplugged)
