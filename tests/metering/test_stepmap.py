"""Every count belongs to exactly one step, to exact shares of steps, or to none."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.plant import Meter, Role, Share
from agent.metering.stepmap import NOT_A_LOAD, own_loads, split
from tests.metering.examples import meter

STEPS = ("smt_placement", "reflow_soldering", "wave_soldering")


def incomer(id: str) -> Meter:
    return meter(id=id, role=Role.INCOMER, shares=())


def test_one_meter_one_step() -> None:
    result = split({"reflow-1": 7}, [meter()])
    assert result.steps == {"reflow_soldering": 7}
    assert result.unassigned == 0


def test_shares_are_exact_and_the_rest_is_unassigned() -> None:
    shared = meter(shares=(Share("smt_placement", Fraction(1, 3)), Share("wave_soldering", Fraction(1, 2))))
    result = split({"reflow-1": 10}, [shared])
    assert result.steps == {"smt_placement": Fraction(10, 3), "wave_soldering": 5}
    assert result.unassigned == Fraction(5, 3)


def test_a_child_is_counted_once() -> None:
    """The incomer saw 100, of which the oven used 60 and a step meter above its own child 30."""
    meters = [
        incomer("incomer-1"),
        meter(id="oven", parent="incomer-1"),
        meter(id="hall", parent="incomer-1", shares=(Share("wave_soldering", Fraction(1)),)),
        meter(id="wave-1", parent="hall", shares=(Share("wave_soldering", Fraction(1)),)),
    ]
    energy = {"incomer-1": 100, "oven": 60, "hall": 30, "wave-1": 12}
    assert own_loads(energy, meters) == {"incomer-1": 10, "oven": 60, "hall": 18, "wave-1": 12}
    result = split(energy, meters)
    assert result.steps == {"reflow_soldering": 60, "wave_soldering": 30}
    assert result.unassigned == 10


def test_a_parent_on_another_gateway_changes_nothing_here() -> None:
    assert own_loads({"reflow-1": 5}, [meter(parent="gw02/incomer-1")]) == {"reflow-1": 5}


def test_a_child_that_counts_more_than_its_parent_leaves_a_negative_rest() -> None:
    meters = [incomer("incomer-1"), meter(parent="incomer-1")]
    assert own_loads({"incomer-1": 4, "reflow-1": 5}, meters) == {"incomer-1": -1, "reflow-1": 5}


@pytest.mark.parametrize("role", sorted(NOT_A_LOAD))
def test_what_is_generated_or_sent_out_is_no_load(role: Role) -> None:
    meters = [incomer("incomer-1"), meter(id="pv", role=role, shares=(), parent="incomer-1")]
    result = split({"incomer-1": 4, "pv": 9}, meters)
    assert result.unassigned == 4
    assert result.steps == {}


def test_missing_is_never_zero() -> None:
    with pytest.raises(ValueError, match="reflow-1 has no energy"):
        split({}, [meter()])


def test_a_plant_that_would_count_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two meters are called reflow-1"):
        split({"reflow-1": 1}, [meter(), meter()])
    twice = meter(shares=(Share("smt_placement", Fraction(1)), Share("wave_soldering", Fraction(1, 9))))
    with pytest.raises(ValueError, match="shares of reflow-1"):
        split({"reflow-1": 1}, [twice])


@st.composite
def plants(draw: st.DrawFn) -> list[Meter]:
    """A forest of meters: a parent always stands before its children."""
    meters: list[Meter] = []
    for number in range(draw(st.integers(1, 12))):
        loads = [item.id for item in meters if item.role not in NOT_A_LOAD]
        role = draw(st.sampled_from(list(Role)))
        shares: tuple[Share, ...] = ()
        if role is Role.STEP:
            weights = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
            whole = sum(weights) + draw(st.integers(0, 5))
            shares = tuple(
                Share(step, Fraction(weight, whole)) for step, weight in zip(STEPS, weights, strict=False)
            )
        parent = draw(st.one_of(st.none(), st.sampled_from(loads))) if loads else None
        meters.append(meter(id=f"m{number}", role=role, shares=shares, parent=parent))
    return meters


@given(st.data(), plants())
def test_steps_and_unassigned_are_the_own_loads_exactly(data: st.DataObject, meters: list[Meter]) -> None:
    energy = {item.id: data.draw(st.integers(0, 10**15)) for item in meters}
    result = split(energy, meters)
    total = sum(result.steps.values()) + result.unassigned
    assert total == sum(own_loads(energy, meters).values())
    roots = [item for item in meters if item.parent is None and item.role not in NOT_A_LOAD]
    assert total == sum(energy[item.id] for item in roots)
