"""Child processes of tests: output to a file, a session of their own, gone when the test run is gone.

A child that inherits the runner's stdout keeps a pipe open after the runner died, and whoever reads that pipe hangs;
hence files. A run that is killed cannot clean up; hence the parent-death signal.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)

# Below the range from which Linux takes the source ports of outgoing connections (32768 and up): a client that keeps
# trying a port of that range while its server is down can connect to itself and keep the server from coming back.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A loopback TCP port that is free now and stays usable for a server that is stopped and started again."""
    chance = random.SystemRandom()
    for _ in range(200):
        port = chance.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found between 20000 and 32000")


def start(
    command: Sequence[str | Path],
    output: Path,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; stdout and stderr are appended to the file `output`.

    The kernel kills the child when the *thread* that started it ends, so start from the main thread. `environment`
    replaces the whole environment; None inherits it.
    """
    with output.open("ab") as log:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=None if environment is None else dict(environment),
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )


def stop(process: subprocess.Popen[bytes], timeout_s: int = 10) -> int:
    """Ask the process to end, kill it and its children when it does not, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            kill(process)
    return process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and everything in its session's first process group, then wait for it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _die_with(parent: int) -> Callable[[], None]:
    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call above
            os._exit(1)

    return in_child
