"""The small languages of a site file: what they mean, and what they refuse."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings import grammar
from agent.settings.grammar import BrokerAddress


@pytest.mark.parametrize(
    ("text", "length_ms"),
    [
        ("1s", 1_000),
        ("10s", 10_000),
        ("1min", 60_000),
        ("15min", 900_000),
        ("1h", 3_600_000),
        ("24h", 86_400_000),
    ],
)
def test_an_interval_is_whole_seconds_that_divide_a_day(text: str, length_ms: int) -> None:
    assert grammar.interval_ms(text) == length_ms


@pytest.mark.parametrize(
    "text", ["7s", "25h", "0s", "500ms", "1500ms", "1", "s", "1m", "-1s", "1.5s", "1d", "1 0s", "48h", ""]
)
def test_every_other_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        grammar.interval_ms(text)


@given(st.integers(min_value=1, max_value=2 * 86_400))
def test_an_accepted_interval_divides_the_day(seconds: int) -> None:
    if 86_400 % seconds == 0:
        assert grammar.interval_ms(f"{seconds}s") == seconds * 1_000
    else:
        with pytest.raises(ValueError, match="does not divide a day"):
            grammar.interval_ms(f"{seconds}s")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("150/5", Fraction(30)),
        ("3/5", Fraction(3, 5)),
        ("30", Fraction(30)),
        ("0.01", Fraction(1, 100)),
        ("1/0.5", Fraction(2)),
    ],
)
def test_a_ratio_is_exact(text: str, value: Fraction) -> None:
    assert grammar.exact_ratio(text) == value


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "1/0", "1e9", "1e999999999", "a/b", "1/2/3", "", "/5", "５/1", "1_000", "nan", "inf", " 1"],
)
def test_everything_else_is_no_ratio(text: str) -> None:
    with pytest.raises(ValueError, match=r"ratio|greater than zero"):
        grammar.exact_ratio(text)


@pytest.mark.parametrize(
    ("text", "watts"), [("40", 40_000), ("7.5", 7_500), ("0.001", 1), ("9999999", 9_999_999_000)]
)
def test_a_rated_power_is_whole_watts(text: str, watts: int) -> None:
    assert grammar.rated_w(text) == watts


@pytest.mark.parametrize("text", ["0", "0.0001", "40kW", "-4", "1e3", "4,5", ""])
def test_every_other_power_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="power"):
        grammar.rated_w(text)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtts://broker.grid.example:8883", BrokerAddress(True, "broker.grid.example", 8883)),
        ("mqtts://broker.grid.example", BrokerAddress(True, "broker.grid.example", 8883)),
        ("mqtt://127.0.0.1", BrokerAddress(False, "127.0.0.1", 1883)),
        ("mqtt://[::1]:1884/", BrokerAddress(False, "::1", 1884)),
    ],
)
def test_a_broker_address_has_a_default_port(url: str, address: BrokerAddress) -> None:
    assert grammar.broker_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "broker.grid.example:8883",
        "https://broker.grid.example",
        "mqtts://",
        "mqtts://broker:99999",
        "mqtts://broker:0",
        "mqtts://broker:port",
        "mqtts://user:secret@broker",
        "mqtts://broker/topic",
        "mqtts://bro ker",
        "mqtts://10.0.8.300",
        "mqtts://[::1",
        "mqtts://-x-",
    ],
)
def test_every_other_broker_address_is_refused_without_telling_a_password(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        grammar.broker_address(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("read", [grammar.broker_address, grammar.proxy_address])
@pytest.mark.parametrize(
    "rest", ["@h.example:1x", "@h.example:8883", "@h.example/x", "/@h.example:1", "@x@h:1"]
)
@pytest.mark.parametrize("scheme", ["", "http://", "https://", "mqtts://", "MQTTS://", "//"])
def test_no_message_tells_a_password_that_stands_in_an_address(
    read: Callable[[str], object], rest: str, scheme: str
) -> None:
    with pytest.raises(ValueError) as refused:
        read(f"{scheme}gw01:sesame{rest}")
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert grammar.is_loopback(host)


@pytest.mark.parametrize("host", ["128.0.0.1", "0.0.0.0", "localhost.example", "10.0.0.1", "::", "broker"])
def test_not_loopback(host: str) -> None:
    assert not grammar.is_loopback(host)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8470", ("127.0.0.1", 8470)),
        ("[::1]:1", ("::1", 1)),
        ("gw01.local:65535", ("gw01.local", 65535)),
    ],
)
def test_a_web_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert grammar.web_address(text) == address


@pytest.mark.parametrize(
    "text", ["8470", ":8470", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "a b:80", "x:８"]
)
def test_every_other_web_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        grammar.web_address(text)


@pytest.mark.parametrize("text", ["kwh/v1", "grid/zj/kwh", "a"])
def test_a_topic_root(text: str) -> None:
    assert grammar.topic_root(text) == text


@pytest.mark.parametrize("text", ["", "/kwh", "kwh/", "a//b", "kwh/+", "#", "$SYS/x"])
def test_no_topic_root(text: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        grammar.topic_root(text)
