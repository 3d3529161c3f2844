"""Figures that need no real time: dead meters, a million faulty transactions, the planner against exhaustive search.

All of it runs byte for byte in virtual time, so it is the same on every machine.
"""

import asyncio
import gc
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product

from agent.metering.plan import BusCost, plan_reads
from agent.metering.plant import SerialSettings
from agent.metering.profile import Register, WordType
from agent.protocol.doctor import Cause
from agent.protocol.events import Words
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import LATE_FACTOR, RtuMaster
from agent.protocol.rtu_frame import frame
from agent.protocol.silence import Silence
from agent.service.poll import LineWorker
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.line.virtual import VirtualBus, VirtualLine
from simulators.meters.faults import Fault, Kind, Transmission
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.bench.installation import ENERGY_ONLY, bench_meter
from tests.metering.examples import register
from tests.service.test_examining import examined
from tests.service.virtual import VirtualClock, run_virtually
from tests.support.plants import SLOW, line

MS, SECOND_NS = 1_000_000, 1_000_000_000

# --------------------------------------------------------------------------------------------------------- dead meters


@dataclass
class _Hall:
    port: VirtualLine
    meters: dict[int, SimulatedMeter]

    def cycle_ns(self, unit: int, since_ns: int) -> float:
        """The mean time from one round to the next."""
        times = [
            at_ns for at_ns, request, _ in self.port.requests if request.unit == unit and at_ns >= since_ns
        ]
        reads = len({(request.address, request.count) for _, request, _ in self.port.requests[-500:]})
        return (times[-1] - times[0]) / (len(times) - 1) * reads


def dead_meters(dead: int, profile: str, meters: int = 32) -> tuple[float, float]:
    """How much longer the live meters' cycle is than alone, as a ratio, and after how many seconds all are back."""
    alone_ns, _ = run_virtually(_polled(meters - dead, 0, profile))
    with_dead_ns, back_s = run_virtually(_polled(meters, dead, profile))
    return with_dead_ns / alone_ns - 1, back_s


def _hall(meters: int, profile: str) -> tuple[_Hall, LineWorker]:
    """A line at 9600 8N1 whose meters answer after 10 ms, and the worker that polls it without a pause."""
    described = [bench_meter(unit, profile) for unit in range(1, meters + 1)]
    simulated = {
        int(each.address): SimulatedMeter(each, FixedEnergy(5), turnaround_ms=10, answers_holes=True)
        for each in described
    }
    port = VirtualLine(Rs485Line(SLOW, on_one_pair(simulated.values())), SLOW)
    worker = LineWorker(replace(line(serial=SLOW), poll_ms=100), described, port, VirtualClock())
    return _Hall(port, simulated), worker


async def _polled(meters: int, dead: int, profile: str) -> tuple[float, float]:
    hall, worker = _hall(meters, profile)
    port, simulated = hall.port, hall.meters
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(30)
    gone = range(meters - dead + 1, meters + 1)
    for unit in gone:
        simulated[unit].faults.append(Fault(Kind.SILENT))
    await asyncio.sleep(60)
    since_ns = port.bus.now_ns
    await asyncio.sleep(240)
    cycle_ns = hall.cycle_ns(1, since_ns)
    revived_ns = port.bus.now_ns
    for unit in gone:
        simulated[unit].faults.clear()
    await asyncio.sleep(120)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    firsts = [
        min(at_ns for at_ns, request, _ in port.requests if request.unit == unit and at_ns > revived_ns)
        for unit in gone
    ]
    return cycle_ns, (max(firsts, default=revived_ns) - revived_ns) / 1e9


def two_lines(dead_unit: int, meters: int = 32) -> float:
    """How much longer a line's cycle is when a unit of the same address dies on another line of the same agent."""
    return run_virtually(_two_lines(dead_unit, meters))


async def _two_lines(dead_unit: int, meters: int) -> float:
    (sick, sick_worker), (well, well_worker) = (_hall(meters, ENERGY_ONLY) for _ in range(2))
    tasks = [asyncio.create_task(worker.run()) for worker in (sick_worker, well_worker)]
    await asyncio.sleep(60)
    alone_ns = well.cycle_ns(dead_unit, well.port.bus.now_ns - 30 * SECOND_NS)
    sick.meters[dead_unit].faults.append(Fault(Kind.SILENT))
    since_ns = well.port.bus.now_ns
    await asyncio.sleep(120)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return well.cycle_ns(dead_unit, since_ns) / alone_ns - 1


# ---------------------------------------------------------------------------------------------------- a faulty line

TIMEOUT_MS = 60
UNITS = (1, 5, 30, 31)
FAULTS = (
    *("late", "foreign", "short", "long", "wrong-function", "half", "twice", "silent", "noise", "checksum"),
    *("cancelled", "late", "late"),
)


def truth(unit: int, function: int, address: int, count: int) -> bytes:
    """What a meter keeps there; no two places have the same words."""
    first = unit * 251 + function * 7919 + address * 31
    return b"".join(((first + place * 131) % 65_536).to_bytes(2, "big") for place in range(count))


@dataclass
class _Sick:
    """Meters of which every second answer is spoilt, each by the one fault that was laid out for its question.

    Two faults on one answer (a late one that also claims to be of another unit, or of another function) nobody can tell
    from the answer to the next question; the machine's own page says so.
    """

    chance: random.Random
    faults: dict[bytes, str | None] = field(default_factory=dict)

    def hear(self, data: bytes) -> list[Transmission]:
        unit, function = data[0], data[1]
        if unit not in UNITS or len(data) != 8:
            return []
        fault = self.faults.pop(data, None)
        address, count = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:6], "big")
        delay_ns = 8 * MS
        match fault:
            case "silent":
                return []
            case "late" | "cancelled":
                delay_ns = self.chance.randrange(TIMEOUT_MS - 15, 2 * TIMEOUT_MS - 2) * MS
            case "foreign":
                unit = self.chance.choice([other for other in UNITS if other != unit])
            case "short":
                count -= 1
            case "long":
                count += 1
            case "wrong-function":
                function = 7 - function
        body = truth(unit, function, address, count)
        sent = frame(unit, bytes((function, len(body))) + body)
        match fault:
            case "half":
                sent = sent[: self.chance.randrange(1, len(sent))]
            case "noise":
                sent = self.chance.randbytes(self.chance.randrange(1, 5)) + sent + self.chance.randbytes(2)
            case "checksum":
                sent = sent[:-1] + bytes((sent[-1] ^ 0x55,))
            case "twice":
                return [Transmission(delay_ns, sent)] * 2
        return [Transmission(delay_ns, sent)]


def guard(count: int, *, guarded: bool, workers: int = 2) -> tuple[int, int]:
    """Wrong and right values among so many faulty transactions."""
    pieces = max(1, count // 5_000)
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(_faulty_line, range(pieces), [count // pieces] * pieces, [guarded] * pieces))
    return sum(wrong for wrong, _ in found), sum(right for _, right in found)


def _faulty_line(seed: int, count: int, guarded: bool) -> tuple[int, int]:
    chance = random.Random(seed)
    sick = _Sick(chance)
    settings = SerialSettings(chance.choice((9600, 19_200, 115_200)), "none", 1)
    pair = Rs485Line(settings, sick.hear, echo=seed % 4 == 0, flip_every=1000, seed=seed)
    master = RtuMaster(Silence(settings), late_factor=LATE_FACTOR if guarded else 0)
    bus = VirtualBus(master, pair, chunk=chance.choice((1, 14, 255)), hold_ns=2 * MS)
    wrong = right = 0
    for _ in range(count):
        request = ReadRequest(
            chance.choice(UNITS), chance.choice((3, 4)), chance.randrange(0, 500), chance.choice((2, 2, 2, 4))
        )
        fault = chance.choice(FAULTS) if chance.random() < 0.5 else None
        sick.faults[frame(request.unit, request.pdu())] = fault
        bus.trace.clear()
        if fault == "cancelled":
            bus.give_up(request, timeout_ms=TIMEOUT_MS, after_ns=chance.randrange(1, TIMEOUT_MS) * MS)
            continue
        end = bus.read(request, timeout_ms=TIMEOUT_MS)
        if isinstance(end, Words):
            said = b"".join(word.to_bytes(2, "big") for word in end.words)
            good = said == truth(request.unit, request.function, request.address, request.count)
            right, wrong = right + good, wrong + (not good)
    return wrong, right


# ----------------------------------------------------------------------------------------------- doctor and memory


def doctored(each: int, workers: int = 2) -> tuple[dict[str, int], int]:
    """How many of so many lines of each cause were named right and alone; how many healthy lines got a diagnosis."""
    causes = list(Cause)
    with ProcessPoolExecutor(workers) as pool:
        named = list(pool.map(_causes, *zip(*product(range(each), causes), strict=True), chunksize=4))
        healthy = list(pool.map(_causes, range(6 * each), [None] * (6 * each), chunksize=4))
    by_cause = dict.fromkeys((cause.value for cause in causes), 0)
    for (_, cause), found in zip(product(range(each), causes), named, strict=True):
        by_cause[cause.value] += found == {cause}
    return by_cause, sum(bool(found) for found in healthy)


def _causes(seed: int, cause: Cause | None) -> set[Cause]:
    return {each.cause for each in examined(seed, cause)}


POLL_MS = 300
"""Sooner than 26 meters at 115200 baud, three of them sick, can be read."""


def polling_memory(seconds: int) -> tuple[int, int]:
    """So much polling of a line that is asked for more than it can do.

    By how many blocks Python's memory grew between a tenth and the end; how many rounds were skipped and counted.
    """
    return run_virtually(_polling_memory(seconds))


async def _polling_memory(seconds: int) -> tuple[int, int]:
    described = [bench_meter(unit, "bench-energy") for unit in range(1, 27)]
    simulated = [SimulatedMeter(each, FixedEnergy(5), answers_holes=True) for each in described]
    for number, kind in enumerate((Kind.SILENT, Kind.BAD_CHECKSUM, Kind.DUPLICATE)):
        simulated[number].faults.append(Fault(kind))
    fast = SerialSettings(115_200, "none", 1)
    port = VirtualLine(Rs485Line(fast, on_one_pair(simulated)), fast)
    worker = LineWorker(replace(line(serial=fast), poll_ms=POLL_MS), described, port, VirtualClock())
    task = asyncio.create_task(worker.run())
    sizes = []
    for second in range(seconds):
        await asyncio.sleep(1)
        if second % 60 == 0:
            worker.sweep()
        port.requests.clear()
        port.bus.trace.clear()
        if second in (seconds // 10, seconds - 1):
            gc.collect()
            sizes.append(sys.getallocatedblocks())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sizes[1] - sizes[0], worker.health.rounds_skipped


# ------------------------------------------------------------------------------------------------------- the planner

SPEEDS = (1200, 2400, 9600, 19_200, 115_200)


def planner(maps: int, registers: int = 12) -> float:
    """The worst ratio of the plan's cost to that of the best of all partitions, over random maps and speeds."""
    worst = 1.0
    for seed in range(maps):
        chance = random.Random(seed)
        wanted = _random_map(chance, registers)
        alignment = chance.choice((1, 1, 2))
        limit = chance.choice((30, 60, 80, 125))
        for baud in SPEEDS:
            cost = BusCost.serial(SerialSettings(baud, "none", 1), chance.choice((2, 10, 40, 150)) * MS)
            plan = plan_reads(wanted, read_limit=limit, alignment=alignment, cost=cost)
            ours = sum(cost.transaction_ns(block.count) for block in plan)
            worst = max(worst, ours / cheapest(wanted, limit, alignment, cost))
    return worst


def _random_map(chance: random.Random, registers: int) -> list[Register]:
    types = (WordType.U16, WordType.F32, WordType.U64)
    reach = chance.choice((40, 120, 400))
    return [
        register(
            chance.choice(types),
            name=f"r{number}",
            address=chance.randrange(reach),
            function=chance.choice((3, 4, 4, 4)),
        )
        for number in range(registers)
    ]


@dataclass
class _Exhaustive:
    """The least cost over all partitions of a set of registers, by dynamic programming over its subsets."""

    spans: list[tuple[int, int, int]]
    limit: int
    cost: BusCost
    known: dict[int, int] = field(default_factory=dict)

    def least(self, left: int) -> int:
        """The cheapest way to read the registers whose bits are set."""
        if not left:
            return 0
        if left not in self.known:
            first = left & -left
            rest = left ^ first
            self.known[left] = min(
                price + self.least(rest & ~subset)
                for subset in _subsets(rest)
                if (price := self._price(first | subset)) is not None
            )
        return self.known[left]

    def _price(self, subset: int) -> int | None:
        chosen = [span for place, span in enumerate(self.spans) if subset >> place & 1]
        if len({function for function, _, _ in chosen}) > 1:
            return None
        length = max(end for _, _, end in chosen) - min(start for _, start, _ in chosen)
        return self.cost.transaction_ns(length) if length <= self.limit else None


def _subsets(mask: int) -> Iterator[int]:
    """All subsets, the empty one too."""
    subset = mask
    while True:
        yield subset
        if not subset:
            return
        subset = (subset - 1) & mask


def cheapest(wanted: list[Register], limit: int, alignment: int, cost: BusCost) -> int:
    """The optimum: every partition is looked at."""
    total = 0
    for function in {each.function for each in wanted}:
        spans = [
            (
                each.function,
                each.address // alignment * alignment,
                -(-(each.address + each.words) // alignment) * alignment,
            )
            for each in wanted
            if each.function == function
        ]
        total += _Exhaustive(spans, limit, cost).least((1 << len(spans)) - 1)
    return total
