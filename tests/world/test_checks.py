"""The auditor of the world: what it takes for a hole that was declared, and what not."""

import json
import sqlite3
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.errors import JournalDamaged
from agent.service.close import Closed, NotBooked
from simulators.world.checks import Auditor
from simulators.world.time import START_MS
from simulators.world.truth import TREMBLES_MAX, Load, Place, Shown
from tests.service.bench import Bench

PER_COUNT = Fraction(1000)


class Books:
    """What the platform has of one meter: the tables that the auditor reads, and nothing else of it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.executescript(
            "CREATE TABLE epochs (meter, epoch, opening);"
            "CREATE TABLE booked (meter, epoch, reg_end, descriptor_id, position, energy, n_first, n_last, q);"
            "CREATE TABLE events (type, meter, body);"
            "CREATE TABLE meters (meter, booked_register, num, den);"
        )

    def epoch(
        self,
        number: int,
        opening: int,
        last: int | None,
        *,
        bound: str | None = None,
        ended_at: int | None = None,
        reason: str = "reset",
        serial_to: str | None = "1",
        q: str = "",
        by: str | None = None,
    ) -> None:
        """One epoch, with its last register where it booked anything, and what was declared of the hole before."""
        self._db.execute("INSERT INTO epochs VALUES ('m1', ?, ?)", (number, opening))
        if last is not None:
            self.row(number, last, position=opening, energy=last - opening, n_first=1, n_last=1, q=q)
        if bound is not None:
            said = {"epoch_to": number, "bound": json.loads(bound), "last": ended_at, "reason": reason}
            body = json.dumps({**said, "serial_to": serial_to, "by": by})
            self._db.execute("INSERT INTO events VALUES ('epoch', 'm1', ?)", (body,))

    def row(
        self,
        epoch: int,
        reg_end: int,
        *,
        position: int,
        energy: int,
        n_first: int,
        n_last: int,
        q: str = "",
    ) -> None:
        """One booked row, with the numbers of its first and last delta and its flags."""
        row = (epoch, reg_end, position, energy, n_first, n_last, q)
        self._db.execute("INSERT INTO booked VALUES ('m1', ?, ?, 1, ?, ?, ?, ?, ?)", row)

    def position(self, register: int) -> None:
        """Up to where it has booked."""
        self._db.execute("INSERT INTO meters VALUES ('m1', ?, 1000, 1)", (register,))

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self._db.execute(sql, parameters).fetchall()

    def first(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        return self._db.execute(sql, parameters).fetchone()


class Court:
    """An auditor, a meter of which these positions were shown by these counts, and what is said of it."""

    def __init__(self, shown: dict[int, int]) -> None:
        self.place = Place("m1", Load("seed", 40_000, START_MS), PER_COUNT)
        self.place.firsts = [0]
        for counts, position in shown.items():
            self.place.shown[counts] = [Shown(position, 0, 0, {1})]
        self.alarms: list[str] = []
        self.books = Books()
        self.auditor = Auditor(
            SimpleNamespace(),  # type: ignore[arg-type]  # an account has no time
            {"m1": self.place},
            {1: SimpleNamespace(meter=lambda _: SimpleNamespace(per_count_milliwh=PER_COUNT, step=None))},  # type: ignore[dict-item]
            self.alarms.append,
            lambda _: None,
            interval_ms=120_000,
        )
        description: Any = SimpleNamespace(num=1000, den=1, modulus=1_000_000, step=None)
        self.auditor._described = {1: {"m1": description}}

    def judge(self) -> list[str]:
        self.auditor._judge_account(self.books, "m1", self.place)  # type: ignore[arg-type]
        return self.alarms


@pytest.mark.parametrize(("second_bound", "is_declared"), [(5_000, True), (4_999, False)])
def test_a_hole_across_an_epoch_that_booked_nothing_is_as_long_as_both_that_were_declared(
    second_bound: int, is_declared: bool
) -> None:
    """Two changes of the ratio with one reading in between (seed 136 of two hours); one count may have been due."""
    court = Court({100: 0, 110: 10, 130: 30, 140: 40})
    court.place.breaks = 1
    court.books.epoch(1, 100_000, 110_000)
    court.books.epoch(2, 230_000, None, bound="14000")
    court.books.epoch(3, 130_000, 140_000, bound=str(second_bound))
    assert (court.judge() == []) is is_declared


@pytest.mark.fault("F18")
@pytest.mark.parametrize(("bound", "is_declared"), [(9_000, True), (8_999, False)])
def test_the_accounts_begin_at_the_register_that_an_event_names_where_its_epoch_booked_nothing(
    bound: int, is_declared: bool
) -> None:
    """A meter was exchanged before its first delta (seed 2320)."""
    court = Court({500: 0, 20: 10, 30: 20})
    court.place.breaks = 1
    court.books.epoch(2, 20_000, 30_000, bound=str(bound), ended_at=500_000)
    assert (court.judge() == []) is is_declared


@pytest.mark.parametrize(
    ("firsts", "opening", "is_allowed"),
    [
        ([0], 0, True),
        ([0], 10, False),
        ([0, 10], 0, True),
        ([0, 10], 10, True),
        ([0, 10], 20, True),
        ([0, 10], 5, False),
        ([0, 10, 30], 20, True),
        ([0, 10, 30], 5, False),
    ],
)
def test_accounts_begin_at_the_first_register_or_later_only_where_that_was_lost(
    firsts: list[int], opening: int, is_allowed: bool
) -> None:
    """A new journal believes no register that it has read once only (seeds 4801, 12809, 11984)."""
    court = Court({opening: opening, 50: 50})
    court.place.firsts = firsts
    court.books.epoch(1, opening * 1000, 50_000)
    assert (court.judge() == []) is is_allowed


@pytest.mark.fault("F33", "F56")
@pytest.mark.parametrize(
    ("has_refused", "serial_to", "is_allowed"),
    [(True, None, True), (False, None, False), (True, "3001", False)],
)
def test_a_new_journal_opens_an_epoch_nobody_made_only_where_a_meter_refused_to_say_who_it_is(
    has_refused: bool, serial_to: str | None, is_allowed: bool
) -> None:
    """Seed 13363."""
    court = Court({900: 0, 990: 90, 995: 95, 999: 99})
    court.place.has_refused = has_refused
    court.books.epoch(1, 900_000, 990_000)
    court.books.epoch(
        2, 995_000, 999_000, bound="9000", ended_at=990_000, reason="restore", serial_to=serial_to
    )
    assert (court.judge() == []) is is_allowed


@pytest.mark.fault("F56", "F65")
@pytest.mark.parametrize(
    ("by", "bound", "is_allowed"),
    [("platform", "null", True), ("platform", "9000", False), (None, "null", False)],
)
def test_a_hole_nobody_made_is_one_that_a_platform_declared_which_can_ask_nobody(
    by: str | None, bound: str, is_allowed: bool
) -> None:
    """Behind a lost disk it fits a meter by number and register, or cannot (decision 0022)."""
    court = Court({900: 0, 990: 90, 995: 95, 999: 99})
    court.books.epoch(1, 900_000, 990_000)
    court.books.epoch(2, 995_000, 999_000, bound=bound, reason="restore", serial_to=None, by=by)
    assert (court.judge() == []) is is_allowed


@pytest.mark.fault("F16", "F65")
def test_an_epoch_ends_where_its_booked_energy_ends() -> None:
    """The bridge to the register at which it ended has no number of its own (broker-only, seeds 578 and 596).

    After deltas of nothing it begins where they do, and it is the one that reaches the end.
    """
    court = Court({100: 0, 150: 50, 20: 90, 30: 100})
    court.place.breaks = 1
    court.books.epoch(1, 100_000, None)
    court.books.row(1, 100_000, position=100_000, energy=0, n_first=3, n_last=3)
    court.books.row(1, 150_000, position=100_000, energy=50_000, n_first=4, n_last=3)
    court.books.epoch(2, 20_000, 30_000, bound="40000")
    assert court.judge() == []


@pytest.mark.fault("F16")
def test_an_epoch_ends_in_its_own_run_where_its_last_register_was_shown_in_the_next_one_too() -> None:
    """A register that was set back came to where it had been (seed 5422)."""
    court = Court({100: 0, 150: 50, 120: 60})
    court.place.breaks = 1
    court.place.shown[150].append(Shown(90, 0, 0, {1}))
    court.books.epoch(1, 100_000, 150_000)
    court.books.epoch(2, 120_000, 150_000, bound="9000")
    assert court.judge() == []


@pytest.mark.fault("F15", "F40")
@pytest.mark.parametrize(
    ("time_was_unknown", "bound", "is_allowed"),
    [
        (True, "null", True),
        (True, "50000", False),
        (False, "null", False),
        (False, "1000000", True),  # more than one turn may lie in it (seed 2158)
        (False, "999999", False),
    ],
)
def test_a_rollover_may_be_taken_for_a_reset_only_where_nobody_knew_how_often_it_went_round(
    time_was_unknown: bool, bound: str, is_allowed: bool
) -> None:
    """Decision 0016 (seed 139 of two hours)."""
    court = Court({900: 0, 990: 90, 10: 110, 20: 120})
    court.auditor.time_was_unknown = time_was_unknown
    court.books.epoch(1, 900_000, 990_000)
    court.books.epoch(2, 10_000, 20_000, bound=bound)
    assert (court.judge() == []) is is_allowed


@pytest.mark.fault("F15", "F39", "F55")
@pytest.mark.parametrize(("q", "is_allowed"), [("gap", False), ("clock gap", True)])
def test_so_it_may_where_the_clock_was_set_when_the_epoch_ended(q: str, is_allowed: bool) -> None:
    """An old journal was put back, and the platform's position had a label that proves nothing (seed 1586)."""
    court = Court({900: 0, 990: 90, 10: 110, 20: 120})
    court.books.epoch(1, 900_000, 990_000, q=q)
    court.books.epoch(2, 10_000, 20_000, bound="null")
    assert (court.judge() == []) is is_allowed


@pytest.mark.fault("F15")
@pytest.mark.parametrize(("bound", "is_allowed"), [("1020000", True), ("1019999", False)])
def test_an_epoch_may_change_where_a_register_rose_and_can_have_gone_round_as_well(
    bound: str, is_allowed: bool
) -> None:
    """From 0.11 to 0.13 of a modulus of 1 MWh, in a time in which the circuit can have used 1.02 (seed 11272)."""
    court = Court({100: 0, 110: 10, 130: 30, 140: 40})
    court.books.epoch(1, 100_000, 110_000)
    court.books.epoch(2, 130_000, 140_000, bound=bound)
    assert (court.judge() == []) is is_allowed


def test_a_rise_is_no_rollover_whatever_the_clock_was() -> None:
    court = Court({100: 0, 110: 10, 130: 30, 140: 40})
    court.auditor.time_was_unknown = True
    court.books.epoch(1, 100_000, 110_000)
    court.books.epoch(2, 130_000, 140_000, bound="null")
    assert court.judge() == ["I1: m1 has 1 holes, and a person made 0"]


@pytest.mark.parametrize(("below", "is_shown"), [(0, True), (TREMBLES_MAX, True), (TREMBLES_MAX + 1, False)])
def test_a_meter_that_trembles_while_it_is_set_back_begins_a_few_counts_below_its_end(
    below: int, is_shown: bool
) -> None:
    """It showed both; anything more than that is counted twice (scenario broker-only, seed 323)."""
    court = Court({100: 0, 150: 50, 20: 50 - below, 30: 60 - below})
    court.place.breaks = 1
    court.books.epoch(1, 100_000, 150_000)
    court.books.epoch(2, 20_000, 30_000, bound="5000")
    assert court.judge() == ([] if is_shown else ["I5: m1/2 runs from 20000 to 30000, which were not shown"])


@pytest.mark.fault("F19", "F56")
@pytest.mark.parametrize(
    ("known", "q", "is_allowed"),
    [(500, "suspect", True), (500, "", False), (20, "suspect", False)],
    ids=["nobody knew", "nobody said so", "somebody knew"],
)
@pytest.mark.parametrize("who", ["ledger", "doubt", "platform"])
def test_a_meter_that_was_exchanged_is_another_one_unless_all_who_knew_are_lost(
    known: int, q: str, is_allowed: bool, who: str
) -> None:
    """It says no number, and has come past the former one's register when it is read again (seed 15442)."""
    court = Court({500: 500, 20: 510, 600: 1090})
    court.place.is_begun, court.place.set_back_at = True, 505
    at: Any = {}
    for each in ("ledger", "doubt", "platform"):
        at[each] = (known if each == who else 500) * 1000
    basis = SimpleNamespace(per_count_milliwh=PER_COUNT)
    doubted = SimpleNamespace(point=SimpleNamespace(register_milliwh=at["doubt"], basis=basis))
    stood = SimpleNamespace(register_milliwh=at["ledger"], basis=basis)
    journal: Any = SimpleNamespace(heads=lambda: {"m1": stood}, doubts=lambda: {"m1": (doubted,)})
    court.books.position(at["platform"])
    court.auditor.opened(journal, court.books)  # type: ignore[arg-type]
    court.auditor._judge(court.books, (1, "m1", 1, 4, "delta", 500_000, 600_000, 0, 100_000, q, 1, 1))  # type: ignore[arg-type]
    assert (court.alarms == []) is is_allowed


@pytest.mark.fault("F53")
@pytest.mark.parametrize(
    ("has_rotted", "rot", "is_said"), [(False, True, True), (True, True, False), (True, False, True)]
)
def test_where_a_file_has_rotted_only_a_journal_that_the_agent_finds_sound_is_to_blame(
    tmp_path: Path, has_rotted: bool, rot: bool, is_said: bool
) -> None:
    """A flag of an old batch made it count as acknowledged (seeds 5713, 13826)."""
    bench = Bench(tmp_path)
    for turn in range(3):
        bench.read({"reflow-1": 1_000 + turn, "wave-1": 2_000 + turn})
    bench.acknowledge(bench.journal.state().head, number=1)
    if rot:
        bench.journal._db.execute("UPDATE batches SET hash = substr(hash, 2) || 'A' WHERE ordinal = 1")
    court = Court({})
    court.auditor._time = SimpleNamespace(wall_ms=lambda: bench.clock.now_ms)  # type: ignore[assignment]
    court.auditor.has_rotted = has_rotted
    disk = SimpleNamespace(answers=True, size=lambda: 0)
    court.auditor.look_at_journal(SimpleNamespace(journal=bench.journal, disk=disk))  # type: ignore[arg-type]
    assert any(each.startswith("I3") for each in court.alarms) is is_said


@pytest.mark.fault("F53")
def test_rot_that_the_auditor_meets_is_the_agents_to_find(tmp_path: Path) -> None:
    """It ended the world, which is neither the agent's fault nor proof of one (seed 12371)."""
    bench = Bench(tmp_path)
    bench.read({"reflow-1": 1_000})
    bench.read({"reflow-1": 1_001})
    bench.acknowledge(bench.journal.state().head, number=1)
    bench.journal._db.execute("UPDATE batches SET chain = CAST(x'f4' AS TEXT) WHERE ordinal = 1")
    court = Court({})
    court.auditor._time = SimpleNamespace(wall_ms=lambda: bench.clock.now_ms)  # type: ignore[assignment]
    with pytest.raises(JournalDamaged):
        list(court.auditor._broken_in(bench.journal))
    disk = SimpleNamespace(answers=True, size=lambda: 0)
    court.auditor.look_at_journal(SimpleNamespace(journal=bench.journal, disk=disk))  # type: ignore[arg-type]
    assert court.alarms == []


@pytest.mark.parametrize(("is_taken_away", "is_said"), [(False, True), (True, False)])
def test_what_a_box_refused_has_to_be_told_unless_its_disk_was_taken_away(
    is_taken_away: bool, is_said: bool
) -> None:
    """A clone that was switched off while no broker answered had told nobody (seed 16194)."""
    court = Court({})
    box: Any = SimpleNamespace(name="clone", clock=SimpleNamespace(quality=lambda: SimpleNamespace(sync="S")))
    why = NotBooked("held", "fingerprint: ct_ratio reads 0064 instead of 0028", (100,), 1_000, START_MS)
    court.auditor.saw(box, Closed(0, 0, False, {}, {"m1": why}))
    if is_taken_away:
        court.auditor.taken_away(box)
    court.auditor._judge_refusals(court.books)  # type: ignore[arg-type]
    assert [each.split(":")[0] for each in court.alarms] == ["I11"] * is_said
