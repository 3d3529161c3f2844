"""The shape of a site file: which tables and keys there are, and what type of value each has.

This is the only part that pydantic does; what the values mean together (a meter's line exists, no kWh counts twice) is
checked afterwards by `sections` and `wired`. Two things are done differently from common pydantic code, both so that a
person gets every fault at once and in plain words:

- every key is optional here, and `required` names those that must be there. A table with a wrong value still yields
  all its right ones, so that the later checks can go on;
- a wrong value is reported with the `description` of its key ("... is not a whole number from 1 to 65535") and not in
  the library's own words, which speak of types that no installer knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agent.settings.faultlist import FaultList, KeyPath
from agent.settings.grammar import ID_PATTERN
from agent.settings.suggest import did_you_mean


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("control characters, or blanks at the ends")
    return text


Text = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_printable)]
Id = Annotated[str, Field(pattern=ID_PATTERN)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9.]{1,8}$")]

_AN_ID = "an id; ids have 1 to 32 letters, digits, dots, hyphens or underscores"
_A_FILE = "the name of a file, as text"
_A_RATIO = 'a ratio written as text, such as "150/5"'
_A_CLASS = 'a class written as text, such as "1" or "0.5S"'
_A_BAUD = "a speed of a serial line; common ones are 2400, 9600, 19200, 38400, 57600 and 115200"

_BAUDS = frozenset(
    (
        300,
        600,
        1200,
        2400,
        4800,
        9600,
        14400,
        19200,
        28800,
        38400,
        56000,
        57600,
        76800,
        115200,
        128000,
        230400,
    )
)


def _usual(baud: int) -> int:
    if baud not in _BAUDS:
        raise ValueError("no UART of a meter runs at this speed")
    return baud


Baud = Annotated[int, AfterValidator(_usual)]
Parity = Literal["none", "even", "odd"]
StopBits = Annotated[int, Field(ge=1, le=2)]  # not Literal[1, 2], which takes true for 1


def _key(description: str, example: str) -> Any:
    """A key that may be left out; `example` is how its value looks in the file."""
    return Field(default=None, description=description, examples=[example])


class Shape(BaseModel):
    """One kind of table."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    required: ClassVar[tuple[str, ...]] = ()


CREDENTIAL = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
_A_CREDENTIAL = "the name of a systemd credential"
PROXY_USER = r"^[^:\x00-\x1f\x7f]{1,256}$"
"""RFC 7617 separates user name and password by a colon and allows no control characters."""


class GatewayShape(Shape):
    """`[gateway]`: who we are."""

    required = ("org", "agent")

    org: Id | None = _key(_AN_ID, '"zj-meterworks"')
    agent: Id | None = _key(_AN_ID, '"gw01"')


class PlatformShape(Shape):
    """`[platform]`: to whom we report, and over which broker."""

    required = ("audience", "broker")

    audience: Annotated[str, Field(pattern=r"^[!-~]{1,128}$")] | None = _key(
        "the id of a platform: 1 to 128 plain characters without blanks", '"carbon.grid.example"'
    )
    broker: Text | None = _key("an address, as text", '"mqtts://broker.grid.example:8883"')
    proxy: Text | None = _key("an address, as text", '"http://proxy.factory.example:3128"')
    proxy_username: Annotated[str, Field(pattern=PROXY_USER)] | None = _key(
        "a user name without a colon", '"gw01"'
    )
    proxy_password_file: Text | None = _key(_A_FILE, '"proxy-password"')
    proxy_password_credential: Annotated[str, Field(pattern=CREDENTIAL)] | None = _key(
        _A_CREDENTIAL, '"proxy-password"'
    )
    ca_file: Text | None = _key(_A_FILE, '"ca.pem"')
    client_certificate: Text | None = _key(_A_FILE, '"gw01.pem"')
    client_key: Text | None = _key(_A_FILE, '"gw01.key"')
    username: Text | None = _key("the name of a broker account, as text", '"gw01"')
    password_file: Text | None = _key(_A_FILE, '"broker-password"')
    password_credential: Annotated[str, Field(pattern=CREDENTIAL)] | None = _key(
        _A_CREDENTIAL, '"broker-password"'
    )
    acknowledgement: Literal["platform", "broker"] | None = _key('"platform" or "broker"', '"platform"')
    acknowledgement_keys: Annotated[list[Text], Field(min_length=1, max_length=16)] | None = _key(
        "a list of 1 to 16 names of files", '["platform.pem"]'
    )
    topic_root: Annotated[Text, Field(max_length=128)] | None = _key("the beginning of a topic", '"kwh/v1"')


class SigningShape(Shape):
    """`[signing]`: the key that makes a batch evidence."""

    key_file: Text | None = _key(_A_FILE, '"signing-key.pem"')
    credential: Annotated[str, Field(pattern=CREDENTIAL)] | None = _key(_A_CREDENTIAL, '"signing-key"')
    next_key_file: Text | None = _key(_A_FILE, '"next-signing-key.pem"')
    next_credential: Annotated[str, Field(pattern=CREDENTIAL)] | None = _key(
        _A_CREDENTIAL, '"next-signing-key"'
    )


class JournalShape(Shape):
    """`[journal]`: the SQLite file."""

    path: Text | None = _key(_A_FILE, '"journal.db"')
    budget_mb: Annotated[int, Field(ge=16, le=16_000_000)] | None = _key(
        "a whole number of megabytes, 16 or more", "1024"
    )
    keep_acknowledged_days: Annotated[int, Field(ge=7, le=36_500)] | None = _key(
        "a whole number of days, 7 or more", "90"
    )


class IntervalShape(Shape):
    """`[interval]`: how often a batch is sealed."""

    length: Text | None = _key('a length of time, as text, such as "1min"', '"1min"')


class WebShape(Shape):
    """`[web]`: metrics, status and the operator's page."""

    listen: Text | None = _key('a host and a port, as text, such as "127.0.0.1:8470"', '"127.0.0.1:8470"')


class CatalogueShape(Shape):
    """`[catalogue]`: other emission sources than the 58 of an electricity meter."""

    required = ("file",)

    file: Text | None = _key(_A_FILE, '"emission_sources.csv"')


class ProfilesShape(Shape):
    """`[profiles]`: a folder with meters that the agent does not bring."""

    required = ("directory",)

    directory: Text | None = _key("the name of a folder, as text", '"profiles"')


class LineShape(Shape):
    """One `[[lines]]`: an RS485 pair or a TCP gateway."""

    required = ("id", "transport")

    id: Id | None = _key(_AN_ID, '"hall-a"')
    transport: Literal["rs485", "modbus-tcp", "rs485-over-tcp"] | None = _key(
        '"rs485", "modbus-tcp" or "rs485-over-tcp"', '"rs485"'
    )
    device: Text | None = _key("the name of a serial device, as text", '"/dev/serial/by-id/..."')
    host: Text | None = _key("a host name or IP address, as text", '"10.0.8.20"')
    port: Annotated[int, Field(ge=1, le=65_535)] | None = _key("a port; ports are 1 to 65535", "502")
    baud: Baud | None = _key(_A_BAUD, "9600")
    parity: Parity | None = _key('"none", "even" or "odd"', '"none"')
    stop_bits: StopBits | None = _key("1 or 2", "1")
    poll: Text | None = _key('a length of time, as text, such as "5s"', '"5s"')


class MeterShape(Shape):
    """One `[[meters]]`."""

    required = ("id", "line", "address", "profile")

    id: Id | None = _key(_AN_ID, '"reflow-1"')
    line: Text | None = _key("the id of a line, as text", '"hall-a"')
    address: int | str | None = _key("an address: 1 to 247, or 12 digits as text for DL/T 645", "7")
    profile: Text | None = _key("the id of a profile, as text", '"eastron-sdm630-v2"')
    step: Text | None = _key("the id of a step, as text", '"reflow_soldering"')
    steps: Annotated[dict[str, Text], Field(min_length=1)] | None = _key(
        'a share of a step, written as text such as "3/5"',
        '{ smt_placement = "3/5", reflow_soldering = "2/5" }',
    )
    role: Literal["incomer", "generation", "export", "utility", "other"] | None = _key(
        '"incomer", "generation", "export", "utility" or "other"', '"incomer"'
    )
    serial: Annotated[str, Field(pattern=r"^[!-~]{1,32}$")] | None = _key(
        "a serial number, written as text of 1 to 32 plain characters", '"2206001234"'
    )
    ct_ratio: Text | None = _key(_A_RATIO, '"150/5"')
    pt_ratio: Text | None = _key(_A_RATIO, '"10000/100"')
    circuit: Annotated[int, Field(ge=1, le=999)] | None = _key("the number of a circuit, 1 or more", "1")
    baud: Baud | None = _key(_A_BAUD, "2400")
    parity: Parity | None = _key('"none", "even" or "odd"', '"none"')
    stop_bits: StopBits | None = _key("1 or 2", "1")
    rated_kw: Text | None = _key('a power in kW written as text, such as "40"', '"40"')
    parent: Annotated[Text, Field(max_length=65)] | None = _key("the id of a meter, as text", '"incomer-1"')
    production_line: Id | None = _key(_AN_ID, '"smt-2"')
    powered_by: Literal["circuit"] | None = _key(
        '"circuit"; leave the key out for a meter with a supply of its own', '"circuit"'
    )
    accuracy_class: Word | None = _key(_A_CLASS, '"1"')
    ct_class: Word | None = _key(_A_CLASS, '"0.5"')
    display_checked: Text | None = _key(
        "who compared the reading with the meter's display and when, as text", '"2026-11-22 by N. N."'
    )


S = TypeVar("S", bound=Shape)


@dataclass(frozen=True, slots=True)
class Table(Generic[S]):
    """One table of the file.

    `value` holds every value of the right type. `given` are all keys that are in the file, so that a key with a wrong
    value is not reported as missing a second time.
    """

    path: KeyPath
    value: S
    given: frozenset[str]


def read_table(kind: type[S], table: object, path: KeyPath, faults: FaultList) -> Table[S]:
    """Check the shape of one table and report what is wrong with it; never raises."""
    if not isinstance(table, dict):
        faults.add(path, f"{shown(table)} is not a table", f"write {_header(path)} and its keys below")
        return Table(path, kind(), frozenset(kind.model_fields))
    given = frozenset(table)
    try:
        value = kind.model_validate(table)
    except ValidationError as error:
        wrong = _report(kind, error, table, path, faults)
        value = kind.model_validate({key: table[key] for key in table if key not in wrong})
    for key in kind.required:
        if key not in given:
            example = kind.model_fields[key].examples or [""]
            faults.add((*path, key), "is missing", f"add {key} = {example[0]}")
    return Table(path, value, given)


def _header(path: KeyPath) -> str:
    """How a table begins: `[journal]`, and `[[meters]]` in a list."""
    name = ".".join(str(part) for part in path if isinstance(part, str))
    return f"[[{name}]]" if isinstance(path[-1], int) else f"[{name}]"


def _report(
    kind: type[Shape], error: ValidationError, table: Mapping[str, object], path: KeyPath, faults: FaultList
) -> frozenset[str]:
    """Report every wrong value once; returns the keys of the table that are wrong."""
    reported: set[KeyPath] = set()
    for detail in error.errors(include_url=False, include_context=False):
        place = _place(detail["loc"], table)
        if place in reported:  # a value that may have one of two types fails once for each of them
            continue
        reported.add(place)
        key = str(place[0])
        field = kind.model_fields.get(key)
        if field is None:
            faults.add((*path, key), "there is no such key", _instead(key, kind))
            continue
        value = _at(place, table)
        close = _closest_choice(field.annotation, value)
        faults.add((*path, *place), f"{shown(value)} is not {field.description}", close)
    return frozenset(str(place[0]) for place in reported)


def _instead(key: str, kind: type[Shape]) -> str:
    return did_you_mean(key, kind.model_fields) or f"known here are {', '.join(kind.model_fields)}"


def _place(loc: tuple[int | str, ...], table: Mapping[str, object]) -> KeyPath:
    """The path of the wrong value; pydantic adds words of its own where a value may have several types."""
    inside = table[str(loc[0])]
    return loc[:2] if len(loc) == 2 and isinstance(inside, dict) and loc[1] in inside else loc[:1]


def _at(place: KeyPath, table: Any) -> object:
    for part in place:
        table = table[part]
    return table


def _closest_choice(annotation: Any, value: object) -> str:
    """What was meant, where a key has a few allowed words."""
    if not isinstance(value, str):
        return ""
    choices = [
        choice
        for part in getattr(annotation, "__args__", ())
        for choice in getattr(part, "__args__", ())
        if isinstance(choice, str)
    ]
    return did_you_mean(value, choices)


def shown(value: object) -> str:
    """A value as it would stand in the file, cut to one short line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
        case str():
            text = value if len(value) <= 60 else f"{value[:57]}..."
            return '"' + "".join(char if char.isprintable() else "?" for char in text) + '"'
        case dict():
            return "a table"
        case list():
            return "a list" if value else "an empty list"
        case date() | time():
            return "a date or time"
        case _:
            return str(value)
