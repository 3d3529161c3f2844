"""Templates and factor sets: canonical documents, locked by their SHA-256, valid from a date on.

A template says which sources a report lists and by which rules they are added up; a factor set holds factors. The party
that is measured must not be able to change either unseen: a document has exactly one form as bytes (sorted keys, all
figures as text), a lock names the hash of that form, and a report quotes the hash. A change is a new version with a
later validity; the old one stays, so that an old report can be made again byte for byte.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from agent.carbon.exact import decimal_of
from agent.carbon.factors import Factor, Provenance, rate_of
from agent.carbon.units import DimensionError

SUPPLIES = ("grid", "net")
OUTSIDE_ORDERS = ("spread", "idle")
FACTOR_DATA = ("primary", "secondary")


class DocumentError(ValueError):
    """A document is not what its lock names, not in its canonical form, or not of its kind."""


def canonical(document: Mapping[str, object]) -> bytes:
    """The one form of a document as bytes: UTF-8, sorted keys, one blank of indentation, a newline at the end.

    Raises:
        DocumentError: it holds a number with a fraction; figures are text.
    """
    _check(document)
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
    return text.encode() + b"\n"


def _check(value: object) -> None:
    if isinstance(value, Mapping):
        for member in value.values():
            _check(member)
    elif isinstance(value, list | tuple):
        for member in value:
            _check(member)
    elif value is not None and not isinstance(value, str | int | bool):
        raise DocumentError(f"{value!r} has no place in a locked document; write figures as text")


def sha256_of(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Locked:
    """A document that is what its lock says."""

    name: str
    sha256: str
    document: Mapping[str, object]

    @classmethod
    def opened(cls, name: str, data: bytes, lock: str | None) -> Self:
        """Check bytes against their lock.

        Args:
            name: what messages call it, usually the file's name.
            data: the bytes as stored.
            lock: the SHA-256 that was locked, None where nobody locked this name.

        Raises:
            DocumentError: no lock, one byte is different, or the bytes are not canonical JSON.
        """
        found = sha256_of(data)
        if lock is None:
            raise DocumentError(f"{name} is not locked; a person has to lock it once it is checked")
        if found != lock:
            raise DocumentError(
                f"{name} was changed: its SHA-256 is {found}, locked is {lock}; put it back, or make a new version"
            )
        try:
            document = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"{name} is not JSON in UTF-8: {error}") from None
        if not isinstance(document, dict) or canonical(document) != data:
            raise DocumentError(f"{name} is not in its canonical form")
        return cls(name, found, document)

    def is_valid(self, first_day: str, last_day: str) -> bool:
        """Whether it holds for a period of dates `YYYY-MM-DD`, both inclusive; without an end it holds for good."""
        begins, ends = self.document.get("valid_from"), self.document.get("valid_to")
        return (begins is None or str(begins) <= first_day) and (ends is None or last_day <= str(ends))

    def quoted(self) -> dict[str, object]:
        """As a report names it."""
        return {
            "id": self.document.get("id"),
            "version": self.document.get("version"),
            "valid_from": self.document.get("valid_from"),
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True)
class Source:
    """One emission source of a template, as the catalogue has it; `unit` is what its activity is counted in."""

    number: int
    id: str
    kind: str
    name_en: str
    name_zh: str
    unit: str


@dataclass(frozen=True, slots=True)
class Template:
    """Which sources a report lists, and the rules by which they are added up.

    `co2_allowed` names the terms of which CO2 alone may stand for CO2e, with the reason. `electricity` is the id of the
    factor that serves the steps, `electricity_family` the beginning of the ids from which a platform takes it by year.
    `supply` is `grid` (every kWh by the grid's factor) or `net` (net purchased electricity: own generation that was
    used counts by `generation_factor`). `utilities_key` spreads what no step was given, by figures for the steps; None
    leaves it unassigned, and shown. `outside_orders` says what becomes of the energy that a step used outside its work
    orders: `spread` over their products (where a template says nothing), or `idle`. `uncertainty_percent` are the
    standard uncertainties assumed where nothing better is known: of an activity by its status, of a factor by its term.
    """

    locked: Locked
    title: str
    declared_unit: str
    sources: tuple[Source, ...]
    co2_allowed: Mapping[str, str]
    electricity: str
    electricity_family: str
    generation_factor: str
    supply: str
    utilities_key: Mapping[str, Fraction] | None
    outside_orders: str
    uncertainty_percent: Mapping[str, Fraction]

    @classmethod
    def of(cls, locked: Locked) -> Self:
        """Read a template.

        Raises:
            DocumentError: it is no template, or a member is missing or of the wrong type.
        """
        document = locked.document
        rules = _table(document, "rules", locked.name)
        try:
            document["valid_from"]  # a template without one could not be replaced by a later version
            if document["kind"] != "template":
                raise DocumentError(f"{locked.name} is a {document['kind']}, not a template")
            sources = tuple(_source(entry) for entry in _list(document, "sources", locked.name))
            allowed = {str(term): str(why) for term, why in _table(rules, "co2_as_co2e", locked.name).items()}
            made = cls(
                locked=locked,
                title=str(document["title"]),
                declared_unit=str(document["declared_unit"]),
                sources=sources,
                co2_allowed=allowed,
                electricity=str(rules["electricity_factor"]),
                electricity_family=str(rules["electricity_family"]),
                generation_factor=str(rules["generation_factor"]),
                supply=_one_of(rules["supply"], SUPPLIES),
                utilities_key=_utilities(rules["utilities"]),
                outside_orders=_one_of(rules.get("outside_orders", "spread"), OUTSIDE_ORDERS),
                uncertainty_percent={
                    name: decimal_of(str(percent))
                    for name, percent in _table(rules, "uncertainty_percent", locked.name).items()
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DocumentError):
                raise
            raise DocumentError(f"{locked.name} is no template: {error!r}") from None
        if len({source.id for source in sources}) != len(sources):
            raise DocumentError(f"{locked.name} lists a source twice")
        return made

    @property
    def steps(self) -> tuple[Source, ...]:
        """The sources that use electricity."""
        return tuple(source for source in self.sources if source.kind == "electricity")

    @property
    def materials(self) -> tuple[Source, ...]:
        """The sources that are materials."""
        return tuple(source for source in self.sources if source.kind == "material")


def _one_of(value: object, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return str(value)


def _utilities(value: object) -> Mapping[str, Fraction] | None:
    if value == "unassigned":
        return None
    if not isinstance(value, Mapping):
        raise TypeError('utilities are "unassigned", or figures by step')
    return {str(step): decimal_of(str(figure)) for step, figure in value.items()}


def _source(entry: object) -> Source:
    if not isinstance(entry, Mapping):
        raise TypeError("a source is a table")
    number = entry["number"]
    if type(number) is not int:
        raise TypeError("the number of a source is a whole number")
    names = (str(entry[name]) for name in ("id", "kind", "name_en", "name_zh", "unit"))
    return Source(number, *names)


def _table(document: Mapping[str, object], name: str, where: str) -> Mapping[str, object]:
    value = document.get(name)
    if not isinstance(value, Mapping):
        raise DocumentError(f"{where} has no table {name}")
    return value


def _list(document: Mapping[str, object], name: str, where: str) -> list[object]:
    value = document.get(name)
    if not isinstance(value, list):
        raise DocumentError(f"{where} has no list {name}")
    return value


def factors_of(locked: Locked) -> dict[str, Factor]:
    """The factors of a set, by their id.

    Raises:
        DocumentError: it is no factor set, an id is there twice, or a factor cannot be read.
    """
    if locked.document.get("kind") != "factor-set":
        raise DocumentError(f"{locked.name} is no factor set")
    made: dict[str, Factor] = {}
    for entry in _list(locked.document, "factors", locked.name):
        try:
            factor = _factor(entry)
        except (KeyError, TypeError, DimensionError, ValueError) as error:
            raise DocumentError(f"{locked.name}: {error}") from None
        if factor.id in made:
            raise DocumentError(f"{locked.name} has {factor.id} twice")
        made[factor.id] = factor
    return made


def _factor(entry: object) -> Factor:
    if not isinstance(entry, Mapping):
        raise TypeError("a factor is a table")
    year = entry["year"]
    if year is not None and type(year) is not int:
        raise TypeError(f"{entry['id']}: the year is a whole number")
    text = entry["value"]
    if not isinstance(text, str):
        raise TypeError(f"{entry['id']}: the value is a text")
    if f"kg{entry['gas']}" != rate_of(str(entry["unit"])).gas.UNIT:
        raise DimensionError(f"{entry['id']} says that it counts {entry['gas']}, its unit is {entry['unit']}")
    primary = _one_of(entry.get("data", "secondary"), FACTOR_DATA) == "primary"
    provenance = Provenance(str(entry["boundary"]), str(entry["region"]), year, str(entry["source"]), primary)
    value: Fraction = decimal_of(text)
    if value < 0:
        raise ValueError(f"{entry['id']}: the value is negative")
    return Factor.written(str(entry["id"]), value, str(entry["unit"]), provenance)


def factor_in_force(factors: Iterable[Factor], prefix: str, year: int) -> Factor | None:
    """The factor of a family for a year: its own year's, else the newest before it, None where there is none.

    Args:
        factors: factors whose provenance has a year.
        prefix: the beginning of the family's ids, such as `cn_grid_footprint_`.
        year: the year of the activity.
    """
    family = [
        factor for factor in factors if factor.id.startswith(prefix) and factor.provenance.year is not None
    ]
    dated = [(factor.provenance.year or 0, factor) for factor in family]
    before = [(of_year, factor) for of_year, factor in dated if of_year <= year]
    return max(before, key=lambda pair: pair[0])[1] if before else None
