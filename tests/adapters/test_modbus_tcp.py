"""What is particular to Modbus TCP: one connection for many units, and gateways that number nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.errors import FrameDamaged, LineDown, MeterRefused, MeterSilent
from agent.metering.plant import Transport
from agent.protocol.pdu import ReadRequest
from agent.protocol.tcp import Frame, frames
from tests.support.plants import line

ASK = ReadRequest(7, 3, 100, 1)


class Gateway:
    """Answers each request with what the test has laid ready; each entry is a delay and bytes, or a function."""

    def __init__(self) -> None:
        self.script: list[list[tuple[float, bytes]]] = []
        self.requests: list[Frame] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while data := await reader.read(4096):
                for frame, _ in frames(data):
                    self.requests.append(frame)
                    for delay, reply in self.script.pop(0) if self.script else []:
                        numbered = (
                            frame.transaction.to_bytes(2, "big") + reply[2:] if reply[:2] == b"##" else reply
                        )
                        asyncio.get_running_loop().call_later(delay, writer.write, numbered)
        except ConnectionError:
            return
        finally:
            writer.close()


def reply(value: int, *, unit: int = 7, numbered: bool = True, function: int = 3) -> bytes:
    data = Frame(0, unit, bytes((function, 2)) + value.to_bytes(2, "big")).encode()
    return b"##" + data[2:] if numbered else data


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield made
    server.close()
    for writer in made.writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


@pytest.fixture
async def port(gateway: Gateway) -> AsyncIterator[ModbusTcpLine]:
    client = ModbusTcpLine(line(transport=Transport.MODBUS_TCP, host="127.0.0.1", port=gateway.port))  # type: ignore[attr-defined]
    await client.open()
    yield client
    await client.close()


async def test_a_late_numbered_answer_is_skipped_without_waiting(
    gateway: Gateway, port: ModbusTcpLine
) -> None:
    gateway.script = [[(0.07, reply(666))], [(0.04, reply(5))]]
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=50)
    assert (await port.read(ASK, timeout_ms=200)).words == (5,)
    assert gateway.requests[1].transaction != gateway.requests[0].transaction


@pytest.mark.fault("F37")
async def test_a_late_answer_without_a_number_is_never_taken(gateway: Gateway, port: ModbusTcpLine) -> None:
    gateway.script = [[(0.06, reply(666, numbered=False))], [(0.05, reply(5, numbered=False))]]
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=50)
    with pytest.raises(FrameDamaged, match="without a transaction number"):
        await port.read(ASK, timeout_ms=100)
    gateway.script = [[(0, reply(5, numbered=False))]]
    assert (await port.read(ASK, timeout_ms=100)).words == (5,)


async def test_a_late_refusal_without_a_number_refuses_nothing(gateway: Gateway, port: ModbusTcpLine) -> None:
    refusal = Frame(0, 7, bytes((0x83, 2))).encode()
    gateway.script = [[(0.06, refusal)], []]
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=50)
    with pytest.raises(FrameDamaged):
        await port.read(ReadRequest(7, 3, 200, 2), timeout_ms=100)


async def test_once_known_as_nameless_the_gateway_is_given_time(
    gateway: Gateway, port: ModbusTcpLine
) -> None:
    gateway.script = [
        [(0, reply(1, numbered=False))],
        [(0.09, reply(666, numbered=False))],
        [(0, reply(5, numbered=False))],
    ]
    assert (await port.read(ASK, timeout_ms=60)).words == (1,)
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=60)
    assert (await port.read(ASK, timeout_ms=60)).words == (5,)


@pytest.mark.parametrize(
    "pdu", [b"\x63\x01\x02", b"\x03\x02\x00", b"\x04\x02\x00\x05", b"\x03\x04\0\1\0\2", b"\x10\0\0\0\1"]
)
async def test_a_senseless_answer_costs_one_read_and_no_connection(
    gateway: Gateway, port: ModbusTcpLine, pdu: bytes
) -> None:
    gateway.script = [[(0, b"##" + Frame(0, 7, pdu).encode()[2:])], [(0, reply(9, unit=8))]]
    with pytest.raises(FrameDamaged):
        await port.read(ASK, timeout_ms=100)
    assert (await port.read(ReadRequest(8, 3, 0, 1), timeout_ms=100)).words == (9,)
    assert gateway.connections == 1


@pytest.mark.fault("F14")
async def test_half_a_late_reply_is_not_continued_by_the_next(gateway: Gateway, port: ModbusTcpLine) -> None:
    whole = reply(666, numbered=False)
    gateway.script = [[(0.07, whole[:7]), (0.2, whole[7:])]]
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=50)
    await asyncio.sleep(0.05)
    with pytest.raises(LineDown, match="middle of a reply"):
        await port.read(ASK, timeout_ms=50)
    await port.open()
    gateway.script = [[(0, reply(5))]]
    assert (await port.read(ASK, timeout_ms=100)).words == (5,)


@pytest.mark.fault("F13")
async def test_a_gateway_that_says_its_target_is_away_is_believed(
    gateway: Gateway, port: ModbusTcpLine
) -> None:
    gateway.script = [[(0, b"##" + Frame(0, 7, bytes((0x83, 11))).encode()[2:])]]
    with pytest.raises(MeterRefused) as refused:
        await port.read(ASK, timeout_ms=100)
    assert refused.value.code == 11


async def test_concurrent_readers_take_turns(gateway: Gateway, port: ModbusTcpLine) -> None:
    gateway.script = [[(0.01, reply(value, unit=unit))] for value, unit in ((1, 7), (2, 8), (3, 9))]
    asked = [port.read(ReadRequest(unit, 3, 0, 1), timeout_ms=200) for unit in (7, 8, 9)]
    assert [answer.words for answer in await asyncio.gather(*asked)] == [(1,), (2,), (3,)]


async def test_time_outs_are_not_logged_by_the_library(
    gateway: Gateway, port: ModbusTcpLine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=20)
    assert not caplog.records


async def test_nothing_is_left_running_after_close(gateway: Gateway, port: ModbusTcpLine) -> None:
    reading = asyncio.create_task(port.read(ASK, timeout_ms=5000))
    await asyncio.sleep(0.02)
    await port.close()
    with pytest.raises(LineDown):
        await reading
    await asyncio.sleep(0.01)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("read ")]
