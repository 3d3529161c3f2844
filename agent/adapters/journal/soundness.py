"""Whether a journal that was not left in good order can be believed.

SQLite's own check sees the shape of its pages. Beyond it the same things are told twice in a journal, and have to
agree: where the chain stands and the newest batch, where each meter stands, its newest reading and its newest delta.

Where something seemed to be damaged while the agent ran, all of the file is read and judged (`check_all`): what is
found again is damage, and what is not was something else.
"""

from agent.adapters.journal.connection import Connection
from agent.adapters.journal.rows import integer, text
from agent.adapters.journal.sealed import (
    WITH_TEXT,
    batch_in,
    batch_of,
    check_place,
    descriptor_in,
    descriptor_of,
)
from agent.adapters.journal.sqlite import SqliteJournal
from agent.adapters.journal.sums import COLUMNS, judge
from agent.errors import JournalDamaged
from agent.service.journal import KeptBatch

_NEWEST = 16
"""So many batches are opened; each interval has a delta of every meter that could be read."""


_PAGE = 64
_OURS = "substr(m.name, 1, 7) NOT IN ('sqlite_', 'former_')"
"""Tables of a former version stay until they have been carried over."""
_SHAPE = (
    f"SELECT m.type || ' ' || m.name FROM sqlite_schema m WHERE {_OURS} UNION ALL"
    " SELECT m.name || '.' || c.name || ' ' || c.type FROM sqlite_schema m JOIN pragma_table_info(m.name) c"
    f" WHERE m.type = 'table' AND {_OURS}"
)


_TOTALS_THAT_DIFFER = (
    "SELECT 1 FROM (SELECT told - lag(told, 1, 0) OVER (ORDER BY ordinal) AS more FROM batches WHERE superseded = 0)"
    " WHERE more <> 1 LIMIT 1"
)


def shape_of(connection: Connection) -> frozenset[str]:
    """The names of its tables, columns, indices and triggers. A text of SQL may differ between versions of SQLite."""
    return frozenset(text(row[0]) for row in connection.execute(_SHAPE))


def wording_of(connection: Connection) -> frozenset[str]:
    """What its tables, indices and triggers say of themselves, conditions and references too; less what is only form.

    Versions of SQLite differ in spaces and quotation marks where they rewrite such a text. Rot in one is met by the
    first row that it forbids, which may be much later, and again at each start.
    """
    found = connection.execute(f"SELECT m.sql FROM sqlite_schema m WHERE {_OURS} AND m.sql IS NOT NULL")
    return frozenset("".join(text(row[0]).replace('"', "").split()).lower() for row in found)


def check(connection: Connection, journal: SqliteJournal) -> None:
    """Judge the whole file's form, and of its content what the next interval builds on. Raises JournalDamaged."""
    answer = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
    if answer != ["ok"]:
        raise JournalDamaged(f"the journal fails its check: {'; '.join(map(str, answer))}")
    for table in COLUMNS:
        judge(connection, table)
    journal.latest_descriptor()
    _check_chain(connection, journal)
    _check_heads(connection, journal)


def check_all(connection: Connection, journal: SqliteJournal) -> None:
    """Read and judge everything. Takes a minute for a gigabyte, little memory. Raises JournalDamaged."""
    check(connection, journal)
    answer = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    if answer != ["ok"] or connection.execute("PRAGMA foreign_key_check"):
        raise JournalDamaged(f"the journal fails its whole check: {'; '.join(map(str, answer))}")
    for read in (
        journal.memories,
        journal.doubts,
        journal.orders,
        journal.clock_stretches,
        journal.statements,
        journal.key_uses,
        journal.refused_chains,
    ):
        read()
    for row in connection.execute("SELECT hash, rev, jws FROM descriptors"):
        kept = descriptor_in([row])
        assert kept is not None
        descriptor_of(kept)
    last = 0
    while receipts := journal.acknowledgements(after_day=last, limit=_PAGE):
        last = receipts[-1].day
    journal.check_readings()
    _check_batches(journal)
    if connection.execute(_TOTALS_THAT_DIFFER):
        raise JournalDamaged("the running totals of the batches in the journal do not add up")


def _check_batches(journal: SqliteJournal) -> None:
    """Each is what its hash says and what its row says of it, and follows the one before it."""
    before: KeptBatch | None = None
    last, end = 0, journal.last_ordinal()
    while page := journal.batches_between(after_ordinal=last, up_to_ordinal=end, limit=_PAGE):
        for kept in page:
            check_batch(kept, before)
            before, last = kept, kept.ordinal


def check_batch(kept: KeptBatch, before: KeptBatch | None) -> None:
    """Judge one, and whether it follows the one before it where that is of its chain. Raises JournalDamaged."""
    head = kept.head
    follows = before is not None and (before.head.chain, before.head.seq + 1) == (head.chain, head.seq)
    if follows and before is not None and kept.prev != before.head.hash:
        raise JournalDamaged(
            f"batch {head.chain}/{head.seq} in the journal does not follow the one before it"
        )
    if kept.jws is None:
        if kept.stored_ms is None and not kept.superseded:
            kept.sealed_text()  # only what was acknowledged is purged
        return
    check_place(kept)


def _check_chain(connection: Connection, journal: SqliteJournal) -> None:
    """The own head is the newest batch, unless a chain was opened in which nothing is sealed yet."""
    own = journal.state().head
    if own is None:
        return
    rows = connection.execute("SELECT chain, seq, hash FROM batches ORDER BY ordinal DESC LIMIT 1")
    if not rows or (text(rows[0][0]), integer(rows[0][1]), text(rows[0][2])) != (
        own.chain,
        own.seq,
        own.hash,
    ):
        raise JournalDamaged("the own head is not the newest batch")


def _check_heads(connection: Connection, journal: SqliteJournal) -> None:
    """A position is the newest reading and ends the newest delta; one that the platform gave is neither yet."""
    heads = {id: head for id, head in journal.heads().items() if not head.restored}
    is_behind = journal.retelling() is not None  # positions are where a restored chain has told
    if not heads and not is_behind and connection.execute("SELECT 1 FROM cuts LIMIT 1"):
        raise JournalDamaged("there are readings, and no meter has a position")
    for meter, newest in ({} if is_behind else journal.newest_readings(_NEWEST)).items():
        head = heads.get(meter)
        if head is not None and (head.at_ms, head.register_milliwh) != newest:
            raise JournalDamaged(f"the position of {meter} is not its newest reading")
    seen: set[str] = set()
    booked = {id for id, head in heads.items() if head.n}
    rows = connection.execute(f"{WITH_TEXT} WHERE t.jws IS NOT NULL ORDER BY b.ordinal DESC LIMIT {_NEWEST}")
    for kept in map(batch_in, rows):
        if seen >= booked:
            continue  # it is what its hash says, and no more has to be known of it
        for delta in reversed(batch_of(kept).deltas):
            head = heads.get(delta.meter)
            if head is None or delta.meter in seen or delta.epoch < head.epoch:
                continue
            seen.add(delta.meter)
            if head.n and (delta.epoch, delta.n, delta.reg_end) != (
                head.epoch,
                head.n,
                head.register_milliwh,
            ):
                raise JournalDamaged(f"the position of {head.meter} does not end its newest delta")
