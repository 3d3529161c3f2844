"""What a reply PDU must be to be believed, and the Modbus TCP frames around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import FrameDamaged, MeterBusy, MeterRefused
from agent.protocol.pdu import BUSY_CODES, ReadRequest, words_of
from agent.protocol.tcp import Frame, frames

ASK = ReadRequest(7, 4, 342, 2)


def test_a_request_is_function_address_and_count() -> None:
    assert ASK.pdu().hex() == "0401560002"
    assert str(ASK) == "function 4, 2 registers from 342"
    assert str(ReadRequest(7, 3, 0, 1)) == "function 3, 1 register from 0"


def test_the_words_come_high_byte_first() -> None:
    assert words_of(ASK, bytes.fromhex("0404449a51ec")) == (0x449A, 0x51EC)


@pytest.mark.fault("F9")
@pytest.mark.parametrize(
    "pdu",
    [
        "",
        "04",
        "0404",
        "0404449a51",
        "0404449a51ec00",
        "0304449a51ec",
        "0402449a",
        "0406449a51ec0000",
        "0405449a51ec00",
        "0403449a51ec",
        "8302",
        "84",
        "840200",
        "00",
    ],
)
def test_a_reply_of_another_function_or_length_is_damaged(pdu: str) -> None:
    with pytest.raises(FrameDamaged):
        words_of(ASK, bytes.fromhex(pdu))


@pytest.mark.parametrize("code", range(256))
def test_every_exception_code_means_wait_or_no(code: int) -> None:
    with pytest.raises((MeterBusy, MeterRefused)) as caught:
        words_of(ASK, bytes((0x84, code)))
    assert isinstance(caught.value, MeterBusy) == (code in BUSY_CODES)
    assert not isinstance(caught.value, MeterRefused) or caught.value.code == code


@pytest.mark.fault("F7", "F8")
@given(st.binary(max_size=260), st.integers(1, 125))
def test_words_come_only_from_the_one_right_shape(pdu: bytes, count: int) -> None:
    request = ReadRequest(7, 3, 0, count)
    try:
        words = words_of(request, pdu)
    except (FrameDamaged, MeterBusy, MeterRefused):
        assert pdu[:2] != request.reply_header or len(pdu) != 2 + 2 * count
    else:
        assert len(words) == count
        assert bytes((3, 2 * count)) + b"".join(word.to_bytes(2, "big") for word in words) == pdu


@given(
    st.lists(
        st.builds(Frame, st.integers(0, 65_535), st.integers(0, 255), st.binary(min_size=1, max_size=253))
    )
)
def test_frames_come_out_of_a_stream_as_they_went_in(sent: list[Frame]) -> None:
    stream = b"".join(frame.encode() for frame in sent)
    found = list(frames(stream))
    assert [frame for frame, _ in found] == sent
    assert not found or found[-1][1] == len(stream)


@given(st.binary(max_size=60))
def test_frames_of_any_bytes_stay_inside_them(stream: bytes) -> None:
    ends = [end for _, end in frames(stream)]
    assert ends == sorted(set(ends))
    assert all(end <= len(stream) for end in ends)


def test_a_frame_that_is_not_modbus_stops_the_stream() -> None:
    good = Frame(1, 7, b"\x04\x02\0\0").encode()
    assert len(list(frames(good + b"\0\1\0\1\0\2\7\4" + good))) == 1
    assert len(list(frames(good + good[:5]))) == 1
