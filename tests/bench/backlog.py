"""A journal with days of sealed batches that nobody has taken yet, made as the agent makes it but for the waiting.

Every batch is packed, signed, linked and kept by the production sealer and the production journal; only the clock is
not the machine's, and one commit holds many intervals. The registers end where the meters of the bench stand, so that
the agent that opens this journal goes on with it as if it had never been away.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from agent import __version__
from agent.adapters.entropy import SystemEntropy
from agent.adapters.journal import SqliteJournal, open_journal
from agent.adapters.keys import load_signer
from agent.metering.ledger import Basis, Head, Point, Run
from agent.metering.plant import Meter
from agent.reporting.batch import Delta
from agent.service.journal import Reading
from agent.service.ports import ClockQuality, Uptime
from agent.service.seal import Identity, Map, Sealer
from agent.service.signing import Signers, use_key
from agent.settings.site import load_site
from agent.settings.values import Site

RISE_COUNTS = 3
"""What a meter counts in an interval, in its own resolution of 10 Wh: 1.8 kW."""
COMMIT_EVERY = 500


@dataclass
class _Past:
    """A clock that is set by hand."""

    now_ms: int

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000

    def uptime(self) -> Uptime | None:
        return None

    def quality(self) -> ClockQuality:
        return ClockQuality("S", 20)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits for the past")


def make_backlog(site_path: Path, batches: int, *, now_ms: int, end_counts: int) -> None:
    """Fill the journal of a site with a batch for each of the last `batches` intervals before `now_ms`.

    The last register of every meter is `end_counts` of its own counts.
    """
    site = load_site(site_path)
    journal = open_journal(site.journal.path)
    try:
        _Maker(site, journal, now_ms, batches, end_counts).make()
    finally:
        journal.close()


class _Maker:
    """One journal being filled."""

    def __init__(
        self, site: Site, journal: SqliteJournal, now_ms: int, batches: int, end_counts: int
    ) -> None:
        self._journal, self._batches, self._end = journal, batches, end_counts
        self._meters, self._interval_ms = site.plant.meters, site.interval_ms
        self._last_ms = now_ms // site.interval_ms * site.interval_ms
        self._clock = _Past(self._time_of(0))
        assert site.signing.key_file is not None
        self._signer = load_signer(site.signing.key_file)
        who = Identity(site.plant.org, site.plant.agent, site.platform.audience, __version__)
        self._sealer = Sealer(who, Signers(self._signer), SystemEntropy(), self._clock)
        self._owner = f"{who.org}/{who.agent} to {who.audience}"
        self._sha256 = site.sha256

    def make(self) -> None:
        """All of it."""
        with self._journal.transaction():
            use_key(self._journal, self._signer)
            map_, events = self._sealer.map_in_force(self._journal, self._meters, {})
            for meter in self._meters:
                self._journal.add_reading(self._reading(meter, map_, 0))
            self._sealer.seal(self._journal, map_.hash, events, [])
        for first in range(1, self._batches, COMMIT_EVERY):
            with self._journal.transaction():
                for number in range(first, min(first + COMMIT_EVERY, self._batches)):
                    self._clock.now_ms = self._time_of(number)
                    self._sealer.seal(self._journal, map_.hash, [], self._deltas(number))
        with self._journal.transaction():
            for meter in self._meters:
                self._journal.add_reading(self._reading(meter, map_, self._batches - 1))
                self._journal.save_head(self._head(meter, map_))
            state = replace(self._journal.state(), owner=self._owner, site_sha256=self._sha256, clean=True)
            self._journal.save_state(state)

    def _time_of(self, number: int) -> int:
        return self._last_ms - (self._batches - 1 - number) * self._interval_ms

    def _register(self, meter: Meter, number: int) -> int:
        counts = self._end - (self._batches - 1 - number) * RISE_COUNTS
        return int(counts * meter.per_count_milliwh)

    def _deltas(self, number: int) -> list[Delta]:
        return [
            Delta(
                meter=meter.id,
                step=meter.step,
                epoch=1,
                n=number,
                start_ms=self._time_of(number - 1),
                end_ms=self._time_of(number),
                reg_start=self._register(meter, number - 1),
                reg_end=self._register(meter, number),
                delta=self._register(meter, number) - self._register(meter, number - 1),
                roll=None,
                q=("first",) if number == 1 else (),
            )
            for meter in self._meters
        ]

    def _basis(self, meter: Meter) -> Basis:
        return Basis(meter.per_count_milliwh, meter.modulus_milliwh, None)

    def _reading(self, meter: Meter, map_: Map, number: int) -> Reading:
        at_ms = self._time_of(number)
        point = Point(meter.id, at_ms, at_ms, self._register(meter, number), self._basis(meter))
        return Reading(replace(point, opens="first" if number == 0 else None), (), map_.hash)

    def _head(self, meter: Meter, map_: Map) -> Head:
        at_ms, last = self._time_of(self._batches - 1), self._batches - 1
        run = Run(last, self._register(meter, last - 1), 0, at_ms // 86_400_000)
        return Head(
            meter.id,
            1,
            last,
            self._register(meter, last),
            at_ms,
            at_ms,
            self._basis(meter),
            map_.hash,
            run=run,
        )
