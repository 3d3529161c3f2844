"""Programs that judge our work (mosquitto, jq, Chromium, ...): found, or fetched without touching the system.

In this order: a program on the path (also /usr/sbin, which a plain user's path lacks); one that an earlier run unpacked
in `.venv/debian`; with `provision`, the Debian packages unpacked there, which needs apt but neither root nor a service
nor a system user; as root, installed by apt. Where all of that fails the tests that need the program are skipped with a
loud line, and with CI=true they fail (tests/conftest.py).

`python -m tests.support.programs` is the set-up of `make test`. It is quiet and quick when nothing is to be done.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / ".venv" / "debian"
PROGRAMS = (
    *("mosquitto", "mbpoll", "systemd-analyze", "jq", "chromium", "node", "npm"),
    *("strace", "mke2fs", "ip", "faketime"),
)
_PACKAGES = {  # where the package has another name
    "systemd-analyze": "systemd",
    "node": "nodejs",
    "mke2fs": "e2fsprogs",
    "ip": "iproute2",
}
_NOT_UNPACKED = ("chromium", "npm")
"""Programs that look for their own files at fixed places, so that only an installation serves."""
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_APT_LIMIT_S = 180


class Unavailable(Exception):
    """The program is not here and could not be fetched; the message says why."""


def find(program: str) -> Path | None:
    """The program's path, or None when it is neither installed nor unpacked. Looks only, never fetches."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    found = shutil.which(program, path=path) or shutil.which(str(UNPACKED / program / "run"))
    return Path(found) if found else None


def find_mosquitto() -> Path | None:
    """Debian's MQTT broker, or None."""
    return find("mosquitto")


def find_mbpoll() -> Path | None:
    """Debian's Modbus master on top of libmodbus, or None."""
    return find("mbpoll")


def library(program: str, name: str) -> Path | None:
    """A shared library that came with a program, in the system or unpacked; None where there is none."""
    places = ((Path("/usr/lib"), f"*/**/{name}"), (UNPACKED / program, f"**/{name}"))
    return next((found for folder, pattern in places for found in folder.glob(pattern)), None)


def unpacked_units() -> Path | None:
    """The folder of systemd's own unit files where systemd was unpacked and not installed, else None."""
    tree = UNPACKED / "systemd-analyze"
    return next(
        (folder for folder in tree.glob("**/systemd/system") if (folder / "sysinit.target").exists()), None
    )


def in_ci() -> bool:
    """Whether a missing program is a failure and not a skip."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def provision(program: str) -> Path:
    """The program's path, fetched where it is not here yet. Raises Unavailable with every reason."""
    present = find(program)
    if present:
        return present
    reasons = []
    for way in (_install,) if program in _NOT_UNPACKED else (_unpack, _install):
        try:
            way(program)
        except (Unavailable, OSError, subprocess.SubprocessError) as problem:
            reasons.append(_in_one_line(problem))
            continue
        fetched = find(program)
        if fetched:
            return fetched
    raise Unavailable(f"{program} is not installed and could not be fetched: {'; '.join(reasons)}")


def _unpack(program: str) -> None:
    """Unpack the program and those of its dependencies that this system lacks into `.venv/debian/<program>`."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("this is no Debian (no apt-get)")
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED, prefix=f".{program}-") as folder:
        work = Path(folder)
        tree = work / "tree"
        for package in _download(program, work):
            _run(["dpkg-deb", "-x", str(package), str(tree)])
        _write_starter(program, tree)
        _run([str(tree / "run"), "-h"], accept=(0, 1, 3))  # the usage text: every library was found
        target = UNPACKED / program
        shutil.rmtree(target, ignore_errors=True)
        tree.rename(target)


def unpack_library(package: str) -> Path:
    """A development package and the library it needs, unpacked in `.venv/debian/<package>`. Raises Unavailable."""
    target = UNPACKED / package
    if (target / "usr" / "include").is_dir():
        return target
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("this is no Debian (no apt-get)")
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED, prefix=f".{package}-") as folder:
        work = Path(folder)
        for each in _download(package, work):
            _run(["dpkg-deb", "-x", str(each), str(work / "tree")])
        shutil.rmtree(target, ignore_errors=True)
        (work / "tree").rename(target)
    return target


def _download(program: str, work: Path) -> list[Path]:
    """Debian packages of the program and its missing dependencies, with package lists of our own (no root needed)."""
    archives = work / "archives"
    for folder in (work / "lists" / "partial", work / "cache" / "archives" / "partial", archives):
        folder.mkdir(parents=True)
    options = ["-q", "-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
    if os.geteuid() == 0:  # the user _apt could not write into our folder
        options += ["-o", "APT::Sandbox::User=root"]
    _run(["apt-get", *options, "update"])
    package = _PACKAGES.get(program, program)
    plan = _run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", package])
    names = re.findall(r"^Inst (\S+)", plan, flags=re.MULTILINE)
    if package not in names:
        raise Unavailable(f"apt-get knows no way to install {package}")
    _run(["apt-get", *options, "download", *names], directory=archives)
    return sorted(archives.glob("*.deb"))


def _write_starter(program: str, tree: Path) -> None:
    """`run`: a starter that names the folders of the unpacked libraries and becomes the program (same process id)."""
    binaries = [
        tree / folder / program for folder in ("usr/sbin", "usr/bin") if (tree / folder / program).is_file()
    ]
    if not binaries:
        raise Unavailable(f"the Debian package {program} holds no program of that name")
    libraries = sorted({file.parent.relative_to(tree) for file in tree.glob("**/*.so*")})
    folders = ":".join(f"$here/{folder}" for folder in libraries)
    starter = tree / "run"
    starter.write_text(
        "#!/bin/sh\n"
        'here=$(dirname "$(readlink -f "$0")")\n'
        f'LD_LIBRARY_PATH="{folders}" exec "$here/{binaries[0].relative_to(tree)}" "$@"\n'
    )
    starter.chmod(0o755)


def _install(program: str) -> None:
    if os.geteuid() != 0:
        raise Unavailable("not root, so apt-get install was not tried")
    if not shutil.which("apt-get"):
        raise Unavailable("no apt-get to install with")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        _run(["apt-get", "-q", "update"])
        package = _PACKAGES.get(program, program)
        _run(["apt-get", "-q", "install", "-y", "--no-install-recommends", package], environment=environment)


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting their service; a policy that the machine already has is left alone."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _run(
    command: list[str],
    *,
    directory: Path | None = None,
    environment: dict[str, str] | None = None,
    accept: tuple[int, ...] = (0,),
) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment or os.environ | {"LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_APT_LIMIT_S,
        check=False,
    )
    if done.returncode not in accept:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"{' '.join(command[:1])}: {lines[-1] if lines else f'exit {done.returncode}'}")
    return done.stdout


def _in_one_line(problem: BaseException) -> str:
    return " ".join(str(problem).split())


def main() -> int:
    """Make all programs available; exit 1 only where their absence is a failure."""
    missing = 0
    for program in PROGRAMS:
        if find(program):
            continue
        print(f"set-up: fetching Debian's {program} for the tests", flush=True)
        try:
            provision(program)
        except Unavailable as problem:
            missing += 1
            print(f"set-up: WARNING: {problem}. Its tests will be skipped.", file=sys.stderr, flush=True)
    from tests.support import node_packages  # it asks us where npm is

    for reason in node_packages.provision():
        missing += 1
        print(f"set-up: WARNING: {reason}. Its tests will be skipped.", file=sys.stderr, flush=True)
    return 1 if missing and in_ci() else 0


if __name__ == "__main__":
    sys.exit(main())
