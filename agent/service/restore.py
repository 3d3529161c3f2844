"""Taking up the thread where the platform holds it: a new chain behind the platform's head.

When the platform's head cannot be followed (the journal was lost, is an old copy, was cloned, or its chain was
refused), the agent asks for the platform's position of every meter and tells, in a new chain, what its own registers
did since: its kept points go through the ledger again, beginning at that position. Nothing is lost, because registers
are cumulative; nothing is doubled, because each delta begins at the register the platform confirmed.

Every point is told under the descriptor that it was read under, because that one says what the register meant and
which step the energy belongs to; so a meter that has left the site since is told as well. The new chain carries each
of these descriptors, the oldest first, as it would have if nothing had happened.
Source: wire format, section 6, "When the edge restores" and "What a restored chain contains".
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from agent.metering.gates import Held, power_max_w, rise_max
from agent.metering.interval import Moment, elapsed_ms
from agent.metering.later import since
from agent.metering.ledger import Basis, Head, Opened, Point, advance
from agent.metering.plant import Meter
from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import CLOCK
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import restart_event
from agent.service.journal import Journal, Reading
from agent.service.seal import Map, Sealer, read_map
from agent.service.telling import Portion, continuation_of, renamed_from, tell

EARLIEST_MS = 1_735_689_600_000
"""2025: this agent read nothing before; a position labelled so was labelled by a clock that knew no time."""


class Restorer:
    """Opens a chain behind the platform's head."""

    def __init__(self, meters: Iterable[Meter], sealer: Sealer, interval_ms: int) -> None:
        self._meters = {meter.id: meter for meter in meters}
        self._sealer = sealer
        self._interval_ms = interval_ms

    def go_on_with(self, journal: Journal, kid: str) -> None:
        """Let the key that the platform answered to sign the new chain, in the caller's transaction."""
        self._sealer.go_on_with(journal, kid)

    def open_chain(
        self,
        journal: Journal,
        head: ChainHead | None,
        theirs: Mapping[str, MeterHead],
        reason: str,
        now_ms: int,
        said_at_ms: int,
        rev: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Seal the new chain, in the caller's transaction.

        Args:
            journal: inside a transaction.
            head: the platform's head, which the new chain follows; None if the platform holds nothing.
            theirs: the platform's position of every meter it ever saw.
            reason: for the `restart` event.
            now_ms: wall time of the event.
            said_at_ms: when the platform said it, by its clock.
            rev: revision of the newest descriptor the platform knows; a new journal's first one has to be higher.
            details: of the `restart` event, where a person confirmed the position.
        """
        journal.supersede_after(head)
        kept = journal.heads()
        serials = {id: own.basis.serial for id, own in kept.items() if own.basis.serial is not None}
        serials |= {meter.id: meter.serial for meter in self._meters.values() if meter.serial is not None}
        in_force, _ = self._sealer.map_in_force(journal, self._meters.values(), serials, rev_above=rev or 0)
        self._sealer.open_chain(journal)
        tale = _Tale(journal, self._meters, in_force, self._interval_ms, said_at_ms)
        for meter in {**self._meters, **kept}:
            position = tale.tell(meter, theirs.get(meter))
            if position is not None:
                journal.save_head(position)
        for meter in journal.doubts():
            journal.save_doubts(
                meter, ()
            )  # made beside another position, perhaps before what the platform has
        restart = restart_event(now_ms, reason=reason, details=details)
        for number, (told_under, portion) in enumerate(tale.chapters()):
            events = [*self._sealer.map_events(told_under.kept), *([restart] if number == 0 else [])]
            self._sealer.seal(
                journal, told_under.hash, [*events, *portion.events], portion.deltas, prev_chain=head
            )


class _Tale:
    """What the new chain has to say, by the descriptor it is said under."""

    def __init__(
        self, journal: Journal, meters: Mapping[str, Meter], in_force: Map, interval_ms: int, said_at_ms: int
    ) -> None:
        self._journal = journal
        self._meters = meters
        self._in_force = in_force
        self._interval_ms = interval_ms
        self._said_at_ms = said_at_ms
        self._kept = journal.heads()
        self._maps = {in_force.hash: in_force}
        self._portions: defaultdict[str, Portion] = defaultdict(Portion)

    def chapters(self) -> list[tuple[Map, Portion]]:
        """What is told under each descriptor, the oldest first; the one in force always ends the tale."""
        former = [cfg for cfg in self._portions if cfg != self._in_force.hash]
        maps = sorted((self._map(cfg) for cfg in former), key=lambda each: each.kept.rev)
        return [(each, self._portions[each.hash]) for each in (*maps, self._in_force)]

    def tell(self, meter: str, said: MeterHead | None) -> Head | None:
        """Tell one meter's own points after the platform's position; gives the last of them, None without any."""
        position = None if said is None else self._place(meter, said)
        readings, is_anchored = self._readings(meter, position)
        points = [reading.point for reading in readings]
        if position is not None:
            points = since(points, position, is_anchored=is_anchored, present=self._present(meter))
        told = readings[len(readings) - len(points) :]
        for point, cfg in zip(points, self._told_under(meter, told), strict=True):
            position = self._tell(position, point, cfg)
        return position

    def _place(self, meter: str, said: MeterHead) -> Head:
        """The platform's position; where it is one of our own readings, with what we know of its time."""
        position = _position(meter, said, self._in_force.hash)
        own = [reading.point for reading in self._journal.readings(meter, after=position)[:1]]
        return replace(position, when=own[0].when) if own else _doubted(position, said, self._said_at_ms)

    def _readings(self, meter: str, position: Head | None) -> tuple[list[Reading], bool]:
        """The readings among which the position lies, and whether the first of them is surely not later."""
        readings = self._journal.readings(meter, after=position)
        if readings or position is None:
            return readings, False
        anchor, rest = self._journal.readings_unacknowledged(meter)
        return ([*([] if anchor is None else [anchor]), *rest], anchor is not None)

    def _present(self, meter: str) -> Basis | None:
        """The basis of a meter's readings from now on, by the map in force."""
        described = self._in_force.by_meter.get(meter)
        if described is None:
            return None
        return Basis(Fraction(described.num, described.den), described.modulus, described.serial)

    def _told_under(self, meter: str, readings: Sequence[Reading]) -> list[str]:
        """The descriptor of each reading: its own; the one in force where that says the same from there to the end."""
        found = [reading.cfg for reading in readings]
        wanted = self._in_force.by_meter.get(meter)
        for place in reversed(range(len(found))):
            if wanted is None or self._map(found[place]).by_meter.get(meter) != wanted:
                break
            found[place] = self._in_force.hash
        return found

    def _map(self, cfg: str) -> Map:
        if cfg not in self._maps:
            kept = self._journal.descriptor(cfg)
            assert kept is not None, "a reading names a descriptor that is not in the journal"
            self._maps[cfg] = read_map(kept)
        return self._maps[cfg]

    def _tell(self, position: Head | None, point: Point, cfg: str) -> Head:
        description = self._map(cfg).by_meter[point.meter]
        bound = None if position is None else self._bound(description, position, point)
        outcome = advance(position, point, cfg=cfg, rise_max_milliwh=bound)
        if isinstance(outcome, Held):
            # The point was booked once, so whatever broke the register's run lies before it: a new epoch.
            assert position is not None
            outcome = reopen(position, point, cfg)
        if isinstance(outcome, Opened):
            if position is None and (former := renamed_from(self._kept, self._meters, point)) is not None:
                self._portions[cfg].events.append(continuation_of(former, point))
            outcome = replace(outcome, reason="restore")
        return tell(
            self._portions[cfg],
            outcome,
            description,
            point.flags,
            interval_ms=self._interval_ms,
            bound=bound,
        )

    def _bound(self, description: MeterDescription, position: Head, point: Point) -> int | None:
        """Most energy the circuit can have used in between; of a meter that has left the site by its rated power."""
        meter = self._meters.get(point.meter)
        power_w = description.rated_w if meter is None else power_max_w(meter)
        silent_ms = elapsed_ms(position, point)
        return None if silent_ms is None else rise_max(power_w, point.basis.per_count_milliwh, silent_ms)


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
        when=point.when,
    )
    return Opened(position, after, "restore")


def _position(meter: str, said: MeterHead, cfg: str) -> Head:
    basis = Basis(Fraction(said.num, said.den), said.modulus, said.serial)
    return Head(meter, said.epoch, said.n, said.register, said.end_ms, said.end_ms, basis, cfg, restored=True)


def _doubted(position: Head, said: MeterHead, said_at_ms: int) -> Head:
    """The position with what is known of its label.

    Before this agent was made, or after the answer, is no time; nor is what a clock said that did not know it.
    """
    is_time = EARLIEST_MS <= position.at_ms <= said_at_ms
    if is_time and CLOCK not in (said.q or ()):
        return position
    return replace(position, when=Moment(None, None, None))
