"""What the agent finds around it when somebody asks how it is: journal file, disk, certificates, memory.

Every look is short and nothing is kept. What cannot be looked at is a value that says so, never an exception: a status
that fails because the thing it should report on is broken would be of no use.

Comes before: `agent.service.overview`, through a function that `wiring` hands over.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.adapters.keys import certificate_dates
from agent.errors import ConfigError
from agent.service.premises import Certificate, Surroundings


def look_around(
    journal: Path, certificates: Mapping[str, Path], web_problem: Callable[[], str | None]
) -> Surroundings:
    """Look now; `certificates` are PEM files by what they are for (`client`, `ca`)."""
    return Surroundings(
        journal_bytes=sum(_size(journal.with_name(journal.name + suffix)) for suffix in ("", "-wal")),
        free_bytes=_free_bytes(journal.parent),
        certificates=tuple(_certificate(role, path) for role, path in certificates.items()),
        web_problem=web_problem(),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _certificate(role: str, path: Path) -> Certificate:
    try:
        dates = certificate_dates(path)
    except ConfigError as error:
        return Certificate(role, str(path), None, None, "; ".join(fault.reason for fault in error.faults))
    return Certificate(role, str(path), dates.not_before_ms, dates.not_after_ms, None)
