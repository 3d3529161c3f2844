"""What a reader says of a chain: missing, moved, forked, cut off; and in bounded memory."""

import gc
import tracemalloc
from dataclasses import replace

import pytest

from agent.reporting import envelope
from agent.reporting.chain import ChainHead
from agent.reporting.utc import ms_of_text
from agent.reporting.verdict import FINDINGS_MAX
from agent.reporting.verify import Verifier
from tests.reporting.audit import KEY, PLATFORM, STRANGER, failed, minutes, opened, texts, verified
from tests.reporting.gateway import (
    CHAIN,
    SECOND_CHAIN,
    START_MS,
    Gateway,
    meter_description,
)
from tests.reporting.keys import Ring

# ---------------------------------------------------------------------------- chain


def test_a_file_without_any_batch_does_not_verify() -> None:
    gateway = Gateway(KEY)
    for lines in ([], [b""], [gateway.descriptor], [gateway.acknowledgement(PLATFORM, None)]):
        report = verified(lines)
        assert failed(report) == {"chain"}
        assert "no batch" in texts(report, "chain")


def test_a_forked_batch_is_named_and_not_counted() -> None:
    gateway = minutes(Gateway(KEY), 3)
    twin = replace(opened(gateway)[2], iat_ms=START_MS)
    fork = envelope.seal(envelope.BATCH, twin.to_payload(), KEY)
    report = verified([*gateway.jws, fork])
    assert failed(report) == {"chain"}
    assert "fork" in texts(report, "chain")
    assert report.by_meter == {"m1": 3_000, "m2": 3_000}


def test_a_cut_end_is_visible_from_a_later_acknowledgement() -> None:
    gateway = minutes(Gateway(KEY), 4)
    acknowledged = gateway.acknowledgement(PLATFORM, gateway.head)
    assert verified(gateway.jws[:3]).ok, "without an acknowledgement nobody can know"
    for lines in ([acknowledged, *gateway.jws[:3]], [*gateway.jws[:3], acknowledged]):
        report = verified(lines)
        assert failed(report) == {"chain"}
        assert "was acknowledged by the platform and is not in the file" in texts(report, "chain")


def test_a_cut_beginning_is_found_unless_an_acknowledgement_proves_it_or_a_person_declares_it() -> None:
    gateway = minutes(Gateway(KEY), 5)
    rest = gateway.jws[2:]
    given_map = {"descriptors": [gateway.descriptor]}
    before = ChainHead(CHAIN, 2, envelope.signing_input_hash(gateway.jws[1]))
    proof = gateway.acknowledgement(PLATFORM, before)
    wrong = gateway.acknowledgement(PLATFORM, replace(before, hash="x" * 43))

    assert failed(verified(rest, **given_map)) == {"chain"}
    assert "begins here" in texts(verified(rest, **given_map), "chain")
    assert failed(verified([wrong, *rest], **given_map)) == {"chain"}
    assert failed(verified([proof, *rest], **given_map, ack_keys=None)) == {"chain"}
    for lines in ([proof, *rest], [*rest, proof]):
        report = verified(lines, **given_map)
        assert report.ok, texts(report, "chain")
    assert verified(rest, **given_map, excerpt=True).ok


def test_a_later_chain_alone_needs_the_head_that_it_follows() -> None:
    gateway = minutes(Gateway(KEY), 2)
    proof = gateway.acknowledgement(PLATFORM, gateway.head)
    gateway.chain = SECOND_CHAIN
    minutes(gateway, 2)
    assert failed(verified(gateway.jws[2:])) == {"chain"}
    assert verified([proof, *gateway.jws[2:]]).ok


def test_a_chain_that_does_not_follow_the_one_before_it() -> None:
    gateway = minutes(Gateway(KEY), 3)
    gateway.chain, gateway.head = (
        SECOND_CHAIN,
        ChainHead(CHAIN, 2, envelope.signing_input_hash(gateway.jws[1])),
    )
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "prev_chain" in texts(report, "chain")


def test_a_closed_chain_cannot_go_on() -> None:
    gateway = minutes(Gateway(KEY), 3)
    third = gateway.jws.pop()
    gateway.head = ChainHead(CHAIN, 2, envelope.signing_input_hash(gateway.jws[1]))
    gateway.chain = SECOND_CHAIN
    gateway.minute({})
    report = verified([*gateway.jws, third])
    assert failed(report) == {"chain"}
    assert "not counted" in texts(report, "chain")
    assert report.by_meter == {"m1": 2_000, "m2": 2_000}


def test_a_first_batch_is_tied_to_a_descriptor_that_it_carries() -> None:
    gateway = Gateway(KEY)
    gateway.seal(replace(gateway.batch([], gateway.carried()), prev="x" * 43))
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "prev is not the hash of a descriptor" in texts(report, "chain")


def test_a_delta_under_a_descriptor_that_nobody_has_seen() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.describe(meter_description("m1"), meter_description("m2", serial="other"))
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "is not in the file" in texts(report, "chain")
    assert report.by_step == {"step_m1": 2_000, "step_m2": 2_000}, "the delta's own step stands in"


def test_parts_that_never_come_together() -> None:
    gateway = Gateway(KEY)
    gateway.seal(gateway.batch([], gateway.carried(300)[:-1]))
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "parts of it are missing" in texts(report, "chain")


def test_a_carried_descriptor_signed_by_a_stranger() -> None:
    gateway, other = Gateway(KEY), Gateway(STRANGER)
    gateway.descriptor, gateway.cfg = other.descriptor, other.cfg
    gateway.minute({})
    assert failed(verified(gateway.jws)) == {"signature"}


def test_revisions_rise_within_a_chain() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.rev = 0
    gateway.minute({}, gateway.describe(meter_description("m1", serial="x")))
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "revision 1 after revision 1" in texts(report, "chain")


def test_a_validly_signed_batch_that_cannot_be_parsed_is_named_and_its_successor_has_a_hole_before_it() -> (
    None
):
    gateway = minutes(Gateway(KEY), 2)
    payload = opened(gateway)[1].to_payload()
    payload["seq"] = "two"
    odd = envelope.seal(envelope.BATCH, payload, KEY)
    report = verified([gateway.jws[0], odd])
    assert failed(report) == {"chain"}
    assert "$.seq: must be an integer; not placed" in texts(report, "chain")


@pytest.mark.parametrize("change", [{"org": "other"}, {"agent": "gw02"}, {"aud": "elsewhere"}])
def test_a_batch_of_another_gateway_or_for_another_platform_does_not_belong(change: dict[str, str]) -> None:
    gateway = minutes(Gateway(KEY), 2)
    batch = replace(opened(gateway)[1], **change)  # type: ignore[arg-type]
    report = verified([gateway.jws[0], envelope.seal(envelope.BATCH, batch.to_payload(), KEY)])
    assert failed(report) == {"chain"}
    assert "belongs to" in texts(report, "chain")


def test_an_acknowledgement_that_names_another_hash() -> None:
    gateway = minutes(Gateway(KEY), 3)
    for seq in (2, 3):
        lie = gateway.acknowledgement(PLATFORM, ChainHead(CHAIN, seq, "x" * 43))
        for lines in ([lie, *gateway.jws], [*gateway.jws, lie]):
            report = verified(lines)
            assert failed(report) == {"chain"}
            assert "another hash" in texts(report, "chain")


def test_a_repeat_older_than_the_memory_is_said_to_be_out_of_place() -> None:
    gateway = minutes(Gateway(KEY), 6)
    report = verified([*gateway.jws, gateway.jws[0]], window=3)
    assert failed(report) == {"chain"}
    assert report.by_meter == {"m1": 6_000, "m2": 6_000}


# ---------------------------------------------------------------------------- bounded


def test_findings_are_capped_and_counted() -> None:
    report = verified([b"rubbish"] * 1_000)
    assert (len(report.signature.findings), report.signature.count) == (FINDINGS_MAX, 1_000)


def test_a_report_may_be_asked_for_at_any_time() -> None:
    gateway = minutes(Gateway(KEY), 3)
    verifier = Verifier(Ring(KEY))
    assert not verifier.report().ok
    for number, line in enumerate(gateway.jws, 1):
        verifier.feed(number, line)
        assert verifier.report().ok
        assert verifier.report() == verifier.report()


def test_memory_does_not_grow_with_the_number_of_batches() -> None:
    gateway = minutes(Gateway(KEY, (meter_description("m1"),)), 1_200)
    verifier = Verifier(Ring(KEY), window=100)
    ms_of_text.cache_clear()  # what other tests left there would be replaced, and counted as new
    tracemalloc.start()
    try:
        held = []
        for number, line in enumerate(gateway.jws, 1):
            verifier.feed(number, line)
            if number in (600, 1_200):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert verifier.report().batches == 1_200
    # 600 batches more are 700 kB of JWS, and their hashes alone would be 55 kB.
    # The interpreter itself gains and loses up to 20 kB in between.
    assert held[1] - held[0] < 35_000
