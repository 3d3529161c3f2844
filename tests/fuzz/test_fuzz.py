"""Thousands of damaged inputs at every parser, the same in every run; and everything that ever escaped."""

from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.corpus import CRASHERS, messages, seeds
from tests.fuzz.framing import framed
from tests.fuzz.targets import TARGETS, mutants

RUNS = dict.fromkeys(TARGETS, 3_000) | {"site": 60, "toml": 300, "envelope": 1_500}


@pytest.mark.fault("F86")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_escapes(name: str) -> None:
    for data in mutants(name, RUNS[name]):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_themselves_and_no_bytes_at_all(name: str) -> None:
    for data in [b"", *seeds(name)]:
        TARGETS[name](data)


@pytest.mark.parametrize(
    "file", sorted(CRASHERS.rglob("*.bin")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_what_escaped_once_does_not_again(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


def test_the_campaign_knows_every_target() -> None:
    assert tuple(TARGETS) == campaign.NAMES


def test_every_vector_is_a_seed() -> None:
    assert len(messages()) >= 439
    assert set(messages()) <= set(seeds("envelope"))


def test_a_target_notices_a_parser_that_believes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.protocol.rtu_frame.is_sound", lambda data: True)
    wrong = bytes((0, 0, 5, 0)) + bytes((6, 7 << 3)) + framed(b"\x01\x03\x02\x12\x34")[:-1] + b"\x00"
    with pytest.raises(AssertionError, match="nobody sent"):
        TARGETS["rtu"](wrong)
