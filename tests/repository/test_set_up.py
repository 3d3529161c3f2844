"""The set-up that every make target does first, and what the targets make of their variables."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny checkout with locks that name nothing, so that a real environment is made within seconds."""
    locks = tmp_path / "config" / "locks"
    locks.mkdir(parents=True)
    for name in ("runtime", "development"):
        (locks / f"{name}.txt").write_text("# nothing\n")
    package = tmp_path / "simulators"
    package.mkdir()
    (package / "cli.py").write_text(
        "import sys\n\n\ndef main() -> int:\n    print(*sys.argv[1:])\n    return 7\n"
    )
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "STAMP", tmp_path / ".venv" / "stamp.json")
    monkeypatch.setattr(environment, "LOCKS", locks)
    return tmp_path


def make_would_run(target: str, *variables: str, **inherited: str) -> str:
    """The commands of a target, with nothing run."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", target, *variables],
        cwd=ROOT,
        env=clean | inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_seconds_come_from_the_command_line_and_never_from_the_shell() -> None:
    assert "demo --seconds 60" in make_would_run("demo")
    assert "demo --seconds 60" in make_would_run("demo", SECONDS="4711")
    assert "demo --seconds 20" in make_would_run("demo", "SECONDS=20")


TARGETS = [("demo", "runtime"), *((name, "development") for name in ("test", "check", "real", "lab"))]


@pytest.mark.parametrize(("target", "level"), TARGETS)
def test_every_target_sets_itself_up(target: str, level: str) -> None:
    first = make_would_run(target).splitlines()[0]
    assert first.endswith(f"tests/support/environment.py {level}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_environment_is_made_once_completed_and_made_anew(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stamp = checkout / ".venv" / "stamp.json"
    mark = checkout / ".venv" / "mark"

    environment.make("development")
    assert "making .venv" in capfd.readouterr().out
    command = subprocess.run(
        [checkout / ".venv" / "bin" / "metering-sim", "a b", "c"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (command.returncode, command.stdout) == (7, "a b c\n"), command.stderr

    mark.touch()
    for level in ("development", "runtime"):  # the greater includes the smaller
        environment.make(level)
        assert capfd.readouterr().out == ""

    (checkout / "config" / "locks" / "runtime.txt").write_text("# something else\n")
    environment.make("runtime")
    said = capfd.readouterr().out
    assert "installing" in said
    assert "making" not in said
    assert mark.exists()

    environment.make("development")  # was not brought up to date with the other
    assert "installing" in capfd.readouterr().out

    stamp.unlink()  # somebody made it by hand: completed and kept
    environment.make("development")
    said = capfd.readouterr().out
    assert "installing" in said
    assert "making" not in said
    assert mark.exists()

    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"place": "/somewhere/else"}))
    environment.make("runtime")
    assert "making .venv" in capfd.readouterr().out
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_unfinished_environment_is_not_taken_for_a_finished_one(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lock = checkout / "config" / "locks" / "runtime.txt"
    lock.write_text("no-such-package-in-any-registry-4711==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with (checkout / "pip.conf").open("w") as settings:
        settings.write("[global]\nno-index = true\n")
    before = os.environ.get("PIP_CONFIG_FILE")
    os.environ["PIP_CONFIG_FILE"] = str(checkout / "pip.conf")
    try:
        with pytest.raises(environment.SetUpFailed, match="could not be installed"):
            environment.make("runtime")
    finally:
        if before is None:
            del os.environ["PIP_CONFIG_FILE"]
        else:
            os.environ["PIP_CONFIG_FILE"] = before
    lock.write_text("# nothing\n")
    capfd.readouterr()
    environment.make("runtime")
    assert "installing" in capfd.readouterr().out


def test_an_old_python_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "OLDEST", (99, 0))
    monkeypatch.setenv("PATH", "")
    assert environment.main(["runtime"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("set-up: Python 99.0 or newer is needed")
    assert said.count("\n") == 1


def test_a_python_without_venv_gets_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deaf = tmp_path / "python3"
    deaf.write_text("#!/bin/sh\nexit 1\n")
    deaf.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(deaf))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(environment.SetUpFailed, match=r"sudo apt-get install python3\.\d+-venv"):
        environment._need_venv_module()


def test_a_level_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert environment.main(["everything"]) == 2
    assert "runtime|development" in capsys.readouterr().err
