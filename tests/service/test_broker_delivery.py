"""Broker mode over real sockets: what a PUBACK promises, and what it does not, with a broker that misbehaves.

The real journal, the real publisher and the real uplink; only the broker is ours (`simulators.broker`), because no real
one forgets on command. In this mode the broker's word is the receipt (wire format, section 6): what is handed over was
acknowledged by it with reason 0, is never sent again, and is kept for 30 days, because the broker may lie.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.uplink import MqttUplink
from agent.metering.interval import DAY_MS
from agent.service import publish
from agent.service.acknowledge import hand_over
from agent.service.journal import Journal, KeptBatch
from agent.service.ports import Connected, Disconnected, Received, Will
from agent.service.publish import Publisher
from agent.service.seal import Identity
from simulators.broker import Broker
from simulators.broker.connection import Connection
from simulators.broker.packets import Message
from tests.service.bench import Bench
from tests.support.eventually import eventually

T = TypeVar("T")
WHO = Identity("org", "gw01", "carbon.example", "0.1.0")
BATCHES = 40
PATIENCE_S = 60


class WitnessedBroker(Broker):
    """Remembers for which payloads it sent a PUBACK with reason 0."""

    def __init__(self) -> None:
        super().__init__()
        self.promised: Counter[bytes] = Counter()
        self._arrived: dict[tuple[Connection, int], bytes] = {}

    def _published(self, connection: Connection, message: Message, packet_id: int) -> None:
        self._arrived[connection, packet_id] = message.payload
        super()._published(connection, message, packet_id)

    def _acknowledge(self, connection: Connection, packet_id: int, reason: int) -> None:
        if reason == 0:
            self.promised[self._arrived[connection, packet_id]] += 1
        super()._acknowledge(connection, packet_id, reason)


@dataclass
class OwnThread:
    """Storage on the test's own thread."""

    journal: Journal

    async def run(self, work: Callable[[Journal], T]) -> T:
        await asyncio.sleep(0)
        return work(self.journal)


@dataclass
class Site:
    """A gateway in broker mode with a backlog, its broker, and a platform that only listens."""

    bench: Bench
    broker: WitnessedBroker
    ack_timeout_s: float = 20
    """Long, so that a busy machine brings nothing a second time; short only where a PUBACK is lost on purpose."""
    received: list[bytes] = field(default_factory=list)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    _uplinks: list[MqttUplink] = field(default_factory=list)

    @property
    def journal(self) -> Journal:
        return self.bench.journal

    def kept(self) -> list[KeptBatch]:
        """All batches, handed over or not, with their text."""
        return self.journal.batches_between(after_ordinal=0, up_to_ordinal=1 << 40, limit=1000)

    def handed_over(self) -> list[bytes]:
        return [batch.jws or b"" for batch in self.kept() if batch.stored_ms is not None]

    def is_done(self) -> bool:
        """Whether nothing waits any more."""
        return self.journal.backlog().batches == 0

    def is_honest(self) -> bool:
        """Whether the broker has promised everything that counts as handed over."""
        return all(self.broker.promised[jws] for jws in self.handed_over())

    async def platform(self) -> None:
        """Somebody is subscribed."""
        uplink = await self._connect("platform", (WHO.batch_topic,))
        subscribed = asyncio.Event()

        async def listen() -> None:
            async for event in uplink.events():
                if isinstance(event, Connected):
                    subscribed.set()
                if isinstance(event, Received):
                    self.received.append(event.payload)

        self._tasks.append(asyncio.create_task(listen()))
        await asyncio.wait_for(subscribed.wait(), PATIENCE_S)

    async def agent(self, storage: OwnThread | None = None) -> "asyncio.Task[None]":
        """Start delivering; gives the task of the publisher."""
        uplink = await self._connect("gw01", ())
        storage = storage or OwnThread(self.journal)
        publisher = Publisher(WHO, storage, uplink, SystemClock(), self.bench.dice, broker_acknowledges=True)

        async def listen() -> None:
            async for event in uplink.events():
                if isinstance(event, Connected | Disconnected):
                    publisher.connection(up=isinstance(event, Connected))

        running = asyncio.create_task(publisher.run())
        self._tasks += [asyncio.create_task(listen()), running]
        return running

    async def _connect(self, name: str, topics: tuple[str, ...]) -> MqttUplink:
        waits = {"backoff_min_s": 0.02, "backoff_max_s": 0.05, "refused_wait_s": 0.05}
        waits["ack_timeout_s"] = self.ack_timeout_s
        uplink = MqttUplink(self.broker.url, client_id=name, **waits)  # type: ignore[arg-type]
        await uplink.start(subscribe=topics, will=lambda session: Will(f"will/{name}", b""))
        self._uplinks.append(uplink)
        return uplink

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for uplink in self._uplinks:
            await uplink.stop()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(publish, "PAGE", 8)
    monkeypatch.setattr(publish, "RETRY_S", 0.05)
    monkeypatch.setattr(publish, "REFUSED_S", (1, 1))
    bench = Bench(tmp_path)
    for count in range(BATCHES):
        bench.read({"reflow-1": 1000 + count})
    async with WitnessedBroker() as broker:
        made = Site(bench, broker)
        try:
            yield made
        finally:
            await made.close()


async def test_what_the_broker_took_is_handed_over_once_and_in_order(site: Site) -> None:
    everything = [batch.jws for batch in site.kept()]
    await site.platform()
    await site.agent()
    await eventually(site.is_done, PATIENCE_S)
    await eventually(lambda: len(site.received) == BATCHES, PATIENCE_S)
    assert site.received == everything
    assert set(site.broker.promised.values()) == {1}


@pytest.mark.fault("F65")
async def test_what_a_broker_promised_and_lost_is_not_sent_again_and_is_still_here(site: Site) -> None:
    """The promise of this mode ends at the broker: only registers and the kept text (30 days) bridge the hole."""
    site.broker.faults.forget = 5
    await site.platform()
    await site.agent()
    await eventually(site.is_done, PATIENCE_S)
    await eventually(lambda: len(site.received) == BATCHES - 5, PATIENCE_S)
    assert site.is_honest()
    lost = [batch.jws for batch in site.kept()][:5]
    assert not set(site.received) & set(lost)
    assert all(lost), "their text is kept, for `export` and for the platform's questions"


@pytest.mark.fault("F62")
async def test_a_lost_puback_brings_the_same_bytes_again_and_nothing_behind_it_counts(site: Site) -> None:
    site.broker.faults.drop_puback = 1
    site.ack_timeout_s = 0.5
    await site.platform()
    await site.agent()
    await eventually(site.is_done, PATIENCE_S)
    await eventually(lambda: len(set(site.received)) == BATCHES, PATIENCE_S)
    assert site.is_honest()
    assert len(site.received) > BATCHES, "the first one came twice"
    assert set(site.received) == set(site.handed_over())


@pytest.mark.fault("F64")
async def test_a_broker_that_delivers_twice_changes_nothing_here(site: Site) -> None:
    site.broker.faults.duplicate = 3
    await site.platform()
    await site.agent()
    await eventually(site.is_done, PATIENCE_S)
    await eventually(lambda: len(site.received) == BATCHES + 3, PATIENCE_S)
    assert set(site.received) == set(site.handed_over())


@pytest.mark.fault("F66", "F67", "F69")
@pytest.mark.parametrize("why", ["nobody subscribed", "not authorised", "over quota"])
async def test_a_refusal_is_no_receipt(site: Site, why: str) -> None:
    faults = site.broker.faults
    if why == "not authorised":
        faults.deny.add(WHO.batch_topic)
    if why == "over quota":
        faults.over_quota.add(WHO.batch_topic)
    if why != "nobody subscribed":
        await site.platform()
    await site.agent()
    await eventually(lambda: site.broker.counts["publish"] >= 8, PATIENCE_S)
    await asyncio.sleep(0.2)
    assert site.journal.backlog().batches == BATCHES
    faults.deny.clear()
    faults.over_quota.clear()
    if why == "nobody subscribed":
        await site.platform()
    await eventually(site.is_done, PATIENCE_S)
    assert site.is_honest()


@pytest.mark.fault("F63")
@pytest.mark.parametrize("arrived", [1, 2, 5, 8, 9, 16, 17])
async def test_connections_cut_after_so_many_packets_lose_nothing_and_mark_nothing_too_early(
    site: Site, arrived: int
) -> None:
    """Each connection gets a little further; the platform's own one is spared, because it sends little."""
    await site.platform()
    site.broker.faults.cut_after = arrived
    await site.agent()
    for _ in range(10):
        await asyncio.sleep(0.03)
        assert site.is_honest()
    site.broker.faults.cut_after = None
    await eventually(site.is_done, PATIENCE_S)
    assert site.is_honest()


@pytest.mark.fault("F63")
async def test_a_broker_killed_again_and_again_with_all_its_sessions(site: Site) -> None:
    """What it had promised is gone with it; what it had not promised is sent to the next one."""
    site.broker.faults.delay_puback_ms = 20
    await site.agent()
    await site.platform()
    for _ in range(6):
        await asyncio.sleep(0.03)
        await site.broker.stop(forget=True)
        assert site.is_honest()
        await asyncio.sleep(0.02)
        await site.broker.start()
        await eventually(lambda: "platform" in site.broker.clients, PATIENCE_S)
    await eventually(site.is_done, PATIENCE_S)
    assert site.is_honest()
    assert {batch.jws for batch in site.kept()} <= site.broker.promised.keys()


@pytest.mark.fault("F75")
async def test_dying_between_the_puback_and_the_receipt_sends_the_same_bytes_again(site: Site) -> None:
    class Dies(OwnThread):
        async def run(self, work: Callable[[Journal], T]) -> T:
            if site.broker.promised:
                raise ZeroDivisionError("the process is gone")
            return await super().run(work)

    await site.platform()
    task = await site.agent(Dies(site.journal))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)
    assert site.journal.backlog().batches == BATCHES, "nothing was marked"
    sent = dict(site.broker.promised)
    assert sent
    await site._uplinks.pop().stop()
    await site.agent()
    await eventually(site.is_done, PATIENCE_S)
    assert site.is_honest()
    assert all(site.broker.promised[jws] >= 2 for jws in sent)


def test_what_is_handed_over_is_kept_for_thirty_days_and_then_goes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for count in range(3):
        bench.read({"reflow-1": 1000 + count})
    first, second, third = (head for head, _ in bench.batches())
    day = bench.clock.now_ms
    hand_over(bench.journal, first, day)

    def texts() -> list[bool]:
        kept = bench.journal.batches_between(after_ordinal=0, up_to_ordinal=99, limit=9)
        return [batch.jws is not None for batch in kept]

    hand_over(bench.journal, second, day + 30 * DAY_MS)
    assert texts() == [True, True, True], "30 days are not over before they are over"
    hand_over(bench.journal, third, day + 30 * DAY_MS + 1)
    assert texts() == [False, True, True]
    assert bench.journal.batch(first) is not None, "its hash stays for ever"
