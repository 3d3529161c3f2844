"""A headless Chromium, driven over its DevTools pipe with nothing but the standard library.

    with Browser(folder) as browser:
        browser.open(page)
        browser.give_files("#files", [evidence])
        browser.wait("document.documentElement.dataset.state === 'done'")

The protocol goes over two pipes (file descriptors 3 and 4 of the browser), one JSON text after the other with a zero
byte between them: no port, no driver program. Everything the page asks for is noted in `requests`.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import programs

_FLAGS = (
    "--headless",
    "--no-sandbox",  # for the tests only: as root Chromium has no other way
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--window-size=1100,900",
)
_STARTER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE_S = 90


class Browser:
    """One browser with one page. `requests` are the addresses that the page has asked for since `open`."""

    def __init__(self, *, language: str = "en-US") -> None:
        self.requests: list[str] = []
        self.console: list[str] = []
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        self._number = 0
        self._buffer = b""
        self._session = ""
        program = programs.find("chromium")
        assert program is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # Both ends away from the numbers 3 and 4, to which the starter moves them because Chromium expects them there.
        pipes = tuple(fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write))
        os.close(to_read)
        os.close(to_write)
        command = [sys.executable, "-c", _STARTER, *map(str, pipes), str(program), *_FLAGS]
        command += [f"--user-data-dir={self._profile}", f"--accept-lang={language}", "about:blank"]
        self._process = subprocess.Popen(
            command,
            pass_fds=pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in pipes:
            os.close(end)

    def __enter__(self) -> Self:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to)  # the end of the pipe ends the browser
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def before_every_page(self, script: str) -> None:
        """Run a script before those of the page, for example to take a function away from it."""
        self._call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, file: Path) -> None:
        """Open a file as a person would who double-clicks it."""
        self.requests.clear()
        self._call("Page.navigate", url=file.as_uri())
        self.wait("document.readyState === 'complete'")

    def give_files(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an `<input type=file>`."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, files: Sequence[Path]) -> None:
        """Drag files from the desktop into the middle of the page and let them go."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._call("Input.dispatchDragEvent", type=kind, x=400, y=300, data=data)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page. Raises AssertionError where it throws."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = _PATIENCE_S) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.ask(condition):
            assert time.monotonic() < deadline, (
                f"not within {seconds} s: {condition}; console: {self.console}"
            )
            time.sleep(0.05)

    def screenshot(self, file: Path, *, width: int = 1100, dark: bool = False) -> None:
        """The whole page as a PNG."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=features)
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        picture = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            said = self._next(deadline)
            if said.get("id") == self._number:
                assert "error" not in said, f"{method}: {said['error']}"
                return dict(said["result"])
            self._note(said)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self._from, 1 << 16) if ready else b""
            assert piece, f"Chromium does not answer (exit code {self._process.poll()})"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, said: dict[str, Any]) -> None:
        match said:
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                self.requests.append(url)
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.console.append(str(details.get("exception", {}).get("description", details)))
            case {"method": "Log.entryAdded", "params": {"entry": {"text": text}}}:
                self.console.append(text)
