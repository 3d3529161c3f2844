"""Bad surroundings of a real process: each a clear sentence and a right exit code, and nothing lost."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.adapters.journal import open_journal
from simulators.demo.rig import Rig
from tests.support.mosquitto import Mosquitto


def run_agent(site: Path, seconds: int = 120) -> subprocess.CompletedProcess[str]:
    """`metering-agent run` to its end."""
    program = "import sys; from agent.cli import main; sys.argv[0] = 'metering-agent'; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "run", "--site", str(site)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "rig", interval="1s")


@pytest.mark.fault("F79")
def test_a_second_agent_on_the_same_journal_is_told_why_and_the_first_goes_on(rig: Rig) -> None:
    with rig:
        rig.start_meters()
        rig.start_agent()
        rig.wait_until(lambda: rig.agent_status() is not None, 90, "the agent answers")
        second = run_agent(rig.site)
        assert second.returncode == 75
        assert "only one metering-agent" in second.stderr and "Traceback" not in second.stderr
        rig.wait_until(lambda: rig.agent_status() is not None, 90, "the first one answers as before")


@pytest.mark.fault("F58")
def test_a_key_that_others_can_read_stops_the_start(rig: Rig) -> None:
    (rig.folder / "signing-key.pem").chmod(0o644)
    refused = run_agent(rig.site)
    assert refused.returncode == 78
    assert "signing-key.pem" in refused.stderr and "chmod" in refused.stderr


@pytest.mark.fault("F83")
def test_a_journal_of_a_newer_version_stops_the_start_and_is_not_touched(rig: Rig) -> None:
    journal = open_journal(rig.journal)
    journal._db.execute("PRAGMA user_version = 99")
    journal.close()
    before = rig.journal.read_bytes()
    refused = run_agent(rig.site)
    assert refused.returncode == 78 and "newer version" in refused.stderr
    assert rig.journal.read_bytes() == before


def test_a_journal_of_another_platform_is_archived_and_kept(rig: Rig) -> None:
    with rig:
        rig.start_meters()
        rig.start_agent()
        rig.wait_until(lambda: _seq(rig) >= 2, 90, "two batches")
        assert rig.stop("agent") == 0
        chain = open_chain(rig.journal)
        rig.site.write_text(rig.site.read_text().replace("carbon.demo.example", "another.example"))
        rig.start_agent()
        rig.wait_until(lambda: _seq(rig) >= 1, 90, "a batch")
        assert rig.stop("agent") == 0
        archived = [path for path in rig.folder.glob("journal.db.former-*") if not path.name.endswith("-wal")]
        assert len(archived) == 1 and open_chain(archived[0]) == chain
        assert open_chain(rig.journal) != chain


@pytest.mark.mosquitto
def test_a_broker_that_wants_a_password_is_named_and_the_energy_waits(tmp_path: Path) -> None:
    with guarded(tmp_path, users={"somebody": "else"}) as rig:
        rig.wait_until(lambda: "check user name, password" in _problem(rig), 90, "the reason")
        rig.wait_until(lambda: _seq(rig) >= 3, 90, "batches in the journal")


@pytest.mark.fault("F67")
@pytest.mark.mosquitto
def test_a_broker_that_allows_no_publishing_is_named_and_the_energy_waits(tmp_path: Path) -> None:
    with guarded(tmp_path, acl="topic read #\n") as rig:
        rig.wait_until(lambda: "0x87" in _problem(rig), 90, "the reason")
        rig.wait_until(lambda: _seq(rig) >= 3, 90, "batches in the journal")
        assert "ask the platform's operator" in _problem(rig)


@contextmanager
def guarded(folder: Path, *, users: Mapping[str, str] | None = None, acl: str | None = None) -> Iterator[Rig]:
    """Meters and an agent before a mosquitto that does not let it do what it wants."""
    (folder / "broker").mkdir()
    with (
        Mosquitto(users=users, acl=acl, directory=folder / "broker") as broker,
        Rig(folder / "rig", interval="1s", broker=broker.url) as rig,
    ):
        rig.start_meters()
        rig.start_agent()
        yield rig


def _problem(rig: Rig) -> str:
    platform = (rig.agent_status() or {}).get("platform")
    return str(platform.get("problem")) if isinstance(platform, dict) else ""


def open_chain(path: Path) -> str | None:
    """The chain that a journal is in."""
    journal = open_journal(path)
    try:
        return journal.state().chain
    finally:
        journal.close()


def _seq(rig: Rig) -> int:
    status = rig.agent_status() or {}
    journal = status.get("journal")
    return int(journal["seq"]) if isinstance(journal, dict) else 0
