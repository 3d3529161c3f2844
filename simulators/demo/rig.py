"""A whole installation in one folder, as separate processes: meters, broker, platform and the real agent.

The demo shows it, the real-process tests torment it. Every process is the program that a user would start, with a site
file, keys and addresses made for the occasion; everything listens on this machine only.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Self

from agent.adapters.control import ask
from agent.adapters.keys import generate_key
from agent.errors import ConfigError
from agent.resources import config_path
from agent.settings.catalogue import load_catalogue
from simulators.platform.queries import Totals, totals
from simulators.platform.store import Store
from simulators.ports import free_port

ORG, AGENT, AUDIENCE = "demo-meterworks", "gw01", "carbon.demo.example"
SERIAL_PROFILES = (
    "eastron-sdm630-v2",
    "chint-dtsu666-2019",
    "acrel-adl400",
    "eastron-sdm120",
    "chint-ddsu666",
)
GATEWAY_PROFILES = ("schneider-iem3155", "abb-b23", "eastron-sdm630-v2", "acrel-adl400")
SECONDARY_PROFILES = ("chint-dtsu666-2019", "acrel-adl400")
START_S, STOP_S = 60, 60
"""Most that a process may take on a machine that is busy elsewhere; on a quiet one they are there in a second."""
RATED_KW = 6000
"""In a time-lapse a circuit draws as many times more as time runs faster; the gates have to know."""


@dataclass(frozen=True, slots=True)
class MeterPlace:
    """One meter of a site; `baud` and `parity` where it differs from its line, 12 digits as address for DL/T 645."""

    id: str
    step: str
    line: str
    address: int | str
    profile: str
    serial: str
    baud: int | None = None
    parity: str | None = None


def places(on_rs485: int = 10) -> list[MeterPlace]:
    """A meter for every production step of the catalogue: the first ones on a pair, the rest behind a gateway."""
    steps = load_catalogue(config_path("emission_sources.csv")).steps
    made = []
    for index, step in enumerate(steps):
        serial_line = index < on_rs485
        choice = SERIAL_PROFILES if serial_line else GATEWAY_PROFILES
        position = index if serial_line else index - on_rs485
        made.append(
            MeterPlace(
                id=f"m{index + 1:02d}",
                step=step,
                line="hall-a" if serial_line else "gateway-1",
                address=position + 1,
                profile=choice[position % len(choice)],
                serial=str(22_060_000 + index),
            )
        )
    return made


def site_text(
    folder: Path, meters: Sequence[MeterPlace], *, broker: str, gateway_port: int, interval: str
) -> str:
    """The site file, as an installer would write it."""
    tables = [
        f"""\
[gateway]
org = "{ORG}"
agent = "{AGENT}"

[platform]
audience = "{AUDIENCE}"
broker = "{broker}"
acknowledgement_keys = ["platform.pem"]

[signing]
key_file = "signing-key.pem"

[journal]
path = "journal.db"
budget_mb = 20000

[interval]
length = "{interval}"

[[lines]]
id = "hall-a"
transport = "rs485"
device = "{folder / "hall-a"}"
baud = 9600
parity = "none"
stop_bits = 1
poll = "5s"

[[lines]]
id = "gateway-1"
transport = "modbus-tcp"
host = "127.0.0.1"
port = {gateway_port}
poll = "5s"
"""
    ]
    tables += [_meter_table(meter) for meter in meters]
    return "\n".join(tables)


def _meter_table(meter: MeterPlace) -> str:
    address = f'"{meter.address}"' if isinstance(meter.address, str) else meter.address
    more = 'ct_ratio = "150/5"\n' if meter.profile in SECONDARY_PROFILES else ""
    more += f"baud = {meter.baud}\n" if meter.baud is not None else ""
    more += f'parity = "{meter.parity}"\n' if meter.parity is not None else ""
    return f"""\
[[meters]]
id = "{meter.id}"
line = "{meter.line}"
address = {address}
profile = "{meter.profile}"
step = "{meter.step}"
serial = "{meter.serial}"
rated_kw = "{RATED_KW}"
{more}"""


@dataclass
class Rig:
    """The folder and the processes in it; use it as a context manager, which stops what still runs.

    `broker` is the URL of a broker that somebody else runs, None for our own small one. `speed` is how many seconds of
    the factory pass in one.
    """

    folder: Path
    interval: str = "2s"
    broker: str | None = None
    speed: int = 1
    meters: Sequence[MeterPlace] = field(default_factory=lambda: places())
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.broker_port = free_port()
        self.broker_url = self.broker or f"mqtt://127.0.0.1:{self.broker_port}"
        agent_key = generate_key(self.folder / "signing-key.pem")
        platform_key = generate_key(self.folder / "platform-key.pem")
        (self.folder / "agent.pem").write_text(agent_key.pem)
        (self.folder / "platform.pem").write_text(platform_key.pem)
        text = site_text(
            self.folder,
            self.meters,
            broker=self.broker_url,
            gateway_port=free_port(),
            interval=self.interval,
        )
        self.site.write_text(text)

    @property
    def site(self) -> Path:
        """The site file."""
        return self.folder / "site.toml"

    @property
    def journal(self) -> Path:
        """The agent's journal."""
        return self.folder / "journal.db"

    @property
    def store(self) -> Path:
        """The platform's store."""
        return self.folder / "platform.db"

    @property
    def truth_file(self) -> Path:
        """Where the meters write what their registers show."""
        return self.folder / "truth.json"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("agent", "platform", "meters", "broker"):
            self.stop(name)

    # -- processes

    def start_broker(self) -> None:
        """Our own small broker."""
        self._start("broker", "simulators.cli", "broker", "--port", str(self.broker_port))
        self.wait_until(lambda: _listens(self.broker_port), START_S, "the broker listens")

    def start_platform(self, *more: str) -> None:
        """The reference platform; `more` are further options of `platform serve`."""
        self._start(
            "platform",
            "simulators.cli",
            "platform",
            "serve",
            *("--broker", self.broker_url, "--store", str(self.store), "--audience", AUDIENCE),
            *("--key", str(self.folder / "platform-key.pem")),
            *("--trust", f"{ORG}/{AGENT}={self.folder / 'agent.pem'}"),
            *more,
        )

    def start_meters(self) -> None:
        """All meters of the site file, on a pty and a TCP port."""
        self.truth_file.unlink(missing_ok=True)
        self._start(
            "meters",
            "simulators.cli",
            "meters",
            *("--site", str(self.site), "--truth", str(self.truth_file), "--speed", str(self.speed)),
        )
        self.wait_until(lambda: (self.folder / "hall-a").exists(), START_S, "the meters answer")

    def start_agent(self, *, under: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """The agent itself; `under` a program that runs it (strace), with more in its `environment`."""
        self._start(
            "agent",
            "agent.cli",
            *("run", "--site", str(self.site)),
            under=under,
            environment=None if environment is None else {**os.environ, **environment},
        )

    def _start(
        self,
        name: str,
        module: str,
        *arguments: str,
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        program = f"import sys; from {module} import main; sys.argv[0] = {name!r}; main()"
        with self.log_of(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*under, sys.executable, "-c", program, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log_of(self, name: str) -> Path:
        """Where a process writes."""
        return self.folder / f"{name}.log"

    def stop(self, name: str) -> int | None:
        """Ask a process to end; kill it if it does not. Gives its exit code, None if it never ran."""
        process = self.processes.pop(name, None)
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self, name: str) -> None:
        """SIGKILL, as a power cut would."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def check_alive(self) -> None:
        """Raise RuntimeError, with the end of its log, for a process that ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                tail = "\n".join(self.log_of(name).read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"{name} ended by itself with code {process.returncode}:\n{tail}")

    def resident_mb(self, name: str) -> Fraction:
        """Resident memory of a process, MB of 2**20 bytes."""
        status = Path(f"/proc/{self.processes[name].pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return Fraction(int(line.split()[1]), 1024)

    # -- what they know

    def freeze_counters(self) -> None:
        """Stop the energy in all meters; they go on answering."""
        self.processes["meters"].send_signal(signal.SIGUSR2)

    def truth(self) -> dict[str, int]:
        """What every meter's energy register shows now, 0.001 Wh."""
        before = self._truth_written()
        self.processes["meters"].send_signal(signal.SIGUSR1)
        self.wait_until(lambda: self._truth_written() != before, START_S, "the truth")
        said = json.loads(self.truth_file.read_text())
        return {meter: entry["register_milliwh"] for meter, entry in said.items()}

    def _truth_written(self) -> tuple[int, int] | None:
        """Which file it is, and when it was made: two may be made within one tick of the kernel's clock."""
        try:
            found = self.truth_file.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def account(self) -> Totals | None:
        """The platform's account of this agent, None while it has none."""
        try:
            store = Store.read(self.store)
        except ConfigError:  # the platform has not made its tables yet
            return None
        try:
            return totals(store).get(f"{ORG}/{AGENT}")
        finally:
            store.close()

    def agent_status(self) -> dict[str, object] | None:
        """What the agent says on its control socket, None where it does not answer or cannot say it (a sick disk)."""
        try:
            answer = ask(self.journal.with_name("journal.db.control"), "status", timeout_s=2)
        except (OSError, TimeoutError, ValueError):
            return None
        return answer if isinstance(answer, dict) and "error" not in answer else None

    def differences(self) -> dict[str, str]:
        """The meters whose booked energy is not what their register rose by, and in which way; empty if all agree."""
        account, truth, wrong = self.account(), self.truth(), {}
        for meter in self.meters:
            booked = account.meters.get(meter.id) if account is not None else None
            if booked is None or not booked.epochs:
                wrong[meter.id] = "nothing booked"
                continue
            risen = truth[meter.id] - booked.epochs[0].opening
            if len(booked.epochs) > 1:
                wrong[meter.id] = f"{len(booked.epochs)} epochs where one was expected"
            elif booked.energy_milliwh != risen:
                wrong[meter.id] = f"booked {booked.energy_milliwh}, risen {risen} (0.001 Wh)"
        return wrong

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something holds; raises RuntimeError with `what` if it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {seconds} s: {what}")
            time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
