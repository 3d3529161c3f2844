"""One gateway: its disk, its clock, its site file, and the agent that is started on it again and again.

What `agent.wiring` does with the real adapters is done here with the world's: open the journal (one that is damaged is
moved aside), note the start, assemble the stages, run them. What follows a failure is the service manager's part:
start again after five seconds, for ever.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from agent.adapters.journal import Place, SqliteJournal, note_damage, open_or_replace
from agent.adapters.keys import Ed25519Signer, PublicKeys
from agent.errors import JournalDamaged, JournalFull, JournalHeld
from agent.service.assemble import Ports, Task, assemble
from agent.service.ports import Line
from agent.service.seal import Identity
from agent.service.signing import Signers, settle_keys
from agent.service.supervise import Stages, mark_started, run_until
from simulators.world.disk import Cut, Disk, DiskVfs
from simulators.world.network import Broker, WorldUplink
from simulators.world.site import AGENT, AUDIENCE, ORG, Site
from simulators.world.storage import JOURNAL, InlineStorage, WorldConnection, WorldFiles
from simulators.world.time import GatewayClock, WorldSchedule

RESTART_S = 5
QUICK_STARTS, SLOW_RESTART_S = 5, 60
"""After so many starts that failed the next one comes later than any service manager would let it: a hundred starts on
a disk that is gone show nothing new and cost as much as an hour of the factory."""
KEEP_DAYS = 7
BUDGET_BYTES = 20_000_000
PIECE_READINGS = 16
"""Small, so that what befalls an agent befalls it between two pieces of a restored chain as well."""


class Dice:
    """`agent.service.ports.Entropy` by seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token(self, size: int) -> bytes:
        """`size` bytes."""
        return self._chance.randbytes(size)


class Watchman:
    """`agent.service.supervise.Notifier`: nobody but the world listens, and only to the bad news."""

    def __init__(self, alarm: Callable[[str], None]) -> None:
        self._alarm = alarm

    def ready(self) -> None:
        """Start-up is finished."""

    def status(self, text: str) -> None:
        """One line for a person."""

    def watchdog(self) -> None:
        """Still making progress."""

    def frozen(self) -> None:
        """A stage makes no progress any more."""
        self._alarm("I9: a stage of the agent is frozen")

    def stopping(self) -> None:
        """The stop has begun."""

    def watchdog_interval_s(self) -> float | None:
        """Looked for once in a while."""
        return 300.0


@dataclass(frozen=True)
class Surroundings:
    """What the world gives to a gateway."""

    interval_ms: int
    by_broker: bool
    """Only the broker answers (`acknowledgement = "broker"` of the site file)."""
    signer: Ed25519Signer
    platform_keys: PublicKeys
    broker: Broker
    lines: Callable[[Site], dict[str, Line]]
    watch: Callable[["Gateway", str, bytes], None]
    """Sees every message that leaves."""
    seen: Callable[["Gateway", object], None]
    """Sees the result of every piece of work on the journal."""
    opened: Callable[[SqliteJournal], None]
    """Told, before anything is read, of the journal of this start."""
    tell: Callable[[str], None]
    """A line of the world's story."""
    alarm: Callable[[str], None]
    """A broken promise."""


class Gateway:
    """One box."""

    def __init__(
        self, name: str, site: Site, clock: GatewayClock, around: Surroundings, chance: random.Random
    ) -> None:
        self.name = name
        self.site = site
        self.signers = Signers(around.signer)
        """The keys that the site file names; taken at the next start."""
        self.clock = clock
        self.disk = Disk()
        self.applied: str | None = None
        """The hash of the site file applied last, kept beside the journal."""
        self.journal: SqliteJournal | None = None
        self.stages: Stages | None = None
        self.uplink: WorldUplink | None = None
        self.storage: InlineStorage | None = None
        self.starts = 0
        self.started_ns = 0
        """When the agent was started last."""
        self.delay_s = 0.0
        self.restart_s: float = RESTART_S
        self._failed_starts = 0
        self._around = around
        self._chance = chance
        self._stop = asyncio.Event()
        self._agent: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._vfs: DiskVfs | None = None
        self._place: Place | None = None
        self.disk.on_cut = self._silence

    # -- the switch

    def switch_on(self) -> None:
        """The service manager starts the agent, and keeps it started."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"keeper {self.name}")

    async def switch_off(self) -> None:
        """For good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.kill()
        self._let_go()  # SQLite knows of its disk by name, so that otherwise the whole world stays in memory

    async def kill(self, *, pause_s: float = RESTART_S) -> None:
        """SIGKILL; it is started again after a pause."""
        self.restart_s = pause_s
        self._silence()
        self.disk.end_process()
        await self._end_agent()

    async def cut_power(self, cut: Cut, *, pause_s: float = 30) -> None:
        """The plug is pulled, and put in again after a pause."""
        self.restart_s = pause_s
        self.disk.cut_power(cut)
        await self._end_agent()

    async def stop(self) -> None:
        """SIGTERM: the agent winds down in good order, and is started again."""
        agent = self._agent
        self._stop.set()
        if agent is not None:
            await asyncio.wait([agent])

    def _silence(self) -> None:
        if self.uplink is not None:
            self.uplink.kill()

    async def _end_agent(self) -> None:
        if self._agent is not None:
            self._agent.cancel()
            await asyncio.wait([self._agent])

    # -- the service manager

    async def _keep(self) -> None:
        while True:
            self._stop = asyncio.Event()
            self._agent = asyncio.get_running_loop().create_task(self._run(), name=f"agent {self.name}")
            await asyncio.wait([self._agent])
            self._judge(self._agent)
            self._failed_starts = 0 if self.stages is not None else self._failed_starts + 1
            self._silence()
            if self.disk.dead:
                self.disk.restart()
                self.clock.boots += 1
            else:
                self.disk.end_process()
            self._let_go()
            pause_s, self.restart_s = self.restart_s, RESTART_S
            await asyncio.sleep(pause_s if self._failed_starts < QUICK_STARTS else SLOW_RESTART_S)

    def _judge(self, agent: "asyncio.Task[None]") -> None:
        if agent.cancelled():
            return
        error = agent.exception()
        if error is None:
            return
        self._around.tell(f"{self.name}: the agent ended: {error!r}")
        if not isinstance(error, JournalDamaged | JournalFull | JournalHeld):
            self._around.alarm(f"I9: the agent ended with {error!r}")

    def _let_go(self) -> None:
        self.stages = self.uplink = self.storage = None
        journal, self.journal = self.journal, None
        if journal is not None:
            try:
                journal.close()
            except JournalDamaged as error:
                self._around.tell(f"{self.name}: {error}")
        if self._vfs is not None:
            self._vfs.unregister()
            self._vfs = None

    # -- the agent

    async def _run(self) -> None:
        self.starts += 1
        self.started_ns = self.clock.monotonic_ns()
        journal = self.journal = self._open()
        try:
            await self._run_on(journal)
        except JournalDamaged as error:
            assert self._place is not None
            note_damage(self._place, error)
            raise

    async def _run_on(self, journal: SqliteJournal) -> None:
        """As `agent.wiring` does on an open journal."""
        site, answers = self.site, not self._around.by_broker
        standing = mark_started(
            journal,
            site.sha256,
            owner=f"{ORG}/{AGENT} to {AUDIENCE}",
            applied_sha256=self.applied,
            platform_answers=answers,
        )
        settle_keys(journal, self.signers, site="site.toml", platform_answers=answers)
        self.applied = site.sha256
        self._around.tell(f"{self.name}: start {self.starts}, site {site.version}, {standing}")
        self._around.opened(journal)
        self.stages = self._assemble(site, journal)
        await run_until(self.stages, self._stop)

    def _open(self) -> SqliteJournal:
        vfs = self._vfs = DiskVfs(self.disk)
        self._place = Place(
            JOURNAL, lambda path: WorldConnection(vfs, path), WorldFiles(self.disk), BUDGET_BYTES
        )
        opened = open_or_replace(
            self._place, self.clock.wall_ms(), platform_answers=not self._around.by_broker
        )
        if opened.aside is not None:
            self._around.tell(f"{self.name}: the journal is moved aside: {opened.salvaged}")
        return opened.journal

    def _assemble(self, site: Site, journal: SqliteJournal) -> Stages:
        around = self._around
        self.storage = InlineStorage(journal, self.disk, lambda result: around.seen(self, result))
        self.storage.delay_s = self.delay_s
        self.uplink = WorldUplink(
            around.broker, self._chance, lambda topic, payload: around.watch(self, topic, payload)
        )
        task = Task(
            identity=Identity(ORG, AGENT, AUDIENCE, "0.1.0"),
            lines=site.lines,
            meters=site.meters,
            interval_ms=around.interval_ms,
            keep_days=KEEP_DAYS,
            mode="broker" if around.by_broker else "platform",
            boot=f"{self.name}-{self.starts}",
            piece_readings=PIECE_READINGS,
        )
        ports = Ports(
            lines=around.lines(site),
            storage=self.storage,
            uplink=self.uplink,
            clock=self.clock,
            entropy=Dice(self._chance),
            signer=self.signers.first,
            following=self.signers.following,
            platform_keys=around.platform_keys,
            schedule=lambda on_step: WorldSchedule(self.clock, on_step),
            notifier=Watchman(around.alarm),
        )
        return assemble(task, ports)
