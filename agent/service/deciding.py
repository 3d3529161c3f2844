"""What becomes of each reading of a cut: booked, held, refused, or the beginning of an epoch.

Comes between the samples of a cut and the ledger. Each sample is admitted (`admitting`), is judged by itself where the
ledger has a position of its epoch (`judging`), and is then held against those of the other meters, with which its meter
may have been exchanged (`swaps`). What the gates have to know beyond the position (doubts, where the meter hangs, how
its settings stood, what a person has said) is in the journal, so that a restart makes no gate forget. Nothing is
written here: `close` carries out what was decided, in its transaction.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from agent.metering.doubt import is_confirmed
from agent.metering.ledger import Head
from agent.metering.memory import Memory
from agent.metering.plant import Meter
from agent.metering.standstill import Standstill
from agent.metering.suspicion import bound_of, cannot_be_compared, falls, may_go_on, rises_oddly
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
from agent.service.judging import Case, Judge
from agent.service.swaps import Party, mistakable, parties, swapped
from agent.service.witnessing import display_events


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
        self._hold_exchanged()
        # What a person said of a meter holds until a reading of it counts: a doubt takes three boundaries.
        found.done = [order for order in found.done if not isinstance(found.decisions[order.meter], Refusal)]
        for order in found.done:
            found.events.extend(display_events(self._meters[order.meter], order))
        for id, decision in found.decisions.items():
            self._remember(self._meters[id], decision)
        return found

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
        head = self._heads.get(meter.id)
        readings = [self._admission.reading(meter, each) for each in samples]
        latest = readings[-1]
        if isinstance(latest, Refusal):
            return latest
        reads = tuple(each for each in readings if isinstance(each, Sound))
        is_agreed = self._is_agreed(meter, reads)
        if cannot_be_compared(head, latest.point) and not is_agreed:
            reason = "first: readings made one right after the other do not agree, or did not come"
            return Refusal(latest.sample, "held", reason, latest.point.register_milliwh)
        if head is None or not may_go_on(head, latest.point.basis):
            return reads[0]
        case = Case(
            meter,
            head,
            self._memories.get(meter.id, Memory()),
            self._doubts.get(meter.id, ()),
            self._orders.get(meter.id),
            profile_hash=self._profile_hash_of(head),
            reads=reads,
            is_agreed=is_agreed,
            number_of=self._whose_serial(meter, latest.sample),
        )
        return Judge(case, self._cut, self._journal, self._found, interval_ms=self._interval_ms).decide()

    def _is_agreed(self, meter: Meter, reads: Sequence[Sound]) -> bool:
        """Whether a meter was asked once only, or said the same each time."""
        if meter.id not in self._cut.asked_again:
            return True
        return is_confirmed([each.point for each in reads], bound_of(meter, reads[-1].counts))

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

    # -- all meters of the cut

    def _hold_exchanged(self) -> None:
        """Hold what may be the register of another meter, unless a person has said today whose it is."""
        vouched_for = {order.meter for order in self._found.done}
        for one, other in list(swapped(self._parties())):
            if vouched_for.isdisjoint((one, other)):
                self._hold_swapped(one, other)
                self._hold_swapped(other, one)
        doubted = [id for id, waiting in self._found.doubts.items() if waiting]
        for id, other in list(mistakable(self._parties(), doubted)):
            if id not in vouched_for:
                what = f"it may be the register of meter {other}, which was not read soundly"
                self._hold_for_another(id, f"identity: {what}; are the two exchanged?")

    def _parties(self) -> list[Party]:
        return parties(self._found.decisions, self._meters, self._heads, self._memories)

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

    # -- what to remember

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
            goes_on = isinstance(decision, Sound)
            memory = memory.read_at(meter.place, meter.profile.hash, sample.fingerprint, goes_on=goes_on)
            if sample.serial is not None and sample.serial == meter.serial:
                memory = memory.heard(sample.serial)
        if isinstance(decision, Beginning) and head is not None:
            self._found.standstills.pop(meter.id, None)
            at_ms = decision.readings[0].point.at_ms
            memory = memory.opened(at_ms, head.register_milliwh, decision.by)
        if memory != (before or Memory()):
            self._found.memories[meter.id] = memory
