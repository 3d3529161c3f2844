"""The judge inside verify.html makes of every file what our verify makes of it: verdicts, counts and exact totals.

Run in node, with its Ed25519 and with the page's own, over all test vectors and over spoiled copies of a good chain.
"""

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from agent.adapters.keys import load_public_key, public_key_of_jwk
from agent.reporting.event import adjust_event
from tests.evidence.judges import Case, said_by_python, said_by_the_page
from tests.reporting.audit import KEY
from tests.reporting.gateway import Gateway, meter_description
from tests.reporting.keys import Key
from tests.reporting.test_toldtimes import booted_in_1970, set_clock
from tests.vectors.builder import GATEWAY, PLATFORM
from tests.vectors.readers import FOLDER, lines
from tests.vectors.test_bad import BAD, TOLERATED, before, messages

KEYS = [public_key_of_jwk(GATEWAY.jwk)]
ACK_KEYS = [public_key_of_jwk(PLATFORM.jwk)]
VECTORS = {name: vector for name, vector in (BAD | TOLERATED).items() if vector["verify"] is not None}
pytestmark = pytest.mark.node


def case(*messages: bytes, excerpt: bool = False, ack_keys: bool = True) -> Case:
    """A file of the vectors' gateway."""
    return Case(messages, KEYS, ACK_KEYS if ack_keys else (), excerpt)


def agree(cases: dict[str, Case], folder: Path, *, native: bool) -> None:
    """Both judges say the same of every case; where they differ, the cases and both answers are shown."""
    answers = dict(zip(cases, said_by_the_page(list(cases.values()), folder, native=native), strict=True))
    different = {}
    for name, asked in cases.items():
        ours, theirs = said_by_python(asked), answers[name]
        wrong = {member: (value, theirs[member]) for member, value in ours.items() if theirs[member] != value}
        if wrong:
            different[name] = {**wrong, "findings": theirs["findings"]}
    assert different == {}


@pytest.mark.parametrize("native", [True, False], ids=["WebCrypto", "own Ed25519"])
def test_the_same_verdict_on_every_vector(tmp_path: Path, native: bool) -> None:
    cases = {name: case(*before(vector), *messages(vector)) for name, vector in VECTORS.items()}
    chain = lines("good/chain.jws")
    cases |= {
        "good": case(*chain),
        "good, acknowledgements not read": case(*chain, ack_keys=False),
        "an excerpt": case(*chain[5:], excerpt=True),
        "not an excerpt": case(*chain[5:]),
        "nothing": case(),
    }
    assert len(cases) > 80
    agree(cases, tmp_path, native=native)


def test_what_was_expected_of_the_good_chain_by_hand(tmp_path: Path) -> None:
    expected = json.loads((FOLDER / "good" / "expected.json").read_text())
    (said,) = said_by_the_page([case(*lines("good/chain.jws"))], tmp_path, native=False)
    assert said["ok"]
    assert {meter: int(energy) for meter, energy in said["byMeter"].items()} == expected["by_meter"]
    by_step = {step: Fraction(energy) for step, energy in said["byStep"].items()}
    assert by_step == {step: Fraction(energy) for step, energy in expected["by_step"].items()}


def test_a_gateway_whose_key_is_in_a_tpm(tmp_path: Path) -> None:
    key = load_public_key(FOLDER / "keys" / "gateway-es256.pem")
    assert key.alg == "ES256"
    messages = lines("good/es256.jws")
    cases = {
        "es256": Case(messages, [key]),
        "edited": Case([messages[0][:-6] + b"AAAAAA", *messages[1:]], [key]),
    }
    assert said_by_python(cases["es256"])["verdicts"]["signature"] == 0
    agree(cases, tmp_path, native=True)


def spoiled(chance: random.Random, chain: list[bytes]) -> list[bytes]:
    """A copy of a chain in which something happened to a line or two."""
    copy = list(chain)
    for _ in range(chance.choice([1, 1, 2])):
        at = chance.randrange(len(copy))
        line = copy[at]
        match chance.randrange(6):
            case 0:
                del copy[at]
            case 1:
                copy.insert(chance.randrange(len(copy)), copy.pop(at))
            case 2:
                copy.insert(chance.randrange(len(copy)), line)
            case 3:
                place = chance.randrange(len(line))
                copy[at] = (
                    line[:place] + chance.choice(b"AZaz09-_.=+ \n\x80").to_bytes(1, "big") + line[place + 1 :]
                )
            case 4:
                copy[at] = line[: chance.randrange(1, len(line))]
            case 5:
                del copy[: at // 2]
    return copy


def test_the_same_verdict_on_300_spoiled_copies(tmp_path: Path) -> None:
    chance = random.Random(23)
    chain = lines("good/chain.jws")
    agree({str(number): case(*spoiled(chance, chain)) for number in range(300)}, tmp_path, native=True)


def test_shares_children_and_rating_come_out_exactly_alike(tmp_path: Path) -> None:
    key = Key(7)
    shared = (("smt_placement", 1, 3), ("reflow_soldering", 2, 7))
    gateway = Gateway(
        key,
        (
            meter_description("incomer", role="incomer", steps=(), modulus=None, resolution=None),
            meter_description("m1", parent="incomer", steps=shared, rated_w=6),
            meter_description("roof", parent="incomer", role="generation", steps=()),
            meter_description("m2", parent="m1"),
        ),
    )
    for minute in range(70):
        gateway.minute({"incomer": 1_000_003, "m1": 500_001 + minute, "roof": 7, "m2": 499_999})
    asked = Case(gateway.jws, [public_key_of_jwk(key.jwk)])
    assert "/3" in str(said_by_python(asked)["byStep"]), "a share that is no whole number"
    agree({"shares": asked}, tmp_path, native=True)


def adjusted(chance: random.Random) -> Case:
    """Three meters with shares, a while of minutes, and persons who adjust some of it: exactly, roughly, wrongly."""
    key = Key(7)
    gateway = Gateway(
        key,
        (
            meter_description("incomer", role="incomer", steps=()),
            meter_description(
                "m1", parent="incomer", steps=(("smt_placement", 1, 3), ("reflow_soldering", 2, 7))
            ),
            meter_description("m2", parent="incomer"),
        ),
    )
    for minute in range(chance.randrange(2, 30)):
        gateway.minute({"incomer": 3_000_001, "m1": chance.randrange(10**6), "m2": minute})
        if chance.random() < 0.2:
            first = chance.randrange(1, minute + 2)
            amount = (
                {"factor": (chance.randrange(1, 9), chance.randrange(1, 9))}
                if chance.random() < 0.5
                else {
                    "energy_milliwh": chance.randrange(-(10**6), 10**6),
                    "bound_milliwh": chance.randrange(10**5),
                }
            )
            event = adjust_event(
                gateway.now_ms,
                meter=chance.choice(["incomer", "m1", "m2"]),
                epoch=chance.choice([1, 1, 1, 2]),
                n_from=first,
                n_to=max(1, first + chance.randrange(-1, 5)),
                reason="CT ratio was 150/5, is 200/5",
                evidence="x" * 43,
                by="Li Na",
                **amount,
            )
            gateway.minute({"incomer": 1, "m1": 1, "m2": 1}, [event])
    cut = chance.choice([0, 0, 3])
    return Case(gateway.jws[cut:], [public_key_of_jwk(key.jwk)], excerpt=cut > 0)


def test_raw_adjusted_and_estimated_energy_come_out_exactly_alike(tmp_path: Path) -> None:
    chance = random.Random(29)
    cases = {str(number): adjusted(chance) for number in range(100)}
    said = [said_by_python(each)["corrections"] for each in cases.values()]
    assert sum(len(each["applied"]) for each in said) > 50 and any(each["notHere"] for each in said)
    assert any("/" in figure for each in said for figures in each["byStep"].values() for figure in figures)
    agree(cases, tmp_path, native=True)


def test_a_revoked_key_ends_where_the_operator_said_in_both(tmp_path: Path) -> None:
    key = Key(7)
    gateway = Gateway(key)
    for _ in range(6):
        gateway.minute({"m1": 1_000, "m2": 1_000})
    assert gateway.head is not None
    chain, public = gateway.head.chain, public_key_of_jwk(key.jwk)
    places = {str(seq): (chain, seq) for seq in range(7)} | {
        "another chain": ("01ARZ3NDEKTSV4RRFFQ69G5FAV", 3)
    }
    cases = {name: Case(gateway.jws, [public], revoked={public.kid: place}) for name, place in places.items()}
    counts = [said_by_python(each)["verdicts"]["signature"] for each in cases.values()]
    assert counts[0] == 6 and counts[6] == 0 and counts[-1] == 0
    agree(cases, tmp_path, native=True)


def test_times_that_clock_events_corrected_are_the_same_in_both(tmp_path: Path) -> None:
    public = public_key_of_jwk(KEY.jwk)
    twice = booted_in_1970(is_known=True)
    twice.minute({"m1": 1_000}, [set_clock(twice, 1, 3, 2_000), set_clock(twice, 1, 3, -(2**52))])
    cases = {
        "set twice, and once to no time": Case(twice.jws, [public]),
        "known": Case(booted_in_1970(is_known=True).jws, [public]),
        "unknown": Case(booted_in_1970(is_known=False).jws, [public]),
        "no time at all": Case(booted_in_1970(is_known=True, offset_ms=2**53 - 1).jws, [public]),
        "an excerpt": Case(booted_in_1970(is_known=True).jws[1:], [public], excerpt=True),
    }
    known, again = (
        said_by_python(each)["relabelled"][0][4] for each in (cases["known"], Case(twice.jws, [public]))
    )
    assert again == [time + 2_000 for time in known]
    agree(cases, tmp_path, native=True)
