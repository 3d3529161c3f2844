"""Writes the reference pages of the configuration from the code: `make docs`.

`config/REFERENCE.md` has every key of a site file, `config/profiles/README.md` every key of a profile and a table of
the shipped ones, `config/QUALITY.md` the rules of the gates.

What a key is for comes from `agent.settings.meanings`, what a right value is from the shapes, and
the shipped profiles from their files. `tests/settings/test_reference.py` fails when a page is not what this writes.
"""

import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from agent.metering import quality
from agent.metering.profile import Condition, Profile, Register, Sum, WordType
from agent.resources import config_path
from agent.settings.meanings import PROFILE, SITE, Meaning, TableMeaning
from agent.settings.profiles import exact_text, load_profiles

SITE_PAGE = Path("REFERENCE.md")
PROFILE_PAGE = Path("profiles", "README.md")
QUALITY_PAGE = Path("QUALITY.md")

_SITE_HEAD = """\
# The site file, key by key

Made from the code by `make docs`; do not edit it here. One TOML file describes one gateway; `site.example.toml` beside
this page is a whole one. `metering-agent check --site site.toml` says everything that is wrong in it, with its line and
a remedy. Paths are relative to the site file. A key without a default may be left out unless it is marked *needed*.
"""
_PROFILE_HEAD = """\
# Profiles: what the registers of a meter mean

Made from the code by `make docs`; do not edit it here. One TOML file is one model of meter; the same file drives the
reader, the simulated meter, the tests and this page, and adding a meter takes no Python. Put your own into a folder
`profiles` beside the site file; [ADD_A_METER.md](ADD_A_METER.md) shows how, in ten minutes.
"""


def pages() -> dict[Path, str]:
    """Every page by its place in `config`."""
    return {SITE_PAGE: site_page(), PROFILE_PAGE: profile_page(), QUALITY_PAGE: quality.page()}


def site_page() -> str:
    """The reference of the site file."""
    return "\n".join([_SITE_HEAD, *(_section(table) for table in SITE)])


def profile_page() -> str:
    """The shipped profiles, and the reference of a profile."""
    shipped = load_profiles(config_path("profiles"))
    return "\n".join(
        [
            _PROFILE_HEAD,
            "## Shipped profiles\n",
            _shipped(shipped),
            "",
            *(_section(table) for table in PROFILE),
        ]
    )


def _section(table: TableMeaning) -> str:
    rows = [_row(table, key, meaning) for key, meaning in table.keys.items()]
    head = ["| key | value | left out | meaning | example |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([f"## `{table.header}`\n", f"{table.text}\n", *head, *rows, ""])


def _row(table: TableMeaning, key: str, meaning: Meaning) -> str:
    field = table.kind.model_fields[key]
    needed = key in table.kind.required
    absent = "*needed*" if needed else _code(meaning.default)
    kind, description = toml_type(field.annotation), field.description or ""
    value = description if kind in description else f"{kind}: {description}"
    example = (field.examples or [""])[0]
    cells = (f"`{key}`", value, absent, meaning.text, f"`{example}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(default: str) -> str:
    """A default as code where it is a value and not a sentence."""
    return (
        f"`{default}`"
        if default.startswith('"') or default.isdecimal() or default in ("true", "false")
        else default
    )


def toml_type(annotation: Any) -> str:
    """The TOML type of a value, in a word or two."""
    if get_origin(annotation) is Annotated:
        return toml_type(get_args(annotation)[0])
    options = [part for part in get_args(annotation) if part is not type(None)]
    match get_origin(annotation):
        case origin if origin in (typing.Union, types.UnionType):
            return " or ".join(dict.fromkeys(map(toml_type, options)))
        case origin if origin is Literal:
            return toml_type(type(options[0]))
        case origin if origin is list:
            return "list"
        case origin if origin is dict:
            return "table"
    return {str: "text", int: "number", bool: "true or false", dict: "table", list: "list"}[annotation]


def _shipped(profiles: Mapping[str, Profile]) -> str:
    head = [
        "| id | maker, model | speaks | booked register | serial number | confidence |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows = [_profile_row(profile) for _, profile in sorted(profiles.items())]
    legend = (
        "Confidence 2: two independent sources agree on the energy register. 1: one source only; its energy is "
        "reported as suspect until somebody compared two readings with the meter's display and said so in the site "
        "file (`display_checked`)."
    )
    return "\n".join(
        [*head, *rows, "", legend, "", "### What to know of some of them\n", *_remarks(profiles)]
    )


def _remarks(profiles: Mapping[str, Profile]) -> list[str]:
    """What the file of a profile says to the installer."""
    remarks = []
    for _, profile in sorted(profiles.items()):
        said = [f"{profile.generation}."] if profile.generation is not None else []
        if profile.counts_both:
            said.append("Its counter adds both directions, or nobody knows that it does not.")
        said += [f"Not counted unless {_condition(each)}." for each in profile.conditions]
        said += profile.notes
        if said:
            remarks.append(f"- `{profile.id}`: {' '.join(said)}")
    return remarks


def _condition(condition: Condition) -> str:
    """A condition as half a sentence: `application is 7`."""
    terms = " + ".join(f"`{name}`" for name in condition.terms)
    parts = []
    if condition.one_of:
        parts.append(f"{terms} is {' or '.join(map(str, condition.one_of))}")
    if condition.at_least is not None:
        parts.append(f"{terms} is at least {exact_text(condition.at_least)}")
    if condition.at_most is not None:
        parts.append(f"{terms} is at most {exact_text(condition.at_most)}")
    if condition.equals is not None:
        parts.append(f"{terms} is `{condition.equals}`")
    return " and ".join(parts)


def _profile_row(profile: Profile) -> str:
    energy, name = profile.energy, f"{profile.maker} {profile.model}"
    side = ", behind CT and PT" if energy.secondary else ""
    # A model whose name has the year or number of its generation already says which it is.
    told = profile.generation is None or profile.generation.split()[-1] in name
    generation = "" if told else f" ({profile.generation})"
    cells = (
        f"[`{profile.id}`]({profile.id}.toml)",
        f"{name}{generation}",
        profile.protocol,
        _booked(energy) + side,
        "read" if profile.identity else "cannot be read",
        str(profile.confidence),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _booked(energy: Register | Sum) -> str:
    """What a register counts in: `u32, 1/100 kWh a count`; a float has no count, only a unit."""
    if isinstance(energy, Sum):
        return f"sum of registers, {energy.unit}"
    if energy.type in (WordType.F32, WordType.F64):
        return f"{energy.type.value}, {energy.unit}"
    return f"{energy.type.value}, {energy.per_count} {energy.unit} a count"


def write(folder: Path) -> Iterable[Path]:
    """Write the pages below `folder` (which is `config`); gives those that changed."""
    for place, text in pages().items():
        file = folder / place
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
            yield file


if __name__ == "__main__":
    for file in write(config_path()):
        print(f"{file} was written")
