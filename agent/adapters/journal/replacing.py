"""Opening the journal or, where it is damaged, putting a new one in its place.

A journal is only replaced on evidence: SQLite cannot read its pages, its tables are not those of its version, a
check of what is in it fails, or the disk has lost bytes of it. A full disk, missing rights, a disk that fails for a
while and a fault of this program are no evidence, however often they come: the start fails and the next one tries
again. What a former run believed is none either; it makes this start judge everything (`opening.open_at`, thoroughly).

The new journal is made and synced beside the old one, filled with what the old one still proves (`salvage`), and then
they change places: the old database goes first, then its log, then the new one comes. A start that finds the place
empty and a new journal beside it completes that: there is no moment at which an old database could be opened without
its log, or a new one with the log of the old.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.adapters.journal.files import Files, FolderFiles
from agent.adapters.journal.opening import Place, open_at
from agent.adapters.journal.salvage import Salvaged, salvage
from agent.adapters.journal.sqlite import SqliteJournal
from agent.errors import JournalDamaged, JournalDoubtful, JournalFailed, JournalFull

T = TypeVar("T")
FAILURES_MAX = 3
"""After so many failed starts in a row it is asked whether the disk has lost bytes of the file."""
_LOGS = ("-wal", "-shm")
_DAMAGED = "damaged: "
_FAILED = "failed "


@dataclass(frozen=True, slots=True)
class Opened:
    """An open journal.

    `aside` is where a damaged one was moved to, None if it was sound; `salvaged` what was in it. `cleared` is what the
    last run believed of a journal that was then judged and found sound.
    """

    journal: SqliteJournal
    aside: Path | None = None
    salvaged: Salvaged | None = None
    cleared: str | None = None


def open_or_replace(place: Place, wall_ms: int, *, platform_answers: bool = True) -> Opened:
    """Open the journal; one that is damaged is moved aside, never deleted, and a new one takes its place.

    The new one holds what could be salvaged: the points that whole batches tell of. The registers are in the meters
    and the platform knows where it stands, so a new journal costs resolution of what was not yet acknowledged, and no
    energy.

    Args:
        place: the journal.
        wall_ms: names the damaged file.
        platform_answers: whether there is a platform that can say where to go on; then it is asked before anything
            that was salvaged is told.

    Raises what `open_at` raises, but JournalDamaged only where a new journal can be made neither.
    """
    _complete(place, wall_ms)
    note = place.files.marked(place.mark)
    failures, suspicion = _meaning_of(note or "")
    try:
        opened = _open_or_replace_damaged(place, wall_ms, suspicion, platform_answers=platform_answers)
    except JournalDoubtful:
        raise
    except JournalFailed:
        failures = min(failures + 1, FAILURES_MAX)
        with suppress(JournalFailed):  # what failed first is what is told
            place.files.mark(place.mark, _note(failures, suspicion))
        if failures < FAILURES_MAX or not _has_lost_bytes(place):
            raise
        opened = _replace(place, wall_ms, platform_answers, has_lost_bytes=True)
    if note is not None or opened.aside is not None:
        place.files.remove(place.mark)
    try:
        opened.journal.keep_room()
    except BaseException:
        opened.journal.close()
        raise
    return opened


def _open_or_replace_damaged(
    place: Place, wall_ms: int, suspicion: str | None, *, platform_answers: bool
) -> Opened:
    """Open it, or replace what SQLite or our own checks call damaged.

    Raises JournalFailed where the disk failed at either: then what it did not give is not lost yet.
    """
    try:
        return Opened(_open(place, thoroughly=suspicion is not None), cleared=suspicion)
    except (JournalDoubtful, JournalFailed):
        raise
    except JournalDamaged:
        if not place.files.exists(place.path):
            raise
        return _replace(place, wall_ms, platform_answers)


def _open(place: Place, *, thoroughly: bool) -> SqliteJournal:
    """Open it; where a statement is refused all of it is judged at once, because no run comes so far as to ask for it.

    Rot in the text of a table is met by the first statement that SQLite has to translate for it (world seed 30126).
    """
    if not thoroughly:
        with suppress(JournalDoubtful):
            return _with_room(place, partial(open_at, place))
    return _with_room(place, partial(open_at, place, thoroughly=True))


def note_damage(place: Place, error: JournalDamaged) -> None:
    """Leave word for the next start that stored data seemed to be damaged while the agent ran: it judges all of it.

    Not where the disk failed: then only the next start can tell. A mark that cannot be written is no new trouble: the
    next run finds the same.
    """
    if isinstance(error, JournalFailed):
        return
    with suppress(JournalFailed):
        place.files.mark(place.mark, _note(0, str(error)))


def set_aside(path: Path, why: str, files: Files | None = None) -> Path:
    """Rename a closed journal, with its write-ahead log, to `NAME.WHY` or what is free of it; gives the new path.

    The database goes first: where this ends half-way the next start finds no journal, and no journal without its log.
    """
    files = files or FolderFiles()
    aside = _free_name(path, why, files)
    for suffix in ("", *_LOGS):
        part = _with(path, suffix)
        if files.exists(part):
            files.move(part, _with(aside, suffix))
    return aside


def _note(failures: int, suspicion: str | None) -> str:
    return _FAILED * failures + ("" if suspicion is None else f"{_DAMAGED}{suspicion}")


def _meaning_of(note: str) -> tuple[int, str | None]:
    """How many starts in a row have failed, and what damage is suspected."""
    rest = note
    while rest.startswith(_FAILED):
        rest = rest.removeprefix(_FAILED)
    failures = (len(note) - len(rest)) // len(_FAILED)
    return failures, rest.removeprefix(_DAMAGED) if rest.startswith(_DAMAGED) else None


def _free_name(path: Path, why: str, files: Files) -> Path:
    """A name under which nothing lies: a clock that stands still must not make one file replace another."""
    aside, number = path.with_name(f"{path.name}.{why}"), 1
    while any(files.exists(_with(aside, suffix)) for suffix in ("", *_LOGS)):
        number += 1
        aside = path.with_name(f"{path.name}.{why}-{number}")
    return aside


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _complete(place: Place, wall_ms: int) -> None:
    """Finish the change of places that a former run began, and drop a new journal that never came to it."""
    files = place.files
    if files.exists(place.path):
        if files.exists(place.begun):
            _drop_begun(place)
        return
    if any(files.exists(_with(place.path, suffix)) for suffix in _LOGS):
        set_aside(place.path, f"damaged-{wall_ms}", files)  # a log without its database is nobody's
    if files.exists(place.begun):
        files.move(place.begun, place.path)


def _drop_begun(place: Place) -> None:
    for suffix in (*_LOGS, ""):
        place.files.remove(_with(place.begun, suffix))


def _has_lost_bytes(place: Place) -> bool:
    return place.files.exists(place.path) and not place.files.is_readable(place.path)


def _replace(place: Place, wall_ms: int, platform_answers: bool, *, has_lost_bytes: bool = False) -> Opened:
    """Make a new journal beside the damaged one, and let them change places when it is whole and on the disk.

    Where the disk seems to have lost bytes of the old one, that is asked again before: it wrote and synced a whole
    journal by then, so one that could not be read before for another reason than the file can be read now.
    """
    making = partial(_make_new, place, platform_answers, has_lost_bytes)
    salvaged = _with_room(place, making)
    if has_lost_bytes and not _has_lost_bytes(place):
        _drop_begun(place)
        raise JournalFailed(f"{place.path}: could not be read, and now it can")
    aside = set_aside(place.path, f"damaged-{wall_ms}", place.files)
    place.files.move(place.begun, place.path)
    return Opened(open_at(place), aside, salvaged)


def _with_room(place: Place, work: Callable[[], T]) -> T:
    """Do the work; where there is no room for it, once more without the ballast: a start that fails frees nothing.

    A journal of a former version writes before anything else can make room.
    """
    try:
        return work()
    except JournalFull:
        room = place.room()
        if room is None or not room.release():
            raise
    return work()


def _make_new(place: Place, platform_answers: bool, has_lost_bytes: bool) -> Salvaged:
    _drop_begun(place)
    fresh = open_at(replace(place, path=place.begun))
    try:
        return salvage(
            place.path, place.connect, fresh, ask_first=platform_answers, has_lost_bytes=has_lost_bytes
        )
    finally:
        fresh.close()
