"""What is known of a meter between boundaries: the power that flows, and the ratio that somebody set at it."""

from dataclasses import replace
from fractions import Fraction

import pytest

from agent.metering.plant import Meter
from agent.metering.profile import Register, WordType
from agent.service.watch import LiveValue, Watch, watch_of
from tests.metering.examples import meter, profile, register
from tests.support.plants import line

RATIO = register(WordType.U16, name="ct_ratio", unit="", per_count=Fraction(1), words=1)


def watched(*, secondary: bool = True, **changes: object) -> Watch:
    energy = register(secondary=secondary)
    power = register(
        WordType.S32, name="power_active_total", unit="kW", per_count=Fraction(1, 1000), secondary=True
    )
    registers: dict[str, Register] = {each.name: each for each in (energy, power, RATIO)}
    made: Meter = meter(energy, ct_ratio=Fraction(30))
    made = replace(made, profile=profile(energy, registers=registers, fingerprint=("ct_ratio",)))
    return watch_of(line(), replace(made, **changes), shared=False)  # type: ignore[arg-type]


def test_the_power_is_that_of_the_primary_side_and_only_while_it_is_fresh() -> None:
    watch = watched()
    assert watch.power_w(0) is None
    power = watch.meter.profile.registers["power_active_total"]
    watch.live["power_active_total"] = LiveValue(power, (0, 2500), 70)
    assert watch.power_w(70) == 2500 * 30 and watch.power_w(71) is None
    watch.live["power_active_total"] = LiveValue(power, (0xFFFF, 0xFFFF), 70)
    assert watch.power_w(70) == -30


@pytest.mark.fault("F27")
@pytest.mark.parametrize(
    ("words", "secondary", "differs"),
    [((40,), True, True), ((30,), True, False), (None, True, False), ((40,), False, False)],
)
def test_a_ratio_set_otherwise_at_the_meter_is_noticed_where_it_matters(
    words: tuple[int, ...] | None, secondary: bool, differs: bool
) -> None:
    watch = watched(secondary=secondary)
    watch.fingerprint = (("ct_ratio", words),)
    expected = ("ct_ratio", Fraction(40), Fraction(30)) if differs else None
    assert watch.other_ratio() == expected
