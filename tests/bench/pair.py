"""A simulated RS485 pair that is exact to some 20 us: one process, one pty, one core to itself while it matters.

    python -m tests.bench.pair '{"baud": 9600, "parity": "none", "meters": 26, "turnaround_ms": 10, "profile": "..."}'

It prints the path of its pty, serves until a line arrives on its standard input, and then prints what it saw as JSON.
It does not wait for its next event with a timer alone: shortly before something is due it watches the clock. What it
was late by is measured, because a bench on a late line would blame the master. A pty is late too: what is written at
one end reaches the other through a thread of the kernel, which waits for its turn like everybody. A second pty, written
at the same moments and read here, shows by how much.
"""

import gc
import json
import os
import select
import sys
import termios
import time
import tty
from dataclasses import dataclass, field, replace

from agent.metering.plant import SerialSettings
from simulators.line.rs485 import Rs485Line
from simulators.line.station import on_one_pair
from simulators.meters.faults import Fault, Kind, Transmission
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.bench.installation import bench_meter

WATCH_NS = 250_000
"""So long before something is due the clock is watched."""
TOGETHER = 8
"""After so many characters the model is brought up to now, so that nothing is left to do when the last is over."""
CHUNK_BYTES = 4096


@dataclass
class Seen:
    """What happened on the line."""

    late_ns: int = 0
    late_ns_max: int = 0
    deliveries: int = 0
    pty_late_ns: int = 0
    pty_late_ns_max: int = 0
    pty_deliveries: int = 0
    requests: list[tuple[int, int, int, int, bool]] = field(default_factory=list)
    """When its last character was over, unit, address, registers, and whether a meter answers."""


class ExactPair:
    """The model of a pair behind a pty."""

    def __init__(self, settings: SerialSettings, meters: list[SimulatedMeter]) -> None:
        self.seen = Seen()
        self._meters = {meter.unit: meter for meter in meters}
        self._hear = on_one_pair(meters)
        self.line = Rs485Line(settings, self._listen)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        attributes = termios.tcgetattr(self._slave)
        attributes[4] = attributes[5] = getattr(termios, f"B{settings.baud}")
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._received = bytearray()
        self._received_ns = 0
        self._witness_in, self._witness_out = os.openpty()
        tty.setraw(self._witness_out)
        self._witnessed_ns: int | None = None

    def _listen(self, data: bytes) -> list[Transmission]:
        answers = self._hear(data)
        place = int.from_bytes(data[2:4], "big")
        count = int.from_bytes(data[4:6], "big")
        self.seen.requests.append((self.line.heard_ns, data[0], place, count, bool(answers)))
        return answers

    def serve(self, stop_fd: int) -> None:
        """Until something can be read from `stop_fd`."""
        while True:
            now_ns = time.monotonic_ns()
            for delivery in self.line.advance(now_ns):
                self._received.append(delivery.value)
                self._received_ns = delivery.at_ns
            if self._received and not self.line.is_sending:
                os.write(self._master, self._received)
                self._received.clear()
                self._note(time.monotonic_ns() - self._received_ns)
                if self._witnessed_ns is None:
                    self._witnessed_ns = time.monotonic_ns()
                    os.write(self._witness_in, b"\0")
            if not self._wait(stop_fd):
                return

    def _note(self, late_ns: int) -> None:
        self.seen.deliveries += 1
        self.seen.late_ns += late_ns
        self.seen.late_ns_max = max(self.seen.late_ns_max, late_ns)

    def _note_pty(self, now_ns: int) -> None:
        os.read(self._witness_out, CHUNK_BYTES)
        assert self._witnessed_ns is not None
        late_ns, self._witnessed_ns = now_ns - self._witnessed_ns, None
        self.seen.pty_deliveries += 1
        self.seen.pty_late_ns += late_ns
        self.seen.pty_late_ns_max = max(self.seen.pty_late_ns_max, late_ns)

    def _wait(self, stop_fd: int) -> bool:
        """Until the next thing happens; False to stop."""
        at_ns = self.line.next_ns(characters=TOGETHER)
        timeout_s = None if at_ns is None else max(0, at_ns - time.monotonic_ns() - WATCH_NS) / 1e9
        if timeout_s == 0.0:
            self._take()
            return True
        ready, _, _ = select.select([self._master, self._witness_out, stop_fd], [], [], timeout_s)
        if self._witness_out in ready:
            self._note_pty(time.monotonic_ns())
        if self._master in ready:
            self._take()
        return stop_fd not in ready

    def _take(self) -> None:
        try:
            data = os.read(self._master, CHUNK_BYTES)
        except BlockingIOError:
            return
        self.line.master_sends(time.monotonic_ns(), data)


def _claim_a_core() -> None:
    """As far as we may: the last core, before everybody else. A line that others hold up is measured, and void."""
    try:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except OSError:
        return


def main() -> None:
    """Serve one line as the argument says."""
    asked = json.loads(sys.argv[1])
    settings = SerialSettings(asked["baud"], asked["parity"], 1)
    meters = [
        SimulatedMeter(
            replace(bench_meter(unit, asked["profile"]), serial=None),
            FixedEnergy(1_000_000 * unit, 40_000_000),
            turnaround_ms=asked["turnaround_ms"],
            answers_holes=True,
        )
        for unit in range(1, asked["meters"] + 1)
    ]
    for unit in asked.get("dead", ()):
        meters[unit - 1].faults.append(Fault(Kind.SILENT))
    pair = ExactPair(settings, meters)
    print(pair.path, flush=True)
    _claim_a_core()
    gc.freeze()
    gc.disable()
    pair.serve(sys.stdin.fileno())
    seen = pair.seen
    print(
        json.dumps(
            {
                "late_us": seen.late_ns / max(1, seen.deliveries) / 1000,
                "late_us_max": seen.late_ns_max / 1000,
                "pty_late_us": seen.pty_late_ns / max(1, seen.pty_deliveries) / 1000,
                "pty_late_us_max": seen.pty_late_ns_max / 1000,
                "begun_too_early": pair.line.begun_too_early,
                "collisions": pair.line.collisions,
                "requests": seen.requests,
            }
        )
    )


if __name__ == "__main__":
    main()
