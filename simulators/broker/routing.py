"""Who gets a message: sessions, subscriptions, what is retained, and wills (MQTT 5, chapters 3 and 4).

Knows connections only as something to wake or to put out. Before it comes `server`, which reads packets; after it each
session's own queue.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from simulators.broker.connection import Connection
from simulators.broker.packets import Connect, Message, Wish
from simulators.broker.sessions import Session, Subscription, shaped
from simulators.broker.topics import matches, split_share

_TAKEN_OVER = 0x8E
_NOT_A_FILTER = 0x8F
_FOR_EVER_S = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker takes. Sizes are of whole packets in bytes; queues are per client."""

    packet_max: int = 320 * 1024
    receive_maximum: int = 20
    queue_max: int = 1000
    queue_bytes_max: int = 64 << 20
    connections_max: int = 1000


class Router:
    """All sessions of a broker by client id, and what it has retained by topic."""

    def __init__(self, counts: Counter[str], limits: Limits) -> None:
        self.sessions: dict[str, Session[Connection]] = {}
        self.retained: dict[str, Message] = {}
        self._counts = counts
        self._limits = limits
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._turns: Counter[tuple[str, str]] = Counter()

    @property
    def clients(self) -> frozenset[str]:
        """Ids of the clients that are connected now."""
        return frozenset(name for name, session in self.sessions.items() if session.link is not None)

    def session_of(self, connection: Connection) -> Session[Connection] | None:
        """The session that a connection serves now; None before CONNECT and after a takeover."""
        session = self.sessions.get(connection.client_id)
        return session if session is not None and session.link is connection else None

    def stop(self, *, forget: bool) -> None:
        """No will and no session ends by time any more; with `forget` nothing is known afterwards."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if forget:
            self.sessions.clear()
            self.retained.clear()

    # ------------------------------------------------------------------------------------------- publishing

    def route(self, message: Message, publisher: str | None) -> int:
        """Retain and hand out a message; returns how many subscribers it matched."""
        expiry = message.properties.get("message_expiry")
        if isinstance(expiry, int):
            message = replace(message, expires_at=asyncio.get_running_loop().time() + expiry)
        if message.retain:
            self._retain(message)
        reached = 0
        for session in list(self.sessions.values()):
            if (wanted := session.matching(message, publisher)) is not None:
                self._offer(session, wanted)
                reached += 1
        reached += self._share(message)
        if not reached:
            self._counts["no-subscriber"] += 1
        return reached

    def _retain(self, message: Message) -> None:
        if message.payload:
            self.retained[message.topic] = message
        else:
            self.retained.pop(message.topic, None)

    def _share(self, message: Message) -> int:
        """One member of each matching group gets the message, in turn; members that are connected come first."""
        groups: dict[tuple[str, str], list[tuple[Session[Connection], Subscription]]] = {}
        for session in self.sessions.values():
            for each in session.subscriptions.values():
                if each.group is not None and matches(each.filter, message.topic):
                    groups.setdefault((each.group, each.filter), []).append((session, each))
        for group, members in groups.items():
            present = [pair for pair in members if pair[0].link is not None] or members
            session, subscription = present[self._turns[group] % len(present)]
            self._turns[group] += 1
            self._offer(session, shaped(message, subscription.wish))
        return len(groups)

    def _offer(self, session: Session[Connection], message: Message) -> None:
        if session.offer(message):
            if session.link is not None:
                session.link.wake.set()
        else:
            self._counts["drop"] += 1

    # ------------------------------------------------------------------------------------------ subscribing

    def subscribe(
        self, session: Session[Connection], wishes: Iterable[Wish]
    ) -> tuple[list[int], list[Message]]:
        """Grant filters; returns their reason codes, and what is retained for them, to be offered after the SUBACK."""
        reasons: list[int] = []
        stored: list[Message] = []
        for wish in wishes:
            split = split_share(wish.filter)
            if split is None or (split[0] is not None and wish.no_local):
                reasons.append(_NOT_A_FILTER)
                continue
            group, pattern = split
            known = wish.filter in session.subscriptions
            session.subscriptions[wish.filter] = Subscription(group, pattern, wish)
            reasons.append(wish.qos)
            if group is None and (wish.retain_handling == 0 or (wish.retain_handling == 1 and not known)):
                stored += [
                    shaped(message, wish, stored=True)
                    for topic, message in self.retained.items()
                    if matches(pattern, topic)
                ]
        return reasons, stored

    def offer_all(self, session: Session[Connection], messages: Iterable[Message]) -> None:
        """Queue messages for one client."""
        for message in messages:
            self._offer(session, message)

    # ----------------------------------------------------------------------------- coming and leaving, wills

    def session_for(self, client_id: str, connect: Connect) -> tuple[Session[Connection], bool]:
        """Find or make the session of a client, and put an older connection out; also whether there was one."""
        old = self.sessions.get(client_id)
        if old is not None and old.link is not None:
            self._counts["takeover"] += 1
            ended, old.link = old.link, None
            ended.close(_TAKEN_OVER)
            self.part(old, in_order=False)
            old = self.sessions.get(client_id)
        if old is not None and connect.clean_start:
            self._end_session(old)
            old = None
        self._cancel_timer("session", client_id)
        self._cancel_timer("will", client_id)
        limits = self._limits
        session = old or Session[Connection](client_id, limits.queue_max, limits.queue_bytes_max)
        self.sessions[client_id] = session
        return session, old is not None

    def part(self, session: Session[Connection], *, in_order: bool) -> None:
        """A session lost its connection: its will and its own end are due, now or later."""
        if in_order:
            session.will = None
        if session.will is not None:
            self._later("will", session, min(session.will_delay_s, session.expiry_s))
        self._later("session", session, session.expiry_s)

    def _later(self, what: str, session: Session[Connection], delay_s: int) -> None:
        act = self._send_will if what == "will" else self._end_session
        if delay_s == 0:
            act(session)
        elif delay_s != _FOR_EVER_S:
            self._cancel_timer(what, session.client_id)
            handle = asyncio.get_running_loop().call_later(delay_s, act, session)
            self._timers[what, session.client_id] = handle

    def _cancel_timer(self, what: str, client_id: str) -> None:
        if (timer := self._timers.pop((what, client_id), None)) is not None:
            timer.cancel()

    def _send_will(self, session: Session[Connection]) -> None:
        self._cancel_timer("will", session.client_id)
        will, session.will = session.will, None
        if will is not None:
            self._counts["will"] += 1
            self.route(will, session.client_id)

    def _end_session(self, session: Session[Connection]) -> None:
        """Forget a session; a will that still waits goes out with it (MQTT 5, 3.1.2.5)."""
        self._send_will(session)
        self._cancel_timer("session", session.client_id)
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
