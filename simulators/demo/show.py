"""The course of a demo: start everything, watch, kill the agent once, stop the counters, drain, compare."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live

from agent.errors import ConfigError
from agent.metering.quantity import format_kwh
from agent.resources import config_path
from agent.settings.catalogue import load_catalogue
from simulators.demo import footprint
from simulators.demo.account import own_account
from simulators.demo.rig import ORG, Rig
from simulators.demo.view import LineRow, Moment, StepRow, final_table, fits, plain_line, screen

INTERVAL, INTERVAL_S = "2s", 2
SPEED = 60
"""The factory's time runs this much faster, so that a minute shows an hour's energy."""
LOOK_S = 0.5
PLAIN_LINE_S = 5
DRAIN_S = 30
LOG_COLUMNS = 120
"""Width of what is written where there is no terminal."""
DEAD_S = 2
"""How long the agent stays dead after the kill."""


class Show:
    """One demo."""

    def __init__(self, folder: Path, seconds: int, *, kill: bool) -> None:
        self._rig = Rig(folder, interval=INTERVAL, speed=SPEED)
        self._seconds = seconds
        self._kill_at_s = seconds // 2 if kill else None
        terminal = Console()
        self._console = terminal if terminal.is_terminal else Console(width=LOG_COLUMNS)
        self._catalogue = load_catalogue(config_path("emission_sources.csv"))
        self._news: list[str] = []
        self._began = 0.0
        self._last_line_s = -PLAIN_LINE_S
        self._interrupted = False

    def run(self) -> int:
        """Gives the exit code: 0 if platform and meters agree exactly."""
        self._console.print("Starting 26 meters, a broker, a carbon platform and the metering agent ...")
        with _interrupts(self._interrupt), self._rig:
            try:
                self._rig.start_meters()
                self._rig.start_broker()
                self._rig.start_platform()
                self._rig.start_agent()
                self._watch()
                return self._verdict()
            except RuntimeError as error:
                self._console.print(f"The demo failed: {error}", markup=False, style="red")
                return 1

    def _interrupt(self) -> None:
        self._interrupted = True

    # -- watching

    def _watch(self) -> None:
        self._began = time.monotonic()
        if not fits(self._console):
            self._look_until_the_end(lambda moment: self._print_line(moment))
            return
        with Live(console=self._console, auto_refresh=False) as live:
            self._look_until_the_end(lambda moment: live.update(screen(moment), refresh=True))

    def _look_until_the_end(self, show: Any) -> None:
        while self._elapsed_s() < self._seconds and not self._interrupted:
            self._kill_and_revive()
            self._rig.check_alive()
            show(self._moment())
            time.sleep(LOOK_S)
        if "agent" not in self._rig.processes:
            self._rig.start_agent()

    def _kill_and_revive(self) -> None:
        """Halfway through: what a power cut would do, and what happens after it."""
        if self._kill_at_s is None:
            return
        running, elapsed_s = "agent" in self._rig.processes, self._elapsed_s()
        if running and self._kill_at_s <= elapsed_s < self._kill_at_s + DEAD_S:
            self._rig.kill("agent")
            self._say("the agent was killed with SIGKILL, in the middle of its work")
        elif not running and elapsed_s >= self._kill_at_s + DEAD_S:
            self._rig.start_agent()
            self._say("the agent was started again; the journal tells it where it stood")

    def _elapsed_s(self) -> int:
        return int(time.monotonic() - self._began)

    def _say(self, news: str) -> None:
        self._news.append(f"{self._elapsed_s()} s: {news}")
        if not fits(self._console):
            self._console.print(self._news[-1], markup=False, soft_wrap=True)

    def _print_line(self, moment: Moment) -> None:
        if moment.at_s >= self._last_line_s + PLAIN_LINE_S:
            self._last_line_s = moment.at_s
            self._console.print(plain_line(moment), markup=False, soft_wrap=True, highlight=False)

    # -- one moment

    def _moment(self) -> Moment:
        status = self._rig.agent_status() or {}
        journal: dict[str, Any] = _table(status.get("journal"))
        platform: dict[str, Any] = _table(status.get("platform"))
        up = bool(status)
        return Moment(
            at_s=self._elapsed_s(),
            of_s=self._seconds,
            steps=self._steps(status),
            lines=[_line_row(line) for line in _tables(status.get("lines"))],
            agent_up=up,
            agent_mb=self._rig.resident_mb("agent") if up and "agent" in self._rig.processes else None,
            seq=journal.get("seq", 0),
            backlog_batches=journal.get("backlog_batches", 0),
            backlog_kwh=journal.get("backlog_kwh", "0"),
            connected=bool(platform.get("connected", False)),
            news=tuple(self._news),
        )

    def _steps(self, status: dict[str, object]) -> list[StepRow]:
        account = self._rig.account()
        power = {
            meter["meter"]: meter["live"].get("power_active_total") for meter in _tables(status.get("meters"))
        }
        rows = []
        for place in self._rig.meters:
            booked = account.meters.get(place.id) if account is not None else None
            step = self._catalogue.steps[place.step]
            rows.append(
                StepRow(
                    name=step.name_en,
                    meter=place.id,
                    line=place.line,
                    power=_kilowatts(power.get(place.id)),
                    verified_milliwh=None if booked is None else booked.energy_milliwh,
                )
            )
        return rows

    # -- the end

    def _verdict(self) -> int:
        self._console.print("Stopping the counters and waiting for the last boundary ...")
        self._rig.freeze_counters()
        differences = self._drained()
        code = self._rig.stop("agent")
        account, truth = self._rig.account(), self._rig.truth()
        openings = (
            {id: meter.epochs[0].opening for id, meter in account.meters.items() if meter.epochs}
            if account is not None
            else {}
        )
        moment = self._moment()
        self._console.print(final_table(moment, truth, openings))
        for line in self._news:
            self._console.print(line, markup=False, soft_wrap=True)
        if differences or code != 0:
            for meter, reason in differences.items():
                self._console.print(f"{meter}: {reason}", style="red", markup=False)
            self._console.print(f"NOT EQUAL (agent's exit code {code})", style="red bold")
            return 1
        total = format_kwh(moment.verified_milliwh)
        self._console.print(
            f"The platform verified {total} kWh; the meters' registers rose by the same, to the last 0.001 Wh,"
            f" for all {len(truth)}.",
            style="green bold",
            highlight=False,
            soft_wrap=True,
        )
        return self._footprint(truth, openings)

    def _footprint(self, truth: dict[str, int], openings: dict[str, int]) -> int:
        """What the kWh are for: the platform's footprint of the day has to equal the simulator's own account."""
        own = own_account(truth[meter] - openings[meter] for meter in truth)
        try:
            platform = footprint.of_platform(self._rig.store, ORG)
        except ConfigError as error:
            self._console.print(f"No footprint: {error}", markup=False, style="red")
            return 1
        lines = footprint.compared(platform, own)
        self._console.print(footprint.table(lines))
        if not all(line.is_equal for line in lines) or platform.missing:
            self._console.print("NOT EQUAL to the simulator's own account", style="red bold")
            return 1
        self._console.print(
            "The footprint from verified kWh equals the simulator's own account exactly"
            " (materials, fuels, wastes and production are invented).",
            style="green bold",
            highlight=False,
            soft_wrap=True,
        )
        return 0

    def _drained(self) -> dict[str, str]:
        """Wait until platform and meters agree, at most so long; gives what still differs."""
        deadline = time.monotonic() + DRAIN_S
        differences = self._rig.differences()
        while differences and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            self._rig.check_alive()
            differences = self._rig.differences()
        return differences


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else []


def _line_row(line: dict[str, Any]) -> LineRow:
    return LineRow(
        line=line["line"],
        meters=line["meters"],
        answering=line["meters_answering"],
        reads=line["reads"],
        failed=line["failed_reads"],
        problem=line["problem"],
    )


def _kilowatts(power: str | None) -> str | None:
    """`"11520.000 W"` or `"11.520 kW"` as kW with two decimals."""
    if power is None:
        return None
    value, _, unit = power.partition(" ")
    kilowatts = Fraction(value) / (1000 if unit == "W" else 1)
    whole, hundredths = divmod(round(abs(kilowatts) * 100), 100)
    return f"{'-' if kilowatts < 0 else ''}{whole}.{hundredths:02d}"


@contextmanager
def _interrupts(handle: Any) -> Iterator[None]:
    """Ctrl-C ends the watching and not the comparison."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        handle()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
