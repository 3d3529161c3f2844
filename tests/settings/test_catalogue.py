"""The shipped catalogue is the grid company's list, and a site's own one is checked as a whole."""

import re
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.resources import config_path
from agent.settings.catalogue import COLUMNS, Catalogue, load_catalogue

HEADER = ",".join(COLUMNS)
ROW = "1,winding,electricity,2:1,制造,Making,制造,Making,绕线,Winding,用电,Electricity used,电能,Electricity,度,kWh"


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return load_catalogue(config_path("emission_sources.csv"))


def test_it_has_32_materials_and_26_steps(shipped: Catalogue) -> None:
    assert len(shipped.sources) == 58
    assert len(shipped.materials) == 32
    assert len(shipped.steps) == 26
    assert [source.number for source in shipped.sources.values()] == list(range(1, 59))


def test_every_id_can_travel_and_every_name_is_there_in_both_languages(shipped: Catalogue) -> None:
    for key, source in shipped.sources.items():
        assert key == source.id
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,32}", key)
        assert source.name_en.isascii()
        assert source.name_zh
        assert re.search(r"[\u4e00-\u9fff]|^[A-Z]+$", source.name_zh), source.name_zh


def test_a_step_is_known_by_id_number_and_names(shipped: Catalogue) -> None:
    step = shipped.steps["reflow_soldering"]
    assert (step.number, step.id, step.name_en, step.name_zh) == (
        37,
        "reflow_soldering",
        "Reflow soldering",
        "回流焊",
    )
    assert shipped.sources["reflow_soldering"].unit == "kWh"
    assert shipped.sources["reflow_soldering"].table_row == "2:5"
    assert next(iter(shipped.steps)) == "barcode_marking"
    assert list(shipped.steps)[-1] == "in_plant_transport"


def write(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "sources.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def faults(path: Path) -> list[tuple[int | None, str]]:
    with pytest.raises(ConfigError) as caught:
        load_catalogue(path)
    assert all(fault.file == str(path) and fault.reason and fault.remedy for fault in caught.value.faults)
    return [(fault.line, fault.key) for fault in caught.value.faults]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_site_may_have_other_sources(tmp_path: Path, encoding: str) -> None:
    catalogue = load_catalogue(write(tmp_path, HEADER, ROW, "", encoding=encoding))
    assert list(catalogue.steps) == ["winding"]
    assert catalogue.materials == {}


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEADER,
        ROW,
        ROW.replace("1,winding,electricity", "x,the winding,electric"),
        ROW.replace("1,winding", "2,winding"),
        ROW.replace("1,winding", "1,coating").replace("绕线", ""),
    )
    assert faults(path) == [(3, "number"), (3, "id"), (3, "kind"), (4, "id"), (5, "sub_process_zh")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([HEADER.replace(",unit", ",units", 2), ROW], [(1, "unit_zh"), (1, "unit")]),
        ([HEADER, ROW + ",more"], [(2, "")]),
        ([HEADER, ROW, '2,"open'], [(3, "")]),
        ([HEADER], [(None, "")]),
    ],
)
def test_what_is_no_catalogue_is_said(
    tmp_path: Path, lines: list[str], expected: list[tuple[int | None, str]]
) -> None:
    assert faults(write(tmp_path, *lines)) == expected


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    assert faults(write(tmp_path, HEADER, ROW, encoding="gb18030")) == [(2, "")]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.csv") == [(None, "")]
