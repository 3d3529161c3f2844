"""The journal's folder: what fails there says what to do, and leaves nothing half done."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.adapters.journal import Place, open_or_replace
from agent.adapters.journal.files import FolderFiles
from agent.errors import JournalFailed, JournalFull, JournalHeld, JournalUnusable

FILES = FolderFiles()
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 510, 0x40000002)
print("held", flush=True)
sys.stdin.read()
"""
"""Holds the bytes that SQLite locks while it has a database open."""


def fails(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A database and its log."""
    database, log = tmp_path / "j.db", tmp_path / "j.db-wal"
    database.write_bytes(b"pages")
    log.write_bytes(b"frames" * 40_000)
    log.chmod(0o640)
    return database, log


def test_a_renewed_file_has_the_same_bytes_and_mode_in_another_place(pair: tuple[Path, Path]) -> None:
    database, log = pair
    before, content = log.stat(), log.read_bytes()
    FILES.renew(log, guarded_by=database)
    assert log.read_bytes() == content and log.stat().st_mode == before.st_mode
    assert log.stat().st_ino != before.st_ino
    assert sorted(path.name for path in log.parent.iterdir()) == ["j.db", "j.db-wal"]


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [
        (errno.ENOSPC, JournalFull, "no room beside the journal"),
        (errno.EDQUOT, JournalFull, "no room beside the journal"),
        (errno.EROFS, JournalUnusable, "may write the file and its folder"),
        (errno.EACCES, JournalUnusable, "may write the file and its folder"),
        (errno.EIO, JournalFailed, "cannot be written anew"),
    ],
)
def test_a_log_that_cannot_be_renewed_stays_and_says_why(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], says: str
) -> None:
    database, log = pair
    content = log.read_bytes()
    monkeypatch.setattr("agent.adapters.journal.files.os.fsync", fails(number))
    with pytest.raises(error, match=says) as raised:
        FILES.renew(log, guarded_by=database)
    assert type(raised.value) is error and str(database) in str(raised.value)
    assert log.read_bytes() == content
    assert not log.with_name("j.db-wal.renewed").exists()


@pytest.mark.fault("F79")
def test_a_log_of_a_database_that_another_process_has_open_is_not_touched(pair: tuple[Path, Path]) -> None:
    database, log = pair
    before = log.stat()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(JournalHeld, match="only one metering-agent"):
            FILES.renew(log, guarded_by=database)
        holder.stdin.close()
    assert log.stat().st_ino == before.st_ino
    FILES.renew(log, guarded_by=database)
    assert log.stat().st_ino != before.st_ino


def test_a_log_without_its_database_is_not_renewed(pair: tuple[Path, Path]) -> None:
    database, log = pair
    database.unlink()
    with pytest.raises(JournalUnusable):
        FILES.renew(log, guarded_by=database)
    assert log.exists() and not database.exists()


def test_what_cannot_be_moved_removed_or_noted_is_a_failure_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match=r"j.db: cannot be renamed to aside"):
        FILES.move(tmp_path / "j.db", tmp_path / "aside")
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalFailed, match="folder: cannot be removed"):
        FILES.remove(tmp_path / "folder")
    FILES.remove(tmp_path / "nothing")
    with pytest.raises(JournalFailed, match="folder: cannot be written"):
        FILES.mark(tmp_path / "folder", "why")
    assert FILES.marked(tmp_path / "folder") == "", "a note that cannot be read keeps nobody from starting"
    (tmp_path / "mark").write_bytes(b"\xff\xfe")
    assert FILES.marked(tmp_path / "mark") == "\ufffd\ufffd"


def test_a_note_is_read_back_and_none_is_none(tmp_path: Path) -> None:
    assert FILES.marked(tmp_path / "mark") is None
    FILES.mark(tmp_path / "mark", "a page is damaged")
    assert FILES.marked(tmp_path / "mark") == "a page is damaged"


@pytest.mark.fault("F46")
def test_the_ballast_is_laid_down_only_where_there_is_four_times_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = tmp_path / "ballast"
    monkeypatch.setattr(
        "agent.adapters.journal.files.shutil.disk_usage", lambda _: SimpleNamespace(free=399_999)
    )
    FILES.reserve(ballast, 100_000)
    assert not ballast.exists()
    monkeypatch.setattr(
        "agent.adapters.journal.files.shutil.disk_usage", lambda _: SimpleNamespace(free=400_000)
    )
    FILES.reserve(ballast, 100_000)
    assert 100_000 <= ballast.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("number", "is_failure"), [(errno.ENOSPC, False), (errno.EROFS, False), (errno.EIO, True)]
)
def test_half_a_ballast_is_never_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_failure: bool
) -> None:
    """Without one the journal still works; a disk that fails is told."""
    ballast = tmp_path / "ballast"
    monkeypatch.setattr("agent.adapters.journal.files.os.fsync", fails(number))
    if is_failure:
        with pytest.raises(JournalFailed, match="cannot be laid down"):
            FILES.reserve(ballast, 100_000)
    else:
        FILES.reserve(ballast, 100_000)
    assert not ballast.exists()


@pytest.mark.fault("F48")
def test_a_file_is_readable_where_the_disk_gives_every_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, files = tmp_path / "j.db", FolderFiles()
    path.write_bytes(bytes(200_000))
    assert files.is_readable(path)
    with pytest.raises(JournalUnusable):
        files.is_readable(tmp_path / "none")

    def bad_sector(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(Path, "open", bad_sector)
    assert not files.is_readable(path)


def test_what_cannot_even_be_looked_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "not yours")

    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(JournalUnusable, match="cannot be looked for"):
        open_or_replace(Place(tmp_path / "j.db"), 0)
