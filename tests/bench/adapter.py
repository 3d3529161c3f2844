"""An adapter pulled and back under another name, a thousand times: how soon it is read, what is left open."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.adapters.clock import SystemClock
from agent.adapters.rtu_line import RtuLine
from agent.service.poll import LineWorker
from simulators.line.pump import PtyLine
from simulators.line.station import on_one_pair
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.bench.installation import ENERGY_ONLY, bench_meter
from tests.support.plants import FAST, line


@dataclass(frozen=True, slots=True)
class Pulled:
    """What so many rounds came to."""

    rounds: int
    longest_s: float
    descriptors_before: int
    descriptors_after: int


def pulled(rounds: int) -> Pulled:
    """Pull the adapter so many times, while its meter is polled."""
    return asyncio.run(_pulled(rounds))


async def _pulled(rounds: int) -> Pulled:
    described = bench_meter(1, ENERGY_ONLY)
    simulated = SimulatedMeter(described, FixedEnergy(5), turnaround_ms=2, answers_holes=True)
    longest_s = 0.0
    before = 0
    with TemporaryDirectory(prefix="bench-") as folder:
        link = Path(folder) / "adapter"
        spare = [PtyLine(FAST, lambda _: on_one_pair([simulated]))]  # so that names do change
        pty = _plugged(link, simulated)
        wired = line(device=str(link))
        worker = LineWorker(wired, [described], RtuLine(wired, listen_ms=20), SystemClock())
        task = asyncio.create_task(worker.run())
        watch = worker.watches[described.id]
        for _ in range(rounds):
            await _read_after(worker, watch.reads)
            before = before or _descriptors()
            old, name = pty, pty.path
            link.unlink()
            spare.append(PtyLine(FAST, lambda _: on_one_pair([simulated])))
            old.close()
            spare.pop(0).close()
            pty = _plugged(link, simulated)
            begun_s = time.monotonic()
            assert pty.path != name
            await _read_after(worker, watch.reads)
            longest_s = max(longest_s, time.monotonic() - begun_s)
        after = _descriptors()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for each in (pty, *spare):
            each.close()
    return Pulled(rounds, longest_s, before, after)


def _plugged(link: Path, simulated: SimulatedMeter) -> PtyLine:
    pty = PtyLine(FAST, lambda _: on_one_pair([simulated]))
    link.symlink_to(pty.path)
    return pty


async def _read_after(worker: LineWorker, reads: int) -> None:
    """Until a sweep has read the meter again. Raises TimeoutError after 10 s."""
    watch = next(iter(worker.watches.values()))
    async with asyncio.timeout(10):
        while watch.reads <= reads or not worker.health.open:
            worker.sweep()
            await asyncio.sleep(0.02)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
