"""A period's emission to products: by processed pieces with weights, by work-order windows, by an allocation key.

Every rule ends in exact shares that add up to the whole, so that the sum of products is the sum of steps, always. Where
whole numbers are wanted (0.001 Wh), largest remainders round. Scrap falls on good pieces: a product is given what its
started pieces used, and divides it by its good ones. What was used while nothing was made stays in the period as idle;
nothing is divided by zero. Utilities (compressed air, cooling, light) are spread by a key or stay unassigned, by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

IDLE = ""
"""The name under which stands what no product is given."""


@dataclass(frozen=True, slots=True)
class Processed:
    """Pieces of a product that passed a step, and the weight of one (placements, oven minutes, slot hours), > 0."""

    product_id: str
    step: str
    pieces: int
    weight: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Window:
    """A work order of one product on a step, from `start_ms` to before `end_ms`; windows of a step do not overlap."""

    product_id: str
    step: str
    start_ms: int
    end_ms: int


def shares_by_pieces(processed: Sequence[Processed], step: str) -> dict[str, Fraction]:
    """Shares of one step's energy by pieces x weight; all of it is `IDLE` where nothing was processed.

    Raises:
        ValueError: a negative number of pieces, or a weight that is not positive.
    """
    drivers: dict[str, Fraction] = {}
    for entry in processed:
        if entry.pieces < 0 or entry.weight <= 0:
            raise ValueError(f"{entry.product_id} at {entry.step}: pieces are >= 0 and weights > 0")
        if entry.step == step:
            driver = entry.pieces * entry.weight
            drivers[entry.product_id] = drivers.get(entry.product_id, Fraction(0)) + driver
    return shares_by_key(drivers)


def shares_by_key(key: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Shares by an allocation key (areas, pieces, hours); all of it is `IDLE` where the key is empty or zero.

    Raises:
        ValueError: a figure of the key is negative.
    """
    if any(value < 0 for value in key.values()):
        raise ValueError("an allocation key has a negative figure")
    total = sum(key.values(), Fraction(0))
    if not total:
        return {IDLE: Fraction(1)}
    return {product: value / total for product, value in key.items() if value}


def split_by_windows(
    energies: Sequence[tuple[int, int, Fraction]], windows: Sequence[Window], step: str
) -> dict[str, Fraction]:
    """One step's energies to the products whose work orders ran; what lies outside all windows is `IDLE`.

    Args:
        energies: intervals (start_ms, end_ms, energy), start before end; each is taken to be even in itself.
        windows: work orders; those of other steps are ignored.
        step: which one.

    Raises:
        ValueError: a window ends before it starts, or two overlap: one order runs at a time.
    """
    mine = sorted((each for each in windows if each.step == step), key=lambda window: window.start_ms)
    for window in mine:
        if window.end_ms <= window.start_ms:
            raise ValueError(f"the order of {window.product_id} at {step} ends before it starts")
    for earlier, later in pairwise(mine):
        if later.start_ms < earlier.end_ms:
            raise ValueError(f"at {step} the orders of {earlier.product_id} and {later.product_id} overlap")
    given: dict[str, Fraction] = {}
    for start_ms, end_ms, energy in energies:
        rest = energy
        for window in mine:
            common_ms = min(end_ms, window.end_ms) - max(start_ms, window.start_ms)
            if common_ms > 0:
                part = energy * common_ms / (end_ms - start_ms)
                given[window.product_id] = given.get(window.product_id, Fraction(0)) + part
                rest -= part
        if rest:
            given[IDLE] = given.get(IDLE, Fraction(0)) + rest
    return given


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each product is given of each step, and per step what stays idle; all in the unit of what was split."""

    products: Mapping[str, Mapping[str, Fraction]]
    idle: Mapping[str, Fraction]

    def total_of(self, product_id: str) -> Fraction:
        """All steps of a product together."""
        return sum(self.products.get(product_id, {}).values(), Fraction(0))

    @property
    def idle_total(self) -> Fraction:
        """What stays in the period."""
        return sum(self.idle.values(), Fraction(0))


def allocate(steps: Mapping[str, Fraction], processed: Sequence[Processed]) -> Allocation:
    """Give every step's energy or emission to products by processed pieces and weights.

    The sum over products and idle is the sum over steps, exactly.
    """
    given: dict[str, dict[str, Fraction]] = {}
    idle: dict[str, Fraction] = {}
    for step, amount in steps.items():
        for product, share in shares_by_pieces(processed, step).items():
            if product == IDLE:
                idle[step] = amount
            else:
                given.setdefault(product, {})[step] = amount * share
    return Allocation(given, idle)


def spread_utilities(
    steps: Mapping[str, Fraction], unassigned: Fraction, key: Mapping[str, Fraction] | None
) -> tuple[dict[str, Fraction], Fraction]:
    """Steps with their part of the utilities, and what stays unassigned.

    Args:
        steps: energy by step.
        unassigned: what no step was given.
        key: figures by step (floor area, connected load); None leaves all of it unassigned and shown.

    Raises:
        ValueError: the key names a step that is not there, or has a negative figure.
    """
    if key is None:
        return dict(steps), unassigned
    if unknown := sorted(set(key) - set(steps)):
        raise ValueError(f"the allocation key names {', '.join(unknown)}, which is no step here")
    shares = shares_by_key(key)
    spread = {step: amount + unassigned * shares.get(step, Fraction(0)) for step, amount in steps.items()}
    return spread, unassigned * shares.get(IDLE, Fraction(0))


def standby(states: Sequence[tuple[str, Fraction]]) -> dict[str, Fraction]:
    """Energy by equipment state (producing, standby, off), given interval by interval; the sum is unchanged."""
    by_state: dict[str, Fraction] = {}
    for state, energy in states:
        by_state[state] = by_state.get(state, Fraction(0)) + energy
    return by_state


def largest_remainder(total: int, shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole numbers by shares that add up to the total exactly.

    Each part is rounded down, then the largest remainders are given one more; equal remainders in the order of the
    names. A negative total is split like a positive one.

    Raises:
        ValueError: the shares are negative or do not add up to one.
    """
    if any(share < 0 for share in shares.values()) or sum(shares.values(), Fraction(0)) != 1:
        raise ValueError("shares are parts of one whole")
    sign, size = (-1, -total) if total < 0 else (1, total)
    exact = {name: size * share for name, share in shares.items()}
    parts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
    for name in by_remainder[: size - sum(parts.values())]:
        parts[name] += 1
    return {name: sign * part for name, part in parts.items()}
