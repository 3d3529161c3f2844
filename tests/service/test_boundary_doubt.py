"""An exchanged meter shows a higher register, too: it is asked who it is before a rise that is too fast counts."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.metering.decode import encode
from agent.service.boundary import Boundary
from agent.service.close import Sample
from tests.service.bench import MINUTE_MS, Bench, two_meters
from tests.service.test_publish import OwnThread


@dataclass
class Shelf:
    """Samples handed out as a finished sweep."""

    samples: list[Sample]
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def finish(self) -> None:
        """Nothing more will come."""
        self.done.set()


class ScriptedWorker:
    """One meter, whose serial number is only read when somebody asks for it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.count, self.serial, self.known_serial = 500_000, "old", "old"

    def sweep(self, only: object = None) -> Shelf:
        """Read the meter now."""
        words = encode(self.bench.meters[0].profile.energy, self.count)
        shelf = Shelf([Sample("reflow-1", words, self.bench.clock.now_ms, self.known_serial, False)])
        shelf.finish()
        return shelf

    def identify_again(self, meter: str) -> None:
        """The next read asks first who it is."""
        self.known_serial = self.serial


@pytest.mark.fault("F18")
async def test_an_exchange_is_not_booked_as_a_rise(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (replace(two_meters()[0], serial=None),))
    worker = ScriptedWorker(bench)
    boundary = Boundary(
        [worker],  # type: ignore[list-item]  # a worker as far as a boundary knows it
        bench.closer,
        OwnThread(bench.journal),
        bench.clock,
        MINUTE_MS,
        sealed=lambda _: None,
    )
    await boundary.cut(bench.clock.now_ms)
    worker.count, worker.serial = 900_000, "new"
    for _ in range(4):
        bench.clock.now_ms += MINUTE_MS
        await boundary.cut(bench.clock.now_ms)
    events = [event for _, batch in bench.batches() for event in batch.events if event.type == "epoch"]
    assert [(event.body["reason"], event.body["serial_to"]) for event in events] == [("exchange", "new")]
    assert set(bench.deltas("reflow-1")) == {0}
