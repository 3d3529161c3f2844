"""The switchboard of the broker's misbehaviour.

A test holds the same object as the broker and changes it while messages flow. The server asks it at each fork in the
road; it decides nothing by chance, so that a failing test fails again.
"""

from dataclasses import dataclass, field

from simulators.broker.topics import matches

ALWAYS = -1
"""For the counted faults: until it is switched off, instead of so many times."""


@dataclass(slots=True)
class Faults:
    """What goes wrong from now on. Counted faults are used up one by one, or `ALWAYS`.

    Attributes:
        drop_puback: so many publishes are delivered, their PUBACK is never sent.
        delay_puback_ms: every PUBACK comes that much later.
        forget: so many publishes get a good PUBACK and are delivered to nobody.
        duplicate: so many publishes are delivered twice.
        cut_after: a connection is cut, without a word, when this many packets have arrived on it after its CONNECT.
        refuse_connect: every CONNECT is refused with this reason code (0x86 bad user name or password, 0x87 not
            authorized, 0x88 server unavailable, ...).
        deny: publishing to a topic that matches one of these filters is answered with 0x87, not authorized.
        over_quota: the same with 0x97, quota exceeded.
        frozen: nothing is read, answered or delivered; connections stay open (a stopped process, a pulled cable).
        topics: publishes to topics outside this filter are spared by the first four faults.
    """

    drop_puback: int = 0
    delay_puback_ms: int = 0
    forget: int = 0
    duplicate: int = 0
    cut_after: int | None = None
    refuse_connect: int | None = None
    deny: set[str] = field(default_factory=set)
    over_quota: set[str] = field(default_factory=set)
    frozen: bool = False
    topics: str = "#"

    def concerns(self, topic: str) -> bool:
        """Say whether publishes to this topic are subject to the counted faults and the delay."""
        return matches(self.topics, topic)

    def take(self, name: str, topic: str) -> bool:
        """Use up one of a counted fault; False when there is none left, or the topic is spared."""
        left: int = getattr(self, name)
        if left == 0 or not self.concerns(topic):
            return False
        if left > 0:
            setattr(self, name, left - 1)
        return True

    def verdict(self, topic: str) -> int | None:
        """The reason code a publish to this topic is refused with, None where it is welcome."""
        if any(matches(pattern, topic) for pattern in self.deny):
            return 0x87
        if any(matches(pattern, topic) for pattern in self.over_quota):
            return 0x97
        return None
