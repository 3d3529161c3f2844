"""The agent's lines against pymodbus' own server: an independent idea of what Modbus is, on TCP and on a pty.

What that server does differently from a meter, and what is therefore not asked of it here: it answers for units it does
not have (exception 4), it paces nothing, and it keeps no silence.
"""

import asyncio
import os
import tty
from collections.abc import AsyncIterator

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.adapters.rtu_line import RtuLine
from agent.errors import MeterRefused
from agent.metering.plant import Transport
from agent.protocol.pdu import ReadRequest
from agent.service.ports import Line
from tests.support.plants import FAST, line

WORDS = [0x449A, 0x51EC, 0, 1, 0xFFFF, 0x8000, 42]
BASE = 0x1000


def devices() -> list[SimDevice]:
    """Two meters with the same registers, told apart by one word."""
    return [
        SimDevice(unit, [SimData(BASE, values=[*WORDS, unit], datatype=DataType.REGISTERS)])
        for unit in (7, 30)
    ]


@pytest.fixture
async def tcp() -> AsyncIterator[Line]:
    server = ModbusTcpServer(devices(), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    client = ModbusTcpLine(line(transport=Transport.MODBUS_TCP, host="127.0.0.1", port=port))
    await client.open()
    yield client
    await client.close()
    await server.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
async def rtu_over_tcp() -> AsyncIterator[Line]:
    server = ModbusTcpServer(devices(), framer=FramerType.RTU, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    client = RtuLine(line(transport=Transport.RS485_OVER_TCP, host="127.0.0.1", port=port), listen_ms=10)
    await client.open()
    yield client
    await client.close()
    await server.shutdown()  # type: ignore[no-untyped-call]


class Cable:
    """Two ptys with what is written to one readable at the other."""

    def __init__(self) -> None:
        self._ends = [os.openpty(), os.openpty()]
        self.paths = []
        loop = asyncio.get_running_loop()
        for (master, slave), (other, _) in zip(self._ends, reversed(self._ends), strict=True):
            tty.setraw(slave)
            self.paths.append(os.ttyname(slave))
            loop.add_reader(master, self._pass_on, master, other)

    def _pass_on(self, source: int, sink: int) -> None:
        os.write(sink, os.read(source, 4096))

    def close(self) -> None:
        for master, slave in self._ends:
            asyncio.get_running_loop().remove_reader(master)
            os.close(slave)
            os.close(master)


@pytest.fixture
async def pty() -> AsyncIterator[Line]:
    cable = Cable()
    server = ModbusSerialServer(devices(), port=cable.paths[0], baudrate=FAST.baud)
    await server.serve_forever(background=True)
    client = RtuLine(line(device=cable.paths[1]), listen_ms=10)
    await client.open()
    yield client
    await client.close()
    await server.shutdown()  # type: ignore[no-untyped-call]
    cable.close()


@pytest.fixture(params=["tcp", "rtu_over_tcp", "pty"])
def served(request: pytest.FixtureRequest) -> Line:
    chosen: Line = request.getfixturevalue(request.param)
    return chosen


@pytest.mark.parametrize("function", [3, 4])
async def test_every_block_of_the_map_comes_back(served: Line, function: int) -> None:
    for unit in (7, 30):
        expected = [*WORDS, unit]
        for count in range(1, len(expected) + 1):
            request = ReadRequest(unit, function, BASE, count)
            assert (await served.read(request, timeout_ms=500)).words == tuple(expected[:count])


async def test_a_register_it_does_not_have_is_refused_with_its_code(served: Line) -> None:
    with pytest.raises(MeterRefused) as refused:
        await served.read(ReadRequest(7, 3, BASE + 100, 2), timeout_ms=500)
    assert refused.value.code == 2


async def test_a_hundred_reads_in_a_row_all_come_back(served: Line) -> None:
    for number in range(100):
        unit = (7, 30)[number % 2]
        reply = await served.read(ReadRequest(unit, 3, BASE + number % 8, 1), timeout_ms=500)
        assert reply.words == ([*WORDS, unit][number % 8],)
