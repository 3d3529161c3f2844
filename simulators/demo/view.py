"""What the demo shows: one moment of the installation as values, as a screen and as plain lines.

A terminal that is large enough gets a screen that is drawn anew every half second; anything else (a log, a pipe, a
small window) gets a line every few seconds. Both are made of the same values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.metering.quantity import format_kwh

SCREEN_COLUMNS, SCREEN_ROWS = 126, 24
"""A smaller terminal gets plain lines."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """One production step: its name, its meter, power now and what the platform has verified."""

    name: str
    meter: str
    line: str
    power: str | None
    verified_milliwh: int | None


@dataclass(frozen=True, slots=True)
class LineRow:
    """One line's health."""

    line: str
    meters: int
    answering: int
    reads: int
    failed: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """The installation at one moment. `agent_up` is False while the agent does not answer."""

    at_s: int
    of_s: int
    steps: Sequence[StepRow]
    lines: Sequence[LineRow]
    agent_up: bool
    agent_mb: Fraction | None
    seq: int
    backlog_batches: int
    backlog_kwh: str
    connected: bool
    news: Sequence[str] = field(default_factory=tuple)

    @property
    def verified_milliwh(self) -> int:
        """All that the platform has verified."""
        return sum(row.verified_milliwh or 0 for row in self.steps)


def fits(console: Console) -> bool:
    """Whether the screen can be shown here."""
    return console.is_terminal and console.width >= SCREEN_COLUMNS and console.height >= SCREEN_ROWS


def screen(moment: Moment) -> RenderableType:
    """The whole installation at a glance."""
    half = (len(moment.steps) + 1) // 2
    tables = [_step_table(moment.steps[:half]), _step_table(moment.steps[half:])]
    news = [Text(f"  {line}", style="bold") for line in moment.news[-2:]]
    return Group(_title(moment), Columns(tables, padding=(0, 2)), _health(moment), _flow(moment), *news)


def _title(moment: Moment) -> Text:
    left = max(0, moment.of_s - moment.at_s)
    text = Text("An electricity-meter factory: 26 production steps, 26 meters", style="bold")
    return text.append(f"   {moment.at_s} s, {left} s to go", style="not bold dim")


def _step_table(rows: Sequence[StepRow]) -> Table:
    table = Table(box=None, padding=(0, 1))
    table.add_column("production step", no_wrap=True, width=36)
    table.add_column("kW now", justify="right", width=8)
    table.add_column("kWh verified", justify="right", width=13)
    for row in rows:
        verified = (
            Text("waiting", style="dim") if row.verified_milliwh is None else _kwh(row.verified_milliwh)
        )
        table.add_row(row.name, row.power or "-", verified)
    return table


def _kwh(energy_milliwh: int) -> Text:
    return Text(format_kwh(energy_milliwh), style="green")


def _health(moment: Moment) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=False)
    for row in moment.lines:
        good = row.answering == row.meters and row.problem is None
        state = Text("healthy" if good else row.problem or "meters missing", style="green" if good else "red")
        table.add_row("line", row.line, f"{row.answering} of {row.meters} meters answer", _reads(row), state)
    return table


def _reads(row: LineRow) -> str:
    return f"{row.reads} reads, {row.failed} failed"


def _flow(moment: Moment) -> Text:
    text = Text("agent    ")
    if not moment.agent_up:
        return text.append("not running", style="red")
    memory = "" if moment.agent_mb is None else f", {round(moment.agent_mb)} MB"
    text.append(f"running{memory}; {moment.seq} batches sealed; ")
    waiting = f"{moment.backlog_batches} waiting ({moment.backlog_kwh} kWh)"
    text.append(waiting, style="yellow" if moment.backlog_batches > 3 else "")
    text.append("\nplatform ")
    text.append(f"{format_kwh(moment.verified_milliwh)} kWh verified", style="green bold")
    return text if moment.connected else text.append("; no connection to the broker", style="red")


def plain_line(moment: Moment) -> str:
    """The same moment in one line."""
    answering = sum(row.answering for row in moment.lines)
    meters = sum(row.meters for row in moment.lines)
    verified = f"platform verified {format_kwh(moment.verified_milliwh)} kWh"
    if not moment.agent_up:
        return f"{moment.at_s:3d} s  agent not running; {verified}"
    lines = ", ".join(f"{row.line} {_reads(row)}" for row in moment.lines)
    return (
        f"{moment.at_s:3d} s  {answering} of {meters} meters answer ({lines}); {moment.seq} batches sealed,"
        f" {moment.backlog_batches} waiting; {verified}"
    )


def final_table(moment: Moment, truth: Mapping[str, int], openings: Mapping[str, int]) -> Table:
    """Step by step: what the meter's register rose by, and what the platform has verified."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("production step")  # the only one that a narrow window may fold
    for name in ("meter", "line"):
        table.add_column(name, no_wrap=True)
    for name in ("register\nrose by, kWh", "platform\nverified, kWh", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in moment.steps:
        risen = truth[row.meter] - openings[row.meter] if row.meter in openings else None
        same = risen is not None and risen == row.verified_milliwh
        table.add_row(
            row.name,
            row.meter,
            row.line,
            "-" if risen is None else format_kwh(risen),
            "-" if row.verified_milliwh is None else format_kwh(row.verified_milliwh),
            Text("equal" if same else "DIFFERENT", style="green" if same else "red bold"),
        )
    return table
