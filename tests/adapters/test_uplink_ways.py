"""The ways out of a factory that lets nothing else through: MQTT over WebSocket, and through an HTTP proxy."""

import asyncio
import re
from pathlib import Path

import pytest

from agent.adapters.uplink import MqttUplink, TlsFiles
from agent.adapters.uplink.address import Address, parse_url
from agent.errors import ConfigError, UplinkDown
from agent.service.ports import Connected, Will
from agent.settings.site import load_site
from agent.wiring import mqtt_uplink
from simulators.ports import free_port
from tests.adapters.certificates import Authority
from tests.adapters.connect_proxy import ConnectProxy
from tests.adapters.link import ACKNOWLEDGEMENT, BATCH, STATUS, Link, started
from tests.settings.example_site import write_site
from tests.support.mosquitto import Mosquitto


class Ways:
    """One mosquitto with four doors: MQTT and WebSocket, with TLS and without."""

    def __init__(self, folder: Path) -> None:
        authority = Authority("the platform's")
        certificate, key = authority.issue("127.0.0.1")
        files = {"ca": authority.certificate, "server": certificate, "key": key}
        for name, data in files.items():
            (folder / f"{name}.pem").write_bytes(data)
        tls = [f"cafile {folder}/ca.pem", f"certfile {folder}/server.pem", f"keyfile {folder}/key.pem"]
        self.ports = {scheme: free_port() for scheme in ("ws", "wss", "mqtts")}
        extra: list[str] = []
        for scheme, port in self.ports.items():
            extra.append(f"listener {port} 127.0.0.1")
            extra += ["protocol websockets"] if scheme.startswith("ws") else []
            extra += tls if scheme in ("wss", "mqtts") else []
        self.broker = Mosquitto(directory=folder, extra=extra)
        self.tls = TlsFiles(folder / "ca.pem")

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"


@pytest.fixture
def ways(tmp_path: Path) -> Ways:
    return Ways(tmp_path)


async def _speaks_both_ways(link: Link) -> None:
    """A batch goes out and is taken, a large message comes in."""
    await link.next_connected()
    for size in (10, 48 * 1024, 200_000):
        await link.uplink.publish(ACKNOWLEDGEMENT, b"x" * size)
        assert len((await link.next_received()).payload) == size


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_over_a_websocket(ways: Ways, scheme: str) -> None:
    with ways.broker:
        async with started(ways.url(scheme), tls=ways.tls) as link:
            await _speaks_both_ways(link)


@pytest.mark.parametrize("scheme", ["wss", "mqtts"])
async def test_through_a_proxy_with_tls_inside(ways: Ways, scheme: str) -> None:
    with ways.broker:
        async with ConnectProxy() as proxy, started(ways.url(scheme), tls=ways.tls, proxy=proxy.url) as link:
            await _speaks_both_ways(link)
            assert proxy.asked == [f"127.0.0.1:{ways.ports[scheme]}"]


async def test_a_killed_broker_is_noticed_through_a_websocket_and_found_again(ways: Ways) -> None:
    with ways.broker:
        async with started(ways.url("wss"), tls=ways.tls) as link:
            await link.next_connected()
            ways.broker.kill()
            assert await link.next_disconnected()
            with pytest.raises(UplinkDown):
                await link.uplink.publish(BATCH, b"x")
            ways.broker.start()
            async with asyncio.timeout(10):
                while not isinstance(await link.next(), Connected):
                    pass


async def test_the_certificate_is_checked_through_a_proxy_too(ways: Ways, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority("somebody else's").certificate)
    with ways.broker:
        async with (
            ConnectProxy() as proxy,
            started(ways.url("wss"), tls=TlsFiles(stranger), proxy=proxy.url) as link,
        ):
            assert "authority is not the one in ca_file" in await link.next_disconnected()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            r"wants a password \(407\), and none is given; add platform\.proxy_username",
        ),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n",
            r"we do not know \(407: 'negotiate', 'ntlm'\); ask who runs it for Basic",
        ),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: " + b"\x1b[2J" * 30 + b"\r\n\r\n",
            r"\(407: '\\x1b\[2j",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "ask who runs it to allow CONNECT to 127"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "did not reach 127.0.0.1"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "answered 302"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP proxy"),
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000, "too long"),
    ],
)
async def test_what_a_proxy_says_is_a_sentence_with_a_remedy(
    answer: bytes, reason: str, tmp_path: Path
) -> None:
    async with (
        ConnectProxy(answer) as proxy,
        started("wss://127.0.0.1:9", tls=TlsFiles(), proxy=proxy.url) as link,
    ):
        said = await link.next_disconnected()
        assert re.search(reason, said), said


async def test_a_proxy_that_knows_passwords_only_is_given_one(ways: Ways) -> None:
    login = ("EXAMPLE\\gw01", "sésame: öffne dich")
    with ways.broker:
        async with (
            ConnectProxy(login=login) as proxy,
            started(ways.url("mqtts"), tls=ways.tls, proxy=proxy.url, proxy_login=login) as link,
        ):
            await _speaks_both_ways(link)


async def test_a_proxy_password_that_is_wrong_is_told_from_one_that_is_missing(ways: Ways) -> None:
    async with ConnectProxy(login=("gw01", "right")) as proxy:
        async with started("wss://127.0.0.1:9", tls=TlsFiles(), proxy=proxy.url) as link:
            assert "and none is given" in await link.next_disconnected()
        wrong = ("gw01", "wrong-secret")
        async with started("wss://127.0.0.1:9", tls=TlsFiles(), proxy=proxy.url, proxy_login=wrong) as link:
            said = await link.next_disconnected()
            assert "does not know this user name or password (407)" in said
            assert "wrong-secret" not in said and "wrong-secret" not in repr(link.uplink._target.proxy)
            await asyncio.sleep(0.3)
            assert len(proxy.asked) == 2, "a person has to act first, so it is not asked at once again"


async def test_from_the_site_file_through_proxy_and_tls_to_a_broker_with_accounts(
    ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both passwords are credentials of systemd; the same way is taken by `run` and by `enrol`."""
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "site"))
    (tmp_path / "site" / "at-broker").write_text("secret-1\n")
    (tmp_path / "site" / "at-proxy").write_text("secret-2\n")
    ways.broker.users = {"gw01": "secret-1"}
    with ways.broker:
        async with ConnectProxy(login=("factory", "secret-2")) as proxy:
            platform = {"ca_file": str(tmp_path / "ca.pem"), "proxy": proxy.url, "proxy_username": "factory"}
            platform |= {"proxy_password_credential": "at-proxy", "password_credential": "at-broker"}
            changes = {"platform": platform | {"username": "gw01"}}
            site = load_site(write_site(tmp_path / "site", broker=ways.url("mqtts"), changes=changes))
            uplink = mqtt_uplink(site.platform, "gw01")
            await uplink.start(subscribe=(), will=lambda session: Will(STATUS, session.encode()))
            try:
                assert isinstance(await anext(uplink.events()), Connected)
            finally:
                await uplink.stop()


async def test_a_proxy_that_is_not_there_is_told_from_a_broker_that_is_not() -> None:
    async with started("mqtts://127.0.0.1:9", proxy=f"http://127.0.0.1:{free_port()}") as link:
        assert "the proxy cannot be reached" in await link.next_disconnected()
    async with started("mqtts://127.0.0.1:9", proxy="http://no-such-host.invalid:3128") as link:
        assert "the proxy's name was not found" in await link.next_disconnected()


async def test_a_web_server_is_no_broker() -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, started(f"ws://127.0.0.1:{port}") as link:
        assert "does not speak MQTT over WebSocket" in await link.next_disconnected()


def test_addresses_of_websockets() -> None:
    assert parse_url("wss://broker.example") == Address(True, "broker.example", 443, "/mqtt")
    assert parse_url("wss://broker.example:8443/a/b/") == Address(True, "broker.example", 8443, "/a/b")
    assert parse_url("ws://localhost") == Address(False, "localhost", 80, "/mqtt")


@pytest.mark.parametrize(
    "proxy",
    ["proxy.example:3128", "https://p:1", "http://u:p@p:1", "http://p", "http://p:1/x", "http://[::1"],
)
def test_an_address_that_is_no_proxys_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"platform\.proxy"):
        MqttUplink("mqtts://broker.example", client_id="x", proxy=proxy)


def test_a_websocket_without_tls_is_for_this_machine_only() -> None:
    with pytest.raises(ConfigError, match="no TLS"):
        MqttUplink("ws://broker.example", client_id="x")
