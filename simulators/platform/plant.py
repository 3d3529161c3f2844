"""All gateways of an organisation as far as a report reads them, and the step maps that hold for their meters.

The map is the descriptor that was in force for each delta, or a corrected map for its validity. Maps of all gateways
are drawn as one, so that a parent may be at another gateway. Before this come the store and `maps`, after it `books`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from agent.carbon.template import DocumentError
from agent.metering.virtual import MapMeter, StepMap, Term, VirtualMeter, check, step_map
from agent.reporting.attribution import map_meters
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor, MeterDescription
from simulators.platform.dossier import stored_batch, stored_descriptor
from simulators.platform.maps import Correction, drawn
from simulators.platform.question import Question, fault
from simulators.platform.store import Store


@dataclass(slots=True)
class Agent:
    """One gateway: its descriptors by row with their hashes, the newest one, and the head that was read."""

    agent_id: int
    name: str
    descriptors: dict[int, Descriptor]
    hashes: dict[int, str]
    newest: int | None
    head: ChainHead | None
    batch_id: int


class Plant:
    """All gateways of an organisation, and the maps that hold for them."""

    def __init__(self, store: Store, question: Question) -> None:
        self._question = question
        sql = "SELECT agent_id, agent FROM agents WHERE org = ? ORDER BY agent"
        names = store.rows(sql, (question.org,))
        if not names:
            raise fault("--org", f"the store knows no gateway of {question.org}", "see: platform totals")
        self.agents = [
            _agent(store, agent_id, name, None if question.up_to is None else question.up_to.get(name))
            if question.up_to is None or name in question.up_to
            else Agent(agent_id, name, {}, {}, None, None, 0)
            for agent_id, name in names
        ]
        self._maps: dict[tuple[object, ...], tuple[StepMap, dict[str, MapMeter]]] = {}
        self.unused: dict[str, Fraction] = {}
        """The part of each meter's own load that no step uses, by the maps asked for so far; the most of any."""

    @property
    def limits(self) -> dict[int, int] | None:
        """The last batch of every gateway that counts, None where all do."""
        if self._question.up_to is None:
            return None
        return {agent.agent_id: agent.batch_id for agent in self.agents}

    def correction(self, agent: Agent, at_ms: int) -> Correction | None:
        """The corrected map in force for a gateway at a time, None for its own descriptor."""
        name = f"{self._question.org}/{agent.name}"
        found = [each for each in self._question.corrections if each.holds(name, at_ms)]
        if len(found) > 1:
            names = " and ".join(each.locked.name for each in found)
            raise DocumentError(f"{names} hold for {name} at the same time")
        return found[0] if found else None

    def map_for(
        self, agent: Agent, descriptor_id: int, at_ms: int
    ) -> tuple[StepMap, dict[str, MapMeter]] | None:
        """The map by which rows of a gateway under a descriptor count; None where the descriptor has not come."""
        if descriptor_id not in agent.descriptors:
            return None
        chosen = tuple(
            (other, descriptor_id if other is agent else other.newest, self.correction(other, at_ms))
            for other in self.agents
        )
        key = tuple((other.agent_id, number, id(correction)) for other, number, correction in chosen)
        if key not in self._maps:
            meters, virtual = _combined(chosen)
            self._maps[key] = step_map(meters, virtual), {meter.id: meter for meter in meters}
            for meter, part in check(meters, virtual).unused.items():
                self.unused[meter] = max(part, self.unused.get(meter, part))
        return self._maps[key]

    def descriptions(self) -> Iterator[tuple[str, MeterDescription]]:
        """Every meter of every descriptor, oldest first, with its qualified id."""
        for agent in self.agents:
            for number in sorted(agent.descriptors):
                for meter in agent.descriptors[number].meters:
                    yield f"{agent.name}/{meter.meter}", meter


def _agent(store: Store, agent_id: int, name: str, up_to: ChainHead | None) -> Agent:
    """A gateway as it stood at a batch, or as it stands now."""
    if up_to is None:
        sql = "SELECT head_chain, head_seq, head_hash FROM agents WHERE agent_id = ?"
        head = ChainHead(*row) if (row := store.one(sql, (agent_id,)))[0] is not None else None
    else:
        head = up_to
    batch_id, newest = (0, None) if head is None else _batch(store, agent_id, name, head)
    rows = store.rows(
        "SELECT descriptor_id, hash, jws FROM descriptors WHERE agent_id = ? AND jws IS NOT NULL AND descriptor_id <= ?"
        " ORDER BY descriptor_id",
        (agent_id, newest or 0),
    )
    return Agent(
        agent_id,
        name,
        {number: stored_descriptor(jws) for number, _, jws in rows},
        {number: hash_ for number, hash_, _ in rows},
        max((number for number, _, _ in rows), default=None),
        head,
        batch_id,
    )


def _batch(store: Store, agent_id: int, name: str, head: ChainHead) -> tuple[int, int]:
    """The row of a batch, and of the descriptor that was in force for it."""
    sql = "SELECT batch_id, hash, jws FROM batches WHERE agent_id = ? AND chain = ? AND seq = ?"
    row = store.first(sql, (agent_id, head.chain, head.seq))
    if row is None or row[1] != head.hash:
        raise fault(
            name, f"the store does not hold batch {head.chain}/{head.seq}", "use the store of the report"
        )
    sql = "SELECT descriptor_id FROM descriptors WHERE agent_id = ? AND hash = ?"
    return row[0], store.one(sql, (agent_id, stored_batch(row[2]).cfg))[0]


def _combined(
    chosen: Sequence[tuple[Agent, int | None, Correction | None]],
) -> tuple[list[MapMeter], list[VirtualMeter]]:
    """All meters as one plant; they are called `gateway/meter`, so that a parent may be at another gateway."""
    meters: list[MapMeter] = []
    virtual: list[VirtualMeter] = []
    for agent, number, correction in chosen:
        own = () if number is None else map_meters(agent.descriptors[number])
        if correction is not None:
            drawn(own, correction)  # refuses one that counts twice by itself, with its own ids
            own = own if correction.meters is None else correction.meters
            virtual += [_qualified_virtual(agent.name, made) for made in correction.virtual]
        meters += [_qualified(agent.name, meter) for meter in own]
    return meters, virtual


def _qualified(agent: str, meter: MapMeter) -> MapMeter:
    return replace(meter, id=f"{agent}/{meter.id}", parent=_at(agent, meter.parent))


def _qualified_virtual(agent: str, made: VirtualMeter) -> VirtualMeter:
    terms = tuple(Term(_at(agent, term.meter) or "", term.coefficient) for term in made.terms)
    return replace(made, id=f"{agent}/{made.id}", terms=terms)


def _at(agent: str, meter: str | None) -> str | None:
    return meter if meter is None or "/" in meter else f"{agent}/{meter}"
