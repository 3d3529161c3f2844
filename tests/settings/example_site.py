"""A complete and valid site in a folder of a test: the site file, the agent's signing key, the platform's key pair.

    site_file = write_site(tmp_path, meters=[meter("reflow-1", address=7)], broker="mqtt://127.0.0.1:18830")
    site = load_site(site_file)

Everything that a test cares about is an argument; `changes` reaches every other key of the tables that there is one
of: `write_site(tmp_path, changes={"platform": {"acknowledgement": "broker"}})`; a value of None takes the key out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.adapters.keys import generate_key
from agent.settings.budget import needed_mb
from agent.settings.grammar import interval_ms

TomlTable = Mapping[str, object]

PLATFORM_PRIVATE_KEY = "platform-key.pem"
"""The key with which a test can sign acknowledgements that the site believes."""


def line(name: str = "hall-a", **keys: object) -> dict[str, object]:
    """A `[[lines]]` table; Modbus TCP on a port of this machine where nothing else is said."""
    return {"id": name, "transport": "modbus-tcp", "host": "127.0.0.1", "port": 15_020} | keys


def serial_line(name: str, device: str, **keys: object) -> dict[str, object]:
    """A `[[lines]]` table of an RS485 pair."""
    return {"id": name, "transport": "rs485", "device": device, "baud": 9600, "parity": "none"} | keys


def meter(name: str, address: int | str, **keys: object) -> dict[str, object]:
    """A `[[meters]]` table; an SDM630 on line hall-a that counts for reflow soldering where nothing else is said."""
    table: dict[str, object] = {
        "id": name,
        "line": "hall-a",
        "address": address,
        "profile": "eastron-sdm630-v2",
    }
    if not {"step", "steps", "role"} & set(keys):
        table["step"] = "reflow_soldering"
    return table | keys


def write_site(
    folder: Path,
    *,
    lines: Sequence[TomlTable] | None = None,
    meters: Sequence[TomlTable] | None = None,
    broker: str = "mqtt://127.0.0.1:1883",
    interval: str = "10s",
    poll: str | None = None,
    changes: Mapping[str, TomlTable] | None = None,
) -> Path:
    """Write `site.toml` and every file it names into the folder; returns the path of the site file.

    Keys that exist in the folder are kept, so that a site can be written again with other meters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_keys(folder)
    lines = [line()] if lines is None else lines
    meters = [meter("reflow-1", 1), meter("wave-1", 2, step="wave_soldering")] if meters is None else meters
    if poll is not None:
        lines = [{**table, "poll": poll} for table in lines]
    document: dict[str, dict[str, object]] = {
        "gateway": {"org": "zj-meterworks", "agent": "gw01"},
        "platform": {
            "audience": "carbon.grid.example",
            "broker": broker,
            "acknowledgement_keys": ["platform.pem"],
        },
        "signing": {"key_file": "signing-key.pem"},
        "journal": {"path": "journal.db", "budget_mb": _budget_mb(len(meters), interval)},
        "interval": {"length": interval},
    }
    for name, table in (changes or {}).items():
        document.setdefault(name, {}).update(table)
    site_file = folder / "site.toml"
    site_file.write_text(toml_text(document, lines, meters), encoding="utf-8")
    return site_file


def _write_keys(folder: Path) -> None:
    if not (folder / "signing-key.pem").exists():
        generate_key(folder / "signing-key.pem")
    if not (folder / PLATFORM_PRIVATE_KEY).exists():
        public_key = generate_key(folder / PLATFORM_PRIVATE_KEY)
        (folder / "platform.pem").write_text(public_key.pem, encoding="ascii")


def _budget_mb(meters: int, interval: str) -> int:
    try:
        return max(1_024, needed_mb(meters, interval_ms(interval), "broker"))
    except ValueError:  # a test of a wrong interval
        return 1_024


def toml_text(
    tables: Mapping[str, TomlTable], lines: Sequence[TomlTable], meters: Sequence[TomlTable]
) -> str:
    """A TOML document, one key a line."""
    parts = [f"[{name}]\n{_pairs(table)}" for name, table in tables.items()]
    parts += [f"[[lines]]\n{_pairs(table)}" for table in lines]
    parts += [f"[[meters]]\n{_pairs(table)}" for table in meters]
    return "\n".join(parts)


def _pairs(table: TomlTable) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items() if value is not None)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
        case Sequence():
            return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"no TOML for {value!r}")
