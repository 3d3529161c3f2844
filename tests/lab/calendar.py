"""`metering-sim` with a wall clock so many days ahead as a file says, which may say more while it runs.

For the platform, whose time is how long ago something was acknowledged. libfaketime would do for it, if paho did not
call `time.sleep`, which fails under libfaketime (errors of the platform, not of the agent, in the first such campaign).
"""

import os
import time
from pathlib import Path
from unittest import mock

from simulators.cli import main as simulate

FILE = "LAB_CALENDAR"
"""The environment variable that names the file."""
_DAY_NS = 86_400_000_000_000


def turn(file: Path, days: int) -> None:
    """Let so many days pass; half a number must not be read in between."""
    new = file.with_suffix(".new")
    new.write_text(str(_days(file) + days))
    new.replace(file)


def _days(file: Path) -> int:
    return int(file.read_text()) if file.exists() else 0


def main() -> None:
    """Run the command under that clock."""
    file, now_ns = Path(os.environ[FILE]), time.time_ns

    def later_ns() -> int:
        return now_ns() + _days(file) * _DAY_NS

    with mock.patch.object(time, "time_ns", later_ns):
        simulate()
