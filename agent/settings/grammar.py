"""The small languages inside the values of a site file: durations, ratios, addresses of brokers and web pages.

The shape of the file is checked before (`shape`), so every function here is given text of reasonable length; what it
returns goes into the frozen values of `site`. Each raises ValueError with a reason that can be shown to a person. All
numbers are exact: a ratio is a Fraction, a power is whole watts.
"""

import ipaddress
import re
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import urlsplit

from agent.metering.quantity import ratio

ID_PATTERN = r"^[A-Za-z0-9._-]{1,32}$"
"""Ids travel in topics and signed batches (wire format, section 2)."""

DAY_MS = 86_400_000
"""Milliseconds of a day; every interval length divides it, so that intervals begin anew at each midnight UTC."""

_MS_PER_UNIT = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"([0-9]{1,8}) ?(ms|s|min|h)")
_RATIO = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?(?:/[0-9]{1,9}(?:\.[0-9]{1,9})?)?")
_KILOWATTS = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,3})?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


def duration_ms(text: str) -> int:
    """Read `500ms`, `10s`, `15min` or `1h`; returns ms, at least 1."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not a length of time such as 10s, 1min, 15min or 1h')
    length_ms = int(found[1]) * _MS_PER_UNIT[found[2]]
    if length_ms == 0:
        raise ValueError(f'"{text}" is no time at all')
    return length_ms


def interval_ms(text: str) -> int:
    """Read an interval length: whole seconds that divide a day, 1 s to 1 day."""
    length_ms = duration_ms(text)
    if length_ms % 1_000:
        raise ValueError(f'"{text}" is not a whole number of seconds')
    if length_ms > DAY_MS or DAY_MS % length_ms:
        raise ValueError(f'"{text}" does not divide a day')
    return length_ms


def exact_ratio(text: str) -> Fraction:
    """Read `150/5`, `3/5`, `30` or `0.01`; greater than zero, at most nine digits on each side of point and slash."""
    if _RATIO.fullmatch(text) is None:
        raise ValueError(f'"{text}" is not a ratio such as 150/5, 30 or 0.01')
    return ratio(text)


def rated_w(text: str) -> int:
    """Read a power in kW with at most three decimals, such as `40` or `7.5`; returns whole W, at least 1."""
    if _KILOWATTS.fullmatch(text) is None:
        raise ValueError(f'"{text}" is not a power in kW such as 40 or 7.5, with at most three decimals')
    watts = Fraction(text) * 1_000
    if watts == 0:
        raise ValueError(f'"{text}" is no power at all')
    return int(watts)


def is_host(text: str) -> bool:
    """Whether the text is an IP address or a name that DNS could know."""
    if is_ip(text):
        return True
    labels = text.removesuffix(".").split(".")
    all_digits = labels[-1].isdecimal()  # "10.0.8" and "10.0.8.300" are mistyped addresses, not names
    return len(text) <= 253 and not all_digits and all(_HOST_LABEL.fullmatch(label) for label in labels)


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host never leaves this machine."""
    return ipaddress.ip_address(host).is_loopback if is_ip(host) else host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is; `tls` is False only for `mqtt://` and `ws://`, `websocket` true for `ws://` and `wss://`."""

    tls: bool
    host: str
    port: int
    websocket: bool = False

    @property
    def is_none(self) -> bool:
        """Whether there is no broker, and everything goes by stick."""
        return not self.host


NO_BROKER = "none"
"""The value of `platform.broker` for a site that is served by stick only."""


def _without_login(url: str) -> str:
    """An address as it may stand in a message: what may be a user name and a password is left out of it."""
    return re.sub(r"^([A-Za-z]+://)?.*@", r"\1***@", url, flags=re.DOTALL)


def broker_address(url: str) -> BrokerAddress:
    """Read `mqtts://host[:port]`, `wss://host[:port][/path]`, or without TLS `mqtt://` and `ws://`.

    `none` says that there is no broker: everything goes by stick.

    Default ports are 8883, 443, 1883 and 80, the default path is `/mqtt`.

    User names and passwords do not belong into the address, because addresses end up in logs.
    """
    if url == NO_BROKER:
        return BrokerAddress(tls=False, host="", port=0)
    shown = _without_login(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f'"{shown}" is not an address such as mqtts://broker.example:8883') from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f'"{shown}" does not begin with mqtts:// (or mqtt:// for a broker on this machine)')
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address holds a user name or password")
    websocket = parts.scheme in ("ws", "wss")
    if (parts.path.strip("/") and not websocket) or parts.query or parts.fragment:
        raise ValueError(f'"{shown}" has more after the port than an address has')
    host = parts.hostname or ""
    if not is_host(host) or port == 0:
        raise ValueError(f'"{shown}" is not an address such as mqtts://broker.example:8883')
    tls = parts.scheme in ("mqtts", "wss")
    return BrokerAddress(tls, host, port or _DEFAULT_PORTS[parts.scheme], websocket)


def proxy_address(url: str) -> str:
    """Read `http://host:port`, without user name and password; returns it as it is."""
    shown = _without_login(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme != "http" or not port or not is_host(parts.hostname or ""):
        raise ValueError(f'"{shown}" is not the address of an HTTP proxy such as http://proxy.example:3128')
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f'"{shown}" has more than a host and a port')
    return url


def web_address(text: str) -> tuple[str, int]:
    """Read `host:port`, for IPv6 `[::1]:8470`."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not colon
        or not re.fullmatch(r"[0-9]{1,5}", port)
        or not is_host(bare)
        or (":" in host and bare == host)
    ):
        raise ValueError(f'"{text}" is not a host and a port such as 127.0.0.1:8470')
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"{port} is not a port; ports are 1 to 65535")
    return bare, int(port)


def topic_root(text: str) -> str:
    """Read the first levels of all topics, such as `kwh/v1`: no wildcards, no empty level, not under `$`."""
    levels = text.split("/")
    if "+" in text or "#" in text or text.startswith("$") or not all(levels):
        raise ValueError(f'"{text}" is not the beginning of a topic such as kwh/v1')
    return text
