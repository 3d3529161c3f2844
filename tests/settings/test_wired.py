"""What only lines and meters together can be wrong about, where no shipped profile leads there: DL/T 645 addresses."""

from dataclasses import replace

import pytest

from agent.errors import Fault
from agent.metering.plant import Meter
from agent.resources import config_path
from agent.settings.faultlist import FaultList
from agent.settings.profiles import load_profiles
from agent.settings.shape import LineShape, MeterShape, read_table
from agent.settings.wired import Known, read_meters

SDM120 = load_profiles(config_path("profiles"))["eastron-sdm120"]
DLT645 = replace(SDM120, id="dlt645", protocol="dlt645-2007")


@pytest.mark.parametrize("transport", ["rs485", "rs485-over-tcp"])
def test_a_dlt645_meter_has_twelve_digits_and_may_share_a_pair(transport: str) -> None:
    meters, faults = _meters("000012345678", transport)
    assert not faults
    assert [meter.address for meter in meters] == ["000012345678"]


@pytest.mark.parametrize(
    "address", [7, "12345678", "00001234567a", "0000123456789", "００００１２３４５６７８"]
)
def test_any_other_address_of_a_dlt645_meter_is_refused(address: int | str) -> None:
    _, (fault,) = _meters(address, "rs485")
    assert fault.key == "meters.#1.address"
    assert "is not a DL/T 645 address" in fault.reason
    assert "12 digits" in fault.remedy


def test_modbus_tcp_does_not_carry_dlt645() -> None:
    _, (fault,) = _meters("000012345678", "modbus-tcp")
    assert fault.key == "meters.#1.line"
    assert "rs485-over-tcp" in fault.remedy


def test_without_known_profiles_nobody_is_blamed_for_his_profile() -> None:
    """A profile that could not be read is reported once, in its own file."""
    meters, faults = _meters("000012345678", "rs485", profiles_known=False)
    assert (meters, faults) == ((), ())


def _meters(
    address: int | str, transport: str, *, profiles_known: bool = True
) -> tuple[tuple[Meter, ...], tuple[Fault, ...]]:
    faults = FaultList("site.toml", {}, {})
    table = {"id": "m", "line": "a", "address": address, "profile": "dlt645", "role": "other"}
    shaped = read_table(MeterShape, table, ("meters", 0), faults)
    line = LineShape.model_validate({"id": "a", "transport": transport})
    profiles = {"dlt645": DLT645} if profiles_known else None
    known = Known(agent="gw01", lines={"a": line}, profiles=profiles, steps=(), materials=())
    meters = read_meters([shaped], known, faults)
    return meters, faults.error().faults
