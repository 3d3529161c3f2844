"""`run`: hands a right site to the wiring, and tells systemd not to try again with a wrong one."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.errors import JournalHeld
from agent.settings.site import Site
from tests.settings.example_site import meter, write_site


@pytest.mark.parametrize("code", [0, 75])
def test_the_wiring_decides_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    started: list[Site] = []

    def run_agent(site: Site) -> int:
        started.append(site)
        return code

    monkeypatch.setitem(sys.modules, "agent.wiring", SimpleNamespace(run_agent=run_agent))
    done = CliRunner().invoke(main, ["run", "--site", str(write_site(tmp_path))])
    assert done.exit_code == code
    assert [site.plant.agent for site in started] == ["gw01"]


def test_a_second_instance_is_a_reason_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_agent(site: Site) -> int:
        raise JournalHeld("journal.db is open in another process; only one agent may run on it")

    monkeypatch.setitem(sys.modules, "agent.wiring", SimpleNamespace(run_agent=run_agent))
    done = CliRunner().invoke(main, ["run", "--site", str(write_site(tmp_path))])
    assert (done.exit_code, done.stderr) == (
        75,
        "journal.db is open in another process; only one agent may run on it\n",
    )


@pytest.mark.fault("F80")
def test_a_wrong_site_file_ends_with_78_and_every_fault(tmp_path: Path) -> None:
    file = write_site(tmp_path, meters=[meter("a", 300), meter("b", 301)])
    command = [sys.executable, "-c", "from agent.cli import main; main()", "run", "--site", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 78
    assert done.stderr.endswith("2 problems, nothing was started\n")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "journal.db").exists()


ENDLESS = """
from functools import partial
from agent import wiring

def judging(place, wall_ms, *, platform_answers):
    connection = place.connect(place.path)
    while True:
        connection.execute("SELECT 1")

wiring.open_or_replace = judging
wiring.is_open = partial(wiring.is_open, look_s=0.05)
from agent.cli import main
main()
"""
"""The service with a journal that takes for ever to be judged."""


@pytest.mark.fault("F54")
def test_while_a_journal_is_judged_the_manager_is_told_to_wait_and_a_stop_is_heard(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        agent = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, "run", "--site", str(write_site(tmp_path))],
            env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=900000000"
            agent.terminate()
            _, said = agent.communicate(timeout=60)
        finally:
            agent.kill()
            agent.wait()
    assert agent.returncode == 0
    assert "the journal is read and judged" in said and "stopped before the journal was open" in said
