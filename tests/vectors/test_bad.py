"""Every bad vector meets both readers, and each makes of it what is written beside it, by hand."""

import json
from typing import Any

import pytest

from agent.reporting.envelope import base64url_decode
from tests.schemas.schemas import faults, reader
from tests.vectors.readers import FOLDER, Bench, Picture, lines, verified

Vector = dict[str, Any]


def load(*names: str) -> dict[str, Vector]:
    """Vectors by the name of their group and their own."""
    return {
        f"{name}/{vector['name']}": vector
        for name in names
        for vector in json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
    }


BAD = load(*(f"bad/{path.stem}" for path in sorted((FOLDER / "bad").glob("*.json"))))
TOLERATED = load("good/tolerated")
BOTH_JUDGE = [name for name, vector in BAD.items() if vector["verify"] is not None]
KINDS = {"rejected", "evidence", "fork", "refused-chain", "staged", "held", "alarmed", "nothing"}


def before(vector: Vector) -> list[bytes]:
    """The honest batches that come first."""
    return lines(f"bad/{vector['basis']}")[: vector["before"]]


def messages(vector: Vector) -> list[bytes]:
    """The vector's own messages; a stranger may send any bytes, so that a text is what its UTF-8 says."""
    return [message["jws"].encode() for message in vector["messages"]]


# ---------------------------------------------------------------------------- the set itself


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    assert len(BOTH_JUDGE) >= 60
    names = [vector["name"] for vector in (*BAD.values(), *TOLERATED.values())]
    assert len(set(names)) == len(names)
    assert {vector["platform"]["verdict"] for vector in BAD.values()} == KINDS
    assert {fails for name in BOTH_JUDGE for fails in BAD[name]["verify"]["fails"]} == {
        "signature",
        "chain",
        "conservation",
    }


def test_the_threat_model_says_how_many_they_are() -> None:
    assert f"{len(BAD)} bad messages in `tests/vectors/`" in (FOLDER.parents[1] / "SECURITY.md").read_text()


@pytest.mark.parametrize("basis", ["basis", "rotated"])
def test_the_honest_batches_before_them_are_good(basis: str) -> None:
    batches = lines(f"bad/{basis}.jws")
    for count in range(1, len(batches) + 1):
        assert verified(batches[:count]).ok
    bench = Bench()
    for batch in batches:
        bench.send("kwh/v1/zj-meterworks/gw01/up/batch", batch)
    assert bench.picture().alarms == {}
    assert bench.picture().energy in ({"m1": 4_000, "m2": 8_000}, {"m1": 3_000, "m2": 6_000})


BEYOND_A_SCHEMA = {"delta-flags-unsorted", "iat-february-30", "agent-newline"}
"""Sorting and calendars. The newline passes only because Python's `$` matches before one."""


@pytest.mark.parametrize("name", [name for name in BAD if name.startswith("bad/members/")])
def test_the_schema_refuses_wrong_members_as_well(name: str) -> None:
    payload = json.loads(base64url_decode(BAD[name]["messages"][-1]["jws"].split(".")[1]))
    assert (faults(reader("batch.json"), payload) == []) is (BAD[name]["name"] in BEYOND_A_SCHEMA)


@pytest.mark.parametrize("name", TOLERATED)
def test_the_schema_takes_what_is_only_odd(name: str) -> None:
    payload = json.loads(base64url_decode(TOLERATED[name]["messages"][-1]["jws"].split(".")[1]))
    assert faults(reader("batch.json"), payload) == []


# ---------------------------------------------------------------------------- verify


@pytest.mark.fault("F84")
@pytest.mark.parametrize("name", BOTH_JUDGE)
def test_verify_refuses(name: str) -> None:
    vector = BAD[name]
    expected = vector["verify"]
    report = verified([*before(vector), *messages(vector)])
    found = {
        verdict: [str(each) for each in report.verdicts[verdict].findings] for verdict in report.verdicts
    }
    failed = {verdict for verdict, verdict_ in report.verdicts.items() if not verdict_.ok} - {"quality"}
    assert failed == set(expected["fails"]), found
    assert not report.ok
    texts = [text for verdict in expected["fails"] for text in found[verdict]]
    assert any(expected["finding"] in text for text in texts), texts


@pytest.mark.parametrize("name", TOLERATED)
def test_verify_takes_what_is_only_odd(name: str) -> None:
    vector = TOLERATED[name]
    report = verified([*before(vector), *messages(vector)])
    assert report.ok, report
    energy = vector["platform"]["booked"]
    assert energy is None or report.by_meter == energy


# ---------------------------------------------------------------------------- platform


def played(vector: Vector) -> tuple[Picture, Picture]:
    """The platform before the last message of a vector, and after it."""
    bench = Bench()
    for batch in before(vector):
        bench.send("kwh/v1/zj-meterworks/gw01/up/batch", batch)
    sent = list(zip([each["topic"] for each in vector["messages"]], messages(vector), strict=True))
    for topic, message in sent[:-1]:
        bench.send(topic, message)
    first = bench.picture()
    for topic, message in sent[-1:]:
        bench.send(topic, message)
    return first, bench.picture()


def changes(first: Picture, second: Picture) -> set[str]:
    """Which parts of the picture changed."""
    return {name for name in vars_of(first) if getattr(first, name) != getattr(second, name)}


def vars_of(picture: Picture) -> list[str]:
    return list(picture.__dataclass_fields__)


EXPECTED_CHANGES = {
    "rejected": {"alarms"},
    "fork": {"alarms", "evidence"},
    "staged": {"staged"},
    "held": {"alarms", "held", "head"},
    "nothing": set(),
}
OPTIONAL_CHANGES = {
    "evidence": ({"alarms", "evidence"}, set()),
    "refused-chain": ({"evidence"}, {"alarms", "refused", "staged"}),
    "alarmed": ({"alarms", "head"}, {"energy"}),
    "booked": ({"head"}, {"energy"}),
}


def assert_played(vector: Vector) -> None:
    expected = vector["platform"]
    first, second = played(vector)
    changed = changes(first, second)
    verdict = expected["verdict"]
    if verdict in EXPECTED_CHANGES:
        assert changed == EXPECTED_CHANGES[verdict], second
    else:
        needed, possible = OPTIONAL_CHANGES[verdict]
        assert needed <= changed <= needed | possible, (changed, second)
    risen = {
        kind for (_, kind, subject), n in second.alarms.items() if first.alarms.get((_, kind, subject), 0) < n
    }
    if expected["alarm"] is None:
        assert risen == set()
    elif "alarms" in changed:
        assert expected["alarm"] in risen
    else:
        assert expected["alarm"] in {kind for _, kind, _ in second.alarms}
    if expected["booked"] is not None:
        assert second.energy == expected["booked"]
    if verdict == "refused-chain":
        assert second.refused
    if verdict == "fork":
        assert second.evidence[-1] == "fork"


@pytest.mark.fault("F84")
@pytest.mark.parametrize("name", BAD)
def test_the_platform_does_with_it_what_it_must(name: str) -> None:
    assert_played(BAD[name])


@pytest.mark.parametrize("name", TOLERATED)
def test_the_platform_takes_what_is_only_odd(name: str) -> None:
    assert_played(TOLERATED[name])
