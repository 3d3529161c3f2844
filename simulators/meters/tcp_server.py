"""A Modbus TCP gateway at byte level: many units behind one address, each of which can misbehave by itself."""

import asyncio
from collections.abc import Iterable

from agent.protocol.tcp import Frame, frames
from simulators.meters import faults
from simulators.meters.meter import SimulatedMeter

CHUNK_BYTES = 4096


class TcpGateway:
    """Units by number; an unknown unit stays silent, as a gateway without an answer does.

    `absent_code` makes the gateway answer for units that it does not have, with this exception (11: no response).
    Every request is answered by itself, after the turnaround of its unit.
    """

    def __init__(self, meters: Iterable[SimulatedMeter], *, absent_code: int | None = None) -> None:
        self.absent_code = absent_code
        self.connections = 0
        self._units = {meter.unit: meter for meter in meters}
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._late: set[asyncio.TimerHandle] = set()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Serve; port 0 takes a free one. Returns the address. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port)
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def aclose(self) -> None:
        """Switch the gateway off."""
        if self._server is not None:
            self._server.close()
        for handle in self._late:
            handle.cancel()
        serving = [task for task in self._writers.values() if task is not None]
        self.drop_clients()
        await asyncio.gather(*serving, return_exceptions=True)

    def drop_clients(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers[writer] = asyncio.current_task()
        buffer = b""
        try:
            while data := await reader.read(CHUNK_BYTES):
                buffer += data
                used = 0
                for request, end in frames(buffer):
                    self._answer(request, writer)
                    used = end
                buffer = buffer[used:]
        except ConnectionError:
            return
        finally:
            self._writers.pop(writer, None)
            writer.close()

    def _answer(self, request: Frame, writer: asyncio.StreamWriter) -> None:
        meter = self._units.get(request.unit)
        if meter is None:
            if self.absent_code is not None:
                refusal = bytes((request.pdu[0] | 0x80, self.absent_code))
                writer.write(Frame(request.transaction, request.unit, refusal).encode())
            return

        def encode(unit: int, pdu: bytes, forget_transaction: bool) -> bytes:
            return Frame(0 if forget_transaction else request.transaction, unit, pdu).encode()

        for transmission in faults.answer(meter, request.pdu, encode):
            if transmission.drop:
                writer.transport.abort()
                return
            self._send_later(transmission.delay_ns / 1_000_000_000, transmission.data, writer)

    def _send_later(self, seconds: float, data: bytes, writer: asyncio.StreamWriter) -> None:
        def send() -> None:
            self._late.discard(handle)
            if not writer.is_closing():
                writer.write(data)

        handle = asyncio.get_running_loop().call_later(seconds, send)
        self._late.add(handle)
