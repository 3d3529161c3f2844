"""One accepted socket with its client: what is written to it, and how it ends."""

import asyncio

from simulators.broker import packets
from simulators.broker.packets import V5


class Connection:
    """One accepted socket with its client, from CONNECT to the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.version = V5
        self.client_id = ""
        self.keep_alive_s = 0
        self.heard = 0.0
        self.unanswered: set[int] = set()
        self.wake = asyncio.Event()
        self.arrived = 0
        self.left_in_order = False
        self.gone = False

    def write(self, data: bytes) -> None:
        """Send bytes unless the connection has ended."""
        if not self.gone and not self.writer.is_closing():
            self.writer.write(data)

    def close(self, reason: int | None = None) -> None:
        """End the connection, after a DISCONNECT with this reason where the client understands it."""
        if self.gone:
            return
        if reason is not None and self.version == V5:
            self.write(packets.encode_disconnect(reason))
        self.gone = True
        self.wake.set()
        self.writer.close()

    def cut(self) -> None:
        """Reset the connection without a word."""
        self.gone = True
        self.wake.set()
        self.writer.transport.abort()
