"""A Modbus TCP meter of a few lines for the tests of the command line: answers what it knows, refuses the rest."""

import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Words = Mapping[tuple[int, int], int]
"""A word by function and address."""


@contextmanager
def meter_server(words: Words, *, unit: int = 1, answers_as: int | None = None) -> Iterator[int]:
    """Serve the words of one unit on a free port of this machine; gives the port.

    Other units are silent. `answers_as` is the unit number that the replies carry, to play a wrong gateway.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while (header := _exactly(self.request, 7)) is not None:
                transaction, _, length, asked = struct.unpack(">HHHB", header)
                pdu = _exactly(self.request, length - 1)
                if pdu is None or asked != unit:
                    continue
                reply = _reply(words, *struct.unpack(">BHH", pdu))
                self.request.sendall(
                    struct.pack(">HHHB", transaction, 0, len(reply) + 1, answers_as or asked) + reply
                )

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def _reply(words: Words, function: int, address: int, count: int) -> bytes:
    asked = [(function, address + place) for place in range(count)]
    if not all(place in words for place in asked):
        return bytes((function | 0x80, 2))
    data = b"".join(words[place].to_bytes(2, "big") for place in asked)
    return bytes((function, len(data))) + data


def _exactly(connection: Any, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            more = connection.recv(size - len(data))
        except OSError:
            return None
        if not more:
            return None
        data += more
    return data
