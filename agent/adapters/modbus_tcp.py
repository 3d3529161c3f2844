"""A Modbus TCP meter, or a gateway with many units behind it: a socket and an alarm clock for the pure state machine.

The transaction is `agent.protocol.tcp_master`; this module connects, moves its bytes on the running event loop and
turns every way a connection can die into LineDown. A unit that is silent costs nobody else the connection.

The one address of pymodbus in the agent: it makes the frames of our requests. Its client is not used (decision 0013): a
read through it costs half as much processor time again, and what it leaves open (function, length and late answers
unchecked, its own reconnects, a cancelled read's answer given to the next) had to be guarded from outside, through its
private parts. `tests/contracts/test_pymodbus.py` shows each of these.

Before it come the plant (`agent.metering.plant.Line`) and the poll stage, after it `agent.metering.decode`.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable

from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from agent.adapters.answering import Answering
from agent.adapters.sockets import connected_socket, why_not_connected
from agent.errors import LineDown
from agent.metering import plant
from agent.metering.plant import SerialSettings
from agent.protocol.events import Event, Failed, Retune, Send, WaitUntil, Words
from agent.protocol.pair import Request
from agent.protocol.pdu import READ_HOLDING, ReadRequest
from agent.protocol.tcp_master import TcpMaster
from agent.service.ports import Reply

CONNECT_SECONDS = 3
"""Longest wait for the gateway to accept the connection."""
CHUNK_BYTES = 4096

_FRAMER = FramerSocket(DecodePDU(False))


def _encoded(number: int, request: ReadRequest) -> bytes:
    """The frame of a numbered request."""
    kind = ReadHoldingRegistersRequest if request.function == READ_HOLDING else ReadInputRegistersRequest
    pdu = kind(address=request.address, count=request.count, dev_id=request.unit, transaction_id=number)
    return _FRAMER.buildFrame(pdu)


class ModbusTcpLine:
    """Modbus TCP; implements `agent.service.ports.Line`."""

    def __init__(self, line: plant.Line, *, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._line = line
        self._monotonic_ns = monotonic_ns
        self._master = TcpMaster(encode=_encoded)
        self._socket: socket.socket | None = None
        self._turn = asyncio.Lock()
        self._answering = Answering()
        self._alarm: asyncio.TimerHandle | None = None
        self._why_closed = "is not open"

    # ------------------------------------------------------------------------------------------------- the connection

    async def open(self) -> None:
        """Connect; an open connection is given up first. Raises LineDown."""
        await self.close()
        host, port = self._line.host or "", self._line.port or 0
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connected = await connected_socket(host, port)
        except (OSError, TimeoutError) as fault:
            reason = why_not_connected(fault, CONNECT_SECONDS)
            raise LineDown(
                f"line {self._line.id}: cannot connect to {host}:{port} ({reason}); check address, port and power of "
                "the gateway"
            ) from fault
        self._socket = connected
        self._master.connected()
        asyncio.get_running_loop().add_reader(connected.fileno(), self._on_readable)

    async def close(self) -> None:
        """Give the connection up; a read that is waiting ends with LineDown."""
        self._drop("was closed")

    def _drop(self, reason: str) -> None:
        """Close the connection, if any, and end the waiting read."""
        connected, self._socket = self._socket, None
        if connected is None:
            return
        asyncio.get_running_loop().remove_reader(connected.fileno())
        self._stop_alarm()
        self._master.abandon()
        connected.close()
        self._why_closed = reason
        self._answering.give(self._down())

    def _down(self) -> LineDown:
        place = f"{self._line.host}:{self._line.port}"
        return LineDown(f"line {self._line.id}: the connection to {place} {self._why_closed}")

    # ------------------------------------------------------------------------------------------------------- one read

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        """Make one read transaction; see `agent.service.ports.Line.read`.

        Only Modbus: settings refuse a DL/T 645 meter on such a line. `quiet_ms` and `settings` are the gateway's
        business here. Reads take turns. A cancelled read leaves an answer owed, which the next one takes into account.
        """
        if not isinstance(request, ReadRequest):
            raise TypeError(f"line {self._line.id}: Modbus TCP does not carry {request}")
        async with self._turn:
            return await self._ask(request, timeout_ms)

    async def _ask(self, request: ReadRequest, timeout_ms: int) -> Reply:
        self._drain()  # what lies here answers nothing that is asked now, however long the loop did not look
        if self._socket is None:
            raise self._down()
        answer = self._answering.begin()
        try:
            self._obey(self._begin(request, timeout_ms))
            return await answer
        finally:
            self._answering.end()
            self._stop_alarm()
            self._master.abandon()

    def _begin(self, request: ReadRequest, timeout_ms: int) -> list[Event]:
        try:
            return self._master.begin(self._monotonic_ns(), request, timeout_ns=timeout_ms * 1_000_000)
        except LineDown as error:
            self._drop(f"was given up: {error}")
            return []

    # --------------------------------------------------------------------------------------------- bytes and the clock

    def _on_readable(self) -> None:
        self._obey(self._take())

    def _on_alarm(self) -> None:
        """A wait is over. What has already arrived counts as arrived before it: the loop may be late."""
        self._alarm = None
        self._drain()
        self._obey(self._master.tick(self._monotonic_ns()))

    def _drain(self) -> None:
        self._obey(self._take())

    def _take(self) -> list[Event]:
        if self._socket is None:
            return []
        try:
            data = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return []
        except OSError as fault:
            self._drop(f"was lost ({fault.strerror or fault})")
            return []
        if not data:
            self._drop("was closed by the gateway")
            return []
        try:
            return self._master.receive(self._monotonic_ns(), data)
        except LineDown as error:
            self._drop(f"was given up: {error}")
            return []

    def _obey(self, events: Iterable[Event]) -> None:
        """Do what the machine says."""
        for event in events:
            match event:
                case Send(data):
                    self._put(data)
                case WaitUntil(at_ns):
                    self._set_alarm(at_ns)
                case Words(words, sent_ns, received_ns):
                    self._finish(Reply(words, sent_ns, received_ns))
                case Failed(error):
                    self._finish(error)
                case Retune():
                    raise AssertionError("a TCP connection has no speed")

    def _put(self, data: bytes) -> None:
        if self._socket is None:
            return
        try:
            sent = self._socket.send(data)
        except OSError as fault:
            self._drop(f"was lost ({fault.strerror or fault})")
            return
        if sent != len(data):
            self._drop("takes no more bytes")

    def _finish(self, result: Reply | Exception) -> None:
        self._stop_alarm()
        self._answering.give(result)

    def _set_alarm(self, at_ns: int) -> None:
        self._stop_alarm()
        seconds = max(0, at_ns - self._monotonic_ns()) / 1_000_000_000
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._on_alarm)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
