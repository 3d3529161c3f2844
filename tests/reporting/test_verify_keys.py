"""Signatures, rotations and what ends a key."""

import pytest

from agent.reporting import envelope, event
from agent.reporting.event import Event
from agent.reporting.utc import text_of_ms
from tests.reporting.audit import KEY, NEW_KEY, PLATFORM, STRANGER, failed, minutes, texts, verified
from tests.reporting.gateway import (
    CHAIN,
    START_MS,
    Gateway,
)
from tests.reporting.keys import Key


def test_without_the_platform_key_acknowledgements_are_counted_and_not_believed() -> None:
    gateway = minutes(Gateway(KEY), 2)
    report = verified([*gateway.jws, gateway.acknowledgement(PLATFORM, gateway.head)], ack_keys=None)
    assert report.ok
    assert (report.acknowledgements, report.acknowledgements_unchecked, report.acknowledged) == (0, 1, None)


def test_an_acknowledgement_signed_by_the_agent_itself() -> None:
    gateway = minutes(Gateway(KEY), 2)
    report = verified([*gateway.jws, gateway.acknowledgement(KEY, gateway.head)])
    assert failed(report) == {"signature"}


def test_an_acknowledgement_cannot_stand_in_for_a_batch_nor_a_descriptor_given() -> None:
    gateway = minutes(Gateway(KEY), 1)
    report = verified(gateway.jws, descriptors=[gateway.jws[0]])
    assert failed(report) == {"signature"}


@pytest.mark.parametrize("line", [b"hello", b"{}", b"a.b.c", b"\xff\xfe", b"A" * 300_000, b"eyJ9.e30.AA"])
def test_a_line_that_is_no_message_is_a_finding(line: bytes) -> None:
    gateway = minutes(Gateway(KEY), 2)
    report = verified([gateway.jws[0], line, gateway.jws[1]])
    assert failed(report) == {"signature"}
    assert report.signature.findings[0].line == 2


def rotation(gateway: Gateway, new: Key, signer: Key | None = None, **changes: object) -> Event:
    """The event that ends the gateway's key."""
    payload = {
        "v": "1.0",
        "org": gateway.org,
        "agent": gateway.agent,
        "jwk": new.jwk,
        "at": text_of_ms(START_MS),
        "sw": "1.0.0",
        **changes,
    }
    proof = envelope.seal(envelope.ENROLMENT, payload, signer or new)
    return event.key_rotate_event(gateway.now_ms, jwk=new.jwk, proof=proof)


def test_after_a_proved_rotation_the_new_key_signs_and_the_old_one_is_over() -> None:
    gateway = minutes(Gateway(KEY), 2)
    gateway.minute({"m1": 1}, [rotation(gateway, NEW_KEY)])
    gateway.key = NEW_KEY
    minutes(gateway, 2)
    report = verified([*gateway.jws, gateway.jws[0]])
    assert report.ok, texts(report, "signature")
    assert report.duplicates == 1

    gateway.key = KEY
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert "signature" in failed(report)
    assert f"ended with chain {CHAIN}, seq 3" in texts(report, "signature")


def test_before_its_rotation_the_new_key_is_unknown() -> None:
    gateway = minutes(Gateway(KEY), 2)
    gateway.key = NEW_KEY
    minutes(gateway, 1)
    assert "signature" in failed(verified(gateway.jws))


@pytest.mark.parametrize(
    ("signer", "changes"),
    [
        (KEY, {}),
        (STRANGER, {}),
        (None, {"agent": "gw02"}),
        (None, {"jwk": STRANGER.jwk}),
        (None, {"jwk": None}),
    ],
)
def test_a_rotation_without_proof_brings_no_key_in(signer: Key | None, changes: dict[str, object]) -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({}, [rotation(gateway, NEW_KEY, signer, **changes)])
    gateway.key = NEW_KEY
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert "signature" in failed(report)
    assert "not proved" in texts(report, "signature")
    assert report.batches == 2


def test_a_rotation_without_proof_ends_no_key_either() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({"m1": 1}, [rotation(gateway, NEW_KEY, STRANGER)])
    minutes(gateway, 2)
    report = verified(gateway.jws)
    assert failed(report) == {"signature"}
    assert (report.signature.count, report.batches) == (1, 4)


def test_a_rotation_that_nobody_can_check_is_said_so() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({}, [rotation(gateway, NEW_KEY)])
    report = verified(gateway.jws, admit=None)
    assert failed(report) == {"signature"}
