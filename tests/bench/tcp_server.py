"""Many Modbus TCP meters in one process, each on a loopback address of its own, as cheap as can be.

    python -m tests.bench.tcp_server METERS PORT [COUNTS]

Listens on 127.0.1.1, 127.0.1.2 ... at PORT, prints "ready", and answers every read with a register that stands at
COUNTS, 0 by default.
"""

import asyncio
import gc
import socket
import sys


class _Meter(asyncio.Protocol):
    counts = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = b""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 12:
            request, self._buffer = self._buffer[:12], self._buffer[12:]
            size = 2 * int.from_bytes(request[10:12], "big")
            body = bytes((request[6], request[7], size)) + self.counts.to_bytes(size, "big")
            self._transport.write(request[:4] + len(body).to_bytes(2, "big") + body)  # type: ignore[attr-defined]


def host(number: int) -> str:
    """The address of meter `number`, from 1."""
    return f"127.0.{1 + number // 200}.{1 + number % 200}"


async def main() -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    meters, port = int(sys.argv[1]), int(sys.argv[2])
    _Meter.counts = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    for number in range(1, meters + 1):
        await loop.create_server(_Meter, host(number), port)
    gc.freeze()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
