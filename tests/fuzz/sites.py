"""What must hold for any tables of a site file: a site, or faults that can be printed, each with a line of the file.

The bytes of an input are edits of the example site: this key away, that value another one, a meter twice. Damaged text
would be the wrong place to begin: most of it is no TOML and ends in the parser, which the target `toml` has for itself.
What lies between the two, from the bytes of a file to its tables and lines, is one function, which `toml` calls.
"""

import datetime
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from agent.errors import ConfigError
from agent.metering.profile import Profile
from agent.resources import config_path
from agent.settings import site
from agent.settings.catalogue import load_catalogue
from agent.settings.profiles import ProfileShelf, load_profiles
from tests.fuzz.framing import Reader
from tests.fuzz.messages import paths_of
from tests.settings.example_site import write_site

EDITS_MAX = 8
_VALUES: tuple[object, ...] = (
    *(True, False, 0, 1, -1, 7, 8, 247, 248, 255, 256, 9_600, 65_535, 65_536, 2**31, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 1e-9, 1e308, float("inf"), float("nan")),
    datetime.date(1979, 5, 27),
    datetime.time(7, 32),
    datetime.datetime(1979, 5, 27, 7, 32, tzinfo=datetime.UTC),
    *("", " ", "0", "-1", "1/0", "0/5", "150/5", "3/5", "2/5", "1e3", "٣", "0.1", "9" * 40, "1/" + "9" * 30),
    *(
        "1min",
        "1d",
        "7min",
        "0s",
        "-5s",
        "1.5s",
        "24h",
        "5s",
        "100ms",
        "..",
        "/",
        "~",
        "a/b",
        "\0",
        "\n",
        "\x1b[31m",
    ),
    *("hall-a", "gateway-2", "incomer-1", "reflow-1", "smt-1", "gw01", "gw01/incomer-1", "gw02/incomer-1"),
    *("rs485", "modbus-tcp", "rs485-over-tcp", "even", "odd", "none", "broker", "platform", "circuit"),
    *("incomer", "generation", "export", "utility", "other", "smt_placement", "reflow_soldering", "assembly"),
    *("eastron-sdm120", "schneider-iem3155", "dlt645-2007", "acrel-adl400", "000012345678", "999999999999"),
    *(
        "mqtt://127.0.0.1:1883",
        "mqtt://10.0.0.1",
        "mqtts://[::1",
        "wss://h/p",
        "none://",
        "127.0.0.1:0",
        "[::1]:80",
    ),
    *("platform.pem", "signing-key.pem", "ca.pem", "gw01.key", "journal.db", "site.toml", "日本", "\u202e"),
    *([], [[]], [1, "a"], ["platform.pem", "platform.pem"], {}, {"a": {}}, {"": 1}, [{}], [{"id": "x"}]),
    *(
        {"smt_placement": "1/3", "reflow_soldering": "2/3"},
        {"smt_placement": "3/2"},
        {"x y": "1"},
        {"a": 0.5},
    ),
)
_KEYS = (
    *("org", "agent", "audience", "broker", "ca_file", "client_certificate", "client_key", "acknowledgement"),
    *(
        "acknowledgement_keys",
        "username",
        "password_file",
        "topic_root",
        "key_file",
        "credential",
        "path",
        "budget_mb",
    ),
    *(
        "keep_acknowledged_days",
        "length",
        "listen",
        "file",
        "directory",
        "id",
        "transport",
        "device",
        "host",
        "port",
    ),
    *(
        "baud",
        "parity",
        "stop_bits",
        "poll",
        "line",
        "address",
        "profile",
        "step",
        "steps",
        "role",
        "serial",
        "ct_ratio",
    ),
    *(
        "pt_ratio",
        "circuit",
        "rated_kw",
        "parent",
        "production_line",
        "powered_by",
        "accuracy_class",
        "ct_class",
    ),
    *(
        "gateway",
        "platform",
        "signing",
        "journal",
        "interval",
        "web",
        "catalogue",
        "profiles",
        "lines",
        "meters",
        "x",
    ),
)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder with all the files that the example names, until the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-site-")
    place = Path(folder.name)
    write_site(place)
    for name in ("ca.pem", "gw01.pem", "gw01.key"):
        (place / name).write_bytes((place / "signing-key.pem").read_bytes())
        (place / name).chmod(0o600)
    return folder


@functools.cache
def _example() -> tuple[
    dict[str, Any], Mapping[tuple[str | int, ...], int], tuple[tuple[str | int, ...], ...]
]:
    """The tables of the example, the lines of its keys, and its keys.

    Two meters have all that its four have between them: a run costs by the meter.
    """
    found, lines = site.parse(Path("site.example.toml"), config_path("site.example.toml").read_bytes())
    document: dict[str, Any] = dict(found)
    meters: list[dict[str, Any]] = document["meters"]
    incomer, reflow, smt, burn_in = meters
    own = {"steps": smt["steps"], "ct_ratio": smt["ct_ratio"]}
    whole = {key: value for key, value in (burn_in | smt | reflow | own).items() if key != "step"}
    document["meters"] = [incomer, whole]
    return document, lines, tuple(paths_of(document))


_load_profiles_once = functools.cache(load_profiles)
_load_catalogue_once = functools.cache(load_catalogue)


@functools.cache
def _shipped(directory: Path) -> ProfileShelf:
    return ProfileShelf(directory)


def _shelf_once(directory: Path, over: Mapping[str, Profile]) -> Mapping[str, Profile]:
    """The shipped profiles are no part of the input: what was read of them once stays read."""
    shipped = _shipped(directory)
    return {**{id: shipped[id] for id in shipped}, **over} if over else shipped


def _read_once() -> Any:
    return patch.multiple(
        site,
        load_profiles=_load_profiles_once,
        ProfileShelf=_shelf_once,
        load_catalogue=_load_catalogue_once,
    )


def _copied(value: Any) -> Any:
    """Tables and lists of their own; what is in them cannot change."""
    if isinstance(value, dict):
        return {key: _copied(member) for key, member in value.items()}
    return [_copied(member) for member in value] if isinstance(value, list) else value


def edited(data: bytes) -> dict[str, Any]:
    """The example after the edits that the bytes say."""
    example, _, paths = _example()
    reader = Reader(data)
    document: dict[str, Any] = _copied(example)
    for _ in range(EDITS_MAX):
        if reader.is_empty:
            break
        edit, path = reader.byte(), paths[reader.byte() % len(paths)]
        _apply(document, path, edit, reader)
    return document


def _apply(document: dict[str, Any], path: tuple[str | int, ...], edit: int, reader: Reader) -> None:
    """One edit; a key that an earlier one has taken away is nothing to edit."""
    holder: Any = document
    for part in path[:-1]:
        holder = _member(holder, part)
    key = path[-1]
    if _member(holder, key) is None:
        return
    match edit % 8:
        case 0 | 1:
            holder[key] = _copied(_VALUES[reader.byte() % len(_VALUES)])
        case 2:
            holder[key] = _text(reader)
        case 3:
            holder[key] = int.from_bytes(reader.run(1 + edit // 8 % 8), "big", signed=True)
        case 4:
            del holder[key]
        case 5:
            new = _KEYS[reader.byte() % len(_KEYS)] if edit & 8 else _text(reader)
            target = holder[key] if isinstance(holder[key], dict) else document
            target[new] = _copied(_VALUES[reader.byte() % len(_VALUES)])
        case 6:
            other = _example()[2][reader.byte() % len(_example()[2])]
            value: Any = document
            for part in other:
                value = _member(value, part)
            if value is not None:
                holder[key] = _copied(value)
        case _:
            holder[key] = _bent(holder[key], reader)


def _member(holder: Any, part: str | int) -> Any:
    """What a table or a list has at a place, None where it has nothing there."""
    if isinstance(part, int):
        return holder[part] if isinstance(holder, list) and part < len(holder) else None
    return holder.get(part) if isinstance(holder, dict) else None


def _text(reader: Reader) -> str:
    return reader.run(1 + reader.byte() % 24).decode("utf-8", "ignore")


def _bent(value: Any, reader: Reader) -> Any:
    """Something near the value: a text with a sign more or less, a number beside it, a list with an element twice."""
    at = reader.byte()
    match value:
        case bool():
            return not value
        case int():
            return value + at - 128
        case str():
            at %= len(value) + 1
            return value[:at] + _text(reader) + value[at + reader.byte() % 3 :]
        case list():
            return [*value, _copied(value[at % len(value)])] if value else [value]
        case _:
            return [value]


def check_site(data: bytes) -> None:
    """A site, or faults that can be printed; each with a line of the file."""
    file = Path(_folder().name) / "site.toml"
    _, lines, _ = _example()
    try:
        with _read_once():
            found = site.site_of(file, edited(data), lines, sha256="")
    except ConfigError as error:
        faults = [fault for fault in error.faults if fault.file == str(file)]
        if not error.faults or not str(error):
            raise AssertionError("refused without a fault") from None
        last = max(lines.values())
        if any(fault.line is not None and not 1 <= fault.line <= last for fault in faults):
            raise AssertionError("a fault in a line that the file does not have") from None
        return
    assert found.plant.meters and found.interval_ms > 0
