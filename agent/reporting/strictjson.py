"""JSON with everything refused that two readers could understand differently.

A JSON Schema `integer` accepts `1.0` and `1e3`, most parsers keep the last of two equal keys, and JavaScript rounds
beyond 2^53: each of these would let one signed message mean two amounts of energy. So the parser itself refuses
them (wire format, sections 2, 3 and 8). Before this comes the envelope's payload as bytes, after it the field checks
of `wire`.
"""

import json
from typing import NoReturn

from agent.metering.quantity import EXACT_MAX

DEPTH_MAX = 16
"""Deepest nesting of objects and arrays; the top object is at depth 1."""

_DIGITS_MAX = 17
"""Sign and digits of the largest integer allowed; checked before `int` is asked to work on a huge text."""


class NotStrict(ValueError):
    """The bytes are not JSON, or not JSON that has one meaning only."""


def loads(data: bytes, *, size_max: int) -> dict[str, object]:
    """Parse one JSON object.

    Args:
        data: UTF-8 without a byte order mark, at most `size_max` bytes.
        size_max: largest size accepted, in bytes.

    Raises:
        NotStrict: not UTF-8, not JSON, a fraction or exponent, NaN or Infinity, an integer beyond 2^53-1, a duplicate
            key, a lone surrogate, nesting deeper than 16, something other than an object at the top, too large.
    """
    if len(data) > size_max:
        raise NotStrict(f"{len(data)} bytes are more than {size_max}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_float=_refuse_number,
            parse_int=_exact_int,
            parse_constant=_refuse_number,
            object_pairs_hook=_without_duplicates,
        )
    except NotStrict:
        raise
    except (ValueError, RecursionError) as error:
        raise NotStrict(f"not JSON in UTF-8: {error}") from None
    if not isinstance(value, dict):
        raise NotStrict("the top level is not an object")
    _check(value, 1)
    return value


def dumps(obj: object) -> bytes:
    """Write an object compactly, members in the order they were inserted, as UTF-8.

    Raises:
        NotStrict: what `loads` would refuse to read back, or a type that JSON does not have (floats among them).
    """
    _check(obj, 1)
    return json.dumps(obj, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _refuse_number(text: str) -> NoReturn:
    raise NotStrict(f"{text[:40]} is not an integer: numbers have no decimal point and no exponent")


def _exact_int(text: str) -> int:
    if len(text) > _DIGITS_MAX or abs(int(text)) > EXACT_MAX:
        raise NotStrict(f"{text[:40]} is beyond 2^53-1")
    return int(text)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrict("an object has the same key twice")
    return members


def _check(value: object, depth: int) -> None:
    """Refuse what has no single meaning, in values read or about to be written."""
    kind = type(value)
    if kind is str:
        _check_text(value)  # type: ignore[arg-type]
    elif kind is int:
        if abs(value) > EXACT_MAX:  # type: ignore[arg-type]
            raise NotStrict(f"{value} is beyond 2^53-1")
    elif isinstance(value, dict | list | tuple):
        if depth > DEPTH_MAX:
            raise NotStrict(f"nested deeper than {DEPTH_MAX}")
        _check_members(value, depth)
    elif value is not None and kind is not bool:
        raise NotStrict(f"{kind.__name__} has no place in a message")


def _check_members(value: dict[str, object] | list[object] | tuple[object, ...], depth: int) -> None:
    if isinstance(value, dict):
        for key, member in value.items():
            if type(key) is not str:
                raise NotStrict(f"the key {key!r} is not text")
            _check_text(key)
            _check(member, depth + 1)
    else:
        for member in value:
            _check(member, depth + 1)


def _check_text(text: str) -> None:
    """Refuse a lone surrogate: it has no UTF-8, so every reader does something else with it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotStrict("a text has a lone surrogate") from None
