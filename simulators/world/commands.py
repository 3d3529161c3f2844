"""The command `metering-sim world`: many seeds of a simulated factory, or one of them in full."""

import os
import time
from collections import Counter
from typing import TypedDict

import click

from simulators.world.campaign import Outcome, minimised, quietly, run_many
from simulators.world.scenarios import SCENARIOS
from simulators.world.world import FAULTS_S, run_seed

S_PER_DAY = 86_400
ALL = "all"
BY_PEOPLE = {
    "rotations": ("key-rotated",),
    "revocations": ("key-revoked",),
    "restores of the edge": ("old-image", "disk-lost", "wal-deleted"),
    "restores of the platform": ("platform-restored",),
    "clones": ("clone",),
    "couriers": ("courier",),
    "words brought by hand": ("confirmed",),
    "exchanges": ("exchange",),
    "changes of the site file": ("step", "ratio", "big-map"),
}
"""Kinds of faults that are what an operator does, as a campaign counts them."""


class Form(TypedDict):
    """How every seed of a campaign is run: see `run_seed`."""

    faults_s: int
    interval_s: int | None
    scenario: str | None


@click.command()
@click.option("--seeds", default=100, show_default=True, type=click.IntRange(1), help="How many seeds.")
@click.option("--start", default=0, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--seed", type=click.IntRange(0), help="Only this one.")
@click.option("--show", is_flag=True, help="With --seed: tell its story.")
@click.option("--faults", help="With --seed: only these faults of its plan, by kind or name: clone,crash.2")
@click.option(
    "--hours",
    default=FAULTS_S // 3600,
    show_default=True,
    type=click.IntRange(1),
    help="Of faults, per seed.",
)
@click.option(
    "--interval",
    type=click.IntRange(60),
    help="Seconds of an interval in every seed; drawn by seed without it.",
)
@click.option(
    "--scenario",
    type=click.Choice([*sorted(SCENARIOS), ALL]),
    help="Force a schedule of faults; all of them, one after the other.",
)
@click.option("--processes", type=click.IntRange(1), help="How many at a time; as many as cores.")
@click.pass_context
def world(
    ctx: click.Context,
    seeds: int,
    start: int,
    seed: int | None,
    show: bool,
    faults: str | None,
    hours: int,
    interval: int | None,
    scenario: str | None,
    processes: int | None,
) -> None:
    """A factory in one process: bus, disk, clock, broker, platform and an operator, all of them failing by seed.

    The agent's own code runs in it unchanged. Every booking of the platform is held against what the meters really
    counted. Exit code 1 if a promise was broken; then the fewest faults that break it are searched, and the command
    that shows it again is printed.
    """
    if seed is not None and scenario == ALL:
        raise click.UsageError("--seed needs one scenario, by its name")
    form = Form(faults_s=hours * 3600, interval_s=interval, scenario=scenario)
    if seed is not None:
        ctx.exit(_one(seed, faults, form, show=show))
    many, processes = range(start, start + seeds), processes or os.cpu_count() or 1
    if scenario == ALL:
        ctx.exit(max(_scenario(name, many, processes, form) for name in sorted(SCENARIOS)))
    ctx.exit(_many(many, processes, form))


def _scenario(name: str, seeds: range, processes: int, form: Form) -> int:
    click.echo(f"{name}: {SCENARIOS[name].about}")
    return _many(seeds, processes, Form(faults_s=FAULTS_S, interval_s=form["interval_s"], scenario=name))


def _one(seed: int, faults: str | None, form: Form, *, show: bool) -> int:
    names = None if faults is None else frozenset(each for each in faults.split(",") if each)
    result = quietly(lambda: run_seed(seed, names, **form))
    if show:
        click.echo("\n".join(result.story))
    click.echo(
        f"seed {seed}: {len(result.plan)} faults, {result.simulated_s} s, {result.batches} batches,"
        f" trace {result.trace[:16]}, {len(result.violations)} violations"
    )
    for each in result.violations:
        click.echo(f"  {each}")
    return 1 if result.violations else 0


def _many(seeds: range, processes: int, form: Form) -> int:
    begun = time.monotonic()
    failed: list[Outcome] = []
    simulated_s = batches = 0
    kinds: Counter[str] = Counter()
    for outcome in run_many(seeds, processes, **form):
        simulated_s += outcome.simulated_s
        batches += outcome.batches
        kinds.update(outcome.kinds)
        if outcome.violations:
            failed.append(outcome)
            click.echo(f"seed {outcome.seed}: {outcome.violations[0]}")
    seconds = time.monotonic() - begun
    click.echo(
        f"{len(seeds)} seeds, {simulated_s / S_PER_DAY:.1f} plant-days, {kinds.total()} faults, {batches} batches in"
        f" {seconds:.0f} s on {processes} processes: {len(failed)} with violations"
    )
    done = ", ".join(f"{about} {sum(kinds[kind] for kind in some)}" for about, some in BY_PEOPLE.items())
    click.echo(f"of them done by people: {done}")
    if not failed:
        return 0
    _explain(min(failed, key=lambda each: each.faults), form)
    return 1


def _explain(outcome: Outcome, form: Form) -> None:
    """Make the smallest failure smaller, and say how to see it again."""
    promise = outcome.violations[0].split(":")[0]
    seed = outcome.seed
    plan = quietly(lambda: run_seed(seed, **form)).plan if outcome.trace else ()
    names = minimised(seed, plan, promise, **form) if plan else []
    click.echo(f"\nseed {outcome.seed}, {outcome.violations[0]}")
    click.echo(f"enough to break it: {', '.join(names) or 'no fault at all'}")
    chosen = f' --faults "{",".join(names)}"' if plan else ""
    click.echo(
        f"see it again:       metering-sim world --seed {outcome.seed} --show{options_of(form)}{chosen}"
    )


def options_of(form: Form) -> str:
    """What of the command made the seeds of this form other ones than usual."""
    said = ""
    if form["scenario"] is not None:
        said += f" --scenario {form['scenario']}"
    elif form["faults_s"] != FAULTS_S:
        said += f" --hours {form['faults_s'] // 3600}"
    if form["interval_s"] is not None:
        said += f" --interval {form['interval_s']}"
    return said
