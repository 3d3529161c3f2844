"""A small agent whose every part a test may freeze or slow down, and the service manager that watches it.

All stages are the real ones, on scripted lines, a scripted uplink and a journal on disk; time is virtual, so that an
hour of idling takes a second.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from agent.adapters.journal import SqliteJournal
from agent.adapters.notify import Notifier
from agent.errors import UplinkDown
from agent.metering import plant
from agent.metering.decode import encode
from agent.metering.plant import Meter, SerialSettings, Transport
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.service.boundary import Boundary
from agent.service.dialogue import Dialogue
from agent.service.poll import LineWorker
from agent.service.ports import Clock, Connected, Disconnected, Received, Reply, UplinkEvent, Will
from agent.service.publish import Publisher
from agent.service.retelling import Reteller
from agent.service.seal import Identity
from agent.service.supervise import Stages, run_until
from simulators.world.network import publish_each
from tests.service.bench import KWH_REGISTER, MINUTE_MS, Bench
from tests.service.virtual import VirtualClock, run_virtually, virtual_loop

WATCHDOG_S = 60
Hook = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """What a healthy part does before it answers."""


async def never() -> None:
    """What a frozen part does."""
    await asyncio.get_running_loop().create_future()


def after(seconds: float, error: Exception | None = None) -> Hook:
    """Answer late, or fail late."""

    async def hook() -> None:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error

    return hook


@dataclass
class ScriptedLine:
    """A line whose meters count up with every read."""

    before_open: Hook = at_once
    before_read: Hook = at_once
    count: int = 1000
    reads: int = 0

    async def open(self) -> None:
        await self.before_open()

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        assert isinstance(request, ReadRequest)
        self.reads += 1
        await asyncio.sleep(0.03)
        await self.before_read()
        now_ns = virtual_loop().time() * 1e9
        self.count += 1
        return Reply(encode(KWH_REGISTER, self.count)[: request.count], int(now_ns), int(now_ns))

    async def close(self) -> None:
        pass


@dataclass
class ScriptedUplink:
    """Connected from the start, if it is to be; what is published is counted and answered by `answer`."""

    connects: bool = True
    before_puback: Hook = at_once
    answer: Callable[[int], bytes] | None = None
    published: int = 0
    _events: "asyncio.Queue[UplinkEvent]" = field(default_factory=asyncio.Queue)

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        self._events.put_nowait(Connected("s") if self.connects else Disconnected("there is no broker"))

    async def events(self) -> Any:
        while True:
            yield await self._events.get()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if not self.connects:
            raise UplinkDown("there is no broker")
        if topic.endswith("/batch"):
            await self.before_puback()
            self.published += 1
        elif self.answer is not None and topic.endswith("/status"):
            self._events.put_nowait(Received("kwh/v1/org/gw01/down/ack", self.answer(self.published), False))

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        await publish_each(lambda payload: self.publish(topic, payload), payloads, taken)

    async def stop(self) -> None:
        pass


@dataclass
class InlineStorage:
    """The journal without its thread, which virtual time would not wait for."""

    journal: SqliteJournal
    before: Hook = at_once

    async def run(self, work: Callable[[SqliteJournal], Any]) -> Any:
        await self.before()
        return work(self.journal)


class EveryPeriod:
    """Ticks at whole multiples of virtual time."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, period_ms: int, tick: Callable[[int], None]) -> None:
        async def run() -> None:
            clock = VirtualClock()
            while True:
                boundary_ms = (clock.wall_ms() // period_ms + 1) * period_ms
                await asyncio.sleep((boundary_ms - clock.wall_ms()) / 1000)
                tick(boundary_ms)

        self._tasks.append(asyncio.create_task(run()))

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@dataclass
class Agent:
    """All stages of a small agent, of which a test may script each part before it runs."""

    folder: Path
    environment: dict[str, str]
    lines: list[ScriptedLine] = field(default_factory=lambda: [ScriptedLine(), ScriptedLine()])
    uplink: ScriptedUplink = field(default_factory=ScriptedUplink)
    poll_ms: int = 5000
    interval_ms: int = MINUTE_MS

    def __post_init__(self) -> None:
        self.bench = Bench(self.folder)
        self.storage = InlineStorage(self.bench.journal)

    def stages(self, storage: Any = None, clock: Clock | None = None) -> Stages:
        storage, clock = storage or self.storage, clock or VirtualClock()
        who = Identity("org", "gw01", "carbon.example", "0.1.0")
        publisher = Publisher(who, storage, self.uplink, clock, self.bench.dice)
        dialogue = Dialogue(
            who,
            self.bench.signers,
            self.bench.keys,
            storage,
            self.uplink,
            clock,
            self.bench.acknowledger,
            publisher,
            mode="platform",
        )
        pairs = zip(self.lines, self.bench.meters, strict=False)
        workers = [self._worker(number, *pair, clock) for number, pair in enumerate(pairs, start=1)]
        boundary = Boundary(
            workers, self.bench.closer, storage, clock, self.interval_ms, sealed=lambda _: publisher.wake()
        )
        notifier = Notifier(self.environment)
        return Stages(
            workers,
            boundary,
            dialogue,
            cast(Any, None),
            Reteller(self.bench.restorer, storage, clock, told=publisher.wake),
            publisher,
            EveryPeriod(),
            storage,
            self.uplink,
            clock,
            notifier,
            self.interval_ms,
        )

    def _worker(self, number: int, port: ScriptedLine, meter: Meter, clock: Clock) -> LineWorker:
        settings = SerialSettings(9600, "none", 1)
        line = plant.Line(f"hall-{number}", Transport.RS485, "/dev/null", None, None, settings, self.poll_ms)
        return LineWorker(line, [meter], port, clock)


class Manager:
    """The service manager's end of the socket: what it heard, and when in virtual time."""

    def __init__(self, folder: Path) -> None:
        path = folder / "notify"
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.heard: list[tuple[float, str]] = []
        self._news = asyncio.Event()

    async def told(self, word: str) -> None:
        """Wait until it was heard."""
        while not self.times_of(word):
            self._news.clear()
            await self._news.wait()

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._hear)

    def _hear(self) -> None:
        self.heard.append((asyncio.get_running_loop().time(), self.socket.recv(4096).decode()))
        self._news.set()

    def times_of(self, word: str) -> list[float]:
        return [at_s for at_s, text in self.heard if word in text.splitlines()]

    def kills_at(self, begun_s: float, now_s: float) -> float | None:
        """When a real manager would have replaced the agent; None if it had no reason to."""
        last_s = begun_s
        for at_s, text in [*self.heard, (now_s, "")]:
            if at_s > last_s + WATCHDOG_S:
                return last_s + WATCHDOG_S
            if text == "WATCHDOG=trigger":
                return at_s
            if text in ("WATCHDOG=1", "READY=1"):
                last_s = at_s
        return None


def live(
    agent: Agent, manager: Manager, seconds: float, *, then: Callable[[], None] | None = None
) -> float | None:
    """Run the agent for so long, then do something to it and go on for three minutes.

    Gives the time from then (or from the start) until the manager would have replaced it, None if never.
    """

    async def main() -> float | None:
        manager.listen()
        stop = asyncio.Event()
        running = asyncio.create_task(run_until(agent.stages(), stop))
        loop = virtual_loop()
        begun_s = loop.time()
        await asyncio.sleep(seconds)
        if then is not None:
            assert manager.kills_at(begun_s, loop.time()) is None
            begun_s = loop.time()
            then()
            await asyncio.sleep(180)
        assert not running.done(), running.exception()
        killed_s = manager.kills_at(begun_s if then else manager.heard[0][0], loop.time())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return None if killed_s is None else killed_s - begun_s

    return run_virtually(main())
