"""Which site file was applied last, kept outside the journal.

An old copy of the journal believes in an old site file. This one line beside it tells the two apart, so that nothing is
closed under a descriptor that is no longer true (wire format, section 6, "Limit").
"""

import os
from pathlib import Path


def _file_beside(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.applied")


def read_applied(journal: Path) -> str | None:
    """Hex SHA-256 of the site file applied last, None if nobody wrote it down."""
    try:
        return _file_beside(journal).read_text("ascii").strip() or None
    except FileNotFoundError:
        return None


def write_applied(journal: Path, site_sha256: str) -> None:
    """Note it, durably; nothing is written where it says so already."""
    if read_applied(journal) == site_sha256:
        return
    target = _file_beside(journal)
    fresh = target.with_name(f"{target.name}.new")
    with fresh.open("w", encoding="ascii") as file:
        file.write(f"{site_sha256}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
