"""The bill of materials says what the lock says, in the form CycloneDX wants, and nothing about this machine."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.repository.test_locks import read_lock
from tests.support import sbom

ROOT = Path(__file__).resolve().parents[2]

_TEXT = {"type": "string", "minLength": 1}
_LICENCE = {
    "oneOf": [
        {
            "type": "object",
            "required": ["license"],
            "additionalProperties": False,
            "properties": {
                "license": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": False,
                    "properties": {"id": _TEXT, "name": _TEXT},
                }
            },
        },
        {
            "type": "object",
            "required": ["expression"],
            "additionalProperties": False,
            "properties": {"expression": _TEXT},
        },
    ]
}
_COMPONENT: dict[str, Any] = {
    "type": "object",
    "required": ["type", "name", "version", "bom-ref"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library"]},
        "name": _TEXT,
        "version": _TEXT,
        "bom-ref": _TEXT,
        "description": _TEXT,
        "purl": {"type": "string", "pattern": "^pkg:pypi/[a-z0-9-]+@[^ ]+$"},
        "licenses": {"type": "array", "minItems": 1, "maxItems": 1, "items": _LICENCE},
        "properties": {"type": "array"},
        "externalReferences": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "url", "hashes"],
                "properties": {
                    "type": {"const": "distribution"},
                    "hashes": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["alg", "content"],
                            "properties": {
                                "alg": {"const": "SHA-256"},
                                "content": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                            },
                        },
                    },
                },
            },
        },
    },
}
SCHEMA = {
    "type": "object",
    "required": [
        "bomFormat",
        "specVersion",
        "serialNumber",
        "version",
        "metadata",
        "components",
        "dependencies",
    ],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {
            "type": "string",
            "pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        },
        "version": {"const": 1},
        "metadata": {"type": "object", "properties": {"component": _COMPONENT}},
        "components": {"type": "array", "uniqueItems": True, "items": _COMPONENT},
        "dependencies": {"type": "array"},
    },
}
"""Those parts of the CycloneDX 1.6 schema that are used here, and no other member."""


def test_it_has_the_form_of_cyclonedx() -> None:
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(sbom.bill())] == []


def test_it_lists_the_lock_with_every_hash() -> None:
    listed = {
        each["name"]: (each["version"], len(each["externalReferences"][0]["hashes"]))
        for each in sbom.bill()["components"]
    }
    assert listed == {name: (str(version), count) for name, (version, count) in read_lock("runtime").items()}


def test_everything_in_it_is_there_because_something_needs_it() -> None:
    document = sbom.bill()
    graph = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    reached, waiting = set[str](), ["metering-agent"]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += graph[ref]
    assert reached == {"metering-agent", *(each["bom-ref"] for each in document["components"])}


def test_every_package_that_is_installed_has_a_licence() -> None:
    assert [each["name"] for each in sbom.bill()["components"] if "licenses" not in each] in ([], ["tzdata"])


def test_it_is_the_same_every_time_and_says_nothing_of_this_machine() -> None:
    text = sbom.text_of(sbom.bill())
    assert text == sbom.text_of(sbom.bill())
    assert json.loads(text)["bomFormat"] == "CycloneDX"
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)
    assert "://" not in text and "timestamp" not in text


@pytest.mark.slow
def test_the_wheel_is_reproducible(tmp_path: Path) -> None:
    """Two builds at different times, from folders of different names, are the same bytes."""
    wheels = []
    for number, day in ((1, "20260101"), (2, "20260202")):
        source = tmp_path / f"source-{number}"
        _copy(source, day)
        out = tmp_path / f"out-{number}"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600", "TZ": f"UTC-{number * 5}"}
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
            cwd=source,
            env=environment,
            check=True,
            capture_output=True,
        )
        (wheel,) = out.glob("*.whl")
        wheels.append((wheel.name, wheel.read_bytes()))
    assert wheels[0] == wheels[1]


def _copy(target: Path, day: str) -> None:
    """What git knows, with other times of change."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    moment = int(day)
    for name in names.decode().split("\0"):
        file = ROOT / name
        if name and file.is_file() and name.split("/")[0] not in {"tests", "systemd"}:
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            os.utime(copy, (moment, moment))
