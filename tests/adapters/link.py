"""An uplink at the other end of a scripted broker, and the reader of its events, for the tests beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from agent.adapters.uplink import MqttUplink
from agent.service.ports import Connected, Disconnected, Received, UplinkEvent, Will
from tests.adapters.scripted_broker import Script, ScriptedBroker

BATCH = "kwh/v1/zj/gw01/up/batch"
STATUS = "kwh/v1/zj/gw01/up/status"
ACKNOWLEDGEMENT = "kwh/v1/zj/gw01/down/ack"
PATIENCE_S = 30


class Link:
    """An uplink and the reader of its events."""

    def __init__(self, url: str, **options: object) -> None:
        quick: dict[str, object] = {"backoff_min_s": 0.05, "backoff_max_s": 0.1, "refused_wait_s": 30.0}
        self.uplink = MqttUplink(url, client_id="gw01", **(quick | options))  # type: ignore[arg-type]
        self._events = self.uplink.events()

    async def next(self) -> UplinkEvent:
        return await asyncio.wait_for(anext(self._events), PATIENCE_S)

    async def next_connected(self) -> Connected:
        event = await self.next()
        assert isinstance(event, Connected), event
        return event

    async def next_disconnected(self) -> str:
        event = await self.next()
        assert isinstance(event, Disconnected), event
        return event.reason

    async def next_received(self) -> Received:
        event = await self.next()
        assert isinstance(event, Received), event
        return event


@contextlib.asynccontextmanager
async def started(url: str, **options: object) -> AsyncIterator[Link]:
    link = Link(url, **options)
    await link.uplink.start(subscribe=(ACKNOWLEDGEMENT,), will=lambda session: Will(STATUS, session.encode()))
    try:
        yield link
    finally:
        await link.uplink.stop()


@contextlib.asynccontextmanager
async def on_script(*scripts: Script, **options: object) -> AsyncIterator[tuple[Link, ScriptedBroker]]:
    async with ScriptedBroker(*scripts) as broker, started(broker.url, **options) as link:
        yield link, broker
