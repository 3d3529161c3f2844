"""200,000 damaged inputs at every parser, the same in every run; and everything that ever escaped.

Guided by coverage (`make fuzz`) a run costs two to five times as much: that is for ten
million runs now and then. The dearest parsers are cut in parts, so that no worker waits for another.
"""

from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.corpus import CRASHERS, messages, seeds
from tests.fuzz.framing import framed
from tests.fuzz.targets import TARGETS, mutants

RUNS = 200_000
PARTS = dict.fromkeys(TARGETS, 1) | {"rtu": 5, "site": 5}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.fault("F86")
@pytest.mark.parametrize(("name", "part"), [(name, part) for name in TARGETS for part in range(PARTS[name])])
def test_nothing_escapes(name: str, part: int) -> None:
    for data in mutants(name, RUNS // PARTS[name], seed=part):
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
