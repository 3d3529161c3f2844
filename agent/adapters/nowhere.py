"""The uplink of a gateway without a network: there is none, and that is no fault.

`platform.broker = "none"` says that everything leaves and returns on a stick (`metering-agent courier`). The stages
stay the same; this uplink never connects, so nothing is ever published and nothing comes in.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from agent.errors import UplinkDown
from agent.service.ports import UplinkEvent, Will


class NoUplink:
    """Implements `agent.service.ports.Uplink` where there is nothing to connect to."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        """There is nothing to begin."""

    async def events(self) -> AsyncIterator[UplinkEvent]:
        """None until it is stopped."""
        await self._stopped.wait()
        nothing: tuple[UplinkEvent, ...] = ()
        for event in nothing:
            yield event

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Raises UplinkDown, always."""
        raise UplinkDown("there is no broker; what is sealed leaves by stick")

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        """Raises UplinkDown, always."""
        await self.publish(topic, b"")

    async def stop(self) -> None:
        """End `events`."""
        self._stopped.set()
