"""`enrol`: the thumbprint for the eye, the message for the platform, and what is said where the broker is away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import segno
from click.testing import CliRunner, Result

from agent.adapters.keys import PublicKeys, load_signer, public_key_of_jwk
from agent.cli import enrol as command
from agent.cli import main
from agent.reporting.enrolment import Enrolment, short_form
from agent.reporting.envelope import ENROLMENT, Opened, open_sealed
from agent.reporting.wire import WireError
from agent.service.ports import Disconnected, Will
from simulators.ports import free_port
from tests.schemas.schemas import faults, writer
from tests.settings.example_site import write_site
from tests.simulators.mqtt_client import Client
from tests.support.mosquitto import Mosquitto

enrol_module = import_module("agent.cli.enrol")
TOPIC = "kwh/v1/zj-meterworks/gw01/up/enrol"


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as broker:
        yield broker


def _enrol(*words: str) -> Result:
    return CliRunner().invoke(main, ["enrol", *words], catch_exceptions=False)


def _opened(folder: Path, message: bytes) -> Opened:
    return open_sealed(message, ENROLMENT, PublicKeys([load_signer(folder / "signing-key.pem").public_key]))


def test_offline_it_prints_what_a_person_needs(tmp_path: Path) -> None:
    done = _enrol("--site", str(write_site(tmp_path)), "--offline")
    kid = load_signer(tmp_path / "signing-key.pem").kid
    assert done.exit_code == 0
    assert f"Thumbprint   {kid}\n" in done.stdout
    assert f"Short form   {short_form(kid)}  (" in done.stdout
    (message,) = [line for line in done.stdout.splitlines() if line.count(".") == 2 and " " not in line]
    assert _opened(tmp_path, message.encode()).kid == kid
    assert "PRIVATE KEY" not in done.stdout


def test_the_message_is_the_one_the_schema_describes_and_proves_its_own_key(tmp_path: Path) -> None:
    facts = json.loads(_enrol("--site", str(write_site(tmp_path)), "--offline", "--json").stdout)
    payload = _opened(tmp_path, facts["jws"].encode()).payload
    assert faults(writer("enrolment.json"), payload) == []
    enrolment = Enrolment.from_payload(payload)
    assert (enrolment.org, enrolment.agent) == ("zj-meterworks", "gw01")
    assert public_key_of_jwk(enrolment.jwk).kid == facts["kid"]
    assert facts["short"] == short_form(facts["kid"]) and facts["sent"] is False


def test_it_goes_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    site, out = write_site(tmp_path), tmp_path / "gw01.jws"
    done = _enrol("--site", str(site), "--offline", "--out", str(out))
    assert (done.exit_code, f"Written to {out}\n" in done.stdout) == (0, True)
    before = out.read_bytes()
    assert _opened(tmp_path, before.strip()).typ == ENROLMENT
    again = _enrol("--site", str(site), "--offline", "--out", str(out))
    assert again.exit_code == 2
    assert "File exists; choose another name; nothing was sent" in again.stderr
    assert out.read_bytes() == before


def test_a_broker_that_is_away_means_try_again_and_carry_it(tmp_path: Path) -> None:
    site = write_site(tmp_path, broker=f"mqtt://127.0.0.1:{free_port()}")
    done = _enrol("--site", str(site))
    assert done.exit_code == 75
    assert "Not sent: nobody listens there" in done.stderr
    assert "Enrolment message, to be carried" in done.stdout


def test_a_password_that_only_the_service_can_open_means_carry_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    site = write_site(
        tmp_path, changes={"platform": {"username": "gw01", "password_credential": "broker-password"}}
    )
    done = _enrol("--site", str(site), "--json")
    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["sent"]) == (75, False)
    assert "there are no systemd credentials" in facts["reason"]
    assert _opened(tmp_path, facts["jws"].encode()).kid == facts["kid"]


def test_a_wrong_site_file_and_a_missing_key_are_for_a_person(tmp_path: Path) -> None:
    assert _enrol("--site", str(tmp_path / "none.toml"), "--offline").exit_code == 2
    site = write_site(tmp_path)
    (tmp_path / "signing-key.pem").chmod(0o644)
    done = _enrol("--site", str(site), "--offline")
    assert done.exit_code == 2
    assert "chmod 600" in done.stderr


@pytest.mark.mosquitto
async def test_the_platform_gets_it_over_the_broker(tmp_path: Path, broker: Mosquitto) -> None:
    site = write_site(tmp_path, broker=broker.url)
    platform = Client("platform")
    await platform.connect(broker.url)
    try:
        await platform.subscribe(TOPIC)
        done = await asyncio.to_thread(_enrol, "--site", str(site))
        message = await asyncio.wait_for(platform.messages.get(), 5)
    finally:
        platform.paho.disconnect()
        platform.paho.loop_stop()
    assert (done.exit_code, message.topic, bool(message.retain)) == (0, TOPIC, False)
    assert f"Sent: sent to {broker.url} on {TOPIC}" in done.stdout
    assert _opened(tmp_path, bytes(message.payload)).payload["agent"] == "gw01"


@pytest.mark.mosquitto
def test_a_message_that_nobody_takes_is_not_called_sent(tmp_path: Path, broker: Mosquitto) -> None:
    done = _enrol("--site", str(write_site(tmp_path, broker=broker.url)))
    assert done.exit_code == 75
    assert "nobody listens" in done.stderr


@pytest.mark.mosquitto
def test_a_broker_that_refuses_it_is_a_no(tmp_path: Path) -> None:
    with Mosquitto(acl="topic read #\n") as broker:
        done = _enrol("--site", str(write_site(tmp_path, broker=broker.url)))
    assert done.exit_code == 1
    assert "does not authorise it" in done.stderr


def test_the_qr_code_says_the_thumbprint() -> None:
    """Module by module what the library made, with the four modules of quiet around it."""
    kid = "Zq8mPz0Vd5Jm2h1Q_7bXyW-3nTgKcR4uEoLs6AiFwH9"
    wanted = [list(row) for row in segno.make_qr(kid, error="m").matrix_iter(border=4)]
    drawn = [
        line.removeprefix("\x1b[97;40m").removesuffix("\x1b[0m") for line in command.qr_code(kid).splitlines()
    ]
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    rows: list[list[int]] = []
    for line in drawn:
        pairs = [halves[sign] for sign in line]
        rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    assert rows[: len(wanted)] == wanted
    assert all(not any(row) for row in rows[len(wanted) :])
    assert max(map(len, drawn)) <= 80


def test_the_short_form_is_the_beginning_in_groups() -> None:
    kid = "Zq8mPz0Vd5Jm2h1Q_7bXyW-3nTgKcR4uEoLs6AiFwH9"
    assert short_form(kid) == "Zq8m Pz0V d5Jm 2h1Q _7bX"


def test_a_private_key_is_no_enrolment() -> None:
    payload = Enrolment("zj", "gw01", {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}, 0, "1").to_payload()
    assert Enrolment.from_payload(payload).to_payload() == payload
    with pytest.raises(WireError, match="private key"):
        Enrolment.from_payload(payload | {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A", "d": "B"}})


async def test_the_will_that_the_uplink_wants_is_the_message_and_is_not_retained() -> None:
    """Else a crash would leave an enrolment on its topic for everybody who subscribes later."""
    wills: list[Will] = []

    class Uplink:
        async def start(self, *, subscribe: tuple[str, ...], will: Callable[[str], Will]) -> None:
            wills.append(will("session"))

        async def events(self) -> AsyncIterator[Disconnected]:
            yield Disconnected("nobody listens there")

    reason = await enrol_module._connected(cast(Any, Uplink()), "down/ack", TOPIC, b"message")
    assert reason == "nobody listens there"
    assert wills == [Will(TOPIC, b"message", retain=False)]
