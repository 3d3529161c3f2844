"""Whether the epochs that balances list as closed are those that the file tells: part of rule V5.

Where a platform cannot ask for a batch again, each balance lists the epochs of its meter that ended in the last 30 days
(wire format, section 6, "Broker mode"), and whoever lost the batch books from that list. So a list that says something
else than the signed event is energy that one reader has and another has not. An epoch that ended before the file
begins is compared with what earlier balances said of it. One that a list leaves out is no finding: a gateway whose
journal was lost knows less than its chain.

Before this come epoch events and balances in the order of effect, after it the verdict `conservation`.
"""

from collections.abc import Iterator, Mapping

from agent.reporting.event import Event
from agent.reporting.verdict import Findings

_COMPARED = (
    "epoch_from",
    "last",
    "first",
    "serial_from",
    "serial_to",
    "reason",
    "unmetered_from",
    "unmetered_to",
    "bound",
    "by",
)
"""Members of an epoch event that a list repeats; what later versions add to either is not compared."""

_Place = tuple[str, int]
"""A meter and the epoch that was opened."""


class Closings:
    """Ends of epochs as events told them and as balances list them; a few members for each epoch of the file."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._told: dict[_Place, Mapping[str, object]] = {}
        self._listed: dict[_Place, Mapping[str, object]] = {}

    def tell(self, event: Event, n_last: int | None) -> None:
        """Take an epoch event; `n_last` is the number of the last delta of the epoch that it ends, None if unknown."""
        self._told[_place_of(event)] = {**event.body, "n_last": n_last}

    def compare(self, line: int, balance: Event, first_epoch: int | None) -> None:
        """Hold what a balance lists against what was told.

        Args:
            line: where the balance stands.
            balance: the event.
            first_epoch: the epoch in which the file first has the meter, None where it has nothing of it; an epoch
                opened after that has its event in the file.
        """
        for said in balance.closed():
            place = _place_of(said)
            former = self._listed.get(place)
            if former is not None and not differences(said.body, former):
                continue  # judged when it was first said; an hour later it is listed again
            self._listed[place] = said.body
            where = f"meter {place[0]}, epoch {said.integer('epoch_from')} to {place[1]}"
            for text in self._faults(said, former, first_epoch):
                self._findings.add(line, where, f"V5: a balance lists {text}")

    def _faults(
        self, said: Event, former: Mapping[str, object] | None, first_epoch: int | None
    ) -> Iterator[str]:
        """What is wrong with one entry of a list; `former` is what an earlier balance said of the same epoch."""
        meter, opened = _place_of(said)
        known, by = self._told.get((meter, opened)), "its event"
        if known is None and first_epoch is not None and opened > first_epoch:
            yield "it as closed, and no event before it says so"
            return
        if known is None:
            known, by = former, "an earlier one"
        if known is not None:
            for name in differences(said.body, known):
                yield f"{name} {text_of(said.body[name])}, {by} says {text_of(known[name])}"


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The members in which two words on the end of one epoch differ; an `n_last` of zero or null was not known."""
    found = [name for name in _COMPARED if one[name] != other[name]]
    numbers = one.get("n_last"), other.get("n_last")
    return [*found, "n_last"] if all(numbers) and numbers[0] != numbers[1] else found


def _place_of(event: Event) -> _Place:
    return event.text("meter"), event.integer("epoch_to")


def text_of(value: object) -> str:
    """A member as it stands on the wire, without quotes."""
    return "null" if value is None else str(value)
