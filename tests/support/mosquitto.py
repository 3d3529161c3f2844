"""A real mosquitto on a loopback port of its own, for tests: start, stop, kill, freeze, come back on the same port.

    with Mosquitto(persistence=True, users={"gw01": "secret"}) as broker:
        connect(broker.url)
        broker.kill()          # as a power cut would: SIGKILL, whatever it had not stored is gone
        broker.start()         # the same port, the same folder

Every attribute that goes into the configuration may be changed before a `start` or `restart`. Where mosquitto is to be
had is the business of `tests.support.programs`.
"""

import base64
import hashlib
import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from simulators.ports import free_port
from tests.support import processes
from tests.support.programs import Unavailable, find_mbpoll, find_mosquitto

__all__ = ["Mosquitto", "Unavailable", "find_mbpoll", "find_mosquitto"]

_READY_LIMIT_S = 60
_FIRST_START_TRIES = 5
_PASSWORD_ROUNDS = 101  # what mosquitto_passwd 2.0 uses; strength is no concern on loopback


class Mosquitto:
    """One broker. Use it as a context manager, or call `start` and, at the end, `close`.

    `persistence` keeps sessions and messages on disk in `directory`, written on every change. `users` maps user
    names to passwords; None lets everybody in. `acl` is the text of an ACL file. `extra` are lines for the
    configuration file; they follow the listener and so may set up TLS for it. Without a `directory` a temporary
    one is made and removed.
    """

    def __init__(
        self,
        *,
        persistence: bool = False,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        extra: Sequence[str] = (),
        directory: Path | None = None,
        port: int | None = None,
    ) -> None:
        self.persistence = persistence
        self.users = users
        self.acl = acl
        self.extra = tuple(extra)
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix="mosquitto-")
        self.directory = Path(self._temporary.name) if self._temporary else Path(str(directory))
        self._port_is_given = port is not None
        self.port = port if port is not None else free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_run = False

    @property
    def url(self) -> str:
        """Where the broker listens, as the site file names it."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process is alive (a frozen one is)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running broker. Raises RuntimeError when it does not run."""
        if self._process is None or not self.running:
            raise RuntimeError("mosquitto is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that this broker has said so far, over all its starts."""
        file = self.directory / "mosquitto.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self) -> Self:
        """Start and wait until the port answers.

        Raises Unavailable where there is no mosquitto on this machine, RuntimeError with its log when it does not
        start.
        """
        if self.running:
            raise RuntimeError("mosquitto runs already")
        program = find_mosquitto()
        if program is None:
            raise Unavailable("mosquitto is neither installed nor unpacked; `make test` fetches it")
        tries = 1 if self._has_run or self._port_is_given else _FIRST_START_TRIES
        for left in reversed(range(tries)):
            said_before = len(self.log)
            self._process = processes.start(
                [program, "-c", self._write_configuration()], self.directory / "mosquitto.log"
            )
            if self._answers(said_before):
                self._has_run = True
                return self
            self.kill()
            if left:  # somebody was quicker to take the port
                self.port = free_port()
        raise RuntimeError(f"mosquitto did not start on port {self.port}:\n{self.log}")

    def stop(self) -> None:
        """SIGTERM: the broker says goodbye to its clients and stores its state."""
        if self._process is not None:
            self.thaw()
            processes.stop(self._process)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: nothing is said and nothing is stored."""
        if self._process is not None:
            processes.kill(self._process)
            self._process = None

    def restart(self) -> None:
        """Stop, then start on the same port with the configuration as it is now."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        if self.running:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop, and remove the folder if it was a temporary one."""
        self.stop()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self, said_before: int) -> bool:
        """Wait for the line that follows the listeners; a port that answers could be somebody else's."""
        deadline = time.monotonic() + _READY_LIMIT_S
        while self.running and time.monotonic() < deadline:
            if re.search(r"^\d+: mosquitto version \S+ running$", self.log[said_before:], flags=re.MULTILINE):
                return True
            time.sleep(0.01)
        return False

    def _write_configuration(self) -> Path:
        lines = ["per_listener_settings false", "log_dest stderr", "log_type all", "connection_messages true"]
        user = _user_name()
        if user:  # as root it would otherwise become a user that only an installed package creates
            lines.append(f"user {user}")
        lines.append(f"persistence {'true' if self.persistence else 'false'}")
        if self.persistence:
            lines += [
                f"persistence_location {self.directory}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        lines.append(f"allow_anonymous {'true' if self.users is None else 'false'}")
        if self.users is not None:
            lines.append(f"password_file {self._write_passwords(self.users)}")
        if self.acl is not None:
            acl = self.directory / "acl"
            acl.write_text(self.acl)
            lines.append(f"acl_file {acl}")
        lines += [f"listener {self.port} 127.0.0.1", *self.extra]
        file = self.directory / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n")
        return file

    def _write_passwords(self, users: Mapping[str, str]) -> Path:
        """The format of mosquitto_passwd 2.0 (`$7$`: PBKDF2 with SHA-512), which is not on every machine."""
        file = self.directory / "passwords"
        lines = []
        for user, password in users.items():
            salt = os.urandom(12)
            digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PASSWORD_ROUNDS)
            encoded = "$".join(base64.b64encode(part).decode() for part in (salt, digest))
            lines.append(f"{user}:$7${_PASSWORD_ROUNDS}${encoded}\n")
        file.write_text("".join(lines))
        file.chmod(0o600)
        return file


def _user_name() -> str | None:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number without a name
        return None
