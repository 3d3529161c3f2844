"""The Modbus TCP machine: only the one answer fits, late ones are known, senseless bytes end the connection."""

import random

import pytest

from agent.errors import FrameDamaged, LineDown, MeterBusy, MeterRefused, MeterSilent
from agent.protocol.events import Failed, Send, WaitUntil, Words
from agent.protocol.pdu import ReadRequest
from agent.protocol.tcp import Frame
from agent.protocol.tcp_master import TcpMaster

MS = 1_000_000
ASK = ReadRequest(7, 3, 100, 2)


def data(number: int, *, unit: int = 7, function: int = 3, words: tuple[int, ...] = (1, 2)) -> bytes:
    body = b"".join(word.to_bytes(2, "big") for word in words)
    return Frame(number, unit, bytes((function, len(body))) + body).encode()


def asked(master: TcpMaster, request: ReadRequest = ASK, now_ns: int = 0) -> int:
    """Ask; gives the transaction number."""
    sent, wait = master.begin(now_ns, request, timeout_ns=100 * MS)
    assert isinstance(sent, Send) and wait == WaitUntil(now_ns + 100 * MS)
    return int.from_bytes(sent.data[:2], "big")


def test_the_answer_with_its_number_is_taken_in_pieces_too() -> None:
    master = TcpMaster()
    whole = data(asked(master))
    for byte in whole[:-1]:
        assert master.receive(1, bytes((byte,))) == []
    assert master.receive(5, whole[-1:]) == [Words((1, 2), 0, 5)]


def test_numbers_rise_and_begin_anew_at_one() -> None:
    master = TcpMaster()
    master._number = 65_534
    numbers = []
    for _ in range(3):
        numbers.append(asked(master))
        master.receive(1, data(numbers[-1]))
    assert numbers == [65_535, 1, 2]


@pytest.mark.fault("F37")
@pytest.mark.parametrize("other", [data(99), data(1, unit=8), data(99, unit=8)])
def test_answers_of_others_and_late_ones_are_skipped(other: bytes) -> None:
    master = TcpMaster()
    number = asked(master)
    assert master.receive(1, other) == []
    assert master.receive(2, data(number)) == [Words((1, 2), 0, 2)]


@pytest.mark.parametrize("wrong", [data(1, function=4), data(1, words=(1,)), data(1, words=(1, 2, 3))])
def test_a_wrong_answer_fails_the_read(wrong: bytes) -> None:
    master = TcpMaster()
    asked(master)
    (end,) = master.receive(1, wrong)
    assert isinstance(end, Failed) and isinstance(end.error, FrameDamaged)


@pytest.mark.parametrize(("code", "kind"), [(2, MeterRefused), (6, MeterBusy), (11, MeterRefused)])
def test_a_refusal_is_an_answer(code: int, kind: type[Exception]) -> None:
    master = TcpMaster()
    number = asked(master)
    (end,) = master.receive(1, Frame(number, 7, bytes((0x83, code))).encode())
    assert isinstance(end, Failed) and isinstance(end.error, kind)


def test_silence_ends_at_the_time_out_and_not_before() -> None:
    master = TcpMaster()
    asked(master)
    assert master.tick(99 * MS) == [WaitUntil(100 * MS)]
    (end,) = master.tick(100 * MS)
    assert isinstance(end, Failed) and isinstance(end.error, MeterSilent)
    assert master.tick(101 * MS) == []


def test_a_nameless_gateway_is_given_time_for_the_same_shape_and_not_for_another() -> None:
    master = TcpMaster()
    asked(master)
    assert master.receive(1, data(0)) == [Words((1, 2), 0, 1)]
    asked(master, now_ns=2)
    master.tick(2 + 100 * MS)
    assert master.begin(3 + 100 * MS, ASK, timeout_ns=100 * MS) == [WaitUntil(2 + 200 * MS)]
    (sent, _) = master.tick(2 + 200 * MS)
    assert isinstance(sent, Send)
    master.receive(3 + 200 * MS, data(0))
    asked(master, ReadRequest(7, 3, 100, 3), now_ns=4 + 200 * MS)


@pytest.mark.fault("F37")
@pytest.mark.parametrize(
    "senseless", [b"HTTP/1.1 400 Bad Request", b"\0\1\0\1\0\6", b"\0\1\0\0\0\0", b"\0\1\0\0\xff\xff"]
)
def test_what_is_no_modbus_tcp_ends_the_connection(senseless: bytes) -> None:
    master = TcpMaster()
    asked(master)
    with pytest.raises(LineDown):
        master.receive(1, senseless)


def test_an_answer_that_broke_off_is_never_continued_by_the_next() -> None:
    master = TcpMaster()
    master.receive(0, data(asked(master))[:9])
    master.tick(100 * MS)
    with pytest.raises(LineDown):
        master.begin(101 * MS, ASK, timeout_ns=MS)
    master.connected()
    asked(master, now_ns=102 * MS)


def test_one_request_at_a_time() -> None:
    master = TcpMaster()
    asked(master)
    with pytest.raises(RuntimeError):
        master.begin(1, ASK, timeout_ns=MS)


@pytest.mark.fault("F37")
@pytest.mark.parametrize("seed", range(100))
def test_a_sick_gateway_never_makes_a_wrong_value(seed: int) -> None:
    """Late, foreign, nameless, cut, doubled and cancelled answers in any order; words say where they belong."""
    chance = random.Random(seed)
    master, now_ns = TcpMaster(), 0
    nameless = seed % 2 == 0
    late: list[tuple[int, bytes]] = []
    taken = 0
    for _ in range(60):
        request = ReadRequest(chance.choice((1, 2)), 3, chance.randrange(1000), chance.choice((2, 3)))
        events = master.begin(now_ns, request, timeout_ns=50 * MS)
        if isinstance(events[0], WaitUntil):
            now_ns = events[0].at_ns
            for at_ns, answer in [each for each in late if each[0] <= now_ns]:
                master.receive(at_ns, answer)
            late = [each for each in late if each[0] > now_ns]
            events = master.tick(now_ns)
        assert isinstance(events[0], Send)
        number = 0 if nameless else int.from_bytes(events[0].data[:2], "big")
        words = tuple((request.address * 7 + request.unit + place) % 65_536 for place in range(request.count))
        answer = data(number, unit=request.unit, words=words)
        match chance.randrange(6):
            case 0:
                late.append((now_ns + chance.randrange(51, 99) * MS, answer))
            case 1:
                # Without a number nobody can tell the answer of a unit from one that only claims to be of it.
                other = 9 if nameless else 3 - request.unit
                late.append((now_ns + 5 * MS, data(number, unit=other, words=words)))
            case 2:
                master.abandon()
                late.append((now_ns + chance.randrange(1, 60) * MS, answer))
                now_ns += MS
                continue
            case _:
                late.append((now_ns + 10 * MS, answer))
        end_ns = now_ns + 50 * MS
        done: list[object] = []
        for at_ns, arriving in sorted(late):
            if at_ns <= end_ns and not done:
                done += master.receive(at_ns, arriving)
                late.remove((at_ns, arriving))
                now_ns = at_ns
        if not done:
            now_ns = end_ns
            done += master.tick(now_ns)
        if isinstance(done[0], Words):
            assert done[0].words == words
            taken += 1
    assert taken > 3
