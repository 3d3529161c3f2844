"""Templates and factor sets from their folder: each checked against the lock before a figure is taken from it.

`config/factors` is shipped; a grid company keeps a folder of its own. `locked.json` names every document with its
SHA-256. Before this come the files, after it `agent.carbon.template`.
"""

import json
from pathlib import Path

from agent.carbon.factors import Factor
from agent.carbon.template import DocumentError, Locked, Template, canonical, factors_of, sha256_of
from agent.errors import ConfigError
from agent.resources import config_path

LOCKS = "locked.json"
TEMPLATE = "electricity-meter.1.json"
ELECTRICITY = "cn-electricity-footprint.1.json"
SIZE_MAX = 4_000_000


def open_locked(path: Path) -> Locked:
    """Read one document and check it against the lock beside it.

    Raises:
        ConfigError: it cannot be read, is not locked, or one byte of it was changed.
    """
    locks = locks_beside(path)
    try:
        return Locked.opened(path.name, _bytes(path), locks.get(path.name))
    except DocumentError as error:
        raise ConfigError.of(path, str(error)) from None


def open_template(path: Path | None = None) -> Template:
    """A template, the shipped one unless another is named. Raises ConfigError."""
    path = path or config_path("factors", TEMPLATE)
    try:
        return Template.of(open_locked(path))
    except DocumentError as error:
        raise ConfigError.of(path, str(error)) from None


def open_factors(path: Path | None = None) -> tuple[Locked, dict[str, Factor]]:
    """A factor set, the shipped one of electricity unless another is named. Raises ConfigError."""
    path = path or config_path("factors", ELECTRICITY)
    locked = open_locked(path)
    try:
        return locked, factors_of(locked)
    except DocumentError as error:
        raise ConfigError.of(path, str(error)) from None


def lock(path: Path) -> str:
    """Put a document into its canonical form and lock it under its name; gives the SHA-256.

    Raises:
        ConfigError: it is not JSON, or the name is locked for other bytes: a change is a new version, so a new name.
    """
    try:
        document = json.loads(_bytes(path).decode("utf-8-sig"))
        if not isinstance(document, dict):
            raise ValueError("the top level is not an object")
        data = canonical(document)
    except (ValueError, RecursionError) as error:
        raise ConfigError.of(path, f"cannot be locked: {error}") from None
    locks, found = locks_beside(path), sha256_of(data)
    if locks.get(path.name, found) != found:
        raise ConfigError.of(
            path, "is locked with another content", "give the new version a new name and a later valid_from"
        )
    path.write_bytes(data)
    path.with_name(LOCKS).write_bytes(canonical({"kind": "locks", "files": {**locks, path.name: found}}))
    return found


def locks_beside(path: Path) -> dict[str, str]:
    """The locks of a document's folder, by file name. Raises ConfigError for a lock file that is damaged."""
    file = path.with_name(LOCKS)
    if not file.exists():
        return {}
    try:
        files = json.loads(_bytes(file).decode("utf-8"))["files"]
        return {str(name): str(hash_) for name, hash_ in files.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError.of(
            file, f"is not a list of locks: {error!r}", "restore it from where the locks are kept"
        ) from None


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError.of(
            path, f"cannot be read: {error.strerror}", "check its name and who owns it"
        ) from None
    if len(data) > SIZE_MAX:
        raise ConfigError.of(path, "is larger than 4 MB")
    return data
