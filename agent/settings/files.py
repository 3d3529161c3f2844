"""The files that a site file names: are they there, may we read them, and may nobody else read the secret ones.

Checked before anything starts, because a missing key that is found at the first boundary costs a morning.
"""

import stat
from os import R_OK, access
from pathlib import Path

from agent.settings.faultlist import FaultList, KeyPath

SECRET_MODE_MAX = 0o600
"""Widest permissions of a file with a secret."""

_PASSWORD_MAX = 1_000


def needed_file(base: Path, name: str, path: KeyPath, faults: FaultList, remedy: str) -> Path | None:
    """The path of a file that has to exist; reports and returns None where it does not or cannot be read."""
    file = base / name
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        faults.add(path, f"there is no file {file}", remedy)
        return None
    except OSError as error:
        faults.add(path, f"{file} cannot be read: {error.strerror}", "check its name and who owns it")
        return None
    if not stat.S_ISREG(mode):
        faults.add(path, f"{file} is not a file", remedy)
        return None
    if not access(file, R_OK):
        faults.add(
            path, f"{file} may not be read by this user", "check who owns it, or run as the agent's user"
        )
        return None
    return file


def secret_file(base: Path, name: str, path: KeyPath, faults: FaultList, remedy: str) -> Path | None:
    """The same for a file that holds a secret, which nobody but its owner may read."""
    file = needed_file(base, name, path, faults, remedy)
    if file is None:
        return None
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & ~SECRET_MODE_MAX:
        faults.add(
            path, f"{file} is readable or writable by others (mode {mode:04o})", f"run: chmod 600 {file}"
        )
        return None
    return file


def password_file(base: Path, name: str, path: KeyPath, faults: FaultList, remedy: str) -> Path | None:
    """The same for a file with a password, which is text."""
    file = secret_file(base, name, path, faults, remedy)
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8") as text:
            password = text.read(_PASSWORD_MAX + 1).strip()
    except (OSError, UnicodeDecodeError):
        password = ""
    if not 0 < len(password) <= _PASSWORD_MAX:
        faults.add(path, f"{file} holds no password: it is empty, no UTF-8 text, or too long", remedy)
        return None
    return file


def needed_directory(base: Path, name: str, path: KeyPath, faults: FaultList) -> Path | None:
    """The path of a folder that has to exist; reports and returns None where it does not."""
    folder = base / name
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        faults.add(path, f"there is no folder {folder}", f"run: mkdir -p {folder}")
        return None
    except OSError as error:
        faults.add(path, f"{folder} cannot be used: {error.strerror}", "check its name and who owns it")
        return None
    if not stat.S_ISDIR(mode):
        faults.add(path, f"{folder} is not a folder", "name a folder")
        return None
    return folder
