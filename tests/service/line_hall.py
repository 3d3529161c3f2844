"""A line of simulated meters, byte-true and in virtual time, with the worker that owns it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.metering.plant import Line, Meter
from agent.service.poll import LineWorker
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualLine
from simulators.meters.faults import Fault, Kind
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.plants import SLOW, line, meter

MS, SECOND_NS = 1_000_000, 1_000_000_000
TURNAROUND_MS = 10
ENERGY = 0x48
FLAT_OUT = replace(line(serial=SLOW), poll_ms=1)
EACH_SECOND = replace(line(serial=SLOW), poll_ms=1000)
IDLE = replace(line(serial=SLOW), poll_ms=86_400_000)


@dataclass
class Hall:
    """A line of simulated meters and the worker that owns it."""

    worker: LineWorker
    port: VirtualLine
    meters: dict[str, SimulatedMeter]

    async def sweep(self) -> dict[str, tuple[int, ...]]:
        """One boundary: what was read, by meter."""
        sweep = self.worker.sweep()
        await sweep.done.wait()
        return {sample.meter: sample.words for sample in sweep.samples}

    def asked(self, unit: int, *, since_ns: int = 0) -> list[tuple[int, int, int]]:
        """When a unit was asked, from which address and how many registers."""
        return [
            (at_ns, request.address, request.count)
            for at_ns, request, _ in self.port.requests
            if request.unit == unit and at_ns >= since_ns
        ]

    def kill(self, *names: str) -> None:
        for name in names:
            self.meters[name].faults.append(Fault(Kind.SILENT))

    def revive(self, *names: str) -> None:
        for name in names:
            self.meters[name].faults.clear()


def energy_meter(name: str, unit: int) -> Meter:
    """A meter of which only energy can be read: one transaction a round."""
    plain = meter(name, unit)
    only = {"energy_import": plain.profile.energy.parts[0]}
    return replace(plain, profile=replace(plain.profile, registers=only, identity=None, fingerprint=()))


def in_hall(
    meters: Sequence[Meter],
    scenario: Callable[[Hall], Awaitable[None]],
    *,
    wired: Line = FLAT_OUT,
    holes: bool = False,
    faults: Mapping[str, Fault] | None = None,
) -> None:
    """Play a scenario in virtual time; the silence has to be kept throughout. `faults` are there from the start."""

    async def play() -> None:
        simulated = {
            each.id: SimulatedMeter(
                each,
                FixedEnergy(1_000_000 * int(each.address)),
                turnaround_ms=TURNAROUND_MS,
                answers_holes=holes,
            )
            for each in meters
        }
        for name, fault in (faults or {}).items():
            simulated[name].faults.append(fault)
        pair = Rs485Line(wired.serial, on_one_pair(simulated.values()))
        port = VirtualLine(pair, wired.serial)
        worker = LineWorker(wired, meters, port, VirtualClock())
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.001 if wired.poll_ms < 60_000 else 3)  # then the first round is over
        try:
            await scenario(Hall(worker, port, simulated))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert pair.begun_too_early == 0

    run_virtually(play())


def hall_of(count: int) -> list[Meter]:
    return [energy_meter(f"m{unit}", unit) for unit in range(1, count + 1)]


def cycle_ns(hall: Hall, unit: int, since_ns: int) -> int:
    """The mean time from one reading of a meter to the next."""
    times = [at_ns for at_ns, _, _ in hall.asked(unit, since_ns=since_ns)]
    return (times[-1] - times[0]) // (len(times) - 1)
