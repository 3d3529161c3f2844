"""`check`: what an installer reads before driving home."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.cli.summary import PROMISES, format_length
from tests.adapters.certificates import Authority, self_signed
from tests.settings.example_site import line, meter, serial_line, write_site

DAY_S = 86_400


def test_a_right_site_is_explained(tmp_path: Path) -> None:
    done = _check(write_site(tmp_path, interval="15min"))
    assert done.exit_code == 0
    assert "The site file is right: 2 meters on 1 line, one signed batch every 15min." in done.stdout
    assert "Gateway   zj-meterworks/gw01" in done.stdout
    assert PROMISES["platform"] in done.stdout
    assert "2 of 26 production steps have a meter. Without one:" in done.stdout
    assert "Worth a second look" not in done.stdout
    assert done.stderr == ""


def test_lines_and_meters_stand_in_tables(tmp_path: Path) -> None:
    file = write_site(
        tmp_path,
        lines=[serial_line("hall-a", "/dev/serial/by-id/x", parity="even")],
        meters=[
            meter("incomer", 1, role="incomer"),
            meter("smt", 2, steps={"smt_placement": "3/5", "reflow_soldering": "2/5"}),
        ],
    )
    rows = [" ".join(row.split()) for row in _check(file).stdout.splitlines()]
    assert "LINE WHERE METERS READ ALL ONCE INTERVAL LIVE ROUND POLL EXPECTED IN USE" in rows
    # One energy register at 9600 8E1 takes at least 33.5 ms (design, section 6), two of them 67.
    (row,) = [
        row for row in rows if row.startswith("hall-a /dev/serial/by-id/x, 9600 8E1 2 >= 0.067 s 10s >= ")
    ]
    assert row.endswith(" s 5s 0.068 s 5 %")
    assert "incomer hall-a 1 eastron-sdm630-v2 (incomer)" in rows
    assert "smt hall-a 2 eastron-sdm630-v2 3/5 smt_placement + 2/5 reflow_soldering" in rows


def test_broker_mode_is_called_what_it_is(tmp_path: Path) -> None:
    done = _check(write_site(tmp_path, changes={"platform": {"acknowledgement": "broker"}}))
    assert "Weaker promise: the broker's receipt counts" in done.stdout
    assert "60 are needed" in done.stdout


def test_all_steps_covered(tmp_path: Path) -> None:
    facts = json.loads(_check(write_site(tmp_path), "--json").stdout)
    steps = [*facts["steps_covered"], *facts["steps_not_covered"]]
    meters = [meter(f"m{number}", number, step=step) for number, step in enumerate(steps, start=1)]
    assert "All 26 production steps have a meter." in _check(write_site(tmp_path, meters=meters)).stdout


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"lines": [serial_line("hall-a", "/dev/ttyUSB0")]}, "/dev/ttyUSB0 can become another adapter"),
        ({"lines": [line(), line("b", port=99)]}, "line b has no meters"),
        ({"meters": [meter("a", 1, ct_ratio="150/5")]}, "already counts on the primary side"),
        (
            {"lines": [serial_line("hall-a", "/dev/x", baud=2400, poll="100ms")]},
            "longer than poll = 100ms; live values come that much later, no energy is missed",
        ),
        (
            {
                "lines": [line(baud=2400)],
                "meters": [meter(f"m{number}", number) for number in range(1, 31)],
                "interval": "1s",
                "changes": {"journal": {"budget_mb": 100_000}},
            },
            "if its meters share one RS485 pair of 2400 baud behind the gateway",
        ),
        (
            {"changes": {"signing": {"key_file": None, "credential": "signing-key"}}},
            'the systemd credential "signing-key", which only the service can open',
        ),
    ],
)
def test_what_is_allowed_but_worth_a_second_look(tmp_path: Path, keys: dict[str, object], note: str) -> None:
    done = _check(write_site(tmp_path, **keys))  # type: ignore[arg-type]
    assert done.exit_code == 0
    assert note in done.stdout.partition("Worth a second look:")[2]


def test_faults_are_listed_on_stderr_and_end_with_1(tmp_path: Path) -> None:
    file = write_site(tmp_path, meters=[meter("a", 300), meter("b", 2, profile="eastron-sdm631")])
    done = _check(file)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "meters.a.address: 300 is not a Modbus address" in done.stderr
    assert "meters.b.profile" in done.stderr
    assert done.stderr.endswith("2 problems, nothing was started\n")


def test_json_of_a_right_site(tmp_path: Path) -> None:
    facts = json.loads(_check(write_site(tmp_path), "--json").stdout)
    assert (facts["ok"], facts["faults"], facts["interval_ms"]) == (True, [], 10_000)
    assert facts["meters"][0] == {
        "id": "reflow-1",
        "line": "hall-a",
        "address": 1,
        "profile": "eastron-sdm630-v2",
        "role": "step",
        "steps": {"reflow_soldering": "1"},
    }
    assert facts["lines"][0]["sweep_ms"] <= facts["lines"][0]["interval_ms"]
    assert facts["journal"]["budget_mb"] >= facts["journal"]["needed_mb"]


def test_json_of_faults(tmp_path: Path) -> None:
    done = _check(write_site(tmp_path, meters=[meter("a", 300)]), "--json")
    facts = json.loads(done.stdout)
    assert done.exit_code == 1
    assert facts["ok"] is False
    (fault,) = facts["faults"]
    assert fault["key"] == "meters.a.address"
    assert fault["line"] == 29
    assert set(fault) == {"file", "line", "key", "reason", "remedy"}


# ------------------------------------------------------------------------------------------------ what is in the files


def test_every_file_with_a_key_is_opened(tmp_path: Path) -> None:
    file = write_site(tmp_path)
    (tmp_path / "platform.pem").write_bytes((tmp_path / "platform-key.pem").read_bytes())
    (tmp_path / "signing-key.pem").write_text("not a key")
    done = _check(file)
    assert done.exit_code == 1
    assert "signing-key.pem  is not a private key in PKCS#8 PEM" in done.stderr
    assert "platform.pem  is a private key; give the public key here" in done.stderr


def test_certificates_that_expired_are_found_before_the_broker_hangs_up(tmp_path: Path) -> None:
    now = int(time.time())
    file = _tls_site(tmp_path, not_before_s=now - 10 * DAY_S, not_after_s=now - DAY_S)
    done = _check(file)
    assert done.exit_code == 1
    assert "gw01.pem  the certificate expired on 20" in done.stderr
    assert "ask for a new one, or set the clock of this machine" in done.stderr


@pytest.mark.fault("F71")
def test_a_certificate_of_the_future_means_a_wrong_clock(tmp_path: Path) -> None:
    now = int(time.time())
    done = _check(_tls_site(tmp_path, not_before_s=now + DAY_S, not_after_s=now + 2 * DAY_S))
    assert done.exit_code == 1
    assert "the certificate is not valid before 20" in done.stderr


def test_a_certificate_and_the_key_of_another_do_not_pass(tmp_path: Path) -> None:
    now = int(time.time())
    file = _tls_site(tmp_path, not_before_s=now - DAY_S, not_after_s=now + DAY_S)
    assert _check(file).exit_code == 0
    _, other_key = self_signed("other", not_before_s=now - DAY_S, not_after_s=now + DAY_S)
    (tmp_path / "gw01.key").write_bytes(other_key)
    done = _check(file)
    assert done.exit_code == 1
    assert f"gw01.key  does not belong to {tmp_path / 'gw01.pem'}" in done.stderr


def _tls_site(folder: Path, *, not_before_s: int, not_after_s: int) -> Path:
    certificate, key = self_signed("gw01", not_before_s=not_before_s, not_after_s=not_after_s)
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(Authority("ca").certificate)
    (folder / "gw01.pem").write_bytes(certificate)
    (folder / "gw01.key").write_bytes(key)
    (folder / "gw01.key").chmod(0o600)
    files = {"ca_file": "ca.pem", "client_certificate": "gw01.pem", "client_key": "gw01.key"}
    return write_site(folder, broker="mqtts://broker.grid.example", changes={"platform": files})


# ------------------------------------------------------------------------------------------------------- as a process


def test_as_a_process_it_ends_with_its_code_and_no_traceback(tmp_path: Path) -> None:
    right = _process("check", "--site", str(write_site(tmp_path)))
    missing = _process("check", "--site", str(tmp_path / "nowhere.toml"))
    assert (right.returncode, right.stderr) == (0, "")
    assert missing.returncode == 1
    assert "nowhere.toml  there is no such file; name it with --site" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize(
    ("length_ms", "text"),
    [(500, "500ms"), (10_000, "10s"), (90_000, "90s"), (900_000, "15min"), (3_600_000, "1h")],
)
def test_lengths_are_written_as_in_the_site_file(length_ms: int, text: str) -> None:
    assert format_length(length_ms) == text


def _check(file: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["check", "--site", str(file), *options], catch_exceptions=False)


def _process(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from agent.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
