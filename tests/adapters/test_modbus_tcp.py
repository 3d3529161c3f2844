"""What is particular to Modbus TCP: one connection for many units, and gateways that number nothing."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.errors import FrameDamaged, LineDown, MeterRefused, MeterSilent
from agent.metering.plant import Transport
from agent.protocol.pdu import ReadRequest
from agent.protocol.tcp import Frame, frames
from tests.support.eventually import eventually
from tests.support.plants import line

ASK = ReadRequest(7, 3, 100, 1)
SILENT_MS = 50
"""Time-out of a read that nobody answers."""
PATIENT_MS = 5_000
"""Time-out of a read that is answered: however slow the machine is."""


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


class Hand:
    """The clock of a line, moved by the test: so the time that the machine is elsewhere ends no late window."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def move(self, ms: int) -> None:
        self.ns += ms * 1_000_000


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


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
async def timed(gateway: Gateway, hand: Hand) -> AsyncIterator[ModbusTcpLine]:
    """A line whose time is the hand's."""
    wired = line(transport=Transport.MODBUS_TCP, host="127.0.0.1", port=gateway.port)  # type: ignore[attr-defined]
    client = ModbusTcpLine(wired, monotonic_ns=lambda: hand.ns)
    await client.open()
    yield client
    await client.close()


async def ask_in_vain(gateway: Gateway, timed: ModbusTcpLine, hand: Hand) -> None:
    """A question that is not answered in time; the hand stands at its end, and the late window is as long again."""
    before = len(gateway.requests)
    reading = asyncio.create_task(timed.read(ASK, timeout_ms=SILENT_MS))
    await eventually(lambda: len(gateway.requests) > before)
    hand.move(SILENT_MS)
    with pytest.raises(MeterSilent):
        await reading


async def test_a_late_numbered_answer_is_skipped_without_waiting(
    gateway: Gateway, timed: ModbusTcpLine, hand: Hand
) -> None:
    await ask_in_vain(gateway, timed, hand)
    late = gateway.requests[0].transaction.to_bytes(2, "big") + reply(666)[2:]
    gateway.script = [[(0, late), (0.02, reply(5))]]
    assert (await timed.read(ASK, timeout_ms=PATIENT_MS)).words == (5,)
    assert gateway.requests[1].transaction != gateway.requests[0].transaction


@pytest.mark.fault("F37")
async def test_a_late_answer_without_a_number_is_never_taken(
    gateway: Gateway, timed: ModbusTcpLine, hand: Hand
) -> None:
    await ask_in_vain(gateway, timed, hand)
    gateway.script = [[(0, reply(666, numbered=False)), (0.02, reply(5, numbered=False))]]
    with pytest.raises(FrameDamaged, match="without a transaction number"):
        await timed.read(ASK, timeout_ms=PATIENT_MS)
    hand.move(2 * PATIENT_MS)
    await asyncio.sleep(0.05)
    gateway.script = [[(0, reply(5, numbered=False))]]
    assert (await timed.read(ASK, timeout_ms=PATIENT_MS)).words == (5,)


async def test_a_late_refusal_without_a_number_refuses_nothing(
    gateway: Gateway, timed: ModbusTcpLine, hand: Hand
) -> None:
    await ask_in_vain(gateway, timed, hand)
    gateway.script = [[(0, Frame(0, 7, bytes((0x83, 2))).encode())]]
    with pytest.raises(FrameDamaged):
        await timed.read(ReadRequest(7, 3, 200, 2), timeout_ms=PATIENT_MS)


async def test_once_known_as_nameless_the_gateway_is_given_time(
    gateway: Gateway, timed: ModbusTcpLine, hand: Hand
) -> None:
    gateway.script = [[(0, reply(1, numbered=False))]]
    assert (await timed.read(ASK, timeout_ms=SILENT_MS)).words == (1,)
    await ask_in_vain(gateway, timed, hand)
    gateway.script = [[(0, reply(5, numbered=False))]]
    reading = asyncio.create_task(timed.read(ASK, timeout_ms=PATIENT_MS))
    gateway.writers[0].write(reply(666, numbered=False))
    await asyncio.sleep(0.05)
    assert len(gateway.requests) == 2, "it waits until no late answer can come"
    hand.move(SILENT_MS)
    assert (await reading).words == (5,)


@pytest.mark.fault("F37")
async def test_what_came_while_the_loop_did_not_look_is_not_taken_for_the_next_answer(
    gateway: Gateway, port: ModbusTcpLine
) -> None:
    """The process stood still until the late window was over, and the late answer lay in the socket."""
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=SILENT_MS)
    gateway.writers[0].write(reply(666, numbered=False))
    time.sleep(3 * SILENT_MS / 1000)  # noqa: ASYNC251  # the fault under test
    gateway.script = [[(0, reply(5, numbered=False))]]
    assert (await port.read(ASK, timeout_ms=PATIENT_MS)).words == (5,)


@pytest.mark.parametrize(
    "pdu", [b"\x63\x01\x02", b"\x03\x02\x00", b"\x04\x02\x00\x05", b"\x03\x04\0\1\0\2", b"\x10\0\0\0\1"]
)
async def test_a_senseless_answer_costs_one_read_and_no_connection(
    gateway: Gateway, port: ModbusTcpLine, pdu: bytes
) -> None:
    gateway.script = [[(0, b"##" + Frame(0, 7, pdu).encode()[2:])], [(0, reply(9, unit=8))]]
    with pytest.raises(FrameDamaged):
        await port.read(ASK, timeout_ms=PATIENT_MS)
    assert (await port.read(ReadRequest(8, 3, 0, 1), timeout_ms=PATIENT_MS)).words == (9,)
    assert gateway.connections == 1


@pytest.mark.fault("F14")
async def test_half_a_late_reply_is_not_continued_by_the_next(gateway: Gateway, port: ModbusTcpLine) -> None:
    whole = reply(666, numbered=False)
    with pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=SILENT_MS)
    gateway.writers[0].write(whole[:7])
    await asyncio.sleep(0.05)
    with pytest.raises(LineDown, match="middle of a reply"):
        await port.read(ASK, timeout_ms=PATIENT_MS)
    await port.open()
    gateway.script = [[(0, reply(5))]]
    assert (await port.read(ASK, timeout_ms=PATIENT_MS)).words == (5,)


@pytest.mark.fault("F13")
async def test_a_gateway_that_says_its_target_is_away_is_believed(
    gateway: Gateway, port: ModbusTcpLine
) -> None:
    gateway.script = [[(0, b"##" + Frame(0, 7, bytes((0x83, 11))).encode()[2:])]]
    with pytest.raises(MeterRefused) as refused:
        await port.read(ASK, timeout_ms=PATIENT_MS)
    assert refused.value.code == 11


async def test_concurrent_readers_take_turns(gateway: Gateway, port: ModbusTcpLine) -> None:
    gateway.script = [[(0.01, reply(value, unit=unit))] for value, unit in ((1, 7), (2, 8), (3, 9))]
    asked = [port.read(ReadRequest(unit, 3, 0, 1), timeout_ms=PATIENT_MS) for unit in (7, 8, 9)]
    assert [answer.words for answer in await asyncio.gather(*asked)] == [(1,), (2,), (3,)]


async def test_time_outs_are_not_logged_by_the_library(
    gateway: Gateway, port: ModbusTcpLine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(MeterSilent):
        await port.read(ASK, timeout_ms=20)
    assert not caplog.records


async def test_nothing_is_left_running_after_close(gateway: Gateway, port: ModbusTcpLine) -> None:
    before = asyncio.all_tasks()
    reading = asyncio.create_task(port.read(ASK, timeout_ms=60_000))
    await eventually(lambda: len(gateway.requests) == 1)
    await port.close()
    with pytest.raises(LineDown):
        await reading
    await eventually(lambda: asyncio.all_tasks() <= before)
