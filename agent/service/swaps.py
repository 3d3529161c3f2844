"""Meters that were exchanged on the bus and have not said since who they are: each shows the register of the other.

Booking either would give its energy to the wrong step, so both are held until that ends or a person says what is so.
Looked for by `deciding` among the meters that were read for one cut, once each has been judged by itself. Where the
other one of a pair was not read, nothing can be compared: then what can be its register, and hardly the own one, waits.
"""

from collections.abc import Collection, Iterator, Mapping

from agent.metering.decode import NoValue, decode
from agent.metering.doubt import goes_on_from, is_alike
from agent.metering.interval import Timed, elapsed_ms
from agent.metering.ledger import Head
from agent.metering.memory import SILENT_MS, Memory
from agent.metering.plant import Meter
from agent.metering.quantity import Counts, to_milliwh
from agent.metering.suspicion import bound_of
from agent.service.decisions import AGENT, Beginning, Decision, Refusal, Sample, Sound, sample_of


def swapped(
    decisions: Mapping[str, Decision],
    meters: Mapping[str, Meter],
    heads: Mapping[str, Head],
    memories: Mapping[str, Memory],
) -> Iterator[tuple[str, str]]:
    """The pairs of meters that show one another's register; one of each was held for a fall.

    Args:
        decisions: what was decided about each meter of the cut.
        meters: the site's.
        heads: the ledger's positions before the cut.
        memories: what was remembered before the cut.
    """
    at_its_place = {
        id: sample_of(decision)
        for id, decision in decisions.items()
        if id in heads and not _is_wired_anew(meters[id], heads[id], memories.get(id, Memory()))
    }
    for id, sample in at_its_place.items():
        if not _fell(decisions[id]):
            continue
        for other, its_sample in at_its_place.items():
            if (
                other != id
                and not _has_said_who_it_is(decisions[other], its_sample)
                and _shows(meters[id], sample, meters[other], heads[other])
                and _shows(meters[other], its_sample, meters[id], heads[id])
            ):
                yield id, other


def mistakable(
    decisions: Mapping[str, Decision],
    doubted: Collection[str],
    meters: Mapping[str, Meter],
    heads: Mapping[str, Head],
    memories: Mapping[str, Memory],
) -> Iterator[tuple[str, str]]:
    """The meters that do not say who they are and may show the register of another one, which was not read soundly.

    The register fell, or rose by more than its circuit can have used, and it goes on from where the other one was seen
    last. That one may have been away already when this one was still right, but not for long; before energy is booked
    even that is no excuse.

    Where something answers for another meter of the line which has no serial number to say, where that one had, nothing
    has to fit: that one may be new since. Then any rise waits that is not surely its own, also after a long silence.

    Args:
        decisions: what was decided about each meter of the cut.
        doubted: those of which the reading speaks for a new epoch, and has not settled it yet.
        meters: the site's.
        heads: the ledger's positions before the cut.
        memories: what was remembered before the cut.
    """
    here = [
        id
        for id, head in sorted(heads.items())
        if id in meters and not _is_wired_anew(meters[id], head, memories.get(id, Memory()))
    ]
    lost = [id for id in here if not isinstance(decisions.get(id), Sound)]
    for id in here:
        decision = decisions.get(id)
        if decision is None or not _would_count(decision, is_doubted=id in doubted):
            continue
        sample = sample_of(decision)
        if sample.serial is not None:
            continue
        is_hardly_own = _is_hardly_own(meters[id], sample, heads[id])
        if not is_hardly_own and not _was_long_silent(sample, heads[id]):
            continue
        for other in lost:
            if meters[other].place == meters[id].place:
                continue
            on_one_line = meters[other].line == meters[id].line
            memory = memories.get(other, Memory())
            if on_one_line and _is_replaced(decisions.get(other), meters[other], heads[other], memory):
                yield id, other
                break
            silent_ms = elapsed_ms(heads[other], heads[id])
            was_away = silent_ms is not None and silent_ms > SILENT_MS
            if (
                is_hardly_own
                and (isinstance(decision, Sound) or not was_away)
                and _may_be_of(
                    meters[id],
                    sample,
                    heads[id],
                    meters[other],
                    heads[other],
                    is_odd_there=other in decisions,
                )
            ):
                yield id, other
                break


def _was_long_silent(sample: Sample, own: Head) -> bool:
    """Whether a meter was not read for so long that its circuit's power leaves room for any register."""
    silent_ms = elapsed_ms(own, sample)
    return silent_ms is not None and silent_ms > SILENT_MS


def hides_its_number(meter: Meter, head: Head, memory: Memory, sample: Sample) -> bool:
    """Whether a meter that has said its serial number itself has none to say now.

    Then another meter answers at its address, one of another kind, or one that is sick.
    """
    has_said = head.basis.serial is not None and memory.known_serial(meter.serial) is None
    return has_said and meter.profile.identity is not None and sample.serial is None


def _is_replaced(decision: Decision | None, meter: Meter, head: Head, memory: Memory) -> bool:
    """Whether what was read for a meter is refused, and the meter hides its number."""
    return isinstance(decision, Refusal) and hides_its_number(meter, head, memory, decision.sample)


def _would_count(decision: Decision, *, is_doubted: bool) -> bool:
    """Whether the decision books the reading, or brings a new epoch nearer, and no person has said so."""
    match decision:
        case Sound():
            return True
        case Beginning(by=by):
            return by == AGENT
        case Refusal():
            return is_doubted


def _is_hardly_own(meter: Meter, sample: Sample, own: Head) -> bool:
    """Whether a reading does not surely go on from its position; never where a person changed the scale since."""
    counts = decode(meter.profile.energy, sample.words)
    if isinstance(counts, str | NoValue) or own.basis.per_count_milliwh != meter.per_count_milliwh:
        return False
    register = to_milliwh(counts, own.basis.per_count_milliwh)
    return register != own.register_milliwh and not _can_follow(meter, counts, own, sample)


def _may_be_of(
    one: Meter, sample: Sample, own: Head, other: Meter, theirs: Head, *, is_odd_there: bool
) -> bool:
    """Whether what is read for one meter, and hardly its own register, can be the other's.

    Where nobody knows how long it was, any register could follow any other, and it takes a sign: something odd was read
    for the other one as well (`is_odd_there`), or the register rose to beyond that one's, or is very much nearer to it.
    """
    counts = decode(one.profile.energy, sample.words)
    assert not isinstance(counts, str | NoValue)
    can_be, register = (
        _can_follow(other, counts, theirs, sample),
        to_milliwh(counts, own.basis.per_count_milliwh),
    )
    its_register = to_milliwh(counts, theirs.basis.per_count_milliwh)
    rose = register > own.register_milliwh
    if rose and can_be is not False and _can_follow(one, counts, own, sample) is None:
        return is_alike(theirs, its_register, own)  # any rise can be its own
    if can_be is not None:
        return can_be
    is_beyond = rose and its_register >= theirs.register_milliwh
    return one.line == other.line and (is_odd_there or is_beyond or is_alike(theirs, its_register, own))


def _can_follow(meter: Meter, counts: Counts, head: Head, at: Timed) -> bool | None:
    """Whether a register can come after a position; None where nobody knows how much its circuit can have used."""
    rise = to_milliwh(counts, head.basis.per_count_milliwh) - head.register_milliwh
    if rise < 0 and head.basis.modulus_milliwh is not None:
        rise += head.basis.modulus_milliwh
    if rise < 0:
        return False
    most = bound_of(meter, counts)(head, at)
    return None if most is None else rise <= most


def _fell(decision: Decision) -> bool:
    return isinstance(decision, Refusal) and decision.kind == "held"


def _has_said_who_it_is(decision: Decision, sample: Sample) -> bool:
    """Whether a serial number proves that a reading is this meter's.

    A meter that rose oddly has said it again for this cut. That of one whose reading is refused may be ten minutes old:
    it is asked for before the next reading.
    """
    is_old = isinstance(decision, Refusal) and decision.kind != "identity"
    return sample.serial is not None and not is_old


def _is_wired_anew(meter: Meter, head: Head, memory: Memory) -> bool:
    """Whether a person has said that the meter hangs at another place now, or is another one."""
    said = memory.known_serial(meter.serial)
    is_another = said is not None and said != head.basis.serial
    return is_another or memory.place not in (None, meter.place)


def _shows(one: Meter, sample: Sample, other: Meter, theirs: Head) -> bool:
    """Whether what is read for one meter goes on from the position of the other."""
    counts = decode(one.profile.energy, sample.words)
    if isinstance(counts, str | NoValue):
        return False
    register = to_milliwh(counts, theirs.basis.per_count_milliwh)
    return goes_on_from(theirs, register, sample, bound_of(other, counts))
