"""Drafts of profiles from a table of register maps: `python -m simulators.meters.drafts TABLE.csv FOLDER`.

A collected table has one row for each register of each model, with the columns of `COLUMNS`. From it come TOML files in
the shape of `config/profiles`: scales as exact text, names and units of our vocabulary, generated examples marked as
computed, and every remark of the table as a comment beside its register. A draft is a beginning. What no table can say
(which counter never falls, two generations of one model, what a person can change at the meter) is put in by hand
afterwards, and then the file is the truth and not the table.

Comes before `agent.settings.profiles`, which refuses a draft that is wrong in itself; nothing of the agent needs it.
"""

import csv
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from agent.metering.decode import NoValue, decode, encode
from agent.metering.profile import WORDS_OF_TYPE, Register, WordType
from agent.settings.profiles import exact_text

COLUMNS = (
    *("vendor", "model", "phases", "default_baud", "default_parity", "default_stopbits", "function_code"),
    *("quantity", "register_address", "register_count", "data_type", "word_order", "scale", "rollover"),
    *("needs_ct_multiplication", "max_registers_per_read", "source", "confidence", "notes"),
)
"""Columns that are read; a table may have more."""

Row = Mapping[str, str]

_ORDER = (
    *("energy_import", "energy_export", "energy_total", "energy_reactive_import", "energy_reactive_export"),
    *("power_active_total", "power_active_l1", "power_active_l2", "power_active_l3"),
    *("voltage_l1", "voltage_l2", "voltage_l3", "current_l1", "current_l2", "current_l3"),
    *("power_factor", "frequency", "ct_ratio", "pt_ratio", "serial_number", "model_id"),
)
_UNITS = {
    "kwh": {Fraction(1, 1000): "Wh", Fraction(1): "kWh", Fraction(1000): "MWh"},
    "kvarh": {Fraction(1, 1000): "varh", Fraction(1): "kvarh"},
    "w": {Fraction(1): "W", Fraction(1000): "kW"},
    "v": {Fraction(1): "V"},
    "a": {Fraction(1): "A"},
    "hz": {Fraction(1): "Hz"},
}
"""By the ending of a quantity's name: units of our vocabulary, in units of that ending."""
_HOME_UNIT = {"kwh": "kWh", "kvarh": "kvarh", "w": "W", "v": "V", "a": "A", "hz": "Hz"}
_PARITIES = {"N": "none", "E": "even", "O": "odd"}
_SHOWN = {
    "energy_import": "1234.56",
    "energy_export": "78.9",
    "energy_total": "1313.46",
    "energy_reactive_import": "345.6",
    "energy_reactive_export": "12.3",
    "power_active": "4.321",
    "voltage": "230.2",
    "current": "13.55",
    "power_factor": "0.98",
    "frequency": "49.98",
    "ct_ratio": "1",
    "pt_ratio": "1",
    "serial_number": "22104934",
    "model_id": "1",
}
"""What examples show, by the beginning of a register's name: energy in kWh, power in kW."""
READ_LIMIT, SERIAL = 32, (9600, "none", 1)
"""Where the table states none."""
_WIDTH = 118


@dataclass(slots=True)
class Entry:
    """One register of a draft: its keys as they stand in the file, and a comment."""

    name: str
    keys: dict[str, object]
    comment: str = ""


@dataclass(slots=True)
class Shown:
    """One example of a draft; `reads` None means "no value"."""

    register: str
    words: list[str]
    reads: str | None
    computed: bool = True
    comment: str = ""


@dataclass(slots=True)
class Draft:
    """A profile in the making; `comment` is its head, `top` its keys, `comments` remarks beside those keys."""

    id: str
    comment: list[str]
    top: dict[str, object]
    serial: dict[str, object]
    registers: list[Entry]
    examples: list[Shown]
    comments: dict[str, str] = field(default_factory=dict)
    serial_comment: str = ""
    sums: dict[str, list[str]] = field(default_factory=dict)
    conditions: list[dict[str, object]] = field(default_factory=list)
    recognition: dict[str, object] = field(default_factory=dict)
    circuits: dict[str, object] = field(default_factory=dict)

    def entry(self, name: str) -> Entry:
        """The register of that name. Raises KeyError."""
        for entry in self.registers:
            if entry.name == name:
                return entry
        raise KeyError(name)


def read_table(path: Path) -> dict[tuple[str, str], list[Row]]:
    """The rows of a table by vendor and model, in their order.

    Raises:
        ValueError: a column is missing. OSError: the table cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: there is no column {', '.join(sorted(missing))}")
        models: dict[tuple[str, str], list[Row]] = {}
        for row in reader:
            models.setdefault((row["vendor"], row["model"]), []).append(row)
    return models


def draft(rows: Sequence[Row]) -> Draft:
    """The draft of one model from its rows.

    Of several candidates for one quantity the first is taken; one whose remark begins with ALT never is. A model that
    has only a total books it, and says so.
    """
    first = rows[0]
    by_name = _chosen(rows)
    both = "energy_import" not in by_name
    if both:
        by_name["energy_import"] = by_name["energy_total"]
    by_name.pop("energy_total", None)
    energy = by_name["energy_import"]
    names = [name for name in _ORDER if name in by_name]
    registers = [_entry(name, by_name[name], energy) for name in names]
    limits = {row["max_registers_per_read"] for row in rows} - {""}
    top: dict[str, object] = {
        "maker": first["vendor"],
        "model": re.sub(r"\s*\(.*\)", "", first["model"]).strip() or first["model"],
        "manual": _manual(rows),
        "protocol": "modbus-rtu",
        "phases": int(first["phases"]),
        "read_limit": min(map(int, limits)) if limits else READ_LIMIT,
        "alignment": 1,
        "quiet_ms": 0,
    }
    if "serial_number" in by_name:
        top["identity"] = "serial_number"
    ratios = [name for name in ("ct_ratio", "pt_ratio") if name in by_name]
    if ratios:
        top["fingerprint"] = ratios
    if both:
        top["counts_both"] = True
    top |= {"confidence": int(energy["confidence"]), "sources": _sources([energy, *rows])}
    made = Draft(
        id=slug(first["vendor"], first["model"]),
        comment=[],
        top=top,
        serial={},
        registers=registers,
        examples=[],
        comments={} if limits else {"read_limit": "no source states one"},
    )
    _add_serial(made, first)
    made.examples = examples_of(made)
    return made


def slug(vendor: str, model: str) -> str:
    """An id: vendor and model in lower case, without what stands in brackets and behind a stroke."""
    vendor = re.sub(r"\(.*?\)", "", vendor).strip().split(" ")[0]
    model = re.sub(r"\(.*?\)|/.*", "", model).strip()
    return re.sub(r"[^a-z0-9]+", "-", f"{vendor} {model}".lower()).strip("-")[:32]


# ---------------------------------------------------------------------------------------------------------- registers


def _chosen(rows: Iterable[Row]) -> dict[str, Row]:
    chosen: dict[str, Row] = {}
    for row in rows:
        name, _ = _name_and_unit(row["quantity"])
        if not row["notes"].startswith("ALT"):
            chosen.setdefault(name, row)
    return chosen


def _name_and_unit(quantity: str) -> tuple[str, str]:
    """`energy_import_kwh` is `energy_import` in kwh; what has no unit has ""."""
    name, _, ending = quantity.rpartition("_")
    return (name, ending) if ending in _UNITS else (quantity, "")


def _entry(name: str, row: Row, energy: Row) -> Entry:
    _, ending = _name_and_unit(row["quantity"])
    address, kind = int(row["register_address"]), row["data_type"]
    keys: dict[str, object] = {"address": address, "function": int(row["function_code"]), "type": kind}
    if kind == "ascii":
        keys["words"] = int(row["register_count"])
    if row["word_order"] == "little":
        keys["word_order"] = "low-first"
    scale = Fraction(row["scale"])
    unit, per_count = _unit(ending, scale)
    if unit:
        keys["unit"] = unit
    if per_count != 1 or name == "energy_import":
        keys["per_count"] = exact_text(per_count)
    secondary = row["needs_ct_multiplication"] == "yes"
    if secondary or name == "energy_import":
        keys["side"] = "secondary" if secondary else "primary"
    modulus = _modulus(row, scale)
    if modulus is not None:
        keys["modulus"] = modulus
    remarks = [row["notes"]] if row["notes"] else []
    if row["confidence"] == "1" and energy["confidence"] == "2":
        remarks.insert(0, "one source")
    return Entry(name, keys, "; ".join(remarks))


def _unit(ending: str, scale: Fraction) -> tuple[str, Fraction]:
    """The unit in which a count is a round number, and how much of it one count is."""
    if not ending:
        return "", scale
    known = _UNITS[ending]
    return (known[scale], Fraction(1)) if scale in known else (_HOME_UNIT[ending], scale)


def _modulus(row: Row, scale: Fraction) -> int | None:
    """The modulus in counts, where the table says that the register begins anew there."""
    found = re.match(r"([0-9]+) \((kWh|raw)", row["rollover"])
    if found is None or "not stated" in row["rollover"]:
        return None
    value = int(found[1])
    return value if found[2] == "raw" else int(value / scale)


def _sources(rows: Iterable[Row]) -> list[str]:
    parts = (part.strip() for row in rows for part in row["source"].split("; "))
    return list(dict.fromkeys(part for part in parts if part))


def _manual(rows: Sequence[Row]) -> str:
    named = [
        source for source in _sources(rows) if re.search(r"manual|\.pdf|register list|Catalogue", source)
    ]
    return named[0] if named else "none seen; from the sources below"


def _add_serial(made: Draft, row: Row) -> None:
    baud, parity, stop_bits = SERIAL
    made.serial = {
        "baud": int(row["default_baud"] or baud),
        "parity": _PARITIES.get(row["default_parity"], parity),
        "stop_bits": int(row["default_stopbits"] or stop_bits),
    }
    missing = [
        word for word, key in (("speed", "default_baud"), ("parity", "default_parity")) if not row[key]
    ]
    if missing:
        made.serial["stated"] = False
        made.serial_comment = f"no source states its {' and '.join(missing)}; a scan tries this first"


# ----------------------------------------------------------------------------------------------------------- examples


def examples_of(made: Draft) -> list[Shown]:
    """One computed example of every register, and one of "no value" where it has a mark or is a float of energy."""
    examples = []
    for entry in made.registers:
        register = _register(entry)
        if register.type is WordType.ASCII:
            examples.append(_example(register, encode(register, "EXAMPLE"[: 2 * register.words])))
            continue
        shown = next(value for name, value in _SHOWN.items() if entry.name.startswith(name))
        counts = Fraction(shown) * _per_shown(entry) / register.per_count
        examples.append(_example(register, encode(register, _fitting(register, counts))))
        marks = sorted(register.invalid)[:1]
        if not marks and entry.name.startswith("energy_import") and register.is_float:
            not_a_number = 0x7FC0 if register.type is WordType.F32 else 0x7FF8
            marks = [not_a_number << (16 * (register.words - 1))]
        examples += [_example(register, _words(register, mark)) for mark in marks]
    return examples


def _per_shown(entry: Entry) -> Fraction:
    """How many of the register's unit one unit of `_SHOWN` is."""
    return {"Wh": Fraction(1000), "MWh": Fraction(1, 1000), "varh": Fraction(1000), "W": Fraction(1000)}.get(
        str(entry.keys.get("unit")), Fraction(1)
    )


def _fitting(register: Register, counts: Fraction) -> Fraction:
    """The count to show; a whole one where the register is an integer."""
    return counts if register.is_float else Fraction(round(counts))


def _words(register: Register, raw: int) -> tuple[int, ...]:
    words = tuple((raw >> (16 * place)) & 0xFFFF for place in range(register.words))
    return words if register.low_word_first else words[::-1]


def _example(register: Register, words: tuple[int, ...]) -> Shown:
    value = decode(register, words)
    shown = [f"{word:04X}" for word in words]
    if isinstance(value, NoValue):
        return Shown(register.name, shown, None)
    reads = value if isinstance(value, str) else exact_text(value * register.per_count)
    return Shown(register.name, shown, reads)


def _register(entry: Entry) -> Register:
    keys = entry.keys
    kind = WordType(str(keys["type"]))
    words = keys.get("words", WORDS_OF_TYPE.get(kind))
    marks = keys.get("invalid", ())
    assert isinstance(words, int)
    assert isinstance(marks, Sequence)
    return Register(
        name=entry.name,
        address=0,
        function=3,
        type=kind,
        words=words,
        low_word_first=keys.get("word_order") == "low-first",
        unit=str(keys.get("unit", "")),
        per_count=Fraction(str(keys.get("per_count", "1"))),
        secondary=False,
        modulus_counts=None,
        invalid=frozenset(int(str(mark), 16) for mark in marks),
    )


# --------------------------------------------------------------------------------------------------------------- TOML


def toml_of(made: Draft) -> str:
    """The file of a draft."""
    lines = [f"# {line}" for text in made.comment for line in textwrap.wrap(text, _WIDTH)]
    for key, value in made.top.items():
        lines += _assigned(key, value, made.comments.get(key, ""))
    if made.sums:
        lines += ["", "[sums]"]
        for name, parts in made.sums.items():
            lines += _assigned(name, parts, "")
    lines += _table("[serial]", made.serial, made.serial_comment)
    if made.recognition:
        lines += _table("[recognition]", made.recognition, "")
    if made.circuits:
        lines += _table("[circuits]", made.circuits, "")
    for condition in made.conditions:
        lines += _table("[[conditions]]", condition, "")
    for entry in made.registers:
        lines += _table(f"[registers.{entry.name}]", entry.keys, entry.comment)
    for example in made.examples:
        keys: dict[str, object] = {"register": example.register, "words": example.words}
        keys |= {"no_value": True} if example.reads is None else {"reads": example.reads}
        keys |= {"computed": True} if example.computed else {}
        lines += _table("[[examples]]", keys, example.comment)
    return "\n".join(lines) + "\n"


def _table(header: str, keys: Mapping[str, object], comment: str) -> list[str]:
    """A table below an empty line; a long comment stands above it, a short one beside its header."""
    beside = f"{header:<26} # {comment}"
    if not comment:
        head = [header]
    elif len(beside) <= _WIDTH:
        head = [beside]
    else:
        head = [*(f"# {line}" for line in textwrap.wrap(comment, _WIDTH)), header]
    return ["", *head, *(line for key, value in keys.items() for line in _assigned(key, value, ""))]


def _assigned(key: str, value: object, comment: str) -> list[str]:
    if isinstance(value, list) and len(f"{key} = {_value(value)}") > _WIDTH - 20:
        return [f"{key} = [", *(f"  {_value(item)}," for item in value), "]"]
    text = f"{key} = {value:_}" if key == "modulus" else f"{key} = {_value(value)}"
    if not comment:
        return [text]
    beside = f"{text:<26} # {comment}"
    if len(beside) <= _WIDTH:
        return [beside]
    return [*(f"# {line}" for line in textwrap.wrap(comment, _WIDTH)), text]


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case list():
            return f"[{', '.join(_value(item) for item in value)}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def main(arguments: Sequence[str]) -> int:
    """Write a draft of every model of a table into a folder; files that are there already are left as they are."""
    if len(arguments) != 2:
        print("usage: python -m simulators.meters.drafts TABLE.csv FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    written: set[Path] = set()
    for rows in read_table(Path(arguments[0])).values():
        made = draft(rows)
        path = folder / f"{made.id}.toml"
        number = 2
        while path in written:  # another generation of the same model
            path, number = folder / f"{made.id}-{number}.toml", number + 1
        written.add(path)
        if path.exists():
            print(f"{path} is there already", file=sys.stderr)
        else:
            path.write_text(toml_of(made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
