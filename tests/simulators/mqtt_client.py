"""paho as a client of the tests, with its callbacks turned into awaitable queues."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE_S = 30


def will_properties(delay_s: int) -> Properties:
    """Properties of a will that waits."""
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = delay_s
    return properties


class Client:
    """One MQTT client. `messages`, `acknowledged` and `left` are queues that fill from paho's thread."""

    def __init__(self, client_id: str, *, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5) -> None:
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, reconnect_on_failure=False
        )
        self.version = version
        self.loop = asyncio.get_running_loop()
        self.connected: asyncio.Queue[tuple[Any, Any, Any]] = asyncio.Queue()
        self.messages: asyncio.Queue[mqtt.MQTTMessage] = asyncio.Queue()
        self.acknowledged: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.granted: asyncio.Queue[list[int]] = asyncio.Queue()
        self.left: asyncio.Queue[int] = asyncio.Queue()
        self.paho.on_connect = lambda _c, _u, flags, code, props: self._put(
            self.connected, (flags, code, props)
        )
        self.paho.on_message = lambda _c, _u, message: self._put(self.messages, message)
        self.paho.on_publish = lambda _c, _u, mid, code, _p: self._put(self.acknowledged, (mid, code.value))
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self._put(
            self.granted, [c.value for c in codes]
        )
        self.paho.on_disconnect = lambda _c, _u, _f, code, _p: self._put(self.left, code.value)

    def _put(self, queue: asyncio.Queue[Any], item: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop of the test has ended
            self.loop.call_soon_threadsafe(queue.put_nowait, item)

    async def connect(
        self, url: str, *, keep_alive_s: int = 60, clean: bool = True, expiry_s: int = 0
    ) -> tuple[Any, Any, Any]:
        """Connect and wait for the CONNACK: flags, reason code, properties."""
        place = urlparse(url)
        assert place.hostname is not None
        extra: dict[str, Any] = {}
        if self.version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = expiry_s
            extra = {"clean_start": clean, "properties": properties}
        self.paho.connect(place.hostname, place.port or 1883, keepalive=keep_alive_s, **extra)
        self.paho.loop_start()
        return await asyncio.wait_for(self.connected.get(), PATIENCE_S)

    async def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """Subscribe and wait for the SUBACK; returns its reason codes."""
        if self.version == MQTTProtocolVersion.MQTTv5:
            self.paho.subscribe([(each, SubscribeOptions(qos=qos)) for each in filters])
        else:
            self.paho.subscribe([(each, qos) for each in filters])
        return await asyncio.wait_for(self.granted.get(), PATIENCE_S)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Publish and wait for the PUBACK; returns its reason code."""
        mid = self.paho.publish(topic, payload, qos=qos, retain=retain).mid
        while True:
            acknowledged, code = await asyncio.wait_for(self.acknowledged.get(), PATIENCE_S)
            if acknowledged == mid:
                return code

    async def message(self, timeout_s: float = PATIENCE_S) -> tuple[str, bytes, bool]:
        """The next message: topic, payload, retain flag."""
        message = await asyncio.wait_for(self.messages.get(), timeout_s)
        return message.topic, bytes(message.payload), message.retain

    async def silence(self, seconds: float = 0.2) -> None:
        """Fail if a message comes within this time."""
        await asyncio.sleep(seconds)
        assert self.messages.empty(), self.messages.get_nowait().payload

    def die(self) -> None:
        """End the connection as a crash would: no DISCONNECT is sent."""
        sock = self.paho.socket()
        assert sock is not None
        sock.close()

    def stop(self) -> None:
        """Disconnect and end the thread."""
        self.paho.disconnect()
        self.paho.loop_stop()


@contextlib.asynccontextmanager
async def client(url: str, client_id: str, **options: Any) -> AsyncIterator[Client]:
    """A connected client that is stopped at the end of the block."""
    made = Client(client_id)
    await made.connect(url, **options)
    try:
        yield made
    finally:
        made.stop()
