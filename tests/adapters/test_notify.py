"""What the service manager hears, on a real socket."""

import os
import socket
from pathlib import Path

import pytest

from agent.adapters.notify import SystemdNotifier


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_every_message_arrives(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "file" else f"@metering-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if kind == "abstract" else name)
        manager.settimeout(5)
        notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
        notifier.ready()
        notifier.status("two\nlines")
        notifier.watchdog()
        notifier.stopping()
        assert [manager.recv(100) for _ in range(4)] == [
            b"READY=1",
            b"STATUS=two lines",
            b"WATCHDOG=1",
            b"STOPPING=1",
        ]


def test_without_a_service_manager_nothing_happens() -> None:
    SystemdNotifier({}).ready()


def test_a_service_manager_that_is_gone_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).watchdog()
    assert "could not be told WATCHDOG" in caplog.text


def test_the_watchdog_interval_is_ours_only_with_our_pid() -> None:
    mine = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    assert SystemdNotifier(mine).watchdog_interval_s() == 60
    assert SystemdNotifier(mine | {"WATCHDOG_PID": "1"}).watchdog_interval_s() is None
    assert SystemdNotifier({}).watchdog_interval_s() is None
