"""The referees that are written in JavaScript, from the lock in `tests/support/node`, installed into `.venv/node`.

The set-up of `make test` calls `provision`; a test asks `find`. Nothing is installed outside of `.venv`, no script of a
package is run, and the hashes in the lock are checked by npm.
"""

import shutil
import subprocess
from pathlib import Path

from tests.support import programs

LOCKED = Path(__file__).parent / "node"
FOLDER = programs.ROOT / ".venv" / "node"
PACKAGES = ("jose",)
_LIMIT_S = 120


def find(package: str) -> Path | None:
    """The folder from which node finds a package, or None. Looks only, never fetches."""
    return (
        FOLDER if (FOLDER / "node_modules" / package / "package.json").is_file() and _is_current() else None
    )


def provision() -> list[str]:
    """Install what is missing. Gives the reasons why a package is not there, empty if all is well."""
    if all(find(package) for package in PACKAGES):
        return []
    npm = programs.find("npm")
    if npm is None:
        return [f"there is no npm to install {', '.join(PACKAGES)} with"]
    print(f"set-up: installing {', '.join(PACKAGES)} for the tests", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCKED / name, FOLDER / name)
    command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as problem:
        return [f"npm could not install {', '.join(PACKAGES)}: {problem}"]
    if done.returncode != 0:
        return [f"npm could not install {', '.join(PACKAGES)}: {' '.join(done.stderr.split())[-300:]}"]
    return []


def _is_current() -> bool:
    lock = FOLDER / "package-lock.json"
    return lock.is_file() and lock.read_bytes() == (LOCKED / "package-lock.json").read_bytes()
