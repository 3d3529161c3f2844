"""Telling the service manager how we are: READY, STATUS, WATCHDOG, STOPPING (sd_notify(3)).

A datagram to the Unix socket that `NOTIFY_SOCKET` names; without one nothing is sent. Fifteen lines of protocol are not
worth a dependency.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class SystemdNotifier:
    """Speaks to the socket of the environment it was made in."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with @ and addressed with a NUL byte.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._watchdog_s = _watchdog_s(environment)

    def ready(self) -> None:
        """Start-up is finished."""
        self._say("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._say("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """Still making progress."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """The stop has begun."""
        self._say("STOPPING=1")

    def watchdog_interval_s(self) -> float | None:
        """Within how many seconds `watchdog` has to be called; None if nobody waits for it."""
        return self._watchdog_s

    def _say(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("the service manager could not be told %s: %s", message.partition("=")[0], error)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC in seconds, if it is meant for this process."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000
