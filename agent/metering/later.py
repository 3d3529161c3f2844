"""Which of the agent's own readings are later than a position that the platform confirms.

A restored chain tells them again, and only them: one too many would be booked twice, and an epoch change that is left
out would hide what it hid. The order of the journal is that of nature; so all that has to be found is where in it the
position lies. Times do not tell that by themselves: a gateway without a battery clock labels its readings with 1970, a
clock that was set back labels two stretches alike, and nobody knows how the position itself was labelled. What no clock
can falsify comes first (decision 0016):

1. the position is one of our own readings: what follows it is later;
2. what the platform has acknowledged is not later;
3. within one run of a register, what shows more energy is later; a known modulus is unwrapped;
4. where registers cannot say it, the labels of clocks that knew the time, as far as these may be wrong;
5. what nothing proves to be later is left out. Within an epoch that costs resolution and never energy, because the next
   reading spans it.

Of what was acknowledged a salvaged journal has only the turning points, and no batch that would say so: these carry a
mark (`SETTLED`). A higher register alone proves none of them later, because the register may have been reset since. Nor
does it for the readings of an earlier epoch than the position's: an old copy of a journal may have been put back of
which the platform had acknowledged nothing yet.

Where readings are of a later epoch than the position's, the platform was put back. What it had acknowledged of them it
does not know any more, and the position does not lie among their registers, though these may have come to it again.
Or the epoch began while the answer was waited for. A register that fell then is not earlier because it is lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import pairwise

from agent.metering.interval import Moment, has_trusted_label
from agent.metering.ledger import Basis, Head, Point

SETTLED = "settled"
"""Mark of a reading, never sent: the platform had acknowledged it before the journal that held it was damaged."""
ROLLED = "rolled"
"""Mark of a reading, never sent: the gates had known, from the time that it took, that its register went round once."""
_SEEN_ALREADY = ("ratio", "first", "restore")
"""Epochs that were opened because an earlier position was on another basis: no epoch of a position on this one."""


class _Says(Enum):
    """What is known of one own reading and the position."""

    LATER = auto()
    NOT_LATER = auto()
    NOTHING = auto()
    """It follows what precedes it: where the position lies before that, or in it, this is later."""
    UNPROVED = auto()
    """It may be of long before the position, whatever precedes it."""

    @staticmethod
    def of(is_later: bool | None) -> "_Says":
        """As a register or a label has it; None where it says nothing."""
        if is_later is None:
            return _Says.NOTHING
        return _Says.LATER if is_later else _Says.NOT_LATER


@dataclass(frozen=True, slots=True)
class _Run:
    """A stretch in which a register ran on, as far as this journal saw it: readings of one epoch."""

    points: Sequence[Point]
    """At least one, in the order in which they were read."""
    ahead: tuple[int, int] | None
    """How many epochs it is later than the position's, at least and at most, below zero if earlier; None: unknown."""
    is_anchored: bool
    """Whether the platform had acknowledged its first reading."""
    fell: bool
    """Whether it began with a lower register than the one before it ended with."""

    @property
    def basis(self) -> Basis:
        """What its readings mean."""
        return self.points[0].basis

    @property
    def is_before(self) -> bool:
        """Whether it is known to be of an earlier epoch than the position's."""
        return self.ahead is not None and self.ahead[1] < 0

    @property
    def is_ahead(self) -> bool:
        """Whether it is known to be of a later epoch than the position's."""
        return self.ahead is not None and self.ahead[0] > 0

    @property
    def begins_acknowledged(self) -> bool:
        """Whether the platform has its first reading; of a later epoch it has none any more, since it was put back."""
        return self.is_anchored and not self.is_ahead

    @property
    def fell_since(self) -> bool:
        """Whether it is of a later epoch than the position's, and began with a fall."""
        return self.fell and self.is_ahead

    def has_passed(self, point: Point) -> bool:
        """Whether the platform had acknowledged one of its readings, and stands in a later epoch since."""
        return self.is_before and SETTLED in point.flags


def since(
    points: Sequence[Point],
    theirs: Head,
    *,
    is_anchored: bool = False,
    present: Basis | None = None,
    own: Head | None = None,
) -> list[Point]:
    """The own points that a new chain has to report after the position the platform confirmed.

    Args:
        points: points of the meter, in the order in which they were read: all, or those from the position on.
        theirs: the platform's position, `restored` set; `when` set where its label deserves no trust.
        is_anchored: whether the first of the points is one that the platform has acknowledged.
        present: the basis on which the next reading will be made, None if the meter has left the site.
        own: where the journal's ledger stood; tells the epoch of the points where it stood at the last of them.

    Returns:
        The points after the one that is this position; where there is no such point (another journal reported it),
        those that are surely later. Points under another basis that precede the first one agreeing with it are left
        out: a journal rolled back to before a ratio change read them under a descriptor that was no longer true. Where
        none agrees but the next reading will, all are left out: the reading to come spans them. Where the first one
        left agrees with the position, its old `opens` mark is dropped, because the platform has already seen that
        epoch open (wire format, section 6, "What a restored chain contains").
    """
    runs = _runs_beside(points, theirs, own, is_anchored=is_anchored)
    points = [point for run in runs for point in run.points]
    same = next((i for i in reversed(range(len(points))) if _is_at(points[i], theirs)), None)
    first = same + 1 if same is not None else _first_later(runs, theirs)
    later = list(points[first:])
    none = len(later) if present is not None and present.proves(theirs.basis) else 0
    agreeing = next((i for i, point in enumerate(later) if point.basis.proves(theirs.basis)), none)
    later = later[agreeing:]
    if later:
        place = first + agreeing
        before = points[place - 1] if same is None and place else None
        later[0] = _as_first(later[0], before, theirs)
    return later


def _as_first(point: Point, before: Point | None, theirs: Head) -> Point:
    """The first reading to tell: it opens no epoch that has opened for the position already.

    `before` is the own reading that precedes it, None where that is the position.
    """
    is_seen = point.opens in _SEEN_ALREADY or _is_past_the_break(before, theirs)
    return replace(point, opens=None) if is_seen and point.basis.proves(theirs.basis) else point


def _is_past_the_break(before: Point | None, theirs: Head) -> bool:
    """Whether the epoch that opened after an own reading had opened for the position already.

    A copy from before a reset, or an exchange, sees it once more. The position lies behind it where it cannot go on
    from that reading: its register is lower, by more than a turn would explain, or it is another meter's.
    """
    if before is None:
        return False
    if not before.basis.continues(theirs.basis):
        return True
    fall, modulus = before.register_milliwh - theirs.register_milliwh, theirs.basis.modulus_milliwh
    return fall > 0 and (modulus is None or fall < modulus // 2)


def _is_at(point: Point, head: Head) -> bool:
    """Whether the point is the reading that a position stands for."""
    is_same = (point.at_ms, point.register_milliwh) == (head.at_ms, head.register_milliwh)
    return is_same and _has_same_scale(point, head)


def _has_same_scale(point: Point, head: Head) -> bool:
    one, other = point.basis, head.basis
    return (one.per_count_milliwh, one.modulus_milliwh) == (other.per_count_milliwh, other.modulus_milliwh)


def _runs_beside(points: Sequence[Point], theirs: Head, own: Head | None, *, is_anchored: bool) -> list[_Run]:
    """The runs of these points, without a beginning that is none by what the position says."""
    runs = _runs(points, theirs, own, is_anchored=is_anchored)
    turn = 0
    for one, other in pairwise(runs):
        turn += len(one.points)
        if _is_a_rollover(one, other, theirs):
            joined = [*points[:turn], replace(points[turn], opens=None), *points[turn + 1 :]]
            counted = None if own is None else replace(own, epoch=own.epoch - 1)
            return _runs(joined, theirs, counted, is_anchored=is_anchored)
    return runs


def _is_a_rollover(one: _Run, other: _Run, theirs: Head) -> bool:
    """Whether the fall from a run to the next, which was taken for a reset here, is known there as a rollover.

    The time in which the register fell may have been unknown here, and known to a clone. Then the position is of the
    epoch that seemed to end, later than its readings, and a turn from them (seed 7513: 1.9 kWh were told again).
    """
    modulus, reset = theirs.basis.modulus_milliwh, other.points[0]
    if modulus is None or reset.opens not in ("reset", "restore") or not reset.basis.continues(one.basis):
        return False
    if one.ahead is None or not one.ahead[0] <= 0 <= one.ahead[1] or not one.basis.continues(theirs.basis):
        return False
    passed = one.points[0] if one.is_anchored else one.points[-1]
    if not one.is_anchored and _by_label(passed, theirs) is not False:
        return False
    fell_there = passed.register_milliwh - theirs.register_milliwh
    fell_here = one.points[-1].register_milliwh - reset.register_milliwh
    return min(fell_there, fell_here) > modulus // 2


def _first_later(runs: Sequence[_Run], theirs: Head) -> int:
    """Where the points begin that are later than the position; the number of points where none surely is."""
    verdicts: list[_Says] = []
    holds_it: list[bool] = []
    for run in runs:
        said = _judged(run, theirs)
        verdicts += said
        holds_it += [_may_hold(run, theirs, said)] * len(said)
    if runs and runs[0].begins_acknowledged:
        verdicts[0] = _Says.NOT_LATER
    begin = max((i + 1 for i, says in enumerate(verdicts) if says is _Says.NOT_LATER), default=0)
    for i in range(begin, len(verdicts)):
        # What follows a run that the position lies in, and says nothing of itself, follows the position.
        if verdicts[i] is _Says.LATER or (verdicts[i] is _Says.NOTHING and any(holds_it[:i])):
            return i
    return len(verdicts)


def _judged(run: _Run, theirs: Head) -> list[_Says]:
    """What is known of each reading of a run."""
    if run.basis.continues(theirs.basis):
        return _by_register(run, theirs)
    if run.begins_acknowledged:
        # The position is later than its beginning and in another run: the meter was exchanged, or its ratio changed,
        # when this run was over. That is surer than labels, which anybody can set.
        return [_Says.NOT_LATER] * len(run.points)
    return [
        _Says.NOT_LATER if run.has_passed(point) else _Says.of(_by_label(point, theirs))
        for point in run.points
    ]


def _may_hold(run: _Run, theirs: Head, said: Sequence[_Says]) -> bool:
    """Whether the position lies in the run or before it, as far as its registers say."""
    is_told = any(each in (_Says.LATER, _Says.NOT_LATER) for each in said)
    return not run.is_before and run.basis.continues(theirs.basis) and is_told


def _epochs(openings: Sequence[str | None], last: int | None) -> list[tuple[int, int] | None]:
    """The lowest and the highest epoch that each run can be of; None where nobody knows.

    Counted back from the `last` one, or on from the first reading ever made. A journal that was begun anew counts from
    the position it was given, which is none of its readings: a run that it began with is of a new epoch, or goes on
    with the one before (seeds 14121, 6457).
    """
    if last is not None:
        found = [(last, last)]
        for opens in reversed(openings[1:]):
            low, high = found[-1]
            found.append((low - 1, high if opens == "first" else high - 1))
        return [*reversed(found)]
    if not openings or openings[0] != "first":
        return [None] * len(openings)
    found = [(1, 1)]
    for opens in openings[1:]:
        low, high = found[-1]
        found.append((low if opens == "first" else low + 1, high + 1))
    return [*found]


def _runs(points: Sequence[Point], theirs: Head, own: Head | None, *, is_anchored: bool) -> list[_Run]:
    """The runs of these points, in their order."""
    breaks = [
        i + 1
        for i, (before, after) in enumerate(pairwise(points))
        if after.opens is not None or not after.basis.continues(before.basis)
    ]
    stretches = list(pairwise([0, *breaks, len(points)])) if points else []
    last = own.epoch if points and own is not None and _is_at(points[-1], own) else None
    epochs = _epochs([points[start].opens for start, _ in stretches], last)
    found: list[_Run] = []
    for (start, end), epoch in zip(stretches, epochs, strict=True):
        ahead = None if epoch is None else (epoch[0] - theirs.epoch, epoch[1] - theirs.epoch)
        fell = start > 0 and points[start].register_milliwh < points[start - 1].register_milliwh
        found.append(_Run(points[start:end], ahead, is_anchored and start == 0, fell))
    return found


def _by_register(run: _Run, theirs: Head) -> list[_Says]:
    """What the registers of a run say that the position may lie in.

    They are sure where the position lies between two registers of the run, or the run begins with what the platform
    has acknowledged; not where the run is of a later epoch: it may have come to the position's register again. Nor
    where it is settled and of an earlier one: it reaches from one reset to the next, and so over all that came after,
    and none of it is later whatever its label says, because a clock may have been set back since (seed 18692). Where
    register and label of a settled reading of the position's epoch do not agree, the clock was set, or the register
    went round (seed 3036), or was reset unseen by this journal (6247). Else a trusted label is surer: the register may
    have been reset or gone round in between. Where there is none, a higher register that is settled, or of an earlier
    epoch, may be of long before a reset: nothing proves it later, neither a right label of the same run, which is
    older, nor what precedes it. A lower one is no proof of anything where the register `fell_since`.
    """
    totals = _unwrapped(run.points, theirs.basis.modulus_milliwh)
    place = _place(theirs, totals, is_anchored=run.begins_acknowledged)
    if place is None:
        return [_Says.NOT_LATER] * len(run.points)
    is_within = not run.is_ahead and totals[0] <= place <= totals[-1]
    verdicts: list[_Says] = []
    for point, total in zip(run.points, totals, strict=True):
        if run.has_passed(point):
            verdicts.append(_Says.NOT_LATER)
            continue
        is_sure = run.begins_acknowledged or is_within
        by_register = None if total == place else total > place
        by_label = _by_label(point, theirs)
        if not is_sure and _is_unproved(run, point, by_register, by_label):
            verdicts.append(_Says.UNPROVED)
            continue
        if run.fell_since and by_label is None and not by_register:
            verdicts.append(_Says.NOTHING)
            continue
        one, other = (by_register, by_label) if is_sure else (by_label, by_register)
        verdicts.append(_Says.of(bool(other if one is None else one)))
    return verdicts


def _is_unproved(run: _Run, point: Point, by_register: bool | None, by_label: bool | None) -> bool:
    """Whether a register that is not sure proves nothing: alone for being higher, or against its reading's label."""
    is_settled = SETTLED in point.flags
    if by_label is None:
        return bool(by_register) and (run.is_before or is_settled)
    return is_settled and run.ahead == (0, 0) and by_register is not None and by_register is not by_label


def _unwrapped(run: Sequence[Point], modulus_milliwh: int | None) -> list[int]:
    """The registers of a run with its rollovers added."""
    totals, rolled = [run[0].register_milliwh], 0
    for before, after in pairwise(run):
        if after.register_milliwh < before.register_milliwh:
            rolled += modulus_milliwh or 0
        totals.append(after.register_milliwh + rolled)
    return totals


def _place(theirs: Head, totals: Sequence[int], *, is_anchored: bool) -> int | None:
    """Where the position lies on the unwrapped axis of a run; None where it cannot have come to it in this run."""
    register, modulus = theirs.register_milliwh, theirs.basis.modulus_milliwh
    turns = range(0, totals[-1] + 2 * modulus, modulus) if modulus is not None else (0,)
    places = [register + turn for turn in turns]
    if is_anchored:
        return next((place for place in places if place >= totals[0]), None)
    within = [place for place in places if totals[0] <= place <= totals[-1]]
    if within:
        return within[-1]
    if modulus is not None and totals[0] - register > modulus // 2:
        return places[1]  # rather a little before a turn than nearly a whole turn after it
    return register


def _by_label(point: Point, theirs: Head) -> bool | None:
    """What the labels say; None where a clock did not know the time, or both may be wrong by what lies between."""
    if not has_trusted_label(point) or not has_trusted_label(theirs):
        return None
    apart_ms = point.at_ms - theirs.at_ms
    if apart_ms == 0 and point.opens is not None:
        return True
    return apart_ms > 0 if abs(apart_ms) >= _error_ms(point.when, theirs.when) else None


def _error_ms(own: Moment | None, other: Moment | None) -> int:
    """How wrong two labels may be together; that of a platform's position as much as the own one: a gateway made it."""
    return sum(when.err_ms or 0 for when in (own, other or own) if when is not None)
