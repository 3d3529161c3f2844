"""What may enter the ledger, and what a move of a register means.

Before this come the decoded counts of one meter's energy register, after it the ledger. A reading passes two gates:
`admit` asks whether the value can be a register at all, `compare` asks what happened between two registers. Both
answer with a value for each outcome, so that the caller has to handle each.

A fall is never booked as energy. It is a rollover only where the modulus is known, the old register was near it, and
the wrapped rise is physically possible; anything else is held. "Near" means: the distance to the modulus is at most
what the circuit can have used since the old reading, and that bound is itself below one modulus, because otherwise
the register may have gone round more than once. Where nobody knows how much power the circuit can draw there is no
bound, and every fall is held: a person who says "exchanged" or "reset" is worth more than a guess of ours.

A rise is booked as it is, unless the bound leaves room for a whole turn beside it: after weeks of silence a small
modulus may have been passed, and 0.1 MWh be 10.1. A register that stands has stood: to the count it would never have
come back. A limit on rises (rated power x time) needs repeated readings and is a gate of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from agent.metering.decode import Decoded, NoValue, decode, resolution, split
from agent.metering.plant import Meter
from agent.metering.profile import Sum
from agent.metering.quantity import EXACT_MAX, Counts, to_milliwh

_MILLIWH_PER_WATT_MILLISECOND = Fraction(1, 3600)
"""1 W for 1 ms is 1/3 600 000 Wh."""


@dataclass(frozen=True, slots=True)
class RefusedReading:
    """The reading is no register value; it is dropped and reported with `reason`, and nothing is booked."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rise:
    """The register ran on by `delta_milliwh` >= 0.

    `roll_milliwh` is the modulus where it went round once in between, else None: always
    `delta_milliwh == after - before + (roll_milliwh or 0)`.
    """

    delta_milliwh: int
    roll_milliwh: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """No metering explains the move: a reset, an exchanged meter or a misread. Reported, never booked."""

    reason: str


def admit(meter: Meter, decoded: Decoded) -> int | RefusedReading:
    """Turn one decoded energy register into 0.001 Wh, or say why it cannot be one.

    Refused are: no value (invalid mark, NaN, infinity, bad BCD), text, a count below zero or at or beyond the modulus,
    and a register beyond 2**53 - 1, which no message could carry.
    """
    register = meter.profile.energy
    if isinstance(decoded, NoValue):
        return RefusedReading(decoded.reason)
    if isinstance(decoded, str):
        return RefusedReading(f"{register.name}: text where a count belongs")
    if decoded < 0:
        return RefusedReading(f"{register.name}: negative count {_short(decoded)}")
    if register.modulus_counts is not None and decoded >= register.modulus_counts:
        return RefusedReading(
            f"{register.name}: {_short(decoded)} is not below its modulus {register.modulus_counts}"
        )
    register_milliwh = to_milliwh(decoded, meter.per_count_milliwh)
    if register_milliwh > EXACT_MAX:
        return RefusedReading(
            f"{register.name}: {_short(decoded)} counts are more than any meter can have counted"
        )
    return register_milliwh


def compare(
    before_milliwh: int, after_milliwh: int, *, modulus_milliwh: int | None, rise_max_milliwh: int | None
) -> Rise | Held:
    """Say what happened between two registers of one epoch.

    Args:
        before_milliwh: the earlier register, >= 0, 0.001 Wh.
        after_milliwh: the later register, >= 0, 0.001 Wh.
        modulus_milliwh: what a rollover takes away, None where nobody knows it.
        rise_max_milliwh: the most the circuit can have used in between (`rise_max`), None where nobody knows it.
    """
    if after_milliwh >= before_milliwh:
        delta_milliwh = after_milliwh - before_milliwh
        if modulus_milliwh is None or rise_max_milliwh is None or delta_milliwh == 0:
            return Rise(delta_milliwh, None)
        if delta_milliwh + modulus_milliwh <= rise_max_milliwh:
            return Held("turns: register rose, it may have gone round as well")
        return Rise(delta_milliwh, None)
    if modulus_milliwh is None:
        return Held("fall: register fell, its modulus is unknown")
    if rise_max_milliwh is None:
        return Held("fall: register fell, how much its circuit can have used is unknown")
    if rise_max_milliwh >= modulus_milliwh:
        return Held("fall: register fell, it may have gone round more than once")
    if modulus_milliwh - before_milliwh > rise_max_milliwh:
        return Held("fall: register fell, it was not near its modulus")
    delta_milliwh = after_milliwh - before_milliwh + modulus_milliwh
    if delta_milliwh > rise_max_milliwh:
        return Held("fall: register fell, the rise across its modulus is not possible")
    return Rise(delta_milliwh, modulus_milliwh)


def compare_parts(
    total: Sum,
    before: Sequence[int],
    after: Sequence[int],
    *,
    per_count_milliwh: Fraction,
    rise_max_milliwh: int | None,
) -> Held | None:
    """Say whether a part of a sum fell without an explanation, which a rise of the others may hide in the sum.

    Args:
        total: the sum.
        before: the words of the earlier reading, all parts.
        after: those of the later one.
        per_count_milliwh: the exact energy of one count of each part.
        rise_max_milliwh: the most the circuit can have used in between, None where nobody knows it.
    """
    for (part, earlier), (_, later) in zip(split(total, before), split(total, after), strict=True):
        values = [decode(part, words) for words in (earlier, later)]
        counts = [value for value in values if not isinstance(value, str | NoValue)]
        if len(counts) != len(values):
            continue
        modulus = part.modulus_counts
        move = compare(
            to_milliwh(counts[0], per_count_milliwh),
            to_milliwh(counts[1], per_count_milliwh),
            modulus_milliwh=None if modulus is None else to_milliwh(modulus, per_count_milliwh),
            rise_max_milliwh=rise_max_milliwh,
        )
        if isinstance(move, Held):
            return Held(f"{move.reason} ({part.name})")
    return None


def rise_max(power_max_w: Fraction | int | None, step_milliwh: Fraction | int, silent_ms: int) -> int | None:
    """The most a register can rise in a time, in 0.001 Wh, rounded up; None where the power is unknown.

    Args:
        power_max_w: the most power the circuit can draw, W (`power_max_w`).
        step_milliwh: one step of the register (`step_milliwh`): a count may be due at any moment.
        silent_ms: time since the earlier reading, ms, >= 0, from a clock that is not stepped.
    """
    if silent_ms < 0:
        raise ValueError(f"silent for {silent_ms} ms")
    if power_max_w is None:
        return None
    # Over a common denominator and in integers, because a Fraction is reduced after every operation.
    energy = power_max_w.numerator * silent_ms * _MILLIWH_PER_WATT_MILLISECOND.numerator
    per = power_max_w.denominator * _MILLIWH_PER_WATT_MILLISECOND.denominator
    rise = energy * step_milliwh.denominator + step_milliwh.numerator * per
    return -(-rise // (per * step_milliwh.denominator))


def power_max_w(meter: Meter) -> Fraction | None:
    """The most power a meter's circuit can draw, W: rated by the site, else what the model can measure, x CT x PT."""
    if meter.rated_w is not None:
        return Fraction(meter.rated_w)
    if meter.profile.power_max_w is None:
        return None
    return meter.profile.power_max_w * meter.ct_ratio * meter.pt_ratio


def step_milliwh(meter: Meter, counts: Counts) -> Fraction:
    """The smallest rise the meter's energy register can show at this count, 0.001 Wh, CT and PT applied."""
    steps = resolution(meter.profile.energy, counts)
    return meter.per_count_milliwh if steps == 1 else steps * meter.per_count_milliwh


def _short(counts: Counts) -> str:
    """A count for a message: whole, because a float32 garbage value may have forty decimals."""
    return str(counts.__floor__())
