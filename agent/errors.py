"""Everything that can go wrong, sorted by what the caller does next.

    MeteringError
    ├── ConfigError          a person must edit a file; never retried
    ├── RetryLater           the world is briefly unavailable; waiting loses nothing
    │   ├── MeterSilent        no answer within the reply time
    │   ├── MeterBusy          the meter asked for time (exceptions 5 and 6)
    │   ├── FrameDamaged       an answer came that cannot be trusted: checksum, length, unit or function
    │   ├── LineDown           the adapter, port or gateway connection is gone
    │   ├── UplinkDown         the broker is away or did not acknowledge in time
    │   ├── JournalFull        no room for a write; nothing was changed
    │   ├── JournalHeld        another process has the journal open
    │   └── OpeningEnded       the journal's opening was broken off, because the agent is to stop
    ├── Refused              the other side understood and said no; asking again at once is useless
    │   ├── MeterRefused       Modbus exception 1, 2, 3, 4, 10 or 11
    │   └── UplinkRefused      an MQTT reason code that means "not delivered"
    └── JournalDamaged       stored data fails its own check: stop rather than guess
        ├── JournalFailed      a read, a write or a sync of it failed: only a new process knows what the file holds
        └── JournalDoubtful    a question was refused in a way that proves nothing of the file: it has to be judged

Foreign exceptions end at the adapter. A message names the place, the fact and the remedy.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class MeteringError(Exception):
    """Root of all errors this project raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a person must put right in a file.

    `line` is 1-based and None where no line can be named (a missing file, a missing table).
    """

    file: str
    line: int | None
    key: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{place}  {self.key}: {self.reason}" if self.key else f"{place}  {self.reason}"
        return f"{text}; {self.remedy}" if self.remedy else text


class ConfigError(MeteringError):
    """Files that a person must edit; carries every fault that was found, not only the first."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        lines = [str(fault) for fault in self.faults]
        lines.append(f"{count} problem{'' if count == 1 else 's'}, nothing was started")
        super().__init__("\n".join(lines))

    @classmethod
    def of(
        cls, file: object, reason: str, remedy: str = "", *, line: int | None = None, key: str = ""
    ) -> "ConfigError":
        """One fault of one `file`, a path or the name of what is no file; of its line and key where they are known."""
        return cls([Fault(str(file), line, key, reason, remedy)])

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[tuple[Fault, ...]]]:
        """Faults found in another process arrive as faults."""
        return ConfigError, (self.faults,)


class RetryLater(MeteringError):
    """The world is briefly unavailable; waiting loses nothing."""


class MeterSilent(RetryLater):
    """No answer within the reply time."""


class MeterBusy(RetryLater):
    """The meter answered that it needs time (Modbus exceptions 5 and 6)."""


class FrameDamaged(RetryLater):
    """An answer came, but its checksum, length, unit or function is not the one that was asked for."""


class LineDown(RetryLater):
    """The adapter, the port or the connection to the gateway is gone."""


class UplinkDown(RetryLater):
    """The broker is away, or did not acknowledge in time."""


class JournalFull(RetryLater):
    """No room for a write. Nothing was changed: the next interval that can be written spans this one."""


class JournalUnusable(RetryLater):
    """The journal's file cannot be opened or written, and nothing says that it is damaged: rights, memory, mounts."""


class JournalHeld(RetryLater):
    """Another process has the journal open; only one agent may run on it."""


class OpeningEnded(RetryLater):
    """The opening of the journal was broken off because the agent is to stop; the next start begins it anew."""


class Refused(MeteringError):
    """The other side understood and said no; asking again at once is useless."""


class MeterRefused(Refused):
    """A Modbus exception reply; `code` is its exception code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class UplinkRefused(Refused):
    """An MQTT reason code that means the message was not delivered; `code` is the reason code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class JournalDamaged(MeteringError):
    """Stored data fails its own check: stop rather than guess."""


class JournalFailed(JournalDamaged):
    """The disk failed under the journal; what is stored may be sound, and only a new process can tell."""


class JournalDoubtful(JournalDamaged):
    """The database refused a question for a reason that proves nothing: rot in its schema, or a fault of this program.

    The next start judges the whole file; a sound one is never replaced.
    """
