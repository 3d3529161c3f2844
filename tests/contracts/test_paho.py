"""What we rely on inside paho, so that an upgrade that changes it fails here and not in a factory."""

import inspect
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from agent.adapters.uplink import client as uplink_client


def test_paho_has_the_private_parts_that_we_replace_or_use() -> None:
    assert list(inspect.signature(mqtt.Client._sock_recv).parameters) == ["self", "bufsize"]
    assert list(inspect.signature(mqtt.Client._sock_send).parameters) == ["self", "buf"]
    assert "self._sock_recv(self._in_packet['to_process'])" in inspect.getsource(mqtt.Client._packet_read)
    assert hasattr(mqtt.Client, "_reset_sockets")
    for answer in (mqtt.Client._handle_pubackcomp, mqtt.Client._handle_connack):
        assert 'self._in_packet["packet"]' in inspect.getsource(answer)
    assert list(inspect.signature(mqtt.Client._handle_pubackcomp).parameters) == ["self", "cmd"]
    parameters = ["self", "mid", "reason_code", "properties"]
    assert list(inspect.signature(mqtt.Client._do_on_publish).parameters) == parameters
    with_lock = "with self._out_message_mutex:\n            if mid in self._out_messages:"
    assert with_lock in inspect.getsource(mqtt.Client._handle_pubackcomp), "as in our own quick way"
    assert "self._in_messages[message.mid] = message" in inspect.getsource(mqtt.Client._handle_publish)
    own = set(Path(uplink_client.__file__).read_text("utf-8").split("self.")[1:])
    used = {match[0] for text in own if (match := re.match(r"_[a-z_]+", text))}
    ours = {"_tunnel", "_ahead", "_receive", "_pending"}
    known = {"_sock", "_host", "_port", "_in_packet", "_in_messages", "_out_messages", "_out_message_mutex"}
    known |= {"_do_on_publish", "_reset_sockets"}
    assert used - ours == known, "a private name of paho that no test pins"
    made = uplink_client.Client("x")
    assert all(hasattr(made, name) for name in known)


class _Wire:
    """A paho client of ours on a socket pair, and what it sent."""

    def __init__(self) -> None:
        self.client = uplink_client.Client("x")
        self.client._sock, self.far = socket.socketpair()
        self.client._sock.setblocking(False)
        self.far.settimeout(5)
        self.answers: list[tuple[int, int]] = []
        self.client.on_publish = lambda _c, _u, mid, code, _p: self.answers.append((mid, code.value))

    def publish(self, count: int) -> list[int]:
        sent = [self.client.publish("t", b"payload", qos=1) for _ in range(count)]
        assert all(info.rc == mqtt.MQTT_ERR_SUCCESS for info in sent)
        return [info.mid for info in sent]

    def heard(self) -> int:
        """PUBLISH packets that have arrived at the other end; all of them are equally long."""
        size = 2 + 2 + 1 + 2 + 1 + len(b"payload")
        received = self.far.recv(1 << 16)
        assert len(received) % size == 0
        return len(received) // size


@pytest.fixture
def wire() -> Iterator[_Wire]:
    one = _Wire()
    yield one
    one.client.dispose()
    one.far.close()


def test_paho_writes_when_it_is_told_to_and_holds_nothing_back(wire: _Wire) -> None:
    """The window is ours: without the limit of its own (0), what is handed over is on the wire after one call."""
    wire.publish(30)
    assert wire.client.want_write()
    assert select.select([wire.far], [], [], 0)[0] == []
    assert wire.client.loop_write() == mqtt.MQTT_ERR_SUCCESS
    assert not wire.client.want_write()
    assert wire.heard() == 30


def test_paho_reads_all_there_is_in_one_turn_and_says_so(wire: _Wire) -> None:
    mids = wire.publish(30)
    wire.client.loop_write()
    wire.far.sendall(b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids))
    assert wire.client.read() == mqtt.MQTT_ERR_SUCCESS
    assert wire.answers == [(mid, 0) for mid in mids]
    assert wire.client.is_dry
    assert not wire.client._out_messages, "none of them is kept by paho"


def test_a_puback_for_nothing_and_one_that_comes_twice_are_passed_over(wire: _Wire) -> None:
    (mid,) = wire.publish(1)
    wire.client.loop_write()
    wire.far.sendall(2 * (b"\x40\x02" + mid.to_bytes(2, "big")) + b"\x40\x02\x11\x11")
    assert wire.client.read() == mqtt.MQTT_ERR_SUCCESS
    assert wire.answers == [(mid, 0)]


def test_paho_goes_on_with_a_packet_that_arrives_byte_by_byte(wire: _Wire) -> None:
    (mid,) = wire.publish(1)
    wire.client.loop_write()
    for byte in b"\x40\x02" + mid.to_bytes(2, "big"):
        assert wire.answers == []
        wire.far.sendall(bytes((byte,)))
        assert wire.client.read() == mqtt.MQTT_ERR_SUCCESS and wire.client.is_dry
    assert wire.answers == [(mid, 0)]


def test_paho_tells_before_it_closes_the_socket(wire: _Wire) -> None:
    """So that the event loop can forget the descriptor while it is still ours."""
    told: list[int] = []
    wire.client.on_socket_close = lambda _c, _u, sock: told.append(sock.fileno())
    wire.far.shutdown(socket.SHUT_RDWR)
    assert wire.client.read() != mqtt.MQTT_ERR_SUCCESS
    assert told and told[0] >= 0
    assert wire.client.socket() is None


def test_paho_is_the_release_line_that_was_measured() -> None:
    import paho.mqtt

    major, minor = paho.mqtt.__version__.split(".")[:2]
    assert (int(major), int(minor)) >= (2, 1)
    assert int(major) == 2
    assert Path(mqtt.__file__).name == "client.py"
