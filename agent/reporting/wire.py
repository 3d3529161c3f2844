"""Reading typed members out of a payload, each fault with the path of the member that has it.

The messages (`batch`, `descriptor`, `acknowledgement`, `status`) are lists of fields with types; this is the one place
where those types are checked. Unknown members are ignored, because minor versions are additive (wire format, section
9); a member that is there and has the wrong type is never repaired.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from agent.metering.quantity import EXACT_MAX
from agent.reporting.utc import ms_of_text

VERSION = "1.0"
"""Schema version that is written; readers accept every 1.x."""

ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
HASH = re.compile(r"[A-Za-z0-9_-]{43}")
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_VERSION = re.compile(r"1\.(0|[1-9][0-9]{0,3})")
_PARENT = re.compile(r"(?:[A-Za-z0-9._-]{1,32}/)?[A-Za-z0-9._-]{1,32}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")

TEXT_MAX = 255
"""Longest text member without a limit of its own, in characters."""


class WireError(ValueError):
    """A member is missing, has the wrong type or an impossible value; `path` says which one."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Members:
    """The members of one JSON object, read by name and type.

    Every reader raises WireError with the member's path. The readers ending in `_or_none` accept `null` (what is
    unknown is null, never left out); only `time_or_none` and its like read it, a missing member is always an error.
    """

    def __init__(self, value: object, path: str = "$") -> None:
        if not isinstance(value, Mapping):
            raise WireError(path, "must be an object")
        self._members: Mapping[str, object] = value
        self.path = path

    def place(self, name: str) -> str:
        """Path of a member, for messages."""
        return f"{self.path}.{name}"

    def has(self, name: str) -> bool:
        """Whether the member is there at all, null or not."""
        return name in self._members

    def value(self, name: str) -> object:
        """The member as it stands."""
        if name not in self._members:
            raise WireError(self.place(name), "is missing")
        return self._members[name]

    def is_null(self, name: str) -> bool:
        """Whether the member is there and null."""
        return self.value(name) is None

    def integer(self, name: str, minimum: int = 0, maximum: int = EXACT_MAX) -> int:
        """An integer in minimum..maximum."""
        value = self._members.get(name)
        if (
            type(value) is int and minimum <= value <= maximum
        ):  # nearly always, and then no path has to be made
            return value
        return checked_integer(self.value(name), self.place(name), minimum, maximum)

    def integer_or_none(self, name: str, minimum: int = 0, maximum: int = EXACT_MAX) -> int | None:
        """An integer in minimum..maximum, or null."""
        return None if self.is_null(name) else self.integer(name, minimum, maximum)

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise WireError(self.place(name), "must be true or false")
        return value

    def text(self, name: str, maximum: int = TEXT_MAX) -> str:
        """A text of 1 to `maximum` characters."""
        value = self._members.get(name)
        if type(value) is str and 1 <= len(value) <= maximum:
            return value
        return checked_text(self.value(name), self.place(name), maximum)

    def text_or_none(self, name: str, maximum: int = TEXT_MAX) -> str | None:
        """A text of 1 to `maximum` characters, or null."""
        return None if self.is_null(name) else self.text(name, maximum)

    def choice(self, name: str, choices: Iterable[str]) -> str:
        """One of the given texts."""
        value, allowed = self.text(name), sorted(choices)
        if value not in allowed:
            raise WireError(self.place(name), f"{value!r} is none of {', '.join(allowed)}")
        return value

    def identifier(self, name: str) -> str:
        """An id: 1 to 32 characters of A-Z a-z 0-9 . _ -"""
        value = self._members.get(name)
        if type(value) is str and ID.fullmatch(value):
            return value
        return checked_match(self.value(name), self.place(name), ID, "an id")

    def parent_or_none(self, name: str) -> str | None:
        """A meter id, `agent/meter` for a meter of another gateway, or null."""
        return (
            None
            if self.is_null(name)
            else checked_match(self.value(name), self.place(name), _PARENT, "a parent")
        )

    def hash(self, name: str) -> str:
        """A base64url SHA-256, 43 characters."""
        return checked_match(self.value(name), self.place(name), HASH, "a hash of 43 characters")

    def hash_or_none(self, name: str) -> str | None:
        """A base64url SHA-256, or null."""
        return None if self.is_null(name) else self.hash(name)

    def ulid(self, name: str) -> str:
        """A chain id: a ULID of 26 characters."""
        return checked_match(self.value(name), self.place(name), ULID, "a ULID of 26 characters")

    def ulid_or_none(self, name: str) -> str | None:
        """A chain id, or null."""
        return None if self.is_null(name) else self.ulid(name)

    def decimal(self, name: str) -> str:
        """A decimal number as text, at most nine places, kept as text because it is never computed in binary."""
        return checked_match(self.value(name), self.place(name), _DECIMAL, "a decimal number as text")

    def version(self) -> str:
        """The member `v`: any minor version of major version 1."""
        return checked_match(self.value("v"), self.place("v"), _VERSION, "a version 1.x")

    def time_ms(self, name: str) -> int:
        """UTC text, as Unix milliseconds."""
        try:
            return ms_of_text(self.text(name))
        except WireError:
            raise
        except ValueError as error:
            raise WireError(self.place(name), str(error)) from None

    def time_ms_or_none(self, name: str) -> int | None:
        """UTC text as Unix milliseconds, or null."""
        return None if self.is_null(name) else self.time_ms(name)

    def members(self, name: str) -> "Members":
        """An object."""
        return Members(self.value(name), self.place(name))

    def members_or_none(self, name: str) -> "Members | None":
        """An object, or null."""
        return None if self.is_null(name) else self.members(name)

    def items(self, name: str, maximum: int | None = None) -> Iterator[tuple[object, str]]:
        """The entries of an array, each with its path."""
        value = self.value(name)
        if not isinstance(value, list | tuple):
            raise WireError(self.place(name), "must be an array")
        if maximum is not None and len(value) > maximum:
            raise WireError(self.place(name), f"has {len(value)} entries, more than {maximum}")
        place = self.place(name)
        return ((entry, f"{place}[{index}]") for index, entry in enumerate(value))

    def by_id(self, name: str) -> Iterator[tuple[str, object, str]]:
        """The members of an object whose keys are ids: key, value, path."""
        inner = self.members(name)
        for key, value in inner._members.items():
            checked_match(key, inner.place(key), ID, "an id")
            yield key, value, inner.place(key)

    def as_dict(self, *, without: Iterable[str] = ()) -> dict[str, object]:
        """All members as they stand, unknown ones too, except those named."""
        left_out = set(without)
        return {name: value for name, value in self._members.items() if name not in left_out}


def checked_integer(value: object, path: str, minimum: int = 0, maximum: int = EXACT_MAX) -> int:
    """The value as an integer in minimum..maximum; true and false are no integers. Raises WireError."""
    if type(value) is not int:
        raise WireError(path, "must be an integer")
    if not minimum <= value <= maximum:
        raise WireError(path, f"{value} is not in {minimum}..{maximum}")
    return value


def checked_text(value: object, path: str, maximum: int = TEXT_MAX) -> str:
    """The value as a text of 1 to `maximum` characters. Raises WireError."""
    if not isinstance(value, str):
        raise WireError(path, "must be a text")
    if not 1 <= len(value) <= maximum:
        raise WireError(path, f"must have 1 to {maximum} characters, has {len(value)}")
    return value


def checked_match(value: object, path: str, pattern: re.Pattern[str], what: str) -> str:
    """The value as a text that matches the pattern as a whole. Raises WireError."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise WireError(path, f"is not {what}")
    return value


def share_sum(shares: Iterable[tuple[str, int, int]]) -> Fraction:
    """What the shares `(step, num, den)` of one meter add up to."""
    return sum((Fraction(num, den) for _, num, den in shares), Fraction(0))
