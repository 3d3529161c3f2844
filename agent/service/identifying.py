"""Who answers at an address: serial number, fingerprint, and whether the meter is what its profile takes it for.

Asked after every event of the line, when a meter was away, every ten minutes, and whenever its counter says something
that does not go on from before. The line worker makes the reads; here is which read comes next, and what all of them
mean for the meter.
"""

import logging
from collections.abc import Collection, Mapping

from agent.metering.conditions import Broken, Undecided, judge
from agent.metering.decode import Decoded, NoValue, decode
from agent.metering.plan import Block
from agent.service.logline import pairs
from agent.service.watch import Watch

log = logging.getLogger(__name__)

UNDECIDED_NS = 60 * 1_000_000_000
"""A meter whose counter still stands at zero cannot tell which generation it is of: so often it is asked again."""
CONFIRM_NS = 600 * 1_000_000_000
"""So often serial number and fingerprint are read again while nothing happens."""


def is_due(watch: Watch, now_ns: int) -> bool:
    """Whether the meter has to say who it is before its energy register is believed."""
    return not watch.identified or (watch.undecided and now_ns - watch.identified_ns >= UNDECIDED_NS)


def is_old(watch: Watch, now_ns: int) -> bool:
    """Whether a meter that is known has not been asked for long."""
    return watch.identified and now_ns - watch.identified_ns >= CONFIRM_NS


def next_block(watch: Watch, found: Collection[str], now_ns: int) -> Block | None:
    """The next read that brings something not found yet; None when all that the meter has was found."""
    for block in watch.identity.blocks(now_ns):
        if any(register.name not in found for register in block.registers):
            return block
    return None


def note(line: str, watch: Watch, found: Mapping[str, tuple[int, ...]], now_ns: int) -> None:
    """Keep what the meter said of itself; `found` has the words of each register that it has."""
    profile = watch.meter.profile
    name = profile.identity
    words = found.get(name) if name is not None else None
    serial = None if name is None or words is None else serial_text(decode(profile.registers[name], words))
    if serial != watch.serial:
        watch.live_reads.forget()
        watch.live_rest.forget()
        watch.refusals, watch.reshapes = 0, True
    watch.serial = serial
    watch.fingerprint = tuple((each, found.get(each)) for each in profile.fingerprint)
    verdict = judge(profile, {each: decode(profile.registers[each], found[each]) for each in found})
    _note_fitness(line, watch, verdict.reason if isinstance(verdict, Broken) else None)
    # A meter that is not fit is asked again at every sweep.
    watch.identified = not isinstance(verdict, Broken)
    watch.undecided = isinstance(verdict, Undecided)
    watch.identified_ns = now_ns


def _note_fitness(line: str, watch: Watch, reason: str | None) -> None:
    """Whether the meter meets the conditions of its profile."""
    if reason is not None and reason != watch.unfit:
        log.error(
            "the meter is not what its profile says; nothing of it is booked",
            extra=pairs("M1208", meter=watch.meter.id, line=line, reason=reason),
        )
    watch.unfit = reason
    if reason is not None:
        watch.last_error = reason


def serial_text(value: Decoded) -> str | None:
    """A serial number as people write it; None where the meter has none to give."""
    if isinstance(value, NoValue) or value == 0 or value == "":
        return None
    return str(value)
