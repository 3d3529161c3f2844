"""What every test may use, and what happens to tests whose foreign program is missing."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.adapters import keys
from simulators import ports
from tests.support import node_packages, programs
from tests.support.mosquitto import Mosquitto

# The same examples in every run: a red run is a change, not luck. No deadline, and no complaint that ten examples took
# more than a second to make: the machines of CI are slow and shared.
UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("repeatable", derandomize=True, **UNHURRIED)
hypothesis.settings.register_profile("search", derandomize=False, max_examples=1000, **UNHURRIED)
hypothesis.settings.load_profile("repeatable")

_missing = pytest.StashKey[set[str]]()
_MISSING = "programs and abilities that are missing"


def pytest_configure(config: pytest.Config) -> None:
    """A port that one worker of pytest-xdist has chosen is not taken by another before it is used."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        number = int(worker["workerid"].removeprefix("gw"))
        os.environ[ports.VARIABLE] = ports.part_of(number, worker["workercount"])


@pytest.fixture(autouse=True)
def the_same_keys_in_every_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test signs is the same in every run: one that spoils a hash by writing an x into it would, one time in 64,
    find an x there. Keys differ within a test and between tests; processes of their own draw theirs."""
    numbers = itertools.count()

    def same() -> Ed25519PrivateKey:
        name = f"{request.node.nodeid} {next(numbers)}"
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())

    monkeypatch.setattr(keys, "draw", same)


@pytest.fixture
def mosquitto(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto]:
    """A running mosquitto that keeps nothing on disk and lets everybody in."""
    _require("mosquitto", request.config)
    with Mosquitto(directory=tmp_path) as broker:
        yield broker


@pytest.fixture
def mosquitto_on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto]:
    """A running mosquitto that stores sessions and messages on every change, to be killed and started again."""
    _require("mosquitto", request.config)
    with Mosquitto(directory=tmp_path, persistence=True) as broker:
        yield broker


@pytest.fixture
def mbpoll(request: pytest.FixtureRequest) -> Path:
    """The path of Debian's mbpoll."""
    _require("mbpoll", request.config)
    path = programs.find_mbpoll()
    assert path is not None
    return path


@pytest.fixture
def systemd_analyze(request: pytest.FixtureRequest) -> Path:
    """The path of systemd-analyze, which judges unit files without a running systemd."""
    _require("systemd-analyze", request.config)
    path = programs.find("systemd-analyze")
    assert path is not None
    return path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `mosquitto`, `jq`, `jose` and so on needs that program or package."""
    for program in (*programs.PROGRAMS, *node_packages.PACKAGES):
        if item.get_closest_marker(program):
            _require(program, item.config)


@pytest.fixture
def impossible(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """To be called with what this machine does not allow: the test is skipped loudly, and in CI fails."""
    return lambda what: _do_without(what, f"{what} is not possible here", request.config)


def _require(program: str, config: pytest.Config) -> None:
    if programs.find(program) or node_packages.find(program):
        return
    _do_without(program, f"{program} is neither installed nor unpacked (`make test` fetches it)", config)


def _do_without(what: str, message: str, config: pytest.Config) -> None:
    _missing_of(config).add(what)
    if programs.in_ci():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _missing_of(config: pytest.Config) -> set[str]:
    return config.stash.setdefault(_missing, set[str]())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands what it missed to the process that a person sees."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_MISSING] = sorted(_missing_of(session.config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended; one that died has nothing to hand over, and its test has failed."""
    _missing_of(node.config).update(getattr(node, "workeroutput", {}).get(_MISSING, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly what a green run has not tested."""
    for program in sorted(_missing_of(config)):
        line = f"WARNING: {program} is missing on this machine; the tests that need it did not run."
        terminalreporter.write_line(line, yellow=True, bold=True)
