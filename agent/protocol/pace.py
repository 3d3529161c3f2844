"""What a line learns about time: how long each meter thinks, how long to wait for it, what its dead meters may cost.

Pure: integers of nanoseconds in, integers out. The poll stage asks before each read and tells after it.

- A meter's *turnaround* is what is left of a transaction when the characters are taken out. It is smoothed for the
  planner, and its recent peak makes the reply time-out: three times the peak, never less than a floor that covers what
  adapters and drivers hold back. A meter that misses its time-out gets twice the time, and keeps some of it: one that
  is slow now and then is waited for before long.
- All meters that do not answer share one *budget* of the line's time. A dead one is asked again after growing pauses,
  the one that has waited longest first, and never before the budget can pay for it. So 20 dead meters cost the others
  no more than one does, and each is still asked within a minute.

Figures: a budget of 4.5 % lengthens the others' cycle by 1 / (1 - 0.045), 4.7 %. A probe costs about 80 ms at 9600
baud; 31 dead meters are all asked in 31 x 80 ms / 0.045 = 55 s.
"""

from dataclasses import dataclass

SHARE_PERMILLE = 45
"""What all meters of a line that do not answer may cost together, of the line's time."""
CREDIT_MAX_NS = 600_000_000
"""An idle line saves up no more: the time of one probe with the longest wait."""
DEBT_MAX_NS = 1_000_000_000
"""Nor does it owe more, so that a bad minute does not keep a meter waiting for long."""
TIMEOUT_FACTOR = 3
"""How many times the slowest recent answer is waited for."""
PATIENCE_MAX = 16
SMOOTHING = 8
FORGETTING = 32
"""The peak and the patience of a meter fall by one part in so many with each answer."""
PAUSE_MAX_S = 30
"""Longest pause between two probes of a meter, as far as the budget allows it."""
THOROUGH_EVERY = 16
"""One probe in so many waits as long as for a meter nobody knows: it may have been replaced by a slower one."""


@dataclass(slots=True)
class Pace:
    """The turnaround of one meter. `floor_ns` and `ceiling_ns` bound the time-out."""

    floor_ns: int
    ceiling_ns: int
    turnaround_ns: int | None = None
    """Smoothed; None until it has answered."""
    peak_ns: int = 0
    _patience: int = FORGETTING
    """How many times the time-out is stretched, in parts of FORGETTING."""

    def answered(self, turnaround_ns: int) -> None:
        """Take one measured turnaround in."""
        turnaround_ns = max(0, turnaround_ns)
        if self.turnaround_ns is None:
            self.turnaround_ns = self.peak_ns = turnaround_ns
            return
        self.turnaround_ns += (turnaround_ns - self.turnaround_ns) // SMOOTHING
        self.peak_ns = max(turnaround_ns, self.peak_ns - (self.peak_ns - turnaround_ns) // FORGETTING)
        self._patience = max(FORGETTING, self._patience - 1)

    def missed(self) -> None:
        """It did not answer in time."""
        self._patience = min(PATIENCE_MAX * FORGETTING, 2 * self._patience)

    @property
    def timeout_ns(self) -> int:
        """How long to wait for the beginning of its next answer."""
        if self.turnaround_ns is None:
            return self.ceiling_ns
        base = max(self.floor_ns, TIMEOUT_FACTOR * self.peak_ns)
        return min(self.ceiling_ns, base * self._patience // FORGETTING)

    def probe_timeout_ns(self, probes: int, typical_ns: int | None) -> int:
        """How long to wait for a meter that is believed dead, at its probe number `probes` (from 0).

        `typical_ns` is the time-out of its neighbours, for a meter that has never answered; None where none has.
        """
        if probes % THOROUGH_EVERY == THOROUGH_EVERY - 1:
            return self.ceiling_ns
        if self.turnaround_ns is not None:
            return min(self.ceiling_ns, max(self.floor_ns, TIMEOUT_FACTOR * self.peak_ns))
        return self.ceiling_ns if typical_ns is None else min(self.ceiling_ns, typical_ns)


def probe_pause_s(probes: int, salt: int) -> int:
    """Seconds from one probe of a dead meter to the next: 1, 2, 4 ... 30, spread by `salt` so that they do not meet."""
    pause_s = min(PAUSE_MAX_S, 1 << min(probes, 5))
    return max(1, pause_s - salt % (pause_s // 4 + 1))


class ProbeBudget:
    """The time that meters without answers may take from the others of their line."""

    def __init__(self, now_ns: int) -> None:
        self._at_ns = now_ns
        self._credit_ns = CREDIT_MAX_NS

    def credit_ns(self, now_ns: int) -> int:
        """What may be spent now; less than 0 where too much was."""
        earned_ns = (now_ns - self._at_ns) * SHARE_PERMILLE // 1000
        if earned_ns > 0:
            self._credit_ns = min(CREDIT_MAX_NS, self._credit_ns + earned_ns)
            self._at_ns = now_ns
        return self._credit_ns

    def spend(self, now_ns: int, cost_ns: int) -> None:
        """A read without an answer took so long."""
        self._credit_ns = max(-DEBT_MAX_NS, self.credit_ns(now_ns) - cost_ns)

    def ready_ns(self, now_ns: int, cost_ns: int) -> int:
        """When so much may be spent."""
        missing_ns = min(cost_ns, CREDIT_MAX_NS) - self.credit_ns(now_ns)
        return now_ns + max(0, -(-missing_ns * 1000 // SHARE_PERMILLE))
