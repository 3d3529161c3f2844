"""What delivery costs: a month of backlog through mosquitto to the platform, broker mode beside bare paho, cut starts.

The agent, the platform and mosquitto are the programs that a user starts. The backlog is a journal made by the
production sealer (`tests.bench.backlog`); the meters go on counting while it drains, so the newest batches are live.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.control import ask
from agent.adapters.keys import generate_key
from agent.adapters.uplink.limits import IN_FLIGHT_MAX
from agent.reporting import topics
from simulators.platform.queries import broken_books
from simulators.platform.store import Store
from simulators.ports import free_port
from tests.bench import report
from tests.bench.backlog import make_backlog
from tests.bench.installation import AGENT, AUDIENCE, ENERGY_ONLY, ORG, head_table
from tests.bench.programs import folder
from tests.bench.tcp import site_tables
from tests.support import processes
from tests.support.mosquitto import Mosquitto

METERS = 26
MONTH_BATCHES = 30 * 24 * 60
END_COUNTS = 10_000_000
"""Where the registers of the meters stand."""
AWAY_S = 12
"""So long the agent looks for its broker in vain before the link is back."""
DRAIN_S_MAX, BEGIN_S_MAX, RESIDENT_MB_MAX = 120, 5, 80
BARE_SHARE_MIN = 0.6
PAHOS_WINDOW = 20


@dataclass(frozen=True, slots=True)
class Drained:
    """How a backlog went."""

    batches: int
    begun_s: float
    seconds: float
    resident_kb: int
    cpu_s: Mapping[str, float]
    missed_boundaries: int


class Installation:
    """A gateway with meters on TCP, and what it talks to, each started when it is wanted."""

    def __init__(
        self, place: Path, *, interval: str = "1min", mode: str = "platform", broker: str = ""
    ) -> None:
        self.place = place
        self.mosquitto = Mosquitto()
        self._meter_port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, private in (("agent", "signing-key"), ("platform", "platform-key")):
            key = generate_key(place / f"{private}.pem")
            (place / f"{name}.pem").write_text(key.pem)
        head = head_table(broker or self.mosquitto.url, interval)
        if mode == "broker":
            head = head.replace('acknowledgement_keys = ["platform.pem"]', 'acknowledgement = "broker"')
        tables = site_tables(METERS, self._meter_port, ENERGY_ONLY, "1s")
        self.site.write_text(head + tables)

    @property
    def site(self) -> Path:
        return self.place / "site.toml"

    def fill(self, batches: int) -> None:
        """Make the backlog; the newest of its batches is of the last boundary."""
        make_backlog(self.site, batches, now_ms=time.time_ns() // 1_000_000, end_counts=END_COUNTS)

    def start_meters(self) -> None:
        self._run(
            "meters", "-m", "tests.bench.tcp_server", str(METERS), str(self._meter_port), str(END_COUNTS)
        )

    def start_platform(self) -> None:
        arguments = ["platform", "serve", "--broker", self.mosquitto.url, "--audience", AUDIENCE]
        arguments += [
            "--store",
            str(self.place / "platform.db"),
            "--key",
            str(self.place / "platform-key.pem"),
        ]
        arguments += ["--trust", f"{ORG}/{AGENT}={self.place / 'agent.pem'}"]
        self._run("platform", "-c", "from simulators.cli import main; main()", *arguments)

    def start_agent(self) -> None:
        self._run("agent", "-c", "from agent.cli import main; main()", "run", "--site", str(self.site))

    def _run(self, name: str, *arguments: str) -> None:
        self._processes[name] = processes.start([sys.executable, *arguments], self.place / f"{name}.log")

    def stop(self, name: str) -> int:
        """Ask a program to end; gives its exit code."""
        return processes.stop(self._processes.pop(name), 30)

    def close(self) -> None:
        """End everything."""
        for process in self._processes.values():
            processes.kill(process)
        self.mosquitto.close()

    def status(self) -> Mapping[str, object]:
        """What the agent says of itself; empty while it says nothing."""
        try:
            said = ask(self.place / "journal.db.control", "status", timeout_s=5)
        except (OSError, TimeoutError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float) -> float:
        """Until it holds; gives the time it took. Raises RuntimeError with the agent's log where it does not."""
        began = time.monotonic()
        while not holds():
            died = [name for name, process in self._processes.items() if process.poll() is not None]
            if died or time.monotonic() - began > seconds:
                log = (self.place / f"{died[0] if died else 'agent'}.log").read_text(errors="replace")
                raise RuntimeError(f"{what}: {died or 'not in time'}\n{log[-2000:]}")
            time.sleep(0.05)
        return time.monotonic() - began

    def cpu_s(self, name: str) -> float:
        """CPU time of a program so far."""
        pid = self.mosquitto.pid if name == "mosquitto" else self._processes[name].pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def resident_kb(self) -> int:
        """The most memory the agent ever had."""
        status = Path(f"/proc/{self._processes['agent'].pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def booked(self) -> int:
        """How many batches the platform has booked."""
        store = Store.read(self.place / "platform.db")
        try:
            return int(store.one("SELECT count(*) FROM batches")[0])
        finally:
            store.close()

    def delivered(self) -> bool:
        """Whether nothing waits at the agent: what was sealed a minute ago is booked and acknowledged too."""
        journal = self.status().get("journal")
        return isinstance(journal, dict) and journal["backlog_batches"] == 0


@contextmanager
def installation(
    *, interval: str = "1min", mode: str = "platform", broker: str = ""
) -> Iterator[Installation]:
    """One in a folder of its own."""
    with folder() as place:
        made = Installation(place, interval=interval, mode=mode, broker=broker)
        try:
            yield made
        finally:
            made.close()


def drain(batches: int) -> Drained:
    """The link was away for `batches` intervals and comes back; broker and platform were there all the time."""
    link = free_port()
    with installation(broker=f"mqtt://127.0.0.1:{link}") as site, contextlib.ExitStack() as stack:
        site.fill(batches)
        site.start_meters()
        site.mosquitto.start()
        site.start_platform()
        site.wait_for("the platform", lambda: (site.place / "platform.db").exists(), 30)
        site.start_agent()
        site.wait_for("the agent", lambda: bool(site.status()), 30)
        time.sleep(AWAY_S)
        stack.callback(Relay(site.mosquitto.port, port=link).close)
        begun_s = site.wait_for("the first batch", lambda: site.booked() > 0, 60)
        before = {name: site.cpu_s(name) for name in ("agent", "platform", "mosquitto")}
        booked_s = site.wait_for("the backlog", lambda: site.booked() >= batches, 1800)
        rest_s = site.wait_for("the newest", site.delivered, 120)
        cpu_s = {name: site.cpu_s(name) - spent for name, spent in before.items()}
        boundary = site.status()["boundary"]
        assert isinstance(boundary, dict)
        resident_kb = site.resident_kb()
        assert site.stop("agent") == 0
        site.stop("platform")
        store = Store.read(site.place / "platform.db")
        assert broken_books(store) == []
        store.close()
        return Drained(batches, begun_s, begun_s + booked_s + rest_s, resident_kb, cpu_s, boundary["skipped"])


@dataclass(frozen=True, slots=True)
class Sent:
    """What a subscriber saw of a sender."""

    messages: int
    bytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return (self.messages - 1) / self.seconds


@contextmanager
def _subscriber(site: Installation, messages: int) -> Iterator[Callable[[], Sent]]:
    """Something that is subscribed to the batches; asked at the end for what it saw."""
    arguments = [str(site.mosquitto.port), topics.batch(ORG, AGENT), str(messages)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.mqtt_sink", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        output = process.stdout
        assert output.readline().strip() == "ready"
        yield lambda: Sent(**json.loads(output.readline()))
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True, slots=True)
class Compared:
    """The agent in broker mode, bare paho with the agent's window, and bare paho with its own of 20."""

    ours: Sent
    bare: Sent
    wide: Sent

    @property
    def ratio(self) -> float:
        """The agent's rate as a share of that of bare paho with the same window."""
        return self.ours.rate / self.bare.rate


def broker_mode(batches: int) -> Compared:
    """The agent in broker mode, and bare paho with the same payloads, one after the other through one broker.

    How many messages may be without a PUBACK decides about the rate, the more so the busier the machine is. So it is
    the same for both; what paho does with its own window is measured beside it.

    Both send the same bytes with QoS 1 to the same subscriber, which measures both. The agent does what it does in a
    factory: it reads each batch from the journal and checks its hash, waits for its PUBACK and marks it handed over, on
    disk, while it reads its meters; at the end nothing may be left unmarked. Bare paho has everything in memory.
    """
    with installation(mode="broker") as site:
        site.fill(batches)
        copy = site.place / "copy.db"
        shutil.copy(site.place / "journal.db", copy)
        site.mosquitto.start()
        wide, bare = (_bare_paho(site, copy, batches, window) for window in (PAHOS_WINDOW, IN_FLIGHT_MAX))
        with _subscriber(site, batches) as seen:
            site.start_agent()
            ours = seen()
        site.wait_for("the newest", site.delivered, 60)
        assert site.stop("agent") == 0
        return Compared(ours, bare, wide)


def _bare_paho(site: Installation, journal: Path, batches: int, window: int) -> Sent:
    """What the library alone can do, with this many messages without a PUBACK."""
    with _subscriber(site, batches) as seen:
        arguments = [str(site.mosquitto.port), topics.batch(ORG, AGENT), str(journal), str(window)]
        subprocess.run([sys.executable, "-m", "tests.bench.paho_sender", *arguments], check=True, timeout=600)
        return seen()


class Relay:
    """The link between agent and broker, which cuts each connection after a number of bytes from the agent.

    The numbers are given; when there are none left, nothing is cut any more. A thread for each direction, because what
    is measured are other processes.
    """

    def __init__(self, broker_port: int, after_bytes: Sequence[int] = (), *, port: int = 0) -> None:
        self._broker_port = broker_port
        self._after_bytes = list(after_bytes)
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether every cut was made."""
        return not self._after_bytes

    def _accept(self) -> None:
        while True:
            try:
                agent, _ = self._listener.accept()
            except OSError:
                return
            limit = self._after_bytes[0] if self._after_bytes else None
            broker = socket.create_connection(("127.0.0.1", self._broker_port))
            threading.Thread(target=self._carry, args=(broker, agent, None), daemon=True).start()
            threading.Thread(target=self._carry, args=(agent, broker, limit), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        carried = 0
        try:
            while data := source.recv(65_536 if limit is None else limit - carried):
                target.sendall(data)
                carried += len(data)
                if limit is not None and carried >= limit:
                    self._after_bytes.pop(0)
                    self.cuts += 1
                    break
        except OSError:
            pass  # the other direction has ended it
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept nobody any more."""
        self._listener.close()


@dataclass(frozen=True, slots=True)
class CutStarts:
    """What became of the intervals while every beginning of a connection was cut."""

    cuts: int
    seconds: float
    cuts_of_interval: int
    skipped: int
    read_errors: int
    all_delivered: bool


def cut_starts(after_bytes: Sequence[int]) -> CutStarts:
    """Cut the connection after so many bytes, each time later in its beginning, with an interval of a second."""
    broker = Mosquitto().start()
    relay = Relay(broker.port, after_bytes)
    with installation(interval="1s", broker=f"mqtt://127.0.0.1:{relay.port}") as site:
        site.mosquitto = broker
        site.start_meters()
        site.start_platform()
        site.wait_for("the platform", lambda: (site.place / "platform.db").exists(), 30)
        site.start_agent()
        began = time.monotonic()
        site.wait_for("every cut", lambda: relay.done, 60 * (1 + len(after_bytes)))
        site.wait_for("the rest", site.delivered, 120)
        status = site.status()
        boundary, lines = status["boundary"], status["lines"]
        assert isinstance(boundary, dict) and isinstance(lines, list)
        errors = sum(int(line["failed_reads"]) for line in lines)
        done = CutStarts(
            relay.cuts,
            time.monotonic() - began,
            boundary["cuts"],
            boundary["skipped"],
            errors,
            site.delivered(),
        )
        relay.close()
        return done


def run_delivery(*, quick: bool, runs: int, patience_s: float) -> None:
    """The section of the bench."""
    _judge_drain(drain(2_000 if quick else MONTH_BATCHES))
    compared = sorted(
        (broker_mode(5_000 if quick else 10_000) for _ in range(runs)), key=lambda each: each.ratio
    )
    median = compared[len(compared) // 2]
    ours, bare = median.ours, median.bare
    report.judge(
        f"broker mode beside bare paho, QoS 1, the same payloads and window ({IN_FLIGHT_MAX})",
        f"{100 * median.ratio:.0f} % ({ours.rate:.0f} and {bare.rate:.0f} batches/s)",
        f"at least {100 * BARE_SHARE_MIN:.0f} %",
        median.ratio >= BARE_SHARE_MIN,
    )
    share = 100 * ours.rate / median.wide.rate
    report.say(
        f"with paho's own window of {PAHOS_WINDOW}: {median.wide.rate:.0f} batches/s, ours {share:.0f} %"
    )
    deltas = ours.messages * METERS
    report.say(
        f"on the wire: {ours.bytes / deltas:.0f} bytes a delta, {ours.bytes / ours.messages:.0f} a batch"
    )
    cut = cut_starts(
        [1, 150, 2_500] if quick else [1, 20, 60, 100, 140, 180, 220, 300, 500, 1_000, 2_000, 4_000]
    )
    report.judge(
        f"the link cut {cut.cuts} times while a connection begins, a batch sealed each second",
        f"{cut.cuts_of_interval} intervals closed in {cut.seconds:.0f} s, {cut.skipped} skipped, "
        f"{cut.read_errors} reads failed",
        "none skipped, none failed, all delivered in the end",
        cut.skipped == 0 and cut.read_errors == 0 and cut.all_delivered,
    )


def _judge_drain(done: Drained) -> None:
    limit_s = max(10, DRAIN_S_MAX * done.batches / MONTH_BATCHES)
    cpu = ", ".join(f"{name} {spent:.0f} s" for name, spent in done.cpu_s.items())
    report.judge(
        f"a backlog of {done.batches} batches of {METERS} deltas, verified and stored",
        f"{done.seconds:.0f} s, {done.batches / (done.seconds - done.begun_s):.0f} batches/s (CPU: {cpu})",
        f"at most {limit_s:.0f} s",
        done.seconds <= limit_s,
    )
    report.judge(
        "begun after the link was back",
        f"{done.begun_s:.1f} s",
        f"at most {BEGIN_S_MAX} s",
        done.begun_s <= BEGIN_S_MAX,
    )
    report.judge(
        "memory of the agent at its most",
        f"{done.resident_kb // 1024} MB",
        f"below {RESIDENT_MB_MAX} MB",
        done.resident_kb < RESIDENT_MB_MAX * 1024,
    )
    report.judge(
        "boundaries skipped meanwhile", f"{done.missed_boundaries}", "none", done.missed_boundaries == 0
    )
