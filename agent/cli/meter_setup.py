"""`metering-agent meter-setup`: give one meter another address, speed or framing; new meters all arrive at address 1.

The only command that writes to a meter, and apart from everything else: only documented settings of known models
(`config/meter_setup.toml`), one setting of one meter, only where exactly one meter answers and nobody has the new
address, after a question, read back, and logged.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from agent.cli.lines import Place, explained, find_line, line_options, settings_of, spoken
from agent.cli.options import json_option
from agent.errors import (
    ConfigError,
    Fault,
    LineDown,
    MeterRefused,
    MeterSilent,
    Refused,
    RetryLater,
)
from agent.metering.decode import NoValue, decode
from agent.metering.plant import Line, SerialSettings, Transport
from agent.metering.profile import Profile, Quantity
from agent.protocol.dlt645 import DltRequest, address_bytes
from agent.protocol.pdu import ReadRequest
from agent.protocol.scan import SLOW, Presence, search
from agent.protocol.writing import Command, SwitchToModbus, Write
from agent.service import ports

ATTEMPTS = 3
REPLY_MS = 600
SETTLE_S = 1.0
"""A meter that has a new setting may need a moment before it listens."""
_FORWARD_TOTAL, _TOTAL_BYTES = 0x0001_0000, 4


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of one meter, from what to what. `after` is where the meter is to be found then."""

    parameter: str
    before: str
    value: str
    address: int | str
    settings: SerialSettings
    after_address: int | str
    after_settings: SerialSettings


@dataclass(frozen=True, slots=True)
class Witness:
    """What a meter showed of itself, so that it is known again: serial number and raw energy register."""

    serial: str | None
    energy: str


@click.command("meter-setup")
@click.argument("line_id", metavar="[LINE]", required=False)
@line_options
@click.option(
    "--address",
    "where",
    required=True,
    metavar="ADDRESS",
    help="Where the meter is now: 1-247, or 12 digits.",
)
@click.option(
    "--settings", metavar="9600-8N1", help="Its line settings now, as scan found them [the line's]."
)
@click.option("--profile", "profile_id", metavar="PROFILE", help="Its model, as scan found it.")
@click.option("--new-address", type=click.IntRange(1, 247), help="Give it this address.")
@click.option("--new-baud", metavar="BAUD", help="Give it this speed.")
@click.option("--new-framing", metavar="8N1", help="Give it this framing.")
@click.option("--to-modbus", is_flag=True, help="Make a Chint meter that speaks DL/T 645 speak Modbus.")
@click.option(
    "--log", "log_file", type=click.Path(path_type=Path), default=Path("meter-setup.log"), show_default=True
)
@click.option("--yes", is_flag=True, help="Do not ask; for tools that have asked already.")
@json_option
def meter_setup(
    line_id: str | None,
    site_file: Path | None,
    device: str | None,
    host: str | None,
    transport: str | None,
    where: str,
    settings: str | None,
    profile_id: str | None,
    new_address: int | None,
    new_baud: str | None,
    new_framing: str | None,
    to_modbus: bool,
    log_file: Path,
    yes: bool,
    as_json: bool,
) -> None:
    """Give the meter at --address of a LINE another address, speed or framing. This WRITES to the meter.

    One setting at a time, and only to models whose maker documents it. Connect only the meter that is to be changed,
    or be sure that no other one has its address. Every attempt is logged.
    """
    line = find_line(Place(site_file, device, host, transport), line_id)
    if line.transport is Transport.MODBUS_TCP:
        raise click.UsageError(
            "a Modbus TCP gateway stands between; connect the meter to a serial adapter for this"
        )
    own = line.serial if settings is None else settings_of(settings)
    asked = [
        (name, str(value))
        for name, value in (("address", new_address), ("baud", new_baud), ("framing", new_framing))
        if value is not None
    ] + ([("protocol", "modbus")] if to_modbus else [])
    if len(asked) != 1:
        raise click.UsageError("say one of --new-address, --new-baud, --new-framing and --to-modbus")
    profile = None if to_modbus else _profile(profile_id)
    change, command, advice = planned(line, where, own, profile, *asked[0])
    try:
        outcome = asyncio.run(carry_out(line, change, command, profile, advice, log_file, ask=not yes))
    except LineDown as error:
        raise explained(error) from error
    told = {"parameter": change.parameter, "from": change.before, "to": change.value, "result": outcome}
    click.echo(json.dumps(told) if as_json else outcome)


# ------------------------------------------------------------------------------------------------ what is to be written


def _profile(profile_id: str | None) -> Profile:
    """A profile whose settings may be written. Raises ConfigError where there is none."""
    from agent.resources import config_path
    from agent.settings.metersetup import load_settable
    from agent.settings.profiles import load_profile
    from agent.settings.suggest import did_you_mean

    known = load_settable()
    if profile_id is None or profile_id not in known:
        remedy = did_you_mean(profile_id or "", known) or f"known are {', '.join(known)}"
        reason = "say --profile" if profile_id is None else f'nothing may be written to "{profile_id}"'
        raise ConfigError([Fault("meter_setup.toml", None, "profiles", reason, remedy)])
    return load_profile(config_path("profiles") / f"{profile_id}.toml")


def planned(
    line: Line, where: str, own: SerialSettings, profile: Profile | None, parameter: str, value: str
) -> tuple[Change, Command, str]:
    """The change, its frame, and what a person has to do before."""
    if profile is None:
        return _planned_switch(where, own)
    from agent.settings.metersetup import load_settable

    if not where.isdecimal() or not 1 <= int(where) <= 247:
        raise click.UsageError(f'"{where}" is no Modbus address from 1 to 247')
    unit, model = int(where), load_settable()[profile.id]
    setting = model.settings.get(parameter)
    if setting is None:
        raise click.UsageError(f"no source says how to set the {parameter} of {profile.id}")
    try:
        words = setting.words(value)
        change = _change(parameter, value, unit, own)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    advice = model.preparation
    return change, Write(unit, setting.register.address, words), advice


def _change(parameter: str, value: str, unit: int, own: SerialSettings) -> Change:
    now = Change(parameter, "", value, unit, own, unit, own)
    if parameter == "address":
        return replace(now, before=str(unit), after_address=int(value))
    if parameter == "baud":
        return replace(now, before=str(own.baud), after_settings=replace(own, baud=int(value)))
    return replace(now, before=spoken(own).split()[1], after_settings=settings_of(f"{own.baud}-{value}"))


def _planned_switch(where: str, own: SerialSettings) -> tuple[Change, Command, str]:
    from agent.settings.metersetup import load_switch

    try:
        address_bytes(where)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not where.isdecimal():
        raise click.UsageError("name the one meter by its 12 digits; a wildcard would mean all of them")
    switch = load_switch()
    command = SwitchToModbus(where, switch.identifier, switch.password, switch.operator, switch.data)
    return (
        Change("protocol", "dlt645", "modbus", where, own, where, own),
        command,
        "only Chint meters know this",
    )


# ------------------------------------------------------------------------------------------------------- doing it


async def carry_out(
    line: Line,
    change: Change,
    command: Command,
    profile: Profile | None,
    advice: str,
    log_file: Path,
    *,
    ask: bool,
) -> str:
    """Look, ask, write, read back, log. Raises what went wrong, after it is logged."""
    from agent.adapters.meter_writer import write_setting

    before = await _look_first(line, change, profile)
    if ask:
        click.echo(_question(line, change, before, advice), err=True)
        click.confirm("Write this to the meter?", abort=True, err=True)
    try:
        await write_setting(line, change.settings, command)
        outcome = await _read_back(line, change, profile, before)
    except (RetryLater, Refused) as error:
        _log(log_file, line, change, before, f"failed: {error}")
        raise
    _log(log_file, line, change, before, outcome)
    return outcome


def _question(line: Line, change: Change, before: Witness, advice: str) -> str:
    lines = [
        f"meter at {change.address} of line {line.id}, {spoken(change.settings)}",
        f"  serial number {before.serial or 'not readable'}, energy register {before.energy}",
        f"  {change.parameter}: {change.before} -> {change.value}",
    ]
    return "\n".join([*lines, *([f"  first: {advice}"] if advice else [])])


async def _look_first(line: Line, change: Change, profile: Profile | None) -> Witness:
    """Exactly one meter is where it is said to be, it is that model, and nobody has its new address."""
    from agent.service.scanning import converse
    from agent.wiring import open_line

    port = open_line(line)
    await port.open()
    try:
        if isinstance(change.address, int):
            there = await converse(
                search([change.settings], SLOW, units=[change.address], dlt645=False), port
            )
            _check_alone(there, change)
            if change.after_address != change.address and isinstance(change.after_address, int):
                taken = search([change.settings], SLOW, units=[change.after_address], dlt645=False)
                if await converse(taken, port):
                    raise Refused(
                        f"address {change.after_address} is taken on line {line.id}; choose another"
                    )
        return await _witness(port, change.address, change.settings, profile)
    finally:
        await port.close()


def _check_alone(there: list[Presence], change: Change) -> None:
    if not there:
        raise MeterSilent(f"no meter answers at {change.address} with {spoken(change.settings)}; run scan")
    if there[0].shared:
        raise Refused(
            f"two or more meters answer at address {change.address}: all of them would take the new setting; "
            "disconnect all but one"
        )


async def _read_back(line: Line, change: Change, profile: Profile | None, before: Witness) -> str:
    """Whether the meter is found where it should be now, and is the same."""
    from agent.wiring import open_line

    if profile is None:
        return "the meter confirms; it speaks Modbus now, usually after power off and on: run scan"
    await asyncio.sleep(SETTLE_S)
    port = open_line(line)
    await port.open()
    try:
        try:
            after = await _witness(port, change.after_address, change.after_settings, profile)
        except RetryLater:
            return "the meter confirms, and does not answer there yet: switch its power off and on, then look with scan"
    finally:
        await port.close()
    if after.serial != before.serial:
        raise Refused(
            f"another meter answers at {change.after_address}: serial number {after.serial}, not {before.serial}"
        )
    return f"done: it answers at {change.after_address} with {spoken(change.after_settings)}"


async def _witness(
    port: ports.Line, address: int | str, settings: SerialSettings, profile: Profile | None
) -> Witness:
    """Serial number and energy register. Raises what a read raises."""
    if profile is None or isinstance(address, str):
        request = DltRequest(str(address), _FORWARD_TOTAL, _TOTAL_BYTES)
        reply = await _patiently(port, request, settings)
        return Witness(str(address), " ".join(f"{word:04X}" for word in reply.words))
    serial = None
    if profile.identity is not None:
        try:
            serial = await _value(port, address, settings, profile.registers[profile.identity])
        except MeterRefused:
            serial = None
    energy = await _value(port, address, settings, profile.energy)
    return Witness(serial, energy or "no value")


async def _value(port: ports.Line, unit: int, settings: SerialSettings, quantity: Quantity) -> str | None:
    words: list[int] = []
    for part in quantity.parts:
        request = ReadRequest(unit, part.function, part.address, part.words)
        words += (await _patiently(port, request, settings)).words
    value = decode(quantity, words)
    return None if isinstance(value, NoValue) or value == 0 else str(value)


async def _patiently(
    port: ports.Line, request: ReadRequest | DltRequest, settings: SerialSettings
) -> ports.Reply:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await port.read(request, timeout_ms=REPLY_MS, settings=settings)
        except LineDown:
            raise
        except RetryLater:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _log(log_file: Path, line: Line, change: Change, before: Witness, result: str) -> None:
    """One line of JSON for every attempt; raises ConfigError where it cannot be written."""
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "line": line.id,
        "address": change.address,
        "settings": spoken(change.settings),
        "serial": before.serial,
        "energy": before.energy,
        "parameter": change.parameter,
        "from": change.before,
        "to": change.value,
        "result": result,
    }
    try:
        with log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        reason = f"the log cannot be written: {error.strerror}; the meter was already asked: {result}"
        raise ConfigError([Fault(str(log_file), None, "", reason, "name another file with --log")]) from None
