"""The platform on the network: one MQTT 5 connection, many messages in one commit.

paho's thread only puts messages into a queue. The thread that calls `run` takes as many as are there, hands them to the
core, and when their commit has returned it publishes the answers and acknowledges the messages to the broker (manual
acknowledgement): a platform that is killed has promised nothing it did not store. The broker sends no more than the
receive maximum ahead, so the queue is bounded.

Clean start on every connect: whatever was lost with a connection is sent again by the agents, because only our signed
acknowledgement lets them forget it.
"""

import logging
import queue
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import ConfigError, Fault
from agent.reporting import topics
from simulators.platform.answers import Outgoing
from simulators.platform.ingest import Platform

log = logging.getLogger(__name__)

GROUP_MAX = 64
"""Most messages in one commit."""

RECEIVE_MAXIMUM = 512
PACKET_MAX = 320 * 1024
_KEEP_ALIVE_S = 20
_IDLE_S = 0.1
_FAREWELL_S = 3.0


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is: `mqtt://host:port` or `mqtts://user:password@host:port`, with files for TLS."""

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None
    ca_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None

    @classmethod
    def parse(cls, url: str, **files: Path | None) -> "BrokerAddress":
        """Read a URL. Raises ConfigError for anything that is not one of ours."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            remedy = "write mqtt://host:port or mqtts://host:port"
            raise ConfigError([Fault("platform", None, "broker", f"{url!r} is no broker's address", remedy)])
        tls = parts.scheme == "mqtts"
        return cls(
            parts.hostname,
            port or (8883 if tls else 1883),
            tls,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            **files,
        )


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A message and the connection it came over."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    connection: int


class Service:
    """Connects a platform to a broker until it is told to stop."""

    def __init__(
        self, platform: Platform, address: BrokerAddress, client_id: str = "carbon-platform"
    ) -> None:
        self._platform = platform
        self._address = address
        self._incoming: queue.SimpleQueue[_Incoming | None] = queue.SimpleQueue()
        self._connection = 0
        self._connected = threading.Event()
        self._greet = threading.Event()
        self._last: mqtt.MQTTMessageInfo | None = None
        self._client = self._made(client_id)

    @property
    def connected(self) -> threading.Event:
        """Set while the subscriptions are in force."""
        return self._connected

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; then finish what has arrived, answer, and leave in good order."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = PACKET_MAX
        self._client.connect_async(
            self._address.host, self._address.port, _KEEP_ALIVE_S, clean_start=True, properties=properties
        )
        self._client.loop_start()
        try:
            while not stop.is_set():
                self._turn(_IDLE_S)
            self._farewell()
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    # ------------------------------------------------------------------------------------------ our thread

    def _turn(self, idle_s: float) -> None:
        """Take what is there, commit it, answer, acknowledge to the broker."""
        group = self._group(idle_s)
        if group:
            answers = self._platform.receive_many([(each.topic, each.payload) for each in group])
            self._publish(answers)
            for each in group:
                if each.connection == self._connection:
                    self._client.ack(each.mid, each.qos)
        if self._greet.is_set():
            self._greet.clear()
            self._publish(self._platform.acknowledge_all())
        self._publish(self._platform.tick(time.time_ns() // 1_000_000))

    def _group(self, idle_s: float) -> list[_Incoming]:
        """What has come, at most GROUP_MAX; waits for the first. An empty queue, or its end, closes the group."""
        group: list[_Incoming] = []
        with suppress(queue.Empty):
            each = self._incoming.get(timeout=idle_s)
            while each is not None:
                group.append(each)
                if len(group) >= GROUP_MAX:
                    break
                each = self._incoming.get_nowait()
        return group

    def _publish(self, answers: list[Outgoing]) -> None:
        """Send answers while connected; one that is not sent is asked for again, or superseded by a later one."""
        if not self._connected.is_set():
            return
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/jose"
        for each in answers:
            self._last = self._client.publish(
                each.topic, each.payload, qos=1, retain=each.retain, properties=properties
            )

    def _farewell(self) -> None:
        while not self._incoming.empty():
            self._turn(0)
        if not self._connected.is_set():
            return
        self._publish(self._platform.acknowledge_all())
        if self._last is not None:
            try:
                self._last.wait_for_publish(_FAREWELL_S)
            except (RuntimeError, ValueError):
                log.info("the last acknowledgement was not delivered; it is due again at the next start")

    # ---------------------------------------------------------------------------------------- paho's thread

    def _made(self, client_id: str) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.max_inflight_messages_set(20)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_connect_fail = lambda _client, _userdata: log.warning(
            "the broker cannot be reached; trying again"
        )
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._address.tls:
            client.tls_set_context(self._context())
        return client

    def _context(self) -> ssl.SSLContext:
        address = self._address
        try:
            context = ssl.create_default_context(cafile=address.ca_file)
            if address.certificate is not None:
                context.load_cert_chain(address.certificate, address.certificate_key)
        except (OSError, ssl.SSLError) as error:
            fault = Fault(
                "platform", None, "broker", f"TLS cannot be set up: {error}", "check the three PEM files"
            )
            raise ConfigError([fault]) from error
        return context

    def _on_connect(
        self, client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        if code.is_failure:
            log.warning("the broker refused us: %s", code)
            return
        self._connection += 1
        client.subscribe([(each, SubscribeOptions(qos=1)) for each in topics.INGEST_FILTERS])

    def _on_subscribe(
        self, _client: mqtt.Client, _userdata: object, _mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        if refused := [str(code) for code in codes if code.is_failure]:
            log.error("the broker refused a subscription: %s", ", ".join(refused))
            return
        log.info("connected to %s:%d", self._address.host, self._address.port)
        self._connected.set()
        self._greet.set()

    def _on_disconnect(
        self, _client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: object
    ) -> None:
        if self._connected.is_set():
            log.warning("connection ended: %s", code)
        self._connected.clear()

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        made = _Incoming(message.topic, bytes(message.payload), message.mid, message.qos, self._connection)
        self._incoming.put(made)
