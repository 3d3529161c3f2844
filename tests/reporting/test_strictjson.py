"""JSON that two readers could understand differently is refused, in both directions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.quantity import EXACT_MAX
from agent.reporting.strictjson import DEPTH_MAX, NotStrict, dumps, loads

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-EXACT_MAX, EXACT_MAX)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc é"), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc漢"), values, max_size=5))
def test_what_is_written_reads_back(payload: dict[str, object]) -> None:
    data = dumps(payload)
    assert loads(data, size_max=len(data)) == payload == json.loads(data)


@pytest.mark.fault("F86")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1.0}', "decimal point"),
        (b'{"a":1e3}', "exponent"),
        (b'{"a":1E3}', "exponent"),
        (b'{"a":-1.5e-3}', "decimal point"),
        (b'{"a":NaN}', "not an integer"),
        (b'{"a":Infinity}', "not an integer"),
        (b'{"a":-Infinity}', "not an integer"),
        (b'{"a":9007199254740992}', "2\\^53-1"),
        (b'{"a":-9007199254740992}', "2\\^53-1"),
        (b'{"a":' + b"9" * 5_000 + b"}", "2\\^53-1"),
        (b'{"a":1,"a":1}', "same key twice"),
        (b'{"a":1,"\\u0061":2}', "same key twice"),
        (b'{"x":{"a":1,"b":2,"a":3}}', "same key twice"),
        (b'{"a":"\\ud800"}', "lone surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "lone surrogate"),
        (b'{"\\udfff":1}', "lone surrogate"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "BOM"),
        (b"[1]", "not an object"),
        (b'"a"', "not an object"),
        (b"1", "not an object"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":1}x', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":+1}', "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON|deeper"),
    ],
)
def test_what_has_more_than_one_meaning_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(NotStrict, match=reason):
        loads(data, size_max=1_000_000)


def test_a_surrogate_pair_is_a_character_like_any_other() -> None:
    assert loads(b'{"a":"\\ud83d\\ude00"}', size_max=100) == {"a": "\U0001f600"}


def test_the_largest_exact_integers_are_accepted() -> None:
    data = b'{"a":9007199254740991,"b":-9007199254740991}'
    assert loads(data, size_max=100) == {"a": EXACT_MAX, "b": -EXACT_MAX}


def _nested(levels: int) -> bytes:
    """An object at depth 1 with arrays down to the given depth."""
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_sixteen_levels_are_enough_and_seventeen_too_many() -> None:
    deep = loads(_nested(DEPTH_MAX), size_max=1_000)
    assert loads(dumps(deep), size_max=1_000) == deep
    with pytest.raises(NotStrict, match="deeper"):
        loads(_nested(DEPTH_MAX + 1), size_max=1_000)
    with pytest.raises(NotStrict, match="deeper"):
        dumps({"a": deep})


def test_too_much_is_refused_before_it_is_parsed() -> None:
    assert loads(b'{"a":1}', size_max=7) == {"a": 1}
    with pytest.raises(NotStrict, match="8 bytes are more than 7"):
        loads(b"{not jso", size_max=7)


@pytest.mark.parametrize(
    "payload",
    [
        {"a": 1.0},
        {"a": float("nan")},
        {"a": [{"b": 0.5}]},
        {"a": 2**53},
        {"a": "\ud800"},
        {"\ud800": 1},
        {1: "a"},
        {"a": b"bytes"},
        {"a": {1, 2}},
    ],
)
def test_what_the_other_side_would_refuse_is_never_written(payload: object) -> None:
    with pytest.raises(NotStrict):
        dumps(payload)


def test_writing_is_compact_in_order_and_in_plain_utf8() -> None:
    assert dumps({"b": 1, "a": [True, None, "回流焊"]}) == '{"b":1,"a":[true,null,"回流焊"]}'.encode()
