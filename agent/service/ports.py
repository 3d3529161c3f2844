"""What the stages need of the world, as interfaces.

Each port has a real implementation in `agent.adapters` and a simulated one in `simulators`; one contract suite in
`tests/contracts` runs on both. The journal's port is beside the journal's own records, in `agent.service.journal`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.metering.plant import SerialSettings
from agent.protocol.pair import Request


@dataclass(frozen=True, slots=True)
class ClockQuality:
    """How far the wall clock can be trusted: `sync` is S (synchronised), H (holdover) or U (unknown)."""

    sync: str
    err_ms: int


@dataclass(frozen=True, slots=True)
class Uptime:
    """How long the machine has run: `boot` names this start of it, `ms` is the time since, sleep included."""

    boot: str
    ms: int


class Clock(Protocol):
    """All time of the agent."""

    def wall_ms(self) -> int:
        """UTC Unix time in ms; may step."""

    def monotonic_ns(self) -> int:
        """Time that never steps, for cadence and for the ages of readings."""

    def uptime(self) -> Uptime | None:
        """Time that never steps and counts the machine's sleep; None where the kernel does not name its starts."""

    def quality(self) -> ClockQuality:
        """State and estimated error of the wall clock."""

    async def sleep(self, seconds: float) -> None:
        """Wait in monotonic time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The words of one read and when its last byte had arrived (`received_ns`, monotonic).

    `sender` is the address under which a DL/T 645 meter answered, None for Modbus.
    """

    words: tuple[int, ...]
    sent_ns: int
    received_ns: int
    sender: str | None = None


class Line(Protocol):
    """One RS485 pair or gateway connection; has one owner, who makes one read after the other.

    Never returns words it doubts.
    """

    async def open(self) -> None:
        """Claim the port or connect. Raises LineDown."""

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        """Make one read transaction.

        Args:
            request: unit, function, address and number of registers; or meter and identifier of DL/T 645, whose
                data come as words, high byte first.
            timeout_ms: longest wait from the end of the request to the beginning of the answer.
            quiet_ms: rest the meter needs after its answer beyond the 3.5 characters of the line.
            settings: baud and framing of this meter where they differ from the line's.

        Raises:
            MeterSilent: no answer. MeterBusy: exceptions 5 and 6. FrameDamaged: an answer that must not be
            trusted. MeterRefused: any other exception. LineDown: the port or connection is gone; open again.
        """

    async def close(self) -> None:
        """Let go of the port or connection; never raises."""


class Schedule(Protocol):
    """Ticks at whole multiples of a period of UTC; no burst and no silence when the wall clock is set."""

    def every(self, period_ms: int, tick: Callable[[int], None]) -> None:
        """Call `tick(boundary_ms)` at each multiple of the period."""

    def start(self) -> None:
        """Begin to tick."""

    async def stop(self) -> None:
        """No tick comes after this."""


class Signer(Protocol):
    """Holds one private signing key."""

    @property
    def alg(self) -> str:
        """JWS algorithm of the key, `Ed25519` or `ES256`."""

    @property
    def kid(self) -> str:
        """RFC 7638 SHA-256 thumbprint of the public key, base64url."""

    @property
    def public_jwk(self) -> Mapping[str, str]:
        """The public key: the members that its thumbprint is made of (RFC 7638)."""

    def sign(self, data: bytes) -> bytes:
        """Sign the bytes; Ed25519 gives 64 bytes."""


class Entropy(Protocol):
    """Randomness for ids and jitter."""

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says of us when the connection dies; `retain` says whether it stays on its topic."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Connected:
    """A new connection is up and the subscription granted. `session` is its random id."""

    session: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, or could not be made; `reason` is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message on a subscribed topic."""

    topic: str
    payload: bytes
    retained: bool


UplinkEvent = Connected | Disconnected | Received


class Uplink(Protocol):
    """The MQTT connection. Reconnects by itself for ever; keeps no queue: the journal is the only one."""

    async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
        """Begin to connect in the background. `will(session)` is asked once for every connection attempt."""

    def events(self) -> AsyncIterator[UplinkEvent]:
        """Connections, disconnections and messages, in their order; one consumer."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1 and wait for the PUBACK.

        Returns when the reason code is 0. Raises UplinkDown where there is no connection, it broke, or no PUBACK
        came in time; UplinkRefused with the reason code for 0x10 (nobody subscribed) and every failure code.
        """

    async def publish_all(self, topic: str, payloads: Sequence[bytes], taken: Callable[[int], None]) -> None:
        """Send several with QoS 1, in their order, as many at once as the window allows.

        `taken(place)` is called for each as soon as its PUBACK carried reason code 0. Returns when all of them did;
        raises like `publish` for the first that failed. What comes after that one is not sent, unless it was on its
        way already. Whoever cancels it is told of no further PUBACK.
        """

    async def stop(self) -> None:
        """Disconnect in good order (the will is not sent)."""
