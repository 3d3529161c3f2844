"""Which of the agent's own readings are later than a position that the platform confirms.

A restored chain tells them again, and only them: one too many would be booked twice, and an epoch change that is left
out would hide what it hid. The order of the journal is that of nature; so all that has to be found is where in it the
position lies. Times do not tell that by themselves: a gateway without a battery clock labels its readings with 1970, a
clock that was set back labels two stretches alike, and nobody knows how the position itself was labelled. What no clock
can falsify comes first (decision 0016):

1. the position is one of our own readings: what follows it is later;
2. what the platform has acknowledged is not later;
3. within one run of a register, what shows more energy is later; a known modulus is unwrapped;
4. where registers cannot say it, the labels of clocks that knew the time;
5. what nothing proves to be later is left out. Within an epoch that costs resolution and never energy, because the next
   reading spans it.

Of what was acknowledged a salvaged journal has only the turning points, and no batch that would say so: these carry a
mark (`SETTLED`). A higher register alone proves none of them later, because the register may have been reset since. Nor
does it for the readings of an earlier epoch than the position's: an old copy of a journal may have been put back of
which the platform had acknowledged nothing yet.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import pairwise

from agent.metering.interval import has_trusted_label
from agent.metering.ledger import Basis, Head, Point

SETTLED = "settled"
"""Mark of a reading, never sent: the platform had acknowledged it before the journal that held it was damaged."""
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
    same = next((i for i in reversed(range(len(points))) if _is_at(points[i], theirs)), None)
    first = same + 1 if same is not None else _first_later(points, theirs, own, is_anchored=is_anchored)
    later = list(points[first:])
    none = len(later) if present is not None and present.proves(theirs.basis) else 0
    agreeing = next((i for i, point in enumerate(later) if point.basis.proves(theirs.basis)), none)
    later = later[agreeing:]
    if later and later[0].basis.proves(theirs.basis):
        before = points[first + agreeing - 1] if same is None and first + agreeing else None
        if later[0].opens in _SEEN_ALREADY or _is_past_the_break(before, theirs):
            later[0] = replace(later[0], opens=None)
    return later


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


def _first_later(points: Sequence[Point], theirs: Head, own: Head | None, *, is_anchored: bool) -> int:
    """Where the points begin that are later than the position; the number of points where none surely is."""
    verdicts: list[_Says] = []
    agreed: list[bool] = []
    runs = _runs(points)
    first_epoch = _first_epoch(points, len(runs), own)
    for number, (start, end) in enumerate(runs):
        run = points[start:end]
        agrees = run[0].basis.continues(theirs.basis)
        begins_acknowledged = is_anchored and start == 0
        is_before = first_epoch is not None and first_epoch + number < theirs.epoch
        if agrees:
            by_register = _by_register(run, theirs, is_anchored=begins_acknowledged, is_before=is_before)
            agrees = not is_before and any(each in (_Says.LATER, _Says.NOT_LATER) for each in by_register)
            verdicts += by_register
        elif begins_acknowledged:
            # The position is later than its beginning and in another run: the meter was exchanged, or its ratio
            # changed, when this run was over. That is surer than labels, which anybody can set.
            verdicts += [_Says.NOT_LATER] * len(run)
        else:
            verdicts += [_Says.of(_by_label(point, theirs)) for point in run]
        agreed += [agrees] * len(run)
    if is_anchored and verdicts:
        verdicts[0] = _Says.NOT_LATER
    begin = max((i + 1 for i, says in enumerate(verdicts) if says is _Says.NOT_LATER), default=0)
    for i in range(begin, len(points)):
        # What follows a run that the position lies in, and says nothing of itself, follows the position.
        if verdicts[i] is _Says.LATER or (verdicts[i] is _Says.NOTHING and any(agreed[:i])):
            return i
    return len(points)


def _first_epoch(points: Sequence[Point], runs: int, own: Head | None) -> int | None:
    """The epoch of the first run, as the journal counts; None where it does not know.

    A journal that was begun anew counts from the position it was given, which is none of its readings.
    """
    if points and own is not None and _is_at(points[-1], own):
        return own.epoch - runs + 1
    return 1 if points and points[0].opens == "first" else None


def _runs(points: Sequence[Point]) -> list[tuple[int, int]]:
    """The stretches in which a register ran on, as far as this journal saw it."""
    breaks = [
        i + 1
        for i, (before, after) in enumerate(pairwise(points))
        if after.opens is not None or not after.basis.continues(before.basis)
    ]
    starts = [0, *breaks] if points else []
    return list(zip(starts, [*breaks, len(points)], strict=False)) if points else []


def _by_register(run: Sequence[Point], theirs: Head, *, is_anchored: bool, is_before: bool) -> list[_Says]:
    """What the registers of a run say that the position may lie in; `is_before` where its epoch is an earlier one.

    They are sure where the position lies between two registers of the run, or the run begins with what the platform
    has acknowledged; not where the run was salvaged from before the position's epoch: it reaches from one reset to the
    next, and so over all that came after. Else a trusted label is surer: the register may have been reset or gone round
    in between. Where there is none, a higher register that is settled, or of an earlier epoch, may be of long before a
    reset: nothing proves it later, neither a right label of the same run, which is older, nor what precedes it.
    """
    totals = _unwrapped(run, theirs.basis.modulus_milliwh)
    place = _place(theirs, totals, is_anchored=is_anchored)
    if place is None:
        return [_Says.NOT_LATER] * len(run)
    is_within = totals[0] <= place <= totals[-1]
    verdicts: list[_Says] = []
    for point, total in zip(run, totals, strict=True):
        is_sure = is_anchored or (is_within and not (is_before and SETTLED in point.flags))
        by_register = None if total == place else total > place
        by_label = _by_label(point, theirs)
        if not is_sure and by_label is None and by_register and (is_before or SETTLED in point.flags):
            verdicts.append(_Says.UNPROVED)
            continue
        one, other = (by_register, by_label) if is_sure else (by_label, by_register)
        verdicts.append(_Says.of(bool(other if one is None else one)))
    return verdicts


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
    """What the labels say; None where a clock did not know the time."""
    if not has_trusted_label(point) or not has_trusted_label(theirs):
        return None
    return point.at_ms > theirs.at_ms or (point.at_ms == theirs.at_ms and point.opens is not None)
