"""Free TCP ports on loopback for servers that may be killed and come back.

Between the choice of a port and the start of its server another process may choose the same. Those who run many of
these at once give each a part of its own: METERING_SIM_PORTS=20000-21999 in its environment.
"""

import os
import random
import socket

# Below the range from which Linux takes the source ports of outgoing connections (32768 and up): a client that keeps
# trying a port of that range while its server is down can connect to itself and keep the server from coming back.
PORTS = range(20_000, 32_000)
VARIABLE = "METERING_SIM_PORTS"

_given: set[int] = set()


def free_port() -> int:
    """A loopback TCP port that is free now, was not given before, and stays usable for a server that is restarted."""
    chance, ports = random.SystemRandom(), _part()
    for _ in range(200):
        port = chance.choice(ports)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port found from {ports[0]} to {ports[-1]}")


def part_of(number: int, count: int) -> str:
    """What the environment of one of `count` runs has to say, of that with this number from 0."""
    size = len(PORTS) // count
    first = PORTS[0] + number % count * size
    return f"{first}-{first + size - 1}"


def _part() -> range:
    first, _, last = os.environ.get(VARIABLE, "").partition("-")
    return range(int(first), int(last) + 1) if last else PORTS


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
