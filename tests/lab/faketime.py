"""libfaketime: a wall clock of its own for one process, which a file steps while it runs."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.support.programs import library


class FakedClock:
    """The wall clock of who runs in `environment`: the machine's and an offset. Monotonic clocks stay as they are."""

    def __init__(self, file: Path, offset_s: int = 0) -> None:
        self._file = file
        self.step(offset_s)

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes a process see it."""
        return {
            **os.environ,
            "LD_PRELOAD": str(library("faketime", "libfaketime.so.1")),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, offset_s: int) -> None:
        """From now on it is so many seconds ahead of the machine, or behind it."""
        self.offset_s = offset_s
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}")
        new.replace(self._file)  # a clock read in between must not find half a number
