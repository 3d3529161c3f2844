"""Who used the electricity of the steps, as parts of a report: products, and states of the equipment.

A factory says which pieces of which product passed a step, or when which work order ran on it, and when the equipment
produced, stood by or was off. Energy is never moved between steps by that, only named: the parts add up to the steps,
exactly before they are written, and by largest remainders on paper. What no product and no state is known for is shown
as such. Before this come `footprint` and `allocation`, after it the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from agent.carbon.allocation import (
    IDLE,
    Part,
    Processed,
    Span,
    Use,
    Window,
    allocate,
    largest_remainder,
    split_by_windows,
    total,
)
from agent.carbon.exact import PLACES, text_of
from agent.carbon.footprint import Footprint
from agent.carbon.template import Template

STATES = ("producing", "standby", "off")
"""What a step's equipment can be said to have done."""

UNKNOWN = "unknown"
"""The state of a time of which nobody said anything."""

_RULES = {
    "spread": "what a step used outside its orders is spread by what its products used within them",
    "idle": "what a step used outside its orders stays in the period",
}
_PIECES = "processed pieces x weight where a step has no work orders"


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a factory says of its products and equipment; `good` are good pieces by product."""

    processed: tuple[Processed, ...] = ()
    orders: tuple[Window, ...] = ()
    states: tuple[Window, ...] = ()
    good: Mapping[str, int] = field(default_factory=dict)

    @property
    def timed_steps(self) -> frozenset[str]:
        """Steps of which one has to know when they used what."""
        return frozenset(window.step for window in (*self.orders, *self.states))


def parts_of_report(
    footprint: Footprint, sharing: Sharing, spans: Mapping[str, Sequence[Span]]
) -> dict[str, object]:
    """`products` and `states` of a report; each only where something was said of it.

    Args:
        footprint: as evaluated.
        sharing: what the factory says.
        spans: when the timed steps used what; they add up to the rows of the footprint.

    Raises:
        ValueError: as `allocate` does.
    """
    uses = {
        row.id: Use(row.amount.value, row.emission.value, tuple(spans.get(row.id, ())))
        for row in footprint.rows
        if row.kind == "electricity" and row.emission is not None and row.amount is not None
    }
    made: dict[str, object] = {}
    if sharing.processed or sharing.orders:
        made["products"] = _products(uses, sharing, footprint.template)
    if sharing.states:
        made["states"] = _states(uses, sharing.states)
    return made


def _products(uses: Mapping[str, Use], sharing: Sharing, template: Template) -> dict[str, object]:
    rule = template.outside_orders
    given = allocate(uses, sharing.processed, sharing.orders, spread=rule == "spread")
    named = {entry.product_id for entry in sharing.processed} | {order.name for order in sharing.orders}
    totals = {name: given.total_of(name) for name in sorted(named)}
    written = _written({**totals, IDLE: given.idle_total})
    ordered = {order.step for order in sharing.orders}
    return {
        "rule": f"work orders by time; {_RULES[rule]}; {_PIECES}; scrap falls on good pieces; idle stays in the period",
        "steps_by_orders": sorted(ordered & uses.keys()),
        "steps_by_pieces": sorted({entry.step for entry in sharing.processed} & uses.keys() - ordered),
        "products": [
            {
                "product_id": name,
                "good": sharing.good.get(name),
                "electricity_kwh": written[name][0],
                "electricity_kgco2e": written[name][1],
                "of_which_outside_orders_kwh": text_of(given.outside_of(name).kwh),
                "per_good_piece_kgco2e": _per_piece(part.kgco2e, sharing.good.get(name)),
            }
            for name, part in totals.items()
        ],
        "idle_kwh": written[IDLE][0],
        "idle_kgco2e": written[IDLE][1],
    }


def _per_piece(kgco2e: Fraction, good: int | None) -> str | None:
    return text_of(kgco2e / good) if good else None


def _states(uses: Mapping[str, Use], states: Sequence[Window]) -> dict[str, object]:
    steps = []
    sums = {state: Part() for state in (*STATES, UNKNOWN)}
    for step in sorted({window.step for window in states} & uses.keys()):
        found = split_by_windows(uses[step].spans, [window for window in states if window.step == step])
        parts = {state: found.get(state, Part()) for state in STATES} | {UNKNOWN: found[IDLE]}
        for state, part in parts.items():
            sums[state].add(part.kwh, part.kgco2e)
        steps.append({"id": step, **_named(parts)})
    return {
        "rule": "by time; the states of a step and what is unknown add up to it; they change no other figure",
        "steps": steps,
        **_named(sums),
        "kwh": text_of(total(sums).kwh),
        "kgco2e": text_of(total(sums).kgco2e),
    }


def _named(parts: Mapping[str, Part]) -> dict[str, str]:
    written = _written(parts)
    return {
        f"{state}_{unit}": text
        for state, texts in written.items()
        for unit, text in zip(("kwh", "kgco2e"), texts, strict=True)
    }


def _written(parts: Mapping[str, Part]) -> dict[str, tuple[str, str]]:
    """kWh and kgCO2e as texts that add up to the written sum."""
    scale = 10**PLACES
    kwh = largest_remainder({name: part.kwh * scale for name, part in parts.items()})
    kgco2e = largest_remainder({name: part.kgco2e * scale for name, part in parts.items()})
    return {
        name: (text_of(Fraction(kwh[name], scale)), text_of(Fraction(kgco2e[name], scale))) for name in parts
    }
