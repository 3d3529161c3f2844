"""What systemd hears, on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.notify import Notifier


class Manager:
    """The listening end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    def hear(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def spoken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, Notifier]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@metering-agent-test-{os.getpid()}"
    manager = Manager("\0" + name[1:] if name.startswith("@") else name)
    yield manager, Notifier({"NOTIFY_SOCKET": name})
    manager.socket.close()


def test_every_word_arrives(spoken: tuple[Manager, Notifier]) -> None:
    manager, notifier = spoken
    notifier.starting(900)
    assert manager.hear() == ["EXTEND_TIMEOUT_USEC=900000000"]
    notifier.ready("26 meters on 3 lines")
    assert manager.hear() == ["READY=1", "STATUS=26 meters on 3 lines"]
    notifier.watchdog()
    assert manager.hear() == ["WATCHDOG=1"]
    notifier.status("1 meter silent")
    assert manager.hear() == ["STATUS=1 meter silent"]
    notifier.stopping()
    assert manager.hear() == ["STOPPING=1"]


def test_a_status_cannot_smuggle_in_another_assignment(spoken: tuple[Manager, Notifier]) -> None:
    manager, notifier = spoken
    notifier.status("meter\nMAINPID=1\x1b[31m " + "x" * 1000)
    (line,) = manager.hear()
    assert line.startswith("STATUS=meter MAINPID=1 [31m xxx")
    assert len(line) == len("STATUS=") + 512


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_outside_systemd_nothing_happens(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*_: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", no_socket)
    notifier = Notifier(environment)
    notifier.ready("x")
    notifier.watchdog()
    notifier.stopping()


def test_a_manager_that_is_gone_is_no_reason_to_stop(
    spoken: tuple[Manager, Notifier], caplog: pytest.LogCaptureFixture
) -> None:
    manager, notifier = spoken
    manager.socket.close()
    notifier.watchdog()
    notifier.watchdog()
    assert caplog.text.count("does not listen") == 1, "said once, not with every watchdog"


def test_a_full_queue_does_not_block(spoken: tuple[Manager, Notifier]) -> None:
    manager, notifier = spoken
    for _ in range(5000):
        notifier.watchdog()
    assert manager.hear() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_interval_is_half_of_what_systemd_allows(
    environment: dict[str, str], expected: float | None
) -> None:
    assert Notifier(environment).watchdog_interval_s() == expected


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert Notifier().watchdog_interval_s() == 1.5
