"""Free TCP ports on loopback for servers that may be killed and come back."""

import random
import socket

# Below the range from which Linux takes the source ports of outgoing connections (32768 and up): a client that keeps
# trying a port of that range while its server is down can connect to itself and keep the server from coming back.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A loopback TCP port that is free now and stays usable for a server that is stopped and started again."""
    chance = random.SystemRandom()
    for _ in range(200):
        port = chance.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found between 20000 and 32000")
