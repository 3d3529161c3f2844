"""Remarks that hold for many deltas in a row, told as one stretch of time each.

A clock that was not trusted for a night flags every delta of every meter; an auditor needs to read this once per meter,
with its beginning and its end, and must not lose among it the one gap that matters. One open stretch per meter and
remark is all that is remembered. Before this comes each delta, after it the verdict `quality`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent.metering.quantity import format_kwh
from agent.reporting.batch import Delta
from agent.reporting.utc import text_of_ms
from agent.reporting.verdict import Findings, stretch


@dataclass(slots=True)
class _Run:
    """Deltas n_first..n_last of one meter and epoch, one after the other. Energy in 0.001 Wh, times in UTC Unix ms."""

    line: int
    epoch: int
    n_first: int
    n_last: int
    start_ms: int
    end_ms: int
    energy: int

    @classmethod
    def begun(cls, line: int, delta: Delta) -> "_Run":
        return cls(line, delta.epoch, delta.n, delta.n, delta.start_ms, delta.end_ms, delta.delta)

    def is_followed_by(self, delta: Delta) -> bool:
        return (delta.epoch, delta.n) == (self.epoch, self.n_last + 1)

    def extend(self, delta: Delta) -> None:
        self.n_last, self.end_ms, self.energy = delta.n, delta.end_ms, self.energy + delta.delta


class Runs:
    """Gathers the remarks on deltas and adds each stretch to the findings once it has ended."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._open: dict[str, dict[str, _Run]] = {}

    def take(self, line: int, delta: Delta, remarks: Iterable[str]) -> None:
        """Enter a delta and what is to be remarked on it; nothing ends the meter's stretches."""
        before = self._open.pop(delta.meter, {})
        now: dict[str, _Run] = {}
        for remark in remarks:
            run = before.pop(remark, None)
            if run is not None and run.is_followed_by(delta):
                run.extend(delta)
            else:
                if run is not None:
                    _tell(self._findings, delta.meter, remark, run)
                run = _Run.begun(line, delta)
            now[remark] = run
        for remark, run in before.items():
            _tell(self._findings, delta.meter, remark, run)
        if now:
            self._open[delta.meter] = now

    def finish(self, findings: Findings) -> None:
        """Add the stretches that have not ended yet."""
        for meter, runs in self._open.items():
            for remark, run in runs.items():
                _tell(findings, meter, remark, run)


def _tell(findings: Findings, meter: str, remark: str, run: _Run) -> None:
    place = f"meter {meter}, epoch {run.epoch}, n {stretch(run.n_first, run.n_last)}"
    span = f"{text_of_ms(run.start_ms)} to {text_of_ms(run.end_ms)}, {format_kwh(run.energy)} kWh"
    findings.add(run.line, place, remark, span)
