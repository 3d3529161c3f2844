"""The lines and the meters: what only makes sense together.

Here a site file is refused that counts a kWh twice. There are four ways to do that: one meter entered twice (the same
address of a line, the same serial number, or two lines over one adapter or gateway), shares that add up to more than
the meter counted, a meter that is its own parent over some corners, and a meter that counts for a step and for a role
at once. A step whose meter hangs below another step's meter is *not* one of them: the balance takes children off their
parent, so each keeps its own load (design, promise I7).

Before this comes `shape`; what it returns goes into `agent.metering.plant`.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from agent.metering.plant import Line, Meter, Role, SerialSettings, Share, Transport
from agent.metering.profile import DLT645, Profile
from agent.metering.quantity import EXACT_MAX
from agent.settings import grammar
from agent.settings.faultlist import FaultList, KeyPath
from agent.settings.sections import parsed
from agent.settings.shape import LineShape, MeterShape, Table, shown
from agent.settings.suggest import did_you_mean

DEFAULT_BAUD, DEFAULT_PARITY, DEFAULT_STOP_BITS = 9600, "none", 1
DEFAULT_PORT = 502
DEFAULT_POLL = "5s"
POLL_MS_MIN = 100
ADDRESS_MAX = 247
"""Highest unit number of Modbus; 248 to 255 are reserved (MODBUS over Serial Line V1.02, section 2.2)."""

_SHOWN_MAX = 6

_SERIAL_KEYS = ("baud", "parity", "stop_bits")
_DLT645_ADDRESS = re.compile(r"[0-9]{12}")
"""An address is 12 BCD digits (DL/T 645-2007); the AA of a wildcard is a way to ask, and the address of no meter."""
_DLT645_BROADCAST = "999999999999"
_ID = re.compile(grammar.ID_PATTERN)


@dataclass(frozen=True, slots=True)
class Known:
    """What meters may refer to. `profiles` or `steps` is None where it could not be read, so that nobody is blamed."""

    agent: str | None
    lines: Mapping[str, LineShape]
    profiles: Mapping[str, Profile] | None
    steps: Collection[str] | None
    materials: Collection[str]


# ------------------------------------------------------------------------------------------------------------- lines


def read_lines(tables: Sequence[Table[LineShape]], base: Path, faults: FaultList) -> tuple[Line, ...]:
    """Every line that is right by itself; what is wrong is reported."""
    _unique_ids(tables, faults)
    _one_line_per_device(tables, base, faults)
    lines = (_line(table, base, faults) for table in tables)
    return tuple(line for line in lines if line is not None)


def _line(table: Table[LineShape], base: Path, faults: FaultList) -> Line | None:
    shape, path = table.value, table.path
    poll_ms = parsed(_poll_ms, shape.poll or DEFAULT_POLL, (*path, "poll"), faults)
    if shape.transport is None:
        return None
    transport = Transport(shape.transport)
    _check_reach(table, transport, faults)
    if shape.id is None or poll_ms is None:
        return None
    on_device = transport is Transport.RS485
    return Line(
        id=shape.id,
        transport=transport,
        device=str(base / (shape.device or "")) if on_device else None,
        host=None if on_device else shape.host,
        port=None if on_device else shape.port or DEFAULT_PORT,
        serial=_serial_settings(shape),
        poll_ms=poll_ms,
    )


def _poll_ms(text: str) -> int:
    length_ms = grammar.duration_ms(text)
    if not POLL_MS_MIN <= length_ms <= grammar.DAY_MS:
        raise ValueError(f'"{text}" is not between {POLL_MS_MIN}ms and 24h')
    return length_ms


def _check_reach(table: Table[LineShape], transport: Transport, faults: FaultList) -> None:
    """A line has a device or a host, whichever its transport uses."""
    needed, useless = ("device", ("host", "port")) if transport is Transport.RS485 else ("host", ("device",))
    example = '"/dev/serial/by-id/..."' if needed == "device" else '"10.0.8.20"'
    if needed not in table.given:
        faults.add((*table.path, needed), f"is missing; {transport} needs it", f"add {needed} = {example}")
    for key in useless:
        if key in table.given:
            faults.add((*table.path, key), f"means nothing with transport {transport}", "take it out")
    host = table.value.host
    if needed == "host" and host is not None and not grammar.is_host(host):
        remedy = "the port has a key of its own: port = 502" if ":" in host else ""
        faults.add((*table.path, "host"), f'"{host}" is not a host name or IP address', remedy)


def _one_line_per_device(tables: Sequence[Table[LineShape]], base: Path, faults: FaultList) -> None:
    """Two workers on one adapter or gateway would hear each other's answers, and poll every meter twice."""
    first: dict[str, KeyPath] = {}
    for table in tables:
        shape = table.value
        if shape.transport == "rs485" and shape.device:
            key, place = "device", os.path.realpath(base / shape.device)
        elif shape.transport != "rs485" and shape.host:
            key, place = "host", f"{shape.host.lower().removesuffix('.')}:{shape.port or DEFAULT_PORT}"
        else:
            continue
        earlier = first.setdefault(place, table.path)
        if earlier != table.path:
            reason = f"{place} is the {key} of {_named(earlier, faults)} already"
            faults.add((*table.path, key), reason, "put all its meters on one line")


# ------------------------------------------------------------------------------------------------------------ meters


def read_meters(tables: Sequence[Table[MeterShape]], known: Known, faults: FaultList) -> tuple[Meter, ...]:
    """Every meter that is right by itself; what is wrong with one, or with several together, is reported."""
    _unique_ids(tables, faults)
    _one_meter_per_address(tables, faults)
    _one_meter_per_serial(tables, known, faults)
    _check_parents(tables, known.agent, faults)
    meters = (_meter(table, known, faults) for table in tables)
    return tuple(meter for meter in meters if meter is not None)


def _meter(table: Table[MeterShape], known: Known, faults: FaultList) -> Meter | None:
    shape, path = table.value, table.path
    line = _line_of(table, known, faults)
    profile = _profile(table, known, faults)
    transport = line.transport
    _check_address(table, profile, transport, faults)
    role, shares = _attribution(table, known, faults)
    ct_ratio = _transformer_ratio(table, "ct_ratio", faults)
    pt_ratio = _transformer_ratio(table, "pt_ratio", faults)
    rated_w = parsed(grammar.rated_w, shape.rated_kw, (*path, "rated_kw"), faults)
    settings = _own_serial_settings(table, line, faults)
    if shape.id is None or shape.line is None or shape.address is None or profile is None:
        return None
    if ct_ratio is None or pt_ratio is None:
        return None
    if shape.circuit is not None:
        profile = _of_circuit(profile, shape.circuit, (*path, "circuit"), faults)
    elif profile.circuits is not None:
        reason = f"is missing; a {profile.model} has {profile.circuits.count} circuits"
        faults.add((*path, "circuit"), reason, "say which one this meter is: circuit = 1")
    meter = Meter(
        id=shape.id,
        line=shape.line,
        address=shape.address,
        profile=profile,
        role=role,
        shares=shares,
        serial=shape.serial,
        ct_ratio=ct_ratio,
        pt_ratio=pt_ratio,
        circuit=shape.circuit,
        serial_settings=settings,
        rated_w=rated_w,
        parent=_local(shape.parent, known.agent),
        production_line=shape.production_line,
        powered_by_circuit=shape.powered_by == "circuit",
        accuracy_class=shape.accuracy_class,
        ct_class=shape.ct_class,
        display_checked=shape.display_checked,
    )
    _check_exact(meter, path, faults)
    return meter


def _line_of(table: Table[MeterShape], known: Known, faults: FaultList) -> LineShape:
    """The meter's line; an empty one where it is missing or unknown."""
    wanted = table.value.line
    if wanted is None:
        return LineShape()
    if wanted not in known.lines:
        remedy = did_you_mean(wanted, known.lines) or f'add [[lines]] with id = "{wanted}"'
        faults.add((*table.path, "line"), f'there is no line "{wanted}"', remedy)
    return known.lines.get(wanted, LineShape())


def _profile(table: Table[MeterShape], known: Known, faults: FaultList) -> Profile | None:
    wanted = table.value.profile
    if wanted is None or known.profiles is None:
        return None
    profile = known.profiles.get(wanted)
    if profile is None:
        remedy = did_you_mean(wanted, known.profiles) or _some_of(known.profiles, wanted)
        faults.add((*table.path, "profile"), f'there is no profile "{wanted}"', remedy)
    return profile


def _some_of(profiles: Collection[str], wanted: str) -> str:
    """The profiles of the same maker, or the first few: there are nearly a hundred."""
    maker = wanted.partition("-")[0].lower()
    same = sorted(name for name in profiles if name.startswith(f"{maker}-"))
    shown = same or sorted(profiles)[:_SHOWN_MAX]
    rest = "" if same or len(profiles) <= _SHOWN_MAX else f" and {len(profiles) - len(shown)} more"
    return f"known are {', '.join(shown)}{rest}; config/profiles/README.md lists the shipped ones"


def _of_circuit(profile: Profile, circuit: int, path: KeyPath, faults: FaultList) -> Profile:
    """The profile as the circuit sees it."""
    try:
        return profile.of_circuit(circuit)
    except ValueError as error:
        circuits = profile.circuits
        remedy = "leave circuit out" if circuits is None else f"it must be 1 to {circuits.count}"
        faults.add(path, f"{error}", remedy)
        return profile


def _check_address(
    table: Table[MeterShape], profile: Profile | None, transport: str | None, faults: FaultList
) -> None:
    """1 to 247 for Modbus, 12 digits for DL/T 645; the profile says which of the two the meter speaks."""
    address, path = table.value.address, (*table.path, "address")
    speaks_dlt645 = is_dlt645(profile) if profile is not None else isinstance(address, str)
    if speaks_dlt645 and transport == Transport.MODBUS_TCP:
        reason = "this meter speaks DL/T 645, which a modbus-tcp line does not carry"
        faults.add((*table.path, "line"), reason, "use a line with transport rs485 or rs485-over-tcp")
    if address is None:
        return
    if speaks_dlt645:
        if not isinstance(address, str) or not _DLT645_ADDRESS.fullmatch(address):
            reason = f"{shown(address)} is not a DL/T 645 address"
            faults.add(path, reason, 'write its 12 digits as text, such as "000012345678"')
        elif address == _DLT645_BROADCAST:
            reason = "is what all DL/T 645 meters listen to and none answers"
            faults.add(path, reason, "write the 12 digits of the meter itself")
    elif not isinstance(address, int):
        reason = f"{shown(address)} is text, but {table.value.profile or 'the meter'} speaks Modbus"
        faults.add(path, reason, "write a number from 1 to 247, without quotes")
    elif not 1 <= address <= ADDRESS_MAX:
        faults.add(path, f"{shown(address)} is not a Modbus address", "it must be 1 to 247")


def is_dlt645(profile: Profile) -> bool:
    """Whether the meter speaks DL/T 645; every other protocol is a kind of Modbus."""
    return profile.protocol == DLT645


def _attribution(table: Table[MeterShape], known: Known, faults: FaultList) -> tuple[Role, tuple[Share, ...]]:
    """What the meter counts for: one step, shares of steps, or a role."""
    shape, path = table.value, table.path
    given = [key for key in ("step", "steps", "role") if key in table.given]
    if not given:
        remedy = 'add step = "...", steps = { ... } or role = "incomer"'
        faults.add((*path, "step"), "is missing; nobody could say what this meter counts for", remedy)
    for extra in given[1:]:
        reason = f"is given together with {given[0]}, so that its kWh would count twice"
        faults.add((*path, extra), reason, "leave one of them out")
    if shape.step is not None:
        _check_step(shape.step, (*path, "step"), known, faults)
        return Role.STEP, (Share(shape.step, Fraction(1)),)
    if shape.steps is not None:
        return Role.STEP, _shares(shape.steps, (*path, "steps"), known, faults)
    return Role(shape.role or Role.OTHER), ()


def _shares(steps: Mapping[str, str], path: KeyPath, known: Known, faults: FaultList) -> tuple[Share, ...]:
    shares = []
    for step, text in steps.items():
        _check_step(step, (*path, step), known, faults)
        part = parsed(grammar.exact_ratio, text, (*path, step), faults, 'write a share such as "3/5"')
        if part is not None:
            shares.append(Share(step, part))
    total = sum((share.part for share in shares), Fraction(0))
    if total > 1:
        reason = f"the shares add up to {total}, more than the meter counts"
        faults.add(path, reason, "they must add up to 1 or less; what is left over is shown as unassigned")
    return tuple(shares)


def _check_step(step: str, path: KeyPath, known: Known, faults: FaultList) -> None:
    if known.steps is None or step in known.steps:
        return
    if step in known.materials:
        faults.add(path, f'"{step}" is a material; a meter counts for a production step', "name a step")
        return
    remedy = did_you_mean(step, known.steps) or f"known steps are {', '.join(known.steps)}"
    faults.add(path, f'there is no step "{step}" in the catalogue', remedy)


def _transformer_ratio(table: Table[MeterShape], key: str, faults: FaultList) -> Fraction | None:
    """CT or PT ratio, 1 where none is given."""
    text = getattr(table.value, key)
    if text is None:
        return Fraction(1)
    path = (*table.path, key)
    value = parsed(grammar.exact_ratio, text, path, faults)
    if value is not None and value < 1:
        faults.add(path, f'"{text}" is less than 1', "write primary/secondary, such as 150/5")
    return value


def _own_serial_settings(
    table: Table[MeterShape], line: LineShape, faults: FaultList
) -> SerialSettings | None:
    """Speed and framing of a meter that differs from its line, None where it does not; the rest is the line's."""
    given = [key for key in _SERIAL_KEYS if key in table.given]
    if line.transport is not None and line.transport != Transport.RS485.value:
        for key in given:
            reason = f"cannot differ from the line's: a {line.transport} gateway sets it"
            faults.add((*table.path, key), reason, "take it out and set it at the gateway")
    of_line = _serial_settings(line)
    own = SerialSettings(
        baud=table.value.baud or of_line.baud,
        parity=table.value.parity or of_line.parity,
        stop_bits=table.value.stop_bits or of_line.stop_bits,
    )
    return None if own == of_line else own


def _serial_settings(line: LineShape) -> SerialSettings:
    return SerialSettings(
        baud=line.baud or DEFAULT_BAUD,
        parity=line.parity or DEFAULT_PARITY,
        stop_bits=line.stop_bits or DEFAULT_STOP_BITS,
    )


def _check_exact(meter: Meter, path: KeyPath, faults: FaultList) -> None:
    """Registers and ratios have to stay exact in JSON (wire format, section 3, rule 6)."""
    per_count = meter.per_count_milliwh
    if max(per_count.numerator, per_count.denominator, meter.modulus_milliwh or 0) > EXACT_MAX:
        reason = "with these ratios the register can show more than 2^53-1 units of 0.001 Wh"
        faults.add((*path, "ct_ratio"), reason, "check ct_ratio and pt_ratio")


# ----------------------------------------------------------------------------------------------------------- together


def _unique_ids(tables: Sequence[Table[LineShape]] | Sequence[Table[MeterShape]], faults: FaultList) -> None:
    first: dict[str, KeyPath] = {}
    for table in tables:
        if table.value.id is None:
            continue
        earlier = first.setdefault(table.value.id, table.path)
        if earlier != table.path:
            reason = f'"{table.value.id}" is taken{_on_line(earlier, faults)}'
            faults.add((*table.path, "id"), reason, "give every one an id of its own")


def _on_line(path: KeyPath, faults: FaultList) -> str:
    line = faults.line_of(path)
    return "" if line is None else f" (line {line})"


def _named(path: KeyPath, faults: FaultList) -> str:
    """A table by its last name and line: `reflow-1 (line 31)`."""
    return f"{faults.name_of(path).partition('.')[2]}{_on_line(path, faults)}"


def _one_meter_per_address(tables: Sequence[Table[MeterShape]], faults: FaultList) -> None:
    """Meters may share an address only as different circuits of one multi-circuit meter."""
    seen: dict[tuple[str, int | str], list[Table[MeterShape]]] = {}
    for table in tables:
        shape = table.value
        if shape.line is None or shape.address is None:
            continue
        others = seen.setdefault((shape.line, shape.address), [])
        for other in others:
            _check_shared_address(table, other, faults)
        others.append(table)


def _check_shared_address(table: Table[MeterShape], other: Table[MeterShape], faults: FaultList) -> None:
    shape, earlier = table.value, other.value
    if any("circuit" in one.given and one.value.circuit is None for one in (table, other)):
        return  # reported with its shape
    if shape.circuit is None or earlier.circuit is None or shape.circuit == earlier.circuit:
        reason = f"address {shown(shape.address)} of {shape.line} is {_named(other.path, faults)} already"
        remedy = "give each meter its own address, or each circuit of one meter its own number: circuit = 1"
        faults.add((*table.path, "address"), reason, remedy)
    elif None not in (shape.profile, earlier.profile) and shape.profile != earlier.profile:
        reason = f"differs from that of {_named(other.path, faults)}, a circuit of the same meter"
        faults.add((*table.path, "profile"), reason, "circuits of one meter have one profile")


def _one_meter_per_serial(tables: Sequence[Table[MeterShape]], known: Known, faults: FaultList) -> None:
    """A serial number is unique at its maker; twice the same is the same meter twice, unless it is two circuits."""
    first: dict[tuple[str, str], Table[MeterShape]] = {}
    for table in tables:
        shape = table.value
        profile = (known.profiles or {}).get(shape.profile or "")
        if shape.serial is None or profile is None:
            continue
        other = first.setdefault((profile.maker, shape.serial), table)
        if (shape.line, shape.address) != (other.value.line, other.value.address):
            reason = (
                f"{shape.serial} is {_named(other.path, faults)} already, so that its kWh would count twice"
            )
            faults.add(
                (*table.path, "serial"), reason, "one of the two is mistyped, or the meter is listed twice"
            )


def _local(parent: str | None, agent: str | None) -> str | None:
    """The parent as an id of this site where it is one: `gw01/incomer-1` is `incomer-1` at gw01 itself."""
    if parent is not None and agent is not None and parent.startswith(f"{agent}/"):
        return parent.removeprefix(f"{agent}/")
    return parent


def _check_parents(tables: Sequence[Table[MeterShape]], agent: str | None, faults: FaultList) -> None:
    """Every parent of this gateway exists, and nobody is above himself."""
    parents: dict[str, str] = {}
    paths: dict[str, KeyPath] = {}
    for table in tables:
        if table.value.id is not None:
            paths.setdefault(table.value.id, (*table.path, "parent"))
    for table in tables:
        parent = _local(table.value.parent, agent)
        if parent is None:
            continue
        path = (*table.path, "parent")
        if "/" in parent:
            if not all(_ID.fullmatch(part) for part in parent.split("/")) or parent.count("/") != 1:
                reason = f'"{parent}" is not a meter of another gateway'
                faults.add(path, reason, "write gateway/meter, such as gw02/incomer-1")
        elif parent not in paths:
            remedy = did_you_mean(parent, paths) or "a meter of another gateway is written gw02/incomer-1"
            faults.add(path, f'there is no meter "{parent}"', remedy)
        elif table.value.id is not None:
            parents.setdefault(table.value.id, parent)
    for cycle in _cycles(parents):
        reason = f"{' is below '.join([*cycle, cycle[0]])}: a circle"
        faults.add(paths[cycle[0]], reason, "the meter nearest to the supply has no parent")


def _cycles(parents: Mapping[str, str]) -> list[list[str]]:
    """Every circle of parents once, beginning with the meter that stands first."""
    done: set[str] = set()
    cycles = []
    for start in parents:
        trail: list[str] = []
        here: str | None = start
        while here is not None and here not in done:
            done.add(here)
            trail.append(here)
            here = parents.get(here)
        if here in trail:
            cycles.append(trail[trail.index(here) :])
    return cycles
