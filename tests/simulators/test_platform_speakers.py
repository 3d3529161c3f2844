"""Who speaks to the platform, and to whom: signatures, names, audiences, statuses, wills and rotated keys."""

import copy
from dataclasses import replace

import pytest

from simulators.platform import queries
from tests.simulators.bench import Bench
from tests.simulators.chains import Gateway, described, signer

# ------------------------------------------------------------------------------ who speaks, and to whom


def test_a_bad_signature_is_never_acknowledged(bench: Bench, gateway: Gateway) -> None:
    good = gateway.interval()
    head, payload, signature = good.jws.split(b".")
    other = b"B" if signature[:1] == b"A" else b"A"
    forged = replace(good, jws=b".".join([head, payload, other + signature[1:]]))
    bench.send(forged)
    assert bench.wait() == []
    assert bench.alarms() == {"signature": 1}
    assert queries.head(bench.store, *gateway.name) is None


def test_an_unknown_agent_and_an_unknown_key_are_never_acknowledged(bench: Bench, gateway: Gateway) -> None:
    stranger = Gateway(agent="gw99")
    impostor = copy.deepcopy(gateway)
    impostor.key = signer(5)
    bench.send(stranger.interval(), stranger.status(), impostor.interval())
    assert bench.wait() == []
    assert bench.alarms() == {"unknown-agent": 1, "unknown-key": 1}


def test_strangers_cannot_fill_the_store_with_names(bench: Bench) -> None:
    for number in range(260):
        bench.send(replace(Gateway().status(), topic=f"kwh/v1/evil/gw{number}/up/status"))
    assert bench.alarms()["unknown-agent"] == 201


def test_a_batch_on_another_gateways_topic_is_refused(gateway: Gateway) -> None:
    other = Gateway(agent="gw02")
    bench = Bench((gateway, other))
    sealed = gateway.interval()
    bench.send(replace(sealed, topic=other.status().topic.replace("status", "batch")))
    assert bench.alarms() == {"misdirected": 1, "shared-key": 2}
    assert bench.energy(gateway) == {}


def test_a_batch_for_another_platform_is_refused(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.signed(replace(gateway.next_batch([], []), aud="elsewhere.example")))
    assert bench.wait() == []
    assert bench.alarms() == {"misdirected": 1}


def test_a_message_of_another_kind_is_not_a_batch(bench: Bench, gateway: Gateway) -> None:
    status = gateway.status()
    bench.send(replace(status, topic=gateway.interval().topic))
    assert bench.alarms() == {"header": 1}


def test_two_agents_have_two_lines(gateway: Gateway) -> None:
    other = Gateway(agent="gw02", meters=(described("m1"),))
    bench = Bench((gateway, other))
    bench.send(gateway.interval(), other.interval(7), gateway.interval(), other.interval(8))
    assert bench.energy(gateway) == {"m1": 2_000, "m2": 2_000}
    assert bench.energy(other) == {"m1": 15}


# ------------------------------------------------------------------------------------------------ status


def test_a_status_is_answered_at_once_and_heads_only_if_asked_for(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    (plain,) = bench.send(gateway.status())
    assert (plain.session, plain.heads) == ("session-1", None)
    asked = bench.ask(gateway)
    assert asked.heads is not None
    head = asked.heads["m1"]
    assert (head.epoch, head.n, head.register, head.end_ms) == (1, 2, 502_000, gateway.now_ms)
    assert (head.num, head.den, head.modulus, head.serial) == (10_000, 1, 1_000_000_000, "SN-m1")
    assert asked.rev == 1


def test_a_will_counts_only_for_its_own_session(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.status(session="one"), gateway.status(session="two"))
    assert bench.send(gateway.status(state="offline", session="one")) == []
    assert bench.store.one("SELECT state, session FROM statuses") == ("online", "two")
    bench.send(gateway.status(state="offline", session="two"))
    assert bench.store.one("SELECT state FROM statuses") == ("offline",)


# ------------------------------------------------------------------------------------------ key rotation


def test_rotation_ends_the_old_key_and_the_new_one_goes_on(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    thief = copy.deepcopy(gateway)
    rotation = gateway.rotate(signer(2))
    bench.send(rotation, gateway.interval(), rotation)
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}
    bench.send(thief.restore(gateway.head, [thief.delta("m1", 999_999)]))
    assert bench.alarms() == {"ended-key": 1}
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}
    bench.crash()
    bench.send(gateway.interval())
    assert bench.energy(gateway) == {"m1": 4_000, "m2": 4_000}


@pytest.mark.fault("F85")
def test_a_batch_of_an_ended_key_that_waited_is_not_taken(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(2)
    bench.send(first[0])
    thief = copy.deepcopy(gateway)
    rotation = gateway.rotate(signer(2))
    bench.send(thief.restore(rotation.head, []))
    bench.send(rotation, first[1])
    assert queries.head(bench.store, *gateway.name) == rotation.head
    assert bench.alarms() == {"ended-key": 1}


def test_a_key_the_operator_does_not_name_any_more_is_withdrawn(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval())
    old, new = gateway.key, signer(8)
    gateway.key = new
    bench.start()
    bench.send(gateway.interval())
    gateway.key = old
    bench.send(gateway.signed(gateway.next_batch([gateway.delta("m1", 1)], [])))
    assert bench.energy(gateway) == {"m1": 2_000, "m2": 2_000}
    assert bench.alarms() == {"unknown-key": 1}


def test_an_acknowledgement_that_would_be_too_large_goes_without_heads(
    bench: Bench, gateway: Gateway
) -> None:
    bench.send(gateway.interval())
    meters = bench.platform._dossier(gateway.name).meters
    meters.update({f"a-meter-of-a-city-{number:04d}": copy.copy(meters["m1"]) for number in range(1_400)})
    answer = bench.ask(gateway)
    assert (answer.heads, answer.head) == (None, gateway.head)
    assert bench.alarms() == {"acknowledgement": 1}
