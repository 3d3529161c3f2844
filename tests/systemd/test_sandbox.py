"""The unit's own command under the unit's own restrictions, as far as they can be had without systemd.

What cannot be had here is named in `sandbox.NOT_HERE`, and a directive that is in neither list fails a test.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.adapters.journal import open_journal
from tests.cli.meter_server import meter_server
from tests.settings.example_site import line, meter, write_site
from tests.support import processes, programs
from tests.support.mosquitto import Mosquitto
from tests.systemd import sandbox
from tests.systemd.unitfile import ROOT, UNIT, one, read_unit

SERVICE = read_unit()["Service"]
UID = 64_998
"""A user that nobody is."""
STATE, SITE, CREDENTIALS = (
    "/var/lib/metering-agent",
    "/etc/metering-agent",
    "/run/credentials/metering-agent.service",
)
PROGRAM = "/opt/metering-agent/current/bin"
ENERGY = {(4, address): 0x4448 if address == 342 else 0 for address in range(400)}


@dataclass
class Cage:
    """Folders of one sandbox, and how to start something in it."""

    folder: Path
    analyze: Path
    library: str
    namespaces: bool

    def __post_init__(self) -> None:
        names = (STATE, SITE, CREDENTIALS, PROGRAM)
        self.folders = {name: self.folder / name.strip("/").replace("/", "-") for name in names}
        for made in self.folders.values():
            made.mkdir(mode=0o755, exist_ok=True)
        program = self.folders[PROGRAM] / "metering-agent"
        program.write_text(f"#!{sys.executable}\nfrom agent.cli import main\nmain()\n")
        program.chmod(0o755)

    def inside(self, name: str) -> str:
        """Where a folder of the gateway is for the program."""
        return name if self.namespaces else str(self.folders[name])

    def start(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        plan = sandbox.Plan(
            unit=str(UNIT),
            command=command,
            report=str(self.folder / "report.json"),
            uid=UID,
            binds={name: str(path) for name, path in self.folders.items()} if self.namespaces else {},
            sets=sandbox.syscall_sets(self.analyze),
            libseccomp=self.library,
            environment={"PYTHONPATH": str(ROOT), "CREDENTIALS_DIRECTORY": self.inside(CREDENTIALS)}
            | environment,
        ).save(self.folder / "plan.json")
        words: list[str | Path] = [sys.executable, "-m", "tests.systemd.sandbox", plan]
        return processes.start(words, self.folder / "log", directory=ROOT)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def report(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads((self.folder / "report.json").read_text())
        return found


@pytest.fixture
def cage(tmp_path: Path, systemd_analyze: Path) -> Cage:
    library = sandbox.find_libseccomp()
    if library is None:
        tell = pytest.fail if programs.in_ci() else pytest.skip
        tell("libseccomp is not here, so the system call filter cannot be tried")
    return Cage(tmp_path, systemd_analyze, library, sandbox.can_unshare())


def test_every_restriction_of_the_unit_is_either_tried_or_named_as_impossible_here() -> None:
    known = {*sandbox.HOW, *sandbox.TOGETHER, *sandbox.NOT_HERE, *sandbox.SERVICE_MANAGER, "StateDirectory"}
    assert set(SERVICE) - known == set()
    assert known - set(SERVICE) == set(), "and nothing is claimed that the unit does not have"


PROBE = textwrap.dedent(
    """
    import ctypes, errno, json, mmap, os, resource, socket, threading, time
    from agent.adapters.clock import boot_id, read_kernel_time
    libc = ctypes.CDLL(None, use_errno=True)
    def attempt(act):
        try:
            act()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"
    def call(function, *arguments):
        return errno.errorcode[ctypes.get_errno()] if function(*arguments) == -1 else "done"
    def write(path):
        return lambda: open(path, "wb").close()
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    print(json.dumps({
        "kernel time": read_kernel_time() is not None,
        "boot id": boot_id() is not None,
        "set the clock": attempt(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
        "packet socket": attempt(lambda: socket.socket(17, socket.SOCK_RAW)),
        "netlink socket": attempt(lambda: socket.socket(16, socket.SOCK_RAW)),
        "internet socket": attempt(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()),
        "new namespace": call(libc.unshare, 0x20000),
        "executable memory": attempt(lambda: mmap.mmap(-1, 4096, prot=7)),
        "real time": attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
        "personality": call(libc.personality, 8),
        "mount": call(libc.mount, b"x", b"/mnt", b"tmpfs", 0, None),
        "trace": call(libc.ptrace, 16, os.getppid(), 0, 0),
        "nice": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
        "set-uid file": attempt(lambda: os.chmod("STATE/own", 0o4700)) if not write("STATE/own")() else "",
        "write to the state directory": attempt(write("STATE/file")),
        "write to the site": attempt(write("SITE/file")),
        "write to /usr": attempt(write("/usr/file")),
        "write to /proc/sys": attempt(write("/proc/sys/vm/swappiness")),
        "write to /sys": attempt(write("/sys/kernel/profiling")),
        "home": attempt(lambda: os.listdir("/root")),
        "cores": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "umask": os.umask(0),
        "user": os.getuid(),
        "no new privileges": status["NoNewPrivs"],
        "capabilities": status["CapBnd"],
        "filters": int(status["Seccomp_filters"]),
        "processes seen": len([name for name in os.listdir("/proc") if name.isdigit()]),
    }))
    """
)


def test_what_the_restrictions_forbid_and_what_they_leave(cage: Cage) -> None:
    if cage.namespaces:
        os.chown(cage.folders[STATE], UID, UID)
    program = cage.folders[PROGRAM] / "probe"
    text = PROBE.replace("STATE", cage.inside(STATE)).replace("SITE", cage.inside(SITE))
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    process = cage.start([f"{cage.inside(PROGRAM)}/probe"])
    assert process.wait(120) == 0, cage.log()
    found = json.loads(cage.log().splitlines()[-1])
    expected = {
        "kernel time": True,
        "boot id": True,
        "set the clock": "EPERM",
        "packet socket": "EAFNOSUPPORT",
        "netlink socket": "EAFNOSUPPORT",
        "internet socket": "done",
        "new namespace": "EPERM",
        "executable memory": "EPERM",
        "real time": "EPERM",
        "personality": "EPERM",
        "mount": "EPERM",
        "trace": "EPERM",
        "nice": "EPERM",
        "set-uid file": "EPERM",
        "write to the state directory": "done",
        "cores": 0,
        "umask": 0o077,
        "no new privileges": "1",
    }
    if cage.namespaces:
        expected |= {
            "write to the site": "EROFS",
            "write to /usr": "EROFS",
            "write to /proc/sys": "EROFS",
            "write to /sys": "EROFS",
            "user": UID,
            "capabilities": "0" * 16,
            "processes seen": 1,
            "home": "EACCES",
        }
    assert {name: found[name] for name in expected} == expected
    assert found["filters"] >= 10
    assert cage.report()["refused"] == {} or not cage.namespaces


class Manager:
    """The service manager's end of the notify socket, under an abstract name that every mount namespace sees."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0metering-agent-{os.getpid()}")
        self.socket.settimeout(60)
        self.name = f"@metering-agent-{os.getpid()}"

    def wait_for(self, word: str) -> None:
        while word not in self.socket.recv(4096).decode().splitlines():
            pass


def proc_status(process: int) -> dict[str, str]:
    """What the kernel says of a process, by name (`VmHWM`, `Threads`)."""
    rows = (row.partition(":") for row in Path(f"/proc/{process}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in rows}


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager()
    yield made
    made.socket.close()


def test_the_units_command_runs_a_whole_interval_in_the_sandbox(
    cage: Cage, manager: Manager, mosquitto: Mosquitto
) -> None:
    """It reads a meter, seals, publishes to a broker, feeds the watchdog and stops in good order."""
    with meter_server(ENERGY) as port:
        site = cage.folders[SITE]
        write_site(
            site,
            lines=[line(port=port)],
            meters=[meter("reflow-1", 1)],
            broker=mosquitto.url,
            interval="1s",
            poll="1s",
            changes={
                "signing": {"key_file": None, "credential": "signing-key"},
                "journal": {"path": f"{cage.inside(STATE)}/journal.db"},
            },
        )
        key = cage.folders[CREDENTIALS] / "signing-key"
        (site / "signing-key.pem").rename(key)
        key.chmod(0o440)
        if cage.namespaces:
            os.chown(key, 0, UID)
        command = one(SERVICE, "ExecStart").split()
        if not cage.namespaces:
            command = [f"{cage.inside(PROGRAM)}/metering-agent", "run", "--site", str(site / "site.toml")]
        process = cage.start(command, NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="3000000")
        try:
            manager.wait_for("READY=1")
            for _ in range(8):
                manager.wait_for("WATCHDOG=1")
            status = proc_status(process.pid)
            process.send_signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")
            assert process.wait(60) == 0, cage.log()
        finally:
            processes.stop(process)
    assert "Operation not permitted" not in cage.log() and "Traceback" not in cage.log(), cage.log()
    peak_mb = int(status["VmHWM"].split()[0]) // 1024
    assert peak_mb < int(one(SERVICE, "MemoryMax").removesuffix("M")), f"{peak_mb} MB"
    assert int(status["Threads"]) < int(one(SERVICE, "TasksMax"))
    state = cage.folders[STATE]
    assert sorted(path.name for path in state.iterdir() if not path.name.startswith("journal.db")) == []
    journal = open_journal(state / "journal.db")
    try:
        batches = journal.queue(after_ordinal=0, limit=100)
        assert len(batches) >= 3 and journal.state().clean
    finally:
        journal.close()
    print(
        f"peak {peak_mb} MB, {status['Threads'].strip()} threads, not applied here: {cage.report()['refused']}"
    )
