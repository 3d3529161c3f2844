"""Four models of Modbus meters and two DL/T 645 meters of other speeds on one pair, through the whole installation."""

from pathlib import Path

import pytest

from simulators.demo.rig import MeterPlace, Rig, places

MODBUS = {7: "eastron-sdm630-v2", 8: "abb-b23", 9: "schneider-iem3155", 22: "chint-ddsu666"}
DLT645 = {
    "000012345678": ("dlt645-2007-single-phase", 2400),
    "000000161606": ("dlt645-2007-three-phase", 4800),
}


def mixed_places() -> list[MeterPlace]:
    """Six meters on the pair, and one behind the gateway."""
    like = places()
    steps = iter(like)
    modbus = [
        MeterPlace(f"m{unit:02d}", next(steps).step, "hall-a", unit, profile, str(2_300_000 + unit))
        for unit, profile in MODBUS.items()
    ]
    dlt645 = [
        MeterPlace(f"d{digits[-4:]}", next(steps).step, "hall-a", digits, profile, digits, baud, "even")
        for digits, (profile, baud) in DLT645.items()
    ]
    return [*modbus, *dlt645, like[-1]]


@pytest.mark.timeout(600)
def test_a_mixed_pair_is_conserved_exactly_up_to_the_platform(tmp_path: Path) -> None:
    with Rig(tmp_path / "rig", interval="2s", speed=60, meters=mixed_places()) as rig:
        rig.start_broker()
        rig.start_meters()
        rig.start_platform()
        rig.start_agent()
        rig.wait_until(
            lambda: _deltas(rig) >= 4 and _all_counted(rig), 180, "four deltas and a count of every meter"
        )
        rig.freeze_counters()
        rig.wait_until(lambda: rig.differences() == {}, 120, "platform and meters agree")
        account, truth = rig.account(), rig.truth()
        assert account is not None
        assert set(account.meters) == set(truth) == {place.id for place in mixed_places()}
        assert rig.stop("agent") == 0


def _all_counted(rig: Rig) -> bool:
    """Whether the platform holds energy of every meter: those that count in 10 Wh take their time."""
    account = rig.account()
    return account is not None and all(meter.energy_milliwh > 0 for meter in account.meters.values())


def _deltas(rig: Rig) -> int:
    """The fewest deltas that the platform holds of a meter of the site."""
    account = rig.account()
    booked = account.meters if account is not None else {}
    return min((booked[place.id].deltas if place.id in booked else 0) for place in rig.meters)
