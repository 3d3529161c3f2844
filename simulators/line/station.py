"""The meters on one RS485 pair: who answers a frame, and how.

Modbus and DL/T 645 meters hear the same line and answer in their own language. Meters that share an address, and all
whom a DL/T 645 wildcard means, answer at once and damage each other, as on a real pair.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from agent.protocol.dlt645 import DltFrame, only_frame
from agent.protocol.rtu_frame import frame, is_sound
from simulators.meters import dlt645, faults
from simulators.meters.faults import Transmission
from simulators.meters.meter import SimulatedMeter


def on_one_pair(meters: Iterable[SimulatedMeter]) -> Callable[[bytes], list[Transmission]]:
    """The ears of all meters of a pair, for `Rs485Line`; nobody answers for an address that nobody has."""
    by_unit: dict[int, list[SimulatedMeter]] = {}
    speakers_of_dlt645 = []
    for meter in meters:
        if isinstance(meter.meter.address, int):
            by_unit.setdefault(meter.unit, []).append(meter)
        else:
            speakers_of_dlt645.append(meter)

    def modbus(data: bytes) -> list[list[Transmission]]:
        return [
            faults.answer(meter, data[1:-2], lambda unit, pdu, _: frame(unit, pdu))
            for meter in by_unit.get(data[0], ())
        ]

    def hear(data: bytes) -> list[Transmission]:
        if is_sound(data) and (answers := modbus(data)):
            return _at_once(answers)
        asked = only_frame(data)
        if asked is None:
            return []
        meant = [meter for meter in speakers_of_dlt645 if dlt645.is_meant(meter, asked)]
        return _at_once([faults.answer_with(meter, partial(_dlt645_bytes, meter, asked)) for meter in meant])

    return hear


def _dlt645_bytes(meter: SimulatedMeter, asked: DltFrame) -> bytes:
    return dlt645.answer(meter, asked).encode()


def _at_once(answers: list[list[Transmission]]) -> list[Transmission]:
    """Each answer begins when its meter is ready, whoever else is talking."""
    return [replace(sent, talker=talker) for talker, own in enumerate(answers) for sent in own]
