"""The few things that are done to the journal's files from outside SQLite, behind a port like the connection.

Renaming, a copy with a sync of its own, the ballast, and a mark for the next start.
"""

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from agent.errors import JournalFailed, JournalFull, JournalHeld, JournalUnusable, RetryLater

_PIECE = 65_536
_SQLITE_SHARED = (510, 0x4000_0002)
"""Length and start of the bytes that SQLite locks while a database is in use (os_unix.c, SHARED_SIZE, SHARED_FIRST)."""
_NOT_NOW = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Without a ballast the journal still works."""
_SPARE_FACTOR = 4
"""The ballast is laid down only where the file system has so many times its size to spare."""


class Files(Protocol):
    """What the journal needs of the folder it lies in. Any method may raise JournalFailed or JournalUnusable."""

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""

    def is_readable(self, path: Path) -> bool:
        """Whether the disk gives every byte of a file; False where it has lost some of them."""

    def move(self, path: Path, to: Path) -> None:
        """Rename a file, durably. Raises JournalFull, JournalUnusable or JournalFailed."""

    def remove(self, path: Path) -> None:
        """Delete a file if it is there."""

    def renew(self, path: Path, *, guarded_by: Path) -> None:
        """Put a synced copy in the place of a file.

        What is read from a file after a failed sync may stand in the page cache only, and no later sync of the same
        file makes it durable, because the pages count as clean. In a new file they are written anew.

        Args:
            path: the write-ahead log.
            guarded_by: the database it belongs to; as long as another process has that open nothing is touched.

        Raises JournalHeld, JournalFull, JournalUnusable or JournalFailed.
        """

    def reserve(self, path: Path, size: int) -> None:
        """Lay down a file of this many bytes if there is room for it and more; nothing happens otherwise."""

    def mark(self, path: Path, text: str) -> None:
        """Write a short note; it need not survive a loss of power."""

    def marked(self, path: Path) -> str | None:
        """The note, None if there is none; one that cannot be read is an empty one."""


class FolderFiles:
    """The files of a real folder."""

    def exists(self, path: Path) -> bool:
        try:
            return path.exists()
        except OSError as error:
            raise _meaning(error, path, "cannot be looked for") from error

    def is_readable(self, path: Path) -> bool:
        try:
            with path.open("rb", buffering=0) as file:
                while file.read(_PIECE):
                    pass
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise _meaning(error, path, "cannot be read") from error
        return True

    def move(self, path: Path, to: Path) -> None:
        try:
            path.rename(to)
            _sync_folder(to.parent)
        except OSError as error:
            raise _meaning(error, path, f"cannot be renamed to {to.name}") from error

    def remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise JournalFailed(f"{path}: cannot be removed: {error}") from error

    def renew(self, path: Path, *, guarded_by: Path) -> None:
        copy = path.with_name(path.name + ".renewed")
        try:
            with guarded_by.open("r+b") as database:
                fcntl.lockf(database, fcntl.LOCK_EX | fcntl.LOCK_NB, *_SQLITE_SHARED)
                _copy_synced(path, copy)
                copy.replace(path)
                _sync_folder(path.parent)
        except OSError as error:
            _unlink_if_possible(copy)
            raise _meaning(error, guarded_by, "its write-ahead log cannot be written anew") from error

    def reserve(self, path: Path, size: int) -> None:
        try:
            if shutil.disk_usage(path.parent).free < _SPARE_FACTOR * size:
                return
            with path.open("wb") as file:
                for _ in range(-(-size // _PIECE)):
                    file.write(bytes(_PIECE))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _unlink_if_possible(path)
            if error.errno not in _NOT_NOW:
                raise JournalFailed(f"{path}: cannot be laid down: {error}") from error

    def mark(self, path: Path, text: str) -> None:
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            raise JournalFailed(f"{path}: cannot be written: {error}") from error

    def marked(self, path: Path) -> str | None:
        try:
            return path.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError:  # whatever it said: what is wrong with the journal is found again
            return ""


def _unlink_if_possible(path: Path) -> None:
    """Take back what was half written; where not even that is possible, what failed before is what is told."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _copy_synced(path: Path, copy: Path) -> None:
    with path.open("rb") as old, copy.open("wb") as new:
        os.fchmod(new.fileno(), os.fstat(old.fileno()).st_mode & 0o777)
        shutil.copyfileobj(old, new, _PIECE)
        new.flush()
        os.fsync(new.fileno())


def _meaning(error: OSError, database: Path, what: str) -> RetryLater | JournalFailed:
    """Like the connection's: what to do about it decides what it is."""
    match error.errno:
        case errno.EAGAIN | errno.EACCES if isinstance(error, BlockingIOError):
            return JournalHeld(
                f"{database}: another process has the journal open; only one metering-agent may run on it"
            )
        case errno.ENOSPC | errno.EDQUOT:
            return JournalFull(f"{database}: {what}: no room beside the journal ({error})")
        case errno.EROFS | errno.EACCES | errno.EPERM | errno.ENOENT:
            return JournalUnusable(
                f"{database}: {what}: {error}; see that this user may write the file and its folder"
            )
    return JournalFailed(f"{database}: {what}: {error}")


def _sync_folder(folder: Path) -> None:
    """A rename is durable only when the folder is."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
