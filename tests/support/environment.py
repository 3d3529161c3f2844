"""Make the virtual environment of this checkout: `python3 tests/support/environment.py runtime|development`.

The first thing that `make demo`, `make test` and `make check` do. Standard library only, since nothing else is
there yet; it parses on Python 3.7, so that an old machine gets a sentence and not a traceback. When nothing has
changed since the last time it ends within a tenth of a second: `.venv/stamp.json` holds the hashes of the locks it
was made from, the hash of this file, the Python version and the place.

The packages come from the lock with their hashes checked, as wheels (cffi has none on 32-bit ARM and is built
there). The project itself is not installed: the environment points at the checkout, and `metering-agent` and
`metering-sim` in `.venv/bin` run its modules.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "stamp.json"
LOCKS = ROOT / "config" / "locks"
OLDEST = (3, 11)
# What each kind of environment consists of; the last lock holds everything, the others only count as done with it.
LEVELS = {"runtime": ["runtime"], "development": ["runtime", "development"]}
COMMANDS = {"metering-agent": "agent.cli", "metering-sim": "simulators.cli"}

# Starts the environment's Python on itself, whatever the length of the path and the blanks in it.
COMMAND_TEXT = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from {module} import main

if __name__ == "__main__":
    sys.exit(main())
"""


class SetUpFailed(Exception):
    """The environment cannot be made; the message is one line that says what to do."""


def main(arguments: list[str]) -> int:
    """Bring the environment to the level that is asked for. Exit status 1 with one line on stderr when that fails."""
    if len(arguments) != 1 or arguments[0] not in LEVELS:
        print("usage: python3 tests/support/environment.py runtime|development", file=sys.stderr)
        return 2
    try:
        _with_new_enough_python()
        make(arguments[0])
    except SetUpFailed as problem:
        print(f"set-up: {problem}", file=sys.stderr)
        return 1
    return 0


def make(level: str) -> None:
    """Make or complete `.venv` unless it is as it should be. Two at once wait for each other."""
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = _identity() | {name: _sha256(LOCKS / f"{name}.txt") for name in LEVELS[level]}
        stamp = _read_stamp()
        if wanted.items() <= stamp.items() and (VENV / "bin" / "python").exists():
            return
        STAMP.unlink(missing_ok=True)  # from here on the environment is unfinished
        if not _can_be_completed(stamp):
            _create()
        _install(LOCKS / f"{level}.txt")
        _point_at_checkout()
        STAMP.write_text(json.dumps(wanted, indent=1) + "\n")


def _identity() -> dict[str, str]:
    """What an environment belongs to; one of another Python or place is made anew."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "place": str(ROOT), "script": _sha256(Path(__file__))}


def _read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _can_be_completed(stamp: dict[str, str]) -> bool:
    """Whether what lies there is a working environment of this Python in this place; packages are then added."""
    identity = _identity()
    if stamp and any(stamp.get(key) != identity[key] for key in ("python", "place")):
        return False
    question = "import pip, sys; print('.'.join(map(str, sys.version_info[:2])), sys.prefix)"
    python = str(VENV / "bin" / "python")
    try:
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.stdout == f"{identity['python']} {VENV}\n"


def _create() -> None:
    _need_venv_module()
    print(f"set-up: making .venv with Python {platform.python_version()}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(VENV)], "the virtual environment could not be made")


def _need_venv_module() -> None:
    """Debian splits venv and ensurepip off into a package of their own."""
    probe = [sys.executable, "-c", "import venv, ensurepip"]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetUpFailed(f"Python has no venv module; on Debian: sudo apt-get install {package}")
    print(f"set-up: installing {package}", flush=True)
    _run(["apt-get", "-qq", "update"], "apt-get update failed")
    _run(
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", package],
        f"{package} could not be installed",
    )


def _install(lock: Path) -> None:
    started = time.monotonic()
    count = sum("==" in line for line in lock.read_text().splitlines())
    print(f"set-up: installing the {count} packages of {lock.relative_to(ROOT)}, hashes checked", flush=True)
    wheels = ["--only-binary=:all:"]
    if platform.machine().startswith("armv"):
        wheels.append("--no-binary=cffi")
    pip = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "-qq",
    ]
    _run(
        [*pip, "--require-hashes", *wheels, "-r", str(lock)],
        "the packages could not be installed (see above)",
    )
    print(f"set-up: done in {time.monotonic() - started:.0f} s", flush=True)


def _point_at_checkout() -> None:
    """Make the checkout importable in the environment and put its two commands into `.venv/bin`."""
    packages = next((VENV / "lib").glob("python3.*/site-packages"))
    (packages / "metering-checkout.pth").write_text(f"{ROOT}\n")
    for command, module in COMMANDS.items():
        script = VENV / "bin" / command
        script.write_text(COMMAND_TEXT.format(python=VENV / "bin" / "python", module=module))
        script.chmod(0o755)


def _with_new_enough_python() -> None:
    """Go on under a newer Python when this one is too old and there is one."""
    if sys.version_info >= OLDEST:
        return
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        path = shutil.which(name)
        # A version manager may leave a name that runs nothing, so it has to answer first.
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            os.execv(path, [path, *sys.argv])
    needed = ".".join(map(str, OLDEST))
    raise SetUpFailed(
        f"Python {needed} or newer is needed and this is {platform.python_version()}; set PYTHON=..."
    )


def _run(command: list[str], complaint: str) -> None:
    # apt must not ask questions; pip must not take a --user from the person's own settings.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PIP_USER": "0"}
    if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise SetUpFailed(complaint)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
