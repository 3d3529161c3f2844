"""The energy of a day by step, from the batches that were sealed: what the platform has been told, or will be.

The journal is walked page by page, so that a running agent goes on sealing in between. A delta counts for the period
in which it ends; each counts by the map that was in force for it. Batches that were superseded by a restored chain are
left out, as the platform leaves them out: the later chain tells their energy. Before this come the journal and a
period, after it the control socket and the command `preview`, which adds the carbon.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from agent.carbon.preview import StepTally
from agent.metering.virtual import Method, StepMap, step_map
from agent.reporting.attribution import map_meters
from agent.reporting.descriptor import Descriptor
from agent.reporting.utc import MS_MAX, ms_of_text, text_of_ms
from agent.service.export import payload_of
from agent.service.journal import Journal, KeptBatch, Storage

PAGE = 100


@dataclass(slots=True)
class _Sum:
    """Energy of one meter under one map, with the first and last of its times as text: they sort like times."""

    energy_milliwh: int = 0
    first: str = "9"
    last: str = "0"


@dataclass(slots=True)
class Tally:
    """Energy by map and meter of the deltas that end after `from_ms` and not after `to_ms`, UTC Unix ms."""

    from_ms: int
    to_ms: int
    sums: dict[tuple[str, str], _Sum] = field(default_factory=dict)
    maps: dict[str, StepMap] = field(default_factory=dict)

    def take(self, payload: Mapping[str, object], journal: Journal) -> None:
        """Count one batch: the payload of a message of our own journal."""
        cfg, deltas = payload.get("cfg"), payload.get("deltas")
        if not isinstance(cfg, str) or not isinstance(deltas, list):
            return
        begins, ends = text_of_ms(self.from_ms), text_of_ms(self.to_ms)
        for delta in deltas:
            if not begins < delta["end"] <= ends:
                continue
            found = self.sums.get((cfg, delta["meter"]))
            if found is None:
                found = self.sums[cfg, delta["meter"]] = _Sum()
                self._know(cfg, journal)
            found.energy_milliwh += delta["delta"]
            found.first = min(found.first, delta["start"])
            found.last = max(found.last, delta["end"])

    def _know(self, cfg: str, journal: Journal) -> None:
        if cfg not in self.maps:
            kept = journal.descriptor(cfg)
            if kept is not None:
                descriptor = Descriptor.from_payload(payload_of(kept.jws))
                self.maps[cfg] = step_map(map_meters(descriptor))

    # -- answers

    def steps(self) -> dict[str, StepTally]:
        """Energy by step; every step that a map of the period knows is there."""
        energies: dict[str, Fraction] = {}
        methods: dict[str, set[Method]] = {}
        needed: dict[str, set[str]] = {}
        for cfg, map_ in self.maps.items():
            for step, terms in map_.steps.items():
                energies[step] = energies.get(step, Fraction(0)) + self._value(cfg, terms)
                methods.setdefault(step, set()).update(map_.methods[step])
                needed.setdefault(step, set()).update(terms)
        covered = self._covered()
        return {
            step: StepTally(
                energy,
                frozenset(methods[step]),
                tuple(sorted(needed[step] - covered.keys())),
                min((covered.get(meter, Fraction(0)) for meter in needed[step]), default=Fraction(1)),
            )
            for step, energy in energies.items()
        }

    def unassigned(self) -> Fraction:
        """What no step is given of that which was counted, 0.001 Wh."""
        return sum((self._value(cfg, map_.unassigned) for cfg, map_ in self.maps.items()), Fraction(0))

    def _value(self, cfg: str, terms: Mapping[str, Fraction]) -> Fraction:
        found = ((part, self.sums.get((cfg, meter))) for meter, part in terms.items())
        return sum((part * each.energy_milliwh for part, each in found if each is not None), Fraction(0))

    def _covered(self) -> dict[str, Fraction]:
        """The part of the period between a meter's first and last reading in it."""
        times: dict[str, tuple[str, str]] = {}
        for (_, meter), each in self.sums.items():
            first, last = times.get(meter, (each.first, each.last))
            times[meter] = (min(first, each.first), max(last, each.last))
        length_ms = self.to_ms - self.from_ms
        return {
            meter: Fraction(max(0, ms_of_text(last) - max(self.from_ms, ms_of_text(first))), length_ms)
            for meter, (first, last) in times.items()
        }

    def to_payload(self) -> dict[str, object]:
        """As it goes over the control socket; fractions as text."""
        return {
            "from_ms": self.from_ms,
            "to_ms": self.to_ms,
            "unassigned": str(self.unassigned()),
            "steps": {
                step: {
                    "energy": str(each.energy_milliwh),
                    "methods": sorted(each.methods),
                    "lacking": list(each.lacking),
                    "covered": str(each.covered),
                }
                for step, each in self.steps().items()
            },
        }


def tallies_of(payload: Mapping[str, object]) -> dict[str, StepTally]:
    """Read `Tally.to_payload` back. Raises ValueError for anything else."""
    steps = payload.get("steps")
    if not isinstance(steps, Mapping):
        raise ValueError(f"no steps in {json.dumps(payload)[:80]}")
    return {
        str(step): StepTally(
            Fraction(said["energy"]),
            frozenset(map(Method, said["methods"])),
            tuple(said["lacking"]),
            Fraction(said["covered"]),
        )
        for step, said in steps.items()
    }


class Pager:
    """Counts the batches of a period, a page at a time; each call is one short piece of work on the journal."""

    def __init__(self, from_ms: int, to_ms: int, page_size: int = PAGE) -> None:
        self.tally = Tally(from_ms, to_ms)
        self._page_size = page_size
        self._ordinal: int | None = None

    def page(self, journal: Journal) -> bool:
        """Count the next page; False once there is none. Raises JournalDamaged where a batch cannot be read."""
        if self._ordinal is None:
            # A delta is sealed after it ends, so that nothing before this batch ends in the period.
            self._ordinal = journal.ordinal_sealed_by(self.tally.from_ms)
        rows: list[KeptBatch] = journal.batches_between(
            after_ordinal=self._ordinal, up_to_ordinal=journal.last_ordinal(), limit=self._page_size
        )
        for row in rows:
            self._ordinal = row.ordinal
            if row.jws is not None and not row.superseded:
                self.tally.take(payload_of(row.jws), journal)
        return bool(rows)

    def to_payload(self) -> dict[str, object]:
        """What was counted, as it goes over the control socket."""
        return self.tally.to_payload()


def period_of(arguments: Mapping[str, object], question: str) -> tuple[int, int]:
    """The period that a question on the control socket is about, UTC Unix ms. Raises ValueError for anything else."""
    from_ms, to_ms = arguments.get("from_ms"), arguments.get("to_ms")
    if type(from_ms) is not int or type(to_ms) is not int or not 0 <= from_ms < to_ms <= MS_MAX:
        raise ValueError(f"{question} wants two times, one after the other")
    return from_ms, to_ms


class Previewer:
    """Answers the question on the control socket."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def answer(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """The energy by step between `from_ms` and `to_ms`. Raises ValueError for arguments of another kind."""
        pager = Pager(*period_of(arguments, "preview"))
        while await self._storage.run(pager.page):
            pass
        return pager.tally.to_payload()
