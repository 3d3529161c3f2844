"""Where the broker is, and the TLS that leads there: always verified, with no switch that turns it off.

Used by `agent.adapters.uplink`, which asks for a new TLS context for every connection, so that an exchanged certificate
counts without a restart.
"""

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.adapters.uplink.tunnel import Proxy
from agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for mqtts; without `ca_file` the system's authorities count, without `certificate` we show none."""

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def make_tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate and host name always checked. Raises ConfigError when a file cannot be used.

    Made for every connection, so that a new certificate counts without a restart.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.ca_file is None:
        context.load_default_certs()
    else:
        _load(files.ca_file, "ca_file", lambda: context.load_verify_locations(cafile=str(files.ca_file)))
    if files.certificate is not None:
        certificate, key = str(files.certificate), str(files.key) if files.key is not None else None
        # Without a password function OpenSSL would ask for one at a terminal that nobody sits at.
        _load(
            files.certificate,
            "client_certificate",
            lambda: context.load_cert_chain(certificate, key, password=lambda: ""),
        )
    return context


def _load(path: Path, key: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        what = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
        remedy = "check that it is PEM, that certificate and key belong together, and that the key has no passphrase"
        raise ConfigError.of(path, f"cannot be used for TLS ({what})", remedy, key=key) from error
    except OSError as error:
        what = f"cannot be opened: {error.strerror or error}"
        raise ConfigError.of(path, what, "check the paths and who may read them", key=key) from error


_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
WEBSOCKET_PATH = "/mqtt"
"""What brokers call it, where the address names no other."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is; `path` is that of its WebSocket, None for MQTT without one."""

    secure: bool
    host: str
    port: int
    path: str | None = None


def parse_url(url: str) -> Address:
    """Read an address. Raises ConfigError for one that is none, or unsafe."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _address_fault(f"is no address ({error})") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _address_fault("is no MQTT address")
    if parts.username is not None or parts.password is not None:
        raise _address_fault("carries a user name or password, which would end up in logs")
    is_websocket = parts.scheme in ("ws", "wss")
    if (parts.path not in ("", "/") and not is_websocket) or parts.query or parts.fragment:
        raise _address_fault("carries more than host and port")
    secure = parts.scheme in ("mqtts", "wss")
    if not secure and not _is_loopback(parts.hostname):
        raise _address_fault("has no TLS, which is for loopback addresses only")
    path = (parts.path.rstrip("/") or WEBSOCKET_PATH) if is_websocket else None
    return Address(secure, parts.hostname, port or _PORTS[parts.scheme], path)


def parse_proxy(url: str, login: tuple[str, str] | None = None) -> Proxy:
    """Read `http://host:port`; `login` is the user name and password for it. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme != "http" or "@" in parts.netloc or parts.path.strip("/"):
        reason, remedy = "is no proxy's address", "use http://HOST:PORT"
        raise ConfigError.of("site file", reason, remedy, key="platform.proxy")
    return Proxy(host, port, login)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address_fault(reason: str) -> ConfigError:
    return ConfigError.of(
        "site file", reason, "use mqtts://HOST:PORT, or wss://HOST/PATH", key="platform.broker"
    )
