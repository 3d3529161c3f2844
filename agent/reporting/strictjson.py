"""JSON with everything refused that two readers could understand differently.

A JSON Schema `integer` accepts `1.0` and `1e3`, most parsers keep the last of two equal keys, and JavaScript rounds
beyond 2^53: each of these would let one signed message mean two amounts of energy. So the parser itself refuses
them (wire format, sections 2, 3 and 8). Before this comes the envelope's payload as bytes, after it the field checks
of `wire`.
"""

import json
from collections.abc import Iterable
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
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise NotStrict("a BOM before the object")
        value = _DECODER.decode(text)
    except NotStrict:
        raise
    except (ValueError, RecursionError) as error:
        raise NotStrict(f"not JSON in UTF-8: {error}") from None
    if not isinstance(value, dict):
        raise NotStrict("the top level is not an object")
    _check(value)
    if "\\u" in text:  # only an escape can bring a lone surrogate into UTF-8
        _check_texts(value)
    return value


def dumps(obj: object) -> bytes:
    """Write an object compactly, members in the order they were inserted, as UTF-8.

    Raises:
        NotStrict: what `loads` would refuse to read back, or a type that JSON does not have (floats among them).
    """
    _check(obj)
    try:
        return _ENCODER.encode(obj).encode()
    except UnicodeEncodeError:
        raise NotStrict("a text has a lone surrogate") from None


def _refuse_number(text: str) -> NoReturn:
    raise NotStrict(f"{text[:40]} is not an integer: numbers have no decimal point and no exponent")


def _short_int(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise NotStrict(f"{text[:40]} is beyond 2^53-1")
    return int(text)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrict("an object has the same key twice")
    return members


_DECODER = json.JSONDecoder(
    parse_float=_refuse_number,
    parse_int=_short_int,
    parse_constant=_refuse_number,
    object_pairs_hook=_without_duplicates,
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_TEXT_ONLY = frozenset({str})
_PLAIN = frozenset({str, bool, type(None)})


def _check(top: object) -> None:
    """Refuse what has no single meaning, in values read or about to be written, level by level."""
    level: list[object] = [[top]]
    for _ in range(DEPTH_MAX + 1):
        below: list[object] = []
        for container in level:
            for member in _members(container):
                kind = type(member)
                if kind in _PLAIN:
                    continue
                if kind is int:
                    if not -EXACT_MAX <= member <= EXACT_MAX:  # type: ignore[operator]
                        raise NotStrict("an integer is beyond 2^53-1")
                elif isinstance(member, dict | list | tuple):
                    below.append(member)
                else:
                    raise NotStrict(f"{kind.__name__} has no place in a message")
        if not below:
            return
        level = below
    raise NotStrict(f"nested deeper than {DEPTH_MAX}")


def _members(container: object) -> Iterable[object]:
    """The values in a container. Raises NotStrict for a key that is not text."""
    if not isinstance(container, dict):
        assert isinstance(container, list | tuple)
        return container
    if not _TEXT_ONLY.issuperset(map(type, container)):
        raise NotStrict("a key is not text")
    return container.values()


def _check_texts(value: object) -> None:
    """Refuse a lone surrogate: it has no UTF-8, so every reader does something else with it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotStrict("a text has a lone surrogate") from None
