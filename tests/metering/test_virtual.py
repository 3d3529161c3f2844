"""Virtual meters, the static check and the balance: on random trees every kWh is somebody's, once."""

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.plant import Role, Share
from agent.metering.stepmap import NOT_A_LOAD, split
from agent.metering.virtual import (
    Estimate,
    MapError,
    MapMeter,
    Method,
    Term,
    VirtualMeter,
    balance,
    check,
    step_map,
)
from agent.reporting.attribution import attribution
from agent.reporting.descriptor import Descriptor, MeterDescription
from tests.reporting.gateway import meter_description

ONE = Fraction(1)
STEPS = [f"s{number}" for number in range(8)]


def load(id: str, step: str | None = None, parent: str | None = None, part: Fraction = ONE) -> MapMeter:
    shares = () if step is None else (Share(step, part),)
    return MapMeter(id, Role.INCOMER if step is None else Role.STEP, parent, shares)


def difference(id: str, whole: str, *less: str, step: str) -> VirtualMeter:
    terms = (Term(whole, ONE), *(Term(each, -ONE) for each in less))
    return VirtualMeter(id, terms, (Share(step, ONE),))


# ------------------------------------------------------------------------------------------------------ cases by hand


def test_a_residual_is_a_virtual_meter_and_says_so() -> None:
    """The hall took 100, the oven in it 60 and the wave 25; packaging is what remains."""
    meters = [load("hall"), load("oven", "reflow", "hall"), load("wave", "wave", "hall")]
    made = step_map(meters, [difference("rest", "hall", "oven", "wave", step="packaging")])
    assert made.methods["packaging"] == {Method.VIRTUAL}
    assert made.methods["reflow"] == {Method.METER}
    found = balance(made, {"hall": 100, "oven": 60, "wave": 25})
    assert found.steps == {"reflow": 60, "wave": 25, "packaging": 15}
    assert found.unassigned == 0


def test_a_meter_above_others_gives_a_residual_too() -> None:
    meters = [load("hall", "packaging"), load("oven", "reflow", "hall")]
    assert step_map(meters).methods == {"packaging": {Method.VIRTUAL}, "reflow": {Method.METER}}


def test_a_fixed_split_is_marked() -> None:
    meters = [
        replace(load("m"), role=Role.STEP, shares=(Share("a", Fraction(3, 5)), Share("b", Fraction(2, 5))))
    ]
    assert step_map(meters).methods == {"a": {Method.SPLIT}, "b": {Method.SPLIT}}


def test_rated_power_is_taken_out_of_the_own_load_it_lies_in() -> None:
    """5 kW for 8 h at 60 % are 24 kWh; the hall's own load of 20 kWh cannot hold them, and says so."""
    meters = [load("hall"), load("oven", "reflow", "hall")]
    estimate = Estimate("packaging", Fraction(5_000), Fraction(8), Fraction("0.6"), "hall")
    assert estimate.energy_milliwh == 24_000_000
    found = balance(step_map(meters), {"hall": 50_000_000, "oven": 30_000_000}, [estimate])
    assert found.steps["packaging"] == 24_000_000
    assert found.unassigned == -4_000_000
    assert sum(filter(None, found.steps.values())) + found.unassigned == 50_000_000


def test_a_negative_residual_stays_negative() -> None:
    meters = [load("hall"), load("oven", "reflow", "hall")]
    made = step_map(meters, [difference("rest", "hall", "oven", step="packaging")])
    assert balance(made, {"hall": 9, "oven": 10}).steps == {"reflow": 10, "packaging": -1}


def test_a_missing_input_makes_incomplete_and_never_zero() -> None:
    meters = [load("hall"), load("oven", "reflow", "hall"), load("wave", "wave", "hall")]
    made = step_map(meters, [difference("rest", "hall", "oven", "wave", step="packaging")])
    found = balance(made, {"hall": 100, "oven": 60})
    assert found.steps == {"reflow": 60, "wave": None, "packaging": None}
    assert found.lacking == {"wave": ("wave",), "packaging": ("wave",)}
    assert balance(step_map(meters), {"hall": 100, "oven": 60}).unassigned is None


def test_virtual_meters_may_be_made_of_virtual_meters() -> None:
    meters = [load("a"), load("b"), load("c")]
    both = VirtualMeter("both", (Term("a", ONE), Term("b", Fraction(1, 2))), ())
    all_ = VirtualMeter("all", (Term("both", ONE), Term("c", ONE)), (Share("s", ONE),))
    assert balance(step_map(meters, [all_, both]), {"a": 4, "b": 6, "c": 1}).steps == {"s": 8}


@pytest.mark.parametrize(
    ("virtual", "reason"),
    [
        (
            [VirtualMeter("v", (Term("w", ONE),), ()), VirtualMeter("w", (Term("v", ONE),), ())],
            "made of itself",
        ),
        ([VirtualMeter("v", (Term("nobody", ONE),), ())], "which is no meter"),
        ([VirtualMeter("hall", (), ())], "one id"),
    ],
)
def test_a_map_that_cannot_be_computed_is_refused(virtual: list[VirtualMeter], reason: str) -> None:
    with pytest.raises(MapError, match=reason):
        step_map([load("hall")], virtual)


def test_meters_in_a_circle_are_refused() -> None:
    for ask in (step_map, check):
        with pytest.raises(MapError, match="own parents"):
            ask([load("a", parent="b"), load("b", parent="a")])


def test_what_is_used_twice_is_named_with_its_steps() -> None:
    meters = [load("hall"), load("oven", "reflow", "hall")]
    (fault,) = check(meters, [VirtualMeter("v", (Term("hall", ONE),), (Share("packaging", ONE),))]).faults
    assert fault.meter == "oven"
    assert fault.reason == "is used 2 times: packaging 1, reflow 1"


def test_what_is_used_negatively_is_named() -> None:
    virtual = VirtualMeter("v", (Term("a", ONE), Term("b", -ONE)), (Share("s", ONE),))
    faults = check([load("a"), load("b")], [virtual]).faults
    assert ("b", "counts negatively in s") in [(fault.meter, fault.reason) for fault in faults]


def test_what_nobody_uses_is_shown_and_no_fault() -> None:
    usage = check([load("hall"), load("oven", "reflow", "hall", Fraction(1, 4))])
    assert usage.faults == ()
    assert usage.unused == {"hall": 1, "oven": Fraction(3, 4)}


# -------------------------------------------------------------------------------------------------------- random trees


def random_tree(chance: random.Random) -> list[MapMeter]:
    """One incomer and up to 24 meters below it, parents before children, every share exact."""
    meters = [load("incomer")]
    for number in range(chance.randrange(1, 25)):
        parent = chance.choice(meters).id
        whole = chance.randrange(1, 12)
        names = chance.sample(STEPS, chance.randrange(0, 4))
        weights = [chance.randrange(0, whole + 1) for _ in names]
        total = max(1, sum(weights) + chance.choice([0, 0, chance.randrange(0, 9)]))
        shares = tuple(
            Share(name, Fraction(weight, total))
            for name, weight in zip(names, weights, strict=True)
            if weight
        )
        role = Role.STEP if shares else chance.choice([Role.UTILITY, Role.OTHER])
        meters.append(MapMeter(f"m{number}", role, parent, shares))
    return meters


def readings(chance: random.Random, meters: Sequence[MapMeter]) -> dict[str, int]:
    """What each meter counted: its children and an own load, which errors of meters can make negative."""
    counted = {meter.id: chance.randrange(-50, 10**9) for meter in meters}
    for meter in reversed(meters):
        if meter.parent is not None:
            counted[meter.parent] += counted[meter.id]
    return counted


def residual_of(meter: MapMeter, meters: Sequence[MapMeter], step: str) -> VirtualMeter:
    """A meter less its children, which is its own load in another spelling."""
    children = [each.id for each in meters if each.parent == meter.id]
    return difference(f"rest-{meter.id}", meter.id, *children, step=step)


@pytest.mark.parametrize("seed", range(400))
def test_steps_and_unassigned_are_the_incomer_exactly(seed: int) -> None:
    chance = random.Random(seed)
    meters = random_tree(chance)
    free = [meter for meter in meters if not meter.shares]
    virtual = [residual_of(meter, meters, chance.choice(STEPS)) for meter in free if chance.random() < 0.4]
    counted = readings(chance, meters)
    estimates = [
        Estimate(
            chance.choice(STEPS), Fraction(chance.randrange(9_000)), Fraction(7, 3), Fraction(2, 5), "incomer"
        )
        for _ in range(chance.randrange(0, 3))
    ]
    found = balance(step_map(meters, virtual), counted, estimates)
    assert found.unassigned is not None
    assert (
        sum((energy or 0 for energy in found.steps.values()), Fraction(0)) + found.unassigned
        == counted["incomer"]
    )
    assert check(meters, virtual).faults == ()


@pytest.mark.parametrize("seed", range(400))
def test_every_seeded_double_use_is_found(seed: int) -> None:
    """A valid map, and then one virtual meter that uses something again: each own load below it, or its own."""
    chance = random.Random(seed)
    meters = random_tree(chance)
    assert check(meters).faults == ()
    used = [meter for meter in meters if sum((share.part for share in meter.shares), Fraction(0)) > 0]
    if not used:
        meters.append(load("m-used", "s0", "incomer"))
        used = [meters[-1]]
    victim = chance.choice(used)
    above = [victim]
    while above[-1].parent is not None:
        above.append(next(meter for meter in meters if meter.id == above[-1].parent))
    planted = VirtualMeter(
        "planted", (Term(chance.choice(above).id, ONE),), (Share(chance.choice(STEPS), ONE),)
    )
    assert victim.id in {fault.meter for fault in check(meters, [planted]).faults}


@pytest.mark.parametrize("seed", range(100))
def test_without_virtual_meters_it_is_the_split_of_the_step_map(seed: int) -> None:
    chance = random.Random(seed)
    meters = random_tree(chance)
    counted = readings(chance, meters)
    plain, drawn = split(counted, meters), balance(step_map(meters), counted)
    assert drawn.steps == plain.steps
    assert drawn.unassigned == plain.unassigned


@given(st.data())
def test_it_gives_every_delta_to_whom_the_descriptor_gives_it(data: st.DataObject) -> None:
    """The platform's totals and its reports cannot differ: the same coefficients, also with generation and export."""
    ids = [f"m{number}" for number in range(data.draw(st.integers(1, 8)))]
    described: list[MeterDescription] = []
    mapped: list[MapMeter] = []
    for place, id in enumerate(ids):
        role = data.draw(st.sampled_from([role.value for role in Role]))
        loads = [each.meter for each in described if Role(each.role) not in NOT_A_LOAD]
        parent = data.draw(st.none() | st.sampled_from(loads)) if place and loads else None
        steps = ((data.draw(st.sampled_from(STEPS)), 2, 3),) if role == "step" else ()
        described.append(meter_description(id, role=role, parent=parent, steps=steps))
        shares = tuple(Share(step, Fraction(num, den)) for step, num, den in steps)
        mapped.append(MapMeter(id, Role(role), parent, shares))
    parts = attribution(Descriptor("zj", "gw01", 1, 0, "1", tuple(described)))
    made = step_map(mapped)
    for id in ids:
        given_away = {part.step: part.part for part in parts[id]}
        assert {step: terms[id] for step, terms in made.steps.items() if id in terms} == {
            step: part for step, part in given_away.items() if step is not None
        }
        assert made.unassigned.get(id, 0) == given_away.get(None, 0)
