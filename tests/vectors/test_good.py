"""The good vectors: every reader of ours finds in them what is written beside them, by hand."""

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from agent.adapters.keys import PublicKeys, load_public_key, public_key_of_jwk
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement, heads_to_payload
from agent.reporting.batch import Batch
from agent.reporting.descriptor import Descriptor
from agent.reporting.status import Status
from agent.reporting.verify import Verifier
from simulators.platform import Platform, Store, queries
from tests.schemas.schemas import faults, reader, writer
from tests.vectors import generate
from tests.vectors.builder import (
    AGENT,
    AUDIENCE,
    GATEWAY,
    KEYS,
    ORG,
    PLATFORM,
    TPM,
    jws,
    topic,
)
from tests.vectors.readers import FOLDER, HandClock, lines, ring, verified

EXPECTED = json.loads((FOLDER / "good" / "expected.json").read_text())
SCHEMAS = {
    envelope.BATCH: "batch.json",
    envelope.DESCRIPTOR: "descriptor.json",
    envelope.ACKNOWLEDGEMENT: "acknowledgement.json",
    envelope.STATUS: "status.json",
    envelope.ENROLMENT: "enrolment.json",
}


def test_the_files_are_what_the_script_writes_today() -> None:
    """Byte for byte; nothing missing and nothing left over."""
    made = generate.files()
    stored = {
        str(path.relative_to(FOLDER))
        for folder in ("good", "bad", "keys")
        for path in (FOLDER / folder).iterdir()
    }
    assert stored == set(made)
    assert [name for name, content in made.items() if (FOLDER / name).read_bytes() != content] == []


def test_a_second_run_writes_the_same() -> None:
    assert generate.files() == generate.files()


def test_the_keys_say_what_they_are() -> None:
    published = json.loads((FOLDER / "keys" / "TEST-ONLY-private-keys.json").read_text())
    assert "never register one" in published["warning"]
    for name, key in published["keys"].items():
        public = load_public_key(FOLDER / "keys" / f"{name}.pem")
        assert (public.kid, public.alg) == (key["kid"], key["alg"])


def test_verify_finds_what_is_there() -> None:
    report = verified(lines("good/chain.jws"))
    assert {name: report.verdicts[name].ok for name in EXPECTED["verdicts"]} == EXPECTED["verdicts"]
    assert report.ok
    counted = (report.batches, report.descriptors, report.acknowledgements, report.deltas)
    assert counted == tuple(
        EXPECTED[name] for name in ("batches", "descriptors", "acknowledgements", "deltas")
    )
    assert (report.duplicates, report.balances_unchecked, report.acknowledgements_unchecked) == (0, 0, 0)
    spans = [
        {"chain": span.chain, "seq_first": span.seq_first, "seq_last": span.seq_last}
        for span in report.chains
    ]
    assert spans == EXPECTED["chains"]
    assert report.acknowledged is not None
    assert report.acknowledged.to_payload() == EXPECTED["head"]
    assert report.by_meter == EXPECTED["by_meter"]
    assert report.by_step == {step: Fraction(energy) for step, energy in EXPECTED["by_step"].items()}
    assert report.unassigned == Fraction(EXPECTED["unassigned"])
    holes = {
        "count": report.holes.count,
        "bound": report.holes.bound_milliwh,
        "unbounded": report.holes.unbounded,
    }
    assert holes == EXPECTED["holes"]
    assert (report.flags, report.events) == (EXPECTED["flags"], EXPECTED["events"])


def test_the_platform_books_the_same() -> None:
    platform, store = _platform()
    for number, line in enumerate(lines("good/chain.jws")):
        typ = envelope.typ_of(line)
        if typ != envelope.ACKNOWLEDGEMENT:
            platform.receive(topic(typ), line)
        if EXPECTED["says"][number].startswith("batch B1"):
            platform.receive(topic(envelope.STATUS), lines("good/status-asks-for-heads.jws")[0])
    for name in ("status.jws", "enrolment.jws"):
        (message,) = lines(f"good/{name}")
        platform.receive(topic(envelope.typ_of(message)), message)
    assert queries.broken_books(store) == []
    total = queries.totals(store)[f"{ORG}/{AGENT}"]
    assert {name: meter.energy_milliwh for name, meter in total.meters.items()} == EXPECTED["by_meter"]
    assert total.steps == {step: Fraction(energy) for step, energy in EXPECTED["by_step"].items()}
    assert (total.unassigned, total.undescribed_milliwh) == (Fraction(EXPECTED["unassigned"]), 0)
    head = queries.head(store, ORG, AGENT)
    assert head is not None
    assert head.to_payload() == EXPECTED["head"]
    kinds = {alarm.kind for alarm in queries.alarms(store)}
    assert kinds == set()
    heads = platform.receive(topic(envelope.STATUS), _asks_again())[-1]
    answer = Acknowledgement.from_payload(
        envelope.open_sealed(heads.payload, envelope.ACKNOWLEDGEMENT, ring(PLATFORM)).payload
    )
    assert answer.heads is not None
    as_written = {
        meter: replace(head, q=None) for meter, head in answer.heads.items()
    }  # q is an addition of ours
    assert heads_to_payload(as_written) == EXPECTED["heads"]
    assert all(head.q is not None for head in answer.heads.values())


def _platform() -> tuple[Platform, Store]:
    store = Store.create(":memory:")
    keys = {(ORG, AGENT): [public_key_of_jwk(GATEWAY.jwk)]}
    platform = Platform(store, audience=AUDIENCE, signer=PLATFORM, keys=keys, clock=HandClock())
    return platform, store


def _asks_again() -> bytes:
    """The good status, asking for heads, signed by the key that is in force at the end."""
    (message,) = lines("good/status.jws")
    opened = envelope.open_sealed(message, envelope.STATUS, _all_keys())
    payload: dict[str, Any] = {**opened.payload, "need_heads": True, "session": "again"}
    key = next(each for each in KEYS.values() if each.kid == opened.kid)
    return jws(payload, key, envelope.STATUS).encode()


def _all_keys() -> PublicKeys:
    return ring(*KEYS.values())


@pytest.mark.fault("F84")
def test_any_single_line_that_is_lost_is_noticed() -> None:
    """Of the batches; descriptors and acknowledgements beside the chain may be missing."""
    whole = lines("good/chain.jws")
    for number, line in enumerate(whole):
        kept = [*whole[:number], *whole[number + 1 :]]
        report = verified(kept)
        assert report.ok is (envelope.typ_of(line) != envelope.BATCH), f"line {number + 1}"


@pytest.mark.parametrize(
    "name", ["chain.jws", "status.jws", "status-asks-for-heads.jws", "enrolment.jws", "es256.jws"]
)
def test_schemas_and_constructors_agree_with_every_message(name: str) -> None:
    for line in lines(f"good/{name}"):
        typ = envelope.typ_of(line)
        opened = envelope.open_sealed(line, typ, _all_keys())
        header = json.loads(envelope.base64url_decode(line.decode().split(".")[0]))
        assert faults(reader("header.json"), header) == []
        assert faults(writer(SCHEMAS[typ]), opened.payload) == []
        for kind, constructor in (
            (envelope.BATCH, Batch),
            (envelope.DESCRIPTOR, Descriptor),
            (envelope.ACKNOWLEDGEMENT, Acknowledgement),
            (envelope.STATUS, Status),
        ):
            if typ == kind:
                assert constructor.from_payload(opened.payload).to_payload() == opened.payload


def test_a_gateway_with_a_key_in_a_tpm() -> None:
    verifier = Verifier(ring(TPM))
    for number, line in enumerate(lines("good/es256.jws"), 1):
        verifier.feed(number, line)
    report = verifier.report()
    assert report.ok
    assert report.by_meter == {"m1": 3_000}
