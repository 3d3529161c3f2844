"""Taking up the thread where the platform holds it: a new chain behind the platform's head.

When the platform's head cannot be followed (the journal was lost, is an old copy, was cloned, or its chain was
refused), the agent asks for the platform's position of every meter and tells, in a new chain, what its own registers
did since: its kept points go through the ledger again, beginning at that position. Nothing is lost, because registers
are cumulative; nothing is doubled, because each delta begins at the register the platform confirmed.

Every point is told under the descriptor that it was read under, because that one says what the register meant and
which step the energy belongs to; so a meter that has left the site since is told as well. The new chain carries each
of these descriptors before it is used, as it would have if nothing had happened; one that was signed by a key which the
platform never got to know is sealed again first.

A platform that was emptied is told months. So the tale is told in pieces, each a short transaction that leaves chain
and positions in agreement: what is told, what is not, and from where each meter goes on stands in the journal
(`Retelling`), and a start goes on where the last one stopped. Meanwhile nothing else is sealed; the boundary that
comes after the last piece spans those that passed.
Source: wire format, section 6, "When the edge restores" and "What a restored chain contains".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from agent.metering.doubt import is_jitter
from agent.metering.gates import Held, power_max_w, rise_max, step_milliwh
from agent.metering.interval import EARLIEST_MS, Moment, elapsed_ms
from agent.metering.later import ROLLED, since
from agent.metering.ledger import Basis, Head, Opened, Point, advance, head_at
from agent.metering.plant import Meter
from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import CLOCK
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import Event, restart_event
from agent.service.journal import Journal, Reading, Retelling, Standing, Start
from agent.service.seal import Map, Sealer
from agent.service.telling import Portion, continuation_of, renamed_from, tell

PIECE_READINGS = 2048
"""About so many readings are told in one transaction: a second or two on a slow gateway, half a megabyte of log."""
_NEAR = 8
"""Readings after a position that nearly always say enough of what follows it."""


class Restorer:
    """Opens a chain behind the platform's head."""

    def __init__(
        self,
        meters: Iterable[Meter],
        sealer: Sealer,
        interval_ms: int,
        *,
        piece_readings: int = PIECE_READINGS,
    ) -> None:
        """`piece_readings` is about how many readings are told in one transaction."""
        self._meters = {meter.id: meter for meter in meters}
        self._sealer = sealer
        self._interval_ms = interval_ms
        self._piece_readings = piece_readings

    def go_on_with(self, journal: Journal, kid: str) -> None:
        """Let this one of our keys, which the platform knows, sign the new chain, in the caller's transaction."""
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
        """Seal the beginning of the new chain, in the caller's transaction; `go_on` seals the rest.

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
        for each in journal.descriptors():  # the map in force has to have the highest revision
            self._sealer.known_map(journal, each.hash, rev_above=rev or 0)
        in_force, _ = self._sealer.map_in_force(journal, self._meters.values(), serials, rev_above=rev or 0)
        self._sealer.open_chain(journal)
        for meter in journal.doubts():  # made beside another position, perhaps before what the platform has
            journal.save_doubts(meter, ())
        _forget_former_settings(journal, kept, theirs)
        _forget_epochs_told(journal, head, {**self._meters, **kept}, theirs)
        plan = _Planner(journal, in_force, kept, said_at_ms).plan({**self._meters, **kept}, theirs)
        restart = restart_event(now_ms, reason=reason, details=details)
        self._tell(journal, plan, opening=[restart], prev_chain=head)

    def go_on(self, journal: Journal) -> bool:
        """Tell the next piece, in a transaction of its own; False where nothing is left, or it is not the time.

        While the platform is asked where it stands nothing is told: its answer may begin another tale.
        """
        if journal.retelling() is None:
            return False  # nearly always, and no reason to write
        with journal.transaction():
            plan = journal.retelling()
            if plan is None or journal.state().standing is not Standing.NORMAL:
                return False
            self._tell(journal, plan)
            return True

    def _tell(
        self,
        journal: Journal,
        plan: Retelling,
        *,
        opening: Sequence[Event] = (),
        prev_chain: ChainHead | None = None,
    ) -> None:
        tale = _Tale(journal, self._sealer, self._meters, plan, self._interval_ms, opening, prev_chain)
        limit = max(1, self._piece_readings // max(1, len(self._meters)))
        boundaries = journal.boundaries(after=tale.told, limit=limit)
        for number, readings in boundaries:
            tale.tell(number, readings)
        journal.save_retelling(tale.end(is_over=len(boundaries) < limit))


class _Planner:
    """Finds where each meter's tale begins, and puts the positions of the journal to where the platform's are."""

    def __init__(self, journal: Journal, in_force: Map, kept: Mapping[str, Head], said_at_ms: int) -> None:
        """`kept` is where the journal's own ledger stood."""
        self._journal = journal
        self._in_force = in_force
        self._kept = kept
        self._said_at_ms = said_at_ms

    def plan(self, meters: Iterable[str], theirs: Mapping[str, MeterHead]) -> Retelling:
        """A tale of which nothing is told yet."""
        starts: dict[str, Start | None] = {}
        first = []
        for meter in meters:
            said = theirs.get(meter)
            if said is None:
                if self._journal.readings(meter, after=None, limit=1):
                    self._journal.drop_head(meter)
                    first.append(0)
                continue
            position, later = self._later(meter, said)
            self._journal.save_head(position)
            starts[meter] = None
            if later is not None:
                starts[meter] = later
                first.append(self._journal.boundary_before(meter, later.at_ms, later.register_milliwh))
        told = min(first, default=self._journal.last_reading())
        return Retelling(told, self._in_force.hash, frozenset(), starts)

    def _later(self, meter: str, said: MeterHead) -> tuple[Head, Start | None]:
        """The platform's position with what we know of its time, and the first own reading that is later."""
        position = _position(meter, said, self._in_force.hash)
        stood = self._kept.get(meter)
        near = self._journal.readings(meter, after=position, limit=_NEAR)
        if near:
            position = replace(position, when=near[0].point.when)
            if (found := self._near_start(position, near)) is not None:
                return position, found
            return position, self._start(position, self._journal.readings(meter, after=position), stood)
        position = _doubted(position, said, self._said_at_ms)
        anchor, rest = self._journal.readings_unacknowledged(meter)
        readings = [*([] if anchor is None else [anchor]), *rest]
        return position, self._start(position, readings, stood, is_anchored=anchor is not None)

    def _near_start(self, position: Head, near: Sequence[Reading]) -> Start | None:
        """The start, where the few readings after the position show it; None where more have to be looked at."""
        found = self._start(position, near)
        if found is None:
            return None
        proved = position.basis.serial is None or any(
            _key(each) == _key(found) and each.point.basis.proves(position.basis) for each in near
        )
        return found if proved else None

    def _start(
        self,
        position: Head,
        readings: Sequence[Reading],
        stood: Head | None = None,
        *,
        is_anchored: bool = False,
    ) -> Start | None:
        points = [reading.point for reading in readings]
        later = since(
            points, position, is_anchored=is_anchored, present=self._present(position.meter), own=stood
        )
        if not later:
            return None
        own = readings[len(readings) - len(later)]
        return Start(
            own.point.at_ms,
            own.point.cut_ms,
            own.point.register_milliwh,
            own.cfg,
            opens=later[0].opens is not None,
        )

    def _present(self, meter: str) -> Basis | None:
        """The basis of a meter's readings from now on, by the map in force."""
        described = self._in_force.by_meter.get(meter)
        if described is None:
            return None
        return Basis(Fraction(described.num, described.den), described.modulus, described.serial)


class _Tale:
    """One piece of what the new chain has to say, by the descriptor it is said under."""

    def __init__(
        self,
        journal: Journal,
        sealer: Sealer,
        meters: Mapping[str, Meter],
        plan: Retelling,
        interval_ms: int,
        opening: Sequence[Event],
        prev_chain: ChainHead | None,
    ) -> None:
        self._journal = journal
        self._sealer = sealer
        self._meters = meters
        self._interval_ms = interval_ms
        self._opening = list(opening)
        self._prev_chain = prev_chain
        self._maps: dict[str, Map] = {}
        self._in_force = self._map(plan.in_force)
        self._carried = set(plan.carried)
        self._starts = dict(plan.starts)
        self._heads = journal.heads()
        self._portions: dict[str, Portion] = {}
        self._told_under: dict[str, str] = {}
        self.told = plan.told
        """The number of the last reading that was told."""

    def tell(self, number: int, readings: Iterable[Reading]) -> None:
        """Tell the readings of one boundary."""
        for reading in readings:
            point = self._due(reading)
            if point is None:
                continue
            cfg = self._cfg_of(reading)
            if self._told_under.get(point.meter, cfg) != cfg:
                self._seal()  # each meter's deltas stay in their order
            self._told_under[point.meter] = cfg
            self._heads[point.meter] = self._advance(self._heads.get(point.meter), point, cfg)
            self._journal.save_head(self._heads[point.meter])
        self.told = number

    def end(self, *, is_over: bool) -> Retelling | None:
        """Seal what was told; gives what is left to tell, None where nothing is. The map in force ends the tale."""
        if (is_over and self._in_force.hash not in self._carried) or self._opening:
            self._portion(self._in_force.hash)
        self._seal()
        if is_over:
            return None
        return Retelling(self.told, self._in_force.hash, frozenset(self._carried), self._starts)

    def _seal(self) -> None:
        """What was told under each descriptor, the oldest first."""
        for each in sorted((self._map(cfg) for cfg in self._portions), key=lambda each: each.kept.rev):
            portion = self._portions[each.hash]
            events = [] if each.hash in self._carried else self._sealer.map_events(each.kept)
            self._carried.add(each.hash)
            self._sealer.seal(
                self._journal,
                each.hash,
                [*events, *self._opening, *portion.events],
                portion.deltas,
                prev_chain=self._prev_chain,
                last_reading=self.told,
            )
            self._opening.clear()
        self._portions.clear()
        self._told_under.clear()

    def _portion(self, cfg: str) -> Portion:
        return self._portions.setdefault(cfg, Portion())

    def _due(self, reading: Reading) -> Point | None:
        """The point, if the platform does not know it yet."""
        point = reading.point
        if point.meter not in self._starts:
            return point
        start = self._starts[point.meter]
        if start is None or _key(start) != _key(reading):
            return None
        del self._starts[point.meter]
        return point if start.opens else replace(point, opens=None)

    def _cfg_of(self, reading: Reading) -> str:
        """The descriptor of a reading: its own; the one in force where that says the same of the meter."""
        meter = reading.point.meter
        wanted = self._in_force.by_meter.get(meter)
        if wanted is not None and self._map(reading.cfg).by_meter.get(meter) == wanted:
            return self._in_force.hash
        return self._map(reading.cfg).hash

    def _map(self, cfg: str) -> Map:
        """The map of a reading, by a key that the platform knows."""
        if cfg not in self._maps:
            self._maps[cfg] = self._sealer.known_map(self._journal, cfg)
        return self._maps[cfg]

    def _advance(self, position: Head | None, point: Point, cfg: str) -> Head:
        if position is not None and _is_seen_to_go_on(position, point):
            point = replace(point, opens=None)
        if position is not None and self._is_jitter(position, point):
            return position  # read by a journal that did not know the position; the next reading spans it
        description = self._map(cfg).by_meter[point.meter]
        bound = None if position is None else self._bound(description, position, point)
        outcome = advance(position, point, cfg=cfg, rise_max_milliwh=_rise_max(point, bound))
        if isinstance(outcome, Held):
            assert position is not None
            # The point was booked once, so whatever broke the register's run lies before it: a new epoch.
            outcome = reopen(position, point, cfg)
        portion = self._portion(cfg)
        if isinstance(outcome, Opened):
            if position is None and (former := renamed_from(self._heads, self._meters, point)) is not None:
                portion.events.append(continuation_of(former, point))
            outcome = replace(outcome, reason="restore")
        return tell(portion, outcome, description, point.flags, interval_ms=self._interval_ms, bound=bound)

    def _is_jitter(self, position: Head, point: Point) -> bool:
        """Whether the register only trembled below the position, as the gates would hold it."""
        if point.opens is not None or not point.basis.proves(position.basis):
            return False
        meter, per_count = self._meters.get(point.meter), point.basis.per_count_milliwh
        step: Fraction = per_count
        if meter is not None and meter.per_count_milliwh == per_count:
            step = step_milliwh(meter, point.register_milliwh / per_count)
        return is_jitter(position.register_milliwh - point.register_milliwh, point.register_milliwh, step)

    def _bound(self, description: MeterDescription, position: Head, point: Point) -> int | None:
        """Most energy the circuit can have used in between; of a meter that has left the site by its rated power."""
        meter = self._meters.get(point.meter)
        power_w = description.rated_w if meter is None else power_max_w(meter)
        silent_ms = elapsed_ms(position, point)
        return None if silent_ms is None else rise_max(power_w, point.basis.per_count_milliwh, silent_ms)


def _key(of: Reading | Start) -> tuple[int, int, int, str]:
    """What a reading is known by."""
    if isinstance(of, Start):
        return of.at_ms, of.cut_ms, of.register_milliwh, of.cfg
    return of.point.at_ms, of.point.cut_ms, of.point.register_milliwh, of.cfg


def _is_seen_to_go_on(position: Head, point: Point) -> bool:
    """Whether an epoch opened here only because what came before was not known at the time.

    First is a reading to a journal that had lost what came before. Behind a restored position an epoch opens where that
    one was another meter's, or told too little; the readings in between may be told now (a person brought an old word,
    and then a newer one: seed 175 of `broker-only-own-word`).
    """
    if not point.basis.proves(position.basis):
        return False
    rises = point.register_milliwh >= position.register_milliwh
    return point.opens == "first" or (point.opens == "restore" and rises)


def reopen(position: Head, point: Point, cfg: str) -> Opened:
    """A new epoch at a point that cannot continue the position."""
    return Opened(position, head_at(point, epoch=position.epoch + 1, n=0, cfg=cfg), "restore")


def _rise_max(point: Point, bound: int | None) -> int | None:
    """The most that the circuit can have used up to a reading; less than a turn where the gates have found that once.

    The label that it was salvaged with may say nothing of the time any more (seed 553).
    """
    modulus = point.basis.modulus_milliwh
    return bound if ROLLED not in point.flags or modulus is None else modulus - 1


def _forget_former_settings(
    journal: Journal, kept: Mapping[str, Head], theirs: Mapping[str, MeterHead]
) -> None:
    """How meters were set in an epoch before the platform's says nothing of what was set since.

    Another setting opens an epoch. An old copy would open a second one behind the platform's position.
    """
    memories = journal.memories()
    for meter, stood in kept.items():
        said = theirs.get(meter)
        if said is not None and said.epoch > stood.epoch and meter in memories:
            journal.save_memory(meter, replace(memories[meter], fingerprint=None))


def _forget_epochs_told(
    journal: Journal, head: ChainHead | None, meters: Iterable[str], theirs: Mapping[str, MeterHead]
) -> None:
    """No balance lists an epoch that only the chain told which is given up.

    A platform learned one from it, and booked 3.7 GWh (seed 396 of `broker-only-own-word`). Where the head is no batch
    of ours, our epochs were counted from elsewhere, and none is listed.
    """
    is_ours = head is not None and journal.ordinal_of(head) is not None
    for meter in meters:
        said = theirs.get(meter)
        journal.forget_epochs(meter, after=said.epoch if is_ours and said is not None else 0)


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
