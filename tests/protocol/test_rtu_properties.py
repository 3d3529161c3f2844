"""No wrong words, ever, and no right ones lost: the RTU machine under whatever may arrive.

The world keeps other words at every place of every unit, so that a wrong answer cannot look right.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.events import Failed, Words
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import LATE_FACTOR, SLACK_NS, RtuMaster
from agent.protocol.rtu_frame import frame
from agent.protocol.silence import Silence
from tests.protocol.rtu_world import (
    CHARACTER_NS,
    MS,
    SETTINGS,
    SILENCE_NS,
    TIMEOUT_MS,
    Chunk,
    World,
    good,
    truth,
)

requests = st.builds(
    ReadRequest,
    st.sampled_from([7, 9]),
    st.sampled_from([3, 4]),
    st.integers(0, 60),
    st.sampled_from([1, 2, 3, 30]),
)
in_time = st.integers(0, TIMEOUT_MS * MS)
late = st.integers(TIMEOUT_MS * MS + 1, LATE_FACTOR * TIMEOUT_MS * MS)

Replies = Callable[[bytes], list[Chunk]]


@st.composite
def cut(draw: st.DrawFn, begin_ns: int, data: bytes, most_ns: int = SLACK_NS) -> list[Chunk]:
    """The bytes in pieces, spread over at most so long."""
    places = draw(st.lists(st.integers(0, len(data)), max_size=4).map(sorted))
    edges = [0, *places, len(data)]
    offsets = sorted(
        draw(st.lists(st.integers(0, most_ns), min_size=len(edges) - 1, max_size=len(edges) - 1))
    )
    pieces = zip(edges, edges[1:], offsets, strict=False)
    return [(begin_ns + offset, data[begin:end]) for begin, end, offset in pieces if end > begin]


@st.composite
def anything(draw: st.DrawFn, request: ReadRequest) -> Replies:
    """Whatever a sick line may deliver after a request, in any combination.

    Two faults at once are beyond any master and left out: a meter that answers one question twice, and one whose late
    answer also has another shape than was asked for. Each alone is in.
    """
    chunks: list[Chunk] = []
    whole = draw(st.sampled_from(["good", "good", "malformed", "damaged", "half", "exception", "none"]))
    if whole == "malformed":
        chunks += draw(cut(draw(st.integers(0, 10 * MS)), draw(st.sampled_from(malformed(request))), 10 * MS))
    elif whole != "none":
        begin_ns = draw(in_time | late)
        if whole == "half":
            data = good(request)[: draw(st.integers(0, 4 + 2 * request.count))]
        elif whole == "damaged":
            data = damage(good(request), draw(st.integers(0, 8 * (5 + 2 * request.count) - 1)))
        elif whole == "exception":
            data = frame(request.unit, bytes((request.function | 0x80, 2)))
        else:
            data = good(request)
        chunks += draw(cut(begin_ns, data))
    for noise in draw(st.lists(st.binary(max_size=12) | st.just(good(request, unit=11)), max_size=2)):
        chunks += draw(cut(draw(in_time | late), noise))
    echo = draw(st.booleans())
    return lambda sent: [(0, sent), *chunks] if echo else list(chunks)


def malformed(request: ReadRequest) -> list[bytes]:
    """Answers with right checksums that are not what was asked for."""
    longer = ReadRequest(request.unit, request.function, request.address, request.count + 1)
    shorter = ReadRequest(request.unit, request.function, request.address, request.count - 1)
    other = ReadRequest(request.unit, 7 - request.function, request.address, request.count)
    return [good(longer), good(shorter), good(other)]


def damage(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.fault("F4", "F31")
@settings(max_examples=400)
@given(st.data())
def test_no_wrong_words_whatever_arrives(data: st.DataObject) -> None:
    world = World()
    for request in data.draw(st.lists(requests, min_size=1, max_size=6)):
        replies = data.draw(anything(request))
        give_up_ns = data.draw(st.none() | st.integers(25 * MS, 2 * TIMEOUT_MS * MS))
        end = world.read(request, replies, give_up_ns=give_up_ns)
        if isinstance(end, Words):
            assert end.words == truth(request)


@settings(max_examples=400)
@given(st.data(), requests, in_time)
def test_a_good_answer_in_time_is_never_lost(
    data: st.DataObject, request: ReadRequest, begin_ns: int
) -> None:
    chunks = data.draw(cut(begin_ns, good(request)))
    first_ns = min(at_ns for at_ns, _ in chunks)
    chunks = [(at_ns - first_ns + begin_ns, piece) for at_ns, piece in chunks]
    echo = data.draw(st.booleans())
    end = World().read(request, lambda sent: [(0, sent), *chunks] if echo else chunks)
    assert isinstance(end, Words)
    assert end.words == truth(request)


@pytest.mark.fault("F14")
@given(st.data(), requests, st.integers(0, (TIMEOUT_MS - 20) * MS), st.binary(max_size=20))
def test_noise_before_a_good_answer_does_not_lose_it(
    data: st.DataObject, request: ReadRequest, begin_ns: int, noise: bytes
) -> None:
    chunks = [(begin_ns, noise), *data.draw(cut(begin_ns, good(request), most_ns=20 * MS))]
    end = World().read(request, lambda _: chunks)
    assert isinstance(end, Words)
    assert end.words == truth(request)


@settings(max_examples=200)
@given(st.data())
def test_the_silence_is_kept_whatever_arrives(data: st.DataObject) -> None:
    world = World()  # it insists on it
    for request in data.draw(st.lists(requests, min_size=2, max_size=5)):
        world.read(request, data.draw(anything(request)), quiet_ms=data.draw(st.sampled_from([0, 5, 40])))
    assert len(world.sent) > 1


@given(
    requests, st.lists(st.tuples(st.integers(0, 1000 * MS), st.binary(min_size=1, max_size=5)), max_size=200)
)
def test_every_read_ends_in_bounded_time(request: ReadRequest, noise: list[Chunk]) -> None:
    world = World()
    begun_ns = world.now_ns
    world.read(request, lambda _: noise)
    frame_ns = (8 + 5 + 2 * request.count) * CHARACTER_NS
    assert world.now_ns - begun_ns <= TIMEOUT_MS * MS + frame_ns + SLACK_NS + SILENCE_NS


# --------------------------------------------------------------------------------------------- the check of the check


def sick_line(seed: int, late_factor: int) -> tuple[int, int]:
    """200 reads of meters that are late every third time: how many words were right, how many wrong."""
    chance = random.Random(seed)
    world = World(RtuMaster(Silence(SETTINGS), late_factor=late_factor))
    right = wrong = 0
    for _ in range(200):
        request = ReadRequest(chance.choice((7, 9)), 4, chance.randrange(60), 2)
        delay_ns = chance.choice((10, 10, 105 + chance.randrange(90))) * MS
        answer = good(request)
        end = world.read(request, lambda _, at_ns=delay_ns, data=answer: [(at_ns, data)])  # type: ignore[misc]
        if isinstance(end, Words):
            right += end.words == truth(request)
            wrong += end.words != truth(request)
        else:
            assert isinstance(end, Failed)
    return right, wrong


def test_the_memory_for_late_answers_is_what_keeps_wrong_words_out() -> None:
    with_guard = [sick_line(seed, LATE_FACTOR) for seed in range(10)]
    without = [sick_line(seed, 0) for seed in range(10)]
    assert sum(wrong for _, wrong in with_guard) == 0
    assert sum(right for right, _ in with_guard) > 1000
    assert sum(wrong for _, wrong in without) > 100
