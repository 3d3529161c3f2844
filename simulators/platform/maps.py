"""Corrected maps: what the platform puts in the place of a gateway's own, for a stretch of time.

A wrong assignment of meters to steps is the likeliest mistake of an installation. The deltas stay as they are; a locked
document says, from a time to a time, which meters feed which steps, with virtual meters and estimates for steps that
have none. Without one the gateway's own signed descriptor holds. Before this come the descriptors and the documents,
after it `evaluation`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from agent.carbon.exact import decimal_of
from agent.carbon.template import DocumentError, Locked
from agent.metering.plant import Role, Share
from agent.metering.quantity import ratio
from agent.metering.virtual import MapError, MapMeter, StepMap, Term, VirtualMeter, check, step_map
from agent.reporting.utc import ms_of_text
from simulators.platform.quarters import QUARTER_MS


@dataclass(frozen=True, slots=True)
class RatedStep:
    """A step without a meter: rated power x load factor, for so many hours of each day of the period."""

    step: str
    rated_w: Fraction
    hours_per_day: Fraction
    load_factor: Fraction
    taken_from: str | None


@dataclass(frozen=True, slots=True)
class Correction:
    """A map for one gateway from `from_ms` to before `to_ms` (None without an end), UTC Unix ms on the grid.

    `meters` None keeps the descriptor's, and only adds virtual meters and estimates.
    """

    locked: Locked
    agent: str
    from_ms: int
    to_ms: int | None
    meters: tuple[MapMeter, ...] | None
    virtual: tuple[VirtualMeter, ...]
    rated: tuple[RatedStep, ...]

    @classmethod
    def of(cls, locked: Locked) -> Self:
        """Read a map.

        Raises:
            DocumentError: it is no map, or one that counts a kWh twice.
        """
        document: Mapping[str, Any] = locked.document
        if document.get("kind") != "step-map":
            raise DocumentError(f"{locked.name} is no step map")
        try:
            meters = document.get("meters")
            made = cls(
                locked=locked,
                agent=str(document["agent"]),
                from_ms=_on_grid(document["valid_from"]),
                to_ms=None if document.get("valid_to") is None else _on_grid(document["valid_to"]),
                meters=None if meters is None else tuple(_meter(entry) for entry in meters),
                virtual=tuple(_virtual(entry) for entry in document.get("virtual", [])),
                rated=tuple(_rated(entry) for entry in document.get("estimates", [])),
            )
            if made.meters is not None:
                made.checked(made.meters)
        except DocumentError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DocumentError(f"{locked.name}: {error}") from None
        return made

    def checked(self, meters: Sequence[MapMeter]) -> None:
        """Refuse a map that counts a kWh twice. Raises DocumentError."""
        try:
            faults = check(meters, self.virtual).faults
        except MapError as error:
            raise DocumentError(f"{self.locked.name}: {error}") from None
        if faults:
            said = "; ".join(f"{fault.meter} {fault.reason}" for fault in faults)
            raise DocumentError(f"{self.locked.name} counts a kWh twice: {said}")

    def holds(self, agent: str, at_ms: int) -> bool:
        """Whether this map is in force for a gateway at a time."""
        return self.agent == agent and self.from_ms <= at_ms and (self.to_ms is None or at_ms < self.to_ms)


def drawn(meters: Sequence[MapMeter], correction: Correction | None) -> tuple[StepMap, tuple[MapMeter, ...]]:
    """The map in force, and its meters. Raises DocumentError for a correction that does not fit."""
    if correction is None:
        return step_map(meters), tuple(meters)
    in_force = tuple(meters) if correction.meters is None else correction.meters
    correction.checked(in_force)
    return step_map(in_force, correction.virtual), in_force


def _on_grid(text: object) -> int:
    at_ms = ms_of_text(str(text))
    if at_ms % QUARTER_MS:
        raise ValueError(f"{text} is not a quarter of an hour, UTC")
    return at_ms


def _meter(entry: Mapping[str, Any]) -> MapMeter:
    parent = entry.get("parent")
    return MapMeter(
        str(entry["meter"]),
        Role(str(entry.get("role", "step"))),
        None if parent is None else str(parent),
        _shares(entry),
    )


def _virtual(entry: Mapping[str, Any]) -> VirtualMeter:
    terms = tuple(Term(str(term["meter"]), _coefficient(str(term["coefficient"]))) for term in entry["terms"])
    return VirtualMeter(str(entry["id"]), terms, _shares(entry))


def _rated(entry: Mapping[str, Any]) -> RatedStep:
    taken_from = entry.get("taken_from")
    made = RatedStep(
        str(entry["step"]),
        decimal_of(str(entry["rated_kw"])) * 1000,
        decimal_of(str(entry["hours_per_day"])),
        decimal_of(str(entry["load_factor"])),
        None if taken_from is None else str(taken_from),
    )
    if made.rated_w < 0 or not 0 <= made.hours_per_day <= 24 or not 0 <= made.load_factor <= 1:
        raise ValueError(f"{made.step}: power is >= 0, hours 0 to 24, the load factor 0 to 1")
    return made


def _shares(entry: Mapping[str, Any]) -> tuple[Share, ...]:
    shares = tuple(Share(str(step), ratio(str(part))) for step, part in entry.get("steps", {}).items())
    if sum((share.part for share in shares), Fraction(0)) > 1:
        raise ValueError("the shares of a meter add up to more than one")
    return shares


def _coefficient(text: str) -> Fraction:
    sign, size = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * ratio(size)
