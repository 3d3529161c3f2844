"""Follows the page "Add a meter in ten minutes" word by word: its files, its commands, its messages."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.resources import config_path
from agent.settings.profileshape import ProfileShape, RegisterShape, SerialShape
from agent.settings.site import load_site
from tests.settings.example_site import meter, serial_line, write_site
from tests.support.processes import start, stop

PAGE = config_path("profiles", "ADD_A_METER.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TOML = [text for kind, text in BLOCKS if kind == "toml"]
COMMANDS = [text.strip() for kind, text in BLOCKS if kind == "sh"]
MESSAGES = [text.strip() for kind, text in BLOCKS if kind == "text"]
PROGRAMS = {"metering-agent": "agent.cli", "metering-sim": "simulators.cli"}
ROOT = Path(__file__).parents[2]


def command(line: str) -> list[str]:
    """A command of the page, run from this checkout."""
    program, *arguments = shlex.split(line)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {PROGRAMS[program]} import main; main()"
    return [sys.executable, "-c", code, *arguments]


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(line), cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an installer: a site file with a line and one meter, and no profiles of its own yet."""
    lines = [serial_line("hall-a", "/dev/serial/by-id/usb-FTDI-if00-port0", parity="even")]
    write_site(tmp_path, lines=lines, meters=[meter("incomer-1", 1, role="incomer")])
    return tmp_path


def follow_to_the_check(folder: Path) -> None:
    """Steps 1 and 2: the file of the page, and its meter in the site file."""
    profile, site_meter, _ = TOML
    (folder / "profiles").mkdir()
    (folder / "profiles" / "acme-m3.toml").write_text(profile, encoding="utf-8")
    with (folder / "site.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n{site_meter}")


def test_the_page_has_the_steps_this_test_follows() -> None:
    assert [line.split()[:2] for line in COMMANDS] == [
        ["metering-agent", "check"],
        ["metering-sim", "meters"],
        ["metering-agent", "read"],
        ["metering-agent", "read"],
    ]
    assert len(TOML) == 3
    assert len(MESSAGES) == 2


def test_the_meter_is_described_checked_rehearsed_and_read(folder: Path) -> None:
    follow_to_the_check(folder)
    checked = run(COMMANDS[0], folder)
    assert checked.returncode == 0, checked.stderr
    assert MESSAGES[1] in checked.stdout
    assert "press-1" in checked.stdout

    rehearsal = start(command(COMMANDS[1]), folder / "rehearsal.log", directory=folder)
    try:
        _wait_for(folder / "site.rehearsal.toml")
        shown = run(COMMANDS[2], folder)
        assert shown.returncode == 0, shown.stderr
        assert "ACME M3 at address 12 of line hall-a" in shown.stdout
        read = json.loads(run(f"{COMMANDS[2]} --json", folder).stdout)["registers"]
    finally:
        status = stop(rehearsal, timeout_s=60)
    assert status == 0
    assert set(read) == {"energy_import", "power_active_total", "voltage_l1", "serial_number"}
    assert read["energy_import"]["unit"] == "kWh"
    counts = int("".join(read["energy_import"]["words"]), 16)
    assert read["energy_import"]["value"] == f"{counts / 100:.2f}".rstrip("0").rstrip(".")

    absent = run(COMMANDS[3], folder)
    assert absent.returncode != 0
    assert "/dev/serial/by-id/usb-FTDI-if00-port0" in absent.stderr


def test_the_mistake_of_the_page_is_refused_with_its_words(folder: Path) -> None:
    follow_to_the_check(folder)
    file = folder / "profiles" / "acme-m3.toml"
    text = file.read_text("utf-8")
    file.write_text(
        text.replace('type = "u32"\nunit', 'type = "u32"\nword_order = "low-first"\nunit'), "utf-8"
    )
    refused = run(COMMANDS[0], folder)
    assert refused.returncode != 0
    assert MESSAGES[0] in refused.stderr + refused.stdout
    assert "acme-m3.toml:" in refused.stderr + refused.stdout


def test_the_look_at_the_display_ends_the_suspicion(folder: Path) -> None:
    follow_to_the_check(folder)
    assert not load_site(folder / "site.toml").plant.meters[-1].is_proved
    with (folder / "site.toml").open("a", encoding="utf-8") as file:
        file.write(TOML[2])
    assert load_site(folder / "site.toml").plant.meters[-1].is_proved
    assert "suspect" not in run(COMMANDS[0], folder).stdout


def test_every_key_the_page_names_exists() -> None:
    known = {key for kind in (ProfileShape, RegisterShape, SerialShape) for key in kind.model_fields}
    for key in (
        "read_limit",
        "alignment",
        "quiet_ms",
        "word_order",
        "invalid",
        "modulus",
        "sums",
        "fingerprint",
    ):
        assert key in known
        assert f"`{key}" in PAGE or f"[{key}]" in PAGE
    for key in ("conditions", "circuits", "recognition", "counts_both"):
        assert key in known
        assert key in PAGE


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} was not written"
        time.sleep(0.05)
