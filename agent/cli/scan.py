"""`metering-agent scan`: which meters are on this line, with which settings, and what they are.

The search is pure (`agent.protocol.survey`); here it is played on the real line and shown. It only reads. Progress goes
to stderr, the result to stdout: a table and lines for the site file, or JSON for an installer's own tools.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from agent.cli.installer import ENGLISH, Say, in_language
from agent.cli.lines import (
    Place,
    explained,
    find_line,
    known_profiles,
    line_options,
    profiles_option,
    settings_of,
    spoken,
)
from agent.cli.options import json_option, language_option
from agent.errors import LineDown
from agent.metering.plant import Line, SerialSettings, Transport
from agent.metering.profile import Profile
from agent.protocol.scan import UNITS, USUAL_SETTINGS, Listed, Progress
from agent.protocol.survey import Extent, Found, survey
from agent.service import ports

_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass came to: who answered that had not before, and when it ended, in seconds from the start."""

    name: str
    settings: SerialSettings | None
    addresses: tuple[int | str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a scan came to, and how long it took, in seconds."""

    line: Line
    found: list[Found]
    seconds: int
    passes: tuple[Pass, ...] = ()


@click.command()
@click.argument("line_id", metavar="[LINE]", required=False)
@line_options
@click.option("--fast", is_flag=True, help="Only the fast pass: meters that answer within 26 ms.")
@click.option(
    "--slow", is_flag=True, help="The slow pass with all settings, not only where something was found."
)
@click.option(
    "--settings", multiple=True, metavar="9600-8N1", help="Only these line settings; may be repeated."
)
@click.option("--addresses", metavar="FIRST-LAST", help="Only these Modbus addresses [1-247].")
@click.option("--no-dlt645", is_flag=True, help="Do not look for DL/T 645 meters.")
@profiles_option
@language_option
@json_option
def scan(
    line_id: str | None,
    site_file: Path | None,
    device: str | None,
    host: str | None,
    transport: str | None,
    fast: bool,
    slow: bool,
    settings: tuple[str, ...],
    addresses: str | None,
    no_dlt645: bool,
    folder: Path | None,
    language: str,
    as_json: bool,
) -> None:
    """Say which meters are on a LINE, with which settings, and what model they probably are.

    Tries the eight usual line settings, all Modbus addresses and DL/T 645. Nothing is written to any meter. The agent
    must not run at the same time. A full scan takes three to ten minutes.
    """
    if fast and slow:
        raise click.UsageError("--fast and --slow exclude each other")
    place = Place(site_file, device, host, transport)
    line = find_line(place, line_id)
    profiles = known_profiles(place, folder)
    extent = Extent(
        settings=_settings(line, settings),
        units=_units(addresses),
        dlt645=not no_dlt645 and line.transport is not Transport.MODBUS_TCP,
        fast_only=fast,
        thorough=slow,
    )
    from agent.wiring import open_line

    try:
        result = asyncio.run(scan_line(open_line(line), line, extent, profiles))
    except LineDown as error:
        raise explained(error) from error
    click.echo(json.dumps(json_of(result)) if as_json else text_of(result, in_language(language)))


async def scan_line(port: ports.Line, line: Line, extent: Extent, profiles: Mapping[str, Profile]) -> Result:
    """Scan an unopened line. Raises LineDown."""
    from agent.service.scanning import converse

    await port.open()
    screen = Screen()
    try:
        found = await converse(survey(extent, profiles), port, tell=screen)
    finally:
        await port.close()
        screen.end()
    return Result(line, found, round(screen.seconds()), tuple(screen.passes))


def _settings(line: Line, given: Sequence[str]) -> tuple[SerialSettings, ...]:
    """What to try: what was asked for, else the usual ones, with the line's own in front if they are unusual."""
    if line.transport is not Transport.RS485:
        if given:
            raise click.UsageError("behind a network the gateway's own settings hold; leave --settings out")
        return ()
    if given:
        return tuple(settings_of(text) for text in given)
    own = () if line.serial in USUAL_SETTINGS else (line.serial,)
    return (*own, *USUAL_SETTINGS)


def _units(text: str | None) -> Sequence[int]:
    if text is None:
        return UNITS
    first, _, last = text.partition("-")
    if first.isdecimal() and (last or first).isdecimal():
        units = range(int(first), int(last or first) + 1)
        if units and units[0] >= UNITS[0] and units[-1] <= UNITS[-1]:
            return units
    raise click.UsageError(f'"{text}" are no Modbus addresses; write them like 1-32, within 1 to 247')


class Screen:
    """Progress on stderr: one line that is written over where there is a terminal, else one a stage.

    What a pass found is told as soon as it is over, and kept.
    """

    def __init__(self) -> None:
        self.passes: list[Pass] = []
        self._stage = ""
        self._over = sys.stderr.isatty()
        self._begun = time.monotonic()

    def seconds(self) -> float:
        """Since the search began."""
        return time.monotonic() - self._begun

    def end(self) -> None:
        """Leave the line that is written over."""
        if self._over and self._stage:
            click.echo("\r\x1b[K", err=True, nl=False)

    def __call__(self, progress: Progress | Listed) -> None:
        if isinstance(progress, Listed):
            self._list(Pass(progress.stage, progress.settings, progress.addresses, round(self.seconds(), 1)))
            return
        stage = f"{progress.stage}, {spoken(progress.settings)}"
        if self._over:
            percent = 100 * progress.done // max(1, progress.total)
            click.echo(f"\r\x1b[K{stage}: {percent} %", err=True, nl=False)
        elif stage != self._stage:
            click.echo(stage, err=True)
        self._stage = stage

    def _list(self, over: Pass) -> None:
        self.passes.append(over)
        self.end()
        who = ", ".join(map(str, over.addresses)) or "nobody"
        stage = f"{over.name}, {spoken(over.settings)}"
        click.echo(f"{stage}: over after {over.seconds} s; new addresses: {who}", err=True)


# ----------------------------------------------------------------------------------------------------------- answering


def json_of(result: Result) -> dict[str, object]:
    """The meters for programs."""
    return {
        "line": result.line.id,
        "seconds": result.seconds,
        "passes": [
            {
                "pass": one.name,
                "settings": spoken(one.settings),
                "seconds": one.seconds,
                "addresses": list(one.addresses),
            }
            for one in result.passes
        ],
        "meters": [_json_of(found) for found in result.found],
    }


def _json_of(found: Found) -> dict[str, object]:
    settings, model = found.presence.settings, found.model
    return {
        "address": found.presence.address,
        "protocol": "dlt645-2007" if isinstance(found.presence.address, str) else "modbus-rtu",
        "baud": None if settings is None else settings.baud,
        "parity": None if settings is None else settings.parity,
        "stop_bits": None if settings is None else settings.stop_bits,
        "shared": found.presence.shared,
        "serial": None if model is None else model.serial,
        "profiles": []
        if model is None
        else [
            {"id": one.profile, "named": one.named, "score": one.score, "reasons": list(one.reasons)}
            for one in model.candidates
        ],
    }


def text_of(result: Result, say: Say = ENGLISH) -> str:
    """The meters as a table, and the lines for the site file."""
    from agent.cli.summary import table_text

    if not result.found:
        return say["nobody"].format(seconds=result.seconds)
    rows = [(say["ADDRESS"], say["SETTINGS"], say["MODEL"], say["SERIAL"], "")]
    rows += [_row(found, say) for found in result.found]
    drafts = [_draft(result.line, found) for found in result.found if not found.presence.shared]
    counted = say["one meter" if len(drafts) == 1 else "meters"].format(
        count=len(drafts), seconds=result.seconds
    )
    return "\n".join([*table_text(rows), "", counted, *(f"\n{draft}" for draft in drafts)])


def _row(found: Found, say: Say) -> tuple[str, str, str, str, str]:
    address, settings = str(found.presence.address), spoken(found.presence.settings)
    if found.presence.shared or found.model is None:
        return address, settings, "-", "-", say["shared"]
    names = [one.profile for one in found.model.candidates]
    model = say["or"].join(names[:_SHOWN_MAX]) + (say["or others"] if len(names) > _SHOWN_MAX else "")
    note = ""
    if not names:
        note = say["no profile"].format(address=found.presence.address)
    elif isinstance(found.presence.address, str):
        note = say["dlt645"]
    return address, settings, model or say["unknown"], found.model.serial or "-", note


def _draft(line: Line, found: Found) -> str:
    """A meter as it would stand in the site file."""
    presence, model = found.presence, found.model
    address = f'"{presence.address}"' if isinstance(presence.address, str) else str(presence.address)
    names = [] if model is None else [one.profile for one in model.candidates]
    lines = [
        "[[meters]]",
        f'id = "meter-{presence.address}"',
        f'line = "{line.id}"',
        f"address = {address}",
        f'profile = "{names[0] if names else "?"}"',
        'step = "?"',
    ]
    if model is not None and model.serial is not None:
        lines.append(f'serial = "{model.serial}"')
    if presence.settings is not None and presence.settings != line.serial:
        lines += [
            f"baud = {presence.settings.baud}",
            f'parity = "{presence.settings.parity}"',
            f"stop_bits = {presence.settings.stop_bits}",
        ]
    return "\n".join(lines)
