"""Says in the log, once a day, that a certificate of ours nears its end: in time for a person to ask for another.

`status` says the same at any moment; the log is what is read where nobody asks. Used by `supervisor`, which looks every
hour, also while a connection stands for months.
"""

import logging
from pathlib import Path

from agent.adapters.keys import certificate_dates
from agent.adapters.uplink.address import TlsFiles
from agent.errors import ConfigError
from agent.service.logline import pairs

DAY_MS = 86_400_000
WARN_DAYS = 30
URGENT_DAYS = 3
LOOK_S = 3600.0

_log = logging.getLogger(__name__)


class ExpiryWatch:
    """Remembers what was said today."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = [path for path in (files.certificate, files.ca_file) if path is not None]
        self._said: dict[Path, int] = {}

    def look(self, now_ms: int) -> None:
        """Warn of every certificate that ends within 30 days of `now_ms` (UTC ms), or has; once a UTC day for each."""
        for path in self._files:
            left_days = _days_left(path, now_ms)
            if left_days is None or left_days >= WARN_DAYS or self._said.get(path) == now_ms // DAY_MS:
                continue
            self._said[path] = now_ms // DAY_MS
            if left_days >= URGENT_DAYS:
                _log.warning("a certificate nears its end", extra=pairs("M1414", file=path, days=left_days))
            else:
                _log.error(
                    "a certificate ends within days, or has ended",
                    extra=pairs("M1415", file=path, days=left_days),
                )


def _days_left(path: Path, now_ms: int) -> int | None:
    """Whole days until it ends, negative once it has; None where the file cannot be read, which connecting says."""
    try:
        return (certificate_dates(path).not_after_ms - now_ms) // DAY_MS
    except (ConfigError, OSError):
        return None
