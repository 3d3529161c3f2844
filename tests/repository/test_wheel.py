"""`pip install .`: the wheel holds the data files, and what is installed from it finds them without a checkout."""

import configparser
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.resources import config_path

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

InstalledRun = Callable[[str], str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip builds it, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
        cwd=folder,
    )
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def run_installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> InstalledRun:
    """Runs Python code that sees the unpacked wheel and not the checkout; returns what it printed."""
    site = tmp_path_factory.mktemp("site")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(code: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-c",
                f"import sys; sys.path.remove({str(ROOT)!r}) if {str(ROOT)!r} in sys.path else None\n{code}",
            ],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def data_files() -> set[str]:
    """Every data file of the checkout that an installed agent needs, relative to config/."""
    config = config_path()
    return {
        str(file.relative_to(config))
        for file in config.rglob("*")
        if file.is_file() and file.relative_to(config).parts[0] != "locks" and not file.name.startswith(".")
    }


def test_wheel_holds_every_data_file_and_no_lock(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    carried = {name.removeprefix("agent/_config/") for name in names if name.startswith("agent/_config/")}
    assert carried == data_files()
    assert any(name.startswith("profiles/") for name in carried)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"agent", "simulators", "metering_agent"}


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        str(file.relative_to(ROOT))
        for package in ("agent", "simulators")
        for file in (ROOT / package).rglob("*")
        if file.suffix in {".py", ".sql", ".html"} or file.name == "VERIFY.md"
    }
    assert wanted <= names


def test_wheel_carries_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_installed_package_finds_its_profiles(run_installed: InstalledRun) -> None:
    code = (
        "import agent.resources\n"
        "folder = agent.resources.config_path('profiles')\n"
        "print(agent.resources.__file__, *sorted(file.name for file in folder.iterdir()), sep='\\n')"
    )
    module, *profiles = run_installed(code).splitlines()
    assert not Path(module).is_relative_to(ROOT)
    assert profiles == sorted(file.name for file in config_path("profiles").iterdir())


def test_console_scripts_answer(wheel: Path, run_installed: InstalledRun) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (file,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(file).decode())
    commands = dict(scripts["console_scripts"])
    assert set(commands) == {"metering-agent", "metering-sim"}
    for command, place in commands.items():
        module, function = place.split(":")
        help_text = run_installed(
            f"from {module} import {function}\nsys.argv = [{command!r}, '--help']\n{function}()"
        )
        assert command in help_text
