"""`metering-agent commission`: before its kWh count, a meter is watched for two minutes and held against physics.

Every register of every meter is read again and again, all lines at once; then `agent.metering.commissioning` says where
the words only make sense in another order, and whether energy rises as power says. It only reads. The port is claimed
alone: the agent must not run at the same time.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from agent.cli.exits import NO, NOT_PROVED, OK, TRY_AGAIN
from agent.cli.installer import Say, in_language
from agent.cli.options import json_option, language_option, site_option
from agent.cli.read import (
    decimal_text,
    explained_at,
    find_meter,
    json_of_order,
    look_of,
    order_text,
    read_rows,
    rounded_text,
)
from agent.errors import LineDown, MeteringError
from agent.metering.commissioning import Comparison, Look, Misordered, Verdict, compare, misordered
from agent.metering.plant import Line, Meter
from agent.service import ports

PAUSE_S = 3
"""Between two rounds of a line: a load that moves is seen moving, and the bus has its rest."""
_UNDECIDED = (Verdict.TOO_LITTLE, Verdict.NO_LOAD, Verdict.FEEDS_BACK)


@dataclass(slots=True)
class Watched:
    """One meter and what was seen of it; `silence` is why it could not be read the last time that it could not."""

    line: Line
    meter: Meter
    looks: list[Look] = field(default_factory=list)
    silence: MeteringError | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one meter; `silence` is an explanation where it was not read often enough to say anything."""

    meter: Meter
    orders: tuple[Misordered, ...]
    comparison: Comparison
    silence: MeteringError | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether its kWh must not count as they are."""
        return bool(self.orders) or self.comparison.verdict is Verdict.WRONG

    @property
    def is_undecided(self) -> bool:
        """Whether the same may be asked again with another answer."""
        return self.silence is not None or self.comparison.verdict in _UNDECIDED

    @property
    def is_compared(self) -> bool:
        """Whether energy could be held against power at all; a meter that shows no power never can."""
        return self.comparison.verdict is not Verdict.NOT_SHOWN


@click.command()
@site_option
@click.argument("meter_ids", metavar="[METER]...", nargs=-1)
@click.option(
    "--seconds", type=click.IntRange(20, 86_400), default=120, show_default=True, help="How long to watch."
)
@language_option
@json_option
def commission(
    site_file: Path, meter_ids: tuple[str, ...], seconds: int, language: str, as_json: bool
) -> None:
    """Watch the METERs of the site file, all where none is named, and say whether what they show can be true.

    Compared are the four orders in which the words of a value may lie, and the rise of the energy register with the
    power register. Exit code 0 if both agree for every meter, 1 if something is wrong, 75 if it cannot be told now (no
    answer, too little load, power that flows back), and 3 if nothing is wrong but a meter shows no power: watch its
    display instead. Nothing is written to a meter. The agent must not run at the same time.
    """
    from agent.adapters.clock import SystemClock
    from agent.settings.site import load_site
    from agent.wiring import open_line

    say = in_language(language)
    plant = load_site(site_file).plant
    meters = [find_meter(plant, name, site_file) for name in dict.fromkeys(meter_ids)] or plant.meters
    line_of = {line.id: line for line in plant.lines}
    watched = [Watched(line_of[meter.line], meter) for meter in meters]
    opened = {name: open_line(line_of[name]) for name in dict.fromkeys(meter.line for meter in meters)}
    click.echo(
        say["watching"].format(
            meters=", ".join(meter.id for meter in meters),
            lines=", ".join(opened),
            seconds=seconds,
        ),
        err=True,
    )
    asyncio.run(watch(opened, watched, SystemClock(), seconds=seconds))
    findings = [judge(one, say) for one in watched]
    if as_json:
        click.echo(json.dumps({"meters": [json_of(finding) for finding in findings]}))
    else:
        click.echo("\n".join(text for finding in findings for text in texts_of(finding, say)))
    click.get_current_context().exit(_exit_code(findings))


def _exit_code(findings: Sequence[Finding]) -> int:
    """What there is to do first: correct something, watch again, look at a display, nothing."""
    if any(finding.is_wrong for finding in findings):
        return NO
    if any(finding.is_undecided for finding in findings):
        return TRY_AGAIN
    return OK if all(finding.is_compared for finding in findings) else NOT_PROVED


# ------------------------------------------------------------------------------------------------------------ watching


async def watch(
    opened: Mapping[str, ports.Line], watched: Sequence[Watched], clock: ports.Clock, *, seconds: int
) -> None:
    """Look at all meters again and again; the lines do not wait for one another."""
    async with asyncio.TaskGroup() as lines:
        for name, port in opened.items():
            own = [one for one in watched if one.line.id == name]
            lines.create_task(_watch_line(port, own, clock, seconds))


async def _watch_line(port: ports.Line, watched: Sequence[Watched], clock: ports.Clock, seconds: int) -> None:
    end_ns = clock.monotonic_ns() + seconds * 1_000_000_000
    try:
        await port.open()
        try:
            while True:
                is_last = clock.monotonic_ns() >= end_ns
                for one in watched:
                    await _look(port, one, clock)
                if is_last:
                    return
                await clock.sleep(PAUSE_S)
        finally:
            await port.close()
    except LineDown as error:
        for one in watched:
            one.silence = error


async def _look(port: ports.Line, one: Watched, clock: ports.Clock) -> None:
    at_ms = clock.monotonic_ns() // 1_000_000
    try:
        rows = await read_rows(port, one.line, one.meter)
    except LineDown:
        raise
    except MeteringError as error:
        one.silence = error
        return
    one.looks.append(look_of(at_ms, rows))


# ----------------------------------------------------------------------------------------------------------- answering


def judge(one: Watched, say: Say) -> Finding:
    """What the looks at a meter say; one that was seen only once says nothing of its scale."""
    silence = one.silence if len(one.looks) < 2 else None
    return Finding(
        one.meter,
        misordered(one.meter, one.looks),
        compare(one.meter, one.looks),
        None if silence is None else explained_at(silence, one.line, one.meter, say),
    )


def texts_of(finding: Finding, say: Say) -> list[str]:
    """Sentences; where words lie in the wrong order, scales are not worth a word yet."""
    if finding.silence is not None:
        return [str(finding.silence)]
    if finding.orders:
        return [f"{finding.meter.id}: {order_text(one, say)}" for one in finding.orders]
    seen = finding.comparison
    return [
        say[seen.verdict].format(
            meter=finding.meter.id,
            rise=rounded_text(seen.rise_wh / 1000, 6),
            work=rounded_text(seen.work_wh / 1000, 6),
            seconds=round(seen.seconds),
            percent=_percent(seen, say),
            power=rounded_text(seen.power_w / 1000, 3),
            suspects=say["and"].join(say[f"suspect {name}"] for name in seen.suspects or ("unknown",)),
        )
    ]


def _percent(seen: Comparison, say: Say) -> str:
    low = rounded_text(seen.low * 100, 1)
    if seen.high is None:
        return say["percent from"].format(low=low)
    return say["percent"].format(low=low, high=rounded_text(seen.high * 100, 1))


def json_of(finding: Finding) -> dict[str, object]:
    """The same for programs; energies in Wh and power in W as exact or rounded decimal text."""
    seen = finding.comparison
    return {
        "meter": finding.meter.id,
        "wrong": finding.is_wrong,
        "undecided": finding.is_undecided,
        "compared": finding.is_compared,
        "error": None if finding.silence is None else str(finding.silence),
        "misordered": [json_of_order(one) for one in finding.orders],
        "verdict": seen.verdict.value,
        "seconds": decimal_text(seen.seconds),
        "rise_wh": decimal_text(seen.rise_wh),
        "work_wh": decimal_text(seen.work_wh),
        "ratio_min": decimal_text(seen.low),
        "ratio_max": None if seen.high is None else decimal_text(seen.high),
        "power_w": decimal_text(seen.power_w),
        "suspects": list(seen.suspects),
    }
