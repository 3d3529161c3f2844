"""Words say one exact value; the referee for floats is the machine's own `struct`."""

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.metering.decode import NoValue, decode, encode, resolution
from agent.metering.profile import WORDS_OF_TYPE, WordType
from tests.metering.examples import register

SINGLE, DOUBLE = WordType.F32, WordType.F64
STRUCT = {SINGLE: ("<I", "<f"), DOUBLE: ("<Q", "<d")}
FLOATS = st.sampled_from([SINGLE, DOUBLE])
RANGES = {
    WordType.U16: (0, 2**16 - 1),
    WordType.S16: (-(2**15), 2**15 - 1),
    WordType.U32: (0, 2**32 - 1),
    WordType.S32: (-(2**31), 2**31 - 1),
    WordType.U64: (0, 2**64 - 1),
    WordType.S64: (-(2**63), 2**63 - 1),
    WordType.BCD32: (0, 99_999_999),
}
INTEGERS = st.sampled_from(list(RANGES)).flatmap(
    lambda type: st.tuples(st.just(type), st.integers(*RANGES[type]))
)


def machine_value(type: WordType, bits: int) -> object:
    """What the processor says the bits are: a float that `Fraction` takes exactly."""
    unsigned, floating = STRUCT[type]
    return struct.unpack(floating, struct.pack(unsigned, bits))[0]


def words_of(bits: int, count: int) -> tuple[int, ...]:
    return tuple((bits >> (16 * place)) & 0xFFFF for place in reversed(range(count)))


def bit_patterns(type: WordType) -> st.SearchStrategy[int]:
    """All exponents alike: plain integers would hardly ever draw a small one."""
    fraction_bits, exponents = (23, 255) if type is SINGLE else (52, 2047)
    return st.builds(
        lambda sign, exponent, fraction: (
            sign << (16 * WORDS_OF_TYPE[type] - 1) | exponent << fraction_bits | fraction
        ),
        st.integers(0, 1),
        st.one_of(st.sampled_from([0, 1, exponents - 1, exponents]), st.integers(0, exponents)),
        st.one_of(st.just(0), st.just((1 << fraction_bits) - 1), st.integers(0, (1 << fraction_bits) - 1)),
    )


@pytest.mark.fault("F24")
@given(data=st.data(), type=FLOATS)
def test_a_float_is_what_the_processor_says(data: st.DataObject, type: WordType) -> None:
    bits = data.draw(bit_patterns(type))
    value = decode(register(type), words_of(bits, WORDS_OF_TYPE[type]))
    expected = machine_value(type, bits)
    assert isinstance(expected, float)
    if math.isfinite(expected):
        assert value == Fraction(expected)
    else:
        assert isinstance(value, NoValue)


@given(data=st.data(), type=FLOATS)
def test_a_float_shows_the_greatest_value_not_above(data: st.DataObject, type: WordType) -> None:
    bits = data.draw(bit_patterns(type).filter(lambda bits: math.isfinite(machine_value(type, bits))))  # type: ignore[arg-type]
    exact = decode(register(type), words_of(bits, WORDS_OF_TYPE[type]))
    assert isinstance(exact, Fraction)
    step = resolution(register(type), exact)
    between = exact + step * data.draw(st.fractions(0, 1).filter(lambda part: part < 1))
    if exact >= 0:
        assert decode(register(type), encode(register(type), between)) == exact
    shown = decode(register(type), encode(register(type), exact))
    assert shown == exact


@given(value=st.fractions(-(10**9), 10**9), type=FLOATS)
@example(value=Fraction(-1) - Fraction(1, 2**30), type=SINGLE)
@example(value=-(Fraction(2) - Fraction(1, 2**60)), type=DOUBLE)
def test_no_float_lies_between_what_is_shown_and_the_value(value: Fraction, type: WordType) -> None:
    shown = decode(register(type), encode(register(type), value))
    assert isinstance(shown, Fraction)
    assert shown <= value
    if value >= 0:
        assert value < shown + resolution(register(type), shown)
    else:
        assert value - shown < resolution(register(type), value)


@given(INTEGERS, st.booleans())
def test_integers_come_back_in_both_word_orders(case: tuple[WordType, int], low_word_first: bool) -> None:
    type, value = case
    described = register(type, low_word_first=low_word_first)
    words = encode(described, value)
    assert decode(described, words) == value
    assert encode(register(type, low_word_first=not low_word_first), value) == words[::-1]


@given(INTEGERS, st.fractions(0, 1).filter(lambda part: part < 1))
def test_an_integer_register_shows_whole_counts(case: tuple[WordType, int], part: Fraction) -> None:
    type, value = case
    assert decode(register(type), encode(register(type), value + part)) == value


@given(st.sampled_from(list(RANGES)), st.integers(1, 10**30))
def test_a_value_beyond_its_register_is_refused(type: WordType, beyond: int) -> None:
    low, high = RANGES[type]
    for value in (low - beyond, high + beyond):
        with pytest.raises(ValueError, match="beyond"):
            encode(register(type), value)


@pytest.mark.parametrize(("type", "limit"), [(SINGLE, 2**128), (DOUBLE, 2**1024)])
def test_a_value_beyond_a_float_is_refused(type: WordType, limit: int) -> None:
    for value in (limit, -limit, -limit + Fraction(1, 3)):
        with pytest.raises(ValueError, match="beyond"):
            encode(register(type), value)
    assert isinstance(decode(register(type), encode(register(type), limit - 1)), Fraction)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8))
def test_text_comes_back(text: str) -> None:
    described = register(WordType.ASCII)
    assert decode(described, encode(described, text)) == text


@pytest.mark.parametrize(
    ("type", "words", "value"),
    [
        (WordType.S16, (0xFFFF,), -1),
        (WordType.U32, (0x0001, 0xE240), 123456),
        (WordType.S64, (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE), -2),
        (SINGLE, (0x8000, 0x0000), 0),
        (SINGLE, (0x3DCC, 0xCCCD), Fraction(13421773, 2**27)),
        (WordType.BCD32, (0x0012, 0x0642), 120642),
        (WordType.ASCII, (0x4232, 0x3320, 0x0000, 0x0000), "B23"),
    ],
)
def test_worked_words(type: WordType, words: tuple[int, ...], value: object) -> None:
    assert decode(register(type), words) == value


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("type", "words", "reason"),
    [
        (SINGLE, (0x7F80, 0x0000), "infinite"),
        (SINGLE, (0xFFC0, 0x0000), "not a number"),
        (DOUBLE, (0xFFF0, 0, 0, 0), "infinite"),
        (DOUBLE, (0x7FF0, 0, 0, 1), "not a number"),
        (WordType.BCD32, (0x0012, 0x0A42), "0x00120A42 is not BCD"),
        (WordType.ASCII, (0x2020, 0x0000, 0x0000, 0x2020), "blank"),
        (WordType.ASCII, (0x4232, 0x3307, 0x0000, 0x0000), "not printable"),
    ],
)
def test_what_is_no_value_says_why(type: WordType, words: tuple[int, ...], reason: str) -> None:
    value = decode(register(type), words)
    assert isinstance(value, NoValue)
    assert reason in value.reason


@pytest.mark.fault("F23")
@pytest.mark.parametrize("low_word_first", [False, True])
def test_an_invalid_mark_is_compared_before_the_sign_is_read(low_word_first: bool) -> None:
    described = register(WordType.S32, invalid=frozenset({0x8000_0000}), low_word_first=low_word_first)
    words = (0x0000, 0x8000) if low_word_first else (0x8000, 0x0000)
    value = decode(described, words)
    assert isinstance(value, NoValue)
    assert "0x80000000" in value.reason
    assert decode(described, words[::-1]) == 0x8000


def test_a_register_needs_all_its_words() -> None:
    with pytest.raises(ValueError, match="2 words, got 1"):
        decode(register(), (1,))
    with pytest.raises(ValueError, match="65536"):
        decode(register(), (1, 65536))


def test_text_and_numbers_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        encode(register(WordType.ASCII), 7)
    with pytest.raises(ValueError, match="does not fit"):
        encode(register(), "7")
    with pytest.raises(ValueError, match="ASCII"):
        encode(register(WordType.ASCII), "nine char")
    with pytest.raises(ValueError, match="ASCII"):
        encode(register(WordType.ASCII), "电")


@pytest.mark.fault("F24")
def test_a_float_counter_moves_in_steps_that_grow() -> None:
    assert resolution(register(SINGLE), Fraction(131_072)) == Fraction(1, 64)  # kWh: 15.6 Wh at 131 MWh
    assert resolution(register(SINGLE), Fraction(10**6 - 1)) == Fraction(1, 16)  # 62.5 Wh near 1 GWh
    assert resolution(register(WordType.U64), 2**60) == 1
