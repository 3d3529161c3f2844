"""Reads profiles: one TOML file per model of meter, checked in every respect before it is used.

Before this come the files in `config/profiles` and those a site brings along; after it everything that reads or
simulates a meter. A profile carries examples of words and what they mean, and every example is decoded when the file
is read: a profile whose scale or word order is wrong is refused where it is written, not where it is billed.
"""

import hashlib
import re
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

from agent.errors import ConfigError, Fault
from agent.metering.decode import NoValue, decode
from agent.metering.profile import (
    CT_RATIO,
    DLT645,
    DLT645_READ,
    ENERGY_IMPORT,
    PT_RATIO,
    WORDS_OF_TYPE,
    Example,
    Profile,
    Register,
    SerialDefaults,
    WordType,
)
from agent.metering.quantity import MILLIWH_PER_UNIT, ratio
from agent.settings.faultlist import FaultList, KeyPath
from agent.settings.grammar import ID_PATTERN
from agent.settings.profileparts import (
    energy_parts,
    read_circuits,
    read_conditions,
    read_recognition,
    read_sums,
)
from agent.settings.profileshape import (
    DltProfileShape,
    DltRegisterShape,
    ExampleShape,
    ProfileShape,
    RegisterShape,
    SerialShape,
)
from agent.settings.shape import Table, read_table, shown
from agent.settings.suggest import did_you_mean
from agent.settings.tomlines import locate

SIZE_MAX = 1_000_000
"""Largest profile, bytes; the shipped ones have about 5 000."""

_ADDRESSES = 65_536
_ONE_READ = 125
_SIGNED = (WordType.S16, WordType.S32, WordType.S64)
_FLOATS = (WordType.F32, WordType.F64)


def load_profiles(directory: Path) -> dict[str, Profile]:
    """All profiles of a folder by id, in the order of their ids.

    Raises:
        ConfigError: with every fault of every file.
    """
    profiles: dict[str, Profile] = {}
    faults: list[Fault] = []
    for path in _files_of(directory):
        try:
            profiles[path.stem] = load_profile(path)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return profiles


class ProfileShelf(Mapping[str, Profile]):
    """The profiles of a folder by id, each read when it is first asked for; `over` are others that come before them.

    A site names a handful of the ninety shipped ones; reading them all takes half a second of a small gateway's start.

    Raises:
        ConfigError: the folder cannot be listed; or, on asking, with every fault of the profile asked for.
    """

    def __init__(self, directory: Path, over: Mapping[str, Profile] | None = None) -> None:
        self._files = {path.stem: path for path in _files_of(directory)}
        self._read: dict[str, Profile] = dict(over or {})

    def __getitem__(self, id: str) -> Profile:
        if id not in self._read:
            self._read[id] = load_profile(self._files[id])
        return self._read[id]

    def __contains__(self, id: object) -> bool:
        return id in self._read or id in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files | self._read)

    def __len__(self) -> int:
        return len(self._files | self._read)


def _files_of(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".toml")
    except OSError as error:
        reason = f"the profiles cannot be listed: {error.strerror}"
        raise ConfigError.of(directory, reason, "name a folder") from None


def load_profile(path: Path) -> Profile:
    """Read one profile; its id is the name of the file without `.toml`.

    Raises:
        ConfigError: with every fault of the file.
    """
    data = _read(path)
    document, lines = _parse(path, data)
    faults = FaultList(str(path), lines, {})
    if re.fullmatch(ID_PATTERN, path.stem) is None:
        reason = "the name of the file is not an id: 1 to 32 letters, digits, dots, hyphens or underscores"
        faults.add((), reason, "rename it to <vendor>-<model>.toml")
    digest = urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
    profile = _profile(path.stem, digest, document, faults)
    if profile is None or faults:
        raise faults.error()
    return profile


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError.of(
            path, f"cannot be read: {error.strerror}", "check its name and who owns it"
        ) from None
    if len(data) > SIZE_MAX:
        raise ConfigError.of(path, "is larger than 1 MB, so it is no profile", "name another file")
    return data


def _parse(path: Path, data: bytes) -> tuple[dict[str, object], dict[KeyPath, int]]:
    try:
        text = data.decode("utf-8")
        return tomllib.loads(text), locate(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError.of(path, "is not UTF-8 text", "save it as UTF-8", line=line) from None
    except RecursionError:
        raise ConfigError.of(path, "has brackets within brackets a hundred deep", "take them out") from None
    except ValueError as error:
        found = re.search(r"\(at line ([0-9]+), ", str(error))
        remedy = "check the quotes, brackets and commas there; text needs quotes"
        line_or_none = int(found[1]) if found else None
        raise ConfigError.of(path, f"this is not TOML: {error}", remedy, line=line_or_none) from None


def _profile(name: str, digest: str, document: dict[str, object], faults: FaultList) -> Profile | None:
    """The whole profile, None where a part of it could not be made; then there are faults."""
    kind: type[ProfileShape] = DltProfileShape if document.get("protocol") == DLT645 else ProfileShape
    top = read_table(kind, document, (), faults)
    shape = top.value
    serial = _serial(top, faults)
    alignment = shape.alignment or 1
    registers = _registers(top, alignment, faults)
    _check_names(top, registers, faults)
    sums = read_sums(top, registers, faults)
    conditions = read_conditions(top, registers, faults)
    recognition = read_recognition(top, registers, faults)
    circuits = read_circuits(top, registers, faults)
    examples = _examples(top, registers, faults)
    if shape.maker is None or shape.model is None or shape.manual is None or shape.protocol is None:
        return None
    read_limit = _ONE_READ if shape.protocol == DLT645 else shape.read_limit
    if shape.phases is None or read_limit is None or shape.confidence is None or shape.sources is None:
        return None
    if serial is None:
        return None
    return Profile(
        id=name,
        maker=shape.maker,
        model=shape.model,
        manual=shape.manual,
        protocol=shape.protocol,
        phases=shape.phases,
        read_limit=read_limit,
        alignment=alignment,
        quiet_ms=shape.quiet_ms or 0,
        serial_defaults=serial,
        registers=registers,
        identity=shape.identity,
        fingerprint=tuple(shape.fingerprint or ()),
        accuracy_class=shape.accuracy_class,
        confidence=shape.confidence,
        sources=tuple(shape.sources),
        examples=examples,
        hash=digest,
        power_max_w=shape.power_max_w,
        sums=sums,
        conditions=conditions,
        recognition=recognition,
        circuits=circuits,
        counts_both=shape.counts_both or False,
        generation=shape.generation,
        notes=tuple(shape.notes or ()),
    )


def _serial(top: Table[ProfileShape], faults: FaultList) -> SerialDefaults | None:
    if top.value.serial is None:
        return None
    shape = read_table(SerialShape, top.value.serial, ("serial",), faults).value
    if shape.baud is None or shape.parity is None or shape.stop_bits is None:
        return None
    return SerialDefaults(shape.baud, shape.parity, shape.stop_bits, stated=shape.stated is not False)


# -------------------------------------------------------------------------------------------------------- registers


def _registers(top: Table[ProfileShape], alignment: int, faults: FaultList) -> dict[str, Register]:
    registers: dict[str, Register] = {}
    for name, given in (top.value.registers or {}).items():
        if top.value.protocol == DLT645:
            dlt = _dlt_register(
                name, read_table(DltRegisterShape, given, ("registers", name), faults), faults
            )
            registers |= {} if dlt is None else {name: dlt}
            continue
        table = read_table(RegisterShape, given, ("registers", name), faults)
        register = _register(name, table, faults)
        if register is not None:
            registers[name] = register
            _check_reach(register, table, top.value.read_limit, alignment, faults)
    given, parts = top.value.registers or {}, energy_parts(top)
    if top.value.registers is not None and parts == (ENERGY_IMPORT,) and ENERGY_IMPORT not in given:
        faults.add(("registers", ENERGY_IMPORT), "is missing", f"add [registers.{ENERGY_IMPORT}]")
    for name in parts:
        if name in registers:
            _check_energy(registers[name], top, faults)
    return registers


def _register(name: str, table: Table[RegisterShape], faults: FaultList) -> Register | None:
    shape, path = table.value, table.path
    if shape.address is None or shape.function is None or shape.type is None:
        return None
    kind = WordType(shape.type)
    words = _words(kind, table, faults)
    if words is None:
        return None
    return Register(
        name=name,
        address=shape.address,
        function=shape.function,
        type=kind,
        words=words,
        low_word_first=shape.word_order == "low-first",
        unit=shape.unit or "",
        per_count=_per_count(shape.per_count, (*path, "per_count"), faults),
        secondary=shape.side == "secondary",
        modulus_counts=_modulus(kind, words, shape.modulus, (*path, "modulus"), faults),
        invalid=frozenset(_invalid(shape.invalid or (), words, (*path, "invalid"), faults)),
    )


def _dlt_register(name: str, table: Table[DltRegisterShape], faults: FaultList) -> Register | None:
    shape, path = table.value, table.path
    if shape.identifier is None or shape.type is None or shape.bytes is None:
        return None
    kind, words = WordType(shape.type), -(-shape.bytes // 2)
    modulus = shape.modulus
    if modulus is not None and (kind is WordType.DIGITS or modulus > 10 ** (2 * shape.bytes)):
        faults.add(
            (*path, "modulus"), f"{shape.bytes} bytes of {kind} cannot show {modulus - 1}", "take it out"
        )
        modulus = None
    return Register(
        name=name,
        address=0,
        function=DLT645_READ,
        type=kind,
        words=words,
        low_word_first=False,
        unit=shape.unit or "",
        per_count=_per_count(shape.per_count, (*path, "per_count"), faults),
        secondary=shape.side == "secondary",
        modulus_counts=modulus,
        invalid=frozenset(_invalid(shape.invalid or (), words, (*path, "invalid"), faults)),
        identifier=int(shape.identifier, 16),
        size=shape.bytes,
    )


def _words(kind: WordType, table: Table[RegisterShape], faults: FaultList) -> int | None:
    """The length of a value: told by its type, or by the file for text."""
    given = table.value.words
    if kind is WordType.ASCII:
        if given is None and "words" not in table.given:
            faults.add((*table.path, "words"), "is missing", "say how many words the text has")
        return given
    length = WORDS_OF_TYPE[kind]
    if given is not None and given != length:
        faults.add((*table.path, "words"), f"{kind} has {length} words, not {given}", "take it out")
    return length


def _per_count(text: str | None, path: KeyPath, faults: FaultList) -> Fraction:
    try:
        return Fraction(1) if text is None else ratio(text)
    except ValueError as error:
        faults.add(path, str(error), 'write an exact number as text, such as "0.01"')
        return Fraction(1)


def _modulus(kind: WordType, words: int, modulus: int | None, path: KeyPath, faults: FaultList) -> int | None:
    if modulus is None:
        return None
    if kind is WordType.ASCII:
        faults.add(path, "text has no modulus", "take it out")
        return None
    if kind in _FLOATS:
        return modulus
    most = 10**8 if kind is WordType.BCD32 else 1 << (16 * words - (kind in _SIGNED))
    if modulus > most:
        faults.add(path, f"{kind} cannot show {modulus - 1}", f"write {most} or less, or take it out")
        return None
    return modulus


def _invalid(marks: Iterable[str], words: int, path: KeyPath, faults: FaultList) -> Iterable[int]:
    for place, mark in enumerate(marks):
        if len(mark) == 4 * words:
            yield int(mark, 16)
        else:
            faults.add((*path, place), f"{shown(mark)} is not {words} words", f"write {4 * words} hex digits")


def _check_reach(
    register: Register,
    table: Table[RegisterShape],
    read_limit: int | None,
    alignment: int,
    faults: FaultList,
) -> None:
    """One aligned request can read the register."""
    end = -(-(register.address + register.words) // alignment) * alignment
    start = register.address // alignment * alignment
    if end > _ADDRESSES:
        faults.add(
            (*table.path, "address"), f"{register.name} ends beyond address 65535", "check the address"
        )
    if read_limit is not None and end - start > read_limit:
        reason = f"one request may read {read_limit} registers, this one takes {end - start}"
        faults.add(table.path, reason, "check read_limit, alignment and type")


def _check_energy(register: Register, top: Table[ProfileShape], faults: FaultList) -> None:
    """A register that is booked says all that a kWh depends on."""
    path = ("registers", register.name)
    given = (top.value.registers or {})[register.name]
    if register.type in (WordType.ASCII, WordType.DIGITS):
        faults.add((*path, "type"), "energy is not text", "write the type of a number")
    if register.unit not in MILLIWH_PER_UNIT and ("unit" not in given or register.unit):
        known = ", ".join(MILLIWH_PER_UNIT)
        faults.add(
            (*path, "unit"), f"{shown(register.unit)} is no unit of active energy", f"write one of {known}"
        )
    for key in ("per_count", "side"):
        if key not in given:
            faults.add((*path, key), "is missing", f"say it for the register that is booked: {key} = ...")


def _check_names(top: Table[ProfileShape], registers: dict[str, Register], faults: FaultList) -> None:
    """Identity and fingerprint name registers of this file, each once; ratios a person can set are in the latter."""
    named: list[tuple[KeyPath, str]] = []
    if top.value.identity is not None:
        named.append((("identity",), top.value.identity))
    fingerprint = top.value.fingerprint or []
    named += [(("fingerprint", place), name) for place, name in enumerate(fingerprint)]
    for path, name in named:
        if name not in (top.value.registers or {}):
            faults.add(path, f'there is no register "{name}"', did_you_mean(name, registers))
    for name in (CT_RATIO, PT_RATIO):
        if name in (top.value.registers or {}) and name not in fingerprint:
            reason = f"does not name {name}, which a person can change at the meter"
            faults.add(("fingerprint",), reason, f'add "{name}"')
    if len(set(fingerprint)) != len(fingerprint):
        faults.add(("fingerprint",), "names a register twice", "take one out")


# --------------------------------------------------------------------------------------------------------- examples


def _examples(
    top: Table[ProfileShape], registers: dict[str, Register], faults: FaultList
) -> tuple[Example, ...]:
    examples = []
    for place, given in enumerate(top.value.examples or ()):
        table = read_table(ExampleShape, given, ("examples", place), faults)
        example = _example(table, top, registers, faults)
        if example is not None:
            examples.append(example)
            _check_example(example, registers[example.register], table.path, faults)
    shown_right = {example.register for example in examples if example.reads is not None}
    for name in energy_parts(top):
        if top.value.examples is not None and name not in shown_right:
            reason = f"there is no right example of {name}"
            faults.add(("examples",), reason, "add words of it and what they read")
    return tuple(examples)


def _example(
    table: Table[ExampleShape], top: Table[ProfileShape], registers: dict[str, Register], faults: FaultList
) -> Example | None:
    shape = table.value
    if {"reads", "no_value"} <= table.given:
        faults.add(table.path, "says both reads and no_value", "take one out")
        return None
    if not {"reads", "no_value"} & table.given:
        faults.add(table.path, "does not say what the words mean", 'add reads = "..." or no_value = true')
        return None
    if shape.no_value is False:
        faults.add((*table.path, "no_value"), "is false", "take it out and write reads")
        return None
    if shape.register is None or shape.words is None:
        return None
    if shape.register not in (top.value.registers or {}):
        reason = f'there is no register "{shape.register}"'
        faults.add((*table.path, "register"), reason, did_you_mean(shape.register, registers))
    if shape.register not in registers:
        return None
    words = tuple(int(word, 16) for word in shape.words)
    expected = registers[shape.register].words
    if len(words) != expected:
        faults.add((*table.path, "words"), f"{shape.register} has {expected} words, not {len(words)}")
        return None
    return Example(shape.register, words, shape.reads, computed=shape.computed or False)


def _check_example(example: Example, register: Register, path: KeyPath, faults: FaultList) -> None:
    """The words mean what the example says."""
    value = decode(register, example.words)
    if isinstance(value, NoValue):
        if example.reads is not None:
            faults.add(path, f"the words mean no value ({value.reason})", "write no_value = true")
    elif isinstance(value, str):
        if value != example.reads:
            faults.add(path, f"the words read {shown(value)}", "correct the words or what they read")
    elif example.reads is None:
        reason = f"the words read {exact_text(value * register.per_count)}"
        faults.add(path, reason, "add the mark to invalid, or write what the words read")
    else:
        _check_number(value * register.per_count, example.reads, path, faults)


def _check_number(value: Fraction, reads: str, path: KeyPath, faults: FaultList) -> None:
    try:
        expected = Fraction(reads)
    except (ValueError, ZeroDivisionError):
        faults.add((*path, "reads"), f"{shown(reads)} is not a number", "write the exact value as text")
        return
    if value != expected:
        reason = f"the words read {exact_text(value)}, not {shown(reads)}"
        faults.add((*path, "reads"), reason, "correct words, type, word order, per_count or what they read")


def exact_text(value: Fraction | int) -> str:
    """A number as exact decimal text where it has one, else as a fraction: 23/10 is "2.3", 1/3 is "1/3"."""
    value = Fraction(value)
    rest, places = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        places = max(places, power)
    if rest != 1:
        return str(value)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
