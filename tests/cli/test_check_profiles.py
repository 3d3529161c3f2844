"""`check` says what a profile cannot promise, and what would count a kWh twice."""

import json
from pathlib import Path

from click.testing import CliRunner

from agent.cli import main
from tests.settings.example_site import meter, write_site


def notes(file: Path) -> list[str]:
    done = CliRunner().invoke(main, ["check", "--site", str(file), "--json"])
    assert done.exit_code == 0, done.output
    found: list[str] = json.loads(done.stdout)["notes"]
    return found


def test_a_doubtful_profile_and_what_it_says(tmp_path: Path) -> None:
    file = write_site(tmp_path, meters=[meter("panel", 1, profile="acrel-amc72l-e4", rated_kw="40")])
    one_source, both_ways, side = notes(file)
    assert "rests on one source only, so its energy is reported as suspect" in one_source
    assert "may add import and export" in both_ways
    assert "side = primary is a guess" in side


def test_a_look_at_the_display_ends_the_first_remark(tmp_path: Path) -> None:
    keys = {"profile": "eastron-sdm54", "display_checked": "2026-11-22 by N. N.", "rated_kw": "40"}
    assert notes(write_site(tmp_path, meters=[meter("press", 1, **keys)])) == []


def test_without_any_known_power_an_impossible_rise_cannot_be_noticed(tmp_path: Path) -> None:
    keys = {"profile": "eastron-sdm54", "display_checked": "2026-11-22 by N. N."}
    (unknown,) = notes(write_site(tmp_path, meters=[meter("press", 1, **keys)]))
    assert "nobody knows how much power its circuit can draw" in unknown and "give it rated_kw" in unknown
