"""DL/T 645 and Modbus RTU on one pair, one rule at a time, in virtual time."""

from dataclasses import replace

import pytest

from agent.errors import FrameDamaged, MeterRefused, MeterSilent
from agent.metering.plant import Meter, SerialSettings
from agent.protocol.dlt645 import ANYBODY, FORWARD_TOTAL, DltRequest, data_of
from agent.protocol.dlt_master import DltMaster
from agent.protocol.events import Failed, Words
from agent.protocol.pair import PairMaster, Request
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import RtuMaster
from agent.protocol.silence import Silence
from simulators.line.rs485 import Hear, Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualBus
from simulators.meters.faults import Fault, Kind
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.support.plants import meter

EVEN = SerialSettings(9600, "even", 1)
SLOW = SerialSettings(2400, "even", 1)
FIRST, SECOND = "000012345678", "161600FE6816"
KWH = DltRequest(FIRST, FORWARD_TOTAL, 4)
MODBUS = ReadRequest(7, 4, 0x48, 2)
MS = 1_000_000


def dlt_meter(address: str, milliwh: int, settings: SerialSettings = EVEN) -> SimulatedMeter:
    plain: Meter = replace(
        meter(f"m{address[-4:]}", 1, "dlt645-2007-single-phase"), address=address, serial_settings=settings
    )
    return SimulatedMeter(plain, FixedEnergy(milliwh, 5_000_000))


class Pair:
    """Two DL/T 645 meters and a Modbus meter on one line; the second may be tuned otherwise."""

    def __init__(self, second: SerialSettings = EVEN, *, late_factor: int = 2) -> None:
        self.first = dlt_meter(FIRST, 1_206_420_000)
        self.second = dlt_meter(SECOND, 260_000, second)
        self.modbus = SimulatedMeter(meter("m7", 7), FixedEnergy(1_000_000), answers_holes=True)
        self.line = Rs485Line(EVEN, self.hear_at(EVEN))
        self.bus = VirtualBus(
            PairMaster(EVEN, late_factor=late_factor), self.line, chunk=8, hold_ns=MS, hear_at=self.hear_at
        )

    def hear_at(self, settings: SerialSettings) -> Hear:
        meters = (self.first, self.second, self.modbus)
        return on_one_pair(one for one in meters if (one.meter.serial_settings or EVEN) == settings)

    def ask(
        self, request: Request, *, timeout_ms: int = 500, settings: SerialSettings = EVEN
    ) -> Words | Failed:
        return self.bus.read(request, timeout_ms=timeout_ms, settings=settings)


def kwh(end: Words | Failed) -> str:
    """The centi-kWh that an answer shows."""
    assert isinstance(end, Words), end
    return data_of(end.words, 4)[::-1].hex()


def error(end: Words | Failed) -> Exception:
    assert isinstance(end, Failed)
    return end.error


def test_both_languages_share_the_pair() -> None:
    pair = Pair()
    for _ in range(3):
        assert kwh(pair.ask(KWH)) == "00120642"
        assert isinstance(pair.ask(MODBUS), Words)
        assert kwh(pair.ask(DltRequest(SECOND, FORWARD_TOTAL, 4))) == "00000026"
    assert pair.line.begun_too_early == 0
    assert pair.line.collisions == 0


def test_meters_of_other_speeds_share_the_pair() -> None:
    pair = Pair(second=SLOW)
    assert isinstance(error(pair.ask(DltRequest(SECOND, FORWARD_TOTAL, 4))), MeterSilent)
    for _ in range(2):
        assert kwh(pair.ask(DltRequest(SECOND, FORWARD_TOTAL, 4), settings=SLOW)) == "00000026"
        assert isinstance(pair.ask(MODBUS), Words)
        assert isinstance(pair.ask(KWH), Words)
    assert pair.line.begun_too_early == 0


def test_the_sender_of_an_answer_is_told() -> None:
    pair = Pair(second=SLOW)
    end = pair.ask(DltRequest(ANYBODY, None))
    assert isinstance(end, Words)
    assert end.sender == FIRST
    assert data_of(end.words, 6)[::-1].hex() == FIRST


def test_two_meters_that_a_wildcard_means_damage_each_other() -> None:
    pair = Pair()
    assert isinstance(error(pair.ask(DltRequest(ANYBODY, None))), FrameDamaged)
    assert pair.line.collisions > 0
    assert isinstance(pair.ask(DltRequest("AAAAAAAAAA78", FORWARD_TOTAL, 4)), Words)


def test_a_meter_without_the_register_says_so() -> None:
    refused = error(Pair().ask(DltRequest(FIRST, 0x04000403, 32)))
    assert isinstance(refused, MeterRefused)
    assert refused.code == 2


def test_an_answer_of_another_length_is_refused() -> None:
    assert isinstance(error(Pair().ask(DltRequest(FIRST, FORWARD_TOTAL, 3))), FrameDamaged)


def test_an_answer_in_several_frames_is_put_together() -> None:
    pair = Pair()
    whole = pair.ask(DltRequest(FIRST, 0x04000402, 6))
    pair.first.part_bytes = 2
    assert isinstance(whole, Words)
    cut = pair.ask(DltRequest(FIRST, 0x04000402, 6))
    assert isinstance(cut, Words)
    assert cut.words == whole.words
    assert pair.first.requests == 1 + 3
    assert pair.line.begun_too_early == 0


@pytest.mark.parametrize("kind", [Kind.NOISE_BEFORE, Kind.NOISE_AFTER])
def test_noise_around_an_answer_does_not_lose_it(kind: Kind) -> None:
    pair = Pair()
    pair.first.faults.append(Fault(kind))
    assert isinstance(pair.ask(KWH), Words)


@pytest.mark.parametrize("kind", [Kind.BAD_CHECKSUM, Kind.HALF])
def test_half_and_damaged_answers_are_no_answers(kind: Kind) -> None:
    pair = Pair()
    pair.first.faults.append(Fault(kind, times=1))
    assert isinstance(error(pair.ask(KWH)), FrameDamaged)
    assert isinstance(pair.ask(KWH), Words)


def test_a_late_answer_is_not_the_answer_to_the_same_question_asked_again() -> None:
    """A value of a while ago would be booked under the time of now."""

    def asked_again(late_factor: int) -> Words | Failed:
        pair = Pair(late_factor=late_factor)
        pair.first.faults.append(Fault(Kind.LATE, delay_ms=140, times=1))
        assert isinstance(error(pair.ask(KWH, timeout_ms=100)), MeterSilent)
        pair.first.faults.append(Fault(Kind.SILENT, times=1))
        return pair.ask(KWH, timeout_ms=100)

    assert isinstance(error(asked_again(2)), MeterSilent)
    assert isinstance(asked_again(0), Words), "the guard is what does it"


def test_a_late_answer_does_not_hold_up_other_questions() -> None:
    pair = Pair()
    pair.first.faults.append(Fault(Kind.LATE, delay_ms=140, times=1))
    assert isinstance(error(pair.ask(KWH, timeout_ms=100)), MeterSilent)
    begun_ns = pair.bus.now_ns
    assert isinstance(pair.ask(MODBUS), Words)
    assert pair.bus.now_ns - begun_ns < 150 * MS


def test_unasked_answers_are_remembered_for_whoever_wants_to_know() -> None:
    pair = Pair()
    master = PairMaster(EVEN)
    bus = VirtualBus(master, pair.line, hear_at=pair.hear_at)
    pair.modbus.faults.append(Fault(Kind.LATE, delay_ms=60, times=1))
    pair.first.faults.append(Fault(Kind.LATE, delay_ms=100, times=1))
    bus.read(MODBUS, timeout_ms=20, settings=EVEN)
    bus.idle(200 * MS)
    bus.read(KWH, timeout_ms=20, settings=EVEN)
    bus.idle(500 * MS)
    assert master.strays() == [7, FIRST]
    assert master.strays() == []


def test_a_line_has_one_owner() -> None:
    master = PairMaster(EVEN)
    master.begin(10**9, KWH, timeout_ns=MS)
    for request in (KWH, MODBUS):
        with pytest.raises(RuntimeError, match="one request at a time"):
            master.begin(10**9, request, timeout_ns=MS)
    master.abandon()
    assert master.begin(2 * 10**9, MODBUS, timeout_ns=MS)


def test_the_machines_alone_refuse_a_second_request() -> None:
    alone = DltMaster(Silence(EVEN))
    alone.begin(10**9, KWH, timeout_ns=MS)
    with pytest.raises(RuntimeError, match="one request at a time"):
        alone.begin(10**9, KWH, timeout_ns=MS)
    with pytest.raises(TypeError, match="Modbus only"):
        VirtualBus(RtuMaster(Silence(EVEN)), Pair().line).read(KWH, timeout_ms=10)


def test_a_line_that_is_never_silent_is_said_so() -> None:
    master = DltMaster(Silence(EVEN))
    events = master.begin(10**9, KWH, timeout_ns=100 * MS)
    assert events
    master.abandon()
    now_ns = 3 * 10**9
    master.receive(now_ns, b"\x00")
    events = master.begin(now_ns, KWH, timeout_ns=100 * MS)
    while not isinstance(events[-1], Failed):
        now_ns += MS
        events = master.receive(now_ns, b"\x55")
        assert now_ns < 6 * 10**9
    assert "never silent" in str(events[-1].error)
