"""Raw, adjusted and estimated energy, kept apart.

A sealed delta never changes. An `adjust` event says that a run of them was wrong: by an exact factor (a CT ratio that
was typed in wrongly), or by an amount of energy with a bound (a meter that stood still for a day). Raw is what was
sealed. Adjusted is raw with the exact factors applied. Estimated is adjusted plus the amounts, which are wrong by at
most the sum of their bounds. Everything is `Fraction`; it is rounded once, where it is shown.

An adjustment that overlaps an earlier one, or names deltas that were not sealed before it, is applied to nothing.

Its event comes after the deltas that it names, perhaps by months. So a reader that streams looks through the file for
adjustments first (`announced`), sums up the runs that they name while it judges, and applies each where it meets its
verified event. Announcements of a forged line cost a sum that nobody asks for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from agent.reporting import envelope, strictjson
from agent.reporting.attribution import Part
from agent.reporting.batch import Delta
from agent.reporting.event import Event

ANNOUNCED_MAX = 10_000
"""Runs that are summed up; no gateway has as many adjustments in its life."""

Run = tuple[str, int, int, int]
"""Meter, epoch, first and last delta."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an `adjust` event says. Exactly one of `factor` and `energy_milliwh` is given; `bound_milliwh` with the
    latter."""

    meter: str
    epoch: int
    n_from: int
    n_to: int
    factor: Fraction | None
    energy_milliwh: int | None
    bound_milliwh: int
    reason: str
    evidence: str
    by: str
    at_ms: int

    @classmethod
    def of(cls, event: Event) -> "Adjustment":
        """Of an event that was read (`Event.from_payload` has checked its members)."""
        by_energy = "energy" in event.body
        return cls(
            meter=event.text("meter"),
            epoch=event.integer("epoch"),
            n_from=event.integer("n_from"),
            n_to=event.integer("n_to"),
            factor=None if by_energy else Fraction(event.integer("num"), event.integer("den")),
            energy_milliwh=event.integer("energy") if by_energy else None,
            bound_milliwh=event.integer("bound") if by_energy else 0,
            reason=event.text("reason"),
            evidence=event.text("evidence"),
            by=event.text("by"),
            at_ms=event.at_ms,
        )

    @property
    def run(self) -> Run:
        """The deltas that it names."""
        return self.meter, self.epoch, self.n_from, self.n_to

    def overlaps(self, other: "Adjustment") -> bool:
        """Whether both name a delta."""
        return (self.meter, self.epoch) == (other.meter, other.epoch) and (
            self.n_from <= other.n_to and other.n_from <= self.n_to
        )


def overlap(one: Event, other: Event) -> bool:
    """Whether two `adjust` events name the same delta."""
    return Adjustment.of(one).overlaps(Adjustment.of(other))


@dataclass(slots=True)
class RunSum:
    """The raw energy of a run of deltas, exactly. `parts` are the steps of its last delta."""

    deltas: int = 0
    energy_milliwh: int = 0
    by_step: dict[str | None, Fraction] = field(default_factory=dict)
    parts: Sequence[Part] = ()

    def add(self, energy_milliwh: int, parts: Sequence[Part], *, deltas: int = 1) -> None:
        """One more delta, or a bridge over several."""
        self.deltas += deltas
        self.energy_milliwh += energy_milliwh
        self.parts = parts
        for part in parts:
            share = self.by_step.get(part.step, Fraction(0))
            self.by_step[part.step] = share + part.part * energy_milliwh


@dataclass(slots=True)
class Corrected:
    """One meter's, or one step's, energy three ways, in 0.001 Wh. The bound belongs to `estimated`."""

    raw: Fraction
    adjusted: Fraction
    estimated: Fraction
    bound: Fraction = Fraction(0)

    @classmethod
    def of_raw(cls, energy: int | Fraction) -> "Corrected":
        """Nothing was adjusted yet."""
        exact = Fraction(energy)
        return cls(exact, exact, exact)

    def move(self, by_factor: Fraction, by_energy: Fraction, bound: Fraction) -> None:
        """Apply an adjustment: what a factor moves is exact, what an amount moves is an estimate."""
        self.adjusted += by_factor
        self.estimated += by_factor + by_energy
        self.bound += bound


@dataclass(frozen=True, slots=True)
class Corrections:
    """Everything that was adjusted in a file or a store. `by_meter` and `by_step` hold only what an adjustment moved;
    the step None is energy without one. `not_here` counts adjustments of deltas that are not there to be summed."""

    applied: tuple[Adjustment, ...]
    by_meter: Mapping[str, Corrected]
    by_step: Mapping[str | None, Corrected]
    not_here: int = 0


NO_CORRECTIONS = Corrections((), {}, {})


def correct(
    applied: Iterable[tuple[Adjustment, RunSum]],
    raw_by_meter: Mapping[str, int],
    raw_by_step: Mapping[str | None, Fraction],
    *,
    not_here: int = 0,
) -> Corrections:
    """Apply adjustments to totals. None of them may overlap another; each comes with the sum of its run."""
    meters: dict[str, Corrected] = {}
    steps: dict[str | None, Corrected] = {}
    done: list[Adjustment] = []
    for adjustment, run in applied:
        done.append(adjustment)
        extra = Fraction(0) if adjustment.factor is None else adjustment.factor - 1
        energy, bound = Fraction(adjustment.energy_milliwh or 0), Fraction(adjustment.bound_milliwh)
        raw = raw_by_meter.get(adjustment.meter, 0)
        meter = meters.setdefault(adjustment.meter, Corrected.of_raw(raw))
        meter.move(run.energy_milliwh * extra, energy, bound)
        for step, share in run.by_step.items():
            part = sum((each.part for each in run.parts if each.step == step), Fraction(0))
            corrected = steps.setdefault(step, Corrected.of_raw(raw_by_step.get(step, Fraction(0))))
            corrected.move(share * extra, energy * part, bound * abs(part))
    return Corrections(tuple(done), meters, steps, not_here)


class RunSums:
    """Sums up the announced runs while deltas are booked, one after the other."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs: dict[tuple[str, int], dict[Run, RunSum]] = {}
        for run in runs:
            self._runs.setdefault(run[:2], {})[run] = RunSum()

    def add(self, delta: Delta, parts: Sequence[Part]) -> None:
        """A delta was booked."""
        for (_, _, first, last), sum_ in self._runs.get((delta.meter, delta.epoch), {}).items():
            if first <= delta.n <= last:
                sum_.add(delta.delta, parts)

    def of(self, adjustment: Adjustment) -> RunSum | None:
        """The sum of a run; None where it was not announced, or not all of it is here."""
        _, _, first, last = adjustment.run
        found = self._runs.get((adjustment.meter, adjustment.epoch), {}).get(adjustment.run)
        return found if found is not None and found.deltas == last - first + 1 else None


def announced(lines: Iterable[bytes]) -> frozenset[Run]:
    """The runs that the adjustments of an export name; of lines that nobody has verified yet."""
    runs: set[Run] = set()
    for line in lines:
        for event in _adjustments_in(line):
            if len(runs) < ANNOUNCED_MAX:
                runs.add(Adjustment.of(event).run)
    return frozenset(runs)


def _adjustments_in(line: bytes) -> list[Event]:
    """Unverified; a line that cannot be read announces nothing, the judge says what is wrong with it."""
    parts = line.split(b".")
    if len(parts) != 3 or len(line) > envelope.SIZE_MAX[envelope.DESCRIPTOR] * 2:
        return []
    try:
        text = envelope.base64url_decode(parts[1].decode("ascii"))
        if b'"adjust"' not in text:
            return []
        events = strictjson.loads(text, size_max=envelope.SIZE_MAX[envelope.BATCH]).get("events")
        found = [Event.from_payload(each) for each in events] if isinstance(events, list) else []
    except ValueError:
        return []
    return [event for event in found if event.type == "adjust"]
