"""Which meters of a line are asked now, which are left alone, and until when.

What a read came to decides about the reads to come:

- a meter that is *silent*, damaged or fails is asked at every occasion until it has failed three times in a row, or at
  once if it has never said anything; then it is dead and only probed, at growing pauses;
- all reads without an answer are paid from one budget of the line's time, so that many dead meters cost the others no
  more than one;
- a meter that is *busy* (exceptions 5 and 6) answers, so it is never dead: it is left alone for a pause that grows, and
  counts as failing after a minute;
- a *gateway without a path* (exception 10) for several units in a row is left alone as a whole; for one unit, or
  when a target does not respond (exception 11), it is that meter's trouble.

The line worker asks before each read and tells after it; nothing here waits or knows the time by itself.
"""

import logging
import zlib
from collections.abc import Mapping

from agent.errors import FrameDamaged, MeterBusy, MeteringError, MeterRefused, MeterSilent
from agent.protocol.pace import CREDIT_MAX_NS, ProbeBudget, probe_pause_s
from agent.service.logline import pairs
from agent.service.watch import TOLERATED_FAILURES, Watch

log = logging.getLogger(__name__)

NO_PATH = 10
"""The exception of a gateway that cannot reach its own line."""
NO_PATH_UNITS = 2
"""So many units in a row have to bring it before the gateway itself is left alone."""
NO_PATH_PAUSE_S = (1, 30)
BUSY_PAUSE_S = (1, 30)
"""First and longest pause of a meter that asks for time."""
BUSY_MAX_S = 60
"""A meter that is busy for longer counts as one that fails."""

_SECOND_NS = 1_000_000_000


class Patience:
    """The patience of one line with its meters."""

    def __init__(self, line: str, watches: Mapping[str, Watch], now_ns: int) -> None:
        self._line = line
        self._watches = watches
        self._budget = ProbeBudget(now_ns)
        self._dead: dict[str, Watch] = {}
        self._without_path: set[str] = set()
        self._path_pause_s = 0
        self._held_until_ns = 0

    # ------------------------------------------------------------------------------------------------ before a read

    def may_ask(self, watch: Watch, now_ns: int) -> bool:
        """Whether a meter takes part in sweeps and rounds now."""
        return (
            now_ns >= self._held_until_ns and now_ns >= watch.retry_at_ns and watch.meter.id not in self._dead
        )

    def has_credit(self, now_ns: int) -> bool:
        """Whether the line can afford a read that may bring nothing."""
        return self._budget.credit_ns(now_ns) > 0

    @property
    def has_dead(self) -> bool:
        """Whether any meter is only probed."""
        return bool(self._dead)

    def probe_due(self, now_ns: int) -> Watch | None:
        """The dead meter that has waited longest, if one is due and the budget can pay for it."""
        due = [watch for watch in self._dead.values() if watch.retry_at_ns <= now_ns]
        if not due or now_ns < self._held_until_ns:
            return None
        watch = min(due, key=lambda each: each.retry_at_ns)
        if self._budget.credit_ns(now_ns) < min(CREDIT_MAX_NS, self._probe_cost_ns(watch)):
            return None
        return watch

    def probe_due_ns(self, now_ns: int) -> int | None:
        """When the next dead meter can be probed; None if there is none.

        Only the one that has waited longest counts, as in `probe_due`: were the next a cheaper one that can be paid
        for already, the line worker would look again and again until the dearer one can.
        """
        if not self._dead:
            return None
        watch = min(self._dead.values(), key=lambda each: each.retry_at_ns)
        affordable_ns = self._budget.ready_ns(now_ns, self._probe_cost_ns(watch))
        return max(watch.retry_at_ns, self._held_until_ns, affordable_ns)

    def probe_timeout_ns(self, watch: Watch) -> int:
        """How long to wait for a dead meter, by what it once needed or what its neighbours do."""
        known = [
            each.pace.timeout_ns for each in self._watches.values() if each.pace.turnaround_ns is not None
        ]
        return watch.pace.probe_timeout_ns(watch.probes, max(known, default=None))

    def _probe_cost_ns(self, watch: Watch) -> int:
        return self.probe_timeout_ns(watch) + 2 * watch.wire_ns(watch.energy[0])

    # ------------------------------------------------------------------------------------------------- after a read

    def opened(self) -> None:
        """The line was opened: everybody may be asked, the dead at their turn."""
        self._held_until_ns = 0
        for watch in self._watches.values():
            watch.retry_at_ns = watch.energy_retry_ns = 0

    def answered(self, watch: Watch) -> None:
        """It has answered, whatever it said, unless it said that it is busy."""
        watch.busy_since_ns, watch.busy_pause_s = None, 0
        if not watch.refusals:
            watch.last_error = watch.unfit
        if watch.failures or self._without_path:
            self._note_back(watch)
            watch.failures = watch.retry_at_ns = 0

    def failed(self, watch: Watch, error: MeteringError, begun_ns: int, now_ns: int) -> None:
        """A read that began at `begun_ns` brought nothing."""
        if isinstance(error, MeterBusy):
            self._note_busy(watch, now_ns)
            return
        self._budget.spend(now_ns, now_ns - begun_ns)
        if isinstance(error, MeterSilent | FrameDamaged):
            watch.pace.missed()
        if isinstance(error, MeterRefused) and error.code == NO_PATH:
            self._note_no_path(watch, now_ns)
        self._note_failure(watch, error, now_ns)

    def _note_back(self, watch: Watch) -> None:
        """Somebody there can be heard."""
        self._without_path.clear()
        self._path_pause_s = watch.probes = 0
        if self._dead.pop(watch.meter.id, None) is None:
            return
        watch.doubt()
        if watch.failures >= TOLERATED_FAILURES:
            log.info(
                "the meter answers again",
                extra=pairs("M1204", meter=watch.meter.id, line=self._line, failed_reads=watch.failures),
            )

    def _note_busy(self, watch: Watch, now_ns: int) -> None:
        """It asked for time: that is no failure, and nobody waits for it, unless it goes on for too long."""
        self._note_back(watch)
        if watch.busy_since_ns is None:
            watch.busy_since_ns = now_ns
        watch.failures = int(now_ns - watch.busy_since_ns > BUSY_MAX_S * _SECOND_NS)
        watch.busy_pause_s = min(BUSY_PAUSE_S[1], max(BUSY_PAUSE_S[0], 2 * watch.busy_pause_s))
        watch.retry_at_ns = now_ns + watch.busy_pause_s * _SECOND_NS

    def _note_no_path(self, watch: Watch, now_ns: int) -> None:
        """A gateway that brings this for several units in a row has lost its own line: leave all of them alone."""
        self._without_path.add(watch.meter.id)
        if len(self._without_path) < min(NO_PATH_UNITS, len(self._watches)):
            return
        first_s, longest_s = NO_PATH_PAUSE_S
        self._path_pause_s = min(longest_s, max(first_s, 2 * self._path_pause_s))
        self._held_until_ns = now_ns + self._path_pause_s * _SECOND_NS

    def _note_failure(self, watch: Watch, error: MeteringError, now_ns: int) -> None:
        watch.busy_since_ns, watch.busy_pause_s = None, 0
        watch.failures += 1
        if watch.failures == TOLERATED_FAILURES:
            log.warning(
                "the meter does not answer; check its power, wiring and address",
                extra=pairs(
                    "M1203",
                    meter=watch.meter.id,
                    line=self._line,
                    address=watch.meter.address,
                    reason=error,
                ),
            )
        if watch.failures < TOLERATED_FAILURES and watch.pace.turnaround_ns is not None:
            return
        self._dead[watch.meter.id] = watch
        watch.identified = False
        pause_s = probe_pause_s(watch.probes, zlib.crc32(watch.meter.id.encode()) + watch.probes)
        watch.probes += 1
        watch.retry_at_ns = now_ns + pause_s * _SECOND_NS
