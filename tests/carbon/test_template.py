"""Locked: one byte changed is refused, and a change is a new version beside the old one."""

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.carbon.factors import Factor
from agent.carbon.template import (
    DocumentError,
    Locked,
    Template,
    canonical,
    factor_in_force,
    factors_of,
    sha256_of,
)
from agent.carbon.units import KgCO2, KgCO2e, KilowattHours
from agent.errors import ConfigError
from agent.resources import config_path
from agent.settings.catalogue import load_catalogue
from agent.settings.locked import (
    ELECTRICITY,
    TEMPLATE,
    lock,
    locks_beside,
    open_factors,
    open_locked,
    open_template,
)

FOLDER = config_path("factors")
SHIPPED = sorted(path.name for path in FOLDER.glob("*.json") if path.name != "locked.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped folder, to change things in."""
    return Path(shutil.copytree(FOLDER, tmp_path / "factors"))


def test_everything_shipped_is_locked_and_nothing_else_is() -> None:
    assert sorted(locks_beside(FOLDER / "x")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_document_is_canonical_and_what_its_lock_says(name: str) -> None:
    locked = open_locked(FOLDER / name)
    data = (FOLDER / name).read_bytes()
    assert locked.sha256 == sha256_of(data)
    assert canonical(locked.document) == data
    assert {"id", "version", "valid_from", "kind"} <= set(locked.document)


def test_one_byte_changed_is_refused_wherever_it_is(folder: Path) -> None:
    path = folder / ELECTRICITY
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ConfigError, match="was changed"):
            open_factors(path)
    path.write_bytes(data)
    assert open_factors(path)


def test_a_document_that_nobody_locked_is_refused(folder: Path) -> None:
    (folder / "mine.json").write_bytes((folder / ELECTRICITY).read_bytes())
    with pytest.raises(ConfigError, match="is not locked"):
        open_factors(folder / "mine.json")


def test_the_same_content_in_another_form_is_refused() -> None:
    data = json.dumps({"kind": "factor-set", "factors": []}).encode()
    with pytest.raises(DocumentError, match="canonical"):
        Locked.opened("x", data, sha256_of(data))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"a":1.5}'])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        Locked.opened("x", data, sha256_of(data))


def test_a_new_version_gets_a_new_name_and_the_old_one_stays(folder: Path) -> None:
    document = json.loads((folder / ELECTRICITY).read_bytes())
    document["version"] = "2"
    (folder / ELECTRICITY).write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="is locked with another content"):
        lock(folder / ELECTRICITY)
    (folder / "mine.2.json").write_text(json.dumps(document))
    found = lock(folder / "mine.2.json")
    assert open_factors(folder / "mine.2.json")[0].sha256 == found
    assert lock(folder / "mine.2.json") == found
    shutil.copy(FOLDER / ELECTRICITY, folder)
    assert open_factors(folder / ELECTRICITY)


def test_figures_of_a_document_are_text() -> None:
    with pytest.raises(DocumentError, match="write figures as text"):
        canonical({"value": 0.5777})


# ------------------------------------------------------------------------------------------------------------- content


def test_the_template_lists_the_catalogue() -> None:
    catalogue = load_catalogue(config_path("emission_sources.csv"))
    listed = {source.id: source for source in open_template().sources}
    assert list(listed) == list(catalogue.sources)
    for id, source in catalogue.sources.items():
        mine = listed[id]
        assert (mine.number, mine.kind, mine.unit) == (source.number, source.kind, source.unit)
        assert (mine.name_en, mine.name_zh) == (source.name_en, source.name_zh)


def test_electricity_is_shipped_as_a_footprint_and_co2_alone_is_kept_apart() -> None:
    _, footprint = open_factors()
    assert {factor.gas for factor in footprint.values()} == {KgCO2e}
    assert footprint["cn_grid_footprint_2024"].value == Fraction("0.5777")
    assert footprint["cn_grid_footprint_2023"].value == Fraction("0.6205")
    _, co2 = open_factors(FOLDER / "cn-electricity-co2.1.json")
    assert {factor.gas for factor in co2.values()} == {KgCO2}
    assert len(co2) == 119


def test_every_shipped_figure_is_labelled_as_a_default_and_says_where_it_is_from() -> None:
    for name in SHIPPED:
        document: Any = open_locked(FOLDER / name).document
        for entry in [*document.get("factors", []), *document.get("fuels", [])]:
            assert entry["label"] == "default, check before use"
            assert entry["source"]


def test_no_factor_of_a_material_is_shipped() -> None:
    for name in SHIPPED:
        locked = open_locked(FOLDER / name)
        if locked.document["kind"] == "factor-set":
            assert {factor.per.UNIT for factor in factors_of(locked).values()} <= {"kWh", "t*km"}


@pytest.mark.parametrize(
    ("year", "id"),
    [
        (2022, None),
        (2023, "cn_grid_footprint_2023"),
        (2024, "cn_grid_footprint_2024"),
        (2031, "cn_grid_footprint_2024"),
    ],
)
def test_the_factor_of_a_year_is_its_own_or_the_newest_before_it(year: int, id: str | None) -> None:
    found = factor_in_force(open_factors()[1].values(), "cn_grid_footprint_", year)
    assert (None if found is None else found.id) == id


def test_validity() -> None:
    locked = open_template().locked
    assert locked.is_valid("2023-01-01", "2026-12-31")
    assert not locked.is_valid("2022-12-31", "2023-01-02")
    ended = Locked("x", "", {"valid_from": "2023-01-01", "valid_to": "2023-12-31"})
    assert ended.is_valid("2023-01-01", "2023-12-31")
    assert not ended.is_valid("2023-12-31", "2024-01-01")
    assert Locked("x", "", {}).is_valid("1970-01-01", "9999-12-31")


def factor_document(**changes: Any) -> Locked:
    entry = {"id": "x", "value": "1", "unit": "kgCO2e/kWh", "gas": "CO2e", "boundary": "", "region": "", "year": 2024,
             "source": "s", **changes}  # fmt: skip
    data = canonical({"kind": "factor-set", "factors": [entry]})
    return Locked.opened("x.json", data, sha256_of(data))


def test_a_factor_of_a_set_is_read_with_its_unit() -> None:
    made = factors_of(factor_document(value="577.7", unit="gCO2e/kWh"))["x"]
    assert (made.value, made.per) == (Fraction("0.5777"), KilowattHours)
    assert isinstance(made, Factor)


@pytest.mark.parametrize(
    "changes",
    [
        {"gas": "CO2"},
        {"unit": "kWh"},
        {"value": "-1"},
        {"value": "one"},
        {"value": 1},
        {"year": "2024"},
    ],
)
def test_a_factor_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"x\.json"):
        factors_of(factor_document(**changes))


def template_document(**changes: Any) -> Locked:
    document: dict[str, Any] = json.loads((FOLDER / TEMPLATE).read_bytes())
    rules = {**document["rules"], **changes.pop("rules", {})}
    data = canonical({**document, "rules": rules, **changes})
    return Locked.opened("t.json", data, sha256_of(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "factor-set"},
        {"sources": None},
        {"sources": ["flux"]},
        {"rules": {"supply": "wind"}},
        {"rules": {"utilities": "somehow"}},
        {"rules": {"uncertainty_percent": {"measured": "little"}}},
    ],
)
def test_a_template_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"t\.json"):
        Template.of(template_document(**changes))


def test_a_source_that_is_listed_twice_is_refused() -> None:
    document = json.loads((FOLDER / TEMPLATE).read_bytes())
    with pytest.raises(DocumentError, match="lists a source twice"):
        Template.of(template_document(sources=[*document["sources"], document["sources"][0]]))


def test_utilities_by_a_key() -> None:
    made = Template.of(template_document(rules={"utilities": {"smt_placement": "2.5"}}))
    assert made.utilities_key == {"smt_placement": Fraction("2.5")}
