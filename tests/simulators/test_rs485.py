"""The simulated pair obeys physics: character times, silences, collisions; and the machine gets along with it."""

import random
from fractions import Fraction

import pytest

from agent.metering.plant import SerialSettings
from agent.protocol.events import Words
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import RtuMaster
from agent.protocol.rtu_frame import frame, is_sound
from agent.protocol.silence import Silence, character_ns, silence_ns
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualBus
from simulators.meters.faults import Fault, Kind, Transmission
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.support.plants import SLOW, meter

MS = 1_000_000
ASK = ReadRequest(7, 4, 0x48, 2)
REQUEST = frame(7, ASK.pdu())
START = 1_000 * MS


def answering(delay_ns: int, data: bytes = b"ANSWER") -> Rs485Line:
    return Rs485Line(SLOW, lambda _: [Transmission(delay_ns, data)])


def test_a_character_takes_its_bits() -> None:
    line = answering(10 * MS)
    line.master_sends(START, REQUEST)
    received = line.advance(START + 1_000 * MS)
    assert bytes(delivery.value for delivery in received) == b"ANSWER"
    first = START + 8 * character_ns(SLOW) + 10 * MS + character_ns(SLOW)
    assert [delivery.at_ns for delivery in received] == [first + n * character_ns(SLOW) for n in range(6)]


def test_a_meter_never_answers_before_the_silence_is_over() -> None:
    line = answering(0)
    line.master_sends(START, REQUEST)
    first = line.advance(START + 1_000 * MS)[0]
    assert first.at_ns == START + 9 * character_ns(SLOW) + silence_ns(SLOW)


@pytest.mark.parametrize(("gap_ns", "heard"), [(0, 1), (silence_ns(SLOW) - 1, 1), (silence_ns(SLOW), 2)])
def test_a_request_begun_too_early_is_lost(gap_ns: int, heard: int) -> None:
    line = answering(10 * MS, b"")
    line.master_sends(START, REQUEST)
    line.advance(START + 8 * character_ns(SLOW) + silence_ns(SLOW))
    line._put(START + 100 * MS, b"some meter's answer", from_master=False)
    end_ns = START + 100 * MS + 19 * character_ns(SLOW)
    line.advance(end_ns)
    line.master_sends(end_ns + gap_ns, REQUEST)
    line.advance(end_ns + 1_000 * MS)
    assert line.requests_heard == heard
    assert line.begun_too_early == (heard == 1)


def test_two_who_talk_at_once_damage_each_other() -> None:
    line = answering(10 * MS, frame(7, b"\x04\x04\x01\x02\x03\x04"))
    line.master_sends(START, REQUEST)
    line.advance(START + 8 * character_ns(SLOW) + 12 * MS)
    line.master_sends(START + 8 * character_ns(SLOW) + 14 * MS, REQUEST)
    received = bytes(delivery.value for delivery in line.advance(START + 1_000 * MS))
    assert line.collisions > 0
    assert not is_sound(received[:9])


@pytest.mark.fault("F29")
def test_an_echo_comes_before_the_answer() -> None:
    line = Rs485Line(SLOW, lambda _: [Transmission(10 * MS, b"!")], echo=True)
    line.master_sends(START, REQUEST)
    assert bytes(delivery.value for delivery in line.advance(START + 1_000 * MS)) == REQUEST + b"!"


def meters(count: int, turnaround_ms: int) -> list[SimulatedMeter]:
    return [
        SimulatedMeter(meter(f"m{unit}", unit), FixedEnergy(unit * 98_765_432), turnaround_ms=turnaround_ms)
        for unit in range(1, count + 1)
    ]


@pytest.mark.parametrize("parity", ["none", "even"])
@pytest.mark.parametrize("baud", [2400, 9600, 19_200, 115_200])
def test_the_machine_loses_nothing_but_the_physics(baud: int, parity: str) -> None:
    """Without a clock that is late, a cycle is the sum of t(n) to the nanosecond per character."""
    settings = SerialSettings(baud, parity, 1)
    on_pair = meters(26, 10)
    line = Rs485Line(settings, on_one_pair(on_pair))
    bus = VirtualBus(RtuMaster(Silence(settings)), line)
    begun = []
    for _ in range(3):
        begun.append(bus.now_ns)
        for each in on_pair:
            end = bus.read(ReadRequest(each.unit, 4, 0x48, 2), timeout_ms=200)
            assert isinstance(end, Words)
    t_n = (8 + 5 + 4) * character_ns(settings) + max(10 * MS, silence_ns(settings)) + silence_ns(settings)
    cycle_ns = begun[2] - begun[1]
    assert Fraction(26 * t_n, cycle_ns) > Fraction(999, 1000)
    assert line.begun_too_early == line.collisions == 0


@pytest.mark.fault("F31")
def test_a_sick_line_gives_no_wrong_word() -> None:
    """Every fault at random on eight meters, noise on the pair, 2,000 reads: what comes back is true."""
    chance = random.Random(7)
    on_pair = meters(8, 5)
    truth = {each.unit: each.answer(ReadRequest(each.unit, 4, 0x48, 2).pdu())[2:] for each in on_pair}
    line = Rs485Line(SLOW, on_one_pair(on_pair), flip_every=1000, echo=True, seed=7)
    bus = VirtualBus(RtuMaster(Silence(SLOW)), line, chunk=14, hold_ns=4 * MS)
    kinds = [
        kind
        for kind in Kind
        if kind not in (Kind.OTHER_DATA, Kind.DUPLICATE, Kind.DROP, Kind.TRANSACTION_ZERO)
    ]
    right = 0
    for _ in range(2000):
        each = chance.choice(on_pair)
        each.faults.clear()
        if chance.random() < 0.4:
            each.faults.append(Fault(chance.choice(kinds), delay_ms=chance.randrange(60, 100), times=1))
        end = bus.read(ReadRequest(each.unit, 4, 0x48, 2), timeout_ms=60)
        if isinstance(end, Words):
            words = b"".join(word.to_bytes(2, "big") for word in end.words)
            assert words == truth[each.unit]
            right += 1
    assert right > 1000
