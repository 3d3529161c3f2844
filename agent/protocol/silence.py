"""The silence of one pair, and who may break it when: what Modbus RTU and DL/T 645 on the same wires share.

A pair has one speed, one last character and one rest that the meter before needs, whatever language comes next; so
there is one `Silence` for each pair, and each machine that speaks on it asks here before it does. Integers of
nanoseconds, no clock.

Source: MODBUS over Serial Line Specification V1.02, section 2.5.1.1. DL/T 645 needs no silence between frames, but
Modbus meters on the same pair do.
"""

from dataclasses import dataclass

from agent.errors import FrameDamaged
from agent.metering.plant import SerialSettings
from agent.protocol.events import Event, Failed, Retune, Send, WaitUntil

FAST_BAUD = 19_200
"""Above this the standard fixes the silence instead of counting characters."""
FAST_SILENCE_NS = 1_750_000
BABBLE_NS = 1_000_000_000
"""Longest wait for a line that is never silent."""


def character_ns(settings: SerialSettings) -> int:
    """How long one character occupies the line, rounded up."""
    return -(-settings.bits_per_character * 1_000_000_000 // settings.baud)


def silence_ns(settings: SerialSettings) -> int:
    """The silence that separates frames: 3.5 characters, 1.75 ms above 19200 baud."""
    if settings.baud > FAST_BAUD:
        return FAST_SILENCE_NS
    return -(-7 * settings.bits_per_character * 1_000_000_000 // (2 * settings.baud))


@dataclass(slots=True)
class Silence:
    """One pair: how the port is tuned, when its last character is over, and the rest of the meter that spoke last."""

    settings: SerialSettings
    last_ns: int = 0
    quiet_ns: int = 0
    floods: int = 0
    """How often a turn was given up because the line was never silent."""

    def connected(self, now_ns: int, settings: SerialSettings, *, listen_ns: int = 0) -> None:
        """The port was opened with these settings: listen so long before the first request."""
        self.settings = settings
        self.last_ns = max(self.last_ns, now_ns + listen_ns)

    def heard(self, now_ns: int) -> None:
        """Characters have just arrived."""
        self.last_ns = max(self.last_ns, now_ns)

    def patience_ns(self, now_ns: int, settled_ns: int) -> int:
        """Until when to wait for a turn, beyond what is owed, before the line counts as one that is never silent."""
        return max(now_ns, self.last_ns, settled_ns) + self.quiet_ns + BABBLE_NS

    def turn(
        self, now_ns: int, settings: SerialSettings, *, settled_ns: int, patience_ns: int
    ) -> WaitUntil | Failed | None:
        """Whether somebody may speak at these settings now: None for yes, else until when to wait; not for ever.

        `settled_ns` is when nothing is owed any more that could be taken for the answer.
        """
        silent_ns = self.last_ns + max(silence_ns(self.settings), silence_ns(settings)) + self.quiet_ns
        ready_ns = max(silent_ns, settled_ns)
        if now_ns >= ready_ns:
            return None
        if now_ns >= patience_ns:
            self.floods += 1
            return Failed(FrameDamaged("the line is never silent: a device or a wrong baud rate floods it"))
        return WaitUntil(min(ready_ns, patience_ns))

    def broken_by(self, now_ns: int, settings: SerialSettings, data: bytes) -> list[Event]:
        """Speak: these characters go out now, at these settings."""
        events: list[Event] = [] if settings == self.settings else [Retune(settings)]
        self.settings = settings
        self.quiet_ns = 0
        self.last_ns = now_ns + len(data) * character_ns(settings)
        return [*events, Send(data)]
