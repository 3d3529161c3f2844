"""A gateway, a network that loses, doubles and reorders, and a platform, in one process and by one seed.

The production code closes, restores, acknowledges and books; only time, chance and delivery are the world's. Every
meter carries the true energy since it was first read; whatever happens, the platform's account has to reach it exactly
once the faults have stopped. The whole factory with its bus, disk and clocks is a later issue; this world is about the
journal and the chain (wire format, section 6).
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.adapters.journal import StdlibConnection, open_journal
from agent.adapters.journal.connection import Row, Value
from agent.adapters.keys import PublicKeys
from agent.metering.plant import Meter
from agent.reporting import envelope, topics
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.batch import Clock
from agent.reporting.chain import ChainHead
from agent.reporting.status import Backlog, Oldest, Status
from agent.service.journal import Standing
from simulators.platform.answers import Outgoing
from simulators.platform.ingest import Platform
from simulators.platform.queries import broken_books, totals
from simulators.platform.store import Store
from tests.metering.examples import meter, register
from tests.service.bench import Bench, Dice, HandClock
from tests.simulators.chains import signer

ORG, AGENT = "org", "gw01"
MINUTE_MS = 60_000
CALM_MINUTES = 20
"""No disasters before: what was used before the platform has heard of a meter at all, nobody can prove."""
FAULTS = ("loss", "twice", "late", "crash", "rollback", "lost", "platform restored", "silent meters")


class QuickConnection(StdlibConnection):
    """Without waiting for the disk: this world's crashes lose nothing that was committed."""

    def execute(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run it, but for the one setting."""
        return super().execute(
            "PRAGMA synchronous=OFF" if sql == "PRAGMA synchronous=FULL" else sql, parameters
        )


@dataclass
class TrueMeter:
    """A meter as nature knows it: raw counts, and the energy since the first reading."""

    meter: Meter
    counts: int
    since_first_milliwh: int = 0
    read_once: bool = False

    def use(self, counts: int) -> None:
        modulus = self.meter.profile.energy.modulus_counts
        self.counts = (self.counts + counts) % modulus if modulus else self.counts + counts
        if self.read_once:
            self.since_first_milliwh += counts * 10_000


@dataclass(order=True)
class Message:
    """On its way until `at`."""

    at: int
    number: int
    up: bool = field(compare=False)
    topic: str = field(compare=False)
    payload: bytes = field(compare=False)


class SmallWorld:
    """One seed."""

    def __init__(self, folder: Path, seed: int, faults: frozenset[str] | None = None) -> None:
        self.chance = random.Random(seed)
        self.faults = (
            faults if faults is not None else frozenset(f for f in FAULTS if self.chance.random() < 0.5)
        )
        self.folder = folder
        self.clock = HandClock()
        self.dice = Dice(self.chance.randrange(1 << 30))
        self.meters = [self._meter(1, 10**6), self._meter(2, None), self._meter(3, 10**6)]
        self.generation = 0
        self.edge = self._start_edge()
        self.platform = self._start_platform()
        self.net: list[Message] = []
        self.sent_up_to = 0
        self.progress = 0
        self.head: ChainHead | None = None
        self.session = 0
        self.tick_no = 0
        self.healed = False
        self.number = 0
        self.told: list[str] = []

    def _meter(self, number: int, modulus: int | None) -> TrueMeter:
        energy = register(modulus_counts=modulus)
        wired = meter(energy, id=f"m{number}", address=number, serial=str(number), rated_w=4_000_000)
        start = 999_000 if modulus else self.chance.randrange(10**6)
        return TrueMeter(wired, start + self.chance.randrange(900))

    def _start_edge(self) -> Bench:
        edge = Bench.__new__(Bench)
        edge.path, edge.clock, edge.dice, edge.name = self.folder, self.clock, self.dice, "journal.db"
        edge.meters = tuple(each.meter for each in self.meters)
        edge.signer = signer(1)
        edge.journal = open_journal(self.folder / edge.name, QuickConnection)
        edge.wire(edge.meters)
        return edge

    def _start_platform(self) -> Platform:
        store = Store.create(self.folder / "platform.db")
        store.run("PRAGMA synchronous=OFF")
        return Platform(
            store,
            audience="carbon.example",
            signer=signer(2),
            keys={(ORG, AGENT): [signer(1).public_key]},
            clock=self.clock,
            gen=self.generation,
        )

    # -- one minute

    def run(self, minutes: int, healing: int = 90) -> None:
        """Faults for so many minutes, then as many without as it takes to converge."""
        for _ in range(minutes):
            self.tick()
        self.healed = True
        for _ in range(healing):
            self.tick()

    def tick(self) -> None:
        self.tick_no += 1
        for each in self.meters:
            each.use(self.chance.randrange(0, 40))
        if not self.healed and self.tick_no > CALM_MINUTES:
            self._maybe_disaster()
        self._close()
        if self.tick_no % 5 == 0 or self._asking():
            self._say_status()
        self._publish()
        self._deliver()
        for outgoing in self.platform.tick(self.clock.now_ms):
            self._answer(outgoing)

    def _fault(self, name: str, probability: float) -> bool:
        return not self.healed and name in self.faults and self.chance.random() < probability

    def _close(self) -> None:
        read = {}
        for each in self.meters:
            if not self._fault("silent meters", 0.2):
                read[each.meter.id] = each.counts
        confirming = self.edge.journal.state().standing is Standing.CONFIRMING
        self.edge.read(read)
        for each in self.meters:
            if each.meter.id in read and not confirming:
                each.read_once = True

    def _asking(self) -> bool:
        return self.edge.journal.state().standing is not Standing.NORMAL

    # -- disasters

    def _maybe_disaster(self) -> None:
        if self.tick_no % 25 == 0:
            self._back_up()
        if self._fault("crash", 0.05):
            self._restart_edge()
        if self._fault("rollback", 0.02) and (self.folder / "backup.db").exists():
            self.told.append(f"{self.tick_no}: journal replaced by an old copy")
            self._replace_journal(self.folder / "backup.db")
        if self._fault("lost", 0.01):
            self.told.append(f"{self.tick_no}: journal lost")
            self._replace_journal(None)
        if self._fault("platform restored", 0.01) and (self.folder / "platform-backup.db").exists():
            self.told.append(f"{self.tick_no}: platform restored from an old copy")
            self._restore_platform()

    def _back_up(self) -> None:
        self.edge.journal.close()
        shutil.copy(self.folder / "journal.db", self.folder / "backup.db")
        self.edge.journal = open_journal(self.folder / "journal.db", QuickConnection)
        self.platform.store.run("PRAGMA wal_checkpoint(TRUNCATE)")
        if self.chance.random() < 0.5:
            shutil.copy(self.folder / "platform.db", self.folder / "platform-backup.db")

    def _restart_edge(self) -> None:
        self.edge.journal.close()
        self.edge.journal = open_journal(self.folder / "journal.db", QuickConnection)
        self.session += 1
        self.sent_up_to = 0

    def _replace_journal(self, copy: Path | None) -> None:
        self.edge.journal.close()
        for suffix in ("", "-wal"):
            (self.folder / f"journal.db{suffix}").unlink(missing_ok=True)
        if copy is not None:
            shutil.copy(copy, self.folder / "journal.db")
        self.edge.journal = open_journal(self.folder / "journal.db", QuickConnection)
        self.session += 1
        self.sent_up_to = 0

    def _restore_platform(self) -> None:
        self.platform.store.close()
        for suffix in ("", "-wal", "-shm"):
            (self.folder / f"platform.db{suffix}").unlink(missing_ok=True)
        shutil.copy(self.folder / "platform-backup.db", self.folder / "platform.db")
        self.generation += 1
        self.platform = self._start_platform()

    # -- messages

    def _publish(self) -> None:
        journal = self.edge.journal
        if self._asking():
            return
        if self.tick_no - self.progress > 8:
            self.sent_up_to, self.progress = 0, self.tick_no
        for batch in journal.queue(after_ordinal=self.sent_up_to, limit=16):
            self._post(True, topics.batch(ORG, AGENT), batch.jws or b"")
            self.sent_up_to = batch.ordinal

    def _say_status(self) -> None:
        journal, state = self.edge.journal, self.edge.journal.state()
        backlog, oldest = journal.backlog(), journal.oldest()
        latest = journal.latest_descriptor()
        said = Status(
            org=ORG,
            agent=AGENT,
            at_ms=self.clock.now_ms,
            state="online",
            session=f"session-{self.session}",
            sw="0",
            kid=self.edge.signer.kid,
            cfg=latest.hash if latest else None,
            chain=state.chain,
            head=(state.seq, state.hash) if state.hash else None,
            oldest=Oldest(oldest.head.chain, oldest.head.seq, oldest.prev) if oldest else None,
            backlog=Backlog(backlog.batches, backlog.energy_milliwh, backlog.since_ms),
            clock=Clock("S", 10),
            mode="platform",
            need_heads=state.standing is not Standing.NORMAL,
        )
        payload = envelope.seal(envelope.STATUS, said.to_payload(), self.edge.signer)
        self._post(True, topics.status(ORG, AGENT), payload)

    def _post(self, up: bool, topic: str, payload: bytes) -> None:
        if self._fault("loss", 0.2):
            return
        copies = 2 if self._fault("twice", 0.1) else 1
        for _ in range(copies):
            delay = self.chance.randrange(0, 6) if self._fault("late", 0.5) else 0
            self.number += 1
            self.net.append(Message(self.tick_no + delay, self.number, up, topic, payload))

    def _deliver(self) -> None:
        for _ in range(3):
            due = sorted(message for message in self.net if message.at <= self.tick_no)
            self.net = [message for message in self.net if message.at > self.tick_no]
            for message in due:
                if message.up:
                    for outgoing in self.platform.receive(message.topic, message.payload):
                        self._answer(outgoing)
                else:
                    self._hear(message.payload)

    def _answer(self, outgoing: Outgoing) -> None:
        self._post(False, outgoing.topic, outgoing.payload)

    def _hear(self, payload: bytes) -> None:
        opened = envelope.open_sealed(payload, envelope.ACKNOWLEDGEMENT, PublicKeys([signer(2).public_key]))
        said = Acknowledgement.from_payload(opened.payload)
        outcome = self.edge.acknowledger.take(
            self.edge.journal, said, payload, session=f"session-{self.session}", now_ms=self.clock.now_ms
        )
        if outcome.value == "restored":
            self.told.append(f"{self.tick_no}: new chain behind {said.head}")
            self.sent_up_to = 0
        if said.head != self.head:
            self.head, self.progress = said.head, self.tick_no

    # -- the checks

    def faults_in_the_account(self) -> list[str]:
        """What is wrong with the platform's account once all faults have stopped; empty if nothing is."""
        wrong = broken_books(self.platform.store)
        account = totals(self.platform.store)[f"{ORG}/{AGENT}"]
        for each in self.meters:
            booked = account.meters.get(each.meter.id)
            energy = booked.energy_milliwh if booked else 0
            if energy != each.since_first_milliwh:
                wrong.append(f"{each.meter.id}: booked {energy}, true {each.since_first_milliwh}")
        if self.edge.journal.backlog().batches > 2:
            wrong.append(f"still {self.edge.journal.backlog().batches} batches unacknowledged")
        return wrong

    def close(self) -> None:
        self.edge.journal.close()
        self.platform.store.close()


def replaced(each: TrueMeter, **changes: object) -> TrueMeter:
    """The same place, wired differently."""
    return replace(each, meter=replace(each.meter, **changes))  # type: ignore[arg-type]
