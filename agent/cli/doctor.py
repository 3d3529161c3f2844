"""`metering-agent doctor`: what is likely wrong with a line, and by what one can tell.

It reads every meter of the line a thousand times, tries other settings where a meter is silent, and says the cause, its
evidence and what to do. It only reads. The port is claimed alone: while the service runs, the service has it, and says
what it sees in `status`.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from agent.cli.exits import NO
from agent.cli.lines import Place, explained, find_line
from agent.cli.options import json_option, site_option
from agent.errors import ConfigError, LineDown
from agent.metering.plant import Line, Meter, Transport
from agent.protocol.doctor import Diagnosis, Tally, diagnose, spoken
from agent.service import ports

FRAMES = 1_000


@click.command()
@site_option
@click.argument("line_id", metavar="[LINE]", required=False)
@click.option(
    "--frames",
    type=click.IntRange(20, 100_000),
    default=FRAMES,
    show_default=True,
    help="Reads of each meter.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, site_file: Path, line_id: str | None, frames: int, as_json: bool) -> None:
    """Say what is likely wrong with a LINE: wires, speed, parity, addresses, termination, a second master.

    Reads every meter many times; nothing is written to any meter. The agent must not run at the same time. Exit code 0:
    nothing is wrong with the line. 1: something is, or no meter answered at all.
    """
    from agent.settings.site import load_site
    from agent.wiring import open_line

    line = find_line(Place(site_file, None, None, None), line_id)
    meters = load_site(site_file).plant.meters_on(line.id)
    if not meters:
        reason, remedy = f"line {line.id} has no meters", "the doctor reads meters; add those that are wired"
        raise ConfigError.of(site_file, reason, remedy, key="meters")
    if sys.stderr.isatty():
        click.echo(duration_text(line, meters, frames), err=True)
    try:
        tallies = asyncio.run(examine_line(open_line(line), line, meters, frames))
    except LineDown as error:
        raise explained(error) from error
    found = diagnose(tallies)
    click.echo(json.dumps(json_of(line, tallies, found)) if as_json else text_of(line, tallies, found))
    ctx.exit(NO if found or nobody_answered(tallies) else 0)


async def examine_line(
    port: ports.Line, line: Line, meters: Sequence[Meter], frames: int
) -> tuple[Tally, ...]:
    """Examine an unopened line. Raises LineDown."""
    from agent.service.examining import examine

    await port.open()
    try:
        return await examine(
            port, line, meters, frames=frames, tell=_progress if sys.stderr.isatty() else None
        )
    finally:
        await port.close()
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


def duration_text(line: Line, meters: Sequence[Meter], frames: int) -> str:
    """How long it is going to take if all answer, before the installer walks away."""
    from agent.settings.forecast import expected_reads_ns

    seconds = -(-frames * expected_reads_ns(line, meters) // 1_000_000_000)
    about = f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"
    return f"{frames} reads of each of {len(meters)} meters take about {about}; fewer with --frames"


def nobody_answered(tallies: Sequence[Tally]) -> bool:
    """Whether no meter of the line said anything sound: then nothing is known of the line."""
    return not any(tally.answered for tally in tallies)


def _progress(meter: str, done: int, frames: int) -> None:
    if done % 20 == 0 or done == frames:
        click.echo(f"\r\033[K{meter}: {done} of {frames} reads", nl=False, err=True)


def json_of(line: Line, tallies: Sequence[Tally], found: Sequence[Diagnosis]) -> dict[str, object]:
    """For programs."""
    return {
        "line": line.id,
        "diagnoses": [
            {
                "cause": each.cause.value,
                "meters": list(each.meters),
                "evidence": each.evidence,
                "remedy": each.remedy,
            }
            for each in found
        ],
        "meters": [
            {
                "meter": tally.meter,
                "address": tally.address,
                "settings": spoken(tally.settings),
                "asked": tally.asked,
                "answered": tally.answered,
                "silent": tally.silent,
                "damaged": tally.damaged,
                "second_answers": tally.own_strays,
                "answers_of_others": tally.other_strays,
                "requests_of_others": tally.foreign,
                "reads_with_stray_bytes": tally.with_garbage,
                "answers_at": None if tally.answers_at is None else spoken(tally.answers_at),
            }
            for tally in tallies
        ],
    }


def text_of(line: Line, tallies: Sequence[Tally], found: Sequence[Diagnosis]) -> str:
    """For an installer's screen."""
    from agent.cli.summary import table_text

    rows = [("METER", "ADDRESS", "READS", "ANSWERED", "SILENT", "DAMAGED", "TWICE", "STRAY BYTES")]
    rows += [
        (
            tally.meter,
            str(tally.address),
            str(tally.asked),
            str(tally.answered),
            str(tally.silent),
            str(tally.damaged),
            str(tally.own_strays),
            str(tally.with_garbage),
        )
        for tally in tallies
    ]
    lines = [f"line {line.id} at {spoken(line.serial)}", "", *table_text(rows), ""]
    for each in found:
        lines += [f"{each.cause.value}: {each.evidence}", f"  -> {each.remedy}"]
    return "\n".join([*lines, *_conclusion(line, tallies, found)])


def _conclusion(line: Line, tallies: Sequence[Tally], found: Sequence[Diagnosis]) -> list[str]:
    if found:
        return []
    if nobody_answered(tallies):
        return [
            "no meter answered, so that nothing can be said of the line; check that this is its adapter, the cable and "
            "both wires at it, and the power of the meters"
        ]
    silent = [tally.meter for tally in tallies if not tally.answered]
    said = ["nothing is wrong with the line itself"]
    if silent:
        said.append(f"silent: {', '.join(silent)}; check power, address and the wires to these meters")
    if line.transport is not Transport.RS485:
        said.append("behind a gateway only the gateway itself can hear speed, parity and stray bytes")
    return said
