"""The parts of a profile that speak about several of its registers: sums, conditions, recognition, circuits.

Before this come the registers of the file, each right by itself (`profiles`); after it the whole profile. As everywhere
in the settings every fault is reported and the rest is read on.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from agent.metering.profile import (
    ENERGY_IMPORT,
    Circuits,
    Condition,
    Recognition,
    Register,
    Sum,
    WordType,
)
from agent.settings.faultlist import FaultList, KeyPath
from agent.settings.profileshape import CircuitsShape, ConditionShape, ProfileShape, RecognitionShape
from agent.settings.shape import Table, read_table, shown
from agent.settings.suggest import did_you_mean

Registers = Mapping[str, Register]

_ADDRESSES = 65_536
_TEXT = (WordType.ASCII, WordType.DIGITS)
_BOUNDS = ("one_of", "at_least", "at_most", "equals")


def energy_parts(top: Table[ProfileShape]) -> tuple[str, ...]:
    """The names of the registers that are booked: the energy register, or the parts of its sum."""
    parts = (top.value.sums or {}).get(ENERGY_IMPORT)
    return (ENERGY_IMPORT,) if parts is None else tuple(parts)


# ------------------------------------------------------------------------------------------------------------- sums


def read_sums(top: Table[ProfileShape], registers: Registers, faults: FaultList) -> dict[str, Sum]:
    """The sums of which every part is right; their parts count in the same unit, scale and side."""
    sums = {}
    for name, names in (top.value.sums or {}).items():
        path = ("sums", name)
        if name in (top.value.registers or {}):
            faults.add(path, "is a register already", "give the register or the sum another name")
        if len(set(names)) != len(names):
            faults.add(path, "names a register twice, so that its kWh would count twice", "take one out")
        parts = _named(names, top, registers, path, faults)
        if parts is None:
            continue
        _check_parts(parts, path, faults)
        sums[name] = Sum(name, parts)
    return sums


def _check_parts(parts: Sequence[Register], path: KeyPath, faults: FaultList) -> None:
    first = parts[0]
    for place, part in enumerate(parts):
        if part.type in _TEXT:
            faults.add((*path, place), f"{part.name} is text", "name registers that count")
        elif (part.unit, part.per_count, part.secondary) != (first.unit, first.per_count, first.secondary):
            reason = f"{part.name} does not count in the unit, per_count and side of {first.name}"
            faults.add((*path, place), reason, "only counters of one scale add up exactly")


# -------------------------------------------------------------------------------------------------------- conditions


def read_conditions(
    top: Table[ProfileShape], registers: Registers, faults: FaultList
) -> tuple[Condition, ...]:
    """What must hold at the meter before it counts."""
    conditions = []
    for place, given in enumerate(top.value.conditions or ()):
        table = read_table(ConditionShape, given, ("conditions", place), faults)
        condition = _condition(table, top, registers, faults)
        if condition is not None:
            conditions.append(condition)
    return tuple(conditions)


def _condition(
    table: Table[ConditionShape], top: Table[ProfileShape], registers: Registers, faults: FaultList
) -> Condition | None:
    shape, path = table.value, table.path
    if not table.given & set(_BOUNDS):
        faults.add(path, "does not say what must hold", 'add one_of = ["..."], at_least = "..." or equals')
    if "within" in table.given and "equals" not in table.given:
        faults.add((*path, "within"), "means nothing without equals", "take it out")
    if shape.registers is None or shape.remedy is None:
        return None
    terms = _named(shape.registers, top, registers, (*path, "registers"), faults)
    names = [shape.equals] if shape.equals is not None else []
    equal = _named(names, top, registers, (*path, "equals"), faults)
    if terms is None or equal is None:
        return None
    is_text = any(register.type in _TEXT for register in (*terms, *equal))
    if is_text and (len(terms) != 1 or not table.given >= {"one_of"} or table.given & set(_BOUNDS[1:])):
        faults.add(path, "a text can only be one of several", 'write one_of = ["..."] alone')
        return None
    values = [
        value if is_text else _number(value, (*path, "one_of", place), faults)
        for place, value in enumerate(shape.one_of or ())
    ]
    return Condition(
        terms=tuple(shape.registers),
        remedy=shape.remedy,
        one_of=tuple(values),
        at_least=_number_or_none(shape.at_least, (*path, "at_least"), faults),
        at_most=_number_or_none(shape.at_most, (*path, "at_most"), faults),
        equals=shape.equals,
        within=_number(shape.within or "0", (*path, "within"), faults),
        other=shape.other,
    )


def read_recognition(top: Table[ProfileShape], registers: Registers, faults: FaultList) -> Recognition | None:
    """How a scan knows the model, None where no register tells it."""
    if top.value.recognition is None:
        return None
    path: KeyPath = ("recognition",)
    shape = read_table(RecognitionShape, top.value.recognition, path, faults).value
    if shape.register is None or shape.one_of is None:
        return None
    named = _named([shape.register], top, registers, (*path, "register"), faults)
    if named is None:
        return None
    is_text = named[0].type in _TEXT
    values = [
        value if is_text else _number(value, (*path, "one_of", place), faults)
        for place, value in enumerate(shape.one_of)
    ]
    return Recognition(shape.register, tuple(values))


# ----------------------------------------------------------------------------------------------------------- circuits


def read_circuits(top: Table[ProfileShape], registers: Registers, faults: FaultList) -> Circuits | None:
    """The circuits of a meter that has several; the registers of the last one lie within the addresses."""
    if top.value.circuits is None:
        return None
    path: KeyPath = ("circuits",)
    shape = read_table(CircuitsShape, top.value.circuits, path, faults).value
    common = _named(shape.common or (), top, registers, (*path, "common"), faults)
    if shape.count is None or shape.stride is None or common is None:
        return None
    offset = (shape.count - 1) * shape.stride
    for name, register in registers.items():
        if register.identifier is not None:
            faults.add(path, "a DL/T 645 meter has no addresses to move", "take it out")
            return None
        if register not in common and register.address + offset + register.words > _ADDRESSES:
            reason = f"{name} of circuit {shape.count} ends beyond address 65535"
            faults.add(path, reason, "check count and stride, or name it in common")
    if ENERGY_IMPORT in (shape.common or ()):
        reason = f"names {ENERGY_IMPORT}, so that every circuit would count the whole meter"
        faults.add((*path, "common"), reason, "take it out")
    return Circuits(shape.count, shape.stride, tuple(shape.common or ()))


# ------------------------------------------------------------------------------------------------------------ helpers


def _named(
    names: Sequence[str], top: Table[ProfileShape], registers: Registers, path: KeyPath, faults: FaultList
) -> tuple[Register, ...] | None:
    """The registers of these names; None where one is unknown (reported) or was wrong in itself (reported before)."""
    for name in names:
        if name not in (top.value.registers or {}):
            faults.add(path, f'there is no register "{name}"', did_you_mean(name, registers))
    if any(name not in registers for name in names):
        return None
    return tuple(registers[name] for name in names)


def _number_or_none(text: str | None, path: KeyPath, faults: FaultList) -> Fraction | None:
    return None if text is None else _number(text, path, faults)


def _number(text: str, path: KeyPath, faults: FaultList) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        faults.add(path, f"{shown(text)} is not a number", "write an exact number as text")
        return Fraction(0)
