"""What is wrong in a site file is named all at once: the line, the key, the reason and what to do."""

import os
from pathlib import Path

import pytest

from agent.errors import ConfigError, Fault
from agent.settings.site import load_site
from tests.settings.example_site import line, meter, serial_line, write_site

TEN_FAULTS = """\
[gateway]
org = "zj meterworks"
agent = "gw01"

[platform]
audience = "carbon.grid.example"
broker = "mqtt://broker.grid.example:1883"
acknowledgement_keys = ["nobody.pem"]
tls = true

[signing]
key_file = "signing-key.pem"

[interval]
length = "7s"

[[lines]]
id = "hall-a"
transport = "rs485"
device = "/dev/ttyS0"
parity = "evn"

[[meters]]
id = "reflow-1"
line = "hall-a"
address = 300
profile = "eastron-sdm630-v3"
step = "reflow_soldering"

[[meters]]
id = "wave-1"
line = "hall-b"
address = 2
profile = "eastron-sdm120"
step = "wave_solderin"
"""

TEN_EXPECTED = [
    (2, "gateway.org", '"zj meterworks" is not an id', "letters, digits"),
    (7, "platform.broker", "clear text", "use mqtts://"),
    (8, "platform.acknowledgement_keys.#1", "there is no file", "ask the platform's operator"),
    (9, "platform.tls", "there is no such key", "known here are"),
    (15, "interval.length", "does not divide a day", "take one such as"),
    (21, "lines.hall-a.parity", '"evn" is not', 'did you mean "even"?'),
    (26, "meters.reflow-1.address", "300 is not a Modbus address", "1 to 247"),
    (27, "meters.reflow-1.profile", "there is no profile", 'did you mean "eastron-sdm630-v2"?'),
    (32, "meters.wave-1.line", 'there is no line "hall-b"', 'did you mean "hall-a"?'),
    (35, "meters.wave-1.step", "there is no step", 'did you mean "wave_soldering"?'),
]


@pytest.mark.fault("F80")
def test_every_fault_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    write_site(tmp_path)
    file = tmp_path / "site.toml"
    file.write_text(TEN_FAULTS)
    faults = _faults_of(file)
    assert [(fault.line, fault.key) for fault in faults] == [(row[0], row[1]) for row in TEN_EXPECTED]
    for fault, (_, _, reason, remedy) in zip(faults, TEN_EXPECTED, strict=True):
        assert reason in fault.reason
        assert remedy in f"{fault.reason} {fault.remedy}"
        assert fault.file == str(file)


def test_the_message_reads_like_a_list(tmp_path: Path) -> None:
    write_site(tmp_path)
    file = tmp_path / "site.toml"
    file.write_text(TEN_FAULTS)
    with pytest.raises(ConfigError) as refused:
        load_site(file)
    *lines, last = str(refused.value).splitlines()
    assert lines[6] == f"{file}:26  meters.reflow-1.address: 300 is not a Modbus address; it must be 1 to 247"
    assert last == "10 problems, nothing was started"


# -------------------------------------------------------------------------------------------- one fault, one message

M = meter
SERIAL = [serial_line("hall-a", "/dev/ttyS0")]


@pytest.mark.fault("F82")
@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        # who we are, and the broker
        ({"changes": {"gateway": {"agent": None}}}, "gateway.agent", 'is missing; add agent = "gw01"'),
        (
            {"changes": {"gateway": {"orgg": "x"}}},
            "gateway.orgg",
            'there is no such key; did you mean "org"?',
        ),
        ({"changes": {"platform": {"audience": "a b"}}}, "platform.audience", "without blanks"),
        ({"broker": "http://x"}, "platform.broker", "does not begin with mqtts://"),
        ({"broker": "mqtt://u:p@127.0.0.1"}, "platform.broker", "write the user name as platform.username"),
        ({"broker": "ws://10.0.0.1"}, "platform.broker", "clear text over the network; use wss://"),
        (
            {"broker": "wss://10.0.0.1/mqtt"},
            "platform.ca_file",
            'is missing, but wss:// needs it; add ca_file = "ca.pem"',
        ),
        (
            {"changes": {"platform": {"proxy": "p:3128"}}},
            "platform.proxy",
            "not the address of an HTTP proxy",
        ),
        (
            {"changes": {"platform": {"proxy": "http://u:p@p:3128"}}},
            "platform.proxy",
            "more than a host and a port",
        ),
        (
            {"broker": "mqtt://127.0.0.1", "changes": {"platform": {"proxy": "http://p:3128"}}},
            "platform.proxy",
            "of no use for a broker on this machine",
        ),
        (
            {"broker": "none", "changes": {"platform": {"proxy": "http://p:3128"}}},
            "platform.proxy",
            'is of no use with broker = "none"; leave it out',
        ),
        (
            {"broker": "none", "changes": {"platform": {"proxy": "p"}}},
            "platform.proxy",
            'is of no use with broker = "none"; leave it out',
        ),
        (
            {"broker": "none", "changes": {"platform": {"username": "gw01"}}},
            "platform.username",
            'is of no use with broker = "none"; leave it out',
        ),
        (
            {"changes": {"platform": {"proxy_username": "gw01"}}},
            "platform.proxy_username",
            "is of no use without proxy",
        ),
        (
            {"changes": {"platform": {"proxy_password_credential": "p"}}},
            "platform.proxy_password_credential",
            "is of no use without proxy_username",
        ),
        (
            {"changes": {"platform": {"password_credential": "p"}}},
            "platform.password_credential",
            "is of no use without username",
        ),
        ({"broker": "mqtt://10.0.0.1"}, "platform.broker", "clear text over the network; use mqtts://"),
        (
            {"broker": "mqtts://10.0.0.1"},
            "platform.ca_file",
            'is missing, but mqtts:// needs it; add ca_file = "ca.pem"',
        ),
        ({"changes": {"platform": {"ca_file": "no.pem"}}}, "platform.ca_file", "there is no file"),
        ({"changes": {"platform": {"ca_file": "."}}}, "platform.ca_file", "is not a file"),
        (
            {"changes": {"platform": {"ca_file": "x" * 900}}},
            "platform.ca_file",
            "cannot be read: File name too long",
        ),
        (
            {"changes": {"platform": {"client_key": "signing-key.pem"}}},
            "platform.client_key",
            "of no use without client_cert",
        ),
        (
            {"changes": {"platform": {"password_file": "signing-key.pem"}}},
            "platform.password_file",
            "without username",
        ),
        (
            {"changes": {"platform": {"acknowledgement": "brokr"}}},
            "platform.acknowledgement",
            '"brokr" is not "platform" or "broker"; did you mean "broker"?',
        ),
        (
            {"changes": {"platform": {"acknowledgement_keys": None}}},
            "platform.acknowledgement_keys",
            "is missing, so that no acknowledgement could be believed",
        ),
        ({"changes": {"platform": {"topic_root": "kwh/#"}}}, "platform.topic_root", "the default is kwh/v1"),
        # keys, journal, interval, web
        ({"changes": {"signing": {"key_file": None}}}, "signing", "names no key; add key_file"),
        (
            {"changes": {"signing": {"credential": "k"}}},
            "signing.credential",
            "together with key_file; leave one",
        ),
        (
            {"changes": {"signing": {"key_file": "new.pem"}}},
            "signing.key_file",
            "run: metering-agent keygen --out",
        ),
        ({"changes": {"journal": {"path": "no/journal.db"}}}, "journal.path", "there is no folder"),
        ({"changes": {"journal": {"path": "."}}}, "journal.path", "is a folder; name a file"),
        (
            {"changes": {"journal": {"budget_mb": 1.5}}},
            "journal.budget_mb",
            "1.5 is not a whole number of megabytes",
        ),
        ({"changes": {"journal": {"budget_mb": 16}}}, "journal.budget_mb", "do not hold 14 days of 2 meters"),
        (
            {"changes": {"journal": {"keep_acknowledged_days": 6}}},
            "journal.keep_acknowledged_days",
            "6 is not a whole number of days, 7 or more",
        ),
        ({"interval": "1m"}, "interval.length", "is not a length of time"),
        ({"interval": "7s"}, "interval.length", "does not divide a day; take one such as"),
        ({"changes": {"web": {"listen": "8470"}}}, "web.listen", "is not a host and a port"),
        ({"changes": {"catalogue": {}}}, "catalogue.file", "is missing"),
        ({"changes": {"catalogue": {"file": "x.csv"}}}, "catalogue.file", "there is no file"),
        ({"changes": {"profiles": {"directory": "x"}}}, "profiles.directory", "there is no folder"),
        ({"changes": {"sining": {"x": 1}}}, "sining", 'there is no such table; did you mean "signing"?'),
        # lines
        ({"lines": [line(port=0)]}, "lines.hall-a.port", "0 is not a port; ports are 1 to 65535"),
        ({"lines": [line(host=None)]}, "lines.hall-a.host", "is missing; modbus-tcp needs it"),
        ({"lines": [line(host="10.0.0.1:502")]}, "lines.hall-a.host", "the port has a key of its own"),
        (
            {"lines": [line(device="/dev/ttyS0")]},
            "lines.hall-a.device",
            "means nothing with transport modbus-tcp",
        ),
        ({"lines": [serial_line("hall-a", "")]}, "lines.hall-a.device", "is not the name of a serial device"),
        (
            {"lines": [line(transport="rs485", device="/x", port=None)]},
            "lines.hall-a.host",
            "means nothing with",
        ),
        ({"lines": [line(transport="modbus")]}, "lines.hall-a.transport", 'did you mean "modbus-tcp"?'),
        ({"lines": [line(baud=9601)]}, "lines.hall-a.baud", "9601 is not a speed of a serial line"),
        ({"lines": [line(stop_bits=True)]}, "lines.hall-a.stop_bits", "true is not 1 or 2"),
        ({"lines": [line(poll="1ms")]}, "lines.hall-a.poll", "is not between 100ms and 24h"),
        ({"lines": [line(), line(port=9)]}, "lines.hall-a.id", '"hall-a" is taken (line'),
        ({"lines": [line(), line("b")]}, "lines.b.host", "127.0.0.1:15020 is the host of hall-a (line"),
        (
            {"lines": [*SERIAL, serial_line("b", "/dev/../dev/ttyS0")]},
            "lines.b.device",
            "put all its meters on one line",
        ),
        (
            {"lines": [line("hall a")], "meters": [M("a", 1, line="hall a")]},
            "lines.hall a.id",
            "is not an id",
        ),
        # a meter by itself
        ({"meters": [M("a b", 1)]}, "meters.a b.id", "is not an id"),
        ({"meters": [M("a", 1, adress=2)]}, "meters.a.adress", 'did you mean "address"?'),
        (
            {"meters": [M("a", 1, line="hall-b")]},
            "meters.a.line",
            'there is no line "hall-b"; did you mean "hall-a"?',
        ),
        ({"meters": [M("a", 0)]}, "meters.a.address", "0 is not a Modbus address; it must be 1 to 247"),
        ({"meters": [M("a", 248)]}, "meters.a.address", "248 is not a Modbus address"),
        ({"meters": [M("a", "7")]}, "meters.a.address", "is text, but eastron-sdm630-v2 speaks Modbus"),
        (
            {"meters": [M("a", 1, profile="eastron-sdm12")]},
            "meters.a.profile",
            'did you mean "eastron-sdm120"?',
        ),
        ({"meters": [M("a", 1, profile="zzz")]}, "meters.a.profile", "known are abb-a43, abb-a44, abb-b21"),
        (
            {"meters": [M("a", 1, profile="siemens-betriebsstundenzaehler")]},
            "meters.a.profile",
            "known are siemens-7kt-pac1600, siemens-pac2200, siemens-pac3200, siemens-pac4200; config",
        ),
        ({"meters": [M("a", 1, step=None)]}, "meters.a.step", "nobody could say what this meter counts for"),
        ({"meters": [M("a", 1, step="memory_ic")]}, "meters.a.step", "is a material"),
        (
            {"meters": [M("a", 1, step="packaging", role="incomer")]},
            "meters.a.role",
            "given together with step",
        ),
        (
            {"meters": [M("a", 1, step="packaging", steps={"packaging": "1"})]},
            "meters.a.steps",
            "would count twice",
        ),
        ({"meters": [M("a", 1, role="step")]}, "meters.a.role", '"step" is not "incomer"'),
        (
            {"meters": [M("a", 1, steps={"packaging": 0.5})]},
            "meters.a.steps.packaging",
            "0.5 is not a share of a step",
        ),
        (
            {"meters": [M("a", 1, steps={"packagin": "1/2"})]},
            "meters.a.steps.packagin",
            'did you mean "packaging"?',
        ),
        (
            {"meters": [M("a", 1, steps={"packaging": "0"})]},
            "meters.a.steps.packaging",
            "must be greater than zero",
        ),
        (
            {"meters": [M("a", 1, steps={"packaging": "3/5", "calibration": "3/5"})]},
            "meters.a.steps",
            "the shares add up to 6/5, more than the meter counts",
        ),
        (
            {"meters": [M("a", 1, ct_ratio=30)]},
            "meters.a.ct_ratio",
            '30 is not a ratio written as text, such as "150/5"',
        ),
        ({"meters": [M("a", 1, ct_ratio="150:5")]}, "meters.a.ct_ratio", '"150:5" is not a ratio'),
        (
            {"meters": [M("a", 1, ct_ratio="5/150")]},
            "meters.a.ct_ratio",
            "is less than 1; write primary/secondary",
        ),
        (
            {"meters": [M("a", 1, profile="chint-dtsu666-2019", ct_ratio="999999999", pt_ratio="999999999")]},
            "meters.a.ct_ratio",
            "2^53-1",
        ),
        ({"meters": [M("a", 1, rated_kw="forty")]}, "meters.a.rated_kw", "is not a power in kW"),
        ({"meters": [M("a", 1, baud=2400)]}, "meters.a.baud", "a modbus-tcp gateway sets it"),
        ({"meters": [M("a", 1, powered_by="battery")]}, "meters.a.powered_by", "leave the key out"),
        ({"meters": [M("a", 1, circuit=0)]}, "meters.a.circuit", "0 is not the number of a circuit"),
        ({"meters": [M("a", 1, serial=2206001234)]}, "meters.a.serial", "written as text"),
        # meters together: a kWh that would count twice
        ({"meters": [M("a", 1), M("a", 2)]}, "meters.a.id", '"a" is taken (line'),
        ({"meters": [M("a", 1), M("b", 1)]}, "meters.b.address", "address 1 of hall-a is a (line"),
        (
            {"meters": [M("a", 1, circuit=1), M("b", 1)]},
            "meters.b.address",
            "each circuit of one meter its own number",
        ),
        ({"meters": [M("a", 1, circuit=1), M("b", 1, circuit=1)]}, "meters.b.address", "is a (line"),
        (
            {"meters": [M("a", 1, circuit=1), M("b", 1, circuit=2)]},
            "meters.b.circuit",
            "circuit 2 of a meter with one, so that its kWh would count twice",
        ),
        (
            {"meters": [M("a", 1, serial="1"), M("b", 2, serial="1")]},
            "meters.b.serial",
            "its kWh would count twice",
        ),
        # meters together: who feeds whom
        ({"meters": [M("a", 1, parent="b")]}, "meters.a.parent", 'there is no meter "b"'),
        ({"meters": [M("a", 1, parent="a")]}, "meters.a.parent", "a is below a: a circle"),
        ({"meters": [M("a", 1, parent="gw02/x/y")]}, "meters.a.parent", "write gateway/meter"),
        (
            {"meters": [M("a", 1, parent="b"), M("b", 2, parent="c"), M("c", 3, parent="b")]},
            "meters.b.parent",
            "b is below c is below b: a circle; the meter nearest to the supply has no parent",
        ),
    ],
)
def test_one_fault_and_what_it_says(tmp_path: Path, keys: dict[str, object], key: str, message: str) -> None:
    faults = _faults_of(write_site(tmp_path, **keys))  # type: ignore[arg-type]
    assert [fault.key for fault in faults] == [key]
    assert message in str(faults[0])
    assert faults[0].line is not None


def test_broker_mode_needs_room_for_sixty_days(tmp_path: Path) -> None:
    changes: dict[str, dict[str, object]] = {
        "platform": {"acknowledgement": "broker"},
        "journal": {"budget_mb": 16},
    }
    (fault,) = _faults_of(write_site(tmp_path, changes=changes))
    assert "do not hold 60 days" in fault.reason


def test_the_budget_that_is_asked_for_is_accepted(tmp_path: Path) -> None:
    (fault,) = _faults_of(write_site(tmp_path, changes={"journal": {"budget_mb": 16}}))
    needed = int(fault.remedy.split()[1])
    load_site(write_site(tmp_path, changes={"journal": {"budget_mb": needed}}))


def test_a_line_that_cannot_be_read_within_the_interval_is_refused(tmp_path: Path) -> None:
    """Thirty meters at 2400 baud need more than three seconds, whatever the software."""
    meters = [meter(f"m{number}", number) for number in range(1, 31)]
    lines = [serial_line("hall-a", "/dev/ttyS0", baud=2400)]
    (fault,) = _faults_of(write_site(tmp_path, lines=lines, meters=meters, interval="1s"))
    assert fault.key == "lines.hall-a"
    assert "one reading of its 30 meters takes" in fault.reason
    assert "raise the baud rate" in fault.remedy


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o777])
@pytest.mark.parametrize("name", ["signing-key.pem", "gw01.key", "password"])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    for file in ("gw01.key", "gw01.pem", "password"):
        (tmp_path / file).write_text("secret")
        (tmp_path / file).chmod(0o600)
    changes = {
        "platform": {
            "client_certificate": "gw01.pem",
            "client_key": "gw01.key",
            "username": "gw01",
            "password_file": "password",
        }
    }
    site_file = write_site(tmp_path, changes=changes)
    load_site(site_file)
    (tmp_path / name).chmod(mode)
    (fault,) = _faults_of(site_file)
    assert f"(mode {mode:04o})" in fault.reason
    assert fault.remedy == f"run: chmod 600 {tmp_path / name}"


@pytest.mark.parametrize("of", ["", "proxy_"])
def test_a_password_is_in_a_file_or_a_credential_and_not_in_both(tmp_path: Path, of: str) -> None:
    for file in ("password", "ca.pem"):
        (tmp_path / file).write_text("secret")
        (tmp_path / file).chmod(0o600)
    platform = {"ca_file": "ca.pem", "proxy": "http://proxy.example:3128", f"{of}username": "gw01"}
    platform |= {f"{of}password_file": "password", f"{of}password_credential": "password"}
    site_file = write_site(tmp_path, broker="mqtts://broker.example", changes={"platform": platform})
    (fault,) = _faults_of(site_file)
    assert fault.key == f"platform.{of}password_credential"
    assert fault.reason == f"is given together with {of}password_file"


def test_a_user_name_that_no_proxy_could_tell_from_its_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    platform = {"ca_file": "ca.pem", "proxy": "http://proxy.example:3128", "proxy_username": "gw:01"}
    site_file = write_site(tmp_path, broker="mqtts://broker.example", changes={"platform": platform})
    (fault,) = _faults_of(site_file)
    assert (fault.key, fault.reason[:9]) == ("platform.proxy_username", '"gw:01" i')


@pytest.mark.parametrize("password", [b"", b" \n", b"\xff", b"x" * 2_000])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, password: bytes) -> None:
    (tmp_path / "password").write_bytes(password)
    (tmp_path / "password").chmod(0o600)
    changes = {"platform": {"username": "gw01", "password_file": "password"}}
    (fault,) = _faults_of(write_site(tmp_path, changes=changes))
    assert "holds no password" in fault.reason


@pytest.mark.fault("F58")
@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_this_user_may_not_read_is_named(tmp_path: Path) -> None:
    site_file = write_site(tmp_path)
    (tmp_path / "platform.pem").chmod(0)
    (fault,) = _faults_of(site_file)
    assert "may not be read by this user" in fault.reason


def _faults_of(file: Path) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as refused:
        load_site(file)
    return refused.value.faults
