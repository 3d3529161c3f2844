"""Meters that were exchanged on the bus and have not said since who they are: each shows the register of the other.

Booking either would give its energy to the wrong step, so both are held until that ends or a person says what is so.
Looked for by `deciding` among the meters that were read for one cut, once each has been judged by itself. Where the
other one of a pair was not read, nothing can be compared: then what can be its register, and hardly the own one, waits.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from agent.metering.decode import NoValue, decode
from agent.metering.doubt import goes_on_from, is_alike
from agent.metering.ledger import Head
from agent.metering.memory import Memory
from agent.metering.plant import Meter
from agent.metering.quantity import Counts, to_milliwh
from agent.metering.suspicion import bound_of, is_proved, was_long
from agent.service.decisions import AGENT, Beginning, Decision, Refusal, Sample, Sound, sample_of


@dataclass(frozen=True, slots=True)
class Party:
    """A meter of which the ledger has a position: where it stands, and what was decided about it for this cut."""

    meter: Meter
    head: Head
    memory: Memory
    decision: Decision | None
    """None where it was not read."""

    @property
    def sample(self) -> Sample | None:
        """What was read for it."""
        return None if self.decision is None else sample_of(self.decision)

    @property
    def is_sound(self) -> bool:
        """Whether what was read is booked, as far as this meter alone goes."""
        return isinstance(self.decision, Sound)

    @property
    def is_wired_anew(self) -> bool:
        """Whether a person has said that the meter hangs at another place now, or is another one."""
        said = self.memory.known_serial(self.meter.serial)
        is_another = said is not None and said != self.head.basis.serial
        return is_another or self.memory.place not in (None, self.meter.place)

    @property
    def hides_its_number(self) -> bool:
        """Whether it was read and hides the serial number that it has said before."""
        return self.sample is not None and hides_its_number(self.meter, self.head, self.memory, self.sample)

    @property
    def is_replaced(self) -> bool:
        """Whether something else answers in its place: what was read for it is refused, and it hides its number.

        Where nothing was read for it this time, it is so if it was so when it was read last.
        """
        if self.sample is None:
            can_say = has_said_its_number(self.meter, self.head, self.memory)
            return can_say and self.memory.is_in_question
        return not self.is_sound and self.hides_its_number


def parties(
    decisions: Mapping[str, Decision],
    meters: Mapping[str, Meter],
    heads: Mapping[str, Head],
    memories: Mapping[str, Memory],
) -> list[Party]:
    """The meters that hang where they did, by their ids.

    Args:
        decisions: what was decided about each meter of the cut.
        meters: the site's.
        heads: the ledger's positions before the cut.
        memories: what was remembered before the cut.
    """
    found = [
        Party(meters[id], head, memories.get(id, Memory()), decisions.get(id))
        for id, head in sorted(heads.items())
        if id in meters
    ]
    return [each for each in found if not each.is_wired_anew]


def hides_its_number(meter: Meter, head: Head, memory: Memory, sample: Sample) -> bool:
    """Whether a meter that has said its serial number itself has none to say now.

    Then another meter answers at its address, one of another kind, or one that is sick.
    """
    return sample.serial is None and has_said_its_number(meter, head, memory)


def has_said_its_number(meter: Meter, head: Head, memory: Memory) -> bool:
    """Whether a meter has told its serial number itself, under this profile.

    A number that a person has written down is no proof that it ever did; so that is remembered of it.
    """
    known = memory.known_serial(meter.serial)
    is_its_own = head.basis.serial is not None if known is None else memory.has_said(known)
    return is_its_own and meter.profile.identity is not None


# ------------------------------------------------------------------------------------------------- both of a pair read


def swapped(here: Collection[Party]) -> Iterator[tuple[str, str]]:
    """The pairs of meters that show one another's register; one of each was held, or hides its number.

    Two registers may be so near to one another that both seem to rise: then only the number that is missing tells.
    """
    read = [each for each in here if each.sample is not None and not _says_it_is_new(each)]
    for one in read:
        if not (_is_held(one) or one.hides_its_number) or _has_said_it_with_its_settings(one):
            continue
        for other in read:
            if (
                other is not one
                and not _has_said_who_it_is(other)
                and _shows(one, other)
                and _shows(other, one)
            ):
                yield one.meter.id, other.meter.id


def _is_held(party: Party) -> bool:
    """Whether no metering explains its reading: nearly always a fall.

    A rise that leaves room for a turn is explained, only not which of the two it is. Where that was a sign, two meters
    without a number that nobody read for weeks would hold one another for ever (world seed 12681).
    """
    if not isinstance(party.decision, Refusal) or party.decision.kind != "held":
        return False
    counts = _counts_of(party)
    if counts is None:
        return True
    fell = to_milliwh(counts, party.head.basis.per_count_milliwh) < party.head.register_milliwh
    return fell or not _can_follow(party, counts, party)


def _has_said_it_with_its_settings(party: Party) -> bool:
    """Whether it is held because somebody set it otherwise, and says its number, which is read together with that."""
    sample = party.sample
    if sample is None or not is_proved(party.head, sample.serial):
        return False
    return party.memory.changed_setting(party.meter.profile.hash, sample.fingerprint) is not None


def _says_it_is_new(party: Party) -> bool:
    """Whether what answers has a number that the ledger's meter has not: no exchange of addresses, but a new meter."""
    said, known = party.sample and party.sample.serial, party.head.basis.serial
    return said is not None and known is not None and said != known


def _has_said_who_it_is(party: Party) -> bool:
    """Whether a serial number proves that a reading is this meter's.

    A meter that rose oddly has said it again for this cut. That of one whose reading is refused may be ten minutes old:
    it is asked for before the next reading.
    """
    is_old = isinstance(party.decision, Refusal) and party.decision.kind != "identity"
    return party.sample is not None and party.sample.serial is not None and not is_old


def _shows(one: Party, other: Party) -> bool:
    """Whether what is read for one meter goes on from the position of the other."""
    counts = _counts_of(one)
    if counts is None or one.sample is None:
        return False
    register = to_milliwh(counts, other.head.basis.per_count_milliwh)
    return goes_on_from(other.head, register, one.sample, bound_of(other.meter, counts))


# -------------------------------------------------------------------------------------------- the other one not sound


def mistakable(here: Collection[Party], doubted: Collection[str]) -> Iterator[tuple[str, str]]:
    """The meters that do not say who they are and may show the register of another one, which was not read soundly.

    The register fell, or rose by more than its circuit can have used, and it goes on from where the other one was seen
    last. That one may have been away already when this one was still right, but not for long; before energy is booked
    even that is no excuse.

    Where something answers for another meter of the line which has no serial number to say, where that one had, nothing
    has to fit: that one may be new since. Then any rise waits that is not surely its own, also after a long silence.

    Args:
        here: the meters that hang where they did.
        doubted: those of which the reading speaks for a new epoch, and has not settled it yet.
    """
    lost = [each for each in here if not each.is_sound]
    for one in here:
        if not _would_count(one.decision, is_doubted=one.meter.id in doubted):
            continue
        if one.sample is None or one.sample.serial is not None:
            continue
        for other in lost:
            if other.meter.place != one.meter.place and _may_be_mistaken(one, other):
                yield one.meter.id, other.meter.id
                break


def _would_count(decision: Decision | None, *, is_doubted: bool) -> bool:
    """Whether the decision books the reading, or brings a new epoch nearer, and no person has said so."""
    match decision:
        case Sound():
            return True
        case Beginning(by=by):
            return by == AGENT
        case Refusal():
            return is_doubted
        case None:
            return False


def _may_be_mistaken(one: Party, other: Party) -> bool:
    """Whether what is read for one meter is to wait, because it can be the other's."""
    if other.is_replaced and other.meter.line == one.meter.line:
        return _is_hardly_own(one) or _was_long_silent(one)
    was_away = was_long(other.head, one.head)
    return _is_hardly_own(one) and (one.is_sound or not was_away) and _may_be_of(one, other)


def _was_long_silent(one: Party) -> bool:
    """Whether a meter was not read for so long that its circuit's power leaves room for any register."""
    return one.sample is not None and was_long(one.head, one.sample)


def _is_hardly_own(one: Party) -> bool:
    """Whether a reading does not surely go on from its position; never where a person changed the scale since."""
    counts, own = _counts_of(one), one.head
    if counts is None or own.basis.per_count_milliwh != one.meter.per_count_milliwh:
        return False
    register = to_milliwh(counts, own.basis.per_count_milliwh)
    return register != own.register_milliwh and not _can_follow(one, counts, one)


def _may_be_of(one: Party, other: Party) -> bool:
    """Whether what is read for one meter, and hardly its own register, can be the other's.

    Where nobody knows how long it was, any register could follow any other, and it takes a sign: something odd was read
    for the other one as well, or the register rose to beyond that one's, or is very much nearer to it.
    """
    counts = _counts_of(one)
    assert counts is not None
    can_be = _can_follow(one, counts, other)
    register = to_milliwh(counts, one.head.basis.per_count_milliwh)
    its_register = to_milliwh(counts, other.head.basis.per_count_milliwh)
    rose = register > one.head.register_milliwh
    looks_alike = is_alike(other.head, its_register, one.head)
    if rose and can_be is not False and _can_follow(one, counts, one) is None:
        return looks_alike  # any rise can be its own
    if can_be is not None:
        return can_be
    is_beyond = rose and its_register >= other.head.register_milliwh
    is_odd_there = other.decision is not None
    return one.meter.line == other.meter.line and (is_odd_there or is_beyond or looks_alike)


def _can_follow(one: Party, counts: Counts, of: Party) -> bool | None:
    """Whether what is read for one meter can come after a position; None where nobody knows how much was used since."""
    assert one.sample is not None
    rise = to_milliwh(counts, of.head.basis.per_count_milliwh) - of.head.register_milliwh
    if rise < 0 and of.head.basis.modulus_milliwh is not None:
        rise += of.head.basis.modulus_milliwh
    if rise < 0:
        return False
    most = bound_of(of.meter, counts)(of.head, one.sample)
    return None if most is None else rise <= most


def _counts_of(one: Party) -> Counts | None:
    """What was read for a meter, by its own register; None where that is no number."""
    if one.sample is None:
        return None
    counts = decode(one.meter.profile.energy, one.sample.words)
    return None if isinstance(counts, str | NoValue) else counts
