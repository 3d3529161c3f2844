"""Whether the deltas of every meter and epoch add up to its registers: rules V1 to V5 of the wire format, section 5.

The books are kept per meter and hold a bounded number of points, whatever the length of the file. After a finding the
books go on from what the file says, so that one fault is one finding and not a finding per line. Before this comes the
placement in the chain, after it the verdict `conservation`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.metering.quantity import format_kwh
from agent.reporting.batch import Delta, broken_rules
from agent.reporting.closings import Closings
from agent.reporting.event import Event
from agent.reporting.verdict import Findings, stretch

_POINTS_KEPT = 64
"""Latest positions of an epoch that a balance may refer to, and as many positions where a balance ended."""


@dataclass(frozen=True, slots=True)
class _Point:
    """The books after delta n: register, sum of deltas and of rollovers since the epoch's first entry here."""

    n: int
    register: int
    sum: int
    roll: int


@dataclass(slots=True)
class _Epoch:
    """One meter's current or closed epoch. `end_ms` is None where no delta has set it yet."""

    epoch: int
    first: _Point
    last: _Point
    end_ms: int | None
    recent: deque[_Point] = field(default_factory=lambda: deque(maxlen=_POINTS_KEPT))
    anchors: deque[_Point] = field(default_factory=lambda: deque(maxlen=_POINTS_KEPT))

    @classmethod
    def opened(cls, epoch: int, n: int, register: int, end_ms: int | None) -> "_Epoch":
        point = _Point(n, register, 0, 0)
        return cls(epoch, point, point, end_ms)

    def advance(self, delta: Delta) -> None:
        """Enter one delta."""
        roll = delta.roll or 0
        self.last = _Point(delta.n, delta.reg_end, self.last.sum + delta.delta, self.last.roll + roll)
        self.end_ms = delta.end_ms
        self.recent.append(self.last)

    def at(self, n: int) -> _Point | None:
        """The books after delta n, None where they were not kept."""
        points = (self.last, self.first, *self.recent, *self.anchors)
        return next((point for point in points if point.n == n), None)

    def shrink(self) -> None:
        """Keep of a closed epoch what a later balance may ask for: its ends and the last balance."""
        self.recent.clear()
        while len(self.anchors) > 1:
            self.anchors.popleft()

    def difference(self) -> int:
        """Rule V3: what the deltas say less what the registers say; zero where all is well."""
        return self.last.sum - (self.last.register - self.first.register + self.last.roll)


class Books:
    """The registers of all meters, as far as the file tells.

    `whole` says that the file begins with the gateway's first batch ever; then every meter has to begin at epoch 1
    and n 1. `clock_findings` takes what is a matter of time only and therefore of quality.
    """

    def __init__(self, findings: Findings, clock_findings: Findings) -> None:
        self.whole = True
        self.totals: dict[str, int] = {}
        self._findings = findings
        self._clock_findings = clock_findings
        self._current: dict[str, _Epoch] = {}
        self._closed: dict[tuple[str, int], _Epoch] = {}
        self._first_epochs: dict[str, int] = {}
        self._closings = Closings(findings)

    def delta(self, line: int, delta: Delta, modulus: int | None) -> bool:
        """Check one delta and enter it.

        Args:
            line: where it stands.
            delta: the next one in the order of effect.
            modulus: of the meter by the descriptor in force, 0.001 Wh.

        Returns:
            whether it was booked; a delta whose place is taken never is.
        """
        place = f"meter {delta.meter}, epoch {delta.epoch}, n {delta.n}"
        for text in broken_rules(delta, modulus):
            self._findings.add(line, place, f"V1: {text}")
        books = self._current.get(delta.meter)
        if books is not None and (delta.epoch, delta.n) <= (books.epoch, books.last.n):
            self._findings.add(line, place, f"V2: after epoch {books.epoch}, n {books.last.n}; not counted")
            return False
        if books is None or delta.epoch != books.epoch:
            books = self._begin(line, place, delta, books)
        else:
            self._continue(line, place, delta, books)
        books.advance(delta)
        self.totals[delta.meter] = self.totals.get(delta.meter, 0) + delta.delta
        return True

    def _begin(self, line: int, place: str, delta: Delta, before: _Epoch | None) -> _Epoch:
        """The first delta of an epoch that no event opened."""
        if before is not None:
            self._findings.add(line, place, f"V4: epoch {before.epoch} ended without an epoch event")
            self._close(line, delta.meter, before)
        elif self.whole and (delta.epoch, delta.n) != (1, 1):
            self._findings.add(line, place, "V2: the meter's first delta must be epoch 1, n 1")
        books = _Epoch.opened(delta.epoch, delta.n - 1, delta.reg_start, None)
        self._current[delta.meter] = books
        self._first_epochs.setdefault(delta.meter, delta.epoch)
        return books

    def _continue(self, line: int, place: str, delta: Delta, books: _Epoch) -> None:
        """Rule V2: it begins where the one before ended."""
        if delta.n != books.last.n + 1:
            self._findings.add(line, place, f"V2: n {stretch(books.last.n + 1, delta.n - 1)} missing")
        if delta.reg_start != books.last.register:
            hole = format_kwh(delta.reg_start - books.last.register)
            self._findings.add(
                line, place, f"V2: starts at {delta.reg_start}, not at {books.last.register} ({hole} kWh)"
            )
        if books.end_ms is not None and delta.start_ms != books.end_ms and delta.n == books.last.n + 1:
            findings = self._clock_findings if "clock" in delta.q else self._findings
            findings.add(line, place, "V2: does not start when the delta before it ended")

    def epoch(self, line: int, event: Event) -> None:
        """Rule V4: an epoch event closes what was open at its last register and opens the next."""
        meter, old, new = event.text("meter"), event.integer("epoch_from"), event.integer("epoch_to")
        place = f"meter {meter}, epoch {old} to {new}"
        books = self._current.get(meter)
        if new != old + 1:
            self._findings.add(line, place, "V4: epochs rise by one")
        if books is not None:
            self._end(line, place, event, books)
        elif self.whole and old != 1:
            self._findings.add(line, place, "V4: the meter was never seen before")
        self._current[meter] = _Epoch.opened(new, 0, event.integer("first"), None)
        self._first_epochs.setdefault(meter, old)
        self._closings.tell(event, None if books is None or books.epoch != old else books.last.n)

    def _end(self, line: int, place: str, event: Event, books: _Epoch) -> None:
        if event.integer("epoch_from") != books.epoch:
            self._findings.add(line, place, f"V4: the meter is in epoch {books.epoch}")
        elif event.integer("last") != books.last.register:
            text = f"V4: closes at {event.integer('last')}, its last delta ended at {books.last.register}"
            self._findings.add(line, place, text)
        self._close(line, event.text("meter"), books)

    def _close(self, line: int, meter: str, books: _Epoch) -> None:
        self._check_sum(self._findings, line, meter, books)
        books.shrink()
        self._closed[meter, books.epoch] = books

    def balance(self, line: int, event: Event) -> bool:
        """Rule V5: a balance agrees with itself and with the deltas, and what it lists as closed with the events.

        Returns:
            whether it could be compared with both its ends; False where it reaches further back than the books.
        """
        meter, epoch, last = event.text("meter"), event.integer("epoch"), event.integer("n_last")
        place = f"meter {meter}, epoch {epoch}, n {event.integer('n_first')} to {last}"
        end, sum_ = event.integer("reg_last"), event.integer("sum")
        if sum_ != end - event.integer("reg_first") + event.integer("roll"):
            self._findings.add(line, place, "V5: sum is not reg_last - reg_first + roll")
        self._closings.compare(line, event, 1 if self.whole else self._first_epochs.get(meter))
        books = self._books_of(meter, epoch)
        if books is None or last > books.last.n:
            if books is not None or self.whole:
                self._findings.add(line, place, "V5: deltas it sums are not in the file")
            return False
        return self._compare(line, place, event, books)

    def _books_of(self, meter: str, epoch: int) -> _Epoch | None:
        books = self._current.get(meter)
        return books if books is not None and books.epoch == epoch else self._closed.get((meter, epoch))

    def _compare(self, line: int, place: str, event: Event, books: _Epoch) -> bool:
        before, after = books.at(event.integer("n_first") - 1), books.at(event.integer("n_last"))
        for point, name in ((before, "reg_first"), (after, "reg_last")):
            if point is not None and point.register != event.integer(name):
                text = f"V5: {name} is {event.integer(name)}, the deltas say {point.register}"
                self._findings.add(line, place, text)
        if after is not None and after not in books.anchors:
            books.anchors.append(after)
        if before is None or after is None:
            return False
        for name, said, found in (
            ("sum", event.integer("sum"), after.sum - before.sum),
            ("roll", event.integer("roll"), after.roll - before.roll),
        ):
            if said != found:
                self._findings.add(line, place, f"V5: {name} is {said}, the deltas say {found}")
        return True

    def last_n(self, meter: str, epoch: int) -> int | None:
        """Number of the last delta of an epoch so far; None where the file has none of it."""
        books = self._books_of(meter, epoch)
        return None if books is None else books.last.n

    def epoch_of(self, meter: str) -> int | None:
        """The epoch that a meter is in; None where the file has nothing of it."""
        books = self._current.get(meter)
        return None if books is None else books.epoch

    def finish(self, findings: Findings) -> None:
        """Rule V3 for every epoch that is still open, into `findings`."""
        for meter, books in self._current.items():
            self._check_sum(findings, 0, meter, books)

    @staticmethod
    def _check_sum(findings: Findings, line: int, meter: str, books: _Epoch) -> None:
        difference = books.difference()
        if difference:
            sense = "more" if difference > 0 else "less"
            text = f"V3: the deltas are {format_kwh(abs(difference))} kWh {sense} than the registers"
            findings.add(line, f"meter {meter}, epoch {books.epoch}", text)

    def meters(self) -> Iterator[str]:
        """The meters that have books, in the order in which they appeared."""
        return iter(self._current)
