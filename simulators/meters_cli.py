"""`metering-sim meters` and `metering-sim factory`: rehearse a site before driving there.

`meters` serves every meter of a site file until it is told to stop. A running one is asked by signals: SIGUSR1 writes
what every register shows to the file of `--truth`, SIGUSR2 stops all counters, SIGINT and SIGTERM end it.
"""

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from agent.errors import ConfigError
from agent.resources import config_path
from agent.settings.catalogue import load_catalogue
from agent.settings.site import load_site
from simulators.factory import DAY_MS, HOUR_MS, MONDAY_MORNING_MS, Factory, FactoryClock, circuits_of
from simulators.serving import Served, serve_plant, write_rehearsal, write_truth

_STOP = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.option("--site", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The site file.")
@click.option("--speed", type=click.IntRange(1, 3600), default=1, help="How fast the factory's time runs.")
@click.option("--seed", type=int, default=0, help="Another seed is another factory day.")
@click.option(
    "--rehearsal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the copy of the site file if a line is served elsewhere [SITE.rehearsal.toml].",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what every register shows, on SIGUSR1, after --freeze-after and at the end.",
)
@click.option("--freeze-after", type=click.IntRange(1), metavar="SECONDS", help="Stop all counters then.")
@click.option("--answer-holes", is_flag=True, help="Meters answer zero between their registers.")
def meters(
    site: Path,
    speed: int,
    seed: int,
    rehearsal: Path | None,
    truth: Path | None,
    freeze_after: int | None,
    answer_holes: bool,
) -> None:
    """Serve every meter that a site file names, until Ctrl-C."""
    rehearsal = rehearsal or site.with_name(f"{site.stem}.rehearsal.toml")
    try:
        asyncio.run(_serve(site, speed, seed, rehearsal, truth, freeze_after, answer_holes))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except (ValueError, OSError) as error:
        click.echo(str(error), err=True)
        sys.exit(1)


async def _serve(
    site: Path,
    speed: int,
    seed: int,
    rehearsal: Path,
    truth: Path | None,
    freeze_after: int | None,
    answer_holes: bool,
) -> None:
    # Before anything shows that we are here: whoever sees it may send a signal at once.
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGUSR1, signal.SIGUSR2, *_STOP):
        asyncio.get_running_loop().add_signal_handler(number, told.put_nowait, number)
    plant = load_site(site).plant
    clock = FactoryClock(time.monotonic_ns, speed=speed)
    factory = Factory(clock.now_ms, seed=seed)
    circuits = circuits_of(plant, factory, stopped=lambda: clock.is_frozen)
    served = await serve_plant(plant, circuits, seed=seed, answers_holes=answer_holes)
    try:
        if served.moved:
            write_rehearsal(site, served, rehearsal)
        _introduce(served, site, rehearsal)
        if freeze_after is not None:
            asyncio.get_running_loop().call_later(freeze_after, told.put_nowait, signal.SIGUSR2)
        await _until_told_to_stop(told, served, clock, truth)
        if truth is not None:
            write_truth(truth, served)
    finally:
        await served.aclose()


async def _until_told_to_stop(
    told: asyncio.Queue[signal.Signals], served: Served, clock: FactoryClock, truth: Path | None
) -> None:
    """Do what the other signals say until then."""
    while (number := await told.get()) not in _STOP:
        if number is signal.SIGUSR2:
            clock.freeze()
        if truth is not None:
            write_truth(truth, served)
        if number is signal.SIGUSR2:
            click.echo("all counters stand")


def _introduce(served: Served, site: Path, rehearsal: Path) -> None:
    for line in served.lines.values():
        count = len(served.plant.meters_on(line.line.id))
        moved = "  (moved)" if line.moved else ""
        click.echo(
            f"line {line.line.id}: {count} meter{'' if count == 1 else 's'} at {line.address()}{moved}"
        )
    click.echo(f"run the agent with: metering-agent run --site {rehearsal if served.moved else site}")
    sys.stdout.flush()


@click.command()
@click.option("--seed", type=int, default=0, help="Another seed is another day.")
@click.option(
    "--catalogue",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Emission sources, as a site file names them [the shipped ones].",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def factory(seed: int, catalogue: Path | None, as_json: bool) -> None:
    """Print what each step of a simulated working day draws, in kW by hour, and its kWh."""
    steps = load_catalogue(catalogue or config_path("emission_sources.csv")).steps
    day = simulate_day(list(steps), seed)
    if as_json:
        click.echo(json.dumps({step: asdict(values) for step, values in day.items()}, indent=1))
        return
    width = max(len(step) for step in day)
    hours = "".join(f"{hour:>6}" for hour in range(0, 24, 2))
    click.echo(f"{'step':<{width}}{hours}{'kWh':>11}")
    for step, values in day.items():
        powers = "".join(f"{_one_decimal(mw):>6}" for mw in values.power_mw[::2])
        click.echo(f"{step:<{width}}{powers}{_one_decimal(values.energy_milliwh):>11}")
    total_milliwh = sum(values.energy_milliwh for values in day.values())
    click.echo(f"{'all':<{width}}{'':72}{_one_decimal(total_milliwh):>11}")


@dataclass(frozen=True, slots=True)
class StepDay:
    """One step's day: milliwatts at every full hour, and the energy in 0.001 Wh."""

    power_mw: tuple[int, ...]
    energy_milliwh: int


def simulate_day(steps: list[str], seed: int) -> dict[str, StepDay]:
    """A Monday of the simulated factory, by step."""
    midnight_ms = MONDAY_MORNING_MS // DAY_MS * DAY_MS
    now_ms = midnight_ms
    simulated = Factory(lambda: now_ms, seed=seed)
    loads = {step: simulated.loads.of_step(step) for step in steps}
    powers: dict[str, list[int]] = {step: [] for step in steps}
    for hour in range(24):
        now_ms = midnight_ms + hour * HOUR_MS
        for step, load in loads.items():
            powers[step].append(simulated.power_mw(load))
    now_ms = midnight_ms + DAY_MS
    return {
        step: StepDay(tuple(powers[step]), simulated.energy_milliwh(load)) for step, load in loads.items()
    }


def _one_decimal(millionths: int) -> str:
    """Milliwatts as kW, 0.001 Wh as kWh, with one decimal, rounded half up."""
    tenths = (millionths + 50_000) // 100_000
    return f"{tenths // 10}.{tenths % 10}"
