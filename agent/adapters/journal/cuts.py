"""The readings in the journal: one row for each boundary, all its meters packed together.

A row for each reading, and an index by meter, touched a page per meter at every boundary: ten times the bytes that a
flash card should take in a day (decision 0021). A boundary's row is found by its number or by its time, and in it a
meter by its place; nobody reads a day of one meter often enough to pay for more.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from agent.adapters.journal.connection import Connection, Row
from agent.adapters.journal.names import Names
from agent.adapters.journal.packing import Packer, Unpacker, check_value
from agent.adapters.journal.rows import blob, integer, join_words, moment_of, split_words
from agent.errors import JournalDamaged
from agent.metering.interval import Moment
from agent.metering.ledger import Head, Point
from agent.service.journal import Reading

READINGS_MAX = 512
"""So many readings in one row; more are only written when a damaged journal is salvaged."""
_CHUNK = 64
ROW = "SELECT id, at_from, at_to, crc, data FROM cuts"
"""What a boundary's readings are read by."""
AT_TIME = "SELECT id FROM cuts INDEXED BY cuts_by_time WHERE at_to >= ?1 AND at_from <= ?1 ORDER BY id"
"""The boundaries in which something was read at a time: by the index, which is a twentieth of the table."""


class Kept(NamedTuple):
    """One reading as it is kept; meters, bases, descriptors and starts of the machine by their ids."""

    meter: int
    at_ms: int
    cut_ms: int
    register_milliwh: int
    words: bytes
    basis: int
    descriptor: int
    flags: str
    opens: str | None
    boot: int | None
    up_ms: int | None
    err_ms: int | None


@dataclass(slots=True)
class Unwritten:
    """What one transaction has to say, written when it is committed or asked for."""

    names: Names
    readings: list[Kept]
    heads: dict[str, Head] | None = None
    heads_changed: bool = False


class CutTables:
    """A part of `SqliteJournal`; the methods' promises are those of `agent.service.journal.Journal`."""

    _db: Connection
    _unwritten: Unwritten | None

    if TYPE_CHECKING:

        def _moment_columns(self, when: Moment | None) -> tuple[int | None, int | None, int | None]:
            """The columns `boot`, `up_ms` and `err_ms`."""

        def transaction(self) -> AbstractContextManager[None]:
            """All or nothing."""

        def _names(self) -> Names:
            """What rows point to."""

        def _last_acknowledged_reading(self) -> int:
            """The newest reading of which all that was ever sealed is acknowledged; 0 if there is none."""

    def add_reading(self, reading: Reading) -> None:
        unwritten = self._unwritten
        assert unwritten is not None, "only in a transaction"
        names, point = unwritten.names, reading.point
        descriptor = names.descriptor_id(reading.cfg)
        if descriptor is None:
            raise JournalDamaged(f"the descriptor {reading.cfg} of a reading is not in the journal")
        unwritten.readings.append(
            Kept(
                names.meter_id(point.meter),
                point.at_ms,
                point.cut_ms,
                point.register_milliwh,
                join_words(reading.words),
                names.basis_id(point.basis),
                descriptor,
                " ".join(sorted(point.flags)),
                point.opens,
                *self._moment_columns(point.when),
            )
        )
        if len(unwritten.readings) >= READINGS_MAX:
            self._write_readings()

    def _write_readings(self) -> None:
        """Put what was read in this transaction into the file, so that it can be found there."""
        if self._unwritten is None or not self._unwritten.readings:
            return
        readings, self._unwritten.readings = self._unwritten.readings, []
        add_cut(self._db, self._last_reading() + len(readings), readings, self._names())

    def _last_reading(self) -> int:
        """The number of the newest reading, 0 if there is none."""
        return integer(self._db.execute("SELECT coalesce(max(id), 0) FROM cuts")[0][0])

    def readings(self, meter: str, *, after: Head | None, limit: int | None = None) -> list[Reading]:
        self._write_readings()
        row = self._names().known_meter(meter)
        if not row:
            return []
        if after is None:
            return self._readings(meter, islice(self._from(row, 0), limit))
        found = self._place_of(row, after.at_ms, after.register_milliwh)
        if found is None:
            return []
        id, rest = found
        return self._readings(meter, islice(chain(rest, self._from(row, id)), limit))

    def _place_of(self, meter: int, at_ms: int, register_milliwh: int) -> tuple[int, list[Kept]] | None:
        """The first boundary with a reading of just this time and register, and the meter's readings from it on."""
        for (id,) in self._db.execute(AT_TIME, (at_ms,)):
            ((_, kept),) = _cuts(self._db.execute(f"{ROW} WHERE id = ?", (integer(id),)), meter)
            for place, each in enumerate(kept):
                if (each.at_ms, each.register_milliwh) == (at_ms, register_milliwh):
                    return integer(id), kept[place:]
        return None

    def boundaries(self, *, after: int, limit: int) -> list[tuple[int, list[Reading]]]:
        self._write_readings()
        names = self._names()
        rows = self._db.execute(f"{ROW} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [(integer(row[0]), readings_in(row, names)) for row in rows]

    def boundary_before(self, meter: str, at_ms: int, register_milliwh: int) -> int:
        self._write_readings()
        found = self._place_of(self._names().known_meter(meter), at_ms, register_milliwh)
        if found is None:
            return 0
        rows = self._db.execute("SELECT coalesce(max(id), 0) FROM cuts WHERE id < ?", (found[0],))
        return integer(rows[0][0])

    def last_reading(self) -> int:
        self._write_readings()
        return self._last_reading()

    def readings_unacknowledged(self, meter: str) -> tuple[Reading | None, list[Reading]]:
        self._write_readings()
        row, last = self._names().known_meter(meter), self._last_acknowledged_reading()
        anchor = self._latest(row, last)
        rest = self._readings(meter, self._from(row, last)) if row else []
        return self._reading(meter, anchor), rest

    def readings_around(self, meter: str, at_ms: int) -> tuple[Reading | None, Reading | None]:
        self._write_readings()
        row, before = self._names().known_meter(meter), self._boundary_before(at_ms)
        if not row:
            return None, None
        former: Kept | None = None
        for each in self._from(row, before):
            if each.at_ms >= at_ms:
                break
            former = each
        else:
            return self._reading(meter, former or self._latest(row, before)), None
        return self._reading(meter, former or self._latest(row, before)), self._reading(meter, each)

    def _boundary_before(self, at_ms: int) -> int:
        """The number of the last boundary that was over before a time, found by halving; 0 if there is none."""
        low, high = 0, self._last_reading()
        while low < high:
            middle = (low + high + 1) // 2
            rows = self._db.execute(
                "SELECT id, at_to FROM cuts WHERE id <= ? ORDER BY id DESC LIMIT 1", (middle,)
            )
            if not rows or integer(rows[0][1]) < at_ms:
                low = middle
            else:
                high = integer(rows[0][0]) - 1
        return low

    def _from(self, meter: int, id: int) -> Iterator[Kept]:
        """The meter's readings of all later boundaries, oldest first."""
        while rows := self._db.execute(f"{ROW} WHERE id > ? ORDER BY id LIMIT {_CHUNK}", (id,)):
            for _, kept in _cuts(rows, meter):
                yield from kept
            id = integer(rows[-1][0])

    def _latest(self, meter: int, id: int) -> Kept | None:
        """The meter's last reading up to a number."""
        if not meter:
            return None
        id += 1
        while rows := self._db.execute(f"{ROW} WHERE id < ? ORDER BY id DESC LIMIT {_CHUNK}", (id,)):
            for _, kept in _cuts(rows, meter):
                if kept:
                    return kept[-1]
            id = integer(rows[-1][0])
        return None

    def _readings(self, meter: str, kept: Iterable[Kept]) -> list[Reading]:
        names = self._names()
        return [_reading(meter, each, names) for each in kept]

    def _reading(self, meter: str, kept: Kept | None) -> Reading | None:
        return None if kept is None else _reading(meter, kept, self._names())

    def newest_readings(self, boundaries: int) -> dict[str, tuple[int, int]]:
        """The newest time and register of every meter that was read in the last so many boundaries."""
        self._write_readings()
        rows = self._db.execute(f"{ROW} ORDER BY id DESC LIMIT ?", (boundaries,))
        names = self._names()
        return {
            names.meter(kept.meter): (kept.at_ms, kept.register_milliwh)
            for _, cut in _cuts(list(reversed(rows)))
            for kept in cut
        }

    def check_readings(self) -> None:
        """Read them all. Raises JournalDamaged where one is not as it was written."""
        after: int | None = 0
        while after is not None:
            after = self.check_some_readings(after)

    def check_some_readings(self, after: int) -> int | None:
        """Read those of some boundaries behind a number; gives the number to go on behind, None at the end."""
        rows = self._db.execute(f"{ROW} WHERE id > ? ORDER BY id LIMIT {_CHUNK}", (after,))
        names = self._names()
        for _, cut in _cuts(rows):
            for kept in cut:
                _reading(names.meter(kept.meter), kept, names)
        return integer(rows[-1][0]) if rows else None

    # -- retention

    def _purge_readings(self, up_to: int) -> None:
        """Drop readings whose batches are gone, by their numbers and never by time, which somebody can set.

        The first and last reading of every epoch stay, and the one at which the oldest delta that is kept begins.
        """
        self._write_readings()
        names = self._names()
        rows = self._db.execute(f"{ROW} WHERE id <= ? AND settled = 0 ORDER BY id", (up_to,))
        later: dict[int, Kept] = {}
        rest: list[tuple[int, list[Kept], bool]] = []
        for id, cut in _cuts(list(reversed(rows))):
            kept, is_settled = _turning_points(cut, later)
            if kept:
                rest.append((id, kept, is_settled))
        # All at once: a page that is emptied by one statement is never written again.
        self._db.execute("DELETE FROM cuts WHERE id <= ? AND settled = 0", (up_to,))
        for id, kept, is_settled in rest:
            add_cut(self._db, id, kept, names, is_settled=is_settled)


def _turning_points(cut: Sequence[Kept], later: dict[int, Kept]) -> tuple[list[Kept], bool]:
    """What stays of a boundary, and whether that is for ever; `later` are the readings that follow, by meter.

    A meter's last reading stays as well, until a later one is purged.
    """
    kept: list[Kept] = []
    is_settled = True
    for each in reversed(cut):
        following = later.get(each.meter)
        later[each.meter] = each
        if each.opens is not None or (following is not None and following.opens is not None):
            kept.append(each)
        elif following is None:
            kept.append(each)
            is_settled = False
    return kept[::-1], is_settled


def add_cut(
    db: Connection, id: int, readings: Sequence[Kept], names: Names, *, is_settled: bool = False
) -> None:
    """Write one row. `id` is the number of its last reading."""
    times = [each.at_ms for each in readings]
    at_from, at_to, data = min(times), max(times), packed(readings, names)
    crc = check_value(data, id, at_from, at_to)
    db.execute(
        "INSERT INTO cuts (id, at_from, at_to, settled, crc, data) VALUES (?, ?, ?, ?, ?, ?)",
        (id, at_from, at_to, int(is_settled), crc, data),
    )


def packed(readings: Sequence[Kept], names: Names) -> bytes:
    """Readings as one value.

    A register nearly always is its words times the energy of a count: then it is kept as that factor.
    """
    factors = {0: 0}
    remarks: dict[tuple[str, str | None], int] = {}
    words, rests, factor_of = [], [], []
    for each in readings:
        counts = int.from_bytes(each.words, "big")
        exact = names.basis(each.basis).per_count_milliwh
        follows = exact.denominator == 1 and counts * exact.numerator == each.register_milliwh
        factor = exact.numerator if follows else 0
        factor_of.append(factors.setdefault(factor, len(factors)))
        words.append(counts)
        rests.append(0 if follows else each.register_milliwh)
    out = Packer()
    out.number(len(readings))
    remark_of = [remarks.setdefault((each.flags, each.opens), len(remarks)) for each in readings]
    out.number(len(remarks))
    for flags, opens in remarks:
        out.text(flags)
        out.text(opens)
    out.number(len(factors) - 1)
    for factor in list(factors)[1:]:
        out.number(factor)
    ups = [each.at_ms - each.up_ms for each in readings if each.up_ms is not None] or [0]
    errs = [each.err_ms for each in readings if each.err_ms is not None] or [0]
    for column in (
        [each.meter for each in readings],
        [each.at_ms for each in readings],
        [each.cut_ms for each in readings],
        [len(each.words) for each in readings],
        words,
        factor_of,
        rests,
        [each.basis for each in readings],
        [each.descriptor for each in readings],
        remark_of,
        [each.boot or 0 for each in readings],
        [(each.up_ms is not None) + 2 * (each.err_ms is not None) for each in readings],
        [ups[0] if each.up_ms is None else each.at_ms - each.up_ms for each in readings],
        [errs[0] if each.err_ms is None else each.err_ms for each in readings],
    ):
        out.column(column)
    return out.bytes()


def unpacked(data: bytes, meter: int | None = None) -> list[Kept]:
    """The readings of one meter, or all, in their order. Raises JournalDamaged."""
    given = Unpacker(data)
    count = given.number()
    remarks = [(given.text() or "", given.text()) for _ in range(given.number())]
    factors = [0, *(given.number() for _ in range(given.number()))]
    meters = given.column(count)
    places = range(count) if meter is None else meters.places(meter, count)
    if not places:
        return []
    at, cut, sizes, words, factor_of, rests, basis, descriptor, remark, boot, known, up, err = (
        given.column(count) for _ in range(13)
    )
    given.end()
    found = []
    for place in places:
        flags, opens = remarks[remark[place]]
        counts, at_ms, is_known = words[place], at[place], known[place]
        found.append(
            Kept(
                meters[place],
                at_ms,
                cut[place],
                counts * factors[factor_of[place]] + rests[place],
                counts.to_bytes(sizes[place], "big"),
                basis[place],
                descriptor[place],
                flags,
                opens,
                boot[place] or None,
                at_ms - up[place] if is_known & 1 else None,
                err[place] if is_known & 2 else None,
            )
        )
    return found


def _cuts(rows: Iterable[Row], meter: int | None = None) -> Iterator[tuple[int, list[Kept]]]:
    """Rows of `cuts` with their readings, of one meter or of all. Raises JournalDamaged where one has changed."""
    for row in rows:
        id, at_from, at_to, crc = (integer(value) for value in row[:4])
        data = blob(row[4])
        if check_value(data, id, at_from, at_to) != crc:
            raise JournalDamaged(f"the readings up to number {id} in the journal are not what was written")
        yield id, unpacked(data, meter)


def readings_in(row: Row, names: Names) -> list[Reading]:
    """The readings of one boundary, by a row of `ROW`. Raises JournalDamaged where it is not what was written."""
    ((_, kept),) = _cuts([row])
    return [_reading(names.meter(each.meter), each, names) for each in kept]


def _reading(meter: str, kept: Kept, names: Names) -> Reading:
    boot = None if kept.boot is None else names.boot(kept.boot)
    point = Point(
        meter=meter,
        at_ms=kept.at_ms,
        cut_ms=kept.cut_ms,
        register_milliwh=kept.register_milliwh,
        basis=names.basis(kept.basis),
        flags=frozenset(kept.flags.split()),
        opens=kept.opens,
        when=moment_of((boot, kept.up_ms, kept.err_ms)),
    )
    return Reading(point, split_words(kept.words), names.descriptor(kept.descriptor))
