"""What another site file changes, in codes: nothing is forgotten, and what is on the bus is read again."""

from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.settings.changes import Difference, difference, refuse_another_agent
from agent.settings.site import load_site
from agent.settings.values import Site
from tests.settings.example_site import line, meter, serial_line, write_site

WAVE = meter("wave-1", 2, step="wave_soldering")


def site(folder: Path, **parts: object) -> Site:
    return load_site(write_site(folder, **parts))  # type: ignore[arg-type]


def changed(tmp_path: Path, **parts: object) -> Difference:
    return difference(site(tmp_path), site(tmp_path, **parts))


def codes(found: Difference) -> list[tuple[str, str]]:
    return [(each.code, each.subject) for each in found.changes]


def read_again(found: Difference) -> list[str]:
    return [each.id for each in found.to_read]


@pytest.mark.parametrize(
    ("keys", "code", "is_read"),
    [
        ({"step": "pcba_burn_in"}, "meter-steps", False),
        ({"steps": {"pcba_burn_in": "1/2"}}, "meter-steps", False),
        ({"rated_kw": "40"}, "meter-other", False),
        ({"parent": "wave-1"}, "meter-other", False),
        ({"serial": "2206001234"}, "meter-serial", True),
        ({"address": 9}, "meter-moved", True),
        ({"baud": 2400}, "meter-line", True),
        ({"profile": "eastron-sdm120"}, "meter-profile", True),
    ],
)
def test_one_key_of_a_meter(tmp_path: Path, keys: dict[str, object], code: str, is_read: bool) -> None:
    bus = [serial_line("hall-a", "/dev/ttyUSB0")]
    old = site(tmp_path, lines=bus)
    one = meter("reflow-1", 1) | keys
    if "steps" in keys:
        del one["step"]
    found = difference(old, site(tmp_path, lines=bus, meters=[one, WAVE]))
    assert codes(found) == [(code, "reflow-1")]
    assert read_again(found) == (["reflow-1"] if is_read else [])
    assert found.moved == ({"reflow-1"} if code == "meter-moved" else set())


def test_a_ratio_is_another_scale(tmp_path: Path) -> None:
    secondary = meter("reflow-1", 1, profile="acrel-adl400", ct_ratio="150/5")
    old = site(tmp_path, meters=[secondary])
    found = difference(old, site(tmp_path, meters=[secondary | {"ct_ratio": "200/5"}]))
    assert codes(found) == [("meter-ratio", "reflow-1")] and read_again(found) == ["reflow-1"]
    assert found.changes[0].values == {"before": "CT 30, PT 1", "after": "CT 40, PT 1"}


def test_new_and_gone_and_renamed(tmp_path: Path) -> None:
    found = changed(tmp_path, meters=[meter("reflow-1", 1), meter("burn-1", 3, step="pcba_burn_in")])
    assert codes(found) == [("meter-added", "burn-1"), ("meter-removed", "wave-1")]
    found = changed(tmp_path, meters=[meter("oven", 1), WAVE])
    assert codes(found) == [("meter-renamed", "oven")] and found.former == {
        "oven": "reflow-1",
        "wave-1": "wave-1",
    }
    numbered = [meter("oven", 5, serial="77"), WAVE]
    found = difference(site(tmp_path), site(tmp_path, meters=numbered), {"reflow-1": "77"})
    assert [code for code, _ in codes(found)] == ["meter-renamed", "meter-moved", "meter-serial"]
    other = [meter("oven", 1, serial="78"), WAVE]
    found = difference(site(tmp_path), site(tmp_path, meters=other), {"reflow-1": "77"})
    assert codes(found) == [("meter-added", "oven"), ("meter-removed", "reflow-1")], "another serial number"


def test_lines_and_tables(tmp_path: Path) -> None:
    found = changed(tmp_path, lines=[line(port=15_021), line("hall-b", port=15_022)])
    assert ("line-added", "hall-b") in codes(found) and ("line-changed", "hall-a") in codes(found)
    assert read_again(found) == ["reflow-1", "wave-1"], "their line is another place"
    found = changed(tmp_path, lines=[line(poll="7s")])
    assert codes(found) == [("line-changed", "hall-a")] and not found.to_read
    found = changed(tmp_path, interval="30s", broker="mqtt://127.0.0.1:1884")
    assert codes(found)[:2] == [("interval", "interval"), ("platform", "platform")] and found.new_link
    found = changed(tmp_path, changes={"web": {"listen": "127.0.0.1:8470"}})
    assert codes(found) == [("web", "web")] and not found.new_link
    found = changed(tmp_path, changes={"journal": {"keep_acknowledged_days": 99}})
    assert codes(found) == [("journal", "journal")]


def test_remarks_are_said_to_be_nothing_else(tmp_path: Path) -> None:
    old = site(tmp_path)
    file = write_site(tmp_path)
    file.write_text(f"# of Monday\n{file.read_text()}")
    assert codes(difference(old, load_site(file))) == [("remarks", "")]


def test_another_agent_is_no_change_of_this_one(tmp_path: Path) -> None:
    old = site(tmp_path)
    new = site(
        tmp_path,
        changes={
            "gateway": {"org": "x", "agent": "gw02"},
            "platform": {"audience": "y"},
            "journal": {"path": "other.db"},
        },
    )
    refuse_another_agent(old, old)
    with pytest.raises(ConfigError) as error:
        refuse_another_agent(old, new)
    assert [fault.key for fault in error.value.faults] == [
        "gateway.org",
        "gateway.agent",
        "platform.audience",
        "journal.path",
    ]


def test_files_are_looked_for_where_the_site_will_be(tmp_path: Path) -> None:
    there = write_site(tmp_path / "etc")
    elsewhere = tmp_path / "new.toml"
    elsewhere.write_bytes(there.read_bytes())
    assert load_site(elsewhere, base=there.parent).journal.path == there.parent / "journal.db"
    with pytest.raises(ConfigError, match="no file"):
        load_site(elsewhere)
