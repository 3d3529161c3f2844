"""The site file is replaced whole or not at all, whenever the command dies; and who may do it."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.again import has_manager
from agent.adapters.sitefile import Record, SiteFile, UnderWay, examine, sha256_of
from agent.errors import ConfigError
from tests.settings.example_site import write_site

OLD, NEW = b"old = 1\n", b"new = 2\n"
RECORD = Record(sha256_of(OLD), sha256_of(NEW), ("m01",), ("m02",), was_connected=True)


class Killed(BaseException):
    """SIGKILL, as far as a test can have it: nothing after it is done."""


@pytest.fixture
def file(tmp_path: Path) -> SiteFile:
    (tmp_path / "site.toml").write_bytes(OLD)
    return SiteFile(tmp_path / "site.toml")


def change(file: SiteFile) -> None:
    file.stage(NEW)
    file.swap(RECORD)


def test_a_change_keeps_the_former_text_mode_and_link(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    target, link = tmp_path / "etc" / "site.toml", tmp_path / "site.toml"
    target.write_bytes(OLD)
    target.chmod(0o640)
    link.symlink_to(target)
    file = SiteFile(link)
    change(file)
    assert link.is_symlink() and target.read_bytes() == NEW
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert (file.record(), file.before.read_bytes()) == (RECORD, OLD)
    file.put_back()
    assert target.read_bytes() == OLD and file.record() == RECORD
    file.finish()
    assert file.record() is None and sorted(each.name for each in target.parent.iterdir()) == [
        "site.toml",
        "site.toml.before",
    ]


@pytest.mark.fault("F80")
@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("before_it", [True, False])
def test_killed_at_any_moment_either_text_is_there_whole_and_the_record_says_which(
    file: SiteFile, monkeypatch: pytest.MonkeyPatch, step: int, before_it: bool
) -> None:
    left = [step]

    def deadly(act: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == -1 and before_it:
                raise Killed
            outcome = act(*arguments, **named)
            if left[0] == -1:
                raise Killed
            return outcome

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", deadly(Path.replace))
        patch.setattr(os, "fsync", deadly(os.fsync))
        patch.setattr(os, "fchmod", deadly(os.fchmod))
        try:
            change(file)
            is_complete = True
        except Killed:
            is_complete = False
    there = file.path.read_bytes()
    assert there in (OLD, NEW)
    if there == NEW:
        assert file.record() == RECORD and file.before.read_bytes() == OLD
    assert is_complete == (left[0] > -1)
    if is_complete:
        assert there == NEW
    file.finish()
    file.path.write_bytes(OLD)
    change(file)  # whatever it left behind does not stand in the way of the next one
    assert file.path.read_bytes() == NEW


def test_one_change_at_a_time(file: SiteFile) -> None:
    assert not file.is_locked()
    with file.locked():
        other = SiteFile(file.path)
        assert other.is_locked()
        with pytest.raises(UnderWay, match="another command"), other.locked():
            pass
    assert not file.is_locked()


@pytest.mark.parametrize("act", ["stage", "swap", "put_back"])
def test_another_user_is_told_so_in_a_sentence(
    file: SiteFile, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    change(file)
    arguments: dict[str, tuple[Any, ...]] = {"stage": (NEW,), "swap": (RECORD,), "put_back": ()}

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ConfigError, match=r"this user may not replace the site file.*sudo"):
        getattr(file, act)(*arguments[act])
    assert file.path.read_bytes() == NEW


def test_a_record_that_is_none_is_a_fault(file: SiteFile) -> None:
    file.record_path.write_text("{}")
    with pytest.raises(ConfigError, match="cannot be understood"):
        file.record()


def test_the_agent_looks_at_a_file_as_check_does(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    assert asyncio.run(examine(site)) == []
    site.write_text(site.read_text().replace("wave_soldering", "wave_sold"))
    (fault,) = asyncio.run(examine(site))
    assert "wave_soldering" in fault and str(site) in fault


def test_a_manager_is_one_that_started_this_very_process() -> None:
    assert has_manager({"NOTIFY_SOCKET": "/run/systemd/notify"}, 1)
    assert has_manager({"SYSTEMD_EXEC_PID": "42"}, 42)
    assert not has_manager({"SYSTEMD_EXEC_PID": "42"}, 43)  # inherited from a shell that systemd started
    assert not has_manager({}, 42)
