"""The DL/T 645 codec: the worked frames of the meter notes, an independent library, and noise of every kind."""

import functools
import random
from typing import Any

import pytest
from dlt645.protocol.protocol import DLT645Protocol  # type: ignore[import-untyped]
from dlt645.service.serversvc.server_service import (  # type: ignore[import-untyped]
    MeterServerService,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import FrameDamaged, MeterRefused
from agent.protocol.dlt645 import (
    ANYBODY,
    FORWARD_TOTAL,
    FREQUENCY,
    VOLTAGE_A,
    DltFrame,
    DltRequest,
    address_bytes,
    address_text,
    check_size,
    concerns,
    data_of,
    frame_at,
    frames,
    matches,
    only_frame,
    overlap,
    payload_of,
    request_frame,
    words_of,
)
from tests.protocol.dlt_noise import fuzzed

WAKE = b"\xfe" * 4
READ_ADDRESS = bytes.fromhex("68AAAAAAAAAAAA681300DF16")
READ_FORWARD_TOTAL = bytes.fromhex("68AAAAAAAAAAAA68110433333433AE16")
REPLY_161 = bytes.fromhex("6861010000000068910833333433593333338A16")
REPLY_425 = bytes.fromhex("6825040302010068910833333433753945338B16")
TOTAL = DltRequest(ANYBODY, FORWARD_TOTAL, 4)

addresses = st.text("0123456789", min_size=12, max_size=12)
any_bytes = st.binary(min_size=6, max_size=6)


def test_the_worked_requests() -> None:
    assert request_frame(DltRequest(ANYBODY, None)).encode() == WAKE + READ_ADDRESS
    assert request_frame(TOTAL).encode() == WAKE + READ_FORWARD_TOTAL


@pytest.mark.parametrize(
    ("reply", "sender", "words"),
    [
        (REPLY_161, "000000000161", (0x0000, 0x0026)),  # 0.26 kWh
        (REPLY_425, "000102030425", (0x0012, 0x0642)),  # 1206.42 kWh
    ],
)
def test_the_worked_replies(reply: bytes, sender: str, words: tuple[int, ...]) -> None:
    frame = only_frame(WAKE + reply)
    assert frame is not None
    assert frame.sender == sender
    assert concerns(frame, TOTAL)
    assert words_of(payload_of(frame, TOTAL)) == words
    assert frame.encode() == WAKE + reply


def test_the_switch_of_a_chint_meter_to_modbus() -> None:
    data = bytes.fromhex("0000020A 02000000 00000000 0000")
    told = bytes.fromhex("33 33 35 3D 35 33 33 33 33 33 33 33 33 33")
    frame = DltFrame(address_bytes("000000000161"), 0x14, data).encode(b"")
    assert frame[8:10] == bytes((0x14, 0x0E))
    assert frame[10:-2] == told


@pytest.mark.parametrize("awkward", ["161616161616", "000000001668", "686868686868", "169999006816"])
def test_an_address_of_frame_marks_is_an_address(awkward: str) -> None:
    request = DltRequest(awkward, FORWARD_TOTAL, 4)
    reply = DltFrame(address_bytes(awkward), 0x91, bytes.fromhex("00000100 16166816")).encode()
    ((found, end),) = frames(b"\x68\x16\xfe" + reply)
    assert end == len(reply) + 3
    assert found.sender == awkward
    assert payload_of(found, request) == bytes.fromhex("16166816")


def test_an_address_byte_of_feh_is_no_wake_up() -> None:
    reply = DltFrame(bytes.fromhex("FEFE16FE0100"), 0x91, bytes.fromhex("00000100 CBCBCBCB")).encode()
    found = only_frame(reply)
    assert found is not None
    assert found.sender == "0001FE16FEFE"
    assert only_frame(request_frame(DltRequest("0001FE16FEFE", 0)).encode()) is not None


def test_what_may_be_told() -> None:
    with pytest.raises(ValueError, match="12 digits"):
        address_bytes("12345")
    refused = DltFrame(address_bytes("000000000161"), 0xD1, b"\x02")
    with pytest.raises(MeterRefused, match="no such data") as told:
        payload_of(refused, TOTAL)
    assert told.value.code == 2
    with pytest.raises(MeterRefused, match="wrong password") as told:
        payload_of(DltFrame(refused.address, 0xD1, b"\x04"), TOTAL)
    assert told.value.code == 4
    with pytest.raises(FrameDamaged, match="tells address"):
        payload_of(DltFrame(refused.address, 0x93, bytes(6)), DltRequest(ANYBODY, None))
    with pytest.raises(FrameDamaged, match="3 bytes of data instead of 4"):
        check_size(TOTAL, bytes(3))


@pytest.mark.parametrize(
    "other",
    [
        DltFrame(address_bytes("000000000162"), 0x91, bytes.fromhex("0000010026000000")),
        DltFrame(address_bytes("000000000161"), 0x11, bytes.fromhex("0000010026000000")),
        DltFrame(address_bytes("000000000161"), 0x92, bytes.fromhex("0000010026000000")),
        DltFrame(address_bytes("000000000161"), 0x91, bytes.fromhex("0001010026000000")),
        DltFrame(address_bytes("000000000161"), 0xD1, bytes.fromhex("0201")),
    ],
)
def test_a_reply_to_something_else_does_not_concern_us(other: DltFrame) -> None:
    assert not concerns(other, DltRequest("000000000161", FORWARD_TOTAL, 4))


def test_follow_up_frames_are_told_apart_by_their_number() -> None:
    request = DltRequest("000000000161", 0x0001FF00)
    asked = request_frame(request, 2)
    assert (asked.control, asked.data) == (0x12, bytes.fromhex("00FF010002"))
    second = DltFrame(asked.address, 0x92, bytes.fromhex("00FF0100 11223344 02"))
    assert concerns(second, request, 2)
    assert not concerns(second, request, 1)
    assert payload_of(second, request, 2) == bytes.fromhex("11223344")


@given(addresses)
def test_addresses_and_their_patterns(address: str) -> None:
    assert address_text(address_bytes(address)) == address
    assert matches(ANYBODY, address)
    assert matches("AAAAAAAAAA" + address[-2:], address)
    assert overlap("AAAAAAAAAA" + address[-2:], address)
    assert not matches("AAAAAAAAAA" + f"{(int(address[-2:]) + 1) % 100:02d}", address)


@given(st.binary(min_size=1, max_size=40))
def test_words_and_data(data: bytes) -> None:
    assert data_of(words_of(data), len(data)) == data


# ---------------------------------------------------------------------------------------------- an independent library


@given(any_bytes, st.integers(0, 255), st.binary(max_size=200), st.integers(0, 4))
def test_both_codecs_write_the_same(address: bytes, control: int, data: bytes, wake_up: int) -> None:
    ours = DltFrame(address, control, data).encode(b"\xfe" * wake_up)
    assert ours == bytes(DLT645Protocol.build_frame(address, control, data, wake_up))
    theirs = DLT645Protocol.deserialize(ours)
    assert (theirs.addr, theirs.ctrl_code, theirs.data) == (address, control, data)
    assert only_frame(ours) == DltFrame(address, control, data)


@functools.cache
def their_meter() -> Any:
    """One meter for all examples: making one takes half a second."""
    return MeterServerService(None)


@settings(max_examples=50)
@given(
    addresses,
    st.sampled_from([(FORWARD_TOTAL, 4, 100), (VOLTAGE_A, 2, 10), (FREQUENCY, 2, 100)]),
    st.integers(0, 9999),
)
def test_their_meter_answers_our_requests(address: str, item: tuple[int, int, int], counts: int) -> None:
    identifier, size, per_unit = item
    meter = their_meter()
    meter.set_address(address_bytes(address))
    store = meter.set_00 if identifier == FORWARD_TOTAL else meter.set_02
    assert store(identifier, min(counts, 7999) / per_unit)
    request = DltRequest(address, identifier, size)
    theirs = DLT645Protocol.deserialize(request_frame(request).encode())
    reply = only_frame(bytes(meter.handle_request(theirs)))
    assert reply is not None
    assert concerns(reply, request)
    data = payload_of(reply, request)
    check_size(request, data)
    assert int(data[::-1].hex()) == min(counts, 7999)


# --------------------------------------------------------------------------------------------------------------- noise


def test_a_short_run_of_the_fuzzer() -> None:
    """`python -m tests.protocol.dlt_noise 1000000` is the long one."""
    assert fuzzed(20_000, seed=1).wrong == 0


@given(st.binary(max_size=300))
def test_nothing_is_read_into_noise_that_is_not_a_frame(noise: bytes) -> None:
    for found, end in frames(noise):
        assert noise[:end].endswith(found.encode(b""))


@given(
    st.lists(st.binary(max_size=30).filter(lambda noise: 0x68 not in noise), min_size=2, max_size=4),
    st.integers(0, 12),
)
def test_frames_are_found_between_noise(noise: list[bytes], wake_up: int) -> None:
    whole = DltFrame(address_bytes("000000000161"), 0x91, bytes.fromhex("0000010026000000"))
    stream = whole.encode(b"\xfe" * wake_up).join(noise)
    assert [found for found, _ in frames(stream)] == [whole] * (len(noise) - 1)


def test_every_cut_and_every_flipped_bit_is_noticed() -> None:
    for length in range(len(REPLY_161)):
        assert frame_at(REPLY_161[:length], 0) is None
    for bit in range(8 * len(REPLY_161)):
        damaged = bytearray(REPLY_161)
        damaged[bit // 8] ^= 1 << bit % 8
        assert only_frame(bytes(damaged)) is None


def test_random_bytes_make_no_frame() -> None:
    chance = random.Random(5)
    assert sum(1 for _ in frames(chance.randbytes(200_000))) == 0
