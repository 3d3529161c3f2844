"""The RTU machine, one rule at a time."""

import pytest

from agent.errors import FrameDamaged, MeterBusy, MeterRefused, MeterSilent
from agent.metering.plant import SerialSettings
from agent.protocol.events import Failed, Retune, Send, WaitUntil, Words
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import RtuMaster
from agent.protocol.rtu_frame import crc16, frame, is_sound
from agent.protocol.silence import FAST_SILENCE_NS, Silence, character_ns, silence_ns
from tests.protocol.rtu_world import (
    CHARACTER_NS,
    MS,
    SETTINGS,
    SILENCE_NS,
    TIMEOUT_MS,
    World,
    good,
    truth,
)

ASK = ReadRequest(7, 4, 0x48, 2)
SAME_SHAPE = ReadRequest(7, 4, 0x00, 2)
OTHER_SHAPE = ReadRequest(7, 4, 0x00, 3)
OTHER_UNIT = ReadRequest(9, 4, 0x48, 2)


def words(end: Words | Failed | None) -> tuple[int, ...]:
    assert isinstance(end, Words), end
    return end.words


def error(end: Words | Failed | None) -> Exception:
    assert isinstance(end, Failed), end
    return end.error


# ------------------------------------------------------------------------------------------------- frames and times


def test_the_checksum_is_that_of_the_standard() -> None:
    # MODBUS over Serial Line V1.02, appendix B: the frame 02 07 carries 41 12.
    assert frame(2, bytes((7,))).hex() == "02074112"
    assert crc16(b"123456789") == 0x4B37


@pytest.mark.fault("F4")
def test_a_frame_is_sound_until_any_bit_changes() -> None:
    data = frame(7, ASK.pdu())
    assert is_sound(data)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not is_sound(bytes(damaged))


@pytest.mark.parametrize(
    ("baud", "parity", "stop_bits", "one_ns", "gap_ns"),
    [
        (9600, "none", 1, 1_041_667, 3_645_834),
        (9600, "even", 1, 1_145_834, 4_010_417),
        (19_200, "even", 1, 572_917, 2_005_209),
        (38_400, "none", 1, 260_417, FAST_SILENCE_NS),
        (1200, "none", 2, 9_166_667, 32_083_334),
    ],
)
def test_times_are_exact_and_rounded_up(
    baud: int, parity: str, stop_bits: int, one_ns: int, gap_ns: int
) -> None:
    settings = SerialSettings(baud, parity, stop_bits)
    assert character_ns(settings) == one_ns
    assert silence_ns(settings) == gap_ns


# ------------------------------------------------------------------------------------------------------- the answer


def test_an_answer_is_its_words_and_when_it_came() -> None:
    world = World()
    end = world.read(ASK, lambda _: [(10 * MS, good(ASK))])
    assert words(end) == truth(ASK)
    assert isinstance(end, Words)
    assert end.sent_ns == world.sent[0]
    assert end.received_ns == world.sent[0] + 8 * CHARACTER_NS + 10 * MS


@pytest.mark.fault("F14")
@pytest.mark.parametrize("junk", [b"\0", b"\xff\xff\xff", b"\x07", b"\x07\x04", b"\x07\x04\x04", b"\x07\x84"])
def test_noise_before_the_answer_does_not_lose_it(junk: bytes) -> None:
    assert words(World().read(ASK, lambda _: [(5 * MS, junk + good(ASK))])) == truth(ASK)
    assert words(World().read(ASK, lambda _: [(5 * MS, junk), (30 * MS, good(ASK))])) == truth(ASK)


@pytest.mark.fault("F14")
def test_noise_after_the_answer_does_not_reach_the_next_one() -> None:
    world = World()
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK) + good(SAME_SHAPE)[:4])])) == truth(ASK)
    assert words(world.read(SAME_SHAPE, lambda _: [(5 * MS, good(SAME_SHAPE))])) == truth(SAME_SHAPE)


@pytest.mark.fault("F29")
def test_an_echo_is_not_an_answer() -> None:
    assert words(World().read(ASK, lambda sent: [(0, sent + good(ASK))])) == truth(ASK)
    assert words(
        World().read(ASK, lambda sent: [(0, sent[:3]), (MS, sent[3:]), (9 * MS, good(ASK))])
    ) == truth(ASK)
    assert isinstance(error(World().read(ASK, lambda sent: [(0, sent)])), MeterSilent)


@pytest.mark.fault("F29")
def test_an_echo_that_looks_like_the_head_of_an_answer_is_an_echo() -> None:
    # Address 0x0400 and two registers: the request begins as the reply does, unit, function and 4.
    ask = ReadRequest(7, 4, 0x0400, 2)
    assert words(World().read(ask, lambda sent: [(0, sent), (20 * MS, good(ask))])) == truth(ask)
    assert isinstance(error(World().read(ask, lambda sent: [(0, sent)])), MeterSilent)


@pytest.mark.fault("F2", "F3")
def test_frames_of_others_are_skipped() -> None:
    other = good(OTHER_UNIT)
    assert words(
        World().read(ASK, lambda _: [(5 * MS, other[:4]), (8 * MS, other[4:] + good(ASK))])
    ) == truth(ASK)
    assert isinstance(error(World().read(ASK, lambda _: [(5 * MS, other)])), MeterSilent)
    assert isinstance(error(World().read(ASK, lambda _: [(5 * MS, good(ASK, unit=0))])), MeterSilent)


@pytest.mark.parametrize(
    "wrong",
    [
        good(ASK)[:-1] + b"\0",
        good(ASK)[:6],
        frame(7, bytes((3, 4, 1, 2, 3, 4))),
        frame(7, bytes((4, 2, 1, 2))),
        frame(7, bytes((4, 6, 1, 2, 3, 4, 5, 6))),
        frame(7, bytes((6, 0, 1, 0, 2))),
        b"\x55" * 20,
    ],
)
def test_what_does_not_fit_is_damaged(wrong: bytes) -> None:
    world = World()
    assert isinstance(error(world.read(ASK, lambda _: [(5 * MS, wrong)])), FrameDamaged)
    assert world.now_ns <= world.sent[0] + 8 * CHARACTER_NS + (TIMEOUT_MS + 100) * MS


def test_a_wrong_answer_does_not_cost_the_whole_time_out() -> None:
    world = World()
    wrong = frame(7, bytes((3, 4, 1, 2, 3, 4)))
    world.read(ASK, lambda _: [(5 * MS, wrong)], timeout_ms=2000)
    assert world.now_ns - world.sent[0] < 100 * MS


@pytest.mark.parametrize(
    ("code", "kind"), [(5, MeterBusy), (6, MeterBusy), (2, MeterRefused), (11, MeterRefused)]
)
def test_exceptions_have_a_meaning(code: int, kind: type[Exception]) -> None:
    found = error(World().read(ASK, lambda _: [(5 * MS, frame(7, bytes((0x84, code))))]))
    assert isinstance(found, kind)
    assert not isinstance(found, MeterRefused) or found.code == code


def test_an_exception_to_another_function_is_none_to_ours() -> None:
    assert isinstance(
        error(World().read(ASK, lambda _: [(5 * MS, frame(7, bytes((0x83, 2))))])), FrameDamaged
    )


# ------------------------------------------------------------------------------------------------------- the silence


def test_the_line_rests_between_frames() -> None:
    world = World()
    world.read(ASK, lambda _: [(5 * MS, good(ASK))])
    answered_ns = world.now_ns
    world.read(OTHER_UNIT, lambda _: [(5 * MS, good(OTHER_UNIT))])
    assert world.sent[1] == answered_ns + SILENCE_NS


def test_a_meters_own_rest_is_kept_after_its_answer() -> None:
    world = World()
    world.read(ASK, lambda _: [(5 * MS, good(ASK))], quiet_ms=40)
    answered_ns = world.now_ns
    world.read(OTHER_UNIT, lambda _: [(5 * MS, good(OTHER_UNIT))])
    assert world.sent[1] == answered_ns + SILENCE_NS + 40 * MS


def test_bytes_while_waiting_to_speak_prolong_the_wait() -> None:
    silence = Silence(SETTINGS)
    master = RtuMaster(silence)
    silence.connected(0, SETTINGS, listen_ns=10 * MS)
    assert master.begin(0, ASK, timeout_ns=100 * MS) == [WaitUntil(10 * MS + SILENCE_NS)]
    assert master.receive(12 * MS, b"\x00") == [WaitUntil(12 * MS + SILENCE_NS)]
    assert isinstance(master.tick(12 * MS + SILENCE_NS)[0], Send)


@pytest.mark.fault("F32")
def test_a_line_that_is_never_silent_ends_the_read_in_bounded_time() -> None:
    master = RtuMaster(Silence(SETTINGS))
    now_ns = 0
    master.receive(now_ns, b"\x55")
    events = master.begin(now_ns, ASK, timeout_ns=100 * MS)
    while not isinstance(events[-1], Failed):
        now_ns += 2 * MS
        events = master.receive(now_ns, b"\x55\x55")
    assert isinstance(events[-1].error, FrameDamaged)
    assert now_ns < 1500 * MS


def test_a_babbling_answer_ends_the_read_in_bounded_time() -> None:
    world = World()
    noise = [(at * MS, b"\x07\x04\x55") for at in range(2000)]
    assert isinstance(error(world.read(ASK, lambda _: noise)), FrameDamaged)
    assert world.now_ns - world.sent[0] < (TIMEOUT_MS + 120) * MS


def test_another_speed_is_set_before_the_request_and_kept_for_the_silence() -> None:
    slow = SerialSettings(2400, "even", 1)
    master = RtuMaster(Silence(SETTINGS))
    events = master.begin(10**9, ASK, timeout_ns=100 * MS, settings=slow)
    assert events[0] == Retune(slow)
    assert isinstance(events[1], Send)
    assert events[2] == WaitUntil(10**9 + 8 * character_ns(slow) + 100 * MS)


# ------------------------------------------------------------------------------------------------------ late answers


@pytest.mark.fault("F5")
def test_a_late_answer_never_becomes_the_next_one() -> None:
    world = World()
    assert isinstance(error(world.read(SAME_SHAPE, lambda _: [(120 * MS, good(SAME_SHAPE))])), MeterSilent)
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)


@pytest.mark.fault("F5")
def test_without_the_memory_a_late_answer_becomes_the_next_one() -> None:
    """The check of the check: what the test above would see if the guard were gone."""
    world = World(RtuMaster(Silence(SETTINGS), late_factor=0))
    world.read(SAME_SHAPE, lambda _: [(120 * MS, good(SAME_SHAPE))])
    assert words(world.read(ASK, lambda _: [(15 * MS, good(ASK))])) == truth(SAME_SHAPE) != truth(ASK)


def test_another_shape_goes_out_at_once_and_the_late_answer_is_skipped() -> None:
    world = World()
    world.read(SAME_SHAPE, lambda _: [(120 * MS, good(SAME_SHAPE))])
    failed_ns = world.now_ns
    assert words(world.read(OTHER_SHAPE, lambda _: [(30 * MS, good(OTHER_SHAPE))])) == truth(OTHER_SHAPE)
    assert world.sent[1] - failed_ns <= SILENCE_NS


@pytest.mark.fault("F5")
def test_a_late_answer_of_the_same_block_is_not_a_new_reading() -> None:
    world = World()
    world.read(ASK, lambda _: [])
    world.read(ASK, lambda _: [(5 * MS, good(ASK))])
    assert world.sent[1] - world.sent[0] >= 2 * TIMEOUT_MS * MS


@pytest.mark.fault("F5")
def test_the_first_answer_after_a_failure_may_be_the_late_one_and_its_own_comes_after_it() -> None:
    """World seed 6149: later than its window, as the answer to the same question, and the next one got the second."""
    world = World()
    world.read(SAME_SHAPE, lambda _: [(220 * MS + 60 * MS, good(SAME_SHAPE))])
    asked_again = world.read(SAME_SHAPE, lambda _: [(110 * MS, good(SAME_SHAPE))])
    assert words(asked_again) == truth(SAME_SHAPE) and world.now_ns - world.sent[1] < 100 * MS, "the late one"
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)
    assert world.sent[2] - world.sent[1] >= 2 * TIMEOUT_MS * MS
    world.idle(1_000 * MS)
    world.read(ASK, lambda _: [(5 * MS, good(ASK))])
    asked_ns = world.now_ns
    world.read(SAME_SHAPE, lambda _: [(5 * MS, good(SAME_SHAPE))])
    assert world.sent[4] - asked_ns <= SILENCE_NS, "nothing is owed any more"


@pytest.mark.fault("F5", "F6")
def test_a_meter_that_was_quick_may_think_long_at_once_and_other_registers_are_not_asked_for_meanwhile() -> (
    None
):
    """World seed 12564: 20 ms for months and then 725 ms, which was longer than two windows."""
    world = World()
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)
    world.read(SAME_SHAPE, lambda _: [(725 * MS, good(SAME_SHAPE))])
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)
    assert world.sent[2] - world.sent[1] >= 1_000 * MS


def test_nobody_waits_long_for_an_address_that_has_never_answered() -> None:
    """A search asks each address in several ways, and mostly nobody is there."""
    world = World()
    world.read(SAME_SHAPE, lambda _: [])
    world.read(ASK, lambda _: [])
    assert world.sent[1] - world.sent[0] <= 3 * TIMEOUT_MS * MS


@pytest.mark.fault("F5")
def test_a_meter_whose_answers_are_all_late_is_waited_for_as_long_as_the_late_one_took() -> None:
    """World seed 3106: longer than two windows, so that the second one met the next question."""
    world = World()
    late_ns = 320 * MS
    world.read(SAME_SHAPE, lambda _: [(late_ns, good(SAME_SHAPE))])
    again = world.read(SAME_SHAPE, lambda _: [(late_ns, good(SAME_SHAPE))])
    assert words(again) == truth(SAME_SHAPE) and world.now_ns - world.sent[0] <= late_ns + 50 * MS, (
        "the first one"
    )
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)
    assert world.sent[2] - world.sent[1] >= late_ns


def test_a_debt_stays_until_its_window_is_over_even_if_something_like_it_came() -> None:
    """What came may have been the wrong answer of somebody else, and the owed one may still be on its way."""
    world = World()
    world.read(ASK, lambda _: [(110 * MS, good(ASK))])
    world.idle(20 * MS)
    sent_ns = world.sent[0]
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)
    assert world.sent[1] - sent_ns >= 2 * TIMEOUT_MS * MS


@pytest.mark.fault("F9")
def test_an_answer_with_another_function_does_not_pay_for_the_one_that_is_late() -> None:
    """Found by a million faulty transactions: it looks like the owed answer, which comes after all."""
    world = World()
    holding = ReadRequest(7, 3, 300, 2)
    inputs = ReadRequest(7, 4, 400, 2)
    late = good(ReadRequest(7, 3, 300, 2))
    assert world.read(holding, lambda _: [(150 * MS, late)], give_up_ns=30 * MS) is None
    as_holding = ReadRequest(7, 3, 400, 2)
    world.read(inputs, lambda _: [(5 * MS, good(as_holding))])
    asked = ReadRequest(7, 3, 500, 2)
    assert words(world.read(asked, lambda _: [(60 * MS, good(asked))])) == truth(asked)


@pytest.mark.fault("F6")
def test_other_units_do_not_wait_for_a_dirty_one() -> None:
    world = World()
    world.read(ASK, lambda _: [(120 * MS, good(ASK))])
    asked_ns = world.now_ns
    assert words(world.read(OTHER_UNIT, lambda _: [(60 * MS, good(OTHER_UNIT))])) == truth(OTHER_UNIT)
    assert world.sent[1] - asked_ns <= SILENCE_NS


def test_a_late_exception_does_not_refuse_the_next_question() -> None:
    world = World()
    world.read(SAME_SHAPE, lambda _: [(120 * MS, frame(7, bytes((0x84, 2))))])
    assert words(world.read(OTHER_SHAPE, lambda _: [(40 * MS, good(OTHER_SHAPE))])) == truth(OTHER_SHAPE)


def test_a_damaged_answer_leaves_a_debt_too() -> None:
    world = World()
    damaged = good(SAME_SHAPE)[:-1] + b"\0"
    world.read(SAME_SHAPE, lambda _: [(5 * MS, damaged), (150 * MS, good(SAME_SHAPE))])
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)


def test_a_read_that_was_given_up_leaves_a_debt() -> None:
    world = World()
    assert world.read(SAME_SHAPE, lambda _: [(40 * MS, good(SAME_SHAPE))], give_up_ns=20 * MS) is None
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)


@pytest.mark.fault("F30")
def test_a_unit_that_answers_twice_is_noticed() -> None:
    world = World()
    world.read(SAME_SHAPE, lambda _: [(5 * MS, good(SAME_SHAPE)), (7 * MS, good(SAME_SHAPE))])
    world.idle(4 * MS)
    asked_ns = world.now_ns
    assert words(world.read(ASK, lambda _: [(5 * MS, good(ASK))])) == truth(ASK)
    assert world.sent[1] - asked_ns >= TIMEOUT_MS * MS


def test_debts_outlive_a_reopened_port() -> None:
    world = World()
    world.read(SAME_SHAPE, lambda _: [(120 * MS, good(SAME_SHAPE))])
    world.master.connected()
    assert words(world.read(ASK, lambda _: [(15 * MS, good(ASK))])) == truth(ASK)


def test_one_request_at_a_time() -> None:
    master = RtuMaster(Silence(SETTINGS))
    master.begin(0, ASK, timeout_ns=MS)
    with pytest.raises(RuntimeError, match="one request at a time"):
        master.begin(0, ASK, timeout_ns=MS)


def test_time_alone_does_nothing() -> None:
    master = RtuMaster(Silence(SETTINGS))
    assert master.tick(10**12) == []
    assert master.receive(10**12, b"\x07") == []
    master.abandon()


def _error_after_one_owed(answer: list[tuple[int, bytes]]) -> Exception:
    world = World()
    world.read(ASK, lambda _: [])
    return error(world.read(OTHER_SHAPE, lambda _: answer))


def test_while_an_answer_is_owed_the_next_one_is_believed_only_if_it_stands_alone() -> None:
    """Two answers that meet leave a ruin, and one ruin in 65,536 has the right checksum."""
    before = [(5 * MS, b"\x4d" + good(OTHER_SHAPE))]
    behind = [(5 * MS, good(OTHER_SHAPE) + b"\x4d\x04\x08")]
    for ruin in (before, behind):
        assert isinstance(_error_after_one_owed(ruin), FrameDamaged)
    world = World()
    world.read(ASK, lambda _: [])
    assert words(world.read(OTHER_SHAPE, lambda _: [(5 * MS, good(OTHER_SHAPE))])) == truth(OTHER_SHAPE)


def test_bytes_that_follow_within_the_silence_spoil_an_answer_while_one_is_owed() -> None:
    late = [(5 * MS, good(OTHER_SHAPE)), (5 * MS + SILENCE_NS // 2, b"\x04\x08")]
    assert isinstance(_error_after_one_owed(late), FrameDamaged)


def test_where_nothing_is_owed_noise_around_an_answer_does_no_harm() -> None:
    world = World()
    noisy = [(5 * MS, b"\xff" + good(ASK) + b"\x00")]
    assert words(world.read(ASK, lambda _: noisy)) == truth(ASK)


OTHER_SHAPE = ReadRequest(ASK.unit, ASK.function, ASK.address, ASK.count + 1)
