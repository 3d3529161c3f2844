"""The balance of a period: each meter against the meters behind it, from what is sealed.

Walks the journal page by page like the preview, so that a running agent goes on sealing in between. A delta counts for
the period in which it ends; superseded batches are left out, because a later chain tells their energy. Which meter
stands behind which is taken from the newest map of the period; where there were several, that is said. Before this
come the journal and a period, after it the control socket and the command `balance`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.metering.plant import Role
from agent.metering.quantity import format_kwh
from agent.metering.residual import ASSUMED_CLASS, Counted, Residual, residuals
from agent.reporting.descriptor import Descriptor, MeterDescription
from agent.reporting.utc import ms_of_text, text_of_ms
from agent.service.export import payload_of
from agent.service.journal import Journal, Storage
from agent.service.preview import PAGE, period_of


@dataclass(slots=True)
class _Sum:
    energy_milliwh: int = 0
    first: str = "9"
    last: str = "0"


@dataclass(slots=True)
class Balance:
    """Counts the batches of a period, a page at a time."""

    from_ms: int
    to_ms: int
    sums: dict[str, _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    holes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    maps: dict[str, Descriptor] = field(default_factory=dict)
    ordinal: int | None = None

    def page(self, journal: Journal) -> bool:
        """Count the next page; False once there is none. Raises JournalDamaged where a batch cannot be read."""
        if self.ordinal is None:
            self.ordinal = journal.ordinal_sealed_by(self.from_ms)
        rows = journal.batches_between(
            after_ordinal=self.ordinal, up_to_ordinal=journal.last_ordinal(), limit=PAGE
        )
        for row in rows:
            self.ordinal = row.ordinal
            if row.jws is not None and not row.superseded:
                self._take(payload_of(row.jws), journal)
        return bool(rows)

    def _take(self, payload: Mapping[str, object], journal: Journal) -> None:
        cfg, deltas, events = payload.get("cfg"), payload.get("deltas"), payload.get("events")
        if not isinstance(cfg, str) or not isinstance(deltas, list) or not isinstance(events, list):
            return
        begins, ends = text_of_ms(self.from_ms), text_of_ms(self.to_ms)
        for delta in deltas:
            if begins < delta["end"] <= ends:
                found = self.sums[delta["meter"]]
                found.energy_milliwh += delta["delta"]
                found.first = min(found.first, delta["start"])
                found.last = max(found.last, delta["end"])
                self._know(cfg, journal)
        for event in events:
            if event["type"] == "epoch" and begins < event["at"] <= ends:
                self.holes[event["meter"]] += 1

    def _know(self, cfg: str, journal: Journal) -> None:
        kept = None if cfg in self.maps else journal.descriptor(cfg)
        if kept is not None:
            self.maps[cfg] = Descriptor.from_payload(payload_of(kept.jws))

    def to_payload(self) -> dict[str, object]:
        """As it goes over the control socket: one node for each meter that has others behind it."""
        newest = max(self.maps.values(), key=lambda each: each.rev, default=None)
        described = {} if newest is None else newest.by_meter()
        children: dict[str, list[str]] = {}
        elsewhere: dict[str, str] = {}
        for id, each in described.items():
            if each.parent is not None and each.parent in described:
                children.setdefault(each.parent, []).append(id)
            elif each.parent is not None:
                elsewhere[id] = each.parent
        counted = {id: _counted(each, self.sums[id]) for id, each in described.items() if id in self.sums}
        return {
            "from": text_of_ms(self.from_ms),
            "to": text_of_ms(self.to_ms),
            "maps": len(self.maps),
            "assumed_class": ASSUMED_CLASS,
            "elsewhere": elsewhere,
            "nodes": [self._node(each, counted) for each in residuals(counted, children)],
        }

    def _node(self, residual: Residual, counted: Mapping[str, Counted]) -> dict[str, object]:
        meters = (residual.parent, *residual.behind)
        return {
            "meter": residual.parent,
            "behind": {id: _kwh(counted.get(id)) for id in residual.behind},
            "counted_kwh": _kwh(counted.get(residual.parent)),
            "inflow_milliwh": residual.inflow_milliwh,
            "behind_milliwh": residual.counted_milliwh,
            "residual_milliwh": residual.residual_milliwh,
            "tolerance_milliwh": residual.tolerance_milliwh,
            "inflow_kwh": format_kwh(residual.inflow_milliwh),
            "behind_kwh": format_kwh(residual.counted_milliwh),
            "residual_kwh": format_kwh(residual.residual_milliwh),
            "tolerance_kwh": format_kwh(residual.tolerance_milliwh),
            "verdict": residual.verdict.value,
            "lacking": list(residual.lacking),
            "assumed": list(residual.assumed),
            "holes": {id: self.holes[id] for id in meters if self.holes.get(id)},
        }


def _kwh(counted: Counted | None) -> str | None:
    return None if counted is None else format_kwh(counted.energy_milliwh)


def _counted(said: MeterDescription, total: _Sum) -> Counted:
    return Counted(
        said.meter,
        Role(said.role),
        said.parent,
        total.energy_milliwh,
        ms_of_text(total.first),
        ms_of_text(total.last),
        said.resolution or 0,
        said.accuracy_class,
        said.ct_class,
    )


class Balancer:
    """Answers the question `balance` on the control socket."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def answer(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """The balance between `from_ms` and `to_ms`. Raises ValueError for arguments of another kind."""
        balance = Balance(*period_of(arguments, "balance"))
        while await self._storage.run(balance.page):
            pass
        return balance.to_payload()
