"""What the uplink reports, in its order and of bounded size, for one reader.

Filled by `supervisor`; emptied by whoever iterates over the uplink's events.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import paho.mqtt.client as mqtt

from agent.adapters.uplink.connection import Connection
from agent.adapters.uplink.limits import UNREAD_MAX, UNREAD_STATES_MAX
from agent.service.ports import Connected, Disconnected, Received, UplinkEvent


@dataclass(slots=True)
class Unread:
    """A message that nobody has read yet, and the connection that wants to know when somebody does."""

    connection: Connection
    message: mqtt.MQTTMessage
    event: Received


class Mailbox:
    """Events in their order, for one reader, of bounded size however slow the reader is."""

    def __init__(self) -> None:
        self._entries: deque[Connected | Disconnected | Unread] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, entry: Connected | Disconnected | Unread) -> None:
        """Add an event. When nobody has read for dozens of connections, only the last of them are kept."""
        if isinstance(entry, Disconnected) and self._entries and isinstance(self._entries[-1], Disconnected):
            self._entries.pop()
        if isinstance(entry, Connected) and (
            len(self._entries) >= UNREAD_STATES_MAX or self.unread() >= UNREAD_MAX
        ):
            # What is retained comes again with the new connection; the old one cannot be acknowledged any more.
            self._entries.clear()
            self._entries.append(Disconnected("earlier events were dropped, because nobody read them"))
        self._entries.append(entry)
        self._changed.set()

    def unread(self) -> int:
        """Messages that wait for the reader."""
        return sum(isinstance(entry, Unread) for entry in self._entries)

    def close(self) -> None:
        """No event will follow."""
        self._closed = True
        self._changed.set()

    async def take(self) -> UplinkEvent | None:
        """The next event, None after the last one."""
        while not self._entries:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        entry = self._entries.popleft()
        if isinstance(entry, Unread):
            entry.connection.acknowledge(entry.message)
            return entry.event
        return entry
