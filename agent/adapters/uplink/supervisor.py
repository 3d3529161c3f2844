"""The uplink's port: makes one connection after the other, for ever, and decides how long to wait in between.

The only part that the rest of the program sees.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import paho.mqtt.client as mqtt

from agent.adapters.clock import read_wall_ms
from agent.adapters.entropy import SystemEntropy
from agent.adapters.keys import certificate_dates
from agent.adapters.uplink.address import TlsFiles, make_tls_context, parse_proxy, parse_url
from agent.adapters.uplink.answers import topic_of
from agent.adapters.uplink.connection import Connection, Target
from agent.adapters.uplink.expiry import LOOK_S, ExpiryWatch
from agent.adapters.uplink.limits import MESSAGE_SIZE_MAX, STABLE_S
from agent.adapters.uplink.mailbox import Mailbox, Unread
from agent.adapters.uplink.reasons import CLOSED_WITHOUT_A_WORD, Ending, Pace
from agent.errors import ConfigError, UplinkDown
from agent.service.logline import pairs
from agent.service.ports import Connected, Disconnected, Entropy, Received, UplinkEvent, Will

CLOSED_IN_A_ROW_MAX = 5
"""So many short connections in a row that the broker closes without a word are no accident."""
# Mosquitto 2.0.11 does not send "session taken over", it just closes.
_TAKEN_OVER_IN_SILENCE = Ending(
    "the broker closes the connection again and again; look for a second agent with our client id or a copied gateway",
    Pace.SLOWLY,
)

_log = logging.getLogger(__name__)


class MqttUplink:
    """`agent.service.ports.Uplink` over MQTT 5.

    Args:
        url: `mqtts://host[:port]`, or `wss://host[:port][/path]`; `mqtt://` and `ws://` to a loopback address.
        client_id: the gateway's name at the broker; two clients with one name throw each other out.
        tls: files for mqtts and wss.
        proxy: `http://host:port` of an HTTP proxy to go through.
        proxy_login: user name and password for it, where it wants them.
        username, password: where the broker wants them beside or instead of a client certificate.
        keepalive_s: a dead connection without traffic is noticed after twice this time.
        ack_timeout_s: longest wait for a PUBACK without any sign of life.
        connect_timeout_s: longest wait for an address to answer, and then for the broker to let us in.
        will_delay_s: how long the broker waits for us to come back before it announces that we are gone.
        backoff_min_s, backoff_max_s: bounds of the wait between attempts, which is random and doubles.
        knock_max_s: longest wait where nobody was there, so that a link that is back is noticed soon.
        refused_wait_s: wait after a refusal that a person has to settle (random, at least half of it).
        takeover_wait_s: wait after another client took our name.
        stop_limit_s: `stop` returns after this time in any case.
        entropy: source of session ids and jitter.

    Raises ConfigError for an address that is none, or not to be used without TLS.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        tls: TlsFiles | None = None,
        proxy: str | None = None,
        proxy_login: tuple[str, str] | None = None,
        username: str | None = None,
        password: str | None = None,
        keepalive_s: int = 15,
        ack_timeout_s: float = 20.0,
        connect_timeout_s: float = 20.0,
        will_delay_s: int = 30,
        backoff_min_s: float = 0.5,
        backoff_max_s: float = 60.0,
        knock_max_s: float = 4.0,
        refused_wait_s: float = 60.0,
        takeover_wait_s: float = 300.0,
        stop_limit_s: float = 5.0,
        entropy: Entropy | None = None,
    ) -> None:
        address = parse_url(url)
        self._target = Target(
            address.host,
            address.port,
            client_id,
            username,
            password,
            keepalive_s,
            ack_timeout_s,
            connect_timeout_s,
            will_delay_s,
            address.path,
            None if proxy is None else parse_proxy(proxy, proxy_login),
        )
        self._tls = (tls or TlsFiles()) if address.secure else None
        self._backoff_s = (backoff_min_s, backoff_max_s)
        self._knock_max_s = knock_max_s
        self._waits_s = {Pace.SLOWLY: refused_wait_s, Pace.TAKEN_OVER: takeover_wait_s}
        self._stop_limit_s = stop_limit_s
        self._entropy = entropy or SystemEntropy()
        self._subscribe: tuple[str, ...] = ()
        self._will: Callable[[str], Will] | None = None
        self._mailbox = Mailbox()
        self._stopping = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._expiry: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._closed_in_a_row = 0

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        """Begin to connect in the background. `will(session)` is asked once for every connection attempt.

        Raises ConfigError when the TLS files cannot be used.
        """
        if self._will is not None:
            raise RuntimeError("an uplink is started once")
        if self._tls is not None:
            make_tls_context(self._tls)
        self._subscribe, self._will = subscribe, will
        self._supervisor = asyncio.get_running_loop().create_task(
            self._supervise(will), name="uplink supervisor"
        )
        if self._tls is not None:
            watch = ExpiryWatch(self._tls)
            self._expiry = asyncio.get_running_loop().create_task(
                self._look_at_certificates(watch), name="uplink certificates"
            )

    async def events(self) -> AsyncIterator[UplinkEvent]:
        """Connections, disconnections and messages, in their order; one consumer. Ends after `stop`.

        A message is acknowledged to the broker when it is taken from here; eight may wait.
        """
        while (event := await self._mailbox.take()) is not None:
            yield event

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1 and wait for the PUBACK. Messages leave in the order of the calls.

        Raises UplinkDown where there is no connection, it broke, or no PUBACK came in time (the connection is then
        made anew); UplinkRefused with the reason code for 0x10 (nobody subscribed) and every failure code.
        """
        await self._standing().publish(topic, (payload,), lambda _: None, retain=retain, urgent=True)

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        """Send them in their order, as many at once as the window allows; a single message may pass them.

        `taken(place)` is called for each as soon as its PUBACK carried reason code 0. Returns when all of them did;
        raises like `publish` for the first that failed, when what was on its way has its answer. What comes after
        that one is not sent.
        """
        if payloads:
            await self._standing().publish(topic, payloads, taken)

    def _standing(self) -> Connection:
        connection = self._connection
        if connection is None or not connection.up or self._stopping.is_set():
            raise UplinkDown(f"{self._target.place}: there is no connection to the broker at the moment")
        return connection

    async def stop(self) -> None:
        """Disconnect in good order (the will is not sent), within `stop_limit_s`; harmless when called again."""
        self._stopping.set()
        if self._supervisor is not None:
            connection = self._connection
            if connection is not None:
                await connection.close(self._stop_limit_s)
            # An attempt that hangs in the resolver cannot be interrupted; its thread ends with it or the process.
            await asyncio.wait({self._supervisor}, timeout=1.0)
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            self._supervisor = None
        if self._expiry is not None:
            self._expiry.cancel()
            await asyncio.wait({self._expiry})
            self._expiry = None
        self._mailbox.close()

    async def _look_at_certificates(self, watch: ExpiryWatch) -> None:
        while not self._stopping.is_set():
            watch.look(read_wall_ms())
            await self._pause(LOOK_S)

    # -- the supervisor

    async def _supervise(self, will: Callable[[str], Will]) -> None:
        """Connect, for ever. Nothing that happens to one connection ends the making of the next."""
        failures = 0
        while not self._stopping.is_set():
            stable = False
            try:
                ending, stable = await self._connect_once(will)
            except ConfigError as error:
                ending = Ending(str(error), Pace.SLOWLY)
            except Exception as error:  # noqa: BLE001  # no fault makes the process give up for good
                _log.exception(
                    "an attempt to connect failed in a way that was not foreseen", extra=pairs("M1410")
                )
                ending = Ending(f"an attempt to connect failed: {error!r}", Pace.SLOWLY)
            failures = 1 if stable else failures + 1
            self._mailbox.put(Disconnected(ending.reason))
            await self._pause(self._wait_s(ending.pace, failures))

    async def _connect_once(self, will: Callable[[str], Will]) -> tuple[Ending, bool]:
        """Make one connection and stay with it to its end. Returns why it ended, and whether it had been a good one."""
        session = self._entropy.token(16).hex()
        context = make_tls_context(self._tls) if self._tls is not None else None
        connection = Connection(self._target, context, will(session), self._receive)
        connection.begin()
        self._connection = connection
        try:
            await connection.establish(self._subscribe)
            if connection.up:
                self._mailbox.put(Connected(session))
                for message in connection.early:
                    self._receive(connection, message)
                await connection.watch()
            await connection.ended.wait()
        finally:
            self._connection = None
            connection.fail(Ending("given up"))
        ending = connection.ending or CLOSED_WITHOUT_A_WORD
        stable = connection.up and asyncio.get_running_loop().time() - connection.up_since >= STABLE_S
        return self._explain(self._suspect(ending, stable)), stable

    def _suspect(self, ending: Ending, stable: bool) -> Ending:
        """Tell an unlucky connection from two clients that throw each other out."""
        self._closed_in_a_row = (
            self._closed_in_a_row + 1 if ending is CLOSED_WITHOUT_A_WORD and not stable else 0
        )
        return _TAKEN_OVER_IN_SILENCE if self._closed_in_a_row >= CLOSED_IN_A_ROW_MAX else ending

    def _receive(self, connection: Connection, message: mqtt.MQTTMessage) -> None:
        """Put a message in the mailbox, after its connection; drop what nobody asked for."""
        if not connection.up:
            # Retained messages may overtake the answer to the subscription that they belong to.
            connection.early.append(message)
            return
        topic = topic_of(message)
        wanted = topic is not None and any(mqtt.topic_matches_sub(one, topic) for one in self._subscribe)
        if topic is None or not wanted or len(message.payload) > MESSAGE_SIZE_MAX:
            _log.warning(
                "a message that nobody asked for was dropped",
                extra=pairs("M1411", bytes=len(message.payload)),
            )
            connection.acknowledge(message)
            return
        event = Received(topic, bytes(message.payload), bool(message.retain))
        self._mailbox.put(Unread(connection, message, event))

    def _explain(self, ending: Ending) -> Ending:
        """Add what our own client certificate has to do with it: with TLS 1.3 its refusal looks like a broken line."""
        if self._tls is None or self._tls.certificate is None:
            return ending
        dates, now_ms = certificate_dates(self._tls.certificate), read_wall_ms()
        if dates.not_before_ms <= now_ms <= dates.not_after_ms:
            return ending
        what = (
            "has expired"
            if now_ms > dates.not_after_ms
            else "is not valid yet (check the time of this gateway)"
        )
        return Ending(f"{ending.reason}; our client certificate {self._tls.certificate} {what}", Pace.SLOWLY)

    def _wait_s(self, pace: Pace, failures: int) -> float:
        if pace is Pace.TAKEN_OVER:
            return self._waits_s[pace]
        if pace is Pace.SLOWLY:
            return self._between(self._waits_s[pace] / 2, self._waits_s[pace])
        least_s, most_s = self._backoff_s
        if pace is Pace.KNOCK:
            most_s = min(most_s, self._knock_max_s)
        return self._between(least_s, min(most_s, 2 * least_s * 2 ** min(failures - 1, 16)))

    def _between(self, least_s: float, most_s: float) -> float:
        share = int.from_bytes(self._entropy.token(4), "big") / 2**32
        return least_s + share * max(0.0, most_s - least_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the pause is over
