"""A subscriber that costs next to nothing: counts what a broker passes on, and when the first and the last came.

    python -m tests.bench.mqtt_sink PORT FILTER COUNT

Subscribes with QoS 0 (MQTT 3.1.1), prints "ready", and after COUNT messages one line of JSON: messages, bytes on the
wire, seconds from the first to the last. So both sides of a comparison are measured by one clock at one place.
"""

import json
import socket
import sys
import time


def _packet(kind: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes((kind,)) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _length(buffer: bytearray, place: int) -> tuple[int, int] | None:
    """Remaining length of the packet at `place` and where its body begins; None while that is not all here."""
    size = 0
    for number in range(4):
        if place + 1 + number >= len(buffer):
            return None
        size |= (buffer[place + 1 + number] & 127) << (7 * number)
        if buffer[place + 1 + number] < 128:
            return size, place + 2 + number
    raise ValueError("not MQTT")


def main() -> None:
    """Subscribe and count."""
    port, topic, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(_packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text("bench-sink")))
    connection.sendall(_packet(0x82, b"\x00\x01" + _text(topic) + b"\x00"))
    buffer, count, size, first = bytearray(), 0, 0, 0.0
    while count < wanted:
        data = connection.recv(1 << 18)
        if not data:
            sys.exit("the broker went away")
        buffer += data
        place = 0
        while place < len(buffer) and (found := _length(buffer, place)) is not None:
            length, body = found
            if body + length > len(buffer):
                break
            if buffer[place] >> 4 == 9:
                print("ready", flush=True)
            if buffer[place] >> 4 == 3:
                count += 1
                size += body + length - place
                first = first or time.monotonic()
            place = body + length
        del buffer[:place]
    print(json.dumps({"messages": count, "bytes": size, "seconds": time.monotonic() - first}), flush=True)


if __name__ == "__main__":
    main()
