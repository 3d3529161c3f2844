"""When one reading of a meter is not enough: what there is to hold it against, and whether it moved as it can.

Comes after the first gates, with a reading and the ledger's position, and before `doubt`, which says what it takes to
believe it all the same. Everything here is about one circuit: its power bounds what its register can have counted.
"""

from agent.metering.decode import resolution
from agent.metering.doubt import Bound, may_be_torn, rises_too_fast
from agent.metering.gates import Held, compare, power_max_w, rise_max, step_milliwh
from agent.metering.interval import Timed, elapsed_ms
from agent.metering.ledger import Basis, Head, Point
from agent.metering.memory import SILENT_MS
from agent.metering.plant import Meter
from agent.metering.quantity import Counts

_COARSE_MILLIWH = 1000
"""A float register that steps by more than 1 Wh is flagged `quant` (wire format, section 3, rule 3)."""


def bound_of(meter: Meter, counts: Counts) -> Bound:
    """Most energy the meter's circuit can have used between two times, None where nobody knows its power."""
    power_w, step = power_max_w(meter), step_milliwh(meter, counts)

    def bound(before: Timed, after: Timed) -> int | None:
        silent_ms = elapsed_ms(before, after)
        return None if silent_ms is None else rise_max(power_w, step, silent_ms)

    return bound


def rises_oddly(meter: Meter, head: Head, point: Point, bound: Bound, counts: Counts) -> bool:
    """Whether a rise has to be seen more than once: too fast for the circuit, or as if two words were torn apart.

    So has one of which nobody knows how long it took, after a start of the machine without a clock.
    """
    rise = point.register_milliwh - head.register_milliwh
    if rise <= 0:
        return False
    if (head.when, point.when) != (None, None) and elapsed_ms(head, point) is None:
        return True
    return rises_too_fast(head, point, bound) or may_be_torn(
        meter.profile.energy, rise, step_milliwh(meter, counts)
    )


def goes_round(head: Head, point: Point, bound: Bound) -> bool:
    """Whether a register fell as it does when it rolls over, within what the circuit can have used."""
    if not falls(head, point):
        return False
    move = compare(
        head.register_milliwh,
        point.register_milliwh,
        modulus_milliwh=head.basis.modulus_milliwh,
        rise_max_milliwh=bound(head, point),
    )
    return not isinstance(move, Held)


def falls(head: Head, point: Point) -> bool:
    """Whether a register shows less than it did, as one does that was set back, that rolled over, or is misread.

    Only what is still so when it is read again can be the beginning of an epoch: one wrong answer at each of three
    boundaries runs on as a register does that was set back, and to a misread zero every register can go on.
    """
    return point.register_milliwh < head.register_milliwh


def cannot_be_compared(head: Head | None, point: Point) -> bool:
    """Whether no position tells a wrong reading: there is none, or the platform's, or the meter was silent for long.

    What the circuit can have used meanwhile leaves room for any misread then, and the next right reading would be
    taken for a jump, or for a reset.
    """
    if head is None or head.restored:
        return True
    return was_long(head, point)


def was_long(before: Timed, after: Timed) -> bool:
    """Whether a meter was not seen for so long that nobody knows whether the same one answers (design, section 7)."""
    silent_ms = elapsed_ms(before, after)
    return silent_ms is not None and silent_ms > SILENT_MS


def may_go_on(head: Head, basis: Basis) -> bool:
    """Whether the reading can belong to the position's epoch; from the platform's word only a proven basis does."""
    return not head.restored or basis.proves(head.basis)


def is_proved(head: Head, serial: str | None) -> bool:
    """Whether the meter itself says, by the serial number it gave, that it is the one of the position."""
    return serial is not None and serial == head.basis.serial


def is_coarse(meter: Meter, counts: Counts) -> bool:
    """Whether the register is a float that steps by more than 1 Wh where it stands."""
    register = meter.profile.energy
    return register.is_float and resolution(register, counts) * meter.per_count_milliwh > _COARSE_MILLIWH
