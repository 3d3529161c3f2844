"""Where the broker is and the TLS that leads there: addresses, authorities, certificates, and what is said of them."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.uplink import MqttUplink, TlsFiles
from agent.adapters.uplink.address import Address, make_tls_context, parse_url
from agent.adapters.uplink.reasons import describe_failure
from agent.errors import ConfigError, UplinkRefused
from agent.service.ports import Connected, Disconnected, Will
from tests.adapters.certificates import Authority
from tests.adapters.link import BATCH, STATUS, started
from tests.support.mosquitto import Mosquitto


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtts://broker.example", Address(True, "broker.example", 8883)),
        ("mqtts://broker.example:443/", Address(True, "broker.example", 443)),
        ("mqtts://[2001:db8::7]:8884", Address(True, "2001:db8::7", 8884)),
        ("mqtt://localhost", Address(False, "localhost", 1883)),
        ("mqtt://127.3.2.1:18830", Address(False, "127.3.2.1", 18830)),
        ("mqtt://[::1]:1884", Address(False, "::1", 1884)),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: Address) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mqtt://broker.example", "no TLS"),
        ("mqtt://10.0.0.7:1883", "no TLS"),
        ("mqtt://localhost.example", "no TLS"),
        ("mqtts://user:secret@broker.example", "user name"),
        ("mqtts://broker.example/path", "more than host"),
        ("mqtts://broker.example?x=1", "more than host"),
        ("mqtts://broker.example:99999", "no address"),
        ("mqtts://[::1", "no address"),
        ("mqtts://", "no MQTT address"),
        ("http://broker.example", "no MQTT address"),
        ("broker.example:8883", "no MQTT address"),
        ("", "no MQTT address"),
    ],
)
def test_an_address_that_is_unsafe_or_none_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as error:
        MqttUplink(url, client_id="x")
    assert "secret" not in str(error.value)


def test_the_tls_context_checks_everything() -> None:
    context = make_tls_context(TlsFiles())
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_tls_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    authority = Authority("test")
    ca = write(tmp_path / "ca.pem", authority.certificate)
    certificate, key = authority.issue("gw01")
    other_key = authority.issue("gw02")[1]
    good, fitting, foreign = (
        write(tmp_path / name, data)
        for name, data in (("c.pem", certificate), ("k.pem", key), ("o.pem", other_key))
    )
    garbage = write(tmp_path / "garbage.pem", b"garbage")
    make_tls_context(TlsFiles(ca, good, fitting))
    cases = [
        (TlsFiles(tmp_path / "absent.pem"), "No such file"),
        (TlsFiles(garbage), "cannot be used"),
        (TlsFiles(ca, good, foreign), "key values mismatch"),
        (TlsFiles(ca, garbage, fitting), "cannot be used"),
        (TlsFiles(ca, good), "cannot be used"),
    ]
    for files, reason in cases:
        uplink = MqttUplink("mqtts://localhost", client_id="x", tls=files)
        with pytest.raises(ConfigError, match=reason):
            await uplink.start(subscribe=(), will=lambda session: Will(STATUS, b""))


class Secured:
    """A mosquitto with TLS, and the files to reach it."""

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", *, wants_client: bool = False, **dates: int
    ) -> None:
        self.authority = Authority("the platform's")
        self.ca = write(folder / "ca.pem", self.authority.certificate)
        certificate, key = self.authority.issue(host, **dates)
        server, server_key = write(folder / "server.pem", certificate), write(folder / "server.key", key)
        extra = [f"cafile {self.ca}", f"certfile {server}", f"keyfile {server_key}"]
        extra += ["require_certificate true"] if wants_client else []
        self.broker = Mosquitto(directory=folder, extra=extra)
        self.folder = folder

    def client(self, authority: Authority | None = None, **dates: int) -> TlsFiles:
        certificate, key = (authority or self.authority).issue("gw01", **dates)
        return TlsFiles(
            self.ca, write(self.folder / "gw.pem", certificate), write(self.folder / "gw.key", key)
        )

    @property
    def url(self) -> str:
        return self.broker.url.replace("mqtt:", "mqtts:")


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Callable[..., Secured]]:
    with contextlib.ExitStack() as stack:

        def start(host: str = "127.0.0.1", **options: int) -> Secured:
            one = Secured(tmp_path, host, **options)  # type: ignore[arg-type]
            stack.enter_context(one.broker)
            return one

        yield start


@pytest.mark.mosquitto
async def test_the_right_authority_connects(secured: Callable[..., Secured]) -> None:
    platform = secured()
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        await link.next_connected()
        with pytest.raises(UplinkRefused):
            await link.uplink.publish(BATCH, bytes(48 * 1024))


@pytest.mark.mosquitto
async def test_a_wrong_authority_is_refused(secured: Callable[..., Secured], tmp_path: Path) -> None:
    platform = secured()
    other = write(tmp_path / "other.pem", Authority("somebody else's").certificate)
    async with started(platform.url, tls=TlsFiles(other)) as link:
        assert "check platform.ca_file" in await link.next_disconnected()
    async with started(platform.url) as link:
        assert "check platform.ca_file" in await link.next_disconnected()


@pytest.mark.mosquitto
@pytest.mark.parametrize("host", ["other.example", "127.0.0.2"])
async def test_a_certificate_for_another_host_is_refused(secured: Callable[..., Secured], host: str) -> None:
    platform = secured(host)
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        assert "check platform.broker" in await link.next_disconnected()


@pytest.mark.fault("F70", "F71")
@pytest.mark.mosquitto
async def test_a_certificate_outside_its_dates_is_refused_and_points_to_the_clock(
    secured: Callable[..., Secured],
) -> None:
    platform = secured(not_before_s=int(time.time()) - 7200, not_after_s=int(time.time()) - 3600)
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        reason = await link.next_disconnected()
    assert "has expired" in reason
    assert "check the time" in reason


@pytest.mark.mosquitto
async def test_a_client_certificate_opens_the_door(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    async with started(platform.url, tls=platform.client()) as link:
        await link.next_connected()


@pytest.mark.mosquitto
async def test_a_missing_or_foreign_client_certificate_is_explained(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    async with started(platform.url, tls=TlsFiles(platform.ca)) as link:
        assert "certificate" in await link.next_disconnected()
    async with started(platform.url, tls=platform.client(Authority("somebody else's"))) as link:
        assert "certificate" in await link.next_disconnected()


@pytest.mark.fault("F70")
@pytest.mark.mosquitto
async def test_an_expired_client_certificate_is_named(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    past = int(time.time()) - 3600
    files = platform.client(not_before_s=past - 3600, not_after_s=past)
    async with started(platform.url, tls=files) as link:
        reason = await link.next_disconnected()
    assert f"our client certificate {files.certificate} has expired" in reason


@pytest.mark.fault("F70")
@pytest.mark.mosquitto
async def test_a_new_certificate_counts_without_a_restart(secured: Callable[..., Secured]) -> None:
    platform = secured(wants_client=True)
    past = int(time.time()) - 3600
    async with started(
        platform.url, tls=platform.client(not_before_s=past - 3600, not_after_s=past), refused_wait_s=0.2
    ) as link:
        await link.next_disconnected()
        platform.client()  # the same files, renewed
        event = await link.next()
        while isinstance(event, Disconnected):
            event = await link.next()
        assert isinstance(event, Connected)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nobody listens"),
        (TimeoutError("timed out"), "did not answer"),
        (socket.gaierror(-2, "Name or service not known"), "DNS"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "TLS"),
        (ValueError("surprise"), "surprise"),
    ],
)
def test_every_failure_has_a_sentence(error: BaseException, words: str) -> None:
    assert words in describe_failure(error).reason
