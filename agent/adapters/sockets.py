"""TCP connections for lines: made without blocking the loop, and watched by the kernel."""

import asyncio
import os
import socket
from typing import Any

UNACKNOWLEDGED_MS = 10_000
"""A gateway that acknowledges no bytes for so long is gone (TCP_USER_TIMEOUT); silence of meters is no sign of that."""


async def connected_socket(host: str, port: int) -> socket.socket:
    """Try every address of the host in turn. The socket does not block. Raises OSError."""
    loop = asyncio.get_running_loop()
    refused: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await _addresses(host, port):
        attempt = socket.socket(family, kind, protocol)
        attempt.setblocking(False)
        try:
            await loop.sock_connect(attempt, address)
        except OSError as fault:
            attempt.close()
            refused = fault
        except asyncio.CancelledError:
            attempt.close()
            raise
        else:
            _tune(attempt)
            return attempt
    raise refused


async def _addresses(host: str, port: int) -> list[Any]:
    """What a name stands for. An address stands for itself: no thread has to ask anybody."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def why_not_connected(fault: OSError | TimeoutError, seconds: int) -> str:
    """Why nobody answered there, in words."""
    if isinstance(fault, TimeoutError) and not fault.errno:
        return f"nobody answered in {seconds} s"
    if isinstance(fault, socket.gaierror):
        return "nobody knows this name"
    return os.strerror(fault.errno).lower() if fault.errno else str(fault)


def _tune(connected: socket.socket) -> None:
    """Send at once, and notice a peer that has vanished."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
