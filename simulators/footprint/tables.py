"""CSV as spreadsheets write it: with a byte order mark, CRLF, Chinese text, empty rows at the end.

Nothing is repaired that changes a figure. Every row knows its line, and all faults of all files are told together.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from agent.carbon.activity import Place
from agent.carbon.exact import decimal_of
from agent.carbon.units import DimensionError, Unit, unit_of
from agent.errors import Fault
from agent.reporting.utc import ms_of_text
from agent.settings.suggest import did_you_mean

SIZE_MAX = 16_000_000


@dataclass(slots=True)
class Faults:
    """What is wrong, with its place; and what is worth knowing although it is not wrong."""

    found: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, place: Place, key: str, reason: str, remedy: str = "") -> None:
        """Remember one fault."""
        self.found.append(Fault(place.file, place.line, key, reason, remedy))


@dataclass(slots=True)
class Row:
    """One row of a table. `ok` becomes False with the first fault found in it, so that it is not used."""

    place: Place
    cells: dict[str, str]
    faults: Faults
    ok: bool = True

    def text(self, column: str) -> str:
        """The cell, empty where the column is not there."""
        return self.cells.get(column, "")

    def refuse(self, column: str, reason: str, remedy: str = "") -> None:
        """Something is wrong in this row."""
        self.ok = False
        self.faults.add(self.place, column, reason, remedy)

    def needed(self, column: str) -> str:
        """A cell that must not be empty."""
        if not self.text(column):
            self.refuse(column, "is empty", "fill it in")
        return self.text(column)

    def number(self, column: str) -> Fraction | None:
        """A number >= 0; None where the cell is empty or wrong."""
        if not self.text(column):
            return None
        try:
            value = decimal_of(self.text(column))
        except ValueError as error:
            self.refuse(column, str(error))
            return None
        if value < 0:
            self.refuse(column, f"{self.text(column)} is negative", "an amount or factor is zero or more")
            return None
        return value

    def needed_number(self, column: str) -> Fraction:
        """A number >= 0 that has to be there; zero stands in for one that is refused, and the row is not used."""
        if self.needed(column):
            value = self.number(column)
            return Fraction(0) if value is None else value
        return Fraction(0)

    def whole(self, column: str) -> int:
        """A whole number >= 0 that has to be there."""
        value = self.needed_number(column)
        if value.denominator != 1:
            self.refuse(column, f"{self.text(column)} is not a whole number", "count pieces")
        return int(value)

    def time(self, column: str) -> int | None:
        """A time with its zone that has to be there, UTC Unix ms; None where it is empty or wrong."""
        text = self.needed(column)
        if not text:
            return None
        try:
            return time_of_text(text)
        except ValueError as error:
            self.refuse(column, str(error), "write 2026-05-03T08:15+08:00, or in UTC 2026-05-03T00:15Z")
            return None

    def unit(self, column: str) -> Unit | None:
        """A unit that has to be there; None where it is not known."""
        if not self.needed(column):
            return None
        try:
            return unit_of(self.text(column))
        except DimensionError as error:
            self.refuse(column, str(error))
            return None


_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<minute>[0-9]{2}:[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<ms>[0-9]{3}))?)?"
    r" ?(?P<zone>Z|(?P<sign>[+-])(?P<hours>[0-9]{2}):?(?P<minutes>[0-9]{2}))?",
    re.ASCII,
)


def time_of_text(text: str) -> int:
    """Read a time as a factory's systems write it, with its distance from UTC, in UTC Unix ms.

    Raises:
        ValueError: it is no time, or nobody says in which zone.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text[:40]}" is not a time')
    if match["zone"] is None:
        raise ValueError(f'"{text[:40]}" has no time zone')
    try:
        at_ms = ms_of_text(
            f"{match['day']}T{match['minute']}:{match['second'] or '00'}.{match['ms'] or '000'}Z"
        )
    except ValueError:
        raise ValueError(f'"{text[:40]}" is a time that there is not') from None
    if match["sign"] is None:
        return at_ms
    hours, minutes = int(match["hours"]), int(match["minutes"])
    if hours > 14 or minutes > 59:
        raise ValueError(f'"{text[:40]}" is in a time zone that there is not')
    offset_ms = (hours * 60 + minutes) * 60_000
    return at_ms - offset_ms if match["sign"] == "+" else at_ms + offset_ms


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows; `data` are its bytes as they were read."""

    path: Path
    data: bytes
    rows: tuple[Row, ...]


def read_table(path: Path, columns: Sequence[str], faults: Faults) -> Table | None:
    """Read a file; None where there is none, or where it holds nothing at all.

    A file that cannot be understood gives a table without rows, and faults.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        faults.add(Place(str(path)), "", "is a folder", "put the file in its place")
        return Table(path, b"", ())
    except OSError as error:
        faults.add(Place(str(path)), "", f"cannot be read: {error.strerror}", "check who owns it")
        return Table(path, b"", ())
    if not data.strip(b"\xef\xbb\xbf\r\n\t ,;"):
        return None
    text = _text(path, data, faults)
    return Table(path, data, () if text is None else tuple(_rows(path, text, columns, faults)))


def _text(path: Path, data: bytes, faults: Faults) -> str | None:
    if len(data) > SIZE_MAX:
        faults.add(Place(str(path)), "", "is larger than 16 MB, so it is not such a table")
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        faults.add(Place(str(path)), "", "is not UTF-8 text", 'save it as "CSV UTF-8"')
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
    try:
        text = data.decode("gb18030")  # what a Chinese spreadsheet writes as "CSV"
    except UnicodeDecodeError:
        faults.add(Place(str(path), line), "", "is neither UTF-8 nor GB18030 text", 'save it as "CSV UTF-8"')
        return None
    faults.notes.append(f"{path.name} is not UTF-8; it was read as GB18030")
    return text


def _rows(path: Path, text: str, columns: Sequence[str], faults: Faults) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        before = 0
        for cells in reader:
            # A quoted cell may span lines; a row is named by the line it begins on.
            begins, before = before + 1, reader.line_num
            stripped = [cell.strip().strip("\ufeff").strip() for cell in cells]
            if any(stripped):
                lines.append((begins, stripped))
    except csv.Error as error:
        faults.add(
            Place(str(path), reader.line_num), "", f"this is not CSV: {error}", "check the quotes there"
        )
        return []
    number, header = lines[0]
    if not _header_is_right(Place(str(path), number), header, columns, faults):
        return []
    rows = []
    for number, cells in lines[1:]:
        place = Place(str(path), number)
        if len(cells) != len(header):
            reason = f"has {len(cells)} cells, not {len(header)}"
            faults.add(
                place, "", reason, "check the commas and quotes there; a decimal comma makes two cells of one"
            )
            continue
        rows.append(Row(place, dict(zip(header, cells, strict=True)), faults))
    return rows


def _header_is_right(place: Place, header: list[str], columns: Sequence[str], faults: Faults) -> bool:
    before = len(faults.found)
    if len(header) == 1 and any(sign in header[0] for sign in ";\t"):
        faults.add(
            place, "", "the columns are not separated by commas", 'save it as "CSV UTF-8 (comma delimited)"'
        )
        return False
    for column in columns:
        if column not in header:
            remedy = did_you_mean(column, header) or f"the first row names the columns: {','.join(columns)}"
            faults.add(place, column, "this column is missing", remedy)
        elif header.count(column) > 1:
            faults.add(place, column, "this column is there twice", "take one out")
    return len(faults.found) == before
