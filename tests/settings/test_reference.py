"""The reference pages say what the code says, of every key."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.resources import config_path
from agent.settings import profileshape, shape
from agent.settings.faultlist import FaultList
from agent.settings.meanings import PROFILE, SITE, TableMeaning
from agent.settings.profiles import load_profiles
from agent.settings.shape import Shape, read_table
from agent.settings.site import _LISTS, _TABLES
from tests.support.reference import pages, toml_type

TABLES = (*SITE, *PROFILE)
ABSTRACT = {"Shape", "DltProfileShape", "_RecognitionBase"}
"""Shapes that are no table of their own."""


def shapes() -> Iterator[type[Shape]]:
    for module in (shape, profileshape):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, Shape) and name not in ABSTRACT:
                yield kind


@pytest.mark.parametrize("page", pages(), ids=str)
def test_the_page_is_what_the_code_makes(page: Path) -> None:
    assert config_path(*page.parts).read_text("utf-8") == pages()[page], "run: make docs"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.header)
def test_every_key_has_a_meaning_and_every_meaning_a_key(table: TableMeaning) -> None:
    assert table.keys.keys() == table.kind.model_fields.keys()
    for key, meaning in table.keys.items():
        field = table.kind.model_fields[key]
        assert field.description and field.examples, key
        assert len(meaning.text.split()) >= 1 and meaning.text.endswith((".", "...")), key
        assert not (meaning.default and key in table.kind.required), f"{key} is needed and has a default"


def test_every_table_is_in_the_pages() -> None:
    assert {table.kind for table in TABLES} == set(shapes())
    named = {table.header.strip("[]") for table in SITE}
    assert named == {*_TABLES, *_LISTS}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.header)
def test_every_example_is_right(table: TableMeaning) -> None:
    for key, field in table.kind.model_fields.items():
        example = (field.examples or [""])[0]
        value = tomllib.loads(f"x = {example}")["x"]
        faults = FaultList("example.toml", {}, {})
        got = read_table(table.kind, {key: value}, ("example",), faults)
        wrong = (
            [fault for fault in faults.error().faults if "is missing" not in fault.reason] if faults else []
        )
        assert not wrong, wrong
        assert getattr(got.value, key) is not None


def test_types_in_words() -> None:
    assert toml_type(shape.MeterShape.model_fields["address"].annotation) == "number or text"
    assert toml_type(shape.MeterShape.model_fields["steps"].annotation) == "table"
    assert toml_type(shape.PlatformShape.model_fields["acknowledgement_keys"].annotation) == "list"


def test_every_shipped_profile_is_in_its_table() -> None:
    page = config_path("profiles", "README.md").read_text("utf-8")
    for profile in load_profiles(config_path("profiles")):
        assert f"[`{profile}`]({profile}.toml)" in page
