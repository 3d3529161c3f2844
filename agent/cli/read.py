"""`metering-agent read`: one meter, once, through the real line; the installer's first proof that a wire is right.

It uses the same line, the same reads and the same decoding as the service, so that what it shows is what will be
booked. The port is claimed alone: while the service runs, the service has it.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import click

from agent.cli.installer import ENGLISH, Say, in_language, lang_option
from agent.cli.options import json_option, site_option
from agent.errors import (
    ConfigError,
    Fault,
    FrameDamaged,
    LineDown,
    MeterBusy,
    MeteringError,
    MeterRefused,
    MeterSilent,
    RetryLater,
)
from agent.metering.decode import NoValue, decode
from agent.metering.plan import Block, BusCost, bisect, plan_for
from agent.metering.plant import Line, Meter, Plant, SerialSettings, Transport
from agent.metering.profile import Quantity, SerialDefaults, Sum
from agent.service import ports
from agent.service.requests import block_request

REPLY_MS = 1_000
"""Longest wait for an answer: a person waits, and a slow meter shall be seen."""

ATTEMPTS = 3
"""So often is a read tried before its failure is believed; noise on a long line damages one frame now and then."""

NOT_THERE = (2, 3)
"""Exceptions with which meters answer for registers they do not have (illegal data address, illegal data value)."""

_TURNAROUND_NS = 10_000_000
_DECIMALS_MAX = 9


@dataclass(frozen=True, slots=True)
class Row:
    """One register or sum as it was read. `value` is None where the meter has no value, and `note` says why."""

    register: Quantity
    words: tuple[int, ...]
    value: str | None
    note: str


@click.command()
@site_option
@click.argument("meter_id", metavar="METER")
@lang_option
@json_option
def read(site_file: Path, meter_id: str, language: str, as_json: bool) -> None:
    """Read one METER of the site file once and show every register: words, value, unit.

    Energy and power are shown behind CT and PT, as they will be booked. "~" marks a value that is rounded here; what
    is booked is made from the words themselves.
    """
    from agent.settings.site import load_site

    say = in_language(language)
    site = load_site(site_file)
    meter = find_meter(site.plant, meter_id, site_file)

    from agent.wiring import open_line

    line = next(line for line in site.plant.lines if line.id == meter.line)
    try:
        rows = asyncio.run(read_meter(open_line(line), line, meter))
    except MeteringError as error:
        raise _explained(error, line, meter, say) from error
    click.echo(json.dumps(json_of(meter, rows)) if as_json else text_of(line, meter, rows, say))


def find_meter(plant: Plant, meter_id: str, site_file: Path) -> Meter:
    """The meter of that id. Raises ConfigError with the nearest id where there is none."""
    for meter in plant.meters:
        if meter.id == meter_id:
            return meter
    from agent.settings.suggest import did_you_mean

    known = [meter.id for meter in plant.meters]
    remedy = did_you_mean(meter_id, known) or f"there are {', '.join(known)}"
    raise ConfigError([Fault(str(site_file), None, "meters", f'there is no meter "{meter_id}"', remedy)])


# ------------------------------------------------------------------------------------------------------------ reading


async def read_meter(port: ports.Line, line: Line, meter: Meter) -> list[Row]:
    """Read every register of a meter, in the order of its profile, and add up its sums.

    Registers it does not have are said so.
    """
    await port.open()
    try:
        rows: dict[str, Row] = {}
        for block in _blocks(line, meter):
            for row in await _read_block(port, meter, block):
                rows[row.register.name] = row
    finally:
        await port.close()
    totals = [_total(meter, total, rows) for total in meter.profile.sums.values()]
    return [*(rows[name] for name in meter.profile.registers), *totals]


def _total(meter: Meter, total: Sum, rows: Mapping[str, Row]) -> Row:
    """The sum of registers that were read before."""
    parts = [rows[part.name] for part in total.parts]
    names = " + ".join(part.name for part in total.parts)
    if not all(part.words for part in parts):
        return Row(total, (), None, f"the meter does not have all of {names}")
    row = _row(meter, total, tuple(word for part in parts for word in part.words))
    return replace(row, words=(), note=f"{names}{f'; {row.note}' if row.note else ''}")


def _blocks(line: Line, meter: Meter) -> tuple[Block, ...]:
    profile = meter.profile
    cost = BusCost.serial(meter.serial_settings or line.serial, _TURNAROUND_NS, profile.quiet_ms)
    wanted = list(profile.registers.values())
    return plan_for(profile, wanted, cost)


async def _read_block(port: ports.Line, meter: Meter, block: Block) -> list[Row]:
    """The rows of one block; where the meter refuses the block, those of its halves."""
    try:
        reply = await _patiently(port, meter, block)
    except MeterRefused as error:
        if error.code not in NOT_THERE:
            raise
        halves = bisect(block, alignment=meter.profile.alignment)
        if len(halves) == 1:
            note = f"the meter does not have it (exception {error.code})"
            return [Row(register, (), None, note) for register in block.registers]
        return [row for half in halves for row in await _read_block(port, meter, half)]
    return [_row(meter, register, block.words_of(register, reply.words)) for register in block.registers]


async def _patiently(port: ports.Line, meter: Meter, block: Block) -> ports.Reply:
    request = block_request(meter, block)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await port.read(
                request, timeout_ms=REPLY_MS, quiet_ms=meter.profile.quiet_ms, settings=meter.serial_settings
            )
        except LineDown:
            raise
        except RetryLater:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _row(meter: Meter, register: Quantity, words: tuple[int, ...]) -> Row:
    decoded = decode(register, words)
    match decoded:
        case NoValue():
            return Row(register, words, None, decoded.reason)
        case str():
            return Row(register, words, decoded, "")
    ratio = transformer_ratio(meter, register)
    note = "" if ratio == 1 else f"CT/PT x {ratio}"
    return Row(register, words, decimal_text(decoded * register.per_count * ratio), note)


def transformer_ratio(meter: Meter, register: Quantity) -> Fraction:
    """By how much a register that counts behind the transformers is to be multiplied."""
    if not register.secondary:
        return Fraction(1)
    match register.unit:
        case "V":
            return meter.pt_ratio
        case "A":
            return meter.ct_ratio
    return meter.ct_ratio * meter.pt_ratio


def decimal_text(value: Fraction) -> str:
    """An exact decimal, or one of nine decimals marked with `~` where that is not exact."""
    scaled = value * 10**_DECIMALS_MAX
    digits = f"{abs(round(scaled)):0{_DECIMALS_MAX + 1}d}"
    text = f"{digits[:-_DECIMALS_MAX]}.{digits[-_DECIMALS_MAX:]}".rstrip("0").rstrip(".")
    mark = "" if scaled.denominator == 1 else "~"
    return f"{mark}{'-' if scaled < 0 else ''}{text}"


# ----------------------------------------------------------------------------------------------------------- answering


def _explained(error: MeteringError, line: Line, meter: Meter, say: Say) -> MeteringError:
    """The same kind of error, with the meter's name and what to do next."""
    if isinstance(error, LineDown):
        busy = " in use" in str(error)
        advice = "; if the agent itself runs, stop it first (systemctl stop metering-agent)" if busy else ""
        return LineDown(f"{error}{advice}")
    place = say["place"].format(line=line.id, address=meter.address, meter=meter.id)
    if isinstance(error, MeterRefused):
        told = say["refused"].format(place=place, reason=error, profile=meter.profile.id)
        return MeterRefused(told, error.code)
    if isinstance(error, MeterSilent):
        advice = _silence_advice(line, meter, say)
        return MeterSilent(say["silent"].format(place=place, tries=ATTEMPTS, advice=advice))
    if isinstance(error, FrameDamaged):
        return FrameDamaged(say["damaged"].format(place=place, reason=error, address=meter.address))
    if isinstance(error, MeterBusy):
        return MeterBusy(say["busy"].format(place=place, tries=ATTEMPTS))
    return error


def _silence_advice(line: Line, meter: Meter, say: Say) -> str:
    if line.transport is Transport.MODBUS_TCP:
        return say["check gateway"].format(address=meter.address)
    settings, factory = meter.serial_settings or line.serial, meter.profile.serial_defaults
    origin = say["factory"].format(settings=_spoken(factory, say)) if factory.stated else say["no factory"]
    return say["check meter"].format(address=meter.address, settings=_spoken(settings, say), origin=origin)


def _spoken(settings: SerialSettings | SerialDefaults, say: Say) -> str:
    stop = say["one stop bit" if settings.stop_bits == 1 else "two stop bits"]
    return say["serial settings"].format(baud=settings.baud, parity=settings.parity, stop=stop)


def json_of(meter: Meter, rows: list[Row]) -> dict[str, object]:
    """The registers for programs; words as four hex digits each, values as exact decimal text."""
    return {
        "meter": meter.id,
        "line": meter.line,
        "address": meter.address,
        "profile": meter.profile.id,
        "registers": {
            row.register.name: {
                "words": [f"{word:04X}" for word in row.words],
                "value": row.value,
                "unit": row.register.unit,
                "note": row.note,
            }
            for row in rows
        },
    }


def text_of(line: Line, meter: Meter, rows: list[Row], say: Say = ENGLISH) -> str:
    """The registers as a table, for an installer's screen."""
    from agent.cli.summary import table_text

    head = (say["REGISTER"], say["WORDS"], say["VALUE"], say["UNIT"], "")
    cells = [
        (
            row.register.name,
            " ".join(f"{word:04X}" for word in row.words),
            "-" if row.value is None else row.value,
            row.register.unit if row.value is not None else "",
            row.note,
        )
        for row in rows
    ]
    title = say["meter"].format(
        meter=meter.id,
        maker=meter.profile.maker,
        model=meter.profile.model,
        address=meter.address,
        line=line.id,
    )
    return "\n".join([title, "", *table_text([head, *cells])])
