"""Shares: every count belongs to exactly one step, to exact shares of steps, or to nobody."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from agent.reporting.attribution import attribution
from agent.reporting.descriptor import Descriptor, MeterDescription
from tests.reporting.gateway import START_MS, meter_description
from tests.reporting.strategies import shares


def given_away(energies: dict[str, int], *meters: MeterDescription) -> dict[str | None, Fraction]:
    """What each step is given when the meters registered these energies."""
    parts = attribution(Descriptor("zj", "gw01", 1, START_MS, "1", meters))
    sums: dict[str | None, Fraction] = {}
    for meter, energy in energies.items():
        for part in parts[meter]:
            sums[part.step] = sums.get(part.step, Fraction(0)) + part.part * energy
    return sums


def test_a_whole_meter_goes_to_its_step() -> None:
    assert given_away({"m1": 7}, meter_description("m1")) == {"step_m1": 7}


def test_shares_are_exact_and_the_rest_is_unassigned() -> None:
    shared = meter_description("m1", steps=(("a", 1, 3), ("b", 1, 2)))
    assert given_away({"m1": 7}, shared) == {"a": Fraction(7, 3), "b": Fraction(7, 2), None: Fraction(7, 6)}


def test_a_sub_meter_is_taken_out_of_its_parent() -> None:
    machine = meter_description("machine", steps=(("a", 1, 1),))
    part = meter_description("part", steps=(("b", 1, 1),), parent="machine")
    assert given_away({"machine": 100, "part": 30}, machine, part) == {"a": 70, "b": 30}


def test_what_the_incomer_has_more_than_its_children_is_unassigned() -> None:
    incomer = meter_description("in", role="incomer", steps=())
    child = meter_description("m1", parent="in")
    assert given_away({"in": 100, "m1": 60}, incomer, child) == {None: 40, "step_m1": 60}


def test_generation_adds_to_what_the_incomer_passes_on_and_export_leaves_it() -> None:
    incomer = meter_description("in", role="incomer", steps=())
    solar = meter_description("solar", role="generation", steps=(), parent="in")
    export = meter_description("out", role="export", steps=(), parent="in")
    child = meter_description("m1", parent="in")
    energies = {"in": 100, "solar": 50, "out": 20, "m1": 110}
    assert given_away(energies, incomer, solar, export, child) == {None: 20, "step_m1": 110}


def test_a_parent_at_another_gateway_is_left_to_the_platform() -> None:
    assert given_away({"m1": 5}, meter_description("m1", parent="gw02/in")) == {"step_m1": 5}


@given(shares, st.integers(0, 10**12))
def test_nothing_is_given_twice_and_nothing_disappears(
    parts: list[tuple[str, Fraction]], energy: int
) -> None:
    count = max(1, len(parts))
    steps = tuple((step, (part / count).numerator, (part / count).denominator) for step, part in parts)
    assert sum(given_away({"m1": energy}, meter_description("m1", steps=steps)).values()) == energy
