"""Imports run downwards, the core stays pure, each foreign library has one address: the contracts of pyproject.toml.

A contract that cannot fail is worth nothing, so each is also shown a tree with the import that it is there to refuse.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PURE = {"metering", "reporting", "protocol", "carbon"}

# One forbidden import for each contract: the file it is planted in, the line, the contract that has to notice.
PLANTS = [
    ("metering/quantity.py", "import agent.service.ports", "layers"),
    ("settings/__init__.py", "import agent.adapters", "layers"),
    ("resources.py", "import agent.errors", "layers"),
    ("errors.py", "import simulators", "no-simulators"),
    ("metering/quantity.py", "import time", "pure"),
    ("reporting/__init__.py", "import logging", "pure"),
    ("protocol/pdu.py", "import asyncio", "pure"),
    ("service/ports.py", "from pymodbus.client import AsyncModbusTcpClient", "one-address-pymodbus"),
    ("adapters/planted.py", "import serial", "one-address-serial"),
    ("adapters/planted.py", "import paho.mqtt.client", "one-address-paho"),
    ("adapters/planted.py", "import apscheduler", "one-address-apscheduler"),
    ("settings/__init__.py", "import sqlite3", "one-address-sqlite3"),
    ("adapters/planted.py", "import prometheus_client", "one-address-prometheus"),
    ("adapters/planted.py", "import h11", "one-address-h11"),
    ("reporting/__init__.py", "import cryptography", "one-address-cryptography"),
    ("adapters/planted.py", "import pydantic", "one-address-pydantic"),
    ("service/ports.py", "import rich", "one-address-face"),
]


def check_layers(tree: Path, *contracts: str) -> tuple[int, str]:
    """Run import-linter in a tree; its exit status and what it said."""
    limits = [word for contract in contracts for word in ("--contract", contract)]
    program = (
        "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo", *limits],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the contracts look at, to plant things in."""
    for package in ("agent", "simulators"):
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.toml"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(tree: Path, place: str, line: str) -> None:
    file = tree / "agent" / place
    file.write_text(
        (file.read_text() if file.exists() else "") + f"\n\ndef _planted() -> None:\n    {line}\n"
    )


def test_every_contract_holds() -> None:
    status, said = check_layers(ROOT)
    assert status == 0, said
    assert f"{len(CONTRACTS)} kept, 0 broken" in said


def test_every_contract_has_a_plant() -> None:
    assert {contract["id"] for contract in CONTRACTS} == {contract for _, _, contract in PLANTS}


@pytest.mark.parametrize(("place", "line", "contract"), PLANTS, ids=[f"{p[2]}:{p[1]}" for p in PLANTS])
def test_a_forbidden_import_is_noticed(copy: Path, place: str, line: str, contract: str) -> None:
    assert check_layers(copy, contract)[0] == 0
    plant(copy, place, line)
    status, said = check_layers(copy, contract)
    assert status == 1, said
    assert "0 kept, 1 broken" in said


def test_a_clock_behind_a_detour_is_noticed(copy: Path) -> None:
    plant(copy, "errors.py", "import time")
    plant(copy, "metering/quantity.py", "import agent.errors")
    status, said = check_layers(copy, "pure")
    assert status == 1, said


def test_a_package_without_a_place_is_noticed(copy: Path) -> None:
    (copy / "agent" / "helpers").mkdir()
    (copy / "agent" / "helpers" / "__init__.py").touch()
    status, said = check_layers(copy, "layers")
    assert status == 1, said
    assert "helpers" in said


def test_every_pure_package_is_under_the_contract() -> None:
    pure = next(contract for contract in CONTRACTS if contract["id"] == "pure")
    present = {f"agent.{name}" for name in PURE if (ROOT / "agent" / name / "__init__.py").exists()}
    assert set(pure["source_modules"]) == present
