"""A Modbus TCP meter, or a gateway with many units behind it: pymodbus, with every reply checked.

The one address of pymodbus in the agent. The library frames, connects and waits; what it leaves open is done here, and
each point is pinned by `tests/contracts/test_pymodbus.py`, so that an upgrade that changes it is noticed:

- it accepts another function, another byte count and another number of registers: `agent.protocol.pdu` looks at the
  bytes themselves;
- it closes the shared connection after a few silent units in a row: its counter is set out of reach, a silent meter
  costs nobody else the connection;
- it lets a reply with transaction id 0 pass as the answer to anything: a unit that did not answer is asked the same
  shape again only with a number in the reply, or after its late window;
- it does not notice a lost connection while it waits: the waiting read is failed by us;
- it reconnects by itself, later and later: that is switched off, `open` is the only way to a new connection, and
  every connection has a client of its own;
- a reply it cannot decode ends the connection: it is taken from it and fails the read;
- a cancelled read would leave its answer to the next one: reads run shielded to their end.

Before it come the plant and the poll stage, after it the words go to `agent.metering.decode`.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from agent.errors import FrameDamaged, LineDown, MeteringError, MeterSilent
from agent.metering import plant
from agent.metering.plant import SerialSettings
from agent.protocol.pair import Request
from agent.protocol.pdu import READ_HOLDING, ReadRequest, words_of
from agent.protocol.tcp import frames
from agent.service.ports import Reply

CONNECT_SECONDS = 3
"""Longest wait for the gateway to accept the connection."""
UNACKNOWLEDGED_MS = 10_000
"""A gateway that acknowledges no bytes for so long is gone (TCP_USER_TIMEOUT); silence of units is no sign of that."""
LATE_FACTOR = 2
"""The late window of a unit that did not answer, in time-outs from the request."""
NEVER = 2**62
"""More silent reads in a row than a connection can see."""

# It logs every time-out as an error; what matters is said by our own errors and counters.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class _Debt:
    """An answer that may still come, and until when."""

    shape: tuple[int, int, int]
    until_ns: int


class ModbusTcpLine:
    """Modbus TCP; implements `agent.service.ports.Line`."""

    def __init__(self, line: plant.Line, *, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._line = line
        self._monotonic_ns = monotonic_ns
        self._client: AsyncModbusTcpClient | None = None
        self._lost: asyncio.Future[None] | None = None
        self._undecodable = ""
        self._received = b""
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Reply]] = set()
        self._debts: list[_Debt] = []
        self._nameless = False

    # ------------------------------------------------------------------------------------------------- the connection

    async def open(self) -> None:
        """Connect; an open connection is given up first. Raises LineDown."""
        await self.close()
        host, port = self._line.host or "", self._line.port or 0
        client = AsyncModbusTcpClient(
            host,
            port=port,
            name=self._line.id,
            timeout=CONNECT_SECONDS,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._see,
            trace_connect=self._connection_changed,
        )
        client.ctx.max_until_disconnect = NEVER
        client.ctx.callback_data = self._guarded(client)  # type: ignore[method-assign]
        self._lost = asyncio.get_running_loop().create_future()
        self._debts.clear()  # a new connection brings nothing of the old one
        if not await client.connect():
            client.close()
            raise LineDown(
                f"line {self._line.id}: cannot connect to {host}:{port}; check address, port and power of the gateway"
            )
        _tune(client)
        self._client = client

    async def close(self) -> None:
        """Give the connection up; a read that is waiting ends with LineDown."""
        self._connection_changed(False)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connection_changed(self, connected: bool) -> None:
        """pymodbus says that the connection was made or lost."""
        if not connected and self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

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
        business here. A cancelled read runs on to its end, and the next one waits for it.
        """
        if not isinstance(request, ReadRequest):
            raise TypeError(f"line {self._line.id}: Modbus TCP does not carry {request}")
        task = asyncio.create_task(self._in_turn(request, timeout_ms), name=f"read {self._line.id}")
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a read whose caller went away has nobody else to tell

    async def _in_turn(self, request: ReadRequest, timeout_ms: int) -> Reply:
        async with self._turn:
            await self._settle(request)
            client, lost = self._ready()
            sent_ns = self._monotonic_ns()
            try:
                words = await self._ask(client, lost, request, timeout_ms)
            except (MeterSilent, FrameDamaged):
                until_ns = sent_ns + LATE_FACTOR * timeout_ms * 1_000_000
                self._debts.append(_Debt(_shape(request), until_ns))
                raise
            return Reply(words, sent_ns, self._monotonic_ns())

    def _ready(self) -> tuple[AsyncModbusTcpClient, asyncio.Future[None]]:
        if self._client is None or self._lost is None or self._lost.done() or not self._client.connected:
            raise LineDown(f"line {self._line.id}: not connected to {self._line.host}:{self._line.port}")
        if _is_broken_off(self._client.ctx.recv_buffer):
            # Half a late reply: its other half would be taken for the beginning of a frame, so begin anew.
            self._client.close()
            self._connection_changed(False)
            raise LineDown(f"line {self._line.id}: the gateway broke off in the middle of a reply")
        return self._client, self._lost

    async def _ask(
        self, client: AsyncModbusTcpClient, lost: asyncio.Future[None], request: ReadRequest, timeout_ms: int
    ) -> tuple[int, ...]:
        client.ctx.comm_params.timeout_connect = timeout_ms / 1000
        self._undecodable, self._received = "", b""
        call = (
            client.read_holding_registers if request.function == READ_HOLDING else client.read_input_registers
        )
        reply = asyncio.ensure_future(call(request.address, count=request.count, device_id=request.unit))
        ends: set[asyncio.Future[Any]] = {reply, lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            reply.cancel()  # its client is not used again, so nobody can be given its answer
            raise LineDown(
                f"line {self._line.id}: the connection to {self._line.host}:{self._line.port} was lost"
            )
        try:
            response = reply.result()
        except ModbusException as fault:
            raise self._meaning(request, timeout_ms, lost) from fault
        return self._checked(request, response)

    def _meaning(self, request: ReadRequest, timeout_ms: int, lost: asyncio.Future[None]) -> MeteringError:
        """What a read without an acceptable response was."""
        if lost.done() or self._client is None or not self._client.connected:
            return LineDown(
                f"line {self._line.id}: the connection to {self._line.host}:{self._line.port} was lost"
            )
        if self._undecodable:
            return FrameDamaged(f"unit {request.unit} answered {self._undecodable} to {request}")
        return MeterSilent(f"unit {request.unit} did not answer {request} in {timeout_ms} ms")

    def _checked(self, request: ReadRequest, response: ModbusPDU) -> tuple[int, ...]:
        """Believe the response only if its own bytes say what was asked for."""
        if response.transaction_id == 0:
            self._nameless = True
            if self._ambiguous(request, response):
                raise FrameDamaged(
                    f"unit {request.unit} answered {request} without a transaction number while an answer was owed"
                )
        for frame, _ in frames(self._received):
            if (frame.transaction, frame.unit) == (response.transaction_id, request.unit):
                return words_of(request, frame.pdu)
        raise FrameDamaged(f"unit {request.unit}: the reply to {request} has a wrong length")

    # ----------------------------------------------------------------------------------------------------- late answers

    def _owed(self, request: ReadRequest) -> int:
        """Until when a late answer could be taken for the answer to this request; 0 if none can."""
        now_ns = self._monotonic_ns()
        self._debts = [debt for debt in self._debts if debt.until_ns > now_ns]
        return max((debt.until_ns for debt in self._debts if debt.shape == _shape(request)), default=0)

    def _ambiguous(self, request: ReadRequest, response: ModbusPDU) -> bool:
        """Whether a reply without a number may be the late answer to an earlier request; exceptions have no shape."""
        if not response.isError():
            return bool(self._owed(request))
        now_ns = self._monotonic_ns()
        return any(debt.shape[:2] == _shape(request)[:2] and debt.until_ns > now_ns for debt in self._debts)

    async def _settle(self, request: ReadRequest) -> None:
        """Where replies carry no transaction number, wait until nothing is owed that would fit."""
        until_ns = self._owed(request) if self._nameless else 0
        if until_ns:
            await asyncio.sleep((until_ns - self._monotonic_ns()) / 1_000_000_000)

    # ------------------------------------------------------------------------------------------ inside the library

    def _see(self, sending: bool, data: bytes) -> bytes:
        """Keep the bytes the library is about to decode."""
        if not sending:
            self._received = data
        return data

    def _guarded(self, client: AsyncModbusTcpClient) -> Callable[..., int]:
        """The library's receiver, with a reply it cannot decode failing one read and not the connection."""
        decode = client.ctx.callback_data

        def receive(data: bytes, addr: tuple[str, int] | None = None) -> int:
            try:
                return decode(data, addr)
            except ModbusException as fault:
                self._undecodable = "something that is no reply"
                if not client.ctx.response_future.done():
                    client.ctx.response_future.set_exception(fault)
                return len(data)

        return receive


def _shape(request: ReadRequest) -> tuple[int, int, int]:
    return request.unit, request.function, request.count


def _is_broken_off(buffer: bytes) -> bool:
    """Whether bytes that nobody has taken end within a frame; whole frames that nobody waits for do no harm."""
    ends = [end for _, end in frames(buffer)]
    return bool(buffer) and (not ends or ends[-1] != len(buffer))


def _tune(client: AsyncModbusTcpClient) -> None:
    """Let the kernel notice a gateway that has vanished."""
    connection = client.ctx.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
