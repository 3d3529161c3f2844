"""The meters on one RS485 pair: who answers a frame, and how."""

from collections.abc import Callable, Iterable

from agent.protocol.rtu import frame
from simulators.meters import faults
from simulators.meters.faults import Transmission
from simulators.meters.meter import SimulatedMeter


def on_one_pair(meters: Iterable[SimulatedMeter]) -> Callable[[bytes], list[Transmission]]:
    """The ears of all meters of a pair, for `Rs485Line`; nobody answers for an address that nobody has."""
    by_unit = {meter.unit: meter for meter in meters}

    def hear(data: bytes) -> list[Transmission]:
        meter = by_unit.get(data[0])
        if meter is None:
            return []
        return faults.answer(meter, data[1:-2], lambda unit, pdu, _: frame(unit, pdu))

    return hear
