"""Real processes under torment: the agent and mosquitto are killed, the journal becomes an old copy of itself.

One rig of real programs (10 meters on a pty paced as 9600 8N1, 16 behind a Modbus TCP gateway, mosquitto, the reference
platform, the agent); a plan of disasters at seeded moments; and the one question at the end: is the platform's account
what the meters' registers rose by, exactly, with every chain contiguous and nothing booked twice?
"""

import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.adapters.keys import PublicKeys, load_public_key
from agent.errors import ConfigError
from agent.reporting.verdict import Report
from agent.reporting.verify import Verifier
from simulators.demo.rig import Rig
from simulators.platform.queries import broken_books
from simulators.platform.store import Store
from tests.support.mosquitto import Mosquitto

PATIENCE_S, DRAIN_S = 120, 180
AHEAD = 4
"""So many batches more than when the journal was copied are booked before the copy comes back; less may be in it."""


@dataclass
class Torment:
    """What is done to the rig, and when.

    `copy_s` before the journal is replaced a copy of it was taken, at a moment at which the agent was dead. On a slow
    machine it is longer: the copy has something in it, and what comes after it the platform knows.
    """

    rig: Rig
    mosquitto: Mosquitto
    seconds: int
    kills: int
    broker_kills: int
    copy_s: int
    seed: int
    told: list[str] = field(default_factory=list)
    booked_at_copy: int = 0

    def run(self) -> None:
        """Do it all, then heal and drain."""
        began = time.monotonic()
        for at_s, act in self._plan():
            self._sleep_until(began + at_s)
            self.told.append(f"{at_s} s: {act}")
            getattr(self, act)()
        self._sleep_until(began + self.seconds)
        self.rig.freeze_counters()
        self._drain()
        assert self.rig.stop("agent") == 0, self.rig.log_of("agent").read_text()[-3000:]
        self.rig.stop("platform")

    def _plan(self) -> list[tuple[int, str]]:
        """The copy early on, its return `copy_s` later, and the kills at random moments in between and after."""
        chance = random.Random(self.seed)
        copy_at = max(5, self.seconds // 6)
        plan = [(copy_at, "kill_and_copy"), (copy_at + self.copy_s, "kill_and_put_back_the_copy")]
        moments = range(4, self.seconds - 4)
        plan += [(at, "kill_agent") for at in chance.sample(moments, self.kills - 2)]
        plan += [(at, "kill_mosquitto") for at in chance.sample(moments, self.broker_kills)]
        return sorted(plan)

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - time.monotonic()) > 0:
            self.rig.check_alive()
            time.sleep(min(0.2, left))

    # -- disasters

    def kill_agent(self) -> None:
        """SIGKILL at whatever it is doing."""
        self.rig.kill("agent")
        self.rig.start_agent()

    def kill_mosquitto(self) -> None:
        """SIGKILL, and back after a while with nothing in memory."""
        self.mosquitto.kill()
        time.sleep(1)
        self.mosquitto.start()

    def kill_and_copy(self) -> None:
        """A backup of the journal's files, as a person would make it while the gateway is off."""
        self._await_booked(1)
        self.rig.kill("agent")
        self._copy(self.rig.folder, self._backup)
        self.booked_at_copy = self._booked()
        self.rig.start_agent()

    def kill_and_put_back_the_copy(self) -> None:
        """The gateway dies, and somebody restores the backup."""
        self._await_booked(self.booked_at_copy + AHEAD)
        self.rig.kill("agent")
        for old in self.rig.folder.glob("journal.db*"):
            if old.suffix != ".applied":
                old.unlink()
        self._copy(self._backup, self.rig.folder)
        self.rig.start_agent()

    def _await_booked(self, batches: int) -> None:
        self.rig.wait_until(lambda: self._booked() >= batches, PATIENCE_S, f"{batches} batches are booked")

    def _booked(self) -> int:
        """How many batches the platform has; 0 while it has not made its tables."""
        try:
            store = Store.read(self.rig.store)
        except ConfigError:
            return 0
        try:
            return int(store.one("SELECT count(*) FROM batches")[0])
        finally:
            store.close()

    @property
    def _backup(self) -> Path:
        return self.rig.folder / "backup"

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for name in ("journal.db", "journal.db-wal"):
            if (source / name).exists():
                shutil.copy(source / name, target / name)

    # -- the account

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while (wrong := self.rig.differences()) and time.monotonic() < deadline:
            self.rig.check_alive()
            time.sleep(1)
        assert wrong == {}, f"{wrong}\n{self.told}\n{self.rig.log_of('agent').read_text()[-4000:]}"

    def evidence(self) -> Report:
        """An auditor's reading of all that the platform booked, in its order."""
        return evidence_of(self.rig)


def evidence_of(rig: Rig) -> Report:
    """An auditor's reading of all that the platform booked of a rig, in its order; the platform's books add up."""
    store = Store.read(rig.store)
    try:
        assert broken_books(store) == []
        verifier = Verifier(PublicKeys([load_public_key(rig.folder / "agent.pem")]))
        rows = store.rows("SELECT jws FROM batches ORDER BY batch_id")
        for number, (jws,) in enumerate(rows, start=1):
            verifier.feed(number, bytes(jws))
        return verifier.report()
    finally:
        store.close()
