"""A meter that is not what its profile takes it for is named, with the fact and the remedy."""

from dataclasses import replace
from fractions import Fraction

import pytest

from agent.metering.conditions import Broken, Met, Undecided, judge
from agent.metering.decode import NoValue
from agent.metering.profile import Condition, Profile, WordType
from tests.metering.examples import profile, register

MODE = Condition(("mode",), "set it to application H", one_of=(Fraction(7), Fraction(8)))
BALANCE = Condition(
    ("energy_import", "energy_export"),
    "it is the other version",
    equals="energy_total",
    within=Fraction("0.02"),
    other="acme-m2",
)
PLAUSIBLE = Condition(
    ("energy_import",), "this is no energy", at_least=Fraction("0.01"), at_most=Fraction(10_000)
)
KIND = Condition(("kind",), "it is another model", one_of=("M3", "M4"))


def of(*conditions: Condition) -> Profile:
    registers = {name: register(name=name) for name in ("energy_import", "energy_export", "energy_total")}
    registers["mode"] = register(name="mode", unit="", per_count=Fraction(1))
    registers["kind"] = register(WordType.ASCII, name="kind", unit="", per_count=Fraction(1))
    return profile(registers=registers, conditions=conditions)


def test_a_profile_without_conditions_is_always_met() -> None:
    assert judge(of(), {}) == Met()


def test_a_setting_is_one_of_several() -> None:
    assert judge(of(MODE), {"mode": 8}) == Met()
    assert judge(of(MODE), {"mode": 2}) == Broken("mode reads 2: set it to application H")
    assert judge(of(KIND), {"kind": "M4"}) == Met()
    assert judge(of(KIND), {"kind": "M5"}) == Broken('kind reads "M5": it is another model')


def test_a_register_the_meter_does_not_have_breaks_its_condition() -> None:
    assert judge(of(MODE), {}) == Broken("the meter has no register mode: set it to application H")
    verdict = judge(of(PLAUSIBLE), {"energy_import": NoValue("energy_import: not a number")})
    assert verdict == Broken("energy_import: not a number: this is no energy")


@pytest.mark.parametrize(
    ("imported", "exported", "total", "verdict"),
    [
        (600, 130, 730, Met()),
        (600, 130, 732, Met()),
        (0, 0, 0, Undecided()),
        (
            0,
            0,
            730,
            Broken(
                "energy_import + energy_export reads 0, but energy_total reads 7.3: it is the other version; "
                'the profile may be "acme-m2"'
            ),
        ),
    ],
)
def test_counters_that_must_add_up(imported: int, exported: int, total: int, verdict: object) -> None:
    values = {"energy_import": imported, "energy_export": exported, "energy_total": total}
    assert judge(of(BALANCE), values) == verdict


def test_a_counter_has_a_range_and_at_zero_says_nothing() -> None:
    assert judge(of(PLAUSIBLE), {"energy_import": 1}) == Met()
    assert judge(of(PLAUSIBLE), {"energy_import": 0}) == Undecided()
    assert isinstance(judge(of(PLAUSIBLE), {"energy_import": 10**6 + 1}), Broken)
    assert isinstance(judge(of(PLAUSIBLE), {"energy_import": Fraction(1, 3)}), Broken)
    assert isinstance(judge(of(PLAUSIBLE), {"energy_import": -4}), Broken)


def test_one_that_is_broken_counts_more_than_one_that_is_undecided() -> None:
    both = of(PLAUSIBLE, MODE)
    assert isinstance(judge(both, {"energy_import": 0, "mode": 1}), Broken)
    assert judge(both, {"energy_import": 0, "mode": 7}) == Undecided()
    assert judge(replace(both, conditions=()), {"mode": 1}) == Met()
