"""The tables of what is known of time beside labels: implements `agent.service.clocking.ClockRecords`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.adapters.journal.connection import Connection
from agent.adapters.journal.names import Names
from agent.adapters.journal.rows import NOTHING_KNOWN, UNKNOWN_BOOT, integer, integer_or_none, text
from agent.adapters.journal.sums import COLUMNS, judge, sum_of
from agent.metering.interval import Moment
from agent.service.clocking import Stretch


class ClockTables:
    """A part of `SqliteJournal`, which gives it the connection."""

    _db: Connection

    if TYPE_CHECKING:

        def _names(self) -> Names:
            """What rows point to."""

    def clock_stretches(self) -> tuple[Stretch, ...]:
        judge(self._db, "clock_stretches")
        rows = self._db.execute(
            "SELECT b.name, c.chain, c.seq_from, c.seq_to, c.offset_ms, c.sync FROM clock_stretches c"
            " JOIN boots b ON b.id = c.boot ORDER BY c.id"
        )
        return tuple(
            Stretch(
                text(row[0]),
                text(row[1]),
                integer(row[2]),
                integer_or_none(row[3]),
                integer(row[4]),
                text(row[5]),
            )
            for row in rows
        )

    def save_clock_stretches(self, stretches: Sequence[Stretch]) -> None:
        self._db.execute("DELETE FROM clock_stretches")
        for each in stretches:
            boot = self._boot_id(each.boot)
            values = (boot, each.chain, each.seq_from, each.seq_to, each.offset_ms, each.sync)
            self._db.execute(
                f"INSERT INTO clock_stretches ({COLUMNS['clock_stretches']}, sum) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, sum_of(values)),
            )

    def _moment_columns(self, when: Moment | None) -> tuple[int | None, int | None, int | None]:
        """The columns `boot`, `up_ms` and `err_ms`.

        That nothing is known of a time, not even its label, is no empty row: such a row says that nothing was kept
        beside the label, and the label is believed.
        """
        if when is None:
            return None, None, None
        name = UNKNOWN_BOOT if when == NOTHING_KNOWN else when.boot
        return None if name is None else self._boot_id(name), when.up_ms, when.err_ms

    def _boot_id(self, name: str) -> int:
        """The row of a start of the machine, made where it is new."""
        return self._names().boot_id(name)
