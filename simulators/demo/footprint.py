"""The footprint at the end of the demo: the platform's, from verified batches, beside the simulator's own account.

Materials, fuels, wastes and production are the small files in `day`; the kWh are those that the platform has booked.
Both sides are exact fractions, so that equal means equal.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rich.table import Table
from rich.text import Text

from agent.carbon.exact import text_of
from agent.carbon.footprint import Footprint
from agent.settings.locked import open_factors, open_template
from simulators.demo.account import DAY, Account
from simulators.footprint.activity import read_folder
from simulators.platform.evaluation import evaluate
from simulators.platform.quarters import QUARTER_MS, Quarters
from simulators.platform.question import Question
from simulators.platform.reporting import NOT_OF_THE_FOLDER
from simulators.platform.store import Store

PLACES = 6
"""Decimals that are shown; all of them are compared."""


def of_platform(store_path: Path, org: str) -> Footprint:
    """The footprint of everything that the platform has booked. Raises ConfigError."""
    template, (factor_set, factors) = open_template(), open_factors()
    store, quarters = Store.read(store_path), Quarters()
    try:
        first_ms, last_ms = store.one("SELECT min(start_ms), max(end_ms) FROM booked")
        question = Question(
            org=org,
            from_ms=first_ms // QUARTER_MS * QUARTER_MS,
            to_ms=-(-last_ms // QUARTER_MS) * QUARTER_MS,
            template=template,
            factors=factors,
            factor_set=factor_set,
            folder=read_folder(DAY, template, without=NOT_OF_THE_FOLDER),
        )
        return evaluate(store, quarters, question).footprint
    finally:
        quarters.close()
        store.close()


@dataclass(frozen=True, slots=True)
class Line:
    """One term of the comparison, kgCO2e; None where the platform has no figure."""

    name: str
    platform: Fraction | None
    own: Fraction

    @property
    def is_equal(self) -> bool:
        """Exactly."""
        return self.platform == self.own


def compared(platform: Footprint, own: Account) -> list[Line]:
    """Term by term, and the total; the per-piece figure last."""
    per_piece = platform.per_good_piece
    return [
        Line("materials and their transport (Em)", platform.materials.value, own.materials),
        Line("fuel (Eb)", platform.fuel.value, own.fuel),
        Line("electricity of 26 steps (Edl)", platform.electricity.value, own.electricity),
        Line("waste (Ew)", platform.waste.value, own.waste),
        Line("total (E = Em + Eb + Edl + Ew)", platform.total.value, own.total),
        Line(
            f"per good meter, {own.good} were made",
            None if per_piece is None else per_piece.value,
            own.total / own.good,
        ),
    ]


def table(lines: list[Line]) -> Table:
    """The comparison for people."""
    shown = Table(box=None, padding=(0, 1))
    shown.add_column("partial footprint, cradle to gate", no_wrap=True)
    shown.add_column("platform, kgCO2e", justify="right", no_wrap=True)
    shown.add_column("own account", justify="right", no_wrap=True)
    shown.add_column("", justify="right", no_wrap=True)
    for line in lines:
        verdict = Text("equal", style="green") if line.is_equal else Text("DIFFERENT", style="red bold")
        platform = "-" if line.platform is None else text_of(line.platform, PLACES)
        shown.add_row(line.name, platform, text_of(line.own, PLACES), verdict)
    return shown
