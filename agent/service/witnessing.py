"""What a person read from a meter's display: as events, and as what it says of the energy in a hole.

A display is evidence and never energy: only readings that came over the wire enter the ledger (promise I5). But the
last figure of the old meter and the first of the new one tell how much the hole between the two can hide.
"""

from fractions import Fraction

from agent.metering.gates import Rise, compare, power_max_w, rise_max
from agent.metering.interval import elapsed_ms
from agent.metering.ledger import Head, Point
from agent.metering.memory import Order
from agent.metering.plant import Meter
from agent.metering.quantity import MILLIWH_PER_UNIT
from agent.reporting.event import Event, witness_event


def display_milliwh(meter: Meter, kwh: str) -> Fraction:
    """What a display shows, as energy of the primary side, exact; CT and PT applied where the meter counts behind them.

    Raises:
        ValueError: not a decimal number, or below zero.
    """
    if not kwh.replace(".", "", 1).isdecimal() or not kwh.isascii():
        raise ValueError(f"{kwh!r} is not a reading in kWh such as 1234.5")
    return Fraction(kwh) * MILLIWH_PER_UNIT["kWh"] * meter.transformer_ratio(meter.profile.energy)


def display_step_milliwh(meter: Meter, kwh: str) -> Fraction:
    """One unit of the last digit of a display that was read, as energy of the primary side."""
    decimals = len(kwh.partition(".")[2])
    ratio = meter.transformer_ratio(meter.profile.energy)
    return Fraction(1, 10**decimals) * MILLIWH_PER_UNIT["kWh"] * ratio


def display_events(meter: Meter, order: Order) -> list[Event]:
    """The displays of an order as events of the chain."""
    register = meter.profile.energy.name
    return [
        witness_event(order.noted_ms, meter=meter.id, display_kwh=kwh, register=register, by=order.by)
        for kwh in (order.last_kwh, order.first_kwh)
        if kwh is not None
    ]


def bound_by_displays(meter: Meter, order: Order, head: Head, first: Point) -> int | None:
    """Most energy between the last booked register of the old meter and the first one read of the new, 0.001 Wh.

    With both displays it is what the two meters counted themselves, plus one unit of each display's last digit; else
    what the circuit can have used; None where nobody knows that either.
    """
    silent_ms = elapsed_ms(head, first)
    power = (
        None if silent_ms is None else rise_max(power_max_w(meter), head.basis.per_count_milliwh, silent_ms)
    )
    if order.last_kwh is None or order.first_kwh is None:
        return power
    last = display_milliwh(meter, order.last_kwh) + display_step_milliwh(meter, order.last_kwh)
    begun = display_milliwh(meter, order.first_kwh)
    ending = compare(
        head.register_milliwh,
        max(0, -(-last // 1)),
        modulus_milliwh=head.basis.modulus_milliwh,
        rise_max_milliwh=power,
    )
    if not isinstance(ending, Rise):
        return power
    return ending.delta_milliwh + max(0, -((begun - first.register_milliwh) // 1))
