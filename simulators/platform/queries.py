"""Questions to the platform's store: totals, gaps, chains, alarms, and whether its own books add up.

Pure functions over a `Store`, which may be open for reading only. Energy is in 0.001 Wh; shares of steps are exact
fractions of the descriptor in force for every row.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from agent.reporting.adjustment import NO_CORRECTIONS, Corrections
from agent.reporting.attribution import Part, attribution
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor
from agent.reporting.utc import text_of_ms
from simulators.platform.adjusting import corrections
from simulators.platform.dossier import stored_descriptor
from simulators.platform.relabel import moved_times
from simulators.platform.store import Store


@dataclass(frozen=True, slots=True)
class EpochTotal:
    """One register epoch of a meter; `energy_milliwh` = `last` - `opening` + `roll_milliwh` unless books are broken."""

    epoch: int
    opening: int
    last: int
    roll_milliwh: int
    energy_milliwh: int
    deltas: int
    bridges: int


@dataclass(slots=True)
class MeterTotal:
    """What is booked of one meter."""

    energy_milliwh: int = 0
    deltas: int = 0
    bridges: int = 0
    epochs: list[EpochTotal] = field(default_factory=list)


@dataclass(slots=True)
class Totals:
    """What is booked of one agent. `undescribed_milliwh` is energy whose descriptor has not come."""

    meters: dict[str, MeterTotal] = field(default_factory=dict)
    steps: dict[str, Fraction] = field(default_factory=dict)
    unassigned: Fraction = Fraction(0)
    undescribed_milliwh: int = 0
    corrections: Corrections = NO_CORRECTIONS
    """Adjusted and estimated energy; nothing of it is in the figures above."""


def agents(store: Store) -> dict[str, int]:
    """`org/agent` of every agent ever registered, with its row."""
    rows = store.rows("SELECT org, agent, agent_id FROM agents ORDER BY org, agent")
    return {f"{org}/{agent}": agent_id for org, agent, agent_id in rows}


def totals(store: Store) -> dict[str, Totals]:
    """Booked energy by meter and by step, for every agent."""
    return {name: _totals(store, agent_id) for name, agent_id in agents(store).items()}


def _totals(store: Store, agent_id: int) -> Totals:
    result = Totals()
    for meter, *epoch in store.rows(
        "SELECT b.meter, b.epoch, e.opening, max(b.position + b.energy), sum(b.roll), sum(b.energy),"
        " sum(b.kind = 'delta'), sum(b.kind = 'bridge') FROM booked b JOIN epochs e USING (agent_id, meter, epoch)"
        " WHERE b.agent_id = ? GROUP BY b.meter, b.epoch ORDER BY b.meter, b.epoch",
        (agent_id,),
    ):
        total = result.meters.setdefault(meter, MeterTotal())
        # The end's position counts rollovers in; the register itself does not.
        number, opening, end, roll, energy, deltas, bridges = epoch
        total.epochs.append(EpochTotal(number, opening, end - roll, roll, energy, deltas, bridges))
        total.energy_milliwh += energy
        total.deltas += deltas
        total.bridges += bridges
    _attribute(store, agent_id, result)
    raw = {meter: total.energy_milliwh for meter, total in result.meters.items()}
    by_step: dict[str | None, Fraction] = {None: result.unassigned}
    by_step.update(result.steps)
    result.corrections = corrections(store, agent_id, raw, by_step)
    return result


def _attribute(store: Store, agent_id: int, result: Totals) -> None:
    """Give every meter's energy to steps, by the descriptor that was in force for it."""
    sql = "SELECT descriptor_id, meter, sum(energy) FROM booked WHERE agent_id = ? GROUP BY descriptor_id, meter"
    parts: dict[int, dict[str, tuple[Part, ...]] | None] = {}
    for descriptor_id, meter, energy in store.rows(sql, (agent_id,)):
        if descriptor_id not in parts:
            descriptor = _descriptor(store, descriptor_id)
            parts[descriptor_id] = None if descriptor is None else attribution(descriptor)
        known = parts[descriptor_id]
        if known is None or meter not in known:
            result.undescribed_milliwh += energy
            continue
        for part in known[meter]:
            if part.step is None:
                result.unassigned += energy * part.part
            else:
                result.steps[part.step] = result.steps.get(part.step, Fraction(0)) + energy * part.part
    result.steps = dict(sorted(result.steps.items()))


def _descriptor(store: Store, descriptor_id: int) -> Descriptor | None:
    row = store.one("SELECT jws FROM descriptors WHERE descriptor_id = ?", (descriptor_id,))
    return None if row[0] is None else stored_descriptor(row[0])


@dataclass(frozen=True, slots=True)
class Gap:
    """Something missing, waiting or declared missing; `kind` is `batches`, `held`, `bridge`, `hole` or `gap`."""

    agent: str
    kind: str
    place: str
    text: str


def gaps(store: Store) -> list[Gap]:
    """What is missing or was bridged, for every agent: batches, held deltas, bridges, declared holes, missed reads."""
    found = []
    for name, agent_id in agents(store).items():
        found += _missing_batches(store, name, agent_id)
        for meter, epoch, n, reason in store.rows(
            "SELECT meter, epoch, n, reason FROM held WHERE agent_id = ? AND state = 'held' ORDER BY 1, 2, 3",
            (agent_id,),
        ):
            found.append(Gap(name, "held", f"{meter}/{epoch}/{n}", reason))
        for meter, epoch, first, last, energy in store.rows(
            "SELECT meter, epoch, n_first, n_last, energy FROM booked WHERE agent_id = ? AND kind = 'bridge'"
            " ORDER BY 1, 2, 3",
            (agent_id,),
        ):
            found.append(
                Gap(name, "bridge", f"{meter}/{epoch}/{first}-{last}", f"{energy} booked by registers alone")
            )
        found += _declared(store, name, agent_id)
        found += _relabelled(store, name, agent_id)
        found += _flagged(store, name, agent_id)
    return found


def _missing_batches(store: Store, name: str, agent_id: int) -> list[Gap]:
    chain, head = store.one("SELECT head_chain, head_seq FROM agents WHERE agent_id = ?", (agent_id,))
    found = []
    for waiting, first, last, count in store.rows(
        "SELECT chain, min(seq), max(seq), count(DISTINCT seq) FROM staged WHERE agent_id = ? GROUP BY chain",
        (agent_id,),
    ):
        after = head if waiting == chain else 0
        missing = last - after - count
        text = f"{count} of {after + 1}..{last} wait from {first} on, {missing} are missing"
        found.append(Gap(name, "batches", waiting, text))
    for chain, first, last in store.rows(
        "SELECT chain, seq_from, seq_to FROM skipped WHERE agent_id = ? ORDER BY at_ms, chain, seq_from",
        (agent_id,),
    ):
        sql = "SELECT count(*) FROM batches WHERE agent_id = ? AND chain = ? AND seq BETWEEN ? AND ?"
        late = store.one(sql, (agent_id, chain, first, last))[0]
        if late <= last - first:
            text = f"{last - first + 1 - late} of {first}..{last} never came; what they told is bridged by registers"
            found.append(Gap(name, "lost", chain, text))
    return found


def _declared(store: Store, name: str, agent_id: int) -> list[Gap]:
    """Holes between epochs and missed boundary readings, as the agent itself has said."""
    found = []
    for kind, type_, text in (
        ("hole", "epoch", "body ->> 'reason' || ', from ' || (body ->> 'unmetered_from') || ' to '"
         " || (body ->> 'unmetered_to') || ', at most ' || coalesce(body ->> 'bound', 'unknown')"),
        ("gap", "gap", "body ->> 'reason' || ', from ' || (body ->> 'from') || ' to ' || (body ->> 'to')"),
    ):  # fmt: skip
        sql = f"SELECT meter, {text} FROM events WHERE agent_id = ? AND type = ? ORDER BY event_id"
        found += [Gap(name, kind, meter, said) for meter, said in store.rows(sql, (agent_id, type_))]
    return found


def _relabelled(store: Store, name: str, agent_id: int) -> list[Gap]:
    """Batches whose told times `clock` events corrected: booked rows have the corrected ones, batches the told ones."""
    found = []
    for each in moved_times(store, agent_id):
        told, right = (" to ".join(map(text_of_ms, span)) for span in (each.told_ms, each.right_ms))
        text = f"told {told}, was {right}, wrong by at most {each.err_ms} ms"
        found.append(Gap(name, "clock", f"{each.chain}/{each.seq_from}-{each.seq_to}", text))
    return found


def _flagged(store: Store, name: str, agent_id: int) -> list[Gap]:
    rows = store.rows(
        "SELECT meter, epoch, count(*) FROM booked WHERE agent_id = ? AND kind = 'delta'"
        " AND ' ' || q || ' ' LIKE '% gap %' GROUP BY meter, epoch ORDER BY 1, 2",
        (agent_id,),
    )
    return [
        Gap(
            name,
            "gap",
            f"{meter}/{epoch}",
            f"{count} deltas span missed readings; energy exact, profile unknown",
        )
        for meter, epoch, count in rows
    ]


@dataclass(frozen=True, slots=True)
class ChainLine:
    """One chain of an agent and how far it is booked."""

    agent: str
    chain: str
    state: str
    reason: str
    booked: int


def chains(store: Store) -> list[ChainLine]:
    """Every chain that was opened, closed or refused, in the order in which that happened."""
    rows = store.rows(
        "SELECT a.org || '/' || a.agent, c.chain, c.state, c.reason, (SELECT count(*) FROM batches b"
        " WHERE b.agent_id = c.agent_id AND b.chain = c.chain) FROM chains c JOIN agents a USING (agent_id)"
        " ORDER BY a.org, a.agent, c.at_ms, c.rowid"
    )
    return [ChainLine(*row) for row in rows]


def head(store: Store, org: str, agent: str) -> ChainHead | None:
    """The last batch that was taken of an agent."""
    sql = "SELECT head_chain, head_seq, head_hash FROM agents WHERE org = ? AND agent = ?"
    row = store.first(sql, (org, agent))
    return None if row is None or row[0] is None else ChainHead(*row)


def state(store: Store, org: str, agent: str) -> str | None:
    """`online` or `offline` as the agent said last, None if it has said nothing."""
    sql = "SELECT s.state FROM statuses s JOIN agents a USING (agent_id) WHERE a.org = ? AND a.agent = ?"
    row = store.first(sql, (org, agent))
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A finding; `count` is how often it was made."""

    agent: str
    kind: str
    subject: str
    text: str
    first_ms: int
    last_ms: int
    count: int


def alarms(store: Store) -> list[Alarm]:
    """All findings, oldest first."""
    sql = "SELECT org || '/' || agent, kind, subject, text, first_ms, last_ms, count FROM alarms ORDER BY alarm_id"
    return [Alarm(*row) for row in store.rows(sql)]


def broken_books(store: Store) -> list[str]:
    """Where promise I1 does not hold in the store itself; empty unless there is a fault in the platform.

    In every epoch the booked rows lie end to end from the opening register, in position, in register and in `n`, and
    the meter's own standing is the end of the last row.
    """
    found = []
    for agent_id, meter, epoch, opening in store.rows("SELECT agent_id, meter, epoch, opening FROM epochs"):
        found += _broken_epoch(store, agent_id, meter, epoch, opening)
    for meter, *_ in store.rows(
        "SELECT m.meter FROM meters m WHERE m.booked_position <> coalesce((SELECT max(position + energy) FROM booked b"
        " WHERE (b.agent_id, b.meter, b.epoch) = (m.agent_id, m.meter, m.epoch)), m.booked_position)"
    ):
        found.append(f"{meter}: its standing is not where its booked energy ends")
    return found


def _broken_epoch(store: Store, agent_id: int, meter: str, epoch: int, opening: int) -> list[str]:
    position, register, expected_n = opening, opening, None
    found = []
    for n_first, n_last, start, reg_start, reg_end, energy in store.rows(
        "SELECT n_first, n_last, position, reg_start, reg_end, energy FROM booked"
        " WHERE agent_id = ? AND meter = ? AND epoch = ? ORDER BY position, n_first, n_last",
        (agent_id, meter, epoch),
    ):
        if (start, reg_start) != (position, register) or n_first != (expected_n or n_first):
            found.append(f"{meter}/{epoch}: row of n {n_first} does not join the one before")
        position, register, expected_n = start + energy, reg_end, n_last + 1
    return found
