"""What can be wrong with a meter's answer, down to its bytes.

Faults are switched on at a meter (`meter.faults.append(...)`) and act on each of its answers, all at once, in the order
in which a real answer is made: words, PDU, unit, frame, bytes on the wire, time. The same faults work on RTU and TCP.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.protocol.pdu import EXCEPTION_FLAG

if TYPE_CHECKING:
    from simulators.meters.meter import SimulatedMeter


class Kind(StrEnum):
    """The faults of the catalogue that sit in a meter or its gateway."""

    SILENT = "silent"
    LATE = "late"
    EXCEPTION = "exception"
    OTHER_DATA = "other-data"
    WRONG_FUNCTION = "wrong-function"
    SHORT = "short"
    LONG = "long"
    WRONG_UNIT = "wrong-unit"
    TRANSACTION_ZERO = "transaction-zero"
    BAD_CHECKSUM = "bad-checksum"
    HALF = "half"
    NOISE_BEFORE = "noise-before"
    NOISE_AFTER = "noise-after"
    DUPLICATE = "duplicate"
    DROP = "drop"


@dataclass(slots=True)
class Fault:
    """One fault that is switched on.

    `delay_ms` is how late LATE is, `code` the exception of EXCEPTION, `other` the meter whose words OTHER_DATA gives
    out as its own, `times` after how many answers it heals by itself (None: it stays).
    """

    kind: Kind
    delay_ms: int = 0
    code: int = 6
    other: "SimulatedMeter | None" = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Transmission:
    """Bytes that leave `delay_ns` after the end of the request. `drop` closes a TCP connection instead.

    What one `talker` sends goes out one after the other; different talkers do not wait for each other.
    """

    delay_ns: int
    data: bytes
    drop: bool = False
    talker: int = 0


Encode = Callable[[int, bytes, bool], bytes]
"""Unit, PDU and "forget the transaction number" -> frame."""


def answer(meter: "SimulatedMeter", request: bytes, encode: Encode) -> list[Transmission]:
    """What a meter puts on the wire after a request PDU, with the faults that are switched on."""
    faults = {fault.kind: fault for fault in meter.faults}
    meter.faults[:] = [fault for fault in meter.faults if not _worn_out(fault)]
    if Kind.DROP in faults:
        return [Transmission(0, b"", drop=True)]
    data = _pdu(meter, request, faults)
    if Kind.SILENT in faults:
        return []
    unit = neighbour(meter.unit) if Kind.WRONG_UNIT in faults else meter.unit
    return _sent(meter, encode(unit, data, Kind.TRANSACTION_ZERO in faults), faults)


def neighbour(unit: int) -> int:
    """The address as which a meter answers that says a wrong one."""
    return unit % 247 + 1


def answer_with(meter: "SimulatedMeter", make: Callable[[], bytes]) -> list[Transmission]:
    """What a meter of another language puts on the wire: the faults that act on frames, bytes and time."""
    faults = {fault.kind: fault for fault in meter.faults}
    meter.faults[:] = [fault for fault in meter.faults if not _worn_out(fault)]
    frame = make()
    return [] if Kind.SILENT in faults else _sent(meter, frame, faults)


def _sent(meter: "SimulatedMeter", whole: bytes, faults: dict[Kind, Fault]) -> list[Transmission]:
    frame = _spoil(whole, meter, faults)
    late = faults.get(Kind.LATE)
    delay_ns = (meter.turnaround_ms + (late.delay_ms if late else 0)) * 1_000_000
    copies = 2 if Kind.DUPLICATE in faults else 1
    return [Transmission(delay_ns, frame)] * copies


def _worn_out(fault: Fault) -> bool:
    if fault.times is None:
        return False
    fault.times -= 1
    return fault.times <= 0


def _pdu(meter: "SimulatedMeter", request: bytes, faults: dict[Kind, Fault]) -> bytes:
    data = meter.answer(request)
    other = faults.get(Kind.OTHER_DATA)
    if other is not None and other.other is not None:
        data = other.other.answer(request)
    if Kind.EXCEPTION in faults:
        return bytes((request[0] | EXCEPTION_FLAG, faults[Kind.EXCEPTION].code))
    if Kind.WRONG_FUNCTION in faults:
        data = bytes((7 - data[0] if data[0] in (3, 4) else data[0] ^ 1,)) + data[1:]
    if Kind.SHORT in faults and len(data) > 4:
        data = bytes((data[0], data[1] - 2)) + data[2:-2]
    if Kind.LONG in faults and 2 < len(data) < 250:
        data = bytes((data[0], data[1] + 2)) + data[2:] + data[-2:]
    return data


def _spoil(frame: bytes, meter: "SimulatedMeter", faults: dict[Kind, Fault]) -> bytes:
    chance = random.Random(zlib.crc32(frame) + meter.requests)
    if Kind.BAD_CHECKSUM in faults:
        frame = frame[:-1] + bytes((frame[-1] ^ 0x55,))
    if Kind.HALF in faults:
        frame = frame[: len(frame) // 2]
    if Kind.NOISE_BEFORE in faults:
        frame = chance.randbytes(3) + frame
    if Kind.NOISE_AFTER in faults:
        frame += chance.randbytes(3)
    return frame


def heal(meters: Sequence["SimulatedMeter"]) -> None:
    """Switch every fault off."""
    for meter in meters:
        meter.faults.clear()
