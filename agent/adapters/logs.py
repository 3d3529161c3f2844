"""Log lines that a person can read, a script can take apart, and nobody can forge.

One record is one line on stderr. Under systemd it begins with `<N>`, which the journal takes for the priority;
elsewhere with the UTC time and the level. Then come the message's id, the logger, the message, and pairs `key=value`:

    2026-11-22T08:15:00.123Z WARNING M1203 agent.service.poll: the meter does not answer  meter=reflow-1 line=hall-a

Id and pairs are given as `extra=pairs("M1203", meter=..., line=...)`. The ids are stable: what each means and what to
do is in the catalogue beside this module, LOGS.md, and `journalctl -g M1203` finds them. They are not systemd's own
MESSAGE_ID (128 bits in a field of its own), which stderr cannot carry and no person can say over the telephone.

Control characters, line separators and anything else that does not print are escaped, whether they come from a meter, a
file name or a traceback: a value can neither begin a line of its own nor move the cursor of a terminal. Values whose
name speaks of a secret are never printed, and neither are PEM blocks of private keys, wherever they stand.

Comes before: every module, through the standard library's `logging`. Comes after: the journal of systemd.
"""

import datetime
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TextIO

from agent.service.logline import pairs

__all__ = ["LINE_SIZE_MAX", "LineFormatter", "pairs", "printable", "priority", "set_up_logging"]

LINE_SIZE_MAX = 8192
HIDDEN = "(hidden)"

# What systemd's journal calls the levels (syslog(3)).
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
_SECRET_NAMES = re.compile(r"password|passphrase|secret|token|credential|private|\bpin\b", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")
_PLAIN_VALUE = re.compile(r"[^\s\"'=\\]+")


def set_up_logging(
    level: str | int = logging.INFO,
    *,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Send everything to `stream` (stderr), one line a record, and warnings of Python as well.

    Called once, by the command line. `level` is a name or number of the standard library; ValueError for another name.
    """
    target = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(LineFormatter(for_journal=_is_journal(target, environment)))
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    # A line that cannot be written (a closed pipe, a full disk) is lost; a traceback for each would be lost as well.
    logging.raiseExceptions = False


class LineFormatter(logging.Formatter):
    """Makes one safe line of a record."""

    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end, at most 8 KiB."""
        parts = [self._head(record)]
        message_id = getattr(record, "id", None)
        if message_id is not None:
            parts.append(f"{printable(str(message_id))} ")
        parts += [f"{record.name}: ", printable(_message(record))]
        values = getattr(record, "pairs", None)
        if isinstance(values, Mapping) and values:
            parts.append("  " + " ".join(_pair(str(key), value) for key, value in values.items()))
        if record.exc_info:
            parts.append("  exception=" + _quoted(self.formatException(record.exc_info)))
        if record.stack_info:
            parts.append("  stack=" + _quoted(record.stack_info))
        line = "".join(parts)
        return line if len(line) <= LINE_SIZE_MAX else line[: LINE_SIZE_MAX - 3] + "..."

    def _head(self, record: logging.LogRecord) -> str:
        if self._for_journal:
            return f"<{priority(record.levelno)}>"
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z {record.levelname} "


def priority(level: int) -> int:
    """The journal's priority (0 to 7, 3 is an error) of a level of the standard library."""
    return next(number for least, number in _PRIORITIES if level >= least)


def printable(text: str) -> str:
    """The text with everything escaped that does not print, and without private keys and passwords in addresses."""
    text = _USER_INFO.sub(HIDDEN, _PRIVATE_KEY.sub(HIDDEN, text))
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return (
        sign.encode("unicode_escape").decode("ascii")
        if ord(sign) < 0xD800 or ord(sign) > 0xDFFF
        else "\ufffd"
    )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError) as error:  # a wrong number of arguments must not cost the line
        return f"{record.msg!s} {record.args!r} (cannot be put together: {error})"


def _pair(key: str, value: object) -> str:
    return f"{printable(key)}={HIDDEN if _SECRET_NAMES.search(key) else _quoted(str(value))}"


def _quoted(text: str) -> str:
    """The value as it is where it is one plain word, otherwise in double quotes."""
    safe = printable(text.replace("\\", "\\\\"))
    if _PLAIN_VALUE.fullmatch(text) and safe == text:
        return text
    return '"' + safe.replace('"', '\\"') + '"'


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether `stream` goes to systemd's journal: JOURNAL_STREAM names its device and inode.

    The variable alone is not enough, because it is inherited by whatever is started from a service.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
