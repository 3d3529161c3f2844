"""The emission sources of a product: what a kWh or a kilogram can be attributed to.

The catalogue is data, `config/emission_sources.csv` with the 58 sources of an electricity meter: 32 materials and the
26 production steps that use electricity. A site that makes transformers brings a file of its own; no step is written
into code. Before this comes that file; after it the site file, whose meters name steps, and the footprint.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ConfigError, Fault
from agent.settings.grammar import ID_PATTERN
from agent.settings.suggest import did_you_mean

SIZE_MAX = 4_000_000
"""Largest catalogue, bytes; the shipped one has 13 000."""

KINDS = ("material", "electricity")
COLUMNS = (
    "number",
    "id",
    "kind",
    "detail_table_row",
    "business_stage_zh",
    "business_stage_en",
    "emission_link_zh",
    "emission_link_en",
    "sub_process_zh",
    "sub_process_en",
    "emission_source_zh",
    "emission_source_en",
    "energy_type_zh",
    "energy_type_en",
    "unit_zh",
    "unit",
)
"""The columns a catalogue has, in any order; more are allowed and ignored."""

_MAY_BE_EMPTY = frozenset({"detail_table_row"})


@dataclass(frozen=True, slots=True)
class Source:
    """One emission source: a material (`kind` material) or a production step (`kind` electricity).

    `name` is what it is called (SMT placement), `emission` what is emitted by (production equipment electricity),
    `stage` and `link` where in the product's life it belongs, `unit` what its activity is counted in, `table_row`
    where the grid company's detail tables have it ("2:4" is row 4 of table 2).
    """

    number: int
    id: str
    kind: str
    table_row: str
    stage_zh: str
    stage_en: str
    link_zh: str
    link_en: str
    name_zh: str
    name_en: str
    emission_zh: str
    emission_en: str
    activity_zh: str
    activity_en: str
    unit_zh: str
    unit: str


@dataclass(frozen=True, slots=True)
class Step:
    """One production step that uses electricity, by its number and id among the sources."""

    number: int
    id: str
    name_en: str
    name_zh: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All sources by id, in the order of the file; `steps` are those that use electricity, `materials` the others."""

    sources: Mapping[str, Source]
    steps: Mapping[str, Step]
    materials: Mapping[str, Source]


def load_catalogue(path: Path) -> Catalogue:
    """Read a catalogue.

    Raises:
        ConfigError: with every fault of the file.
    """
    rows = _rows(path, _text(path))
    faults: list[Fault] = []
    sources: dict[str, Source] = {}
    numbers: dict[int, str] = {}
    for line, row in rows:
        source = _source(path, line, row, faults)
        if source is None:
            continue
        for taken, key, value in ((sources, "id", source.id), (numbers, "number", source.number)):
            if value in taken:
                faults.append(
                    Fault(
                        str(path), line, key, f"{value} is there a second time", "ids and numbers are unique"
                    )
                )
        sources.setdefault(source.id, source)
        numbers.setdefault(source.number, source.id)
    if not rows:
        faults.append(Fault(str(path), None, "", "there is no emission source in it", "add one a line"))
    if faults:
        raise ConfigError(faults)
    return _catalogue(sources)


def _catalogue(sources: dict[str, Source]) -> Catalogue:
    steps = {
        source.id: Step(source.number, source.id, source.name_en, source.name_zh)
        for source in sources.values()
        if source.kind == "electricity"
    }
    materials = {source.id: source for source in sources.values() if source.kind == "material"}
    return Catalogue(sources, steps, materials)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError.of(
            path, f"cannot be read: {error.strerror}", "check its name and who owns it"
        ) from None
    if len(data) > SIZE_MAX:
        raise ConfigError.of(path, "is larger than 4 MB, so it is no catalogue", "name another file")
    try:
        return data.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError.of(path, "is not UTF-8 text", 'save it as "CSV UTF-8"', line=line) from None


def _rows(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    """The rows with their 1-based lines; all columns are there, none is too many."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise ConfigError.of(
            path, f"this is not CSV: {error}", "check the quotes there", line=reader.line_num
        ) from None
    header = rows[0][1] if rows else []
    faults = [
        Fault(str(path), 1, column, "this column is missing", did_you_mean(column, header))
        for column in COLUMNS
        if column not in header
    ]
    faults += [
        Fault(
            str(path),
            line,
            "",
            f"has {len(row)} cells, not {len(header)}",
            "check the commas and quotes there",
        )
        for line, row in rows[1:]
        if len(row) != len(header)
    ]
    if faults:
        raise ConfigError(faults)
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]


def _source(path: Path, line: int, row: dict[str, str], faults: list[Fault]) -> Source | None:
    """One row, None where something is wrong with it."""
    wrong = [
        Fault(str(path), line, column, "is empty", "fill it in")
        for column in COLUMNS
        if not row[column] and column not in _MAY_BE_EMPTY
    ]
    if row["number"] and re.fullmatch(r"[1-9][0-9]{0,5}", row["number"]) is None:
        wrong.append(
            Fault(str(path), line, "number", f'"{row["number"]}" is not a whole number', "count from 1")
        )
    if row["id"] and re.fullmatch(ID_PATTERN, row["id"]) is None:
        remedy = "ids have 1 to 32 letters, digits, dots, hyphens or underscores"
        wrong.append(Fault(str(path), line, "id", f'"{row["id"]}" is not an id', remedy))
    if row["kind"] and row["kind"] not in KINDS:
        remedy = did_you_mean(row["kind"], KINDS) or f"known are {', '.join(KINDS)}"
        wrong.append(Fault(str(path), line, "kind", f'there is no kind "{row["kind"]}"', remedy))
    faults += wrong
    return None if wrong else Source(int(row["number"]), *(row[column] for column in COLUMNS[1:]))
