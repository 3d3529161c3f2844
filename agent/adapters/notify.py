"""Tell systemd how we are: ready, alive, stopping, and one line of status (sd_notify(3)).

A dozen lines instead of a library. Outside systemd, where NOTIFY_SOCKET is not set, nothing happens. A manager that
does not listen is no reason to stop metering: it is logged once, and the next watchdog is tried all the same.

Comes before: `agent.service.supervise`, which knows whether every stage has moved. Comes after: systemd, which restarts
us when WATCHDOG does not come.
"""

import logging
import os
import socket
from collections.abc import Mapping

from agent.service.logline import pairs

_log = logging.getLogger(__name__)

STATUS_SIZE_MAX = 512


class Notifier:
    """Speaks to the service manager that started us, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        name = environment.get("NOTIFY_SOCKET", "")
        # An abstract name is written with @ and begins with a NUL byte. Anything else that is no path is not for us.
        self._address = "\0" + name[1:] if name.startswith("@") else name if name.startswith("/") else None
        self._failed = False

    def starting(self, more_s: int) -> None:
        """The start goes on: EXTEND_TIMEOUT_USEC. It fails if the next word does not come within so many seconds."""
        self._send([f"EXTEND_TIMEOUT_USEC={more_s * 1_000_000}"])

    def ready(self, status: str = "") -> None:
        """The start is over: READY=1."""
        self._send(["READY=1", *_status(status)])

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """We are alive: WATCHDOG=1. Only for a process whose stages have all moved since the last one."""
        self._send(["WATCHDOG=1"])

    def frozen(self) -> None:
        """A stage hangs: WATCHDOG=trigger, so that the manager replaces us now as if the time were over."""
        self._send(["WATCHDOG=trigger"])

    def stopping(self, status: str = "") -> None:
        """The orderly end begins: STOPPING=1."""
        self._send(["STOPPING=1", *_status(status)])

    def watchdog_interval_s(self) -> float | None:
        """How often `watchdog` must be called: half of the time after which systemd kills us. None without watchdog."""
        try:
            limit_us = int(self._environment.get("WATCHDOG_USEC", ""))
            process = int(self._environment.get("WATCHDOG_PID", os.getpid()))
        except ValueError:
            return None
        # The variables are inherited; they are meant for one process.
        if limit_us <= 0 or process != os.getpid():
            return None
        return limit_us / 2 / 1_000_000

    def _send(self, lines: list[str]) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)  # a full queue must not hold up the event loop
                sock.connect(self._address)
                sock.send("\n".join(lines).encode())
        except OSError as error:
            if not self._failed:
                _log.warning("the service manager does not listen", extra=pairs("M1005", reason=error))
            self._failed = True
        else:
            self._failed = False


def _status(text: str) -> list[str]:
    """STATUS= with one line of printable text: a line break would begin another assignment."""
    line = "".join(sign if sign.isprintable() else " " for sign in text).strip()
    return [f"STATUS={line[:STATUS_SIZE_MAX]}"] if line else []
