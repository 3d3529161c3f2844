"""Gathers every fault of a site file before anything is refused.

A person who wires 26 meters in a morning wants one list, not 26 runs. The checks add to a `FaultList` and go on; each
fault is named by the key a person would look for (`meters.reflow-1.address`) and the line it is on.
"""

from collections.abc import Mapping

from agent.errors import ConfigError, Fault

KeyPath = tuple[str | int, ...]
"""Where a value is in the file: names of tables and keys, and the 0-based places in lists of tables."""


NAME_MAX = 200
"""Longest name of a key in a message; a quoted TOML key may hold anything, line breaks included."""


class FaultList:
    """The faults found so far, in one file.

    `lines` gives the 1-based line of a key path where it is known; `names` gives the id that a person gave to the
    n-th table of a list, such as `names[("meters", 3)] == "reflow-1"`.
    """

    def __init__(self, file: str, lines: Mapping[KeyPath, int], names: Mapping[KeyPath, str]) -> None:
        self._file = file
        self._lines = lines
        self._names = names
        self._faults: list[Fault] = []

    def add(self, path: KeyPath, reason: str, remedy: str = "") -> None:
        """Add one fault of the value at `path`."""
        self._faults.append(Fault(self._file, self.line_of(path), self.name_of(path), reason, remedy))

    def adopt(self, error: ConfigError) -> None:
        """Add the faults of another file, such as a profile."""
        self._faults.extend(error.faults)

    def line_of(self, path: KeyPath) -> int | None:
        """The line of a key; for a key that is missing, the line of the table it belongs to."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None

    def name_of(self, path: KeyPath) -> str:
        """The key as a person would say it."""
        words = []
        for place, part in enumerate(path):
            if isinstance(part, int):
                words.append(self._names.get(path[: place + 1], f"#{part + 1}"))
            else:
                words.append(part)
        name = ".".join(words)
        return "".join(sign if sign.isprintable() else "?" for sign in name)[:NAME_MAX]

    def __bool__(self) -> bool:
        return bool(self._faults)

    def error(self) -> ConfigError:
        """All faults as one error: those without a line first, then in the order of the file."""
        return ConfigError(sorted(self._faults, key=lambda fault: (fault.file, fault.line or 0)))
