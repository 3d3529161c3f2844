"""Modbus TCP frames: the seven bytes before each PDU.

Comes before the transaction (`tcp_master`), which believes a reply only when function, byte count and length fit.
Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

HEADER_BYTES = 7
"""Transaction id, protocol id, length, unit."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `transaction` is 0 from gateways that do not give the number back."""

    transaction: int
    unit: int
    pdu: bytes

    def encode(self) -> bytes:
        """The frame as it is sent."""
        length = len(self.pdu) + 1
        return b"".join(
            (
                self.transaction.to_bytes(2, "big"),
                b"\0\0",
                length.to_bytes(2, "big"),
                bytes((self.unit,)),
                self.pdu,
            )
        )


def frames(buffer: bytes) -> Iterator[tuple[Frame, int]]:
    """Cut a stream into complete frames, each with the place where it ends; stops where the bytes are no Modbus TCP."""
    at = 0
    while len(buffer) - at >= HEADER_BYTES:
        length = int.from_bytes(buffer[at + 4 : at + 6], "big")
        end = at + 6 + length
        if buffer[at + 2 : at + 4] != b"\0\0" or length < 2 or end > len(buffer):
            return
        yield Frame(int.from_bytes(buffer[at : at + 2], "big"), buffer[at + 6], buffer[at + 7 : end]), end
        at = end
