"""Taking up the thread where the platform holds it: a new chain behind the platform's head.

When the platform's head cannot be followed (the journal was lost, is an old copy, was cloned, or its chain was
refused), the agent asks for the platform's position of every meter and tells, in a new chain, what its own registers
did since: its kept points go through the ledger again, beginning at that position. Nothing is lost, because registers
are cumulative; nothing is doubled, because each delta begins at the register the platform confirmed.
Source: wire format, section 6, "When the edge restores" and "What a restored chain contains".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from agent.metering.gates import Held, power_max_w, rise_max
from agent.metering.ledger import Advanced, Basis, Head, Opened, Point, advance, since
from agent.metering.plant import Meter
from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import Delta
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event, restart_event
from agent.service.close import balance_of, delta_of, epoch_opening, gap_of
from agent.service.journal import Journal
from agent.service.seal import Map, Sealer


@dataclass(slots=True)
class _Tale:
    """What the new chain has to say after its opening; `pack` brings events and deltas into their order."""

    events: list[Event] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)


class Restorer:
    """Opens a chain behind the platform's head."""

    def __init__(self, meters: Iterable[Meter], sealer: Sealer, interval_ms: int) -> None:
        self._meters = {meter.id: meter for meter in meters}
        self._sealer = sealer
        self._interval_ms = interval_ms

    def open_chain(
        self,
        journal: Journal,
        head: ChainHead | None,
        theirs: Mapping[str, MeterHead],
        reason: str,
        now_ms: int,
        rev: int | None = None,
    ) -> None:
        """Seal the new chain, in the caller's transaction.

        Args:
            journal: inside a transaction.
            head: the platform's head, which the new chain follows; None if the platform holds nothing.
            theirs: the platform's position of every meter it ever saw.
            reason: for the `restart` event.
            now_ms: wall time of the event.
            rev: revision of the newest descriptor the platform knows; a new journal's first one has to be higher.
        """
        journal.supersede_after(head)
        kept = journal.heads()
        serials = {id: own.basis.serial for id, own in kept.items() if own.basis.serial is not None}
        serials |= {meter.id: meter.serial for meter in self._meters.values() if meter.serial is not None}
        in_force, _ = self._sealer.map_in_force(journal, self._meters.values(), serials, rev_above=rev or 0)
        self._sealer.open_chain(journal)
        tale = _Tale([*self._sealer.map_events(in_force.kept), restart_event(now_ms, reason=reason)])
        for meter in self._meters.values():
            self._replay(journal, meter, theirs.get(meter.id), in_force, tale)
        self._sealer.seal(journal, in_force.hash, tale.events, tale.deltas, prev_chain=head)

    def _replay(
        self, journal: Journal, meter: Meter, said: MeterHead | None, in_force: Map, tale: _Tale
    ) -> None:
        """Tell one meter's own points after the platform's position, and move its head to the last of them."""
        position = None if said is None else _position(meter.id, said, in_force.hash)
        if position is None:
            points = journal.points(meter.id, from_ms=0)
        else:
            points = since(journal.points(meter.id, from_ms=position.at_ms), position)
        for point in points:
            position = self._tell(meter, position, point, in_force, tale)
        if position is not None:
            journal.save_head(position)

    def _tell(self, meter: Meter, position: Head | None, point: Point, in_force: Map, tale: _Tale) -> Head:
        bound = None if position is None else self._bound(meter, position, point)
        outcome = advance(position, point, cfg=in_force.hash, rise_max_milliwh=bound)
        if isinstance(outcome, Held):
            # The point was booked once, so whatever broke the register's run lies before it: a new epoch.
            assert position is not None
            outcome = reopen(position, point, in_force.hash)
        match outcome:
            case Opened(None, _, _):
                pass
            case Opened(before, after, _):
                assert before is not None
                tale.events.extend(balance_of(before))
                tale.events.append(epoch_opening(before, after, "restore", bound))
            case Advanced():
                description = in_force.by_meter[meter.id]
                tale.deltas.append(delta_of(outcome, description, point.flags, self._interval_ms))
                tale.events.extend(gap_of(outcome, self._interval_ms))
        return outcome.head

    @staticmethod
    def _bound(meter: Meter, position: Head, point: Point) -> int | None:
        step = point.basis.per_count_milliwh
        return rise_max(power_max_w(meter), step, max(0, point.at_ms - position.at_ms))


def reopen(position: Head, point: Point, cfg: str) -> Opened:
    """A new epoch at a point that cannot continue the position."""
    after = Head(
        point.meter,
        position.epoch + 1,
        0,
        point.register_milliwh,
        point.at_ms,
        point.cut_ms,
        point.basis,
        cfg,
    )
    return Opened(position, after, "restore")


def _position(meter: str, said: MeterHead, cfg: str) -> Head:
    basis = Basis(Fraction(said.num, said.den), said.modulus, said.serial)
    return Head(meter, said.epoch, said.n, said.register, said.end_ms, said.end_ms, basis, cfg, restored=True)
