"""Reading values out of rows: what has another type than it was written with was changed by something else than us."""

from fractions import Fraction

from agent.adapters.journal.connection import Row
from agent.errors import JournalDamaged
from agent.metering.interval import Moment
from agent.metering.ledger import Basis

NOTHING_KNOWN = Moment(None, None, None)
"""Of such a time not even the label deserves trust; the opposite of None, where nothing but the label was kept."""
UNKNOWN_BOOT = ""
"""The name under which `boots` has it: no start of a machine is called so."""


def text(value: object) -> str:
    """A text. Raises JournalDamaged."""
    if not isinstance(value, str):
        raise JournalDamaged(f"a text was expected in the journal, not {value!r}")
    return value


def text_or_none(value: object) -> str | None:
    """A text, or None. Raises JournalDamaged."""
    return None if value is None else text(value)


def integer(value: object) -> int:
    """An integer. Raises JournalDamaged."""
    if not isinstance(value, int):
        raise JournalDamaged(f"an integer was expected in the journal, not {value!r}")
    return value


def integer_or_none(value: object) -> int | None:
    """An integer, or None. Raises JournalDamaged."""
    return None if value is None else integer(value)


def blob(value: object) -> bytes:
    """Bytes. Raises JournalDamaged."""
    if not isinstance(value, bytes):
        raise JournalDamaged(f"bytes were expected in the journal, not {value!r}")
    return value


def basis_of(row: Row) -> Basis:
    """The columns per_count, modulus_milliwh and serial. Raises JournalDamaged."""
    try:
        per_count = Fraction(text(row[0]))
    except (ValueError, ZeroDivisionError) as error:
        raise JournalDamaged(f"an energy per count is {row[0]!r}") from error
    return Basis(per_count, integer_or_none(row[1]), text_or_none(row[2]))


def moment_of(row: Row) -> Moment | None:
    """The name of the boot, up_ms and err_ms; None where nothing was kept."""
    if row[0] is None and row[1] is None and row[2] is None:
        return None
    if row[0] == UNKNOWN_BOOT:
        return NOTHING_KNOWN
    return Moment(text_or_none(row[0]), integer_or_none(row[1]), integer_or_none(row[2]))


def join_words(words: tuple[int, ...]) -> bytes:
    """Words as they are kept, high byte first."""
    return b"".join(word.to_bytes(2, "big") for word in words)


def split_words(value: object) -> tuple[int, ...]:
    """Kept words as they were read."""
    data = blob(value)
    return tuple(int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2))
