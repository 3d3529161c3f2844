"""The forecast of a line: the physical limit, what the agent needs beyond it, changes of speed, and what is refused."""

from dataclasses import replace

from agent.metering.plan import BusCost
from agent.metering.plant import SerialSettings, Transport
from agent.service.boundary import patience_ms
from agent.settings.forecast import BEYOND_LIMIT_NS, SWITCHING_NS, forecast
from tests.support.plants import SLOW, line, meter, plant

FAST = SerialSettings(19_200, "even", 1)


def test_a_sweep_is_the_sum_of_the_limits_and_a_little() -> None:
    meters = tuple(meter(f"m{unit}", unit) for unit in range(1, 27))
    (found,) = forecast(plant((line(serial=SLOW),), meters))
    assert found.sweep_ns == 26 * BusCost.serial(SLOW, 10_000_000).transaction_ns(2)
    assert found.cycle_ns == found.sweep_ns + 26 * BEYOND_LIMIT_NS
    assert found.cycle_ns * 97 <= found.sweep_ns * 100


def test_meters_of_two_speeds_cost_one_change_whatever_their_order() -> None:
    meters = [meter(f"m{unit}", unit) for unit in range(1, 7)]
    mixed = tuple(
        replace(each, serial_settings=FAST if each.address in (2, 4, 6) else None) for each in meters
    )
    sorted_ones = tuple(sorted(mixed, key=lambda each: each.serial_settings is None))
    (one,) = forecast(plant((line(serial=SLOW),), mixed))
    (other,) = forecast(plant((line(serial=SLOW),), sorted_ones))
    assert one.switches == 1 and one.sweep_ns == other.sweep_ns
    apart = sum(BusCost.serial(each.serial_settings or SLOW, 10_000_000).transaction_ns(2) for each in mixed)
    assert one.sweep_ns > apart + SWITCHING_NS - 1


def test_a_line_is_refused_that_a_boundary_cannot_wait_for() -> None:
    """29 meters need 0.92 s at 9600 baud: a boundary of 1 s waits 0.8 s, and would never see the last of them."""
    meters = tuple(meter(f"m{unit}", unit) for unit in range(1, 30))
    (found,) = forecast(plant((line(serial=SLOW),), meters))
    assert found.cycle_ns < 1_000_000_000
    assert not found.fits(1_000) and found.fits(2_000)
    assert patience_ms(1_000) == 800 and patience_ms(3_600_000) == 20_000


def test_the_use_of_a_line_counts_sweeps_and_live_rounds() -> None:
    meters = tuple(meter(f"m{unit}", unit) for unit in range(1, 11))
    (found,) = forecast(plant((replace(line(serial=SLOW), poll_ms=5_000),), meters))
    use = found.cycle_ns / 60e9 + found.round_cycle_ns / 5e9
    assert abs(found.busy_permille(60_000) - 1000 * use) <= 2


def test_tcp_meters_on_one_address_are_priced_as_the_pair_behind_it() -> None:
    wired = line(transport=Transport.MODBUS_TCP, host="10.0.0.1", port=502, serial=SLOW)
    (found,) = forecast(plant((wired,), (meter("a", 1), meter("b", 2))))
    assert found.behind_gateway_ns == 2 * BusCost.serial(SLOW, 10_000_000).transaction_ns(2)
    assert found.switches == 0
