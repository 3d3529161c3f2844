"""Where every meter stands, in one row of the journal: read as a whole at each boundary, written once at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.cuts import Unwritten
from agent.adapters.journal.names import Names
from agent.adapters.journal.packing import Packer, Unpacker, check_value
from agent.adapters.journal.rows import blob, integer, moment_of
from agent.adapters.journal.sums import sum_of
from agent.errors import JournalDamaged
from agent.metering.interval import Moment
from agent.metering.ledger import Head, Run

_RESTORED, _SUSPECT, _HAS_RUN, _HAS_UP, _HAS_ERR = 1, 2, 4, 8, 16
_Columns = tuple[int | None, int | None, int | None]


@dataclass(frozen=True, slots=True)
class ReadPositions:
    """A row, and what it says: a boundary need not take apart the bytes that the one before it wrote.

    The row is read each time all the same; where it is another one, the file is right.
    """

    row: Row
    heads: dict[str, Head]


class PositionTables:
    """A part of `SqliteJournal`; the methods' promises are those of `agent.service.journal.Journal`."""

    _db: Connection
    _unwritten: Unwritten | None
    _read: ReadPositions | None

    if TYPE_CHECKING:

        def _moment_columns(self, when: Moment | None) -> _Columns:
            """The columns `boot`, `up_ms` and `err_ms`."""

        def _names(self) -> Names:
            """What rows point to."""

    def heads(self) -> dict[str, Head]:
        return dict(self._heads())

    def save_head(self, head: Head) -> None:
        unwritten = self._unwritten
        assert unwritten is not None, "only in a transaction"
        former = self._heads().get(head.meter)
        if former is not None and former.epoch < head.epoch:
            values = (unwritten.names.meter_id(head.meter), former.epoch, former.n)
            self._db.execute(
                "INSERT OR REPLACE INTO epoch_ends (meter, epoch, n, sum) VALUES (?, ?, ?, ?)",
                (*values, sum_of(values)),
            )
        assert unwritten.heads is not None
        unwritten.heads[head.meter] = head
        unwritten.heads_changed = True

    def drop_head(self, meter: str) -> None:
        unwritten = self._unwritten
        assert unwritten is not None, "only in a transaction"
        if self._heads().pop(meter, None) is not None:
            unwritten.heads_changed = True

    def _heads(self) -> dict[str, Head]:
        """As they are in the file, and in a transaction as they will be."""
        unwritten = self._unwritten
        if unwritten is not None and unwritten.heads is not None:
            return unwritten.heads
        self._read = read_positions(self._db, self._names(), self._read)
        heads = dict(self._read.heads)
        if unwritten is not None:
            unwritten.heads = heads
        return heads

    def _write_heads(self) -> None:
        """Put the positions that changed in this transaction into the file."""
        unwritten = self._unwritten
        if unwritten is None or unwritten.heads is None or not unwritten.heads_changed:
            return
        moments = [self._moment_columns(head.when) for head in unwritten.heads.values()]
        row = write_positions(self._db, unwritten.heads, moments, unwritten.names)
        self._read = ReadPositions(row, dict(unwritten.heads))
        unwritten.heads_changed = False


def write_positions(
    db: Connection, heads: Mapping[str, Head], moments: Sequence[_Columns], names: Names
) -> Row:
    """Replace the row, and give it. `moments` are what is known of the heads' times, in their order."""
    data = _packed(list(heads.values()), moments, names)
    row = (check_value(data, 1), data)
    db.execute("INSERT OR REPLACE INTO positions VALUES (1, ?, ?)", row)
    return row


def read_positions(db: Connection, names: Names, known: ReadPositions | None) -> ReadPositions:
    """The ledger's position of every meter ever read. Raises JournalDamaged where the row is not as it was written.

    Args:
        db: where they are.
        names: what they point to.
        known: what was read last, None if nothing was.
    """
    rows = db.execute("SELECT crc, data FROM positions")
    if not rows:
        return ReadPositions((), {})  # nothing was read yet
    (row,) = rows
    if known is not None and known.row == row:
        return known
    data = blob(row[1])
    if check_value(data, 1) != integer(row[0]):
        raise JournalDamaged("the positions of the meters in the journal are not what was written")
    return ReadPositions(row, {head.meter: head for head in _unpacked(data, names)})


def _packed(heads: Sequence[Head], moments: Sequence[_Columns], names: Names) -> bytes:
    cfgs: dict[str, int] = {}
    cfg_of = [cfgs.setdefault(head.cfg, len(cfgs)) for head in heads]
    out = Packer()
    out.number(len(heads))
    out.number(len(cfgs))
    for cfg in cfgs:
        out.text(cfg)
    ups = [head.at_ms - up for head, (_, up, _) in zip(heads, moments, strict=True) if up is not None] or [0]
    errs = [err for _, _, err in moments if err is not None] or [0]
    days = [head.run.day for head in heads if head.run is not None] or [0]
    for column in (
        [names.meter_id(head.meter) for head in heads],
        [
            (_RESTORED if head.restored else 0)
            + (_SUSPECT if head.suspect else 0)
            + (_HAS_RUN if head.run is not None else 0)
            + (_HAS_UP if up is not None else 0)
            + (_HAS_ERR if err is not None else 0)
            for head, (_, up, err) in zip(heads, moments, strict=True)
        ],
        [head.epoch for head in heads],
        [head.n for head in heads],
        [head.register_milliwh for head in heads],
        [head.at_ms for head in heads],
        [head.cut_ms for head in heads],
        [names.basis_id(head.basis) for head in heads],
        cfg_of,
        [0 if head.run is None else head.n - head.run.n_first for head in heads],
        [0 if head.run is None else head.register_milliwh - head.run.register_milliwh for head in heads],
        [0 if head.run is None else head.run.roll_milliwh for head in heads],
        [days[0] if head.run is None else head.run.day for head in heads],
        [boot or 0 for boot, _, _ in moments],
        [ups[0] if up is None else head.at_ms - up for head, (_, up, _) in zip(heads, moments, strict=True)],
        [errs[0] if err is None else err for _, _, err in moments],
    ):
        out.column(column)
    return out.bytes()


def _unpacked(data: bytes, names: Names) -> list[Head]:
    given = Unpacker(data)
    count = given.number()
    cfgs = [given.text() or "" for _ in range(given.number())]
    meter, known, epoch, n, register, at, cut, basis, cfg, run_n, run_register, roll, day, boot, up, err = (
        given.column(count) for _ in range(16)
    )
    given.end()
    heads = []
    for row in range(count):
        is_known, at_ms = known[row], at[row]
        run = Run(n[row] - run_n[row], register[row] - run_register[row], roll[row], day[row])
        when = moment_of(
            (
                names.boot(boot[row]) if boot[row] else None,
                at_ms - up[row] if is_known & _HAS_UP else None,
                err[row] if is_known & _HAS_ERR else None,
            )
        )
        heads.append(
            Head(
                meter=names.meter(meter[row]),
                epoch=epoch[row],
                n=n[row],
                register_milliwh=register[row],
                at_ms=at_ms,
                cut_ms=cut[row],
                basis=names.basis(basis[row]),
                cfg=cfgs[cfg[row]],
                restored=bool(is_known & _RESTORED),
                run=run if is_known & _HAS_RUN else None,
                suspect=bool(is_known & _SUSPECT),
                when=when,
            )
        )
    return heads
