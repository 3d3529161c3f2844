"""An RS485 line behind a serial port, a pty or a terminal server: bytes and an alarm clock for `agent.protocol.rtu`.

The transaction itself is the pure state machine; this module opens the port, moves its bytes on the running event loop
and turns every way a port can die into LineDown. The one address of pyserial in the agent. Before it come the plant
(`agent.metering.plant.Line`) and the poll stage, after it the words go to `agent.metering.decode`.

Why not pymodbus for RTU: it keeps no silence between frames and gives a late answer to the wrong question
(see `agent.protocol.rtu`).
"""

import asyncio
import errno
import os
import select
import socket
import termios
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import serial

from agent.adapters.alarm import Alarm, make_alarm
from agent.adapters.answering import Answering
from agent.adapters.sockets import connected_socket, why_not_connected
from agent.errors import LineDown
from agent.metering import plant
from agent.metering.plant import SerialSettings, Transport
from agent.protocol.events import Event, Failed, Retune, Send, WaitUntil, Words
from agent.protocol.pair import PairMaster, Request
from agent.service.ports import Reply

LISTEN_MS = 250
"""A port just opened may still deliver what a process before us was owed: so long we only listen."""
CONNECT_SECONDS = 3
"""Longest wait for a terminal server to accept the connection."""
CHUNK_BYTES = 4096

_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}
_STOP_BITS = {1: serial.STOPBITS_ONE, 2: serial.STOPBITS_TWO}


class Channel(Protocol):
    """A non-blocking way to move bytes; raises OSError when it is gone."""

    def fileno(self) -> int: ...
    def read(self) -> bytes:
        """What has arrived, b"" for nothing."""

    def write(self, data: bytes) -> None: ...
    def retune(self, settings: SerialSettings) -> None: ...
    def close(self) -> None: ...


class _SerialChannel:
    """A serial port or pty, held exclusively."""

    def __init__(self, device: str, settings: SerialSettings) -> None:
        # A pty has no parity to set, and the C library calls it an error to try.
        self._has_parity = not os.path.realpath(device).startswith("/dev/pts/")
        self._serial = serial.Serial(
            port=device,
            baudrate=settings.baud,
            parity=self._parity(settings),
            stopbits=_STOP_BITS[settings.stop_bits],
            timeout=0,
            exclusive=True,
        )
        # FTDI adapters hold bytes back for 16 ms otherwise; a pty and most other drivers do not know the request.
        try:
            self._serial.set_low_latency_mode(True)
        except (OSError, ValueError, NotImplementedError):
            self.low_latency = False
        else:
            self.low_latency = True

    def fileno(self) -> int:
        return int(self._serial.fileno())

    def read(self) -> bytes:
        try:
            data = os.read(self.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return b""
        # pyserial sets VMIN to 0, so that nothing to read and nobody there look alike.
        if not data and self._hung_up():
            raise OSError(errno.EIO, "the port has hung up")
        return data

    def _hung_up(self) -> bool:
        state = select.poll()
        state.register(self.fileno(), select.POLLIN)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in state.poll(0))

    def write(self, data: bytes) -> None:
        if os.write(self.fileno(), data) != len(data):
            raise OSError(errno.EIO, "the port takes no more bytes")

    def retune(self, settings: SerialSettings) -> None:
        try:
            self._serial.apply_settings(
                {
                    "baudrate": settings.baud,
                    "parity": self._parity(settings),
                    "stopbits": _STOP_BITS[settings.stop_bits],
                }
            )
        except termios.error as fault:
            raise OSError(*fault.args) from fault

    def _parity(self, settings: SerialSettings) -> str:
        return _PARITY[settings.parity] if self._has_parity else serial.PARITY_NONE

    def close(self) -> None:
        self._serial.close()


class _SocketChannel:
    """A terminal server that passes the bytes of its RS485 side on unchanged."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        try:
            data = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError(errno.ECONNRESET, "the terminal server closed the connection")
        return data

    def write(self, data: bytes) -> None:
        if self._socket.send(data) != len(data):
            raise OSError(errno.EIO, "the connection takes no more bytes")

    def retune(self, settings: SerialSettings) -> None:
        """A plain byte pipe has no way to say this; the terminal server's own settings hold."""

    def close(self) -> None:
        self._socket.close()


async def open_channel(line: plant.Line) -> Channel:
    """The bytes of a serial line, claimed alone. Raises LineDown."""
    if line.transport is Transport.RS485_OVER_TCP:
        return await _connect(line)
    return _claim(line)


class RtuLine:
    """Modbus RTU and DL/T 645 over `rs485` and `rs485-over-tcp`; implements `agent.service.ports.Line`.

    `monotonic_ns` is the time of the machine, `listen_ms` how long a port just opened is only listened to.
    """

    def __init__(
        self,
        line: plant.Line,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        listen_ms: int = LISTEN_MS,
    ) -> None:
        self._line = line
        self._monotonic_ns = monotonic_ns
        self._listen_ns = listen_ms * 1_000_000
        self._master = PairMaster(line.serial)
        self._channel: Channel | None = None
        self._answering = Answering()
        self._alarm: Alarm | None = None

    # ------------------------------------------------------------------------------------------------------- the port

    async def open(self) -> None:
        """Claim the port or connect; an open one is let go first. Raises LineDown."""
        await self.close()
        self._channel = await open_channel(self._line)
        self._alarm = make_alarm(self._on_alarm, self._monotonic_ns)
        self._master.connected(self._monotonic_ns(), self._line.serial, listen_ns=self._listen_ns)
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        """Make one read transaction; see `agent.service.ports.Line.read`.

        A cancelled read leaves its unit owing an answer, which the next read of that unit takes into account.
        """
        self._drain()
        if self._channel is None:
            raise LineDown(f"line {self._line.id}: {_place(self._line)} is not open")
        events = self._master.begin(
            self._monotonic_ns(),
            request,
            timeout_ns=timeout_ms * 1_000_000,
            quiet_ns=quiet_ms * 1_000_000,
            settings=settings or self._line.serial,
        )
        answer = self._answering.begin()
        try:
            self._obey(events)
            return await answer
        finally:
            self._answering.end()
            self._stop_alarm()
            self._master.abandon()

    def strays(self) -> list[int | str]:
        """Who answered without being asked since this was last called: units, and DL/T 645 addresses."""
        self._drain()
        return self._master.strays()

    def garbage(self) -> int:
        """How many bytes came since this was last called that are part of no sound frame."""
        self._drain()
        return self._master.garbage()

    def foreign(self) -> int:
        """How many requests of somebody else were heard since this was last called."""
        self._drain()
        return self._master.foreign()

    def echoes(self) -> int:
        """How many of our own requests came back since this was last called."""
        return self._master.echoes()

    def floods(self) -> int:
        """How many reads were given up since this was last called because the line was never silent."""
        return self._master.floods()

    async def close(self) -> None:
        """Let go of the port; a read that is waiting ends with LineDown."""
        self._drop("was closed")

    def _drop(self, reason: str) -> None:
        """Close the channel, if any, and end the waiting read."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        asyncio.get_running_loop().remove_reader(channel.fileno())
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self._master.abandon()
        channel.close()
        self._answering.give(LineDown(f"line {self._line.id}: {reason}"))

    # ---------------------------------------------------------------------------------------------- bytes and the clock

    def _on_readable(self) -> None:
        """The event loop says that bytes, or the end, have come."""
        self._obey(self._take())

    def _on_alarm(self) -> None:
        """A wait is over. What has already arrived counts as arrived before it: the loop may be late."""
        self._drain()
        self._obey(self._master.tick(self._monotonic_ns()))

    def _drain(self) -> None:
        self._obey(self._take())

    def _take(self) -> list[Event]:
        if self._channel is None:
            return []
        try:
            data = self._channel.read()
        except OSError as fault:
            self._drop(f"{_place(self._line)} is gone ({_text(fault)}); waiting for it to come back")
            return []
        return self._master.receive(self._monotonic_ns(), data) if data else []

    def _obey(self, events: Iterable[Event]) -> None:
        """Do what the machine says."""
        for event in events:
            match event:
                case Send() | Retune():
                    self._put(event)
                case WaitUntil(at_ns):
                    self._set_alarm(at_ns)
                case Words(words, sent_ns, received_ns, sender):
                    self._finish(Reply(words, sent_ns, received_ns, sender))
                case Failed(error):
                    self._finish(error)

    def _put(self, event: Send | Retune) -> None:
        if self._channel is None:
            return
        try:
            if isinstance(event, Send):
                self._channel.write(event.data)
            else:
                self._channel.retune(event.settings)
        except (OSError, ValueError) as fault:
            self._drop(f"{_place(self._line)} is gone ({_text(fault)}); waiting for it to come back")

    def _finish(self, result: Reply | Exception) -> None:
        self._stop_alarm()
        self._answering.give(result)

    def _set_alarm(self, at_ns: int) -> None:
        if self._alarm is not None:
            self._alarm.set(at_ns)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()


def _claim(line: plant.Line) -> Channel:
    device = line.device or ""
    try:
        return _SerialChannel(device, line.serial)
    except (OSError, ValueError) as fault:
        raise LineDown(f"line {line.id}: {_why_not_open(device, fault)}") from fault


async def _connect(line: plant.Line) -> Channel:
    host, port = line.host or "", line.port or 0
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return _SocketChannel(await connected_socket(host, port))
    except (OSError, TimeoutError) as fault:
        reason = why_not_connected(fault, CONNECT_SECONDS)
        raise LineDown(
            f"line {line.id}: cannot connect to {host}:{port} ({reason}); check address, port and power of the "
            "terminal server"
        ) from fault


# ----------------------------------------------------------------------------------------------------- reasons in words


def _place(line: plant.Line) -> str:
    if line.transport is Transport.RS485_OVER_TCP:
        return f"the connection to {line.host}:{line.port}"
    return f"the port {line.device}"


def _text(fault: Exception) -> str:
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault) or type(fault).__name__


def _why_not_open(device: str, fault: Exception) -> str:
    """What is wrong with a port that could not be opened, and what to do."""
    number = fault.errno if isinstance(fault, OSError) else None
    if number == errno.ENOENT:
        return f"{device} does not exist; plug the adapter in, or correct `device`"
    if number in (errno.EACCES, errno.EPERM):
        return f"{device} may not be opened; add the user to the group of the device (often dialout)"
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"{device} is in use{_holders(device)}; two masters on one line damage each other's answers"
    if not _is_character_device(device) or number == errno.ENOTTY or "(25, " in str(fault):
        return (
            f"{device} is no serial port; name the adapter's own device, such as those in /dev/serial/by-id"
        )
    return f"{device} cannot be opened: {_text(fault)}"


def _is_character_device(device: str) -> bool:
    try:
        return Path(device).is_char_device()
    except OSError:
        return False


def _holders(device: str) -> str:
    """Name the processes that have the device open, as far as we may see them."""
    wanted = os.path.realpath(device)
    found = []
    for directory in Path("/proc").glob("[0-9]*/fd"):
        number = directory.parent.name
        if int(number) != os.getpid() and _has_open(directory, wanted):
            found.append(f"{_command(directory.parent)} (process {number})")
    return f" by {', '.join(found)}" if found else "; look for another agent or master with `fuser`"


def _has_open(directory: Path, wanted: str) -> bool:
    try:
        return any(os.readlink(entry) == wanted for entry in directory.iterdir())
    except OSError:
        return False  # a process of somebody else, or one that has just ended


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a process"
