"""paho's client for one connection, with the holes closed that a hostile or an odd broker could use.

Used by `connection` only, which makes one for every connection and throws it away with it.
"""

import fcntl
import socket
import struct
from typing import Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.adapters.uplink.limits import HANDED_MAX, IN_FLIGHT_MAX, PACKET_SIZE_MAX
from agent.adapters.uplink.reasons import BrokerMisbehaves
from agent.adapters.uplink.tunnel import Proxy

_PUBACK_CODES = frozenset(
    code
    for code, names in ReasonCode.names.items()
    for packets in names.values()
    if PacketTypes.PUBACK in packets
)


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
        self.max_inflight_messages_set(IN_FLIGHT_MAX)
        self.max_queued_messages_set(2 * HANDED_MAX)
        # Setting it is how paho is told that only the network thread may write to the socket.
        self.on_socket_register_write = lambda *_: None

    def _create_socket_connection(self) -> socket.socket:
        if self._tunnel is None:
            return super()._create_socket_connection()
        return self._tunnel.connect(self._host, self._port, self.connect_timeout)

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            if bufsize > PACKET_SIZE_MAX:
                raise BrokerMisbehaves(
                    f"the broker sent a packet of {bufsize} bytes, beyond the limit it was told"
                )
            data = super()._sock_recv(bufsize)
            # A WebSocket frame is gathered before paho sees the packet in it.
            if len(getattr(self._sock, "_readbuffer", b"")) > 2 * PACKET_SIZE_MAX:
                raise BrokerMisbehaves("the broker sent a WebSocket frame beyond the limit it was told")
            return data
        except BlockingIOError:
            raise
        except OSError as error:
            self.failure = error
            raise

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
        """Let reason codes through that paho calls malformed; mosquitto uses one (0x95, beyond message_size_limit)."""
        packet = self._in_packet["packet"]
        if len(packet) > 2 and packet[2] not in _PUBACK_CODES:
            self.foreign_codes[int.from_bytes(packet[:2], "big")] = packet[2]
            packet[2] = 0x83
        return super()._handle_pubackcomp(cmd)

    def set_window(self, messages: int) -> None:
        """How many messages may be unacknowledged, 1 or more; for those that are sent from now on.

        paho's own setter is for a client without a connection, because of the case 0, which is not one of ours.
        """
        self._max_inflight_messages = messages

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
        """Close what is still open, once the network thread has ended."""
        self._reset_sockets()

    def cut(self) -> None:
        """End the connection without a word, so that the network thread finds it closed."""
        sock = self.socket()
        sock = getattr(sock, "_socket", sock)  # behind a WebSocket
        if isinstance(sock, socket.socket):
            try:
                # Past the SSL layer, which the network thread may be using.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
