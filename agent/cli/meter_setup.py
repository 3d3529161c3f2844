"""`metering-agent meter-setup`: give one meter another address, speed, framing or language.

New meters all arrive at address 1, and those of Chint speaking DL/T 645. This is the only command that writes to a
meter, and apart from everything else: only documented settings of known models (`config/meter_setup.toml`), one setting
of one meter, only where exactly one meter answers, its register shows what it is set to now, and nobody has the new
address; after a question, read back, and logged.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from agent.cli.installer import ENGLISH, Say, in_language
from agent.cli.lines import Place, explained, find_line, line_options, settings_of, spoken
from agent.cli.options import json_option, language_option
from agent.errors import (
    ConfigError,
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
from agent.protocol.scan import SLOW, Dialogue, Presence, search
from agent.protocol.writing import Command, SwitchToModbus, Write
from agent.service import ports
from agent.settings.metersetup import Setting

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
class Order:
    """How the change is told to the meter: a register of its own, or the frame that makes a Chint meter speak Modbus.

    `advice` is what a person has to do before; it may be empty.
    """

    setting: Setting | None
    switch: SwitchToModbus | None
    advice: str


@dataclass(frozen=True, slots=True)
class Witness:
    """What a meter showed of itself, so that it is known again: serial number and raw energy register."""

    serial: str | None
    energy: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change: the code of a sentence, and what goes into it."""

    code: str
    address: int | str = ""
    settings: str = ""
    language: str = ""

    def told(self, say: Say) -> str:
        """The sentence."""
        return say[self.code].format(address=self.address, settings=self.settings, language=self.language)


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
@click.option("--to-dlt645", is_flag=True, help="Make a Chint meter that speaks Modbus speak DL/T 645 again.")
@click.option(
    "--log", "log_file", type=click.Path(path_type=Path), default=Path("meter-setup.log"), show_default=True
)
@click.option("--yes", is_flag=True, help="Do not ask; for tools that have asked already.")
@language_option
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
    to_dlt645: bool,
    log_file: Path,
    yes: bool,
    language: str,
    as_json: bool,
) -> None:
    """Give the meter at --address of a LINE another address, speed, framing or language. This WRITES to the meter.

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
    ]
    asked += [("protocol", "modbus")] if to_modbus else []
    asked += [("protocol", "dlt645")] if to_dlt645 else []
    if len(asked) != 1:
        raise click.UsageError(
            "say one of --new-address, --new-baud, --new-framing, --to-modbus and --to-dlt645"
        )
    profile = None if to_modbus else _profile(profile_id)
    change, order = planned(where, own, profile, *asked[0])
    try:
        say = ENGLISH if as_json else in_language(language)
        outcome = asyncio.run(carry_out(line, change, order, profile, log_file, ask=not yes, say=say))
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
        reason = (
            "say which model it is with --profile"
            if profile_id is None
            else f'nothing may be written to "{profile_id}": no source says how; use its buttons'
        )
        raise ConfigError.of("meter-setup", reason, remedy, key="--profile")
    return load_profile(config_path("profiles") / f"{profile_id}.toml")


def planned(
    where: str, own: SerialSettings, profile: Profile | None, parameter: str, value: str
) -> tuple[Change, Order]:
    """The change, and how the meter is told. Raises a usage error where it cannot be told."""
    if profile is None:
        return _planned_switch(where, own)
    from agent.settings.metersetup import load_settable

    if not where.isdecimal() or not 1 <= int(where) <= 247:
        raise click.UsageError(f'"{where}" is no Modbus address from 1 to 247')
    unit, model = int(where), load_settable()[profile.id]
    setting = model.settings.get(parameter)
    if setting is None:
        known = ", ".join(model.settings)
        raise click.UsageError(
            f"no source says how to set the {parameter} of {profile.id}; what can be set is {known}"
        )
    try:
        setting.number(value)
        change = _change(parameter, value, unit, own)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return change, Order(setting, None, model.preparation)


def _change(parameter: str, value: str, unit: int, own: SerialSettings) -> Change:
    now = Change(parameter, "", value, unit, own, unit, own)
    if parameter == "address":
        return replace(now, before=str(unit), after_address=int(value))
    if parameter == "protocol":
        return replace(now, before="modbus")
    if parameter == "baud":
        return replace(now, before=str(own.baud), after_settings=replace(own, baud=int(value)))
    return replace(now, before=spoken(own).split()[1], after_settings=settings_of(f"{own.baud}-{value}"))


def _planned_switch(where: str, own: SerialSettings) -> tuple[Change, Order]:
    from agent.settings.metersetup import load_switch

    try:
        address_bytes(where)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not where.isdecimal():
        raise click.UsageError("name the one meter by its 12 digits; a wildcard would mean all of them")
    switch = load_switch()
    command = SwitchToModbus(where, switch.identifier, switch.password, switch.operator, switch.data)
    change = Change("protocol", "dlt645", "modbus", where, own, where, own)
    return change, Order(None, command, "only Chint meters know this")


# ------------------------------------------------------------------------------------------------------- doing it


async def carry_out(
    line: Line,
    change: Change,
    order: Order,
    profile: Profile | None,
    log_file: Path,
    *,
    ask: bool,
    say: Say = ENGLISH,
) -> str:
    """Look, ask, write, read back, log (always in English). Raises what went wrong, after it is logged."""
    from agent.adapters.meter_writer import write_setting

    before, command = await _look_first(line, change, order, profile)
    if ask:
        click.echo(_question(line, change, before, order.advice, say), err=True)
        click.confirm(say["write?"], abort=True, err=True)
    try:
        await write_setting(line, change.settings, command)
        outcome = await _read_back(line, change, profile, before)
    except (RetryLater, Refused) as error:
        _log(log_file, line, change, before, f"failed: {error}")
        raise
    except asyncio.CancelledError:
        _log(log_file, line, change, before, "interrupted: it may have taken the setting; look with scan")
        raise
    _log(log_file, line, change, before, outcome.told(ENGLISH))
    return outcome.told(say)


def _question(line: Line, change: Change, before: Witness, advice: str, say: Say) -> str:
    lines = [
        say["found"].format(address=change.address, line=line.id, settings=spoken(change.settings)),
        say["shows"].format(serial=before.serial or say["not readable"], energy=before.energy),
        f"  {change.parameter}: {change.before} -> {change.value}",
    ]
    return "\n".join([*lines, *([say["first"].format(advice=advice)] if advice else [])])


async def _look_first(
    line: Line, change: Change, order: Order, profile: Profile | None
) -> tuple[Witness, Command]:
    """Exactly one meter is where it is said to be, it is that model, and nobody has its new address.

    What it showed of itself, and the command to send.
    """
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
        try:
            before = await _witness(port, change.address, change.settings, profile)
        except MeterRefused as error:
            model = "Chint meter" if profile is None else profile.id
            raise Refused(f"{error}, so it is probably no {model}; nothing was written") from None
        return before, await _command(port, change, order)
    finally:
        await port.close()


async def _command(port: ports.Line, change: Change, order: Order) -> Command:
    """The frame to send. Refused where the register to be written does not show what the meter is set to now."""
    if order.switch is not None:
        return order.switch
    setting = order.setting
    if setting is None or not isinstance(change.address, int):
        raise AssertionError("a register is written to a meter that speaks Modbus")
    register, unit = setting.register, change.address
    try:
        request = ReadRequest(unit, register.function, register.address, register.words)
        present = (await _patiently(port, request, change.settings)).words
    except MeterRefused as error:
        raise Refused(
            f"the meter has no register {register.address} for its {change.parameter} ({error}), so it is probably "
            "another model; nothing was written"
        ) from None
    expected = None if change.parameter == "protocol" else setting.number(change.before)
    if expected is not None and setting.shown(present) != expected:
        shown = " ".join(f"{word:04X}" for word in present)
        raise Refused(
            f"register {register.address} shows {shown} and not the {change.parameter} {change.before} at which the "
            "meter answers, so it is probably another model; nothing was written"
        )
    return Write(unit, register.address, setting.words(change.value, present), setting.function)


def _check_alone(there: list[Presence], change: Change) -> None:
    if not there:
        raise MeterSilent(f"no meter answers at {change.address} with {spoken(change.settings)}; run scan")
    if there[0].shared:
        raise Refused(
            f"two or more meters answer at address {change.address}: all of them would take the new setting; "
            "disconnect all but one"
        )


async def _read_back(line: Line, change: Change, profile: Profile | None, before: Witness) -> Outcome:
    """Whether the meter is found where it should be now, and is the same."""
    from agent.wiring import open_line

    await asyncio.sleep(SETTLE_S)
    port = open_line(line)
    await port.open()
    try:
        if change.parameter == "protocol":
            return await _read_back_protocol(port, change, profile)
        try:
            after = await _witness(port, change.after_address, change.after_settings, profile)
        except RetryLater:
            return Outcome("power off")
    finally:
        await port.close()
    if after.serial != before.serial:
        raise Refused(
            f"another meter answers at {change.after_address}: serial number {after.serial}, not {before.serial}"
        )
    return Outcome("done", change.after_address, spoken(change.after_settings))


async def _is_heard(port: ports.Line, change: Change, profile: Profile | None) -> bool:
    """Whether the meter still answers as it did before the change; silence and nonsense both mean that it does not."""
    try:
        await _witness(port, change.address, change.settings, profile)
    except (RetryLater, Refused):
        return False
    return True


async def _read_back_protocol(port: ports.Line, change: Change, profile: Profile | None) -> Outcome:
    """Whether the meter is silent in its old language and answers in the new one."""
    from agent.service.scanning import converse

    told = "DL/T 645" if change.value == "dlt645" else "Modbus"
    if await _is_heard(port, change, profile):
        return Outcome("old language")
    for place in _new_places(change):
        found = await converse(place, port)
        if len(found) == 1 and not found[0].shared:
            return Outcome("done language", found[0].address, spoken(found[0].settings), told)
        if found:
            break
    return Outcome("somewhere", language=told)


def _new_places(change: Change) -> list[Dialogue[list[Presence]]]:
    """Where a meter that changed its language is to be expected, the likeliest first.

    For DL/T 645 anybody at its speed or at the factory's 2400 and 9600; for Modbus the last two digits of its number
    (manual ZTY0.464.922) or address 1, at its own settings or the 9600 8N2 of that manual.
    """
    own = change.settings
    if change.value == "dlt645":
        even = [SerialSettings(baud, "even", 1) for baud in dict.fromkeys((own.baud, 2400, 9600))]
        return [search([settings], SLOW, units=()) for settings in even]
    units = sorted({1, int(str(change.address)[-2:])} - {0})
    places = dict.fromkeys((own, SerialSettings(9600, "none", 2), SerialSettings(9600, "none", 1)))
    return [search([settings], SLOW, units=units, dlt645=False) for settings in places]


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
        raise ConfigError.of(log_file, reason, "name another file with --log") from None
