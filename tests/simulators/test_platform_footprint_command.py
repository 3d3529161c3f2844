"""The footprint of a period on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.carbon.exact import text_of
from agent.carbon.template import Template, sha256_of
from agent.reporting.utc import text_of_ms
from simulators.cli import main
from simulators.platform.quarters import QUARTER_MS
from tests.simulators.bench import Bench
from tests.simulators.chains import Gateway
from tests.simulators.footprint_bench import (
    FROM_MS,
    GRID,
    KWH,
    question,
    step_meter,
)


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["platform", *words])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with an hour of one step."""
    gateway = Gateway(meters=(step_meter("a", "fct_test"),))
    gateway.now_ms = gateway.counters["a"].end_ms = FROM_MS
    path = tmp_path / "platform.db"
    bench = Bench((gateway,), path)
    for _ in range(4):
        gateway.now_ms += QUARTER_MS
        bench.send(gateway.say([gateway.delta("a", KWH)]))
    bench.store.close()
    return path


def period(hours: int = 1) -> list[str]:
    return ["--from", text_of_ms(FROM_MS), "--to", text_of_ms(FROM_MS + hours * 4 * QUARTER_MS)]


def test_the_report_of_a_period_on_the_command_line(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    (folder / "production.csv").write_text("product_id,started,good\nmeter,9,8\n")
    words = ["report", "--store", str(store), *period(), "--activity", str(folder)]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["e_electricity_kgco2e"] == text_of(4 * GRID)
    assert said["per_good_piece_kgco2e"] == text_of(GRID / 2)
    people = run(*words).stdout
    assert "partial footprint" in people
    assert "kWh of the steps 4.000000000000, of no step 0.000000000000" in people
    assert "what to meter next: " in people
    assert run(*words, "--json", "--fresh").stdout == done.stdout
    (tmp_path / "old.json").write_text(done.stdout)
    assert run(*words, "--json", "--again", str(tmp_path / "old.json")).stdout == done.stdout


def test_the_exchange_object_on_the_command_line(store: Path, tmp_path: Path) -> None:
    from tests.carbon.test_exchange import STATEMENT, valid

    folder, stated, out = tmp_path / "day", tmp_path / "stated.json", tmp_path / "pcf.json"
    folder.mkdir()
    (folder / "production.csv").write_text("product_id,started,good\nmeter,9,8\n")
    stated.write_text(json.dumps(STATEMENT))
    words = ["report", "--store", str(store), *period(), "--activity", str(folder), "--pact", str(out)]
    assert run(*words).exit_code == 2
    assert run(*words, "--stated", str(stated)).exit_code == 0
    assert valid(json.loads(out.read_text()))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--from", "2026-01-01"], "--to: is missing"),
        (["--from", "soon", "--to", "2026-01-01"], 'report  --from: "soon" is not a time'),
        (["--from", "2026-02-30", "--to", "2026-03-01"], "is not a time"),
        ([*period(), "--org", "nobody"], "knows no gateway of nobody"),
        ([*period(), "--template", "/nowhere/t.json"], "cannot be read"),
        ([*period(), "--activity", "/nowhere"], "is no folder"),
        ([*period(), "--again", "/nowhere/r.json"], "cannot be read"),
    ],
)
def test_a_wrong_question_ends_with_2_and_a_sentence(store: Path, words: list[str], reason: str) -> None:
    done = run("report", "--store", str(store), *words)
    assert done.exit_code == 2, done.output
    assert reason in done.stderr


SERIES = "start,kgco2e_per_kwh\n"


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        ("", ["  is not there, or empty"]),
        ("a,b\n", [":1  start: this column is missing", ":1  kgco2e_per_kwh: this column is missing"]),
        (SERIES, ["  h.csv: a series has at least two intervals"]),
        (
            SERIES + "soon,1\n2026-01-01T00:00,1\n2026-01-01T00:00Z,NaN\n2026-01-01T01:00Z,-1\n",
            [
                ':2  start: "soon" is not a time',
                ':3  start: "2026-01-01T00:00" has no time zone',
                ':4  kgco2e_per_kwh: "NaN" is not a decimal number',
                ":5  kgco2e_per_kwh: -1 is negative",
            ],
        ),
        (SERIES + "2026-01-01T01:00Z,1\n" * 2, [":3  start: is not after the row before it"]),
        (
            SERIES + "2026-01-01T00:00Z,1\n2026-01-01T01:00Z,1\n2026-01-01T03:00Z,1\n",
            [":4  start: an interval before it is missing"],
        ),
    ],
)
def test_a_series_that_is_wrong_is_refused_with_its_rows(
    store: Path, tmp_path: Path, rows: str, faults: list[str]
) -> None:
    (tmp_path / "h.csv").write_text(rows)
    done = run("report", "--store", str(store), *period(), "--hourly", str(tmp_path / "h.csv"))
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert len(lines) == len(faults) + 1
    for line, fault in zip(lines, faults, strict=False):
        assert line.startswith(f"{tmp_path}/h.csv{fault}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "is no JSON object"),
        ("null", "is no JSON object"),
        ("", "is not JSON in UTF-8"),
        ("{}", "companyName is not stated"),
        ('{"productMassPerDeclaredUnit": NaN}', "is not a decimal text"),
    ],
)
def test_a_statement_that_is_wrong_is_refused(store: Path, tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "stated.json").write_text(text)
    words = ["--pact", str(tmp_path / "pcf.json"), "--stated", str(tmp_path / "stated.json")]
    done = run("report", "--store", str(store), *period(), *words)
    assert done.exit_code == 2, done.exception
    assert f"{tmp_path}/stated.json  " in done.stderr
    assert fault in done.stderr
    assert not (tmp_path / "pcf.json").exists()


def test_locking_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"kind": "factor-set", "factors": []}')
    done = run("lock", str(tmp_path / "mine.json"))
    assert done.exit_code == 0
    assert done.stdout.split()[0] == sha256_of((tmp_path / "mine.json").read_bytes())
    (tmp_path / "mine.json").write_text('{"kind": "factor-set", "factors": [], "more": 1}')
    assert run("lock", str(tmp_path / "mine.json")).exit_code == 2


def test_the_shipped_template_is_the_one_that_is_used() -> None:
    assert isinstance(question().template, Template)
