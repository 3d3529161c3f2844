"""The promises, held against what the platform booked: after every commit, now and then, and at the end.

Every row the platform books is judged when it appears (I1, I2, I5, I6, I7): both registers must have been shown on the
bus, the energy between them must be what the place used, and ratio and step must be those of the site file under which
the first of them was read. Now and then the gateway's journal is asked what it takes for acknowledged (I3). At the end
all rows together must reach from the first register read to the last one (I1, I9), and everything that was refused or
set must have been said (I11).
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from agent.adapters.journal import SqliteJournal
from agent.adapters.journal.soundness import check_all
from agent.errors import JournalDamaged
from agent.metering.interval import DAY_MS
from agent.metering.ledger import Head, Point
from agent.reporting import topics
from agent.reporting.batch import CLOCK
from agent.reporting.descriptor import MeterDescription
from agent.service.acknowledge import Outcome
from agent.service.close import Closed
from simulators.platform.dossier import stored_descriptor
from simulators.platform.queries import broken_books
from simulators.platform.store import Row, Store
from simulators.world.gateway import KEEP_DAYS, Gateway
from simulators.world.line import Pair
from simulators.world.site import AGENT, ORG, Site
from simulators.world.time import Time
from simulators.world.truth import TREMBLES_MAX, Place, Shown

_ROWS = (
    "SELECT booked_id, meter, epoch, n_last, kind, reg_start, reg_end, roll, energy, q, descriptor_id, batch_id"
    " FROM booked WHERE booked_id > ? ORDER BY booked_id"
)
_UNTOLD = (
    "SELECT meter, epoch FROM epochs e WHERE epoch > (SELECT min(epoch) FROM epochs WHERE meter = e.meter)"
    " AND NOT EXISTS (SELECT 1 FROM events WHERE type = 'epoch' AND meter = e.meter"
    " AND body ->> 'epoch_to' = e.epoch) ORDER BY 1, 2"
)
"""Epochs whose event has not come, nor a balance that lists it."""
_SUSPECT = "suspect"
"""The flag of a delta that may be of two meters, as far as anybody knows."""
JOURNAL_BYTES_MAX = 20_000_000
"""No world is long enough for more."""
RESTORES_MAX = 200
"""New chains in one world; a clone and its original make one every few minutes."""
TURNS_PER_S_MAX = 60
"""Of the event loop, on the average of minutes; a quiet agent makes two."""
UNASKED_INTERVALS = 3
"""So long nobody may leave a meter unasked that nothing ails."""


@dataclass(frozen=True, slots=True)
class _Epoch:
    """What the platform has of an epoch of a meter, registers in 0.001 Wh.

    `bound` is what was declared of the hole before it, None where nobody knew; `is_doubtful` says that nobody knew for
    certain when it ended (flag `clock`), `is_unproved` that a new journal could not say whether this is the meter of
    the epoch before, `is_joined` that the platform fitted it to that one, where it could ask nobody, and could not say
    what lies between.
    """

    number: int
    opening: int
    last: int
    per_count: Fraction
    modulus: int | None
    bound: int | None
    is_doubtful: bool
    is_unproved: bool
    is_joined: bool

    def end(self, opening: int, lasts: Collection[int]) -> int:
        """The position at which it ended, of all at which its last register was shown: after a reset, once more.

        It is as many counts from the opening as the registers say, rollovers apart.
        """
        counts = (self.last - self.opening) / self.per_count
        turn = None if self.modulus is None else self.modulus / self.per_count
        ways = [each - opening - counts for each in lasts]
        exact = [
            each for each, off in zip(lasts, ways, strict=True) if not (off if turn is None else off % turn)
        ]
        return max(exact or lasts)


class Auditor:
    """Judges one world."""

    def __init__(
        self,
        time: Time,
        places: dict[str, Place],
        sites: dict[int, Site],
        alarm: Callable[[str], None],
        trace: Callable[[str], None],
        *,
        interval_ms: int,
        by_broker: bool = False,
    ) -> None:
        """`by_broker` says that the platform cannot ask: what a broker lost is bridged by registers."""
        self.refused: set[tuple[str, str, str]] = set()
        """Which box refused a reading of which meter, and why."""
        self.first_is_known = True
        """False where the first readings may have been lost before the platform heard of them."""
        self.retold = False
        """A chain was opened behind the platform's head: what was said in the old one need not be said again."""
        self.time_was_unknown = False
        """A gateway's clock was wrong for a while: across a restart of the machine nobody knew how long it was."""
        self.has_rotted = False
        """Bytes of a journal have changed by themselves."""
        self.has_lost_a_journal = False
        """What only it knew is known to nobody, unless the platform has it."""
        self.said_by_platform: set[bytes] = set()
        """Everything that was signed with the platform's key."""
        self.accepted_ms: dict[str, int] = {}
        """When the platform, of any generation, first had each batch."""
        self._time = time
        self._places = places
        self._sites = sites
        self._alarm = alarm
        self._trace = trace
        self._interval_ms = interval_ms
        self._by_broker = by_broker
        self._restores = 0
        self._rows_up_to = 0
        self._batches_up_to = 0
        self._without_map: list[Row] = []
        """Booked under a descriptor that has not come; where nobody can be asked it comes again within the hour."""
        self._described: dict[int, dict[str, MeterDescription] | None] = {}

    def platform_restored(self) -> None:
        """Rows are numbered anew: look at all of them again."""
        self._rows_up_to = self._batches_up_to = 0
        self._without_map.clear()
        self._described.clear()

    # -- at every booking

    def look(self, store: Store) -> None:
        """Judge what was booked since the last look."""
        rows, self._without_map = self._without_map, []
        for row in [*rows, *store.rows(_ROWS, (self._rows_up_to,))]:
            self._rows_up_to = max(self._rows_up_to, row[0])
            self._judge(store, row)
        for batch_id, chain, seq, hash_, jws in store.rows(
            "SELECT batch_id, chain, seq, hash, jws FROM batches WHERE batch_id > ? ORDER BY batch_id",
            (self._batches_up_to,),
        ):
            self._batches_up_to = batch_id
            self._judge_link(store, chain, seq, hash_, jws)
            if hash_ not in self.accepted_ms:
                self.accepted_ms[hash_] = self._time.wall_ms()
                self._trace(f"batch {chain}/{seq} {hash_}")

    def _judge_link(self, store: Store, chain: str, seq: int, hash_: str, jws: bytes) -> None:
        """Each batch names the one before by the hash of what was signed, which anybody can work out (I4)."""
        header, payload, _ = jws.split(b".")
        if hash_ != _text64(hashlib.sha256(header + b"." + payload).digest()):
            self._alarm(f"I4: {chain}/{seq} is kept under a hash that is not its own")
        before = store.first("SELECT hash FROM batches WHERE chain = ? AND seq = ?", (chain, seq - 1))
        prev = json.loads(base64.urlsafe_b64decode(payload + b"=="))["prev"]
        if before is None and self._by_broker:
            return  # passed over, and named among the gaps
        if seq > 1 and (before is None or before[0] != prev):
            self._alarm(f"I4: {chain}/{seq} does not name the batch before it")

    def _judge(self, store: Store, row: Row) -> None:
        _, meter, epoch, n, _, reg_start, reg_end, roll, energy, q, descriptor_id, _ = row
        self._trace(f"booked {meter}/{epoch}/{n} {reg_start} {reg_end} {roll} {energy} {q}")
        name = f"{meter}/{epoch}/{n}"
        if energy != reg_end - reg_start + roll or energy < 0:
            self._alarm(f"I1: {name} books {energy} between {reg_start} and {reg_end} (rollover {roll})")
        described = self._description(store, descriptor_id, meter)
        if described is None:
            self._without_map.append(row)
            if not self._by_broker:
                self._alarm(f"I7: {name} is booked under a descriptor that has not come")
            return
        per_count = Fraction(described.num, described.den)
        place = self._places[meter]
        starts, ends = (_shown(place, each, per_count) for each in (reg_start, reg_end))
        if not starts or not ends:
            self._alarm(f"I5: {name} books from {reg_start} to {reg_end}; one of them was never shown")
            return
        counts = energy / per_count
        fitting = [s for s in starts for e in ends if e.position - s.position == counts]
        if not fitting and _SUSPECT in q.split() and not roll:
            fitting = [s for s in starts for e in ends if place.has_forgotten(s.position, e.position)]
        if not fitting:
            used = [(e.position - s.position) * per_count for s in starts for e in ends]
            self._alarm(f"I1: {name} books {energy}, true is {', '.join(map(str, used))}")
            return
        self._judge_map(name, meter, per_count, described.step, fitting)

    def _judge_map(
        self, name: str, meter: str, per_count: Fraction, step: str | None, starts: list[Shown]
    ) -> None:
        """Energy used under a site file is booked by its ratio, and for its step."""
        meters = [self._sites[v].meter(meter) for s in starts for v in s.versions]
        if all(each.per_count_milliwh != per_count for each in meters):
            self._alarm(f"I7: {name} is booked with {per_count} a count; its start was read otherwise")
        elif not self.retold and all(each.step != step for each in meters):
            self._alarm(f"I7: {name} is booked for {step}; its start was read for {meters[0].step}")

    def _description(self, store: Store, descriptor_id: int, meter: str) -> MeterDescription | None:
        if self._described.get(descriptor_id) is None:
            jws = store.one("SELECT jws FROM descriptors WHERE descriptor_id = ?", (descriptor_id,))[0]
            self._described[descriptor_id] = None if jws is None else stored_descriptor(jws).by_meter()
        known = self._described[descriptor_id]
        return None if known is None else known.get(meter)

    # -- what the agent does

    def opened(self, journal: SqliteJournal, store: Store) -> None:
        """A journal was opened; the first readings of meters that it does not know are lost if nobody had them.

        They are told with the first delta, an interval later: a journal that is lost within it takes them along. So is
        what it alone has read since a register was set back: if that is beyond where it stood when it is read again,
        nobody who is left can tell (seed 15442: nine days of sleep). The agent says that the meter is suspect.
        """
        known = journal.heads()
        for meter, place in self._places.items():
            is_booked = store.first("SELECT 1 FROM epochs WHERE meter = ?", (meter,)) is not None
            place.is_begun &= meter in known or is_booked
            if place.set_back_at and not _knows_since(place, meter, journal, store):
                place.forgotten.add(place.set_back_at)

    def saw(self, gateway: Gateway, result: object) -> None:
        """The result of a piece of work on a journal."""
        if isinstance(result, Closed):
            for meter, each in result.not_booked.items():
                self.refused.add((gateway.name, meter, _without_figures(each.reason)))
        if result is Outcome.RESTORED:
            self.retold = True
            self._restores += 1
            if self._restores > RESTORES_MAX:
                self._alarm(f"I9: more than {RESTORES_MAX} new chains, and none that the platform follows")
        self.time_was_unknown |= gateway.clock.quality().sync == "U"

    def taken_away(self, gateway: Gateway) -> None:
        """A copy of the box is switched off for good: what it refused and had not yet told went with its disk."""
        self.refused = {each for each in self.refused if each[0] != gateway.name}

    def sent(self, gateway: Gateway, topic: str) -> None:
        """A message leaves: what it says must survive the loss of power."""
        if topic.endswith("/batch") and not gateway.disk.is_durable():
            self._alarm("I3: a batch is published while the journal's log is not on the disk")

    def look_at_agent(self, gateway: Gateway, pairs: Mapping[str, Pair], turns: int, since_s: int) -> None:
        """It asks every meter that nothing ails, it rests while there is nothing to do, and it obeys nobody.

        Args:
            gateway: the box.
            pairs: what it is wired to.
            turns: how often the event loop came round since the last look.
            since_s: seconds since then.
        """
        if turns > TURNS_PER_S_MAX * since_s:
            self._alarm(f"I8: {turns} turns of the event loop in {since_s} s")
        if gateway.stages is None or gateway.disk.dead:
            return
        heard = (topics.acknowledgement(ORG, AGENT),)
        if gateway.uplink is not None and gateway.uplink.topics not in ((), heard):  # () before it begins
            self._alarm(f"I12: the agent listens to {gateway.uplink.topics}")
        unasked_ns_max = UNASKED_INTERVALS * self._interval_ms * 1_000_000
        for pair in pairs.values():
            if pair.unplugged is not None or pair.line.flip_every:
                continue  # no question arrives whole for certain
            for device in pair.devices:
                since_ns = max(device.asked_ns, pair.plugged_ns, gateway.started_ns)
                if self._time.ns - since_ns > unasked_ns_max:
                    silent_s = (self._time.ns - since_ns) // 1_000_000_000
                    self._alarm(f"I10: nobody has asked {device.meter.id} for {silent_s} s")

    def look_at_journal(self, gateway: Gateway) -> None:
        """What the journal takes for acknowledged was accepted; what it has purged was so for long enough.

        Where its file has rotted, only if the agent's own whole check finds it sound: else that is what the next start,
        or the inspector, will find.
        """
        if gateway.journal is None or not gateway.disk.answers:
            return
        try:
            broken = list(self._broken_in(gateway.journal))
            if broken and self.has_rotted:
                check_all(gateway.journal._db, gateway.journal)
        except JournalDamaged:
            return
        for text in broken:
            self._alarm(text)
        if gateway.disk.size() > JOURNAL_BYTES_MAX:
            self._alarm(f"I8: {gateway.disk.size()} bytes on the disk")

    def _broken_in(self, journal: SqliteJournal) -> Iterator[str]:
        rows = journal._db.execute(
            "SELECT b.chain || '/' || b.seq, b.hash, t.ordinal IS NULL FROM batches b"
            " LEFT JOIN texts t ON t.ordinal = b.ordinal WHERE b.superseded = 0"
            " AND (b.ordinal <= (SELECT max(up_to) FROM stored) OR t.ordinal IS NULL)"
        )
        now_ms = self._time.wall_ms()
        for place, hash_, purged in rows:
            accepted_ms = self.accepted_ms.get(str(hash_))
            if self._by_broker:
                if purged:
                    yield f"I3: {place!s} was purged within 30 days of its PUBACK"
            elif accepted_ms is None:
                yield f"I3: {place!s} counts as acknowledged, and the platform never had it"
            elif purged and now_ms - accepted_ms < KEEP_DAYS * DAY_MS - 60_000:
                yield f"I3: {place!s} was purged {now_ms - accepted_ms} ms after it was accepted"
        for (jws,) in journal._db.execute("SELECT jws FROM acknowledgements"):
            if jws not in self.said_by_platform:
                yield "I12: a receipt in the journal is not by the platform"

    # -- at the end

    def still_missing(self, store: Store, gateway: Gateway) -> list[str]:
        """What keeps the world from having converged; empty when the platform has everything there is."""
        missing = []
        if gateway.journal is None or gateway.stages is None:
            return ["I9: the agent does not run"]
        backlog = gateway.journal.backlog()
        if backlog.batches > 2:
            missing.append(f"I9: {backlog.batches} batches are not acknowledged")
        for meter, place in self._places.items():
            newest = self._newest(store, meter, place)
            if newest is None:
                missing.append(f"I9: {meter}: nothing is booked")
            elif (
                age_s := (self._time.ns - newest.last_ns) // 1_000_000_000
            ) > 2.5 * self._interval_ms / 1000:
                missing.append(f"I9: {meter}: the newest register booked was read {age_s} s ago")
        if awaited := self._awaited_maps(store, gateway.journal):
            missing.append(f"I7: {awaited} rows are booked under a descriptor that has not come")
        return missing + [
            f"I9: {meter}: nobody has told how epoch {epoch} began"
            for meter, epoch in store.rows(_UNTOLD)
            if self._can_tell(gateway.journal, meter, epoch)
        ]

    def _can_tell(self, journal: SqliteJournal, meter: str, epoch: int) -> bool:
        """Whether the gateway should know of an epoch: where only a broker answers it may have gone with a disk."""
        noted = {each.body["epoch_to"] for each in journal.epochs_noted(meter)}
        return not (self._by_broker and self.has_lost_a_journal) or epoch in noted

    def _awaited_maps(self, store: Store, journal: SqliteJournal) -> int:
        """Rows whose map is still to come. One that the broker lost, and then the disk, is known to nobody."""
        if not (self._by_broker and self.has_lost_a_journal):
            return len(self._without_map)
        kept = {each.hash for each in journal.descriptors()}
        named: dict[int, str] = dict(store.rows("SELECT descriptor_id, hash FROM descriptors"))
        return sum(named[row[10]] in kept for row in self._without_map)

    def _newest(self, store: Store, meter: str, place: Place) -> Shown | None:
        row = store.first("SELECT m.booked_register, m.num, m.den FROM meters m WHERE m.meter = ?", (meter,))
        if row is None:
            return None
        shown = _shown(place, row[0], Fraction(row[1], row[2]))
        return max(shown, key=lambda each: each.last_ns, default=None)

    def final(self, store: Store) -> None:
        """All rows of all epochs together, and everything that had to be said."""
        for fault in broken_books(store):
            self._alarm(f"I1: {fault}")
        for meter, place in self._places.items():
            self._judge_account(store, meter, place)
        for kind, subject, text in store.rows("SELECT kind, subject, text FROM alarms ORDER BY alarm_id"):
            self._trace(f"alarm {kind} {subject} {text}")
        if not self.retold and store.first("SELECT 1 FROM skipped") is None:
            self._judge_refusals(store)

    def _judge_refusals(self, store: Store) -> None:
        """What is refused again and again is one event an hour, with its count; the first one is said at once."""
        said = {
            (meter, _without_figures(reason))
            for meter, reason in store.rows(
                "SELECT meter, body ->> 'reason' FROM events WHERE type = 'refused'"
            )
        }
        for meter, reason in sorted({(meter, reason) for _, meter, reason in self.refused} - said):
            self._alarm(f"I11: {meter}: a refused reading was not reported ({reason})")

    def _judge_account(self, store: Store, meter: str, place: Place) -> None:
        """From the first register to the last: booked energy, and holes that were declared and have a cause.

        A meter that trembles while its register is set back begins a few counts below where it ended; it showed both,
        and nobody can say that they are one too many.
        """
        at: int | None = None
        before: _Epoch | None = None
        holes = 0
        for epoch in self._epochs(store, meter):
            openings = [each.position for each in _shown(place, epoch.opening, epoch.per_count)]
            lasts = [each.position for each in _shown(place, epoch.last, epoch.per_count)]
            if at is not None:
                beyond = [each for each in openings if each >= at]
                openings = beyond or [each for each in openings if each >= at - TREMBLES_MAX]
            name = f"{meter}/{epoch.number}"
            if not openings or not lasts:
                self._alarm(f"I5: {name} runs from {epoch.opening} to {epoch.last}, which were not shown")
                return
            if at is None and self.first_is_known and not place.may_begin_at(min(openings)):
                firsts = ", ".join(map(str, place.firsts))
                self._alarm(f"I1: {meter} begins at {min(openings)}, first read was {firsts}")
            hole = 0 if at is None else min(openings) - at
            if hole:
                is_unproved = epoch.is_unproved and place.has_refused
                is_excused = is_unproved or epoch.is_joined
                holes += not is_excused and (before is None or not self._may_have_gone_round(before, epoch))
                # By what a count really is, not by a ratio that somebody entered wrongly; a count may have been due.
                used = (hole - 1) * place.per_count_milliwh
                if epoch.bound is not None and used > epoch.bound:
                    self._alarm(f"I1: {name}: a hole of {used}, declared at most {epoch.bound}")
            at, before = epoch.end(min(openings), lasts), epoch
        if holes > place.breaks:
            self._alarm(f"I1: {meter} has {holes} holes, and a person made {place.breaks}")

    def _may_have_gone_round(self, before: _Epoch, epoch: _Epoch) -> bool:
        """Whether an epoch changed where a rollover cannot be told from a reset.

        In a time of unknown length (decision 0016), or one in which the register can have gone round more than once;
        or where it rose and can have gone round as well.
        """
        rise = epoch.opening - before.last
        if epoch.bound is None:
            return rise < 0 and (self.time_was_unknown or before.is_doubtful)
        return epoch.modulus is not None and epoch.bound >= epoch.modulus + max(0, rise)

    def _epochs(self, store: Store, meter: str) -> list[_Epoch]:
        """What is booked of each epoch of a meter, the oldest first.

        An epoch that was opened and closed at one register booked nothing. Its hole and the next one are judged as one,
        which may hide as much as was declared of both. Of one that comes before all that was booked, the only register
        is in the event that ended it.
        """
        found: list[_Epoch] = []
        declared: int | None = 0
        began_at: int | None = None
        for epoch, opening in store.rows(
            "SELECT epoch, opening FROM epochs WHERE meter = ? ORDER BY epoch", (meter,)
        ):
            event = store.first(
                "SELECT body ->> 'bound', body ->> 'last',"
                " body ->> 'reason' = 'restore' AND body ->> 'serial_to' IS NULL,"
                " body ->> 'by' = 'platform' AND body ->> 'bound' IS NULL FROM events"
                " WHERE type = 'epoch' AND meter = ? AND body ->> 'epoch_to' = ?",
                (meter, epoch),
            )
            bound, ended_at, is_unproved, is_joined = (None, None, False, False) if event is None else event
            began_at = ended_at if began_at is None else began_at
            declared = None if declared is None or bound is None else declared + bound
            row = store.first(
                "SELECT reg_end, descriptor_id, q FROM booked WHERE meter = ? AND epoch = ?"
                " ORDER BY position + energy DESC, n_last DESC, n_first DESC LIMIT 1",
                (meter, epoch),
            )
            if row is None:
                continue
            described = self._description(store, row[1], meter)
            if described is None:
                continue  # said before (I7)
            per_count = Fraction(described.num, described.den)
            if not found and began_at is not None:
                found.append(
                    _Epoch(
                        epoch - 1, began_at, began_at, per_count, described.modulus, 0, False, False, False
                    )
                )
            is_doubtful = CLOCK in row[2].split()
            found.append(
                _Epoch(
                    epoch,
                    opening,
                    row[0],
                    per_count,
                    described.modulus,
                    declared,
                    is_doubtful,
                    bool(is_unproved),
                    bool(is_joined),
                )
            )
            declared = 0
        return found


def _text64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _without_figures(reason: str) -> str:
    """Reasons that differ in figures only are one event."""
    return re.sub(r"\d+", "0", reason)


def _knows_since(place: Place, meter: str, journal: SqliteJournal, store: Store) -> bool:
    """Whether a journal, or the platform, has a register of the meter that it showed since it was set back."""
    doubted = [each.point for each in journal.doubts().get(meter, ())]
    points: list[Point | Head] = [*doubted, *(head for id, head in journal.heads().items() if id == meter)]
    known = [(each.register_milliwh, each.basis.per_count_milliwh) for each in points]
    row = store.first("SELECT booked_register, num, den FROM meters WHERE meter = ?", (meter,))
    known += [] if row is None else [(row[0], Fraction(row[1], row[2]))]
    return any(each.position >= place.set_back_at for one in known for each in _shown(place, *one))


def _shown(place: Place, register_milliwh: int, per_count: Fraction) -> list[Shown]:
    """When and where on the place's scale this register was shown; empty if it never was."""
    counts = register_milliwh / per_count
    if counts.denominator != 1:
        return []
    return place.shown.get(counts.numerator, [])
