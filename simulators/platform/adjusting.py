"""Adjustments at the platform: placed once, never booked, shown apart.

`place` belongs to booking: it accepts an `adjust` event whose deltas have come and are not adjusted yet. `corrections`
is a question to the store: it sums the booked rows that the accepted ones name, as they are now (a held delta that is
released later, or a bridge that is split, changes how they are booked and never what they add up to).
"""

import json
from collections.abc import Iterable
from fractions import Fraction

from agent.metering.quantity import format_kwh
from agent.reporting.adjustment import Adjustment, Corrections, RunSum, correct
from agent.reporting.attribution import Part, attribution
from agent.reporting.event import Event
from simulators.platform.dossier import stored_descriptor
from simulators.platform.store import Store


def place(store: Store, agent_id: int, batch_id: int, event: Event, last_sent: int) -> str | None:
    """Accept an adjustment; None if it was, else why not. `last_sent` is the last delta of its epoch that has come."""
    adjustment = Adjustment.of(event)
    if not last_sent:
        return "no delta of it was sent"
    if adjustment.n_from > adjustment.n_to:
        return "its first delta comes after its last"
    if adjustment.n_to > last_sent:
        return f"it names deltas up to {adjustment.n_to}, the last one sent is {last_sent}"
    other = store.first(
        "SELECT n_from, n_to FROM adjustments WHERE agent_id = ? AND meter = ? AND epoch = ? AND n_from <= ?"
        " AND n_to >= ?",
        (agent_id, adjustment.meter, adjustment.epoch, adjustment.n_to, adjustment.n_from),
    )
    if other is not None:
        return f"deltas {other[0]} to {other[1]} are adjusted already"
    store.run(
        "INSERT INTO adjustments (agent_id, meter, epoch, n_from, n_to, at_ms, body, batch_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (agent_id, *adjustment.run, event.at_ms, json.dumps(dict(event.body), ensure_ascii=False), batch_id),
    )
    return None


def corrections(
    store: Store, agent_id: int, raw_by_meter: dict[str, int], raw_by_step: dict[str | None, Fraction]
) -> Corrections:
    """Everything that was adjusted of an agent, beside what is booked of it."""
    parts = _Parts(store)
    placed, not_here = [], 0
    for at_ms, body in store.rows(
        "SELECT at_ms, body FROM adjustments WHERE agent_id = ? ORDER BY adjustment_id", (agent_id,)
    ):
        adjustment = Adjustment.of(Event("adjust", at_ms, json.loads(body)))
        run = _sum_of(store, agent_id, adjustment, parts)
        if run.deltas == adjustment.n_to - adjustment.n_from + 1:
            placed.append((adjustment, run))
        else:
            not_here += 1
    return correct(placed, raw_by_meter, raw_by_step, not_here=not_here)


def notes_on(
    store: Store, agents: Iterable[tuple[int, str, int | None]], from_ms: int, to_ms: int
) -> list[str]:
    """What a report of raw energy says of adjustments: each run of deltas of the period, raw, adjusted and estimated.

    Args:
        store: the platform's, in one snapshot.
        agents: gateways by row and name, and the last batch of each that counts (None: all).
        from_ms, to_ms: the period; a run is of it where a booked row of the run begins in it.
    """
    said, parts = [], _Parts(store)
    for agent_id, name, last_batch in agents:
        for at_ms, body in store.rows(
            "SELECT at_ms, body FROM adjustments a WHERE agent_id = ?1 AND (?2 IS NULL OR batch_id <= ?2) AND EXISTS"
            " (SELECT 1 FROM booked b WHERE b.agent_id = ?1 AND b.start_ms >= ?3 AND b.start_ms < ?4 AND"
            " b.meter = a.meter AND b.epoch = a.epoch AND b.n_first BETWEEN a.n_from AND a.n_to)"
            " ORDER BY adjustment_id",
            (agent_id, last_batch, from_ms, to_ms),
        ):
            adjustment = Adjustment.of(Event("adjust", at_ms, json.loads(body)))
            run = _sum_of(store, agent_id, adjustment, parts)
            moved = correct([(adjustment, run)], {adjustment.meter: run.energy_milliwh}, {})
            each = moved.by_meter[adjustment.meter]
            raw, adjusted, estimated, bound = (
                format_kwh(round(value)) for value in (each.raw, each.adjusted, each.estimated, each.bound)
            )
            said.append(
                f"{name}/{adjustment.meter}, epoch {adjustment.epoch}, deltas {adjustment.n_from} to {adjustment.n_to}:"
                f" raw {raw} kWh, adjusted {adjusted}, estimated {estimated}, wrong by at most {bound}"
                f" ({adjustment.reason}; {adjustment.by}); the figures of this report are raw"
            )
    return said


def _sum_of(store: Store, agent_id: int, adjustment: Adjustment, parts: "_Parts") -> RunSum:
    """The booked rows that lie inside a run; a bridge that reaches beyond it is not taken apart."""
    found = RunSum()
    for first, last, energy, descriptor_id in store.rows(
        "SELECT n_first, n_last, energy, descriptor_id FROM booked WHERE agent_id = ? AND meter = ? AND epoch = ?"
        " AND n_first BETWEEN ? AND ? AND n_last BETWEEN n_first AND ? ORDER BY n_first",
        (agent_id, *adjustment.run, adjustment.n_to),
    ):
        found.add(energy, parts.of(descriptor_id, adjustment.meter), deltas=last - first + 1)
    return found


class _Parts:
    """Who is given a meter's energy, by the descriptor in force; each descriptor is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, dict[str, tuple[Part, ...]]] = {}

    def of(self, descriptor_id: int, meter: str) -> tuple[Part, ...]:
        if descriptor_id not in self._known:
            jws = self._store.one("SELECT jws FROM descriptors WHERE descriptor_id = ?", (descriptor_id,))[0]
            self._known[descriptor_id] = {} if jws is None else attribution(stored_descriptor(jws))
        return self._known[descriptor_id].get(meter, (Part(None, Fraction(1)),))
