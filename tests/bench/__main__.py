"""`make bench`: prints every figure of the bus with what it has to be. Exit code 1 if one is missed.

    python -m tests.bench [--quick] [--runs N] [--patience SECONDS] [SECTION ...]

Sections: rtu, dead, guard, planner, doctor, memory, adapter, tcp, flash, retell, delivery. Quick: one run a row
and a few rows, to see that it works.
"""

import argparse
import logging
import signal
import sys

from tests.bench import report
from tests.bench.sections import SECTIONS


def main() -> int:
    """Run the sections that were asked for, all by default."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts, on real lines")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to go on with a row while the machine is busy"
    )
    parser.add_argument("section", nargs="*", choices=[[], *SECTIONS], default=[])
    asked = parser.parse_args()
    logging.disable()
    # A bench that is told to end takes its agents and lines with it: an agent left behind would open the next pty.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(report.machine())
    for name in asked.section or SECTIONS:
        report.heading(name)
        runs = 1 if asked.quick else asked.runs
        SECTIONS[name](quick=asked.quick, runs=runs, patience_s=asked.patience)
    return report.verdict()


if __name__ == "__main__":
    sys.exit(main())
