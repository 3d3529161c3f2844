"""Logging to stderr, one line a record: for systemd's journal with a priority, for a terminal with time and level.

Values from outside (names, replies, reason texts of a broker) can reach a message, so control characters are escaped:
nobody outside can forge a line. Secrets never come here.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Mapping

_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OneLine(logging.Formatter):
    """A record as one line; a traceback, which only a fault of this program has, keeps its lines, indented."""

    def __init__(self, *, for_systemd: bool) -> None:
        super().__init__()
        self._for_systemd = for_systemd

    def format(self, record: logging.LogRecord) -> str:
        text = escaped(record.getMessage())
        if record.exc_info:
            text += "\n" + "\n".join(
                f"    {escaped(line)}" for line in self.formatException(record.exc_info).splitlines()
            )
        if self._for_systemd:
            prefix = f"<{_PRIORITY.get(record.levelno, 6)}>"
            return "\n".join(prefix + line for line in text.splitlines())
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{moment}Z {record.levelname.lower():8} {text}"


def escaped(text: str) -> str:
    """Control characters as \\x.. or \\u...., so that a message is one line and moves no cursor."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def set_up(environment: Mapping[str, str] = os.environ, *, level: int = logging.INFO) -> None:
    """Send this program's records to stderr; warnings and worse of libraries too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(for_systemd="JOURNAL_STREAM" in environment))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("agent").setLevel(level)
