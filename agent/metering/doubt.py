"""Readings that are not believed at once, and what it takes until they are.

A rise above what the circuit can have used is read again on the spot; three readings that run on from one another book
it, flagged `rate`. A fall that is no rollover, and another serial number, wait for three readings at three boundaries
that run on from one another; then the old epoch ends and a new one begins at the first of them. A reading that goes on
from the ledger's position ends every doubt: what lay between was a misread, its energy is in the spanning delta.

A register of several words can be read while it counts: the low word before the carry, the high word after it. Such a
value is wrong by about one turn of a word, and gone when it is read again; so a rise of about that size is, too.

Comes after `gates`, which says what one reading means, and before the ledger. Doubts are kept in the journal: a restart
must not make three boundaries of them begin anew, or an agent that is restarted every hour would never settle one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from agent.metering.interval import Timed, elapsed_ms
from agent.metering.ledger import Basis, Head, Point
from agent.metering.profile import Quantity, Register, WordType

READS = 3
"""So many consistent readings are evidence."""

JITTER_STEPS = 2
"""A register that falls by no more than so many of its steps has not been reset: rounding inside the meter."""
_TEAR_WIDTH = 16
"""A rise is about one turn of a word if it differs from it by less than this part of it."""
_ALIKE = 100
"""Where nobody knows the power of a circuit, two registers are alike if they are so many times nearer than another."""

Bound = Callable[[Timed, Timed], int | None]
"""Most energy a circuit can have used between two times, in 0.001 Wh; None where nobody knows its power or the time."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Readings that run on from one another but not from the ledger's position, oldest first; at most READS.

    `needs_motion` says that only the register speaks for a new epoch: then zeros alone are no evidence, however many.
    A meter that is not ready shows them, too; one that was really reset moves as soon as something is used.
    """

    points: tuple[Point, ...]
    needs_motion: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether they are evidence of a new epoch."""
        moved = not self.needs_motion or any(point.register_milliwh for point in self.points)
        return len(self.points) >= READS and moved


def runs_on(before: Point, after: Point, bound: Bound) -> bool:
    """Whether one reading can follow another of the same meter: it did not fall, nor rise more than it can."""
    if not same_meter(before.basis, after.basis) or after.register_milliwh < before.register_milliwh:
        return False
    return not _exceeds(after.register_milliwh - before.register_milliwh, before, after, bound)


def _exceeds(rise_milliwh: int, before: Timed, after: Timed, bound: Bound) -> bool:
    """Whether a rise is more than can be; no rise is where nobody knows how long it took."""
    most = bound(before, after)
    return most is not None and rise_milliwh > most


def same_meter(one: Basis, other: Basis) -> bool:
    """Whether nothing says that these are two meters: equal serial numbers, or one of them unknown."""
    return one.serial is None or other.serial is None or one.serial == other.serial


def rises_too_fast(head: Head, point: Point, bound: Bound) -> bool:
    """Whether the register rose by more than the circuit can have used since the ledger's position."""
    return _exceeds(point.register_milliwh - head.register_milliwh, head, point, bound)


def is_confirmed(reads: Sequence[Point], bound: Bound) -> bool:
    """Whether readings made one right after the other are evidence: enough of them, each running on from the last."""
    return len(reads) >= READS and all(runs_on(before, after, bound) for before, after in pairwise(reads))


def add(doubt: Doubt | None, point: Point, bound: Bound, interval_ms: int) -> Doubt:
    """The doubt with one more reading; it begins anew where the reading does not run on from the last.

    So it does where nobody knows how long it was between the two, after a start of the machine without a clock: any
    register could follow any other then, a true one a misread. Several readings of one interval, as an agent makes them
    that is restarted again and again, are one piece of evidence: what ails a meter for a minute shows in all of them.
    """
    if doubt is None:
        return Doubt((point,))
    last = doubt.points[-1]
    if elapsed_ms(last, point) is None or not runs_on(last, point, bound):
        return Doubt((point,))
    if last.cut_ms // interval_ms == point.cut_ms // interval_ms:
        return doubt
    return Doubt((*doubt.points, point)[-READS:])


def is_jitter(fall_milliwh: int, after_milliwh: int, step_milliwh: Fraction | int) -> bool:
    """Whether a fall is a step or two of the register and not to zero: held, and evidence of nothing, however often.

    Args:
        fall_milliwh: by how much the register fell, > 0.
        after_milliwh: what it reads now.
        step_milliwh: one step of the register where it stands.
    """
    return 0 < fall_milliwh <= JITTER_STEPS * step_milliwh and after_milliwh > 0


def may_be_torn(quantity: Quantity, rise_milliwh: int, step_milliwh: Fraction | int) -> bool:
    """Whether a rise is about one turn of one of the register's words, as a carry between two words would make it.

    Args:
        quantity: the energy register; that of one word cannot be torn.
        rise_milliwh: by how much it rose.
        step_milliwh: one step of the register where it stands.
    """
    return any(_is_torn(part, rise_milliwh, step_milliwh) for part in quantity.parts)


def _is_torn(register: Register, rise_milliwh: int, step_milliwh: Fraction | int) -> bool:
    digits = register.type in (WordType.BCD32, WordType.BCD, WordType.BCD_SIGNED)
    word = 10_000 if digits else 1 << 16
    scale = step_milliwh.denominator
    turns = [word**place * step_milliwh.numerator for place in range(1, register.words)]
    return any(abs(rise_milliwh * scale - turn) * _TEAR_WIDTH < turn for turn in turns)


def goes_on_from(other: Head, register_milliwh: int, at: Timed, bound: Bound) -> bool:
    """Whether a reading that is nobody's proof can go on from another meter's position.

    Also beyond the other register's rollover, where the modulus and what its circuit can use are known. Where that is
    unknown any rise can be: of a pair of meters that say nothing of themselves and show one another's register, one
    has fallen, and the other one has risen at least as far as that.

    Args:
        other: the other meter's position.
        register_milliwh: the reading as the other meter's scale would have it.
        at: when it was read.
        bound: of the other meter's circuit.
    """
    rise, most, modulus = (
        register_milliwh - other.register_milliwh,
        bound(other, at),
        other.basis.modulus_milliwh,
    )
    if most is None:
        return rise >= 0
    return 0 <= rise <= most or (modulus is not None and 0 <= rise + modulus <= most)


def is_alike(other: Head, register_milliwh: int, own: Head) -> bool:
    """Whether a register is a little above another meter's position, and very much nearer to it than to its own."""
    rise = register_milliwh - other.register_milliwh
    return rise >= 0 and rise * _ALIKE <= abs(register_milliwh - own.register_milliwh)
