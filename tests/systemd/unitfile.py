"""Read a unit file as systemd does: sections, keys that may come several times, an empty value that takes all back."""

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "systemd"
UNIT = FOLDER / "metering-agent.service"

Section = Mapping[str, list[str]]


def read_unit(file: Path = UNIT) -> dict[str, dict[str, list[str]]]:
    """Section, key, and the values of all its lines in their order."""
    sections: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in file.read_text("utf-8").splitlines():
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text.startswith("["):
            current = sections.setdefault(text.strip("[]"), {})
            continue
        key, _, value = text.partition("=")
        current.setdefault(key.strip(), []).append(value.strip())
    return sections


def one(section: Section, key: str) -> str:
    """The value of a key that stands there once."""
    (value,) = section[key]
    return value


def seconds(text: str) -> int:
    """A time span in one unit: `60`, `30s`, `15min`."""
    number = text.rstrip("smin")
    return int(number) * {"": 1, "s": 1, "min": 60}[text[len(number) :]]
