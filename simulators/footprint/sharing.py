"""The optional files about products and equipment: who passed which step, which order ran when, what the machine did.

`processed.csv` and `products.csv` (pieces), `work_orders.csv` and `equipment_states.csv` (times), and where no platform
knows when a step used its kWh, `step_intervals.csv`. Every fault is told with file and row, all at once. Before this
come `tables`, after it `agent.carbon.sharing`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from agent.carbon.activity import StepEnergy
from agent.carbon.allocation import Processed, Span, Window
from agent.carbon.exact import plain
from agent.carbon.footprint import Footprint
from agent.carbon.sharing import STATES, Sharing
from agent.carbon.template import Template
from agent.settings.suggest import did_you_mean
from simulators.footprint.tables import Row, Table

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "processed.csv": ("product_id", "step", "pieces", "weight"),
    "products.csv": ("product_id", "good"),
    "work_orders.csv": ("order", "product_id", "step", "start", "end"),
    "equipment_states.csv": ("step", "state", "start", "end"),
    "step_intervals.csv": ("step", "start", "end", "kwh"),
}

Interval = tuple[int, int, Fraction]
"""From, to before (UTC Unix ms), kWh."""


class SharingReader:
    """Makes typed entries of the rows; a row with a fault makes none."""

    def __init__(self, template: Template, tables: Mapping[str, Table | None]) -> None:
        self._steps = {source.id for source in template.steps}
        self._tables = tables
        self._places: dict[tuple[str, str], Row] = {}
        """The first row of a file that speaks of a step."""

    def sharing(self) -> Sharing:
        """Everything that could be read."""
        processed = tuple(filter(None, map(self._processed, self._rows("processed.csv"))))
        orders = self._windows("work_orders.csv", self._order)
        states = self._windows("equipment_states.csv", self._state)
        for step in sorted({order.step for order in orders} & {entry.step for entry in processed}):
            row = self._places["processed.csv", step]
            row.refuse("step", f'"{step}" has work orders too', "one rule for a step: pieces, or orders")
        return Sharing(processed, orders, states, self._good())

    def intervals(self, steps: Sequence[StepEnergy]) -> dict[str, list[Interval]]:
        """When each step used its kWh; they have to add up to what `steps.csv` says."""
        kwh = {step.id: step.kwh.value for step in steps if step.kwh is not None}
        found: dict[str, list[Interval]] = {}
        for row in self._rows("step_intervals.csv"):
            step, times, energy = self._step(row), self._times(row), row.needed_number("kwh")
            if row.ok and times is not None:
                found.setdefault(step, []).append((*times, energy))
                self._places.setdefault(("step_intervals.csv", step), row)
        for step, intervals in found.items():
            row = self._places["step_intervals.csv", step]
            sum_ = sum((energy for *_, energy in intervals), Fraction(0))
            if step not in kwh:
                row.refuse("step", f"{step} has no kWh in steps.csv", "give their sum there")
            elif sum_ != kwh[step]:
                reason = f"the kWh of {step} add up to {plain(sum_)}, steps.csv says {plain(kwh[step])}"
                row.refuse("kwh", reason, "correct one of them")
        self._timeless(kwh, found)
        return found

    def _timeless(self, kwh: Mapping[str, Fraction], found: Mapping[str, object]) -> None:
        """Orders and states need to know when; a step that used nothing needs it not."""
        for (name, step), row in list(self._places.items()):
            if name in ("work_orders.csv", "equipment_states.csv") and step not in found and kwh.get(step):
                reason = f"nobody says when {step} used its kWh"
                row.refuse("step", reason, "give step_intervals.csv, or ask `platform report`")

    def _rows(self, name: str) -> tuple[Row, ...]:
        table = self._tables.get(name)
        return () if table is None else table.rows

    def _step(self, row: Row) -> str:
        step = row.needed("step")
        if step and step not in self._steps:
            row.refuse("step", f'there is no step "{step}"', did_you_mean(step, self._steps))
        return step

    def _times(self, row: Row) -> tuple[int, int] | None:
        start_ms, end_ms = row.time("start"), row.time("end")
        if start_ms is None or end_ms is None:
            return None
        if end_ms <= start_ms:
            row.refuse("end", f"{row.text('end')} is not after {row.text('start')}", "correct one of them")
            return None
        return start_ms, end_ms

    def _processed(self, row: Row) -> Processed | None:
        product, step, pieces = row.needed("product_id"), self._step(row), row.whole("pieces")
        weight = row.number("weight")
        if weight == 0:
            row.refuse("weight", "is zero", "leave it empty for 1")
        if not row.ok:
            return None
        self._places.setdefault(("processed.csv", step), row)
        return Processed(product, step, pieces, Fraction(1) if weight is None else weight)

    def _order(self, row: Row) -> str:
        row.needed("order")
        return row.needed("product_id")

    def _state(self, row: Row) -> str:
        state = row.needed("state")
        if state and state not in STATES:
            row.refuse("state", f'there is no state "{state}"', f"known are {', '.join(STATES)}")
        return state

    def _windows(self, name: str, named: Callable[[Row], str]) -> tuple[Window, ...]:
        """The stretches of a file, checked against each other: those of a step do not overlap."""
        made: list[tuple[Window, Row]] = []
        for row in self._rows(name):
            label, step, times = named(row), self._step(row), self._times(row)
            if row.ok and times is not None:
                made.append((Window(label, step, *times), row))
                self._places.setdefault((name, step), row)
        made.sort(key=lambda pair: (pair[0].step, pair[0].start_ms, pair[1].place.line or 0))
        for (earlier, before), (later, row) in pairwise(made):
            if earlier.step == later.step and later.start_ms < earlier.end_ms:
                reason = f"overlaps line {before.place.line} at {later.step}"
                row.refuse("start", reason, "a step has one order and one state at a time")
        return tuple(window for window, row in made if row.ok)

    def _good(self) -> dict[str, int]:
        good: dict[str, int] = {}
        for row in self._rows("products.csv"):
            product, pieces = row.needed("product_id"), row.whole("good")
            if product in good:
                row.refuse("product_id", f'"{product}" is there a second time', "one row a product")
            if row.ok:
                good[product] = pieces
        return good


def spans_of(footprint: Footprint, intervals: Mapping[str, Iterable[Interval]]) -> dict[str, list[Span]]:
    """Intervals with what they emit by the factor of their step."""
    values = {row.id: row.factor.value for row in footprint.rows if row.factor is not None}
    return {
        step: [Span(start, end, kwh, kwh * values.get(step, Fraction(0))) for start, end, kwh in found]
        for step, found in intervals.items()
    }


def outside_period(sharing: Sharing, from_ms: int, to_ms: int) -> list[str]:
    """Notes on orders and states that lie wholly outside a period: a wrong year would else be a silent zero."""
    notes = []
    for name, windows in (("work_orders.csv", sharing.orders), ("equipment_states.csv", sharing.states)):
        count = sum(1 for each in windows if each.end_ms <= from_ms or each.start_ms >= to_ms)
        if count:
            notes.append(f"{count} of {len(windows)} rows of {name} lie outside the period")
    return notes
