"""`metering-agent probe`: what the registers of an unknown Modbus meter mean, as a draft of a profile.

Finds the registers, watches them for a while, lets physics judge (`agent.metering.probe`), and prints the best
understanding as a profile file, to be compared with the display before it counts. It only reads.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
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
from agent.cli.scan import Screen
from agent.errors import LineDown, MeterSilent
from agent.metering.plant import Line, SerialSettings
from agent.metering.probe import Draft, rank, wants_more
from agent.metering.profile import DLT645, Profile, Register
from agent.metering.series import Snapshot
from agent.protocol.explore import CHUNK, GRID, Span, explore, watch
from agent.service import ports

MOMENTS = 11
LONGER = 16
"""At most so many times as long does it watch a meter whose counter takes few steps."""
FEW_MOMENTS = 3
SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe came to: where registers are, the ways to understand them, and what they showed last."""

    line: Line
    address: int
    settings: SerialSettings
    spans: list[Span]
    drafts: tuple[Draft, ...]
    last: Snapshot | None


@click.command()
@click.argument("place", metavar="[LINE] ADDRESS", nargs=-1, required=True)
@line_options
@click.option(
    "--settings", metavar="9600-8N1", help="The meter's line settings, as scan found them [the line's]."
)
@click.option(
    "--seconds",
    type=click.IntRange(20, 86_400),
    default=120,
    show_default=True,
    help="How long to watch; up to 16 times as long where the counter counts in coarse steps.",
)
@click.option(
    "--display-kwh", metavar="KWH", help="What the meter's display shows now: decides the last power of ten."
)
@click.option("--quick", is_flag=True, help="Look only where known meters have registers.")
@profiles_option
@language_option
@json_option
def probe(
    place: tuple[str, ...],
    site_file: Path | None,
    device: str | None,
    host: str | None,
    transport: str | None,
    settings: str | None,
    seconds: int,
    display_kwh: str | None,
    quick: bool,
    folder: Path | None,
    language: str,
    as_json: bool,
) -> None:
    """Find out what the registers of the unknown Modbus meter at ADDRESS of a LINE mean, and print a draft profile.

    The load has to change while it watches: switch something on and off. Nothing is written to the meter. The agent
    must not run at the same time.
    """
    line_id, address = _where(place)
    where = Place(site_file, device, host, transport)
    line = find_line(where, line_id)
    likely = likely_places(known_profiles(where, folder))
    own = line.serial if settings is None else settings_of(settings)
    from agent.wiring import open_line

    try:
        result = asyncio.run(
            probe_meter(
                open_line(line),
                line,
                address,
                own,
                likely,
                pause_ms=seconds * 1000 // (MOMENTS - 1),
                display_kwh=_kwh(display_kwh),
                step=0 if quick else GRID,
            )
        )
    except LineDown as error:
        raise explained(error) from error
    if not result.spans:
        raise MeterSilent(
            f"line {line.id}, address {address}: no register could be read; nobody is there with {spoken(own)}, or it "
            "does not speak Modbus; run scan to see who is there, and give --settings as scan found them"
        )
    click.echo(json.dumps(json_of(result)) if as_json else text_of(result, in_language(language)))
    if not result.drafts:
        click.get_current_context().exit(1)


async def probe_meter(
    port: ports.Line,
    line: Line,
    address: int,
    settings: SerialSettings,
    likely: Sequence[tuple[int, int]],
    *,
    pause_ms: int,
    display_kwh: Fraction | None = None,
    step: int = GRID,
) -> Result:
    """Probe one meter of an unopened line; `likely` are the functions and addresses tried first. Raises LineDown."""
    from agent.service.scanning import converse

    screen = Screen()
    await port.open()
    try:
        spans = await converse(explore(address, settings, likely=likely, step=step), port, tell=screen)
        snapshots: list[Snapshot] = []
        drafts: tuple[Draft, ...] = ()
        times = MOMENTS
        while spans:
            watching = watch(address, settings, spans, times=times, pause_ms=pause_ms, before=snapshots)
            snapshots = await converse(watching, port, tell=screen)
            drafts = rank(snapshots, display_kwh=display_kwh) if len(snapshots) >= FEW_MOMENTS else ()
            times = len(snapshots)
            if 2 * times > LONGER * MOMENTS or not wants_more(snapshots, drafts):
                break
    finally:
        await port.close()
        screen.end()
    return Result(line, address, settings, spans, drafts, snapshots[-1] if snapshots else None)


def likely_places(profiles: Mapping[str, Profile]) -> list[tuple[int, int]]:
    """Where the known meters keep what every meter has."""
    return sorted(
        {
            (register.function, register.address)
            for profile in profiles.values()
            if profile.protocol != DLT645
            for register in profile.registers.values()
        }
    )


def _where(place: Sequence[str]) -> tuple[str | None, int]:
    if len(place) > 2 or not place[-1].isdecimal() or not 1 <= int(place[-1]) <= 247:
        raise click.UsageError("say which meter: probe LINE ADDRESS, with an address from 1 to 247")
    return (place[0] if len(place) == 2 else None), int(place[-1])


def _kwh(text: str | None) -> Fraction | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is None or not Fraction(text):
        raise click.UsageError(f'"{text}" is no energy in kWh, such as 1234.5')
    return Fraction(text)


# ----------------------------------------------------------------------------------------------------------- answering


def json_of(result: Result) -> dict[str, object]:
    """The understandings for programs, best first."""
    return {
        "line": result.line.id,
        "address": result.address,
        "spans": [
            {"function": one.function, "address": one.address, "count": one.count} for one in result.spans
        ],
        "drafts": [
            {
                "score": draft.score,
                "display_kwh": _decimal(draft.display_kwh),
                "reasons": list(draft.reasons),
                "registers": {name: _json_of(register) for name, register in draft.registers.items()},
            }
            for draft in result.drafts[:SHOWN_MAX]
        ],
    }


def _json_of(register: Register) -> dict[str, object]:
    return {
        "address": register.address,
        "function": register.function,
        "type": register.type.value,
        "word_order": "low-first" if register.low_word_first else "high-first",
        "unit": register.unit,
        "per_count": _decimal(register.per_count),
    }


def text_of(result: Result, say: Say = ENGLISH) -> str:
    """The best understanding as a profile file, with what to do next."""
    count = sum(span.count for span in result.spans)
    if not result.drafts or result.last is None:
        return say["nothing understood"].format(count=count)
    best = result.drafts[0]
    lines = [
        say["draft"].format(count=count, address=result.address, understood=len(best.registers)),
        *(f"# - {reason}" for reason in best.reasons),
        *([say["coarse"]] if best.is_coarse else []),
        say["display"].format(kwh=_decimal(best.display_kwh)),
    ]
    lines += [_other(draft, say) for draft in result.drafts[1:SHOWN_MAX]]
    return "\n".join([*lines, profile_text(best, result)])


def _other(draft: Draft, say: Say) -> str:
    energy = draft.registers["energy_import"]
    return say["less likely"].format(
        place=f"0x{energy.address:04X}",
        type=energy.type,
        order=say["low first" if energy.low_word_first else "high first"],
        kwh=_decimal(draft.display_kwh),
    )


def profile_text(draft: Draft, result: Result) -> str:
    """A profile that loads, with what the registers showed last as examples."""
    assert result.last is not None
    settings = result.settings
    phases = sum(1 for name in draft.registers if name.startswith("voltage_"))
    parts = [
        'maker = "?"',
        'model = "?"',
        'manual = "?"',
        'protocol = "modbus-rtu"',
        f"phases = {phases}",
        f"read_limit = {CHUNK}",
        "confidence = 1",
        'sources = ["metering-agent probe"]',
        "",
        "[serial]",
        f"baud = {settings.baud}",
        f'parity = "{settings.parity}"',
        f"stop_bits = {settings.stop_bits}",
    ]
    for name, register in draft.registers.items():
        parts += [
            "",
            f"[registers.{name}]",
            f"address = 0x{register.address:04X}",
            f"function = {register.function}",
        ]
        parts.append(f'type = "{register.type}"')
        parts += ['word_order = "low-first"'] if register.low_word_first else []
        parts += [
            f'unit = "{register.unit}"',
            f'per_count = "{_decimal(register.per_count)}"',
            'side = "primary"',
        ]
    for name, register in draft.registers.items():
        parts += ["", "[[examples]]", f'register = "{name}"', *_example(register, result.last)]
    return "\n".join(parts)


def _example(register: Register, last: Snapshot) -> tuple[str, str]:
    from agent.metering.decode import NoValue, decode

    words = [last.words[register.function, register.address + place] for place in range(register.words)]
    value = decode(register, words)
    assert not isinstance(value, NoValue | str)
    listed = ", ".join(f'"{word:04X}"' for word in words)
    return f"words = [{listed}]", f'reads = "{_decimal(value * register.per_count)}"'


def _decimal(value: Fraction | int) -> str:
    from agent.settings.profiles import exact_text

    return exact_text(value)
