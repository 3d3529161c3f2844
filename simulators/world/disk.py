"""A disk that loses power: what was synced, and what was only written.

A file is its durable bytes, the writes since the last sync, and what a reader sees (the page cache). Losing power
keeps the durable bytes and, of the unsynced writes, none, all, some sectors, or half of one, as a real disk may.
A sync that fails is worse: the writes stay visible in the cache, and no later sync makes them durable (the pages
count as clean).

SQLite talks to it through a VFS of our own in `apsw`, so that every write and sync of the journal passes here; each is
numbered, and a fault may be set for any number. Tests and simulation only: the agent uses Python's own sqlite3.
"""

import operator
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import NamedTuple

import apsw

SECTOR = 512


class Keep(StrEnum):
    """What a power cut leaves of the unsynced writes."""

    NONE = "none"
    ALL = "all"
    SOME = "some"
    TORN = "torn"
    """All but the last sector, and half of that."""
    ONE = "one"
    """A single one; which, says `Cut.which`."""


class Trouble(StrEnum):
    """What may happen to one operation."""

    CUT = "cut"
    FULL = "full"
    EIO = "eio"
    """A write fails."""
    SYNC = "sync"
    """A sync fails."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How the power goes."""

    keep: Keep
    which: int = 0
    seed: int = 0


class _Write(NamedTuple):
    """Bytes at a place, or (data None) the file cut to that length."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class DiskFile:
    """One file."""

    durable: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write] = field(default_factory=list)
    left_over: int = 0
    """So many unsynced writes are of a transaction that came to nothing, or of a process that ended in one."""
    lost: bool = False
    """A sync failed: something that is seen will never be durable by itself."""

    def write(self, offset: int, data: bytes) -> None:
        self._do(_Write(offset, data))

    def truncate(self, size: int) -> None:
        self._do(_Write(size, None))

    def _do(self, write: _Write) -> None:
        _apply(self.seen, write)
        self.unsynced.append(write)

    def sync(self) -> None:
        for write in self.unsynced:
            _apply(self.durable, write)
        self.unsynced.clear()
        self.left_over = 0

    def fail_to_sync(self) -> None:
        """The cache forgets that these have still to be written."""
        self.lost |= bool(self.unsynced)
        self.unsynced.clear()
        self.left_over = 0

    def lose_power(self, cut: Cut) -> None:
        for write in _kept(self.unsynced, cut):
            _apply(self.durable, write)
        self.unsynced.clear()
        self.left_over = 0
        self.lost = False
        self.seen = bytearray(self.durable)

    def copy(self) -> "DiskFile":
        """As another disk would have it after a copy: what was seen, all of it durable."""
        return DiskFile(bytearray(self.seen), bytearray(self.seen))


def _apply(image: bytearray, write: _Write) -> None:
    if write.data is None:
        del image[write.offset :]
        return
    if len(image) < write.offset:
        image.extend(bytes(write.offset - len(image)))
    image[write.offset : write.offset + len(write.data)] = write.data


def _kept(writes: list[_Write], cut: Cut) -> list[_Write]:
    match cut.keep:
        case Keep.NONE:
            return []
        case Keep.ALL:
            return writes
        case Keep.ONE:
            return writes[cut.which : cut.which + 1]
        case Keep.TORN:
            sectors = _sectors(writes)
            return [*sectors[:-1], *(_half(each) for each in sectors[-1:])]
        case Keep.SOME:
            chance = random.Random(cut.seed)
            share = chance.random()
            return [each for each in _sectors(writes) if chance.random() < share]


def _sectors(writes: list[_Write]) -> list[_Write]:
    """The writes in pieces that a disk writes as one."""
    pieces = []
    for write in writes:
        if write.data is None:
            pieces.append(write)
            continue
        at = 0
        while at < len(write.data):
            size = SECTOR - (write.offset + at) % SECTOR
            pieces.append(_Write(write.offset + at, write.data[at : at + size]))
            at += size
    return pieces


def _half(write: _Write) -> _Write:
    return write if write.data is None else _Write(write.offset, write.data[: max(1, len(write.data) // 2)])


class Disk:
    """The files of one gateway. `operations` counts writes, truncations and syncs.

    `troubles` says what happens to which operation; `full` refuses every write that makes a file longer; `broken`
    refuses everything. After a power cut the disk is `dead` for whoever had it open, until `restart`.
    """

    def __init__(self) -> None:
        self.files: dict[str, DiskFile] = {}
        self.operations = 0
        self.troubles: dict[int, Trouble | Cut] = {}
        self.full = False
        self.broken = False
        self.life = 0
        self.dead = False
        self.on_cut: Callable[[], None] = lambda: None
        self.names: list[str] = []
        """What each operation was, while `recording`."""
        self.recording = False

    @property
    def answers(self) -> bool:
        """Whether anything can be read or written."""
        return not (self.dead or self.broken)

    # -- the hand of nature

    def cut_power(self, cut: Cut) -> None:
        """Now: whoever has a file open can do nothing any more."""
        for each in self.files.values():
            each.lose_power(cut)
        self.dead = True
        self.on_cut()

    def restart(self) -> None:
        """The machine boots: files can be opened again; what was open before stays dead."""
        self.life += 1
        self.dead = False

    def end_process(self) -> None:
        """The process is gone, the page cache is not: its open files are dead."""
        self.life += 1
        for each in self.files.values():
            each.left_over = len(each.unsynced)

    def image(self) -> dict[str, DiskFile]:
        """A copy of all files."""
        return {name: each.copy() for name, each in self.files.items()}

    def replace(self, image: dict[str, DiskFile]) -> None:
        """Another image is put in."""
        self.files = {name: each.copy() for name, each in image.items()}
        self.life += 1

    def is_durable(self) -> bool:
        """Whether nothing that SQLite believes to be in the log would be lost with the power.

        A log that was emptied after a checkpoint need not be: all of it is in the database.
        """
        return not any(
            name.endswith("-wal")
            and (each.lost or any(write.data is not None for write in each.unsynced[each.left_over :]))
            for name, each in self.files.items()
        )

    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(each.seen) for each in self.files.values())

    def rename(self, name: str, to: str) -> None:
        """Durable at once."""
        self.files[to] = self.files.pop(name)

    def renew(self, name: str) -> None:
        """Write a file anew, sync it, and put it in the place of the old one."""
        renewed = DiskFile()
        if self.operate(f"{name}.renewed", "write") is Trouble.EIO:
            raise apsw.IOError("a write failed")
        if self.full:
            raise apsw.FullError("no space left on the disk")
        renewed.write(0, bytes(self.files[name].seen))
        if self.operate(f"{name}.renewed", "sync") is Trouble.SYNC:
            raise apsw.IOError("a sync failed")
        renewed.sync()
        self.files[name] = renewed

    # -- what files ask

    def operate(self, name: str, what: str) -> Trouble | None:
        """Number one operation; raises where it fails, gives what else happens to it."""
        if not self.answers:
            raise apsw.IOError("the disk does not answer")
        number = self.operations
        self.operations += 1
        if self.recording:
            self.names.append(f"{what} {name.rpartition('/')[2]}")
        trouble = self.troubles.pop(number, None)
        if isinstance(trouble, Cut):
            self.cut_power(trouble)
            raise apsw.IOError("the power went")
        if trouble is Trouble.FULL:
            raise apsw.FullError("no space left on the disk")
        return trouble


class _Open:
    """An open file, as SQLite sees it."""

    def __init__(self, disk: Disk, name: str, *, delete: bool) -> None:
        self._disk = disk
        self._name = name
        self._life = disk.life
        self._delete = delete
        self._file = disk.files.setdefault(name, DiskFile())

    def xRead(self, amount: int, offset: int) -> bytes:
        if not self._disk.answers:
            raise apsw.IOError("the disk does not answer")
        return bytes(self._file.seen[offset : offset + amount])

    def _is_of_the_past(self) -> bool:
        """The process that opened it is gone; what its connection does while it is taken apart reaches nothing."""
        return self._life != self._disk.life

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._is_of_the_past():
            return
        trouble = self._disk.operate(self._name, "write")
        if trouble is Trouble.EIO:
            raise apsw.IOError("a write failed")
        if self._disk.full and offset + len(data) > len(self._file.seen):
            self._file.left_over = len(self._file.unsynced)  # of a transaction that is taken back now
            raise apsw.FullError("no space left on the disk")
        self._file.write(offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        if self._is_of_the_past():
            return
        self._disk.operate(self._name, "truncate")
        if size < len(self._file.seen):
            self._file.truncate(size)

    def xSync(self, flags: int) -> None:
        if self._is_of_the_past():
            return
        trouble = self._disk.operate(self._name, "sync")
        if trouble is Trouble.SYNC:
            self._file.fail_to_sync()
            raise apsw.IOError("a sync failed")
        self._file.sync()

    def xFileSize(self) -> int:
        return len(self._file.seen)

    def xClose(self) -> None:
        if self._delete and not self._is_of_the_past():
            self._disk.files.pop(self._name, None)

    def xLock(self, level: int) -> None:
        """One process has one disk."""

    def xUnlock(self, level: int) -> None:
        """One process has one disk."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        """A write leaves the bytes beside it alone: what SQLite assumes of every disk by default."""
        return int(apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE)

    xFileControl = staticmethod(operator.is_)
    """No control is known (False), said without Python: SQLite asks at every statement, 14,000 times a seed."""


_numbers = count(1)


class DiskVfs(apsw.VFS):
    """The file system that the SQLite of one process sees."""

    def __init__(self, disk: Disk) -> None:
        self.name = f"world-disk-{next(_numbers)}"
        self._disk = disk
        self._life = disk.life
        super().__init__(self.name, "")

    def xOpen(self, name: object, flags: list[int]) -> _Open:  # type: ignore[override]
        if not self._disk.answers:
            raise apsw.CantOpenError("the disk does not answer")
        flags[1] = flags[0]
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        delete = bool(flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE)
        return _Open(self._disk, str(path or f"temporary-{next(_numbers)}"), delete=delete)

    def xDelete(self, name: str, sync: bool) -> None:
        if self._disk.dead:
            raise apsw.IOError("the disk does not answer")
        if self._life == self._disk.life:
            self._disk.files.pop(name, None)

    def xAccess(self, name: str, flags: int) -> bool:
        return name in self._disk.files

    def xFullPathname(self, name: str) -> str:
        return name
