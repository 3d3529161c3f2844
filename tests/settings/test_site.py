"""A right site file becomes the values it says; nothing that has a default has to be written."""

import hashlib
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.metering.plant import Role, SerialSettings, Share, Transport
from agent.resources import config_path
from agent.settings.site import Site, load_site
from agent.settings.values import Account
from tests.settings.example_site import line, meter, serial_line, write_site


def test_a_small_site_has_every_default(tmp_path: Path) -> None:
    file = write_site(
        tmp_path,
        lines=[{"id": "a", "transport": "rs485", "device": "ttyS0"}],
        meters=[meter("m", 1, line="a")],
        interval="1min",
        changes={"journal": {"path": None, "budget_mb": None}, "interval": {"length": None}},
    )
    site = load_site(file)
    assert (site.plant.org, site.plant.agent) == ("zj-meterworks", "gw01")
    assert site.platform.acknowledgement == "platform"
    assert site.platform.acknowledgement_keys == (tmp_path / "platform.pem",)
    assert site.platform.topic_root == "kwh/v1"
    assert site.signing.key_file == tmp_path / "signing-key.pem"
    assert site.journal.path == tmp_path / "journal.db"
    assert (site.journal.budget_mb, site.journal.keep_acknowledged_days) == (1_024, 90)
    assert site.interval_ms == 60_000
    assert site.web_listen is None
    assert site.control_socket == tmp_path / "journal.db.control"
    assert site.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    (only_line,) = site.plant.lines
    assert only_line.serial == SerialSettings(9600, "none", 1)
    assert (only_line.transport, only_line.device, only_line.poll_ms) == (
        Transport.RS485,
        str(tmp_path / "ttyS0"),
        5_000,
    )
    (only_meter,) = site.plant.meters
    assert (only_meter.ct_ratio, only_meter.pt_ratio) == (Fraction(1), Fraction(1))
    assert only_meter.serial_settings is None
    assert only_meter.step == "reflow_soldering"


def test_every_key_of_a_meter_arrives(tmp_path: Path) -> None:
    site = _site(
        tmp_path,
        lines=[serial_line("a", "/dev/ttyS0", parity="even")],
        meters=[
            meter("incomer", 1, line="a", role="incomer"),
            meter(
                "m",
                2,
                line="a",
                profile="chint-dtsu666-2019",
                steps={"smt_placement": "3/5", "reflow_soldering": "2/5"},
                serial="2206001234",
                ct_ratio="150/5",
                pt_ratio="10000/100",
                circuit=1,
                baud=2400,
                rated_kw="7.5",
                parent="gw01/incomer",
                production_line="smt-2",
                powered_by="circuit",
                accuracy_class="0.5S",
                ct_class="0.5",
            ),
        ],
    )
    incomer, meter_ = site.plant.meters
    assert (incomer.role, incomer.shares) == (Role.INCOMER, ())
    assert meter_.role is Role.STEP
    assert meter_.shares == (
        Share("smt_placement", Fraction(3, 5)),
        Share("reflow_soldering", Fraction(2, 5)),
    )
    assert (meter_.serial, meter_.ct_ratio, meter_.pt_ratio) == ("2206001234", Fraction(30), Fraction(100))
    assert (meter_.circuit, meter_.serial_settings) == (1, SerialSettings(2400, "even", 1))
    assert (meter_.rated_w, meter_.parent, meter_.production_line) == (7_500, "incomer", "smt-2")
    assert (meter_.powered_by_circuit, meter_.accuracy_class, meter_.ct_class) == (True, "0.5S", "0.5")


def test_both_kinds_of_tcp_lines(tmp_path: Path) -> None:
    site = _site(
        tmp_path,
        lines=[
            line("a", host="10.0.0.1", port=None),
            line("b", transport="rs485-over-tcp", host="gw.local", port=4196, baud=19200, poll="500ms"),
        ],
        meters=[meter("m", 1, line="a"), meter("n", 1, line="b")],
    )
    first, second = site.plant.lines
    assert (first.transport, first.host, first.port, first.device) == (
        Transport.MODBUS_TCP,
        "10.0.0.1",
        502,
        None,
    )
    assert (second.transport, second.port, second.serial.baud) == (Transport.RS485_OVER_TCP, 4196, 19200)
    assert second.poll_ms == 500


def test_a_link_with_certificates_and_an_account(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    (tmp_path / "gw01.pem").write_text("certificate")
    for secret in ("gw01.key", "password"):
        (tmp_path / secret).write_text("secret")
        (tmp_path / secret).chmod(0o600)
    site = _site(
        tmp_path,
        broker="mqtts://broker.grid.example",
        changes={
            "platform": {
                "ca_file": "ca.pem",
                "client_certificate": "gw01.pem",
                "client_key": "gw01.key",
                "username": "gw01",
                "password_file": "password",
                "topic_root": "grid/kwh",
            },
            "web": {"listen": "127.0.0.1:8470"},
        },
    )
    link = site.platform
    assert (link.broker.tls, link.broker.host, link.broker.port) == (True, "broker.grid.example", 8883)
    assert (link.ca_file, link.client_key) == (tmp_path / "ca.pem", tmp_path / "gw01.key")
    assert (link.account, link.topic_root) == (Account("gw01", tmp_path / "password"), "grid/kwh")
    assert link.proxy_account is None
    assert site.web_listen == "127.0.0.1:8470"


def test_accounts_at_the_broker_and_at_the_proxy_with_credentials(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    changes = {
        "platform": {
            "ca_file": "ca.pem",
            "username": "gw01",
            "password_credential": "broker-password",
            "proxy": "http://proxy.factory.example:3128",
            "proxy_username": "EXAMPLE\\gw01",
            "proxy_password_credential": "proxy-password",
        }
    }
    link = _site(tmp_path, broker="mqtts://broker.grid.example", changes=changes).platform
    assert link.account == Account("gw01", None, "broker-password")
    assert link.proxy == "http://proxy.factory.example:3128"
    assert link.proxy_account == Account("EXAMPLE\\gw01", None, "proxy-password")


def test_broker_mode_needs_no_acknowledgement_keys(tmp_path: Path) -> None:
    changes = {"platform": {"acknowledgement": "broker", "acknowledgement_keys": None}}
    link = _site(tmp_path, changes=changes).platform
    assert (link.acknowledgement, link.acknowledgement_keys) == ("broker", ())


def test_a_credential_takes_the_place_of_the_key_file(tmp_path: Path) -> None:
    site = _site(tmp_path, changes={"signing": {"key_file": None, "credential": "signing-key"}})
    assert (site.signing.key_file, site.signing.credential) == (None, "signing-key")


def test_a_meter_of_one_circuit_is_not_two(tmp_path: Path) -> None:
    """Both would count the same register; circuits of a meter that has several are in test_profileparts."""
    assert _site(tmp_path, meters=[meter("a", 5, circuit=1)]).plant.meters[0].circuit == 1
    with pytest.raises(
        ConfigError, match=r"circuit 2 of a meter with one, so that its kWh would count twice"
    ):
        _site(tmp_path, meters=[meter("a", 5, circuit=1), meter("b", 5, circuit=2, serial=None)])


def test_a_step_below_another_step_is_no_double_count(tmp_path: Path) -> None:
    """The balance takes children off their parent (promise I7), so both may count for steps."""
    site = _site(tmp_path, meters=[meter("a", 1, step="smt_placement"), meter("b", 2, parent="a")])
    assert site.plant.meters[1].parent == "a"


def test_a_profile_beside_the_site_file_adds_to_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    shutil.copy(config_path("profiles", "eastron-sdm120.toml"), tmp_path / "profiles" / "acme-m3.toml")
    site = _site(tmp_path, meters=[meter("a", 1, profile="acme-m3"), meter("b", 2)])
    assert [one.profile.id for one in site.plant.meters] == ["acme-m3", "eastron-sdm630-v2"]


def test_profiles_may_be_kept_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    shutil.copy(config_path("profiles", "eastron-sdm120.toml"), tmp_path / "ours" / "acme-m3.toml")
    site = _site(
        tmp_path, meters=[meter("a", 1, profile="acme-m3")], changes={"profiles": {"directory": "ours"}}
    )
    assert site.plant.meters[0].profile.id == "acme-m3"


def test_another_factory_brings_its_own_steps(tmp_path: Path) -> None:
    shipped = config_path("emission_sources.csv").read_text(encoding="utf-8")
    (tmp_path / "transformer.csv").write_text(
        shipped.replace("reflow_soldering", "coil_winding"), encoding="utf-8"
    )
    changes = {"catalogue": {"file": "transformer.csv"}}
    assert (
        "coil_winding"
        in _site(tmp_path, meters=[meter("a", 1, step="coil_winding")], changes=changes).catalogue.steps
    )
    with pytest.raises(ConfigError, match="there is no step"):
        _site(tmp_path, meters=[meter("a", 1, step="reflow_soldering")], changes=changes)


def test_the_shipped_example_is_right_once_its_files_are_there(tmp_path: Path) -> None:
    write_site(tmp_path)
    file = tmp_path / "site.example.toml"
    shutil.copy(config_path("site.example.toml"), file)
    for name in ("ca.pem", "gw01.pem"):
        (tmp_path / name).write_text("certificate")
    (tmp_path / "gw01.key").write_text("secret")
    (tmp_path / "gw01.key").chmod(0o600)
    site = load_site(file)
    assert [one.id for one in site.plant.meters] == ["incomer-1", "reflow-1", "smt-1", "burn-in-1"]
    assert site.web_listen == "127.0.0.1:8470"


def _site(folder: Path, **keys: object) -> Site:
    return load_site(write_site(folder, **keys))  # type: ignore[arg-type]
