"""A register that stands still while power flows: noticed, never made up for.

The power a meter shows between boundaries is no energy of ours, but it tells that the counter ought to move. Once it
has flowed for more than a few counts' worth and the register has not moved, the meter is stuck, or its register is
not the one of this power. Energy is not invented from it; the deltas are zero and say `suspect`.

Used by `agent.service.judging`; lives in memory, because after a restart it is noticed again within minutes.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

STEPS = 3
"""So many steps of the register have to be due before it is called stuck,"""
BOUNDARIES = 3
"""and at so many boundaries in a row: some meters write their register only every few minutes."""

_MILLIWH_PER_WATT_MILLISECOND = Fraction(1, 3600)


@dataclass(frozen=True, slots=True)
class Standstill:
    """Since when a register stands: what ought to have been counted, in 0.001 Wh, and at how many boundaries."""

    register_milliwh: int
    at_ms: int
    power_w: Fraction | None
    due_milliwh: Fraction = Fraction(0)
    boundaries: int = 0

    def is_stuck(self, step_milliwh: Fraction | int) -> bool:
        """Whether so much was due that it would show; `step_milliwh` is one step of the register."""
        return self.boundaries >= BOUNDARIES and self.due_milliwh > STEPS * step_milliwh


def watched(
    before: Standstill | None, register_milliwh: int, at_ms: int, power_w: Fraction | None
) -> Standstill:
    """The standstill with one more reading; it begins anew where the register moved, or the power is not known.

    Args:
        before: what was known at the boundary before.
        register_milliwh: the register now.
        at_ms: when it was read.
        power_w: what flows now, W; below zero where the circuit feeds back, None where it is not known.
    """
    fresh = Standstill(register_milliwh, at_ms, power_w)
    if before is None or before.register_milliwh != register_milliwh:
        return fresh
    if before.power_w is None or power_w is None:
        return fresh
    least_w = max(Fraction(0), min(before.power_w, power_w))
    due = least_w * max(0, at_ms - before.at_ms) * _MILLIWH_PER_WATT_MILLISECOND
    if not due:
        return fresh
    return replace(fresh, due_milliwh=before.due_milliwh + due, boundaries=before.boundaries + 1)
