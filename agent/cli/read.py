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

from agent.cli.installer import ENGLISH, Say, in_language
from agent.cli.options import json_option, language_option, site_option
from agent.errors import (
    ConfigError,
    FrameDamaged,
    LineDown,
    MeterBusy,
    MeteringError,
    MeterRefused,
    MeterSilent,
    RetryLater,
)
from agent.metering.commissioning import Look, Misordered, Order, misordered
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
@language_option
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
        raise explained_at(error, line, meter, say) from error
    doubts = misordered(meter, [look_of(0, rows)])
    if as_json:
        click.echo(json.dumps(json_of(meter, rows) | {"misordered": [json_of_order(one) for one in doubts]}))
    else:
        click.echo("\n".join([text_of(line, meter, rows, say), *(order_text(one, say) for one in doubts)]))


def find_meter(plant: Plant, meter_id: str, site_file: Path) -> Meter:
    """The meter of that id. Raises ConfigError with the nearest id where there is none."""
    for meter in plant.meters:
        if meter.id == meter_id:
            return meter
    from agent.settings.suggest import did_you_mean

    known = [meter.id for meter in plant.meters]
    remedy = did_you_mean(meter_id, known) or f"there are {', '.join(known)}"
    raise ConfigError.of(site_file, f'there is no meter "{meter_id}"', remedy, key="meters")


# ------------------------------------------------------------------------------------------------------------ reading


async def read_meter(port: ports.Line, line: Line, meter: Meter) -> list[Row]:
    """Read every register of a meter, in the order of its profile, and add up its sums.

    Registers it does not have are said so.
    """
    await port.open()
    try:
        return await read_rows(port, line, meter)
    finally:
        await port.close()


async def read_rows(port: ports.Line, line: Line, meter: Meter) -> list[Row]:
    """The same on a line that is open already."""
    rows: dict[str, Row] = {}
    for block in _blocks(line, meter):
        for row in await _read_block(port, meter, block):
            rows[row.register.name] = row
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


def rounded_text(value: Fraction, decimals: int) -> str:
    """A decimal of so many decimals at most, not marked: for what is measured anyway."""
    return decimal_text(Fraction(round(value * 10**decimals), 10**decimals))


def decimal_text(value: Fraction) -> str:
    """An exact decimal, or one of nine decimals marked with `~` where that is not exact."""
    scaled = value * 10**_DECIMALS_MAX
    digits = f"{abs(round(scaled)):0{_DECIMALS_MAX + 1}d}"
    text = f"{digits[:-_DECIMALS_MAX]}.{digits[-_DECIMALS_MAX:]}".rstrip("0").rstrip(".")
    mark = "" if scaled.denominator == 1 else "~"
    return f"{mark}{'-' if scaled < 0 else ''}{text}"


# ----------------------------------------------------------------------------------------------------------- answering


def explained_at(error: MeteringError, line: Line, meter: Meter, say: Say) -> MeteringError:
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


def look_of(at_ms: int, rows: list[Row]) -> Look:
    """What was read, as the checks of `agent.metering.commissioning` want it."""
    return Look(at_ms, {row.register.name: row.words for row in rows if row.words})


def order_text(one: Misordered, say: Say) -> str:
    """A value that cannot be, and in which order it can."""
    return say["misordered"].format(
        register=one.register,
        shown=say["no value"] if one.shown is None else f"{_roughly(one.shown)} {one.unit}".strip(),
        order=say[one.order],
        would=f"{_roughly(one.would_show)} {one.unit}".strip(),
        remedy=say["word order"] if one.order is Order.WORDS else say["byte order"],
    )


def json_of_order(one: Misordered) -> dict[str, object]:
    """The same for programs."""
    return {
        "register": one.register,
        "shown": None if one.shown is None else _roughly(one.shown),
        "order": one.order.value,
        "would_show": _roughly(one.would_show),
        "unit": one.unit,
    }


def _roughly(value: Fraction) -> str:
    """A decimal of a sane value; the power of ten of one that nobody can read."""
    size = abs(value)
    if not size or Fraction(1, 1000) <= size < 10**9:
        return rounded_text(value, 3)
    power = 0
    while size >= 10:
        size, power = size / 10, power + 1
    while size < 1:
        size, power = size * 10, power - 1
    return f"{'-' if value < 0 else ''}1e{power}"


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
