"""What a campaign needs, and the line that it leaves behind."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installation import Installation
from tests.lab.places import Disk, Forbidden, Network, loop_disk, small_disk
from tests.lab.slowdisk import Manager
from tests.support.mosquitto import Mosquitto

Told = Callable[[str, str], None]
Need = Callable[[str], None]

_lines = pytest.StashKey[list[str]]()
_LINES = "what the campaigns of the lab came to"


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Told:
    """Notes what a campaign has done, and for how long, for the end of the run."""
    began = time.monotonic()

    def tell(what: str, figures: str) -> None:
        line = f"{what}: {time.monotonic() - began:.0f} s, {figures}"
        request.config.stash.setdefault(_lines, []).append(line)

    return tell


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its lines to the process that a person sees."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_LINES] = session.config.stash.get(_lines, list[str]())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended; one that died has nothing to hand over, and its campaign has failed."""
    lines = getattr(node, "workeroutput", {}).get(_LINES, [])
    node.config.stash.setdefault(_lines, list[str]()).extend(lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for every campaign."""
    lines = config.stash.get(_lines, list[str]())
    for line in sorted(lines):
        terminalreporter.write_line(line)


@pytest.fixture
def lab(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Installation]:
    """An installation that is up but for its agent."""
    yield from _installation(mosquitto, tmp_path, None)


@pytest.fixture
def lab_of_weeks(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose platform lives through a week and a day whenever it is told to."""
    yield from _installation(mosquitto, tmp_path, None, has_calendar=True)


@pytest.fixture
def lab_of_ten_seconds(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Installation]:
    """An installation that polls each second and seals each ten."""
    yield from _installation(mosquitto, tmp_path, None, interval="10s", poll="1s")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    with Manager(tmp_path) as made:
        yield made


@pytest.fixture
def loop_mounted(impossible: Need, tmp_path: Path) -> Iterator[Disk]:
    """An ext4 whose power can be cut."""
    try:
        disk = loop_disk(tmp_path / "disk", 32)
        disk.mount()
    except Forbidden as problem:
        impossible(f"an ext4 on a loop device ({problem})")
        raise
    yield disk
    disk.unmount()


@pytest.fixture
def lab_on_ext4(loop_mounted: Disk, mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose journal lies on `loop_mounted`."""
    yield from _installation(mosquitto, tmp_path, loop_mounted.path)


@pytest.fixture
def tiny_mounted(impossible: Need, tmp_path: Path) -> Iterator[Disk]:
    """A tmpfs of a few megabytes."""
    try:
        disk = small_disk(tmp_path / "disk", 6)
        disk.mount()
    except Forbidden as problem:
        impossible(f"a tmpfs ({problem})")
        raise
    yield disk
    disk.unmount()


@pytest.fixture
def lab_on_tmpfs(tiny_mounted: Disk, mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose journal lies on `tiny_mounted`."""
    yield from _installation(mosquitto, tmp_path, tiny_mounted.path)


@pytest.fixture
def network(impossible: Need) -> Iterator[Network]:
    """A network namespace with a cable."""
    made = Network()
    try:
        made.__enter__()
    except Forbidden as problem:
        impossible(f"a network namespace ({problem})")
        raise
    yield made
    made.__exit__(None, None, None)


def _installation(
    mosquitto: Mosquitto,
    folder: Path,
    disk: Path | None,
    *,
    interval: str = "1s",
    poll: str = "5s",
    has_calendar: bool = False,
) -> Iterator[Installation]:
    with Installation(
        folder / "rig", mosquitto.url, disk=disk, interval=interval, has_calendar=has_calendar
    ) as made:
        made.edit_site('poll = "5s"', f'poll = "{poll}"', times=2)
        made.start_surroundings()
        yield made
