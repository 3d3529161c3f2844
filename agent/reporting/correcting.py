"""The judge's part of `adjust` and `manual` events: do they name deltas that were sealed, and each only once?

Adjustments change no verdict on what was sealed. One that cannot be placed is a violated invariant like any other: it
is a finding of conservation, and applied to nothing. Comes before `verify`, beside `conservation`.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from agent.reporting.adjustment import Adjustment, Corrections, Run, RunSum, RunSums, correct
from agent.reporting.attribution import Part
from agent.reporting.batch import Delta
from agent.reporting.conservation import Books
from agent.reporting.event import Event
from agent.reporting.verdict import Findings


class Correcting:
    """Takes deltas as they are booked, and the events that speak of them."""

    def __init__(
        self, books: Books, findings: Findings, quality: Findings, runs: Iterable[Run] | None
    ) -> None:
        """`runs` are those announced in the file, None where nobody looked."""
        self._books = books
        self._findings = findings
        self._quality = quality
        self._sums = None if runs is None else RunSums(runs)
        self._accepted: list[tuple[Adjustment, RunSum]] = []
        self._seen: list[Adjustment] = []
        self._not_here = 0

    def delta(self, delta: Delta, parts: Sequence[Part]) -> None:
        """It was booked, and its energy given to these."""
        if self._sums is not None:
            self._sums.add(delta, parts)

    def event(self, line: int, event: Event) -> None:
        """An `adjust` or `manual` event of a batch that was placed."""
        if event.type == "adjust":
            self._adjust(line, Adjustment.of(event))
        else:
            self._manual(line, event)

    def _adjust(self, line: int, adjustment: Adjustment) -> None:
        meter, epoch, first, last = adjustment.run
        place = f"meter {meter}, epoch {epoch}, n {first} to {last}"
        problem = self._problem(meter, epoch, last)
        if problem is None and first > last:
            problem = "its first delta comes after its last"
        other = next((each for each in self._seen if each.overlaps(adjustment)), None)
        if problem is None and other is not None:
            problem = f"deltas {other.n_from} to {other.n_to} are adjusted already"
        if problem is not None:
            self._findings.add(line, place, f"adjust: {problem}; not applied")
            return
        self._seen.append(adjustment)
        found = None if self._sums is None else self._sums.of(adjustment)
        if found is not None:
            self._accepted.append((adjustment, found))
        elif self._sums is not None:
            self._not_here += 1
            self._quality.add(line, place, "adjust: not all of its deltas are in the file; not applied")

    def _manual(self, line: int, event: Event) -> None:
        meter, n, said = event.text("meter"), event.integer("n"), event.body.get("epoch")
        epoch = said if type(said) is int else self._books.epoch_of(meter) or 1
        problem = self._problem(meter, epoch, n)
        if problem is not None:
            self._findings.add(line, f"meter {meter}, epoch {epoch}, n {n}", f"manual: {problem}")

    def _problem(self, meter: str, epoch: int, last: int) -> str | None:
        """Why deltas up to this one cannot be spoken of; None also where a file that begins later cannot tell."""
        known = self._books.last_n(meter, epoch)
        if known is None:
            current = self._books.epoch_of(meter)
            if current is not None and epoch > current:
                return f"the meter is in epoch {current}"
            return "no delta of it was sealed before" if self._books.whole else None
        return f"the last delta sealed before it is {known}" if last > known else None

    def result(
        self, raw_by_meter: Mapping[str, int], raw_by_step: Mapping[str | None, Fraction]
    ) -> Corrections | None:
        """What came of them; None where there are some and the file could be read only once."""
        if self._sums is None and self._seen:
            return None
        return correct(self._accepted, raw_by_meter, raw_by_step, not_here=self._not_here)
