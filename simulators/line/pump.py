"""The simulated pair in real time, behind a pty or on a TCP port, paced as its baud rate says.

The model (`rs485`) knows when each character is over; this module keeps its alarm clock on the event loop and hands the
bytes on as a UART does: when its buffer has filled to the trigger level, or the line has fallen silent.
"""

import asyncio
import os
import termios
import time
import tty
from collections.abc import Callable, Mapping

from agent.metering.plant import SerialSettings
from simulators.line.rs485 import Hear, Rs485Line

UART_TRIGGER = 14
"""Characters after which a 16550 tells its driver."""
CHUNK_BYTES = 4096

_BAUD = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdigit()
}


class Pump:
    """Runs one model on the event loop; `deliver` takes the bytes that the master receives."""

    def __init__(self, line: Rs485Line, deliver: Callable[[bytes], None]) -> None:
        self.line = line
        self._deliver = deliver
        self._alarm: asyncio.TimerHandle | None = None

    def take(self, data: bytes) -> None:
        """The master has begun to send these bytes now."""
        now_ns = time.monotonic_ns()
        self._run(now_ns)
        self.line.master_sends(now_ns, data)
        self._set_alarm()

    def babble(self, count: int) -> None:
        """Let some device talk without being asked."""
        now_ns = time.monotonic_ns()
        self._run(now_ns)
        self.line.babble(now_ns, count)
        self._set_alarm()

    def stop(self) -> None:
        """No more alarms."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _run(self, now_ns: int) -> None:
        received = bytes(delivery.value for delivery in self.line.advance(now_ns))
        if received:
            self._deliver(received)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._run(time.monotonic_ns())
        self._set_alarm()

    def _set_alarm(self) -> None:
        self.stop()
        at_ns = self.line.next_ns(characters=UART_TRIGGER)
        if at_ns is not None:
            seconds = max(0, at_ns - time.monotonic_ns()) / 1_000_000_000
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._on_alarm)


class PtyLine:
    """A simulated pair whose adapter is a pty; `path` is the device that the agent opens.

    The speed that the agent sets at the port is the speed of the line: meters set to another one do not understand.
    `hear_at` makes the ears of those meters that listen at a speed. A pty tells its speed but no parity: `framing`
    says how characters of another speed than the line's are framed.
    """

    def __init__(
        self,
        settings: SerialSettings,
        hear_at: Callable[[int], Hear],
        framing: Mapping[int, SerialSettings] | None = None,
    ) -> None:
        self._settings = settings
        self._framing = {**(framing or {}), settings.baud: settings}
        self._hear_at = hear_at
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.line = Rs485Line(settings, hear_at(settings.baud))
        self.pump = Pump(self.line, self._write)
        asyncio.get_running_loop().add_reader(self._master, self._on_readable)

    def close(self) -> None:
        """Pull the adapter: the agent's port hangs up."""
        self.pump.stop()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._slave)
        os.close(self._master)

    def _on_readable(self) -> None:
        data = os.read(self._master, CHUNK_BYTES)
        baud = _BAUD.get(termios.tcgetattr(self._slave)[4], self._settings.baud)
        if baud != self.line.settings.baud:
            other = SerialSettings(baud, self._settings.parity, self._settings.stop_bits)
            self.line.retune(self._framing.get(baud, other), self._hear_at(baud))
        self.pump.take(data)

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except BlockingIOError:
            # Nobody reads at the other end: a UART loses what comes when its buffer is full.
            self.line.overruns += len(data)


class TcpLine:
    """A simulated pair behind a terminal server in transparent mode."""

    def __init__(self, settings: SerialSettings, hear: Hear) -> None:
        self.line = Rs485Line(settings, hear)
        self.pump = Pump(self.line, self._write)
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Serve; port 0 takes a free one. Returns the address. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port)
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def aclose(self) -> None:
        """Switch the terminal server off."""
        self.pump.stop()
        if self._server is not None:
            self._server.close()
        serving = [task for task in self._clients.values() if task is not None]
        self.drop_clients()
        await asyncio.gather(*serving, return_exceptions=True)

    def drop_clients(self) -> None:
        """Break every connection, as when somebody steps on the cable."""
        for client in self._clients:
            client.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = asyncio.current_task()
        try:
            while data := await reader.read(CHUNK_BYTES):
                self.pump.take(data)
        except ConnectionError:
            return
        finally:
            self._clients.pop(writer, None)
            writer.close()

    def _write(self, data: bytes) -> None:
        for client in self._clients:
            client.write(data)
