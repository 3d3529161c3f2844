"""What the agent takes from pymodbus, its framing of requests, and why it does not take its client.

Each test but the first pins one behaviour of the library's client as it is: these are the things a bus master for
meters must not do, and an upgrade that changes one is a reason to think again (decision 0013).
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable

import pymodbus
import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from agent.adapters import modbus_tcp
from agent.protocol import tcp_master
from agent.protocol.pdu import ReadRequest
from agent.protocol.tcp import Frame, frames
from tests.support.eventually import eventually

SHORT_S = 0.03
"""Time-out of a client whose reads nobody answers."""


@pytest.mark.parametrize("function", [3, 4])
@pytest.mark.parametrize(
    ("number", "unit", "address", "count"), [(1, 1, 0, 1), (65_535, 247, 65_535, 125), (7, 9, 72, 2)]
)
def test_its_frames_are_those_of_the_specification(
    function: int, number: int, unit: int, address: int, count: int
) -> None:
    request = ReadRequest(unit, function, address, count)
    assert modbus_tcp._encoded(number, request) == tcp_master.encoded(number, request)


Answer = Callable[[Frame], list[bytes]]


class Server:
    """A gateway that answers what a test says."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while data := await reader.read(4096):
                for frame, _ in frames(data):
                    for reply in self.answer(frame):
                        writer.write(reply)
        except ConnectionError:
            return
        finally:
            writer.close()


def words(frame: Frame, *values: int, function: int = 3, transaction: int | None = None) -> bytes:
    body = b"".join(value.to_bytes(2, "big") for value in values)
    number = frame.transaction if transaction is None else transaction
    return Frame(number, frame.unit, bytes((function, len(body))) + body).encode()


@pytest.fixture
async def gateway() -> AsyncIterator[Server]:
    server = Server(lambda _: [])
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield server
    listening.close()
    for writer in server.writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


async def connect(gateway: Server, *, timeout_s: float = 10, **options: object) -> AsyncModbusTcpClient:
    client = AsyncModbusTcpClient(
        "127.0.0.1",
        port=gateway.port,  # type: ignore[attr-defined]
        timeout=timeout_s,
        retries=0,
        reconnect_delay=0,
        **options,  # type: ignore[arg-type]
    )
    assert await client.connect()
    return client


def test_the_version_is_one_that_was_read() -> None:
    assert pymodbus.__version__.startswith("3.16.")


async def test_it_takes_a_reply_of_another_function_and_length(gateway: Server) -> None:
    gateway.answer = lambda frame: [words(frame, 1, 2, 3, function=4)]
    client = await connect(gateway)
    response = await client.read_holding_registers(0, count=2, device_id=7)
    assert (response.function_code, response.registers) == (4, [1, 2, 3])
    client.close()


async def test_it_takes_a_late_reply_without_a_transaction_number(gateway: Server) -> None:
    gateway.answer = lambda _: []
    client = await connect(gateway, timeout_s=SHORT_S)
    with pytest.raises(ModbusIOException):
        await client.read_holding_registers(100, count=1, device_id=7)
    gateway.answer = lambda frame: [words(frame, 666, transaction=0)]
    client.ctx.comm_params.timeout_connect = 10
    response = await client.read_holding_registers(200, count=1, device_id=7)
    assert (response.registers, response.transaction_id) == ([666], 0)
    client.close()


async def test_it_skips_a_reply_of_another_transaction_or_unit(gateway: Server) -> None:
    gateway.answer = lambda frame: [
        words(frame, 1, transaction=frame.transaction + 1),
        words(Frame(frame.transaction, 8, b""), 2),
        words(frame, 3),
    ]
    client = await connect(gateway)
    assert (await client.read_holding_registers(0, count=1, device_id=7)).registers == [3]
    client.close()


async def test_its_count_of_silent_reads_closes_the_connection_unless_it_is_out_of_reach(
    gateway: Server,
) -> None:
    client = await connect(gateway, timeout_s=SHORT_S)
    assert client.ctx.max_until_disconnect == client.ctx.count_until_disconnect == 3
    client.ctx.max_until_disconnect = client.ctx.count_until_disconnect = 2**62
    for _ in range(6):
        with pytest.raises(ModbusIOException):
            await client.read_holding_registers(0, count=1, device_id=7)
    assert client.connected
    client.ctx.count_until_disconnect = -1
    with pytest.raises(ModbusIOException):
        await client.read_holding_registers(0, count=1, device_id=7)
    assert not client.connected


async def test_the_count_begins_anew_with_every_connection(gateway: Server) -> None:
    """So setting the maximum before `connect` is enough."""
    client = AsyncModbusTcpClient("127.0.0.1", port=gateway.port, retries=0, reconnect_delay=0)  # type: ignore[attr-defined]
    client.ctx.max_until_disconnect = 2**62
    assert await client.connect()
    assert client.ctx.count_until_disconnect == 2**62
    client.close()


async def test_it_does_not_notice_a_lost_connection_while_it_waits(gateway: Server) -> None:
    changes: list[bool] = []
    client = await connect(gateway, trace_connect=changes.append)
    client.ctx.comm_params.timeout_connect = 1
    reading = asyncio.ensure_future(client.read_holding_registers(0, count=1, device_id=7))
    await eventually(lambda: bool(gateway.writers))
    gateway.writers[0].transport.abort()
    await eventually(lambda: changes == [True, False])
    assert not reading.done()
    with pytest.raises(ModbusIOException):
        await reading


async def test_it_does_not_reconnect_by_itself(gateway: Server) -> None:
    client = await connect(gateway)
    await eventually(lambda: bool(gateway.writers))
    gateway.writers[0].transport.abort()
    await eventually(lambda: not client.connected)
    await asyncio.sleep(0.1)
    assert not client.connected
    assert gateway.connections == 1
    assert client.ctx.reconnect_task is None


async def test_the_timeout_is_read_anew_for_every_read(gateway: Server) -> None:
    client = await connect(gateway)
    for seconds in (0.02, 0.15):
        client.ctx.comm_params.timeout_connect = seconds
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ModbusIOException):
            await client.read_holding_registers(0, count=1, device_id=7)
        assert seconds <= asyncio.get_running_loop().time() - begun < 5, "and not the ten seconds of before"
    client.close()


async def test_an_undecodable_reply_raises_in_the_receiver(gateway: Server) -> None:
    """Uncaught it ends the connection; the adapter puts its own receiver around this one."""
    client = await connect(gateway)
    client.ctx.request_dev_id = 7
    with pytest.raises(ModbusIOException):
        client.ctx.callback_data(Frame(0, 7, b"\x63\x01\x02").encode(), None)
    client.close()


async def test_the_packet_trace_sees_the_whole_buffer_before_it_is_decoded(gateway: Server) -> None:
    seen: list[tuple[bool, bytes]] = []

    def trace(sending: bool, data: bytes) -> bytes:
        seen.append((sending, data))
        return data

    def answer(frame: Frame) -> list[bytes]:
        return [words(frame, 5)]

    gateway.answer = answer
    client = await connect(gateway, trace_packet=trace)
    await client.read_holding_registers(0, count=1, device_id=7)
    assert [sending for sending, _ in seen] == [True, False]
    assert [frame.pdu for frame, _ in frames(seen[1][1])] == [b"\x03\x02\x00\x05"]
    client.close()


async def test_bytes_nobody_took_stay_in_the_buffer(gateway: Server) -> None:
    client = await connect(gateway)
    client.ctx.data_received(Frame(1, 7, b"\x03\x02\x00\x05").encode()[:6])
    assert len(client.ctx.recv_buffer) == 6
    client.close()


def test_the_log_is_where_we_silence_it() -> None:
    from pymodbus import logging as library_logging

    assert "getLogger(__name__)" in inspect.getsource(library_logging.Log)
    assert library_logging.Log._logger.name == "pymodbus.logging"
