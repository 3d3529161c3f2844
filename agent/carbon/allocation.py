"""A period's emission to products: by processed pieces with weights, by work-order windows, by an allocation key.

Every rule ends in exact shares that add up to the whole, so that the sum of products is the sum of steps, always; where
they are written down, largest remainders round, so that it is so on paper too. Scrap falls on good pieces: a product is
given what its started pieces used, and divides it by its good ones. What was used while nothing was made stays in the
period as idle; nothing is divided by zero. Utilities (compressed air, cooling, light) are spread by a key or stay
unassigned, by name.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor

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
    """A stretch of a step, UTC Unix ms, from `start_ms` to before `end_ms`: a product's work order, or a state.

    Windows of one step do not overlap: one order runs at a time, and equipment is in one state.
    """

    name: str
    step: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Span:
    """What one step used from `start_ms` to before `end_ms`, taken to be even in itself: energy and its emission."""

    start_ms: int
    end_ms: int
    kwh: Fraction
    kgco2e: Fraction


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


@dataclass(slots=True)
class Part:
    """Energy in kWh and its emission in kgCO2e, of one product or state."""

    kwh: Fraction = Fraction(0)
    kgco2e: Fraction = Fraction(0)

    def add(self, kwh: Fraction, kgco2e: Fraction) -> None:
        """More of it."""
        self.kwh += kwh
        self.kgco2e += kgco2e


def split_by_windows(spans: Sequence[Span], windows: Sequence[Window]) -> dict[str, Part]:
    """One step's spans to the names of its windows, by time; what lies outside all windows is `IDLE`.

    Args:
        spans: of the step, start before end; they may overlap, as those of several meters do.
        windows: of the same step.

    Raises:
        ValueError: a window ends before it starts, or two overlap.
    """
    mine = sorted(windows, key=lambda window: window.start_ms)
    for window in mine:
        if window.end_ms <= window.start_ms:
            raise ValueError(f"{window.name} at {window.step} ends before it starts")
    for earlier, later in pairwise(mine):
        if later.start_ms < earlier.end_ms:
            raise ValueError(f"at {earlier.step}, {earlier.name} and {later.name} overlap")
    ends = [window.end_ms for window in mine]
    given: dict[str, Part] = {IDLE: Part()}
    for span in spans:
        rest_ms, length_ms = span.end_ms - span.start_ms, span.end_ms - span.start_ms
        place = bisect_right(ends, span.start_ms)
        while place < len(mine) and mine[place].start_ms < span.end_ms:
            window = mine[place]
            common_ms = min(span.end_ms, window.end_ms) - max(span.start_ms, window.start_ms)
            share = Fraction(common_ms, length_ms)
            given.setdefault(window.name, Part()).add(span.kwh * share, span.kgco2e * share)
            rest_ms, place = rest_ms - common_ms, place + 1
        rest = Fraction(rest_ms, length_ms)
        given[IDLE].add(span.kwh * rest, span.kgco2e * rest)
    return given


def spread_outside(parts: Mapping[str, Part]) -> dict[str, Part]:
    """What each product is given of the energy outside its orders, by what it used within them.

    Nothing where no order used anything, or where one used less than nothing (a negative residual): then there is no
    sound key, and it stays `IDLE`.
    """
    within = {name: part.kwh for name, part in parts.items() if name != IDLE}
    outside = parts.get(IDLE, Part())
    if any(kwh < 0 for kwh in within.values()) or not any(within.values()):
        return {}
    shares = shares_by_key(within)
    return {name: Part(outside.kwh * share, outside.kgco2e * share) for name, share in shares.items()}


@dataclass(frozen=True, slots=True)
class Use:
    """What one step used in a period; `spans` say when and add up to it, empty where nobody knows when."""

    kwh: Fraction
    kgco2e: Fraction
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each product is given of each step, and per step what stays idle.

    `outside` is the part of a product's that was used outside its orders and spread; it is in `products` already.
    """

    products: Mapping[str, Mapping[str, Part]]
    outside: Mapping[str, Mapping[str, Part]]
    idle: Mapping[str, Part]

    def total_of(self, product_id: str) -> Part:
        """All steps of a product together."""
        return total(self.products.get(product_id, {}))

    def outside_of(self, product_id: str) -> Part:
        """What of it was used outside orders."""
        return total(self.outside.get(product_id, {}))

    @property
    def idle_total(self) -> Part:
        """What stays in the period."""
        return total(self.idle)


def total(parts: Mapping[str, Part]) -> Part:
    """All parts together."""
    made = Part()
    for part in parts.values():
        made.add(part.kwh, part.kgco2e)
    return made


def allocate(
    steps: Mapping[str, Use],
    processed: Sequence[Processed],
    orders: Sequence[Window] = (),
    *,
    spread: bool = True,
) -> Allocation:
    """Give what every step used to products: by its work orders where it has some, else by processed pieces.

    The sum over products and idle is the sum over steps, exactly.

    Args:
        steps: what each used; one with orders needs its spans.
        processed: pieces by product and step.
        orders: work orders; a step without any goes by pieces.
        spread: whether what a step used outside its orders goes to their products too, or stays idle.

    Raises:
        ValueError: a driver is none, orders overlap, or a step has orders and nobody knows when it used what.
    """
    products: dict[str, dict[str, Part]] = {}
    outside: dict[str, dict[str, Part]] = {}
    idle: dict[str, Part] = {}
    for step, use in steps.items():
        mine = [order for order in orders if order.step == step]
        if mine:
            if not use.spans and use.kwh:
                raise ValueError(f"{step} has work orders, and nobody knows when it used its kWh")
            given = split_by_windows(use.spans, mine)
            for product, part in spread_outside(given).items() if spread else ():
                outside.setdefault(product, {})[step] = part
                given[product].add(part.kwh, part.kgco2e)
                given[IDLE].add(-part.kwh, -part.kgco2e)
        else:
            shares = shares_by_pieces(processed, step)
            given = {name: Part(use.kwh * share, use.kgco2e * share) for name, share in shares.items()}
        for name, part in given.items():
            if name != IDLE:
                products.setdefault(name, {})[step] = part
            elif part.kwh or part.kgco2e:
                idle[step] = part
    return Allocation(products, outside, idle)


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


def largest_remainder(parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole numbers beside these parts, none off by one or more, that add up to their rounded sum.

    Each part is rounded down, then the largest remainders are given one more; equal remainders in the order of the
    names. The sum is rounded half to even, like every figure that is written.
    """
    whole = {name: floor(part) for name, part in parts.items()}
    missing = round(sum(parts.values(), Fraction(0))) - sum(whole.values())
    by_remainder = sorted(parts, key=lambda name: (whole[name] - parts[name], name))
    for name in by_remainder[:missing]:
        whole[name] += 1
    return whole
