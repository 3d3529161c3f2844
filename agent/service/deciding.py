"""What becomes of each reading of a cut: booked, held, refused, or the beginning of an epoch.

Comes between the samples of a cut and the ledger. A sample is taken through the gates of `agent.metering` one after
the other; what they have to know beyond the position (doubts, where the meter hangs, how its settings stood, what a
person has said) is in the journal, so that a restart makes no gate forget. Nothing is written here: `close` carries
out what was decided, in its transaction.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agent.metering.decode import NoValue, decode
from agent.metering.doubt import Bound, Doubt, add, is_confirmed, is_jitter, rises_too_fast, same_meter
from agent.metering.gates import Held, compare, compare_parts, power_max_w, rise_max, step_milliwh
from agent.metering.interval import elapsed_ms
from agent.metering.ledger import Head, Point
from agent.metering.memory import SILENT_MS, Memory, Order, Pending, changed_setting, merged
from agent.metering.plant import Meter
from agent.metering.profile import Sum
from agent.metering.quantity import to_milliwh
from agent.metering.standstill import Standstill, watched
from agent.metering.suspicion import (
    bound_of,
    cannot_be_compared,
    falls,
    goes_round,
    is_proved,
    may_go_on,
    rises_oddly,
    was_long,
)
from agent.service.admitting import Admission
from agent.service.decisions import (
    Again,
    Beginning,
    Cut,
    Decision,
    Findings,
    Refusal,
    Sample,
    Sound,
    sample_of,
)
from agent.service.journal import Journal
from agent.service.swaps import Party, hides_its_number, mistakable, parties, swapped
from agent.service.telling import DARK
from agent.service.witnessing import bound_by_displays, display_events


class Decider:
    """Decides about one cut, inside the transaction that will carry it out."""

    def __init__(
        self,
        journal: Journal,
        meters: Mapping[str, Meter],
        cut: Cut,
        *,
        interval_ms: int,
        clock_is_trusted: bool,
        profile_hash_of: Callable[[Head], str | None],
        standstills: Mapping[str, Standstill],
    ) -> None:
        """`profile_hash_of` tells the profile that a position was read through; None where nobody knows."""
        self._journal = journal
        self._meters = meters
        self._cut = cut
        self._interval_ms = interval_ms
        self._profile_hash_of = profile_hash_of
        self._heads = journal.heads()
        self._memories = journal.memories()
        self._doubts = journal.doubts()
        self._orders = {id: order for id, order in journal.orders().items() if order.confirmed}
        self._admission = Admission(
            cut, self._heads, self._memories, self._orders, clock_is_trusted=clock_is_trusted
        )
        self._found = Findings(standstills=dict(standstills))

    def decide(self) -> Findings:
        """What becomes of every meter that was read."""
        by_meter: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in self._cut.samples:
            by_meter[sample.meter].append(sample)
        found = self._found
        found.decisions = {id: self._decide_on(self._meters[id], each) for id, each in by_meter.items()}
        vouched_for = {order.meter for order in found.done}
        for one, other in list(swapped(self._parties())):
            if vouched_for.isdisjoint((one, other)):
                self._hold_swapped(one, other)
                self._hold_swapped(other, one)
        doubted = [id for id, waiting in found.doubts.items() if waiting]
        for id, other in list(mistakable(self._parties(), doubted)):
            if id not in vouched_for:
                what = f"it may be the register of meter {other}, which was not read soundly"
                self._hold_for_another(id, f"identity: {what}; are the two exchanged?")
        # What a person said of a meter holds until a reading of it counts: a doubt takes three boundaries.
        found.done = [order for order in found.done if not isinstance(found.decisions[order.meter], Refusal)]
        for order in found.done:
            found.events.extend(display_events(self._meters[order.meter], order))
        for id, decision in found.decisions.items():
            self._remember(self._meters[id], decision)
        return found

    def _parties(self) -> list[Party]:
        return parties(self._found.decisions, self._meters, self._heads, self._memories)

    def to_read_again(self) -> Again:
        """The meters of which one reading is not enough."""
        odd, new = set(), set()
        for sample in self._cut.samples:
            meter, head = self._meters[sample.meter], self._heads.get(sample.meter)
            reading = self._admission.reading(meter, sample)
            if isinstance(reading, Refusal):
                continue
            if head is None:
                new.add(meter.id)
                continue
            point, bound = reading.on(head.basis), bound_of(meter, reading.counts)
            if (
                cannot_be_compared(head, reading.point)
                or rises_oddly(meter, head, point, bound, reading.counts)
                or falls(head, point)
            ):
                odd.add(meter.id)
        return Again(frozenset(odd), frozenset(new))

    # -- one meter

    def _decide_on(self, meter: Meter, samples: Sequence[Sample]) -> Decision:
        """What becomes of a meter's sample, or of several that were read one right after the other."""
        head, order = self._heads.get(meter.id), self._orders.get(meter.id)
        readings = [self._admission.reading(meter, each) for each in samples]
        latest = readings[-1]
        if isinstance(latest, Refusal):
            return latest
        first = next(each for each in readings if isinstance(each, Sound))
        if cannot_be_compared(head, latest.point) and not self._is_agreed(meter, readings, latest):
            reason = "first: readings made one right after the other do not agree, or did not come"
            return Refusal(latest.sample, "held", reason, latest.point.register_milliwh)
        if head is None or not may_go_on(head, latest.point.basis):
            return first
        if order is not None:
            decided = self._carry_out(meter, head, latest, order)
            if decided is not None:
                return decided
        other = self._whose_serial(meter, latest.sample)
        if other is not None:
            reason = f"identity: serial number {latest.sample.serial} is that of meter {other}; are the two exchanged?"
            return Refusal(latest.sample, "identity", reason, latest.point.register_milliwh)
        is_read_otherwise = self._is_read_otherwise(meter, head)
        if is_read_otherwise and not latest.point.basis.continues(head.basis):
            self._forget_doubt(meter)
            return latest
        bound = bound_of(meter, latest.counts)
        if not same_meter(head.basis, latest.on(head.basis).basis):
            return self._doubt(latest, bound, "exchange", "identity: another serial number")
        changed = None if is_read_otherwise else self._changed_setting(meter, latest.sample)
        if changed is not None:
            return self._doubt(latest, bound, "fingerprint", f"fingerprint: {changed}")
        return self._judge_move(meter, head, readings, latest, bound, may_be_another=is_read_otherwise)

    def _is_agreed(self, meter: Meter, readings: Sequence[Sound | Refusal], latest: Sound) -> bool:
        """Whether a meter that was asked several times said the same each time."""
        points = [each.point for each in readings if isinstance(each, Sound)]
        return meter.id not in self._cut.asked_again or is_confirmed(points, bound_of(meter, latest.counts))

    def _judge_move(
        self,
        meter: Meter,
        head: Head,
        readings: Sequence[Sound | Refusal],
        latest: Sound,
        bound: Bound,
        *,
        may_be_another: bool,
    ) -> Decision:
        """What the register did since the position."""
        point = latest.on(head.basis)
        elsewhere = self._hangs_elsewhere(meter, head, latest.sample)
        move = compare(
            head.register_milliwh,
            point.register_milliwh,
            modulus_milliwh=head.basis.modulus_milliwh,
            rise_max_milliwh=bound(head, point),
        )
        if not isinstance(move, Held):
            move = self._fallen_part(meter, head, latest, bound) or move
        if isinstance(move, Held):
            fall = head.register_milliwh - point.register_milliwh
            if is_jitter(fall, point.register_milliwh, step_milliwh(meter, latest.counts)):
                reason = "jitter: register fell by a step or two; nothing is booked until it is back"
                return Refusal(latest.sample, "held", reason, point.register_milliwh)
            if self._hides_its_number(meter, head, latest.sample):
                return self._unproved(head, latest)
            if not self._is_agreed(meter, readings, latest):
                reason = "fall: register fell; readings made right after it do not agree, or did not come"
                return Refusal(latest.sample, "held", reason, point.register_milliwh)
            return self._doubt(latest, bound, "exchange" if elsewhere else "reset", move.reason)
        is_odd = rises_oddly(meter, head, point, bound, latest.counts)
        is_in_question = self._memories.get(meter.id, Memory()).is_in_question
        is_unsure = (
            is_odd or is_in_question or goes_round(head, point, bound) or cannot_be_compared(head, point)
        )
        if is_unsure and self._hides_its_number(meter, head, latest.sample):
            return self._unproved(head, latest)
        self._forget_doubt(meter)
        if not is_odd:
            return self._accepted(meter, head, latest, elsewhere=elsewhere)
        reads = [each.on(head.basis) for each in readings if isinstance(each, Sound)]
        is_too_fast = rises_too_fast(head, point, bound)
        if not is_confirmed(reads, bound):
            if elapsed_ms(head, point) is None:
                what = "in a time that nobody knows, and once only"
            else:
                what = (
                    "by more than the circuit can have used" if is_too_fast else "by about one turn of a word"
                )
            return Refusal(latest.sample, "held", f"rise: register rose {what}", point.register_milliwh)
        if not is_too_fast:
            return self._accepted(meter, head, latest, elsewhere=elsewhere)
        return self._confirmed_jump(
            head, latest, point, bound, may_be_another=may_be_another, elsewhere=elsewhere
        )

    def _confirmed_jump(
        self, head: Head, latest: Sound, point: Point, bound: Bound, *, may_be_another: bool, elsewhere: bool
    ) -> Decision:
        """Three readings agree on more than the circuit can have used: energy only if it is surely the same counter.

        A position that never counted is no evidence: a meter that was read before it was ready shows zero, and then
        its life's total. What may be another register, or another meter, is no evidence either.
        """
        rise = point.register_milliwh - head.register_milliwh
        most = max(rise, bound(head, point) or 0)
        if may_be_another:
            return Beginning((latest,), "fingerprint")
        if elsewhere:
            return Beginning((latest,), "exchange", bound_milliwh=most)
        if head.register_milliwh == 0:
            return Beginning((latest,), "reset", bound_milliwh=most)
        return latest.flagged("rate")

    def _accepted(self, meter: Meter, head: Head, latest: Sound, *, elsewhere: bool) -> Decision:
        """A reading that goes on from the position; what is not sure about it is flagged, and remembered."""
        memory = self._found.memories.get(meter.id) or self._memories.get(meter.id, Memory())
        point = latest.on(head.basis)
        is_unchanged = point.register_milliwh == head.register_milliwh
        if is_proved(head, latest.sample.serial):
            memory = memory.confirmed()
        elif (elsewhere or was_long(head, point)) and not self._was_dark(meter, head, point):
            if not self._cut.clock_steps_ms or elsewhere:  # a clock that was set says nothing of silence
                memory = memory.returned(point.at_ms)
        elif memory.is_in_question:
            memory = memory.confirmed()  # where its rise may be another one's, `decide` holds it again
        elif memory.returned_ms is not None:
            memory = memory.proved()
        self._keep(meter, memory)
        if memory.is_on_probation:
            latest = latest.flagged("suspect")
        if is_unchanged and meter.powered_by_circuit:
            latest = latest.flagged(DARK)
        return self._watched(meter, latest)

    def _was_dark(self, meter: Meter, head: Head, point: Point) -> bool:
        """Whether the silence is that of a circuit which was off: what it counted fits into its first few minutes."""
        if not meter.powered_by_circuit:
            return False
        rise = point.register_milliwh - head.register_milliwh
        power_w = power_max_w(meter)
        most = rise_max(power_w, head.basis.per_count_milliwh, SILENT_MS)
        return rise == 0 or (most is not None and 0 < rise <= most)

    def _watched(self, meter: Meter, latest: Sound) -> Sound:
        """Whether the register stands still while power flows."""
        step = step_milliwh(meter, latest.counts)
        before = self._found.standstills.get(meter.id)
        sample, register = latest.sample, latest.point.register_milliwh
        now = watched(before, register, sample.at_ms, sample.power_w)
        self._found.standstills[meter.id] = now
        if not now.is_stuck(step):
            return latest
        self._found.remarks[meter.id] = "stuck: power flows and the register stands still"
        return latest.flagged("suspect")

    # -- gates that need more than two registers

    def _fallen_part(self, meter: Meter, head: Head, reading: Sound, bound: Bound) -> Held | None:
        """Whether a part of a sum fell while the others hid it; None where the words of the head are not kept."""
        total = meter.profile.energy
        if not isinstance(total, Sum):
            return None
        kept = next(iter(self._journal.readings(meter.id, after=head)), None)
        if kept is None or kept.point.at_ms != head.at_ms or len(kept.words) != total.words:
            return None
        return compare_parts(
            total,
            kept.words,
            reading.sample.words,
            per_count_milliwh=head.basis.per_count_milliwh,
            rise_max_milliwh=bound(head, reading.point),
        )

    def _doubt(self, reading: Sound, bound: Bound, what: str, reason: str) -> Decision:
        """A reading that does not go on from the ledger: wait for more, or begin a new epoch if there are enough."""
        meter = self._meters[reading.point.meter]
        before = self._waiting(meter)
        doubt = Doubt(tuple(each.point for each in before)) if before else None
        doubt = replace(add(doubt, reading.point, bound, self._interval_ms), needs_motion=what == "reset")
        readings = tuple(each for each in (*before, reading) if each.point in doubt.points)
        if doubt.is_settled:
            self._forget_doubt(meter)
            return Beginning(readings, what)
        self._found.doubts[meter.id] = tuple(Pending(each.point, each.sample.words) for each in readings)
        return Refusal(reading.sample, "held", reason, reading.point.register_milliwh)

    def _waiting(self, meter: Meter) -> tuple[Sound, ...]:
        """The readings in doubt, as far as they still mean what they meant; another site file may say otherwise."""
        found = []
        for pending in self._doubts.get(meter.id, ()):
            point = pending.point
            if point.basis.per_count_milliwh != meter.per_count_milliwh or len(pending.words) != (
                meter.profile.energy.words
            ):
                return ()
            counts = decode(meter.profile.energy, pending.words)
            if (
                isinstance(counts, str | NoValue)
                or to_milliwh(counts, meter.per_count_milliwh) != point.register_milliwh
            ):
                return ()
            sample = Sample(
                meter.id, pending.words, point.at_ms, point.basis.serial, retried=False, when=point.when
            )
            found.append(Sound(sample, counts, point))
        return tuple(found)

    def _forget_doubt(self, meter: Meter) -> None:
        if self._doubts.get(meter.id):
            self._found.doubts[meter.id] = ()

    def _is_read_otherwise(self, meter: Meter, head: Head) -> bool:
        """Whether the position was read through another profile, or another edition of it.

        Its register may be another one. Where it goes on from the position as that circuit can, it is taken for the
        same; a jump is then no energy but a new epoch.
        """
        return self._profile_hash_of(head) != meter.profile.hash

    def _changed_setting(self, meter: Meter, sample: Sample) -> str | None:
        """What was set otherwise at the meter since its last reading, of that which changes what its register means."""
        memory = self._memories.get(meter.id)
        if memory is None or memory.fingerprint is None or memory.profile_hash != meter.profile.hash:
            return None
        return changed_setting(memory.fingerprint, sample.fingerprint)

    def _hangs_elsewhere(self, meter: Meter, head: Head, sample: Sample) -> bool:
        """Whether it is read at another place than before, and nothing proves that it is the same meter."""
        memory = self._memories.get(meter.id)
        moved = memory is not None and memory.place is not None and memory.place != meter.place
        return moved and not is_proved(head, sample.serial)

    def _hides_its_number(self, meter: Meter, head: Head, sample: Sample) -> bool:
        """Whether a meter has no serial number to say any more, and no person has vouched for it."""
        is_vouched_for = any(order.meter == meter.id for order in self._found.done)
        memory = self._memories.get(meter.id, Memory())
        return not is_vouched_for and hides_its_number(meter, head, memory, sample)

    def _unproved(self, head: Head, latest: Sound) -> Refusal:
        """What moved oddly, or unseen, is neither energy nor a new epoch while the meter does not say who it is."""
        reason = (
            f"identity: it has no serial number to say, where {head.basis.serial} was; is it another meter?"
        )
        return Refusal(latest.sample, "identity", reason, latest.point.register_milliwh)

    def _whose_serial(self, meter: Meter, sample: Sample) -> str | None:
        """The meter of another place that this serial number belongs to, unless a person has said it belongs here."""
        head, memory = self._heads.get(meter.id), self._memories.get(meter.id, Memory())
        serial = sample.serial
        if serial is None or head is None or serial in (head.basis.serial, memory.known_serial(meter.serial)):
            return None
        for id, other in self._meters.items():
            known = self._heads.get(id)
            if id == meter.id or known is None or other.place == meter.place:
                continue
            if known.basis.serial == serial:
                return id
        return None

    def _hold_swapped(self, id: str, other: str) -> None:
        self._hold_for_another(
            id, f"identity: it shows the register of meter {other}; are the two exchanged?"
        )

    def _hold_for_another(self, id: str, reason: str) -> None:
        """The reading is not booked, and no doubt of its meter goes on."""
        decision = self._found.decisions[id]
        register = decision.register_milliwh if isinstance(decision, Refusal) else None
        if isinstance(decision, Sound):
            register = decision.point.register_milliwh
        self._found.decisions[id] = Refusal(sample_of(decision), "identity", reason, register)
        self._found.memories.pop(id, None)
        if id in self._found.doubts or self._doubts.get(id):
            self._found.doubts[id] = ()

    # -- what a person has said

    def _carry_out(self, meter: Meter, head: Head, latest: Sound, order: Order) -> Decision | None:
        """Carry out an order; None where the reading has still to be judged."""
        if (
            order.kind == "exchange"
            and is_proved(head, latest.sample.serial)
            and order.serial != latest.sample.serial
        ):
            reason = "exchange: ordered, but the meter still shows the old serial number"
            return Refusal(latest.sample, "held", reason, latest.point.register_milliwh)
        is_known = order.serial is not None and order.serial == head.basis.serial
        self._found.done.append(order)
        memory = self._memories.get(meter.id, Memory()).confirmed()
        if order.kind != "exchange" or is_known:  # the ledger stands on the new meter already
            self._keep(meter, memory)
            return None
        self._forget_doubt(meter)
        serial = latest.sample.serial or order.serial
        self._keep(meter, replace(memory, serial=serial, instead_of=None if serial is None else meter.serial))
        point = replace(latest.point, basis=replace(latest.point.basis, serial=serial))
        bound = bound_by_displays(meter, order, head, point)
        return Beginning((replace(latest, point=point),), "exchange", order.by, bound)

    # -- what to remember

    def _keep(self, meter: Meter, memory: Memory) -> None:
        self._found.memories[meter.id] = memory

    def _remember(self, meter: Meter, decision: Decision) -> None:
        """After a reading that counts: where it hangs, how it is set, that it said its number.

        After one that may be another meter's: that it is in question. Only what changed is written.
        """
        before = self._memories.get(meter.id)
        memory = self._found.memories.pop(meter.id, before or Memory())
        head = self._heads.get(meter.id)
        sample = sample_of(decision)
        if isinstance(decision, Refusal):
            if decision.kind == "identity" and sample.serial is None:
                memory = memory.questioned(sample.at_ms)
        else:
            goes_on = isinstance(decision, Sound) and memory.profile_hash == meter.profile.hash
            kept = memory.fingerprint if goes_on else None
            memory = replace(
                memory,
                place=meter.place,
                profile_hash=meter.profile.hash,
                fingerprint=merged(kept, sample.fingerprint),
            )
            if sample.serial is not None and sample.serial == meter.serial:
                memory = memory.heard(sample.serial)
        if isinstance(decision, Beginning) and head is not None:
            self._found.standstills.pop(meter.id, None)
            memory = replace(
                memory,
                opened_ms=decision.readings[0].point.at_ms,
                opened_milliwh=head.register_milliwh,
                opened_by=decision.by,
            )
        if memory != (before or Memory()):
            self._found.memories[meter.id] = memory
