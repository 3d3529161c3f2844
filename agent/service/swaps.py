"""Two meters that were exchanged on the bus and have not said since who they are: each shows the register of the other.

Booking either would give its energy to the wrong step, so both are held until that ends or a person says what is so.
Looked for by `deciding` among the meters that were read for one cut, once each has been judged by itself.
"""

from collections.abc import Iterator, Mapping

from agent.metering.decode import NoValue, decode
from agent.metering.doubt import is_nearer_to
from agent.metering.ledger import Head
from agent.metering.memory import Memory
from agent.metering.plant import Meter
from agent.metering.quantity import to_milliwh
from agent.metering.suspicion import bound_of
from agent.service.decisions import Decision, Refusal, Sample, sample_of


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
                and _shows(meters[id], sample, heads[id], meters[other], heads[other])
                and _shows(meters[other], its_sample, heads[other], meters[id], heads[id])
            ):
                yield id, other


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


def _shows(one: Meter, sample: Sample, own: Head, other: Meter, theirs: Head) -> bool:
    """Whether what is read for one meter goes on from the position of the other."""
    counts = decode(one.profile.energy, sample.words)
    if isinstance(counts, str | NoValue):
        return False
    register = to_milliwh(counts, theirs.basis.per_count_milliwh)
    return is_nearer_to(theirs, register, sample, own, bound_of(other, counts))
