"""What a `clock` event changes: the times of booked rows, and nothing else.

A gateway without a clock labels its readings with 1970 and says later by how much that was wrong. Reports go by the
times of booked rows, so these are moved; energies, registers and numbers stay, and so do the signed batches and what
was judged of them (wire format, section 2: relabels, never re-books).

Booked rows of an epoch lie end to end. So only their ends are moved, and each begins where the one before it ends; the
first one of an epoch has a label of its own for that, which may have been made before the clock was lost.

Several events may speak of one batch, where a clock was set more than once; their offsets add up. What was told is read
from the signed batch again, so that `gaps` shows both times whatever moved them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from agent.reporting.envelope import base64url_decode
from agent.reporting.event import Event
from agent.reporting.utc import MS_MAX, ms_of_text
from simulators.platform.dossier import Dossier
from simulators.platform.store import Store


def relabel(store: Store, dossier: Dossier, event: Event, chain: str) -> list[str]:
    """Move the times of what was booked from the batches that a `clock` event names; the meters whose end moved."""
    offset_ms = event.body["offset_ms"]
    if not isinstance(offset_ms, int):
        return []
    agent_id, moved = dossier.agent_id, []
    rows = store.rows(
        "SELECT b.booked_id, b.meter, b.epoch, b.n_first, b.n_last, b.start_ms, b.end_ms FROM booked b"
        " JOIN batches t USING (batch_id) WHERE b.agent_id = ? AND t.chain = ? AND t.seq BETWEEN ? AND ?"
        " ORDER BY b.meter, b.epoch, b.n_first, b.position",
        (agent_id, chain, event.integer("seq_from"), event.integer("seq_to")),
    )
    for booked_id, meter, epoch, first, last, start_ms, end_ms in rows:
        if not 0 <= end_ms + offset_ms <= MS_MAX:
            continue  # signed, and no time: nothing is moved to where it could not even be written down
        before = store.first(
            "SELECT end_ms FROM booked WHERE agent_id = ? AND meter = ? AND epoch = ? AND n_last = ?",
            (agent_id, meter, epoch, first - 1),
        )
        new_end_ms = end_ms + offset_ms
        new_start_ms = before[0] if before is not None else opening_ms(start_ms, new_end_ms, [offset_ms])
        store.run(
            "UPDATE booked SET start_ms = ?, end_ms = ? WHERE booked_id = ?",
            (new_start_ms, new_end_ms, booked_id),
        )
        if before is None:
            store.run(
                "UPDATE epochs SET opening_ms = ? WHERE agent_id = ? AND meter = ? AND epoch = ?",
                (new_start_ms, agent_id, meter, epoch),
            )
        x = dossier.meters[meter]
        if (x.epoch, x.booked_n) == (epoch, last):
            x.booked_end_ms = new_end_ms
            moved.append(meter)
    return moved


def offsets_of(store: Store, agent_id: int, chain: str) -> list[int]:
    """By how much `clock` events of a chain have moved times so far."""
    rows = store.rows(
        "SELECT e.body ->> 'offset_ms' FROM events e JOIN batches t USING (batch_id)"
        " WHERE e.agent_id = ? AND t.chain = ? AND e.type = 'clock' AND e.body ->> 'offset_ms' IS NOT NULL",
        (agent_id, chain),
    )
    return [int(row[0]) for row in rows]


def opening_ms(label_ms: int, end_ms: int, offsets_ms: Iterable[int]) -> int:
    """The time of an opening register: its label as it is or moved, whichever lies nearest before the row's end."""
    candidates = [label_ms, *(label_ms + offset_ms for offset_ms in offsets_ms)]
    return max((each for each in candidates if 0 <= each <= end_ms), default=label_ms)


@dataclass(frozen=True, slots=True)
class Moved:
    """A run of batches whose times the same `clock` events corrected: as told and as booked, UTC Unix ms."""

    chain: str
    seq_from: int
    seq_to: int
    told_ms: tuple[int, int]
    right_ms: tuple[int, int]
    err_ms: int


@dataclass(frozen=True, slots=True)
class _Said:
    """What a `clock` event with an offset speaks of, and how wrong the corrected times may still be."""

    chain: str
    seq_from: int
    seq_to: int
    err_ms: int


def moved_times(store: Store, agent_id: int) -> Iterator[Moved]:
    """What `clock` events moved, chain by chain; a run ends where another event begins or ends to speak."""
    events = [
        _Said(*row)
        for row in store.rows(
            "SELECT t.chain, body ->> 'seq_from', body ->> 'seq_to', body ->> 'err_ms' FROM events e JOIN batches t"
            " USING (batch_id) WHERE e.agent_id = ? AND e.type = 'clock' AND body ->> 'offset_ms' IS NOT NULL"
            " ORDER BY event_id",
            (agent_id,),
        )
    ]
    for chain in dict.fromkeys(each.chain for each in events):
        said = [each for each in events if each.chain == chain]
        cuts = sorted({cut for each in said for cut in (each.seq_from, each.seq_to + 1)})
        for first, after in pairwise(cuts):
            speaking = [each for each in said if each.seq_from <= first and after <= each.seq_to + 1]
            ends = [_end(store, agent_id, chain, (first, after - 1), order) for order in ("ASC", "DESC")]
            if speaking and ends[0] is not None and ends[1] is not None and ends[0][0] != ends[0][1]:
                told, right = zip(*ends, strict=True)
                yield Moved(chain, first, after - 1, told, right, speaking[-1].err_ms)


def _end(
    store: Store, agent_id: int, chain: str, seqs: tuple[int, int], order: str
) -> tuple[int, int] | None:
    """When the first or last delta of a run of batches ended, as told and as booked; None where none is booked."""
    row = store.first(
        "SELECT b.meter, b.n_last, b.reg_end, b.end_ms, t.jws FROM booked b JOIN batches t USING (batch_id)"
        " WHERE t.agent_id = ? AND t.chain = ? AND t.seq BETWEEN ? AND ? AND b.kind = 'delta'"
        f" ORDER BY b.end_ms {order} LIMIT 1",
        (agent_id, chain, *seqs),
    )
    if row is None:
        return None
    meter, n, register, right_ms, jws = row
    payload = json.loads(base64url_decode(jws.decode("ascii").split(".")[1]))
    told = next(
        each["end"]
        for each in payload["deltas"]
        if (each["meter"], each["n"], each["reg_end"]) == (meter, n, register)
    )
    return ms_of_text(told), right_ms
