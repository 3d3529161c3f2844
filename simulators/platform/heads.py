"""Where all meters of an agent stand, as an acknowledgement says it: what a restored journal goes on from.

The time of a head is evidence only where the clock that labelled it knew the time, so its quality flags are told beside
it. They are looked up when they are asked for, which is once in the life of a journal.
"""

import json
from dataclasses import replace

from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import CLOCK, UNKNOWN
from agent.reporting.envelope import base64url_decode
from simulators.platform.dossier import Dossier, Standing
from simulators.platform.store import Store


def heads_of(store: Store, dossier: Dossier) -> dict[str, MeterHead]:
    """The heads of all meters ever seen, held deltas included."""
    return {
        meter: replace(x.head(), q=_flags_at(store, dossier.agent_id, meter, x))
        for meter, x in sorted(dossier.meters.items())
    }


def _flags_at(store: Store, agent_id: int, meter: str, x: Standing) -> tuple[str, ...] | None:
    """The flags of the delta that ends at a head; of an opening, whether its batch was sealed without the time."""
    if x.n == 0:
        opening = store.first(
            "SELECT t.jws FROM events e JOIN batches t USING (batch_id) WHERE e.agent_id = ? AND e.type = 'epoch'"
            " AND e.meter = ? AND e.body ->> 'epoch_to' = ? ORDER BY e.event_id DESC LIMIT 1",
            (agent_id, meter, x.epoch),
        )
        return None if opening is None else (CLOCK,) if _sync_of(opening[0]) == UNKNOWN else ()
    place = (agent_id, meter, x.epoch, x.n)
    held = store.first(
        "SELECT delta FROM held WHERE agent_id = ? AND meter = ? AND epoch = ? AND n = ?", place
    )
    if held is not None:
        return tuple(json.loads(held[0])["q"])
    booked = store.first(
        "SELECT q FROM booked WHERE agent_id = ? AND meter = ? AND epoch = ? AND n_last = ?", place
    )
    return None if booked is None else tuple(booked[0].split())


def _sync_of(jws: bytes) -> str:
    """The state of the clock that sealed a batch, which was verified before it was kept."""
    payload = json.loads(base64url_decode(jws.decode("ascii").split(".")[1]))
    return str(payload["clock"]["sync"])
