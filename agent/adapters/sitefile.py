"""The site file as a thing that is replaced whole: never half, never without the way back.

Beside `site.toml` lie, for the time of a change, `site.toml.new` (complete and synced before it takes the name) and
`site.toml.applying` (a record of what is going on); `site.toml.before` stays, the text that was replaced last. Each is
made under another name and renamed, so that a crash at any moment leaves either the old text or the new one, and the
record says which of the two was meant:

    record  site.toml   what happened
    none    any         nothing is open
    yes     old text    begun and not replaced yet, or put back and not confirmed yet
    yes     new text    replaced; nobody has confirmed that all is well with it
    yes     another     a person has edited it since

One change at a time: whoever makes one holds a lock on the folder, which ends with the process. The journal is not
touched here. Before this comes `metering-agent apply`; the running agent only looks (`examine`).
"""

import asyncio
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.errors import ConfigError, Fault, RetryLater

EXAMINE_S = 60
"""So long reading a site file may take on a slow gateway."""


@dataclass(frozen=True, slots=True)
class Record:
    """A change that is open: what it was, and what has to be as well afterwards as it was before.

    `before` and `after` are the hex SHA-256 of the two texts, `good` the meters that were good, `exempt` those that
    need not give a reading; `was_connected` says whether the broker was reached.
    """

    before: str
    after: str
    good: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    was_connected: bool = False


class UnderWay(RetryLater):
    """Another command is changing this site file at this moment."""


class SiteFile:
    """One site file and what lies beside it during a change."""

    def __init__(self, path: Path) -> None:
        """`path` may be a link; what it points to is replaced, so that the link stays."""
        self.path = path.resolve()
        self.before = self._beside("before")
        self.staged = self._beside("new")
        self.record_path = self._beside("applying")

    def _beside(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{name}")

    # -- looking

    def sha256(self) -> str | None:
        """Of the text that is there now; None where it cannot be read."""
        try:
            return sha256_of(self.path.read_bytes())
        except OSError:
            return None

    def record(self) -> Record | None:
        """The change that is open, None where there is none."""
        try:
            said = json.loads(self.record_path.read_text("utf-8"))
            return Record(
                str(said["before"]),
                str(said["after"]),
                tuple(map(str, said["good"])),
                tuple(map(str, said["exempt"])),
                was_connected=said["was_connected"] is True,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = "look at site file and agent, then remove it"
            raise ConfigError.of(self.record_path, f"cannot be understood: {error}", remedy) from None

    def is_locked(self) -> bool:
        """Whether a command is making a change at this moment."""
        try:
            with self.locked():
                return False
        except UnderWay:
            return True
        except ConfigError:
            return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one to change this site file. Raises UnderWay, ConfigError where the folder cannot be used."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._not_allowed(error) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise UnderWay(f"another command is changing {self.path} at this moment; wait for it") from None
        finally:
            os.close(folder)

    # -- changing

    def stage(self, text: bytes) -> None:
        """Write the new text beside the site file, with its owner and mode. Raises ConfigError where that is denied."""
        try:
            self._write(self.staged, text)
        except OSError as error:
            self.unstage()
            raise self._not_allowed(error) from None

    def unstage(self) -> None:
        """Take the staged text away."""
        try:
            self.staged.unlink(missing_ok=True)
        except OSError as error:
            raise self._not_allowed(error) from None

    def swap(self, record: Record) -> None:
        """Let the staged text take the place of the site file; the old one stays beside it."""
        try:
            self._replace(self.before, self.path.read_bytes())
            self._replace(self.record_path, json.dumps(asdict(record)).encode() + b"\n")
            self.staged.replace(self.path)
            self._sync_folder()
        except OSError as error:
            raise self._not_allowed(error) from None

    def put_back(self) -> None:
        """The former text becomes the site file again."""
        try:
            self._replace(self.path, self.before.read_bytes())
        except OSError as error:
            raise self._not_allowed(error) from None

    def finish(self) -> None:
        """Nothing is open any more."""
        try:
            self.record_path.unlink(missing_ok=True)
            self._sync_folder()
        except OSError as error:
            raise self._not_allowed(error) from None

    def _replace(self, target: Path, text: bytes) -> None:
        fresh = target.with_name(f"{target.name}.part")
        self._write(fresh, text)
        fresh.replace(target)
        self._sync_folder()

    def _write(self, target: Path, text: bytes) -> None:
        like = self.path.stat()
        target.unlink(missing_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
            os.fchmod(file.fileno(), like.st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _not_allowed(self, error: OSError) -> ConfigError:
        if isinstance(error, PermissionError):
            reason = "this user may not replace the site file in its folder"
            remedy = "apply as the one who owns it, or as root: sudo metering-agent apply ..."
        else:
            reason, remedy = f"cannot be replaced: {error}", "look at the disk and the folder"
        return ConfigError.of(self.path, reason, remedy)


def sha256_of(text: bytes) -> str:
    """Hex SHA-256, as `Site.sha256`."""
    return hashlib.sha256(text).hexdigest()


async def examine(file: Path) -> list[str]:
    """The faults of a site file as the user of this process sees it, in a process of its own: see `settings.apart`.

    That is the very command a person would give, `check`: whether keys can be opened is asked, too. Not a fork: this
    process has threads.
    """
    program = "from agent.cli import main; main()"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, "check", "--json", "--site", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(EXAMINE_S):
            said, complaint = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return [f"{file}: could not be read in {EXAMINE_S} s"]
    try:
        faults = json.loads(said)["faults"]
        return [str(Fault(**each)) for each in faults]
    except (ValueError, KeyError, TypeError):
        return [f"{file}: could not be read: {complaint.decode(errors='replace').strip()[-500:]}"]
