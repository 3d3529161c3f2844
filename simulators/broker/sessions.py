"""What a client is owed: its subscriptions, its queue, and the messages it has not acknowledged.

A session outlives its connection as long as the client asked for it. Queues are bounded in messages and bytes; what
does not fit is dropped and counted, as real brokers do: whoever cannot lose a message needs an answer from the far
end.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Generic, TypeVar

from simulators.broker.packets import Connect, Message, Wish
from simulators.broker.topics import matches

Link = TypeVar("Link")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A granted filter; `group` is the name of a shared subscription."""

    group: str | None
    filter: str
    wish: Wish


@dataclass(slots=True)
class InFlight:
    """A QoS 1 message that was sent and not yet acknowledged."""

    message: Message
    sent: bool


@dataclass(slots=True)
class Session(Generic[Link]):
    """State of one client id. `link` is the live connection, None while the client is away."""

    client_id: str
    queue_max: int
    queue_bytes_max: int
    link: Link | None = None
    expiry_s: int = 0
    receive_maximum: int = 65535
    packet_max: int | None = None
    will: Message | None = None
    will_delay_s: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    queue: deque[Message] = field(default_factory=deque)
    queue_bytes: int = 0
    in_flight: dict[int, InFlight] = field(default_factory=dict)
    dropped: int = 0
    _ids: Iterator[int] = field(default_factory=lambda: count(0))

    def attach(self, link: Link, connect: Connect) -> None:
        """A connection takes over; unacknowledged messages will be sent again, marked as duplicates."""
        self.link = link
        self.expiry_s = connect.session_expiry_s
        self.receive_maximum, self.packet_max = connect.receive_maximum, connect.packet_max
        self.will, self.will_delay_s = connect.will, connect.will_delay_s
        for waiting in self.in_flight.values():
            waiting.sent = False

    def offer(self, message: Message) -> bool:
        """Queue a message for this client; False when there is no room (or nobody to keep QoS 0 for)."""
        if self.link is None and message.qos == 0:
            return False
        size = len(message.payload)
        if len(self.queue) >= self.queue_max or self.queue_bytes + size > self.queue_bytes_max:
            self.dropped += 1
            return False
        self.queue.append(message)
        self.queue_bytes += size
        return True

    def next(self, now: float) -> tuple[Message, int, bool] | None:
        """What to send next: message, packet id (0 for QoS 0), and whether it was sent before."""
        for packet_id, waiting in self.in_flight.items():
            if not waiting.sent:
                waiting.sent = True
                return waiting.message, packet_id, True
        while self.queue:
            if self.queue[0].qos and len(self.in_flight) >= self.receive_maximum:
                return None
            message = self.queue.popleft()
            self.queue_bytes -= len(message.payload)
            if message.expires_at is not None and now >= message.expires_at:
                continue
            if message.qos == 0:
                return message, 0, False
            packet_id = self._free_id()
            self.in_flight[packet_id] = InFlight(message, sent=True)
            return message, packet_id, False
        return None

    def settle(self, packet_id: int) -> None:
        """The client acknowledged a message."""
        self.in_flight.pop(packet_id, None)

    def _free_id(self) -> int:
        while (packet_id := next(self._ids) % 65535 + 1) in self.in_flight:
            pass
        return packet_id

    def matching(self, message: Message, publisher: str | None) -> Message | None:
        """The message as this client's plain subscriptions want it, None where none matches."""
        best: Subscription | None = None
        for subscription in self.subscriptions.values():
            if subscription.group is not None or not matches(subscription.filter, message.topic):
                continue
            if subscription.wish.no_local and publisher == self.client_id:
                continue
            if best is None or subscription.wish.qos > best.wish.qos:
                best = subscription
        return None if best is None else shaped(message, best.wish)


def shaped(message: Message, wish: Wish, *, stored: bool = False) -> Message:
    """The message at the granted QoS; the retain flag stays on stored messages, or if the client asked for that."""
    keep = stored or wish.retain_as_published
    return replace(message, qos=min(message.qos, wish.qos), retain=message.retain and keep)
