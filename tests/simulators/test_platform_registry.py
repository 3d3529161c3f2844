"""Who may sign: enrolled and approved by a person, revoked by sequence, and one gateway to a key."""

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.adapters.keys import Ed25519Signer, PublicKeys
from agent.reporting import topics
from agent.reporting.chain import ChainHead
from agent.reporting.enrolment import Enrolment, short_form
from agent.reporting.envelope import ENROLMENT, seal
from agent.reporting.verify import Verifier
from simulators.platform import Platform, Store, queries
from simulators.platform.commands import platform as command
from simulators.platform.registry import UnknownKey
from tests.simulators.bench import PLATFORM_KEY, Bench
from tests.simulators.chains import AUDIENCE, Gateway, Sealed, described, signer

NEW = signer(7)


def enrolment(
    gateway: Gateway, key: Ed25519Signer = NEW, named: Ed25519Signer = NEW, **changes: str
) -> Sealed:
    said = Enrolment(
        gateway.org, changes.get("agent", gateway.agent), named.public_jwk, gateway.now_ms, "1.0.0"
    )
    jws = seal(ENROLMENT, said.to_payload(), key)
    return Sealed(topics.enrolment(gateway.org, gateway.agent), jws, "")


def opened(gateway: Gateway) -> Bench:
    bench = Bench((gateway,))
    bench.send(gateway.say([gateway.delta("m1", 10)], gateway.carried()))
    bench.send(gateway.say([gateway.delta("m1", 10)]))
    return bench


def test_a_gateway_that_nobody_knows_comes_in_by_enrolment_and_approval() -> None:
    gateway = Gateway(meters=(described("m1"),), key=NEW)
    bench = Bench(())
    first = gateway.say([gateway.delta("m1", 10)], gateway.carried())
    bench.send(first)
    assert bench.alarms() == {"unknown-agent": 1}
    bench.send(enrolment(gateway))
    with pytest.raises(UnknownKey):
        bench.platform.approve(gateway.org, gateway.agent, NEW.kid[:8])
    with pytest.raises(UnknownKey):
        bench.platform.approve(gateway.org, "gw02", NEW.kid)
    assert bench.platform.approve(gateway.org, gateway.agent, short_form(NEW.kid)).kid == NEW.kid
    bench.send(first)
    assert bench.energy(gateway) == {"m1": 10}
    bench.crash()
    bench.send(gateway.say([gateway.delta("m1", 5)]))
    assert bench.energy(gateway) == {"m1": 15}


def test_an_enrolment_is_believed_only_with_its_own_signature_and_on_its_own_topic() -> None:
    gateway = Gateway(meters=(described("m1"),))
    bench = Bench(())
    bench.send(enrolment(gateway, signer(8)), enrolment(gateway, agent="gw09"))
    bench.send(Sealed(topics.enrolment("o", "a"), b"a.b.c", ""), Sealed(topics.enrolment("o", "a"), b"", ""))
    assert bench.store.rows("SELECT * FROM enrolments") == []
    assert set(bench.alarms()) == {"unknown-key", "schema", "malformed"}


def test_strangers_cannot_fill_the_registry() -> None:
    bench = Bench(())
    for number in range(260):
        gateway = Gateway(agent=f"gw{number}", meters=(described("m1"),))
        bench.send(enrolment(gateway))
    assert bench.store.one("SELECT count(*) FROM enrolments")[0] == 200


def test_a_revoked_key_is_refused_and_answered_and_the_gateway_goes_on_with_another() -> None:
    gateway = Gateway(meters=(described("m1"),))
    bench = opened(gateway)
    head = gateway.head
    assert bench.platform.revoke(gateway.org, gateway.agent, gateway.key.kid) == head
    (answer,) = bench.send(gateway.say([gateway.delta("m1", 99)]))
    assert answer.head == head
    assert bench.energy(gateway) == {"m1": 20}
    assert bench.send(gateway.status(need_heads=True)) == []
    bench.send(enrolment(gateway))
    bench.platform.approve(gateway.org, gateway.agent, NEW.kid)
    gateway.key = NEW
    heads = bench.ask(gateway).heads
    assert heads is not None
    assert heads["m1"].n == 2
    kinds = bench.alarms()
    assert (kinds["revoked-key"], kinds["ended-key"]) == (1, 1)


def test_revoked_below_what_is_booked_names_what_is_beyond() -> None:
    gateway = Gateway(meters=(described("m1"),))
    bench = opened(gateway)
    assert gateway.head is not None
    place = ChainHead(gateway.head.chain, 1, "")
    bench.platform.revoke(gateway.org, gateway.agent, gateway.key.kid, place)
    (alarm,) = [each for each in queries.alarms(bench.store) if each.kind == "revoked-key"]
    assert "1 batches beyond" in alarm.text
    assert bench.energy(gateway) == {"m1": 20}
    verifier = Verifier(
        PublicKeys([gateway.key.public_key]), revoked={gateway.key.kid: (gateway.head.chain, 1)}
    )
    for number, sealed in enumerate(gateway.line, 1):
        verifier.feed(number, sealed.jws)
    assert [found.line for found in verifier.report().signature.findings] == [2]


def test_two_gateways_with_one_key_are_both_named() -> None:
    gateway = Gateway(meters=(described("m1"),))
    bench = opened(gateway)
    for session in ("first", "second", "second", "second.abcdefgh"):
        gateway.now_ms += 60_000
        bench.send(gateway.status(session=session))
    assert "clone" not in bench.alarms()
    gateway.now_ms += 60_000
    bench.send(gateway.status(session="first"))
    (alarm,) = [each for each in queries.alarms(bench.store) if each.kind == "clone"]
    assert "first" in alarm.text
    assert "second" in alarm.text


def test_an_old_status_that_comes_late_or_again_is_no_clone() -> None:
    gateway = Gateway(meters=(described("m1"),))
    bench = opened(gateway)
    old = gateway.status(session="first")
    gateway.now_ms += 60_000
    bench.send(old, gateway.status(session="second"), old)
    assert "clone" not in bench.alarms()


def test_one_key_for_two_agents_is_alarmed() -> None:
    one, other = (Gateway(agent=name, meters=(described("m1"),)) for name in ("gw01", "gw02"))
    other.key = one.key
    bench = Bench((one, other))
    assert bench.alarms() == {"shared-key": 2}


def test_the_commands(tmp_path: Path) -> None:
    gateway = Gateway(meters=(described("m1"),), key=NEW)
    path = tmp_path / "platform.db"
    store = Store.create(path)
    core = Platform(store, audience=AUDIENCE, signer=PLATFORM_KEY, keys={}, clock=Bench(()).clock)
    asked = enrolment(gateway)
    core.receive(asked.topic, asked.jws)
    run = CliRunner().invoke
    where = ["--store", str(path)]
    assert "in use" in run(command, ["approve", *where, f"{gateway.org}/{gateway.agent}", NEW.kid]).output
    store.close()
    assert "waits for approval" in run(command, ["keys", *where]).output
    said = run(command, ["approve", *where, f"{gateway.org}/{gateway.agent}", *short_form(NEW.kid).split()])
    assert said.exit_code == 0, said.output
    assert run(command, ["approve", *where, f"{gateway.org}/{gateway.agent}", NEW.kid]).exit_code == 1
    revoke = ["revoke", *where, f"{gateway.org}/{gateway.agent}", NEW.kid]
    assert run(command, [*revoke, "--seq", "3"]).exit_code == 2
    said = run(command, [*revoke, "--chain", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--seq", "3"])
    assert f"--revoked {NEW.kid}=01ARZ3NDEKTSV4RRFFQ69G5FAV/3" in said.output
    assert "revoked" in run(command, ["keys", *where]).output


@pytest.mark.parametrize("key", [signer(67), signer(1885)], ids=["-ZP4 h-Nk -vq1", "--NX"])
@pytest.mark.parametrize("is_short", [False, True])
def test_a_thumbprint_that_begins_with_a_dash_is_no_option(
    tmp_path: Path, key: Ed25519Signer, is_short: bool
) -> None:
    gateway = Gateway(meters=(described("m1"),), key=key)
    path = tmp_path / "platform.db"
    with closing(Store.create(path)) as store:
        core = Platform(store, audience=AUDIENCE, signer=PLATFORM_KEY, keys={}, clock=Bench(()).clock)
        asked = enrolment(gateway, key, key)
        core.receive(asked.topic, asked.jws)
    words = short_form(key.kid).split() if is_short else [key.kid]
    assert any(each.startswith("-") for each in words)
    whose = ["--store", str(path), f"{gateway.org}/{gateway.agent}"]
    run = CliRunner().invoke
    said = run(command, ["approve", *whose, *words])
    assert said.exit_code == 0, said.output
    said = run(command, ["revoke", *whose, key.kid, "--chain", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--seq", "3"])
    assert f"--revoked {key.kid}=01ARZ3NDEKTSV4RRFFQ69G5FAV/3" in said.output
    said = run(command, ["approve", *whose, "--stoer", "x"])
    assert (said.exit_code, "Traceback" in said.output) == (1, False)
    assert "--stoer" in said.output, "what was typed wrong is named"
