"""One seed of the simulated world: put together, run, judged."""

import asyncio
import hashlib
import random
from dataclasses import dataclass, replace
from typing import Any

from agent.adapters.journal import SqliteJournal
from agent.adapters.keys import Ed25519Signer, PublicKeys
from agent.service.ports import Line
from agent.service.waiting import happens
from simulators.world import bus_plays, nemesis
from simulators.world.checks import Auditor
from simulators.world.gateway import Gateway, Surroundings
from simulators.world.keys import WorldSigner
from simulators.world.line import Pair, WorldLine
from simulators.world.network import Broker
from simulators.world.office import Office
from simulators.world.plan import CALM_S, Planned, draw, drawn_interval_s, only
from simulators.world.scenarios import INTERVAL_S, SCENARIO_S, SCENARIOS, planned
from simulators.world.site import PLANNED_LINE, RATED_W, Site, first_site, opening_counts
from simulators.world.time import START_MS, GatewayClock, Time, run_in_world
from simulators.world.truth import Device, Load, Place

FAULTS_S = 7200
CONVERGE_S = 3600
CONVERGE_INTERVALS = 15
"""It takes at least so long until something is missing for good: what is doubted is read several times."""
LEARN_S = 3600
"""Longer where nobody can be asked: an epoch that was lost is learnt from the next hourly balance."""
LOOK_S = 300
SILENT_MS_MAX = 12 * 3_600_000
VIOLATIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a seed."""

    seed: int
    plan: tuple[Planned, ...]
    violations: tuple[str, ...]
    story: tuple[str, ...]
    trace: str
    """SHA-256 over everything that happened."""
    simulated_s: int
    batches: int


class World:
    """One seed."""

    def __init__(
        self,
        seed: int,
        plan: tuple[Planned, ...],
        *,
        interval_s: int,
        faults_s: int = FAULTS_S,
        to_the_end: bool = True,
        by_broker: bool = False,
    ) -> None:
        """Put a world together.

        Args:
            seed: everything that is left to chance follows from it.
            plan: what goes wrong.
            interval_s: the length of an interval.
            faults_s: by then all of the plan is over.
            to_the_end: else the first broken promise is the end.
            by_broker: the platform only consumes what the broker has; its word reaches nobody.
        """
        self.seed = seed
        self.plan = plan
        self.faults_s = faults_s
        self.interval_ms = interval_s * 1000
        self.violations: list[str] = []
        self._to_the_end = to_the_end
        self.by_broker = by_broker
        self._enough = asyncio.Event()
        self.story: list[str] = []
        self._trace = hashlib.sha256()
        self.time = Time()
        self.sites: dict[int, Site] = {}
        self.site = self.new_site(first_site())
        self.version_on_bus = self.site.version
        self.agent_key, self.platform_key, self.stranger_key = (WorldSigner(number) for number in (1, 2, 3))
        self._keys_made = 0
        self.last_status: bytes | None = None
        """What a gateway last said of itself; the broker keeps it."""
        self.broker = Broker(self.chance("broker"))
        self.places: dict[str, Place] = {}
        self.devices: dict[str, Device] = {}
        for meter in self.site.meters:
            self._put_up(meter.id)
        self._all_pairs: list[dict[str, Pair]] = []
        self.pairs = self.new_pairs("pairs")
        self.auditor = Auditor(
            self.time,
            self.places,
            self.sites,
            self.alarm,
            self.trace,
            interval_ms=self.interval_ms,
            by_broker=by_broker,
        )
        self.office = Office(
            self.broker,
            self.platform_key,
            self.agent_key,
            self.time,
            self._booked,
            self.auditor.said_by_platform.add,
            is_heard=not by_broker,
        )
        self.gateway = self.new_gateway("gateway", self.pairs)

    def chance(self, name: str) -> random.Random:
        """A source of chance of its own for everybody, so that nobody disturbs another."""
        return random.Random(f"{self.seed}/{name}")

    # -- putting up

    def new_site(self, site: Site) -> Site:
        """Remember a version of the site file."""
        self.sites[site.version] = site
        return site

    def _put_up(self, id_: str) -> None:
        chance, meter = self.chance(f"meter {id_}"), self.site.meter(id_)
        load = Load(f"{self.seed}/{id_}", RATED_W, START_MS)
        place = self.places[id_] = Place(id_, load, meter.per_count_milliwh)
        serial = meter.serial or str(1000 * int(id_[1:]) + 1)
        self.devices[id_] = Device(
            replace(meter, serial=serial),
            place,
            self.time,
            lambda: self.version_on_bus,
            opening=opening_counts(id_, chance),
            turnaround_ms=chance.choice((5, 10, 40)),
        )
        self.devices[id_].is_known = lambda: self._knows(id_)

    def _knows(self, id_: str) -> bool:
        """Whether the ledger has a register of this meter, not too long ago: after a day any other is possible."""
        head = None if self.gateway.journal is None else self.gateway.journal.heads().get(id_)
        return head is not None and abs(self.gateway.clock.wall_ms() - head.at_ms) < SILENT_MS_MAX

    def new_pairs(self, name: str) -> dict[str, Pair]:
        """The two pairs with their devices."""
        pairs = {
            id_: Pair(self.devices_on(id_), self.chance(f"{name} {id_}").randrange(1 << 30))
            for id_ in ("a", "b", PLANNED_LINE)
        }
        pairs[PLANNED_LINE].unplugged = "there is no such line yet"
        self._all_pairs.append(pairs)
        return pairs

    def devices_on(self, line: str) -> list[Device]:
        """What hangs there at present."""
        return [each for each in self.devices.values() if each.meter.line == line]

    def rewire(self) -> None:
        """A device was exchanged."""
        for pairs in self._all_pairs:
            for line, pair in pairs.items():
                pair.rewire(self.devices_on(line))

    def new_gateway(self, name: str, pairs: dict[str, Pair]) -> Gateway:
        """A box beside these pairs."""
        clock = GatewayClock(self.time)

        def lines(site: Site) -> dict[str, Line]:
            def on_bus() -> None:
                self.version_on_bus = site.version

            return {id_: WorldLine(pair, self.time, on_bus, self.alarm) for id_, pair in pairs.items()}

        around = Surroundings(
            interval_ms=self.interval_ms,
            by_broker=self.by_broker,
            signer=self.agent_key,
            platform_keys=PublicKeys([self.platform_key.public_key]),
            broker=self.broker,
            lines=lines,
            watch=self._sent,
            seen=self.auditor.saw,
            opened=self._opened,
            tell=self.tell,
            alarm=self.alarm,
        )
        return Gateway(name, self.site, clock, around, self.chance(name))

    def _sent(self, gateway: Gateway, topic: str, payload: bytes) -> None:
        """A message leaves a gateway."""
        self.auditor.sent(gateway, topic)
        if topic.endswith("/status"):
            self.last_status = payload

    @property
    def gateway_keys(self) -> PublicKeys:
        """Every key that a gateway ever had: a person names a former one with `--key`."""
        later = [WorldSigner(11 + number) for number in range(self._keys_made)]
        return PublicKeys([each.public_key for each in (self.agent_key, *later)])

    def _opened(self, journal: SqliteJournal) -> None:
        """A gateway has opened a journal."""
        bus_plays.look_at_addresses(self, journal.heads())
        self.auditor.opened(journal, self.office.store)

    def new_key(self) -> Ed25519Signer:
        """A key that nobody had before."""
        self._keys_made += 1
        return WorldSigner(10 + self._keys_made)

    # -- what is said

    def tell(self, text: str) -> None:
        """A line of the story."""
        line = f"{self.time.seconds:6d} s  {text}"
        self.story.append(line)
        self._trace.update(line.encode())

    def trace(self, text: str) -> None:
        """Something that has to be the same in every run."""
        self._trace.update(f"{self.time.ns} {text}\n".encode())

    def alarm(self, text: str) -> None:
        """A broken promise."""
        if len(self.violations) < VIOLATIONS_MAX and text not in self.violations:
            self.violations.append(text)
            self.tell(f"VIOLATION {text}")
            if not self._to_the_end:
                self._enough.set()

    def _booked(self) -> None:
        self.auditor.look(self.office.store)

    # -- running

    async def run(self) -> Result:
        """Faults, healing, convergence, judgement."""
        asyncio.get_running_loop().set_exception_handler(self._went_wrong)
        self.gateway.switch_on()
        looking = asyncio.get_running_loop().create_task(self._look_now_and_then())
        faults = [
            asyncio.get_running_loop().create_task(self._carry_out(each), name=each.name)
            for each in self.plan
        ]
        await happens(self._enough, self.faults_s)
        if not self._enough.is_set():
            if faults:
                await asyncio.wait(faults)
            self.tell("all faults have healed")
            await self._converge()
        looking.cancel()
        if not self._enough.is_set():
            self.auditor.look_at_journal(self.gateway)
            self.auditor.final(self.office.store)
        for each in faults:
            if each.done() and (error := each.exception()) is not None:
                raise error
        await self.gateway.switch_off()
        self.office.close()
        return Result(
            self.seed,
            self.plan,
            tuple(self.violations),
            tuple(self.story),
            self._trace.hexdigest(),
            self.time.seconds,
            len(self.auditor.accepted_ms),
        )

    def _went_wrong(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody caught: of the platform, which is called by its timer, or of a task of the agent's."""
        self.alarm(f"I9: {context.get('exception') or context['message']!r}")

    async def _carry_out(self, planned: Planned) -> None:
        await asyncio.sleep(planned.at_s)
        self.tell(str(planned))
        await nemesis.KINDS[planned.kind](self, self.chance(planned.name), planned.for_s)

    async def _look_now_and_then(self) -> None:
        turns = self.time.turns
        while True:
            await asyncio.sleep(LOOK_S)
            self.auditor.look_at_journal(self.gateway)
            before, turns = turns, self.time.turns
            self.auditor.look_at_agent(self.gateway, self.pairs, turns - before, LOOK_S)

    async def _converge(self) -> None:
        """Give it time; what is still missing then is a violation."""
        missing = ["not looked at"]
        longest_s = max(CONVERGE_S, CONVERGE_INTERVALS * self.interval_ms // 1000)
        for _ in range((longest_s + LEARN_S * self.by_broker) // 60):
            await asyncio.sleep(60)
            missing = self.auditor.still_missing(self.office.store, self.gateway)
            if not missing or self._enough.is_set():
                return
        for each in missing:
            self.alarm(each)


def run_seed(
    seed: int,
    names: frozenset[str] | None = None,
    *,
    kinds: frozenset[str] | None = None,
    faults_s: int = FAULTS_S,
    interval_s: int | None = None,
    scenario: str | None = None,
    to_the_end: bool = True,
) -> Result:
    """Run one seed, with all faults of its plan or only those named; `kinds` limits what is drawn at all.

    The length of its intervals is drawn too, unless it is given. With a scenario the faults are forced, and it has its
    own lengths. Without `to_the_end` the first broken promise is enough.
    """
    asked_for = {name.partition(".")[0] for name in names or ()}
    allowed = kinds if kinds is not None else nemesis.SETTLED | (asked_for & nemesis.OPEN.keys())
    if scenario is None:
        plan, drawn_s = draw(seed, allowed, faults_s), drawn_interval_s(seed, faults_s)
    else:
        plan, faults_s, drawn_s = planned(scenario, seed, allowed), SCENARIO_S, INTERVAL_S
    if names is not None:
        plan = only(plan, names)

    async def live() -> Result:
        length_s = drawn_s if interval_s is None else interval_s
        by_broker = scenario is not None and SCENARIOS[scenario].by_broker
        world = World(
            seed, plan, interval_s=length_s, faults_s=faults_s, to_the_end=to_the_end, by_broker=by_broker
        )
        return await world.run()

    assert faults_s > CALM_S
    return run_in_world(live())
