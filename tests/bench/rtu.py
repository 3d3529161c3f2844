"""How close to its physical limit a strict RS485 line is used: the whole agent, libmodbus and bare pymodbus.

The simulated line loses every request that begins before the silence of 3.5 characters is over, as real meters do. The
figure is the time that reading what was read needs at least, sum of t(n) of the cheapest reads, over the time that
passed.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from statistics import median

from agent.protocol.silence import silence_ns
from tests.bench.installation import ENERGY_ONLY, LIVE, Setting, line_table
from tests.bench.programs import Agent, exact_pair, folder, run_libmodbus, run_pymodbus

LATE_US_MAX = 200
"""A line that was itself later than this on average, its pty included, says nothing about the master on it."""
PAUSE_S = 10
"""After a void run the machine is given so long to become quiet."""
REQUIRED_PERMILLE = {9600: 970, 19_200: 960, 115_200: 900}
LINES = ((9600, "none"), (9600, "even"), (19_200, "none"), (115_200, "none"))


@dataclass(frozen=True, slots=True)
class Run:
    """One master on one line."""

    permille: float
    late_us: float
    begun_too_early: int
    collisions: int
    cycle_ms: float

    @property
    def is_void(self) -> bool:
        return self.late_us > LATE_US_MAX


def settings() -> Iterator[Setting]:
    """All rows of the issue."""
    for baud, parity in LINES:
        for meters in (26, 32):
            for turnaround_ms in (5, 10, 20):
                for profile in (ENERGY_ONLY, LIVE):
                    yield Setting(baud, parity, meters, turnaround_ms, profile)


def with_agent(setting: Setting, seconds: float) -> Run:
    """The whole agent: store, signatures, MQTT and all."""
    with exact_pair(setting) as pair, folder() as place:
        with Agent(place, line_table(setting, pair.device), interval="10s") as agent:
            agent.wait_for_reads(3 * setting.meters)
            begun_ns = time.monotonic_ns()
            time.sleep(seconds)
            ended_ns = time.monotonic_ns()
            seen = pair.stop()
        return _judged(setting, seen, begun_ns, ended_ns)


def with_libmodbus(setting: Setting, seconds: float, *, exact_gap: bool) -> Run:
    """A few lines of C: as the library comes, or with an exact gap of 3.5 characters."""
    gap_ns = silence_ns(setting.serial) if exact_gap else 0
    return _timed(setting, lambda device: run_libmodbus(setting, device, seconds, gap_ns))


def with_pymodbus(setting: Setting, seconds: float) -> Run:
    """Bare pymodbus as it comes."""
    asked = {
        "baud": setting.baud,
        "parity": setting.parity[0].upper(),
        "seconds": seconds,
        "units": list(range(1, setting.meters + 1)),
        "blocks": [(block.address, block.count) for block in setting.blocks()],
    }

    def run(device: str) -> None:
        run_pymodbus(asked | {"device": device})

    return _timed(setting, run)


def _timed(setting: Setting, run: Callable[[str], None]) -> Run:
    with exact_pair(setting) as pair:
        begun_ns = time.monotonic_ns()
        run(pair.device)
        return _judged(setting, pair.stop(), begun_ns, time.monotonic_ns())


def _judged(setting: Setting, seen: dict[str, object], begun_ns: int, ended_ns: int) -> Run:
    """Useful time over time, from the first to the last request within the window."""
    inside = [each for each in seen["requests"] if begun_ns <= each[0] <= ended_ns]  # type: ignore[attr-defined]
    if len(inside) < 2:
        return Run(0, _late_us(seen), int(str(seen["begun_too_early"])), 0, 0)
    worth_ns = cache(setting.worth_ns)
    useful_ns = sum(worth_ns(address, count) for _, _, address, count, answered in inside[1:] if answered)
    first = [each[0] for each in inside if each[1:4] == inside[0][1:4]]
    cycles = [after - before for before, after in pairwise(first)]
    return Run(
        1000 * useful_ns / (inside[-1][0] - inside[0][0]),
        _late_us(seen),
        int(str(seen["begun_too_early"])),
        int(str(seen["collisions"])),
        median(cycles) / 1e6 if cycles else 0,
    )


def _late_us(seen: dict[str, object]) -> float:
    """By how much the line was late on average: the model, and the pty behind which it is."""
    return float(str(seen["late_us"])) + float(str(seen["pty_late_us"]))


def repeated(run: Callable[[], Run], times: int, tries: int, patience_s: float = 0) -> Run | None:
    """The median of several runs that count, with the mistakes of all; None if the machine never let the line be exact.

    Tried so often, and beyond that for as long as the patience lasts.
    """
    good: list[Run] = []
    begun_s = time.monotonic()
    while len(good) < times and (tries > 0 or time.monotonic() - begun_s < patience_s):
        one = run()
        tries -= 1
        if not one.is_void:
            good.append(one)
        elif patience_s:
            time.sleep(PAUSE_S)
    if not good:
        return None
    return replace(
        sorted(good, key=lambda each: each.permille)[len(good) // 2],
        begun_too_early=sum(each.begun_too_early for each in good),
        collisions=sum(each.collisions for each in good),
    )
