"""The sections of the bench, by name, in the order in which they are run."""

from collections.abc import Callable
from functools import partial
from itertools import product

from tests.bench import report, rtu
from tests.bench.installation import ENERGY_ONLY, LIVE, Setting
from tests.bench.virtual import dead_meters, guard, planner
from tests.support.programs import Unavailable

COMPARED = (
    Setting(9600, "none", 26, 10, ENERGY_ONLY),
    Setting(19_200, "none", 26, 10, ENERGY_ONLY),
    Setting(115_200, "none", 26, 10, ENERGY_ONLY),
)
QUICK = (Setting(9600, "none", 26, 10, ENERGY_ONLY), Setting(115_200, "none", 26, 5, LIVE))


def run_rtu(*, quick: bool) -> None:
    """Every row of the issue, and what other masters reach."""
    for setting in QUICK if quick else rtu.settings():
        times, tries, seconds = (1, 3, 3.0) if quick else (3, 7, _seconds(setting))
        run = rtu.repeated(partial(rtu.with_agent, setting, seconds), times, tries)
        if run is None:
            report.judge(str(setting), "void", "the simulated line was late; the machine is busy", False)
            continue
        required = rtu.REQUIRED_PERMILLE[setting.baud]
        good = run.permille >= required and run.begun_too_early == 0 and run.collisions == 0
        report.judge(
            str(setting),
            f"{run.permille / 10:.1f} % of the limit, begun too early {run.begun_too_early}, "
            f"collisions {run.collisions}; line late by {run.late_us:.0f} us",
            f"at least {required / 10:.0f} %",
            good,
        )
    for setting in COMPARED[:1] if quick else COMPARED:
        _compare(setting, 3.0 if quick else 6.0, 1 if quick else 3)


def _compare(setting: Setting, seconds: float, times: int) -> None:
    others: tuple[tuple[str, Callable[[], rtu.Run]], ...] = (
        ("libmodbus", partial(rtu.with_libmodbus, setting, seconds, exact_gap=False)),
        ("libmodbus, exact gap", partial(rtu.with_libmodbus, setting, seconds, exact_gap=True)),
        ("pymodbus", partial(rtu.with_pymodbus, setting, seconds)),
    )
    for name, one in others:
        try:
            run = rtu.repeated(one, times, 2 * times + 1)
        except Unavailable as problem:
            report.say(f"{name}: not compared, {problem}")
            continue
        if run is not None:
            report.say(f"{setting}, {name}: {run.permille / 10:.1f} %, too early {run.begun_too_early}")


def _seconds(setting: Setting) -> float:
    """Long enough for five cycles."""
    blocks = setting.blocks()
    cycle_ns = setting.meters * sum(setting.cost.transaction_ns(block.count) for block in blocks)
    return max(3.0, 5 * cycle_ns / 1e9)


def run_dead(*, quick: bool) -> None:
    """Dead meters among 32, in virtual time, byte for byte."""
    for dead, profile in product((1, 5, 20), (ENERGY_ONLY,) if quick else (ENERGY_ONLY, LIVE)):
        longer, back_s = dead_meters(dead, profile)
        report.judge(
            f"{dead} of 32 dead ({profile})",
            f"live meters' cycle {longer * 100:+.2f} %, all back within {back_s:.1f} s",
            "at most +5.3 %, 60 s",
            longer <= 0.053 and back_s <= 60,
        )


def run_guard(*, quick: bool) -> None:
    """Faulty transactions in virtual time, with and without the memory for late answers."""
    count = 20_000 if quick else 1_000_000
    wrong, right = guard(count, guarded=True)
    report.judge(
        f"{count} faulty transactions", f"{wrong} wrong values, {right} right", "0 wrong", wrong == 0
    )
    wrong, right = guard(count // 10, guarded=False)
    report.judge(
        f"{count // 10} of them without the guard",
        f"{wrong} wrong values, {right} right",
        "many wrong",
        wrong > count // 10_000,
    )


def run_planner(*, quick: bool) -> None:
    """Random maps against exhaustive search."""
    maps = 10 if quick else 60
    worst = planner(maps)
    report.judge(
        f"planner on {maps} maps of 12 registers x 5 speeds",
        f"worst plan {(worst - 1) * 100:.2f} % above the optimum",
        "at most 2 %",
        worst <= 1.02,
    )


SECTIONS: dict[str, Callable[..., None]] = {
    "rtu": run_rtu,
    "dead": run_dead,
    "guard": run_guard,
    "planner": run_planner,
}
