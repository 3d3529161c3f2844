"""The programs of the bench: the exact pair, the agent with broker and platform, and the masters to compare with."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.control import ask
from agent.adapters.keys import generate_key
from tests.bench.installation import AGENT, AUDIENCE, ORG, Setting, head_table
from tests.support.mosquitto import Mosquitto
from tests.support.programs import UNPACKED, Unavailable, unpack_library

STOP_S = 15


@dataclass
class Pair:
    """A running `tests.bench.pair`."""

    process: subprocess.Popen[str]
    device: str

    def stop(self) -> dict[str, Any]:
        """Ask what it saw; it ends."""
        out, _ = self.process.communicate("stop\n", timeout=STOP_S)
        seen: dict[str, Any] = json.loads(out)
        return seen


@contextmanager
def exact_pair(setting: Setting) -> Iterator[Pair]:
    """The simulated line of a setting, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.pair", setting.argument()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Pair(process, process.stdout.readline().strip())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@dataclass
class Usage:
    """What a process has used so far."""

    cpu_s: float
    switches: int
    threads: int
    resident_kb: int


class Agent:
    """The agent as a user starts it, with mosquitto and the reference platform as neighbours."""

    def __init__(self, folder: Path, tables: str, *, interval: str) -> None:
        self.folder = folder
        self._tables = tables
        self._interval = interval
        self._broker = Mosquitto()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Agent":
        self._broker.start()
        agent_key = generate_key(self.folder / "signing-key.pem")
        platform_key = generate_key(self.folder / "platform-key.pem")
        (self.folder / "agent.pem").write_text(agent_key.pem)
        (self.folder / "platform.pem").write_text(platform_key.pem)
        (self.folder / "site.toml").write_text(head_table(self._broker.url, self._interval) + self._tables)
        try:
            self._start(
                "platform",
                "simulators.cli",
                *("platform", "serve", "--broker", self._broker.url, "--audience", AUDIENCE),
                *(
                    "--store",
                    str(self.folder / "platform.db"),
                    "--key",
                    str(self.folder / "platform-key.pem"),
                ),
                *("--trust", f"{ORG}/{AGENT}={self.folder / 'agent.pem'}"),
            )
            self._start("agent", "agent.cli", "run", "--site", str(self.folder / "site.toml"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._broker.close()

    def _start(self, name: str, module: str, *arguments: str) -> None:
        program = f"import sys; from {module} import main; sys.argv[0] = {name!r}; main()"
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log_tail(self) -> str:
        """The end of the agent's log, for messages."""
        return "\n".join((self.folder / "agent.log").read_text(errors="replace").splitlines()[-12:])

    def wait_for_reads(self, count: int, seconds: float = 30) -> None:
        """Until it has made so many reads. Raises RuntimeError if it does not."""
        until = time.monotonic() + seconds
        while self.reads() < count:
            if time.monotonic() > until or self._processes["agent"].poll() is not None:
                raise RuntimeError(f"the agent does not read its meters:\n{self.log_tail()}")
            time.sleep(0.2)

    def status(self) -> dict[str, Any]:
        """What it says on its control socket; empty while it does not answer."""
        try:
            said = ask(self.folder / "journal.db.control", "status", timeout_s=5)
        except (OSError, TimeoutError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def reads(self) -> int:
        """All reads of all lines so far."""
        return sum(int(line["reads"]) for line in self.status().get("lines", ()))

    def usage(self) -> Usage:
        """CPU time, voluntary context switches of all threads, threads and memory."""
        process = Path(f"/proc/{self._processes['agent'].pid}")
        switches = cpu_ns = 0
        for task in (process / "task").iterdir():
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    switches += int(line.split()[1])
        status = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
        )
        return Usage(
            cpu_ns / 1e9,
            switches,
            int(status["Threads"]),
            int(status["VmRSS"].split()[0]),
        )


# ---------------------------------------------------------------------------------------- masters to compare with


def libmodbus_master() -> Path:
    """The compiled master on Debian's libmodbus. Raises Unavailable."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("there is no C compiler")
    tree = unpack_library("libmodbus-dev")
    program = UNPACKED / "libmodbus-dev" / "libmodbus_master"
    source = Path(__file__).with_name("libmodbus_master.c")
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        found = [*tree.glob("usr/lib/*/libmodbus.so.5"), *Path("/usr/lib").glob("*/libmodbus.so.5")]
        if not found:
            raise Unavailable("libmodbus itself is not here")
        command = [compiler, "-O2", "-o", str(program), str(source), f"-I{tree / 'usr/include'}"]
        command += [str(found[0]), f"-Wl,-rpath,{found[0].parent}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return program


def run_libmodbus(setting: Setting, device: str, seconds: float, gap_ns: int) -> None:
    """Read for so long."""
    blocks = [str(number) for block in setting.blocks() for number in (block.address, block.count)]
    subprocess.run(
        [
            *(str(libmodbus_master()), device, str(setting.baud), setting.parity[0].upper(), str(seconds)),
            *(str(gap_ns), str(setting.meters), "4", *blocks),
        ],
        check=True,
        capture_output=True,
        timeout=seconds + 30,
    )


def run_pymodbus(asked: dict[str, Any]) -> dict[str, float]:
    """Read for so long with bare pymodbus."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.pymodbus_master", json.dumps(asked)],
        check=True,
        capture_output=True,
        text=True,
        timeout=asked["seconds"] + 60,
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


@contextmanager
def folder() -> Iterator[Path]:
    """A place for the files of one run."""
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        yield Path(path)
