"""A journal in its place, as the tests of replacing find it: what waits in it, what lies beside it, how it fails."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from agent.adapters.journal import Connection, Place, StdlibConnection, open_or_replace
from agent.adapters.journal.connection import Row, Value
from tests.service.bench import Bench

TURNS = 4


def a_place(folder: Path) -> Place:
    """A sound journal of a few intervals, left in no good order."""
    bench = Bench(folder)
    for turn in range(TURNS):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + turn})
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), clean=False))
    bench.journal.close()
    return Place(folder / "journal.db")


def batches_in(place: Place) -> int:
    """How many batches wait in the journal that a start finds."""
    opened = open_or_replace(place, 0)
    assert opened.aside is None
    try:
        return opened.journal.backlog().batches
    finally:
        opened.journal.close()


def beside(place: Place) -> list[str]:
    """What lies beside the journal."""
    return sorted(
        path.name.removeprefix("journal.db")
        for path in place.path.parent.glob("journal.db?*")
        if path.exists()
    )


def broken(raises: Callable[[str], Exception | None]) -> Callable[[Path], Connection]:
    """A connection on which some statements fail."""

    class Broken(StdlibConnection):
        def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
            error = raises(sql)
            if error is not None:
                raise error
            return super().execute(sql, parameters)

    return Broken
