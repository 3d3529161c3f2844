"""What one sound reading means for its own meter: held against where its register stood, and against nothing else.

Comes after the first gates (`admitting`). The questions come in the order of what is worth most: what a person has
said, whose serial number it shows, through which profile its position was read, how it is set; only then how its
register moved. The first that has an answer decides. What is believed by none of them waits in doubt, in the journal.

Whether another meter was read that may have shown its register is no question here: `deciding` asks it afterwards, of
all that were read for the cut, and can only hold what was believed here.
"""

from dataclasses import dataclass, replace

from agent.metering.decode import NoValue, decode
from agent.metering.doubt import Doubt, add, is_confirmed, is_jitter, rises_too_fast, runs_on, same_meter
from agent.metering.gates import Held, compare, compare_parts, power_max_w, rise_max, step_milliwh
from agent.metering.interval import elapsed_ms, has_trusted_label, label_by
from agent.metering.ledger import Head, Point
from agent.metering.memory import SILENT_MS, Memory, Order, Pending
from agent.metering.plant import Meter
from agent.metering.profile import Sum
from agent.metering.quantity import to_milliwh
from agent.metering.standstill import watched
from agent.metering.suspicion import (
    bound_of,
    cannot_be_compared,
    falls,
    goes_round,
    is_proved,
    rises_oddly,
    was_long,
)
from agent.service.decisions import Beginning, Cut, Decision, Findings, Refusal, Sample, Sound
from agent.service.journal import Journal
from agent.service.swaps import hides_its_number
from agent.service.telling import DARK
from agent.service.witnessing import bound_by_displays


@dataclass(frozen=True, slots=True)
class Case:
    """A meter that was read, and what there was before the cut to hold the reading against."""

    meter: Meter
    head: Head
    """Where its register stands in the ledger; the reading can belong to that epoch."""
    memory: Memory
    """What is remembered of it."""
    pending: tuple[Pending, ...]
    """Its readings that wait to be believed, oldest first."""
    order: Order | None
    """What a person has said of it and no boundary has carried out yet."""
    profile_hash: str | None
    """The profile that the position was read through; None where nobody knows."""
    reads: tuple[Sound, ...]
    """What was read, one right after the other: at least one, and the last one counts."""
    is_agreed: bool
    """Whether it was asked once only, or said the same each time."""
    number_of: str | None
    """The meter of another place whose serial number it shows, unless a person has said that it belongs here."""

    @property
    def latest(self) -> Sound:
        """The reading that counts."""
        return self.reads[-1]


class Judge:
    """Decides about one meter, inside the transaction that will carry it out.

    What has to be kept of the meter is noted in the findings of the cut.
    """

    def __init__(self, case: Case, cut: Cut, journal: Journal, found: Findings, *, interval_ms: int) -> None:
        """`interval_ms` tells boundaries apart: several readings of one interval are one piece of evidence."""
        self._case = case
        self._cut = cut
        self._journal = journal
        self._found = found
        self._interval_ms = interval_ms
        self._meter, self._head, self._latest = case.meter, case.head, case.latest
        self._point = case.latest.on(case.head.basis)
        self._bound = bound_of(case.meter, case.latest.counts)
        self._is_read_otherwise = case.profile_hash != case.meter.profile.hash
        """Whether another profile, or another edition of it, applies now than when the position was read.

        Its register may be another one. Where it goes on from the position as that circuit can, it is taken for the
        same; a jump is then no energy but a new epoch.
        """

    def decide(self) -> Decision:
        """What becomes of the reading."""
        if self._case.order is not None:
            decided = self._carry_out(self._case.order)
            if decided is not None:
                return decided
        if self._case.number_of is not None:
            said = f"serial number {self._latest.sample.serial} is that of meter {self._case.number_of}"
            return self._not_identified(f"identity: {said}; are the two exchanged?")
        if self._is_read_otherwise and not self._latest.point.basis.continues(self._head.basis):
            self._forget_doubt()
            return self._latest
        if not same_meter(self._head.basis, self._point.basis):
            return self._doubt("exchange", "identity: another serial number")
        changed = self._case.memory.changed_setting(self._meter.profile.hash, self._latest.sample.fingerprint)
        if changed is not None and not self._is_read_otherwise:
            return self._doubt("fingerprint", f"fingerprint: {changed}")
        return self._judge_move()

    def _held(self, reason: str, register_milliwh: int) -> Refusal:
        return Refusal(self._latest.sample, "held", reason, register_milliwh)

    def _not_identified(self, reason: str) -> Refusal:
        return Refusal(self._latest.sample, "identity", reason, self._latest.point.register_milliwh)

    # -- what a person has said

    def _carry_out(self, order: Order) -> Decision | None:
        """Carry out an order; None where the reading has still to be judged."""
        meter, head, latest = self._meter, self._head, self._latest
        if (
            order.kind == "exchange"
            and is_proved(head, latest.sample.serial)
            and order.serial != latest.sample.serial
        ):
            reason = "exchange: ordered, but the meter still shows the old serial number"
            return self._held(reason, latest.point.register_milliwh)
        is_known = order.serial is not None and order.serial == head.basis.serial
        self._found.done.append(order)
        memory = self._case.memory.confirmed()
        if order.kind != "exchange" or is_known:  # the ledger stands on the new meter already
            self._keep(memory)
            return None
        self._forget_doubt()
        serial = latest.sample.serial or order.serial
        self._keep(memory.exchanged(serial, meter.serial))
        point = replace(latest.point, basis=replace(latest.point.basis, serial=serial))
        bound = bound_by_displays(meter, order, head, point)
        return Beginning((replace(latest, point=point),), "exchange", order.by, bound)

    # -- which meter it is

    def _hangs_elsewhere(self) -> bool:
        """Whether it is read at another place than before, and nothing proves that it is the same meter."""
        moved = self._case.memory.place not in (None, self._meter.place)
        return moved and not is_proved(self._head, self._latest.sample.serial)

    def _hides_its_number(self) -> bool:
        """Whether a meter has no serial number to say any more, and no person has vouched for it."""
        is_vouched_for = any(order.meter == self._meter.id for order in self._found.done)
        return not is_vouched_for and hides_its_number(
            self._meter, self._head, self._case.memory, self._latest.sample
        )

    def _unproved(self) -> Refusal:
        """What moved oddly, or unseen, is neither energy nor a new epoch while the meter does not say who it is."""
        was = self._head.basis.serial
        return self._not_identified(
            f"identity: it has no serial number to say, where {was} was; is it another meter?"
        )

    # -- how the register moved

    def _judge_move(self) -> Decision:
        """What the register did since the position."""
        move = compare(
            self._head.register_milliwh,
            self._point.register_milliwh,
            modulus_milliwh=self._head.basis.modulus_milliwh,
            rise_max_milliwh=self._bound(self._head, self._point),
        )
        held = move if isinstance(move, Held) else self._fallen_part()
        return self._judge_rise() if held is None else self._judge_unexplained(held)

    def _judge_unexplained(self, held: Held) -> Decision:
        """A fall that is no rollover, or a rise that may hide one: of the register or of a part of its sum."""
        fall_milliwh = self._head.register_milliwh - self._point.register_milliwh
        step = step_milliwh(self._meter, self._latest.counts)
        if is_jitter(fall_milliwh, self._point.register_milliwh, step):
            reason = "jitter: register fell by a step or two; nothing is booked until it is back"
            return self._held(reason, self._point.register_milliwh)
        if self._hides_its_number():
            return self._unproved()
        if not self._case.is_agreed:
            reason = f"{held.reason}; readings made right after it do not agree, or did not come"
            return self._held(reason, self._point.register_milliwh)
        return self._doubt("exchange" if self._hangs_elsewhere() else "reset", held.reason)

    def _judge_rise(self) -> Decision:
        """A rise, a rollover, or a register that stands."""
        head, point, bound = self._head, self._point, self._bound
        is_odd = rises_oddly(self._meter, head, point, bound, self._latest.counts)
        is_in_question = self._case.memory.is_in_question
        is_unsure = (
            is_odd or is_in_question or goes_round(head, point, bound) or cannot_be_compared(head, point)
        )
        if is_unsure and self._hides_its_number():
            return self._unproved()
        may_have_been_set_back = self._may_have_been_set_back()
        self._forget_doubt()
        if may_have_been_set_back:
            return Beginning((self._latest,), "exchange" if self._hangs_elsewhere() else "reset")
        if not is_odd:
            return self._accepted()
        is_too_fast = rises_too_fast(head, point, bound)
        if not is_confirmed([each.on(head.basis) for each in self._case.reads], bound):
            if elapsed_ms(head, point) is None:
                what = "in a time that nobody knows, and once only"
            else:
                what = (
                    "by more than the circuit can have used" if is_too_fast else "by about one turn of a word"
                )
            return self._held(f"rise: register rose {what}", point.register_milliwh)
        return self._confirmed_jump() if is_too_fast else self._accepted()

    def _may_have_been_set_back(self) -> bool:
        """Whether the register had fallen when it was read last, long ago, and can have risen from there, too.

        Else a rise says that it was a misread: nothing that was set back comes so far so soon. In nine days it does;
        what it counted meanwhile is in the hole that is declared, whichever of the two is true. A fall in a time that
        the clock knows only by now may have been a rollover, as any other.
        """
        waiting = self._waiting()
        if not waiting:
            return False
        last, point = waiting[-1].on(self._head.basis), self._point
        dated = _dated(last, point)
        had_fallen = falls(self._head, dated) and not goes_round(self._head, dated, self._bound)
        return had_fallen and was_long(last, point) and runs_on(last, point, self._bound)

    def _fallen_part(self) -> Held | None:
        """Whether a part of a sum fell while the others hid it; None where the words of the head are not kept."""
        total = self._meter.profile.energy
        if not isinstance(total, Sum):
            return None
        kept = next(iter(self._journal.readings(self._meter.id, after=self._head)), None)
        if kept is None or kept.point.at_ms != self._head.at_ms or len(kept.words) != total.words:
            return None
        return compare_parts(
            total,
            kept.words,
            self._latest.sample.words,
            per_count_milliwh=self._head.basis.per_count_milliwh,
            rise_max_milliwh=self._bound(self._head, self._point),
        )

    def _confirmed_jump(self) -> Decision:
        """Three readings agree on more than the circuit can have used: energy only if it is surely the same counter.

        A position that never counted is no evidence: a meter that was read before it was ready shows zero, and then
        its life's total. What may be another register, or another meter, is no evidence either.
        """
        rise = self._point.register_milliwh - self._head.register_milliwh
        most = max(rise, self._bound(self._head, self._point) or 0)
        if self._is_read_otherwise:
            return Beginning((self._latest,), "fingerprint")
        if self._hangs_elsewhere():
            return Beginning((self._latest,), "exchange", bound_milliwh=most)
        if self._head.register_milliwh == 0:
            return Beginning((self._latest,), "reset", bound_milliwh=most)
        return self._latest.flagged("rate")

    # -- a reading that goes on from the position

    def _accepted(self) -> Decision:
        """What is not sure about it is flagged, and remembered."""
        head, point, latest = self._head, self._point, self._latest
        memory = self._found.memories.get(self._meter.id, self._case.memory)
        elsewhere = self._hangs_elsewhere()
        if is_proved(head, latest.sample.serial):
            memory = memory.confirmed()
        elif (elsewhere or was_long(head, point)) and not self._was_dark():
            if not self._cut.clock_steps_ms or elsewhere:  # a clock that was set says nothing of silence
                memory = memory.returned(point.at_ms)
        elif memory.is_in_question:
            memory = memory.confirmed()  # where its rise may be another one's, `deciding` holds it again
        elif memory.returned_ms is not None:
            memory = memory.proved()
        self._keep(memory)
        if memory.is_on_probation:
            latest = latest.flagged("suspect")
        if point.register_milliwh == head.register_milliwh and self._meter.powered_by_circuit:
            latest = latest.flagged(DARK)
        return self._watched(latest)

    def _was_dark(self) -> bool:
        """Whether the silence is that of a circuit which was off: what it counted fits into its first hour."""
        if not self._meter.powered_by_circuit:
            return False
        rise = self._point.register_milliwh - self._head.register_milliwh
        most = rise_max(power_max_w(self._meter), self._head.basis.per_count_milliwh, SILENT_MS)
        return rise == 0 or (most is not None and 0 < rise <= most)

    def _watched(self, latest: Sound) -> Sound:
        """Whether the register stands still while power flows."""
        sample, register = latest.sample, latest.point.register_milliwh
        before = self._found.standstills.get(self._meter.id)
        now = watched(before, register, sample.at_ms, sample.power_w)
        self._found.standstills[self._meter.id] = now
        if not now.is_stuck(step_milliwh(self._meter, latest.counts)):
            return latest
        self._found.remarks[self._meter.id] = "stuck: power flows and the register stands still"
        return latest.flagged("suspect")

    # -- readings that wait

    def _doubt(self, what: str, reason: str) -> Decision:
        """A reading that does not go on from the ledger: wait for more, or begin a new epoch if there are enough."""
        latest, before = self._latest, self._waiting()
        doubt = Doubt(tuple(each.point for each in before)) if before else None
        doubt = replace(
            add(doubt, latest.point, self._bound, self._interval_ms), needs_motion=what == "reset"
        )
        readings = tuple(each for each in (*before, latest) if each.point in doubt.points)
        if doubt.is_settled:
            self._forget_doubt()
            return Beginning(readings, what)
        self._found.doubts[self._meter.id] = tuple(
            Pending(each.point, each.sample.words) for each in readings
        )
        return self._held(reason, latest.point.register_milliwh)

    def _waiting(self) -> tuple[Sound, ...]:
        """The readings in doubt, as far as they still mean what they meant; another site file may say otherwise."""
        found = [_as_read(self._meter, each) for each in self._case.pending]
        sound = tuple(each for each in found if each is not None)
        return sound if len(sound) == len(found) else ()

    def _forget_doubt(self) -> None:
        if self._case.pending:
            self._found.doubts[self._meter.id] = ()

    def _keep(self, memory: Memory) -> None:
        self._found.memories[self._meter.id] = memory


def _dated(point: Point, by: Point) -> Point:
    """A reading whose clock did not know the time, with the label that the clock of a later one gives it if it can."""
    label = None if has_trusted_label(point) else label_by(point, by)
    if label is None or point.when is None:
        return point
    return replace(point, at_ms=label[0], when=replace(point.when, err_ms=label[1]))


def _as_read(meter: Meter, pending: Pending) -> Sound | None:
    """A reading that waits as it was when it was read; None where its words mean something else by now."""
    point, energy = pending.point, meter.profile.energy
    if point.basis.per_count_milliwh != meter.per_count_milliwh or len(pending.words) != energy.words:
        return None
    counts = decode(energy, pending.words)
    if (
        isinstance(counts, str | NoValue)
        or to_milliwh(counts, meter.per_count_milliwh) != point.register_milliwh
    ):
        return None
    sample = Sample(meter.id, pending.words, point.at_ms, point.basis.serial, retried=False, when=point.when)
    return Sound(sample, counts, point)
