"""The simulated disk keeps what was synced, and of the rest what the power cut leaves."""

from dataclasses import replace

import pytest

from agent.adapters.journal import SqliteJournal, open_journal
from agent.errors import JournalDamaged, JournalFull
from simulators.world.disk import Cut, Disk, DiskFile, DiskVfs, Keep, Trouble
from simulators.world.storage import JOURNAL, WorldConnection


def journal_on(disk: Disk) -> SqliteJournal:
    vfs = DiskVfs(disk)
    return open_journal(JOURNAL, lambda _: WorldConnection(vfs))


def put(journal: SqliteJournal, number: int) -> None:
    with journal.transaction():
        journal.save_state(replace(journal.state(), seq=number))


def written(*pieces: tuple[int, bytes]) -> DiskFile:
    file = DiskFile()
    file.write(0, b"." * 1024)
    file.sync()
    for offset, data in pieces:
        file.write(offset, data)
    return file


@pytest.mark.fault("F51", "F52")
@pytest.mark.parametrize(
    ("cut", "left"),
    [
        (Cut(Keep.NONE), b"." * 1024),
        (Cut(Keep.ALL), b"a" * 512 + b"b" * 512),
        (Cut(Keep.ONE, 1), b"." * 512 + b"b" * 512),
        (Cut(Keep.TORN), b"a" * 512 + b"b" * 256 + b"." * 256),
    ],
)
def test_what_a_power_cut_leaves(cut: Cut, left: bytes) -> None:
    file = written((0, b"a" * 512), (512, b"b" * 512))
    assert bytes(file.seen) == b"a" * 512 + b"b" * 512
    file.lose_power(cut)
    assert bytes(file.seen) == bytes(file.durable) == left


@pytest.mark.fault("F51")
@pytest.mark.parametrize("keep", list(Keep))
def test_a_commit_survives(keep: Keep) -> None:
    disk = Disk()
    put(journal_on(disk), 7)
    assert disk.is_durable()
    disk.cut_power(Cut(keep, seed=3))
    disk.restart()
    assert journal_on(disk).state().seq == 7


@pytest.mark.fault("F52")
def test_with_less_than_full_synchronisation_it_does_not() -> None:
    disk = Disk()
    vfs = DiskVfs(disk)
    connection = WorldConnection(vfs)
    journal = open_journal(JOURNAL, lambda _: connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    put(journal, 7)
    assert not disk.is_durable()
    disk.cut_power(Cut(Keep.NONE))
    disk.restart()
    assert journal_on(disk).state().seq == 0


@pytest.mark.fault("F46")
def test_a_full_disk_changes_nothing() -> None:
    disk = Disk()
    journal = journal_on(disk)
    put(journal, 1)
    disk.full = True
    with pytest.raises(JournalFull):
        for number in range(2, 400):
            put(journal, number)
    before = journal.state().seq
    disk.full = False
    put(journal, before + 1)
    assert journal.state().seq == before + 1


@pytest.mark.fault("F49")
def test_what_a_failed_sync_should_have_kept_is_seen_until_the_power_goes() -> None:
    disk = Disk()
    journal = journal_on(disk)
    put(journal, 1)
    disk.troubles |= {disk.operations + each: Trouble.SYNC for each in range(4)}
    with pytest.raises(JournalDamaged, match="sync"):
        put(journal, 2)
    disk.troubles.clear()
    disk.end_process()
    again = journal_on(disk)
    assert not disk.is_durable()
    assert again.state().seq in (1, 2)
    disk.cut_power(Cut(Keep.ALL))
    disk.restart()
    assert journal_on(disk).state().seq == 1


def test_a_process_that_is_gone_writes_nothing_any_more() -> None:
    disk = Disk()
    old = journal_on(disk)
    put(old, 1)
    disk.end_process()
    new = journal_on(disk)
    put(new, 2)
    old.close()
    assert new.state().seq == 2
    disk.cut_power(Cut(Keep.NONE))
    disk.restart()
    assert journal_on(disk).state().seq == 2
