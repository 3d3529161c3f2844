"""A balance keeps its sign, never takes missing for zero, and lets meters err as far as their classes."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.plant import Role
from agent.metering.residual import Counted, Residual, Verdict, percent_of_class, residuals

KWH = 1_000_000
DAY_MS = 86_400_000


def counted(
    name: str, kwh: int, role: Role = Role.STEP, parent: str | None = "incomer", **more: object
) -> Counted:
    plain: dict[str, object] = {
        "from_ms": 0,
        "to_ms": DAY_MS,
        "step_milliwh": 0,
        "accuracy_class": "1",
        "ct_class": None,
    }
    return Counted(name, role, parent, kwh * KWH, **{**plain, **more})  # type: ignore[arg-type]


def balance(*meters: Counted, expected: tuple[str, ...] | None = None) -> Residual:
    known = {each.meter: each for each in meters}
    behind = expected or tuple(each.meter for each in meters if each.parent == "incomer")
    return residuals(known, {"incomer": behind})[0]


INCOMER = counted("incomer", 1000, Role.INCOMER, None)


@pytest.mark.parametrize(
    ("loads", "residual", "verdict"),
    [
        ((600, 400), 0, Verdict.AGREES),
        ((600, 381), 19, Verdict.AGREES),
        ((600, 100), 300, Verdict.UNMETERED),
        ((600, 420), -20, Verdict.AGREES),
        ((600, 500), -100, Verdict.IMPOSSIBLE),
    ],
)
def test_what_is_left_keeps_its_sign_and_is_judged_by_the_classes(
    loads: tuple[int, int], residual: int, verdict: Verdict
) -> None:
    found = balance(INCOMER, counted("a", loads[0]), counted("b", loads[1]))
    assert (found.residual_milliwh, found.verdict) == (residual * KWH, verdict)
    assert found.tolerance_milliwh == (1000 + sum(loads)) * KWH // 100


def test_generation_comes_in_and_export_goes_out() -> None:
    pv, out = counted("pv", 300, Role.GENERATION), counted("out", 50, Role.EXPORT)
    assert balance(INCOMER, pv, out, counted("a", 1250)).residual_milliwh == 0


def test_a_meter_without_energy_is_missing_and_not_zero() -> None:
    found = balance(INCOMER, counted("a", 600), expected=("a", "b"))
    assert found.verdict is Verdict.INCOMPLETE and found.lacking == ("b",)
    assert balance(counted("a", 1), expected=("a",)).lacking == ("incomer",)


def test_an_unknown_class_is_assumed_and_named() -> None:
    found = balance(INCOMER, counted("a", 1000, accuracy_class=None))
    assert found.assumed == ("a",) and found.tolerance_milliwh == 30 * KWH


def test_transformers_steps_and_different_times_widen_what_is_allowed() -> None:
    plain = balance(INCOMER, counted("a", 1000)).tolerance_milliwh
    assert balance(INCOMER, counted("a", 1000, ct_class="0.5")).tolerance_milliwh == plain + 5 * KWH
    assert balance(INCOMER, counted("a", 1000, step_milliwh=7)).tolerance_milliwh == plain + 14
    late = counted("a", 1000, from_ms=DAY_MS // 10)
    assert balance(INCOMER, late).tolerance_milliwh > plain + 100 * KWH


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ("1", 1),
        ("0.5S", Fraction(1, 2)),
        ("0.2s", Fraction(1, 5)),
        ("B", 1),
        ("C", Fraction(1, 2)),
        ("x", None),
        (None, None),
    ],
)
def test_classes_are_percent(text: str | None, percent: Fraction | None) -> None:
    assert percent_of_class(text) == percent


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_residual_and_what_is_behind_add_up_to_what_came_in(into: int, loads: list[int]) -> None:
    meters = [counted(f"m{n}", kwh) for n, kwh in enumerate(loads)]
    found = balance(counted("incomer", into, Role.INCOMER, None), *meters)
    assert found.residual_milliwh + sum(loads) * KWH == into * KWH == found.inflow_milliwh
