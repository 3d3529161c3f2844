"""What the tests of the gates share: one meter after the other is read, and what was said of it is looked up."""

from dataclasses import replace

from agent.metering.plant import Meter
from agent.reporting.batch import Delta
from agent.reporting.event import Event
from agent.service.close import Closed
from tests.service.bench import MINUTE_MS, Bench, two_meters

HOUR_MS = 60 * MINUTE_MS


def nameless(**changes: object) -> Meter:
    """A meter that cannot say who it is, and of which the site file does not say it either."""
    return replace(two_meters()[0], serial=None, **changes)  # type: ignore[arg-type]


def events(bench: Bench, kind: str) -> list[Event]:
    return [event for _, batch in bench.batches() for event in batch.events if event.type == kind]


def epochs(bench: Bench) -> list[tuple[object, object, object]]:
    """Reason and both registers of each change of epoch."""
    return [
        (event.body["reason"], event.body["last"], event.body["first"]) for event in events(bench, "epoch")
    ]


def newest(bench: Bench, meter_id: str = "reflow-1") -> Delta:
    return [delta for _, batch in bench.batches() for delta in batch.deltas if delta.meter == meter_id][-1]


def restart(bench: Bench) -> None:
    """A new process: the journal is opened anew, and nothing else is left."""
    bench.restart()
    bench.wire(bench.meters)


def read(bench: Bench, count: int, *, times: int = 1, **sample: object) -> Closed:
    """One boundary later: read one meter, with more of a sample than its words."""
    cut = bench.cut_of({bench.meters[0].id: count}, times=times)
    samples = tuple(replace(each, **sample) for each in cut.samples)  # type: ignore[arg-type]
    return bench.closer.close(bench.journal, replace(cut, samples=samples))
