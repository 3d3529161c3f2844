"""A disk whose every sync takes ten seconds: the bus must not notice, and a service manager must see no hang."""

import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.installation import PATIENCE_S, Installation
from tests.lab.tracing import SYNCS, injected, moments_of, strace

WATCHDOG_S = 60
"""As in the unit file."""
SYNC_S = 10
"""What a worn flash card takes at worst (F50)."""
QUICK_SYNCS = 8
"""A start has fewer; what they cost is no matter of the bus, which is not open yet."""


class Manager:
    """The service manager's end of the notify socket: when the agent gave a sign of life."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.heard: list[tuple[float, str]] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes an agent speak to it."""
        return {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}

    def longest_silence_s(self) -> float:
        """Between two signs of life, the last of which is now."""
        signs = [at for at, text in self.heard if text in ("READY=1", "WATCHDOG=1")]
        return max(
            after - before for before, after in zip(signs, [*signs[1:], time.monotonic()], strict=True)
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while text := self._socket.recv(4096).decode():
            self.heard.append((time.monotonic(), text))


@dataclass(frozen=True, slots=True)
class Bus:
    """What was asked on one line: how often in a second, and the longest time without a question."""

    per_second: float
    longest_pause_s: float


def bus_of_a_life(lab: Installation, manager: Manager, *, sync_s: int, seconds: int) -> dict[str, Bus]:
    """The lines of an agent whose every sync takes so long, as its own writes to them show; then it is killed."""
    expressions = [f"trace={SYNCS},write,sendto"]
    if sync_s:
        expressions.append(f"inject={SYNCS}:delay_enter={sync_s * 1_000_000}:when={QUICK_SYNCS}+1")
    manager.heard.clear()
    lab.start_agent(
        under=strace(lab.folder, *expressions, more=("-yy", "-ttt")), environment=manager.environment
    )
    lab.wait_until(lambda: any(text == "READY=1" for _, text in manager.heard), PATIENCE_S, "it is ready")
    if sync_s:
        lab.wait_until(lambda: injected(lab.folder) > 0, PATIENCE_S, "a sync takes long")
    else:
        lab.await_cuts(1)
    began = time.time()
    time.sleep(seconds)
    ended = time.time()
    lab.kill("agent")
    gateway = re.search(r"^port = (\d+)", lab.site.read_text(), re.MULTILINE)
    assert gateway is not None
    return {
        "hall-a": _bus(lab, r"write\(\d+<[^>]*/pts/", began, ended),
        "gateway-1": _bus(lab, rf"sendto\(\d+<TCP:\[[^]]*->127\.0\.0\.1:{gateway[1]}\]>", began, ended),
    }


def _bus(lab: Installation, pattern: str, began: float, ended: float) -> Bus:
    moments = [at for at in moments_of(lab.folder, pattern) if began <= at <= ended]
    every = [began, *moments, ended]
    pauses = [after - before for before, after in pairwise(every)]
    return Bus(len(moments) / (ended - began), max(pauses))
