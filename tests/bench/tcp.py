"""What reading over TCP costs: the whole agent beside bare pymodbus that reads the same blocks of the same meters."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.metering.plan import BusCost, plan_reads
from agent.service.watch import LIVE_REGISTERS
from simulators.ports import free_port
from tests.bench.installation import meter_table, profiles
from tests.bench.programs import Agent, Usage, folder, run_pymodbus
from tests.bench.tcp_server import host


@dataclass(frozen=True, slots=True)
class Cost:
    """What so many reads cost a process."""

    reads: int
    seconds: float
    cpu_s: float
    switches: int
    threads: int = 0
    resident_kb: int = 0

    @property
    def cpu_ms_per_1000(self) -> float:
        return 1e6 * self.cpu_s / max(1, self.reads)


@contextmanager
def meters_on_tcp(count: int) -> Iterator[int]:
    """Meters 1..count on addresses of their own; gives their port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.tcp_server", str(count), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield port
    finally:
        process.kill()
        process.wait()


def site_tables(count: int, port: int, profile: str, poll: str) -> str:
    """One line for each meter: distinct hosts."""
    return "\n".join(
        f"""\
[[lines]]
id = "l{number}"
transport = "modbus-tcp"
host = "{host(number)}"
port = {port}
poll = "{poll}"

{meter_table(number, f"l{number}", 1, profile)}"""
        for number in range(1, count + 1)
    )


def agent(count: int, profile: str, *, poll: str, interval: str, seconds: float) -> Cost:
    """The whole agent for so long, after it has settled."""
    with meters_on_tcp(count) as port, folder() as place:
        tables = site_tables(count, port, profile, poll)
        with Agent(place, tables, interval=interval) as running:
            running.wait_for_reads(4 * count, 60)
            time.sleep(2)
            # What it costs to be asked for its status lies outside of what is measured.
            asked_s, reads = time.monotonic(), running.reads()
            time.sleep(1)
            before, begun_s = running.usage(), time.monotonic()
            time.sleep(seconds)
            after, ended_s = running.usage(), time.monotonic()
            rate = (running.reads() - reads) / (time.monotonic() - asked_s)
            return _cost(before, after, round(rate * (ended_s - begun_s)), ended_s - begun_s)


def _cost(before: Usage, after: Usage, reads: int, seconds: float) -> Cost:
    return Cost(
        reads,
        seconds,
        after.cpu_s - before.cpu_s,
        after.switches - before.switches,
        after.threads,
        after.resident_kb,
    )


def pymodbus(count: int, profile: str, *, period_s: float, seconds: float) -> Cost:
    """Bare pymodbus, a client for each meter, which reads the live registers in the same blocks."""
    with meters_on_tcp(count) as port:
        known = profiles()[profile]
        wanted = [known.registers[name] for name in LIVE_REGISTERS if name in known.registers]
        blocks = plan_reads(wanted, read_limit=known.read_limit, alignment=1, cost=BusCost.tcp(2_000_000))
        said = run_pymodbus(
            {
                "places": [[host(number), port] for number in range(1, count + 1)],
                "units": [1],
                "blocks": [(block.address, block.count) for block in blocks],
                "period_s": period_s,
                "seconds": seconds,
            }
        )
        return Cost(int(said["reads"]), said["seconds"], said["cpu_s"], int(said["switches"]))
