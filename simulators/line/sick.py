"""Sick lines: a pair with one of the faults that installers make, for the line doctor to find. Driven by a seed.

What each fault does to the wire, as far as the agent can see it:

- *swapped wires*: every bit is inverted, so nobody understands anybody; when our driver lets go, the idle pair reads as
  a break, which a UART reports as a zero byte, mostly;
- *wrong baud, wrong parity*: one or all meters listen at other settings, and understand nothing at these;
- *one address twice*: both answer, at once or one after the other, and damage each other;
- *missing termination*: reflections damage characters anywhere, and ring on after a frame;
- *another master*: somebody else asks the same meters, without listening first.

A healthy line may have a dead meter on it and a damaged character in a hundred thousand: neither is a fault of the
line.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agent.metering.plant import Meter, SerialSettings
from agent.protocol.doctor import Cause
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu_frame import frame
from agent.service.ports import Reply
from simulators.line.rs485 import Hear, Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualLine
from simulators.meters.faults import Fault, Kind, Transmission
from simulators.meters.meter import FixedEnergy, SimulatedMeter

SPEEDS = (2400, 4800, 9600, 19_200, 38_400)
PARITIES = ("none", "even", "odd")
MS = 1_000_000


@dataclass
class SickLine:
    """One line: its settings as the site file has them, its meters, and what is wrong with it (None: nothing)."""

    seed: int
    cause: Cause | None
    meters: Sequence[Meter]
    settings: SerialSettings = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed}/{self.cause}")
        self.settings = SerialSettings(self._chance.choice(SPEEDS), self._chance.choice(PARITIES), 1)
        self._simulated = [self._simulate(meter) for meter in self.meters]
        self._there = {meter.unit: self.settings for meter in self._simulated}
        getattr(self, f"_{self.cause.name.lower()}" if self.cause else "_healthy")()

    def port(self) -> VirtualLine:
        """The line as the agent has it."""
        chance = self._chance
        flip_every = 100_000
        if self.cause is Cause.TERMINATION:
            flip_every = chance.randrange(60, 400)
        pair = Rs485Line(self.settings, self._hear_at(self.settings), flip_every=flip_every, seed=self.seed)
        if self.cause is Cause.MASTER:
            return _SharedLine(pair, self.settings, self._hear_at, chance, [m.unit for m in self._simulated])
        return VirtualLine(pair, self.settings, hear_at=self._hear_at)

    # ----------------------------------------------------------------------------------------------------- the faults

    def _simulate(self, meter: Meter) -> SimulatedMeter:
        return SimulatedMeter(
            meter,
            FixedEnergy(self._chance.randrange(10**9)),
            turnaround_ms=self._chance.randrange(5, 40),
            answers_holes=True,
        )

    def _healthy(self) -> None:
        if self._chance.random() < 0.3 and len(self._simulated) > 1:
            self._simulated[0].faults.append(Fault(Kind.SILENT))

    def _swapped(self) -> None:
        self._breaks = self._chance.randrange(60, 100) / 100

    def _baud(self) -> None:
        other = replace(
            self.settings, baud=self._chance.choice([s for s in SPEEDS if s != self.settings.baud])
        )
        self._listen_at(other)

    def _parity(self) -> None:
        choices = [parity for parity in PARITIES if parity != self.settings.parity]
        self._listen_at(replace(self.settings, parity=self._chance.choice(choices)))

    def _listen_at(self, other: SerialSettings) -> None:
        """One meter, or all of them."""
        wrong = self._simulated if self._chance.random() < 0.5 else [self._chance.choice(self._simulated)]
        for meter in wrong:
            self._there[meter.unit] = other

    def _twins(self) -> None:
        first = self._chance.choice(self._simulated)
        second = self._simulate(first.meter)
        if self._chance.random() < 0.3:
            second.turnaround_ms = first.turnaround_ms  # the same model: they always collide
        self._simulated.append(second)

    def _termination(self) -> None:
        """What it does is in the characters; see `port` and `_ring_on`."""

    def _master(self) -> None:
        """What it does is in the line; see `port`."""

    # --------------------------------------------------------------------------------------------------- on the wire

    def _hear_at(self, settings: SerialSettings) -> Hear:
        if self.cause is Cause.SWAPPED:
            return self._break
        hear = on_one_pair(meter for meter in self._simulated if self._there[meter.unit] == settings)
        return self._ringing(hear) if self.cause is Cause.TERMINATION else hear

    def _break(self, _: bytes) -> list[Transmission]:
        return [Transmission(0, b"\0")] if self._chance.random() < self._breaks else []

    def _ringing(self, hear: Hear) -> Hear:
        def ring_on(data: bytes) -> list[Transmission]:
            return [
                replace(sent, data=sent.data + self._chance.choice((b"", b"", b"", b"\xff", b"\0")))
                for sent in hear(data)
            ]

        return ring_on


class _SharedLine(VirtualLine):
    """A line on which somebody else asks too, every few reads, at whatever moment."""

    def __init__(
        self,
        pair: Rs485Line,
        settings: SerialSettings,
        hear_at: Callable[[SerialSettings], Hear],
        chance: random.Random,
        units: Sequence[int],
    ) -> None:
        super().__init__(pair, settings, hear_at=hear_at)
        self._chance = chance
        self._units = units
        self._rarely = chance.choice((5, 10, 20))

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        if self._chance.randrange(self._rarely) == 0:
            asked = ReadRequest(self._chance.choice(self._units), 4, 0, 2)
            at_ns = self.bus.now_ns + self._chance.randrange(0, 80) * MS
            self.line.other_master_sends(at_ns, frame(asked.unit, asked.pdu()))
        return await super().read(request, timeout_ms=timeout_ms, quiet_ms=quiet_ms, settings=settings)
