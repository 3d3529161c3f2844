"""A gateway's journal filled by the real stages, with receipts that a platform really signed, and its site file.

The clock is set by hand, so that days pass at once. What is exported from it goes through the real command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from agent.adapters.keys import Ed25519Signer, generate_key, load_signer
from agent.cli.group import main
from agent.metering.interval import DAY_MS
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement, MeterHead
from agent.reporting.chain import ChainHead
from agent.service.acknowledge import Outcome
from tests.service.bench import Bench

SITE = """\
[gateway]
org = "org"
agent = "gw01"

[platform]
audience = "carbon.example"
broker = "mqtt://127.0.0.1:1883"
acknowledgement_keys = ["platform.pem"]

[signing]
key_file = "key.pem"

[journal]
path = "journal.db"
budget_mb = 20000

[interval]
length = "1min"

[[lines]]
id = "hall-a"
transport = "modbus-tcp"
host = "127.0.0.1"
port = 502

[[meters]]
id = "reflow-1"
line = "hall-a"
address = 1
profile = "eastron-sdm630-v2"
step = "reflow_soldering"
serial = "100"

[[meters]]
id = "wave-1"
line = "hall-a"
address = 2
profile = "eastron-sdm630-v2"
step = "wave_soldering"
serial = "200"
"""


@dataclass
class Office:
    """One gateway's folder. `bench` reads and seals, `acknowledge` is the platform, `export` the command."""

    folder: Path

    def __post_init__(self) -> None:
        self.bench = Bench(self.folder)
        (self.folder / "site.toml").write_text(SITE)
        (self.folder / "platform.pem").write_text(generate_key(self.folder / "platform-key.pem").pem)
        self.platform: Ed25519Signer = load_signer(self.folder / "platform-key.pem")
        self.acknowledgements = 0
        self.minutes = 0

    @property
    def site(self) -> Path:
        """The site file."""
        return self.folder / "site.toml"

    def work(self, minutes: int) -> None:
        """Seal some minutes of both meters, which use 0.07 and 0.03 kWh in each."""
        for _ in range(minutes):
            self.minutes += 1
            self.stand()

    def stand(self) -> None:
        """Seal both registers as they stand."""
        self.bench.read({"reflow-1": 1_000 + 7 * self.minutes, "wave-1": 2_000 + 3 * self.minutes})

    def night(self, days: int = 1) -> None:
        """Let time pass without a reading."""
        self.bench.clock.now_ms += days * DAY_MS

    def head(self) -> ChainHead:
        """The batch sealed last."""
        head = self.bench.journal.state().head
        assert head is not None
        return head

    def acknowledge(self, head: ChainHead | None, **more: Any) -> Outcome:
        """The platform signs what it holds, and the agent takes it."""
        self.acknowledgements += 1
        now_ms = self.bench.clock.now_ms
        said = Acknowledgement("org", "gw01", 0, self.acknowledgements, head, now_ms, **more)
        receipt = envelope.seal(envelope.ACKNOWLEDGEMENT, said.to_payload(), self.platform)
        return self.bench.acknowledger.take(self.bench.journal, said, receipt, session="s", now_ms=now_ms)

    def heads(self) -> dict[str, MeterHead]:
        """What a platform that has everything says of the meters."""
        return {meter: self.bench.meter_head(meter) for meter in self.bench.journal.heads()}

    def export(self, out: str = "out", *options: str) -> Result:
        """Stop the gateway for a moment and type the command."""
        self.bench.journal.close()
        try:
            return run("export", "--site", str(self.site), "--out", str(self.folder / out), *options)
        finally:
            self.bench.restart()

    def verify(self, out: str = "out", *options: str) -> Result:
        """Type the other command, as the manifest says."""
        folder = self.folder / out
        keys = ["--key", str(folder / "agent.pem"), "--acknowledgement-key", str(folder / "platform.pem")]
        return run("verify", *keys, *options, str(folder / "evidence.jws"))


def run(*words: str) -> Result:
    """Type a command."""
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def kinds(lines: Sequence[bytes]) -> list[str]:
    """What the lines of an evidence file are: `desc`, `batch` or `ack`."""
    return [envelope.typ_of(line).removeprefix("kwh-").removesuffix("+jws") for line in lines]
