"""The way between gateway and platform: a broker that may lie, lose, double and delay, and an uplink port on it.

A PUBACK says that the broker has a message, never that the platform has it. The broker keeps what is retained, and the
platform's queue while the platform is away; a fault may make it forget either. Every rate of `Weather` is switched on
and off by the nemesis.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent.errors import UplinkDown, UplinkRefused
from agent.service.ports import Connected, Disconnected, Received, UplinkEvent, Will

HOP_S = 0.02
"""One way between two neighbours."""
PUBACK_S = 20.0
HALF_OPEN_S = 45.0
"""After so long a dead connection is noticed."""
WILL_S = 30.0
RECONNECT_S = (0.5, 60.0)
TAKEN_OVER_S = 300.0
QUEUE_MAX = 1000

AT_ONCE = 24
"""Messages of a run that are on their way at once."""

Deliver = Callable[[str, bytes], None]


@dataclass(slots=True)
class Weather:
    """What goes wrong at present, each in parts of a thousand of the messages unless it says otherwise."""

    down: bool = False
    half_open: bool = False
    """Nothing passes in either direction, and no connection ends by itself."""
    lose: int = 0
    """Acknowledged by the broker, never delivered."""
    lose_puback: int = 0
    double: int = 0
    late: int = 0
    late_s: int = 60
    refuse: int | None = None
    """The broker answers every publish with this reason code."""
    stale_retained: bool = False
    """A new subscriber gets an older retained message than the last one."""
    ack_lose: int = 0


class Broker:
    """Routes between one platform and the gateways."""

    def __init__(self, chance: random.Random) -> None:
        self.weather = Weather()
        self.platform: Deliver | None = None
        self.retained: dict[str, list[bytes]] = {}
        self.waiting: deque[tuple[str, bytes]] = deque()
        self.delivered = 0
        self._chance = chance
        self._uplinks: list[WorldUplink] = []

    # -- gateways

    def attach(self, uplink: "WorldUplink") -> None:
        """A client connects; another one with the same name is sent away."""
        for other in list(self._uplinks):
            other.drop("another client took our name", taken_over=True)
        self._uplinks.append(uplink)

    def detach(self, uplink: "WorldUplink") -> None:
        """It is gone."""
        if uplink in self._uplinks:
            self._uplinks.remove(uplink)

    def disconnect_all(self, reason: str) -> None:
        """The broker stops, or the network breaks."""
        for uplink in list(self._uplinks):
            uplink.drop(reason)

    def route_up(self, topic: str, payload: bytes) -> None:
        """A message from a gateway goes on to the platform, some day, perhaps twice, perhaps never."""
        if self._happens(self.weather.lose):
            return
        copies = 2 if self._happens(self.weather.double) else 1
        for _ in range(copies):
            delay_s = HOP_S
            if self._happens(self.weather.late):
                delay_s += self._chance.randrange(self.weather.late_s * 1000) / 1000
            self._later(delay_s, self._to_platform, topic, payload)

    def _to_platform(self, topic: str, payload: bytes) -> None:
        if self.platform is not None:
            self.delivered += 1
            self.platform(topic, payload)
        elif len(self.waiting) < QUEUE_MAX:
            self.waiting.append((topic, payload))

    def platform_returns(self, deliver: Deliver) -> None:
        """The platform subscribes again and gets what waited."""
        self.platform = deliver
        while self.waiting and self.platform is not None:
            self._to_platform(*self.waiting.popleft())

    def forget(self) -> None:
        """Restarted without its memory."""
        self.retained.clear()
        self.waiting.clear()

    # -- down

    def route_down(self, topic: str, payload: bytes) -> None:
        """The platform publishes, retained."""
        if self.weather.down:
            return
        self.retained.setdefault(topic, []).append(payload)
        del self.retained[topic][:-8]
        if self._happens(self.weather.ack_lose) or self.weather.half_open:
            return
        delay_s = HOP_S
        if self._happens(self.weather.late):
            delay_s += self._chance.randrange(self.weather.late_s * 1000) / 1000
        for uplink in list(self._uplinks):
            self._later(delay_s, uplink.take, topic, payload, uplink.session)

    def retained_of(self, topic: str) -> bytes | None:
        """What a new subscriber gets."""
        kept = self.retained.get(topic)
        if not kept:
            return None
        return self._chance.choice(kept) if self.weather.stale_retained else kept[-1]

    def loses_puback(self) -> bool:
        """Whether this PUBACK gets lost."""
        return self._happens(self.weather.lose_puback)

    def _happens(self, permille: int) -> bool:
        return permille > 0 and self._chance.randrange(1000) < permille

    def _later(self, seconds: float, act: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *arguments)


async def publish_each(
    publish: Callable[[bytes], Awaitable[None]],
    payloads: Sequence[bytes],
    taken: Callable[[int], None],
    at_once: int = AT_ONCE,
) -> None:
    """`Uplink.publish_all` for uplinks that send one message: in their order, a few at once, none after a failure."""
    failed: dict[int, UplinkDown | UplinkRefused] = {}
    waiting = iter(enumerate(payloads))

    async def send() -> None:
        for place, payload in waiting:
            try:
                await publish(payload)
            except (UplinkDown, UplinkRefused) as error:
                failed[place] = error
            else:
                taken(place)
            if failed:
                return

    await asyncio.gather(*(send() for _ in range(min(at_once, len(payloads)))))
    if failed:
        raise failed[min(failed)]


class WorldUplink:
    """`agent.service.ports.Uplink` of one process of a gateway.

    `watch(topic, payload)` sees everything that leaves. After `kill` nothing leaves or arrives any more.
    """

    def __init__(self, broker: Broker, chance: random.Random, watch: Callable[[str, bytes], None]) -> None:
        self.session: str | None = None
        self._broker = broker
        self._chance = chance
        self._watch = watch
        self._events: asyncio.Queue[UplinkEvent] = asyncio.Queue()
        self.topics: tuple[str, ...] = ()
        """What it has subscribed to."""
        self._will: Callable[[str], Will] | None = None
        self._last_will: Will | None = None
        self._task: asyncio.Task[None] | None = None
        self._dead = False
        self._dropped = asyncio.Event()
        self._taken_over = False
        self._unanswered: list[asyncio.Future[None]] = []

    # -- the port

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        """Begin to connect."""
        self.topics, self._will = subscribe, will
        self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name="uplink")

    async def events(self) -> AsyncIterator[UplinkEvent]:
        """What happens, in its order."""
        while True:
            yield await self._events.get()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1 and wait for the PUBACK."""
        session, weather = self.session, self._broker.weather
        if session is None or self._dead:
            raise UplinkDown("not connected")
        self._watch(topic, payload)
        if weather.half_open:
            await self._wait_in_vain(PUBACK_S)
        await asyncio.sleep(HOP_S)
        if self.session != session or weather.down or self._dead:
            raise UplinkDown("the connection broke")
        if weather.refuse is not None:
            if weather.refuse == 0x10:
                raise UplinkRefused("nobody subscribed", 0x10)
            raise UplinkRefused("the broker refused", weather.refuse)
        self._broker.route_up(topic, payload)
        if self._broker.loses_puback():
            await self._wait_in_vain(PUBACK_S)
        await asyncio.sleep(HOP_S)
        if self.session != session:
            raise UplinkDown("the connection broke")

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        """Send several, and wait for their PUBACKs."""
        await publish_each(lambda payload: self.publish(topic, payload), payloads, taken)

    async def stop(self) -> None:
        """Disconnect in good order."""
        if self._task is not None:
            self._task.cancel()
        self.session = None
        self._broker.detach(self)

    # -- the world

    def kill(self) -> None:
        """The process is gone; the broker says its will after a while."""
        self._dead = True
        if self._task is not None:
            self._task.cancel()
        if self.session is not None:
            self._say_will()
        self.session = None
        self._broker.detach(self)

    def drop(self, reason: str, *, taken_over: bool = False) -> None:
        """The connection ends."""
        if self.session is None:
            return
        self._say_will()
        self.session = None
        self._taken_over = taken_over
        self._broker.detach(self)
        self._events.put_nowait(Disconnected(reason))
        for each in self._unanswered:
            if not each.done():
                each.set_result(None)
        self._dropped.set()

    def take(self, topic: str, payload: bytes, session: str | None) -> None:
        """A message arrives, if the connection it was meant for is still there."""
        if not self._dead and self.session is not None and self.session == session and topic in self.topics:
            self._events.put_nowait(Received(topic, payload, False))

    def _say_will(self) -> None:
        will = self._last_will
        if will is not None:
            asyncio.get_running_loop().call_later(WILL_S, self._broker.route_up, will.topic, will.payload)

    async def _wait_in_vain(self, seconds: float) -> None:
        """Until the time is over or the connection ends, whichever is first."""
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unanswered.append(broken)
        try:
            await asyncio.wait([broken], timeout=seconds)
        finally:
            self._unanswered.remove(broken)
        raise UplinkDown("no PUBACK came")

    async def _keep_connected(self) -> None:
        pause_s = RECONNECT_S[0]
        while True:
            weather = self._broker.weather
            if weather.down or weather.half_open:
                self._events.put_nowait(Disconnected("the broker does not answer"))
                await asyncio.sleep(pause_s * (500 + self._chance.randrange(500)) / 1000)
                pause_s = min(RECONNECT_S[1], 2 * pause_s)
                continue
            pause_s = RECONNECT_S[0]
            self._connect()
            await self._dropped.wait()
            wait_s = TAKEN_OVER_S if self._taken_over else pause_s
            await asyncio.sleep(wait_s * (500 + self._chance.randrange(500)) / 1000)

    def _connect(self) -> None:
        assert self._will is not None
        self._dropped.clear()
        self._taken_over = False
        session = self._chance.randbytes(8).hex()
        self._last_will = self._will(session)
        self._broker.attach(self)
        self.session = session
        self._events.put_nowait(Connected(session))
        for topic in self.topics:
            kept = self._broker.retained_of(topic)
            if kept is not None:
                self._events.put_nowait(Received(topic, kept, True))
