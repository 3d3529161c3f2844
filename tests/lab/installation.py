"""The installation that the lab torments: four meters, mosquitto, the platform, and an agent that dies all the time.

What systemd does for a gateway the campaigns do here: they start the agent again. `settle` ends every campaign with the
one question: do platform and meters agree, exactly, and can an auditor verify it?
"""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.adapters.journal import open_journal
from agent.service.acknowledge import KEEP_DAYS_MIN
from simulators.demo.rig import MeterPlace, Rig, places
from simulators.platform.queries import broken_books
from simulators.platform.store import Store
from tests.lab import calendar
from tests.real.torment import evidence_of

PATIENCE_S = 150
"""Until something has to have recovered. No measure of speed: the machine may be busy with other things."""


def few_places() -> list[MeterPlace]:
    """Two meters on the pair, two behind the gateway."""
    every = places()
    return [*every[:2], *every[10:12]]


class Installation(Rig):
    """A rig whose journal lies on a `disk` of its own, and which keeps a campaign's figures."""

    def __init__(
        self,
        folder: Path,
        broker: str,
        *,
        disk: Path | None = None,
        meters: Sequence[MeterPlace] | None = None,
        interval: str = "1s",
        has_calendar: bool = False,
    ) -> None:
        """With a calendar days can pass at the platform, and the agent keeps what was acknowledged for seven only."""
        self.disk = disk or folder / "disk"
        self.disk.mkdir(parents=True, exist_ok=True)
        self.worst_recovery_s = 0.0
        super().__init__(
            folder, interval, broker, speed=60, meters=few_places() if meters is None else meters
        )
        self.edit_site('path = "journal.db"', f'path = "{self.journal}"')
        self._calendar = folder / "calendar" if has_calendar else None
        if has_calendar:
            self.edit_site("[journal]", f"[journal]\nkeep_acknowledged_days = {KEEP_DAYS_MIN}")

    @property
    def journal(self) -> Path:
        """The agent's journal."""
        return self.disk / "journal.db"

    def edit_site(self, old: str, new: str, *, times: int = 1) -> None:
        """Replace what stands in the site file so many times."""
        text = self.site.read_text()
        assert text.count(old) == times, old
        self.site.write_text(text.replace(old, new))

    def start_surroundings(self) -> None:
        """Everything but the agent."""
        self.start_meters()
        self.start_platform()

    def _start(
        self,
        name: str,
        module: str,
        *arguments: str,
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """See `Rig`; a platform that has a calendar is started by way of it."""
        if name == "platform" and self._calendar is not None:
            module = calendar.__name__
            environment = {**os.environ, **(environment or {}), calendar.FILE: str(self._calendar)}
        super()._start(name, module, *arguments, under=under, environment=environment)

    def pass_days(self, days: int) -> None:
        """The platform's clock, and with it the age of what is stored there, goes on by so many days, if it has one."""
        if self._calendar is not None:
            calendar.turn(self._calendar, days)

    # -- the agent's lives

    def recover(self, *, under: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start the agent and wait until it has sealed a batch; the time counts as a recovery."""
        began = time.monotonic()
        self.start_agent(under=under, environment=environment)
        self.await_cuts(1)
        self.note_recovery(began)

    def note_recovery(self, began: float) -> None:
        """A recovery that began at this moment of the monotonic clock is over."""
        self.worst_recovery_s = max(self.worst_recovery_s, time.monotonic() - began)

    def await_answer(self) -> None:
        """Wait until the agent answers on its control socket, which is after its start."""
        self.wait_until(lambda: self.agent_status() is not None, PATIENCE_S, "the agent answers")

    def await_cuts(self, count: int) -> None:
        """Wait until this life of the agent has cut and sealed so many intervals more."""
        wanted = self.cuts() + count
        self.wait_until(lambda: self.cuts() >= wanted, PATIENCE_S, f"{count} intervals cut")

    def await_end(self, *, cuts: int) -> int | None:
        """Wait until the agent ends by itself (its exit code), or has cut so many intervals (killed; None)."""
        deadline = time.monotonic() + PATIENCE_S
        process = self.processes["agent"]
        while process.poll() is None:
            if self.cuts() >= cuts:
                self.kill("agent")
                return None
            assert time.monotonic() < deadline, "the agent neither ends nor works"
            time.sleep(0.05)
        del self.processes["agent"]
        return process.returncode

    def cuts(self) -> int:
        """Intervals that this life of the agent has cut; 0 where it does not answer."""
        return int(self._said("boundary", "cuts") or 0)

    def acknowledged(self) -> int:
        """The newest batch that the agent knows to be acknowledged; 0 for none."""
        head = self._said("journal", "acknowledged")
        return int(head["seq"]) if head else 0

    def await_acknowledged(self, seq: int) -> None:
        """Wait until the platform has acknowledged this batch."""
        self.wait_until(lambda: self.acknowledged() >= seq, PATIENCE_S, f"batch {seq} is acknowledged")

    def seq(self) -> int:
        """The number of the agent's newest batch; waits until it answers."""
        heads: list[tuple[str, int]] = []

        def look() -> bool:
            head = self.head()
            heads.extend([] if head is None else [head])
            return head is not None

        self.wait_until(look, PATIENCE_S, "the agent answers")
        return heads[0][1]

    def published(self) -> int:
        """How many batches the broker gave this life of the agent a PUBACK for."""
        return int(self._said("platform", "published") or 0)

    def connected(self) -> bool:
        """Whether the agent believes that it has a connection to the broker."""
        return self._said("platform", "connected") is True

    def head(self) -> tuple[str, int] | None:
        """Chain and number of the agent's newest batch, None where it does not answer."""
        chain = self._said("journal", "chain")
        return None if chain is None else (str(chain), int(self._said("journal", "seq") or 0))

    def _said(self, part: str, key: str) -> Any:
        said: Any = self.agent_status()
        return None if said is None else said[part][key]

    # -- the account

    def booked_head(self) -> tuple[str, int]:
        """Chain and number of the newest batch that the platform has booked, and so may have acknowledged."""
        store = Store.read(self.store)
        try:
            chain, seq = store.one("SELECT chain, seq FROM batches ORDER BY batch_id DESC LIMIT 1")
        finally:
            store.close()
        return str(chain), int(seq)

    def check_books(self) -> None:
        """At any moment: the platform's books add up, and no meter has more booked than its register rose by."""
        account = self.account()
        if account is None:
            return
        store = Store.read(self.store)
        try:
            assert broken_books(store) == []
        finally:
            store.close()
        truth = self.truth()
        for name, booked in account.meters.items():
            assert len(booked.epochs) == 1, f"{name}: {len(booked.epochs)} epochs where one was expected"
            assert booked.energy_milliwh <= truth[name] - booked.epochs[0].opening, f"{name} has too much"

    def forgotten(self) -> int:
        """How many batches of its only chain the agent has purged; it must not run."""
        journal = open_journal(self.journal)
        try:
            oldest = journal.oldest()
        finally:
            journal.close()
        assert oldest is not None
        return oldest.head.seq - 1

    def settle(self) -> str:
        """Heal, drain, stop; then platform = meters, exactly, in one chain that verifies. Gives the figures."""
        if "agent" not in self.processes:
            self.recover()
        self.await_cuts(1)
        self.freeze_counters()
        began = time.monotonic()
        while (wrong := self.differences()) and time.monotonic() < began + PATIENCE_S:
            self.check_alive()
            time.sleep(0.2)
        assert wrong == {}, f"{wrong}\n{self.log_of('agent').read_text(errors='replace')[-4000:]}"
        # Of `under` something may remain between us and the agent (strace -D is none of it, nsenter becomes it).
        assert self.stop("agent") == 0, self.log_of("agent").read_text(errors="replace")[-3000:]
        self.stop("platform")
        report = evidence_of(self)
        for verdict in (report.signature, report.chain, report.conservation):
            assert verdict.ok, verdict
        assert len(report.chains) == 1, "one journal that was never lost is one chain"
        assert set(report.by_meter) == {place.id for place in self.meters}
        return f"worst recovery {self.worst_recovery_s:.1f} s, platform = {len(self.meters)} meters"

    def kill_if_alive(self, name: str) -> None:
        """SIGKILL to what runs."""
        if name in self.processes:
            self.kill(name)

    def freeze(self, name: str) -> None:
        """SIGSTOP: the process is there and does nothing."""
        os.killpg(self.processes[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on after `freeze`."""
        os.killpg(self.processes[name].pid, signal.SIGCONT)


def on_the_pair_only() -> list[MeterPlace]:
    """Two meters that are reached without any network."""
    return places()[:2]
