"""The locks say the same as pyproject.toml, hold a hash for everything, and name no place where packages come from."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EVERYTHING = RUNTIME + [Requirement(text) for extra in EXTRAS.values() for text in extra]
# The lock is for every platform; these two between them need everything in it.
ENVIRONMENTS = [{"extra": ""}, {"extra": "", "sys_platform": "win32", "platform_system": "Windows"}]


def read_lock(name: str) -> dict[str, tuple[Version, int]]:
    """Version and number of hashes of every package. Fails on a line that is none of what a lock may hold."""
    packages: dict[str, tuple[Version, int]] = {}
    current = ""
    for line in (ROOT / "config" / "locks" / f"{name}.txt").read_text().splitlines():
        if entry := re.fullmatch(r"([a-z0-9-]+)==(\S+)( ; [^\\]+)? \\", line):
            current = entry[1]
            packages[current] = (Version(entry[2]), 0)
        elif re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line):
            version, hashes = packages[current]
            packages[current] = (version, hashes + 1)
        else:
            assert re.fullmatch(r"\s+#.*", line), f"{name}: what is this line doing here: {line!r}"
    return packages


def needed(direct: list[Requirement]) -> set[str]:
    """Names of these packages and all that they need on any platform, as the installed packages tell."""
    names: set[str] = set()
    waiting = list(direct)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in names:
            continue
        names.add(name)
        try:
            inner = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform, so not installed here
            continue
        for text in inner:
            candidate = Requirement(text)
            extras = [{"extra": extra} for extra in requirement.extras]
            environments = [*ENVIRONMENTS, *extras]
            if candidate.marker is None or any(candidate.marker.evaluate(each) for each in environments):
                waiting.append(candidate)
    return names


@pytest.mark.parametrize(("name", "direct"), [("runtime", RUNTIME), ("development", EVERYTHING)])
def test_lock_holds_what_pyproject_asks_for_and_no_more(name: str, direct: list[Requirement]) -> None:
    lock = read_lock(name)
    for requirement in direct:
        version, _ = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (
            f"{requirement} but {version} is locked; run `make lock`"
        )
    assert set(lock) == needed(direct)


@pytest.mark.parametrize("name", ["runtime", "development"])
def test_every_package_has_its_hashes(name: str) -> None:
    assert [package for package, (_, hashes) in read_lock(name).items() if hashes == 0] == []


def test_both_locks_agree() -> None:
    runtime, development = read_lock("runtime"), read_lock("development")
    assert runtime.items() <= development.items()


def test_this_environment_is_the_locked_one() -> None:
    """A result from other versions than the locked ones says nothing about them."""
    different = []
    for name, (version, _) in read_lock("development").items():
        try:
            installed = Version(metadata.version(name))
        except metadata.PackageNotFoundError:
            assert name in {"colorama", "tzdata", "win32-setctime"}, f"{name} is locked and not installed"
            continue
        if installed != version:
            different.append(f"{name}: locked {version}, installed {installed}")
    assert different == []


def test_build_backend_is_locked_too() -> None:
    """So that `pip install .` can be tested without a network."""
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [Requirement(text).name for text in backend] == ["hatchling"]
    assert set(backend) <= set(EXTRAS["dev"])
