"""Guess what a person meant by a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches

_PART_LEAST = 4
"""So many characters of a name, such as "reflow" or "sdm630", say which one is meant, if only one has them."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question such as `did you mean "baud"?`, or empty text where nothing known is close."""
    close = nearest(given, known)
    return f'did you mean "{close}"?' if close else ""


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name that is most like the given one, None where none is close; case and `-_ .` do not matter."""
    spellings = {_plain(name): name for name in known}
    plain = _plain(given[:200])
    close = get_close_matches(plain, spellings, n=1, cutoff=0.6)
    if not close and len(plain) >= _PART_LEAST:
        close = [name for name in spellings if plain in name]
    return spellings[close[0]] if len(close) == 1 else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").replace(".", "_")
