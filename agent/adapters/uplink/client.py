"""paho's client for one connection, with the holes closed that a hostile or an odd broker could use.

paho is used without a loop of its own: `connect` runs in a thread because it blocks, everything after it in the event
loop, which calls `loop_read`, `loop_write` and `loop_misc` when there is something to do (as paho's documentation has
it for other event loops). Used by `connection` only, which makes one for every connection and throws it away with it.
"""

import fcntl
import socket
import struct
from typing import Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.adapters.uplink.answers import properties_of
from agent.adapters.uplink.limits import PACKET_SIZE_MAX
from agent.adapters.uplink.reasons import BrokerMisbehaves
from agent.adapters.uplink.tunnel import Proxy

READ_AHEAD_BYTES = 4096
"""paho asks the kernel three times for a PUBACK of four bytes; many of them are fetched at once instead."""

READ_ROUNDS = 16
"""So often at most is paho asked to read before the event loop has its turn."""


def _codes_of(packet_type: int) -> frozenset[int]:
    """The reason codes that paho takes in a packet of this type; it calls a packet with another one malformed."""
    return frozenset(
        code
        for code, names in ReasonCode.names.items()
        for packets in names.values()
        if packet_type in packets
    )


_PUBACK_CODES = _codes_of(PacketTypes.PUBACK)
_CONNACK_CODES = _codes_of(PacketTypes.CONNACK)

_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES = properties_of(PacketTypes.PUBACK)


class Client(mqtt.Client):
    """paho's client for one connection: never reads more than allowed, and remembers why its socket failed.

    The private names of paho that are used here are pinned by tests/contracts/test_uplink.py.
    """

    def __init__(self, client_id: str, path: str | None = None, proxy: Proxy | None = None) -> None:
        """`path` is that of the broker's WebSocket, None for MQTT without one."""
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
            transport="tcp" if path is None else "websockets",
        )
        if path is not None:
            self.ws_set_options(path)
        self._tunnel = proxy
        self.failure: OSError | None = None
        self.bytes_sent = 0
        self.foreign_codes: dict[int, int] = {}
        """Reason codes by packet identifier that paho does not know in a PUBACK; it was shown 0x83 in their place."""
        self.foreign_refusal: int | None = None
        """The same for the CONNACK: paho has forgotten one of the standard's (0x99)."""
        self.paused = False
        """Nothing is read while it is set; only between two packets, so from `on_message`."""
        self.is_dry = False
        """The last attempt to read found nothing: neither here, nor in the TLS layer, nor in the kernel."""
        self._ahead = b""
        # The window is ours (`outbox`); with 0 paho neither holds back nor looks through its messages.
        self.max_inflight_messages_set(0)
        # Setting it is how paho is told that it must not write to the socket whenever it likes.
        self.on_socket_register_write = lambda *_: None

    def _create_socket_connection(self) -> socket.socket:
        if self._tunnel is None:
            made = super()._create_socket_connection()
        else:
            made = self._tunnel.connect(self._host, self._port, self.connect_timeout)
        # Packets are written whole. Nagle's rule would keep the second one back until the first was acknowledged.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _sock_recv(self, bufsize: int) -> bytes:
        if self.paused:
            raise BlockingIOError
        if bufsize > PACKET_SIZE_MAX:
            self.failure = BrokerMisbehaves(
                f"the broker sent a packet of {bufsize} bytes, beyond the limit it was told"
            )
            raise self.failure
        if not self._ahead:
            self._ahead = self._receive(bufsize)
        data, self._ahead = self._ahead[:bufsize], self._ahead[bufsize:]
        return data

    def _receive(self, wanted: int) -> bytes:
        try:
            data = super()._sock_recv(max(wanted, READ_AHEAD_BYTES))
            # A WebSocket frame is gathered before paho sees the packet in it.
            if len(getattr(self._sock, "_readbuffer", b"")) > 2 * PACKET_SIZE_MAX:
                raise BrokerMisbehaves("the broker sent a WebSocket frame beyond the limit it was told")
            return data
        except BlockingIOError:
            self.is_dry = self._pending() == 0
            raise
        except OSError as error:
            self.failure = error
            raise

    def _pending(self) -> int:
        """Bytes that the TLS layer has decrypted and nobody has read; no event of the socket tells of them."""
        pending = getattr(self._sock, "pending", None)
        return int(pending()) if pending is not None else 0

    def read(self) -> MQTTErrorCode:
        """Handle what is there, but no more than a bounded part of it; `is_dry` says whether that was all."""
        self.is_dry = False
        for _ in range(READ_ROUNDS):
            result = self.loop_read()
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self.is_dry or self.paused:
                return result
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            count = super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error
            raise
        self.bytes_sent += count
        return count

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Take the usual PUBACK (two bytes: all is well) without decoding what is not there, a third of paho's work.

        And let reason codes through that paho calls malformed; mosquitto uses one (0x95, beyond message_size_limit).
        """
        packet = self._in_packet["packet"]
        if len(packet) == 2 and cmd == "PUBACK":
            identifier = int.from_bytes(packet, "big")
            with self._out_message_mutex:
                if identifier in self._out_messages:
                    return self._do_on_publish(identifier, _SUCCESS, _NO_PROPERTIES)
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        if len(packet) > 2 and packet[2] not in _PUBACK_CODES:
            self.foreign_codes[int.from_bytes(packet[:2], "big")] = packet[2]
            packet[2] = 0x83
        return super()._handle_pubackcomp(cmd)

    def _handle_connack(self) -> MQTTErrorCode:
        """Let refusals through that paho calls malformed."""
        packet = self._in_packet["packet"]
        if len(packet) > 1 and packet[1] >= 0x80 and packet[1] not in _CONNACK_CODES:
            self.foreign_refusal = packet[1]
            packet[1] = 0x83
        return super()._handle_connack()

    def holds_qos_2(self) -> bool:
        """A message came with QoS 2, which nobody asked for and paho would keep in memory."""
        return bool(self._in_messages)

    def unsent_bytes(self) -> int:
        """What the kernel has of ours and the other side has not acknowledged yet (SIOCOUTQ), or 0."""
        sock = self.socket()
        try:
            answer = fcntl.ioctl(sock.fileno(), 0x5411, b"\0\0\0\0") if sock is not None else b"\0\0\0\0"
        except (OSError, ValueError):
            return 0  # it was closed in this moment
        unsent: int = struct.unpack("i", answer)[0]
        return unsent

    def dispose(self) -> None:
        """Close what is still open."""
        self._reset_sockets()

    def cut(self) -> None:
        """End the connection without a word, as a power cut would; the next read finds it closed."""
        sock = self.socket()
        sock = getattr(sock, "_socket", sock)  # behind a WebSocket
        if isinstance(sock, socket.socket):
            try:
                # Past the SSL layer, which would say goodbye.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
