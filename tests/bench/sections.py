"""The sections of the bench, by name, in the order in which they are run."""

from collections.abc import Callable
from functools import partial
from itertools import product
from statistics import median

from agent.service.watch import LIVE_REGISTERS
from tests.bench import report, rtu, tcp
from tests.bench.adapter import pulled
from tests.bench.delivery import run_delivery
from tests.bench.flash import run_flash
from tests.bench.installation import ENERGY_ONLY, LIVE, Setting
from tests.bench.retell import run_retell
from tests.bench.virtual import dead_meters, doctored, guard, planner, polling_memory, two_lines
from tests.support.programs import Unavailable

COMPARED = (
    Setting(9600, "none", 26, 10, ENERGY_ONLY),
    Setting(19_200, "none", 26, 10, ENERGY_ONLY),
    Setting(115_200, "none", 26, 10, ENERGY_ONLY),
)
QUICK = (Setting(9600, "none", 26, 10, ENERGY_ONLY), Setting(115_200, "none", 26, 5, LIVE))


def run_rtu(*, quick: bool, runs: int, patience_s: float) -> None:
    """Every row of the issue, and what other masters reach."""
    for setting in QUICK if quick else rtu.settings():
        seconds = 3.0 if quick else _seconds(setting)
        run = rtu.repeated(partial(rtu.with_agent, setting, seconds), runs, runs + 2, patience_s)
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
        _compare(setting, 3.0 if quick else 6.0, runs, patience_s)


def _compare(setting: Setting, seconds: float, times: int, patience_s: float) -> None:
    others: tuple[tuple[str, Callable[[], rtu.Run]], ...] = (
        ("libmodbus", partial(rtu.with_libmodbus, setting, seconds, exact_gap=False)),
        ("libmodbus, exact gap", partial(rtu.with_libmodbus, setting, seconds, exact_gap=True)),
        ("pymodbus", partial(rtu.with_pymodbus, setting, seconds)),
    )
    for name, one in others:
        try:
            run = rtu.repeated(one, times, times + 2, patience_s)
        except Unavailable as problem:
            report.say(f"{name}: not compared, {problem}")
            continue
        if run is None:
            report.say(f"{setting}, {name}: void, the machine is busy")
        else:
            report.say(f"{setting}, {name}: {run.permille / 10:.1f} %, too early {run.begun_too_early}")


def _seconds(setting: Setting) -> float:
    """Three cycles, and no less than 3 s: a hundred reads or more, of which three runs give the median."""
    blocks = setting.blocks()
    cycle_ns = setting.meters * sum(setting.cost.transaction_ns(block.count) for block in blocks)
    return max(3.0, 3 * cycle_ns / 1e9)


def run_dead(*, quick: bool, runs: int, patience_s: float) -> None:
    """Dead meters among 32, in virtual time, byte for byte."""
    for dead, profile in product((1, 5, 20), (ENERGY_ONLY,) if quick else (ENERGY_ONLY, LIVE)):
        longer, back_s = dead_meters(dead, profile)
        report.judge(
            f"{dead} of 32 dead ({profile})",
            f"live meters' cycle {longer * 100:+.2f} %, all back within {back_s:.1f} s",
            "at most +5.3 %, 60 s",
            longer <= 0.053 and back_s <= 60,
        )
    longer = two_lines(dead_unit=5)
    report.judge(
        "unit 5 dead on line A: the cycle of line B, which has a unit 5 too",
        f"{longer * 100:+.2f} %",
        "unaffected",
        abs(longer) < 0.001,
    )


def run_guard(*, quick: bool, runs: int, patience_s: float) -> None:
    """Faulty transactions in virtual time, with and without the memory for late answers."""
    count = 20_000 if quick else 1_000_000
    wrong, right = guard(count, guarded=True)
    report.judge(
        f"{count} faulty transactions", f"{wrong} wrong values, {right} right", "0 wrong", wrong == 0
    )
    wrong, right = guard(count, guarded=False)
    report.judge(
        "the same without the guard",
        f"{wrong} wrong values, {right} right",
        "many wrong",
        wrong > count // 1000,
    )


def run_planner(*, quick: bool, runs: int, patience_s: float) -> None:
    """Random maps against exhaustive search."""
    maps = 10 if quick else 60
    worst = planner(maps)
    report.judge(
        f"planner on {maps} maps of 12 registers x 5 speeds",
        f"worst plan {(worst - 1) * 100:.2f} % above the optimum",
        "at most 2 %",
        worst <= 1.02,
    )


def run_adapter(*, quick: bool, runs: int, patience_s: float) -> None:
    """Pulled and back under another name."""
    found = pulled(30 if quick else 1000)
    report.judge(
        f"adapter pulled and renamed {found.rounds} times",
        f"read again after {found.longest_s:.2f} s at most, descriptors {found.descriptors_before} before and "
        f"{found.descriptors_after} after",
        "5 s, none left open",
        found.longest_s <= 5 and found.descriptors_after <= found.descriptors_before,
    )


def run_doctor(*, quick: bool, runs: int, patience_s: float) -> None:
    """Seeded sick and healthy lines."""
    each = 4 if quick else 50
    by_cause, healthy_wrong = doctored(each)
    named = sum(by_cause.values())
    detail = ", ".join(f"{cause} {count}" for cause, count in by_cause.items())
    report.judge(
        f"doctor: {each} lines of each of six causes",
        f"{named} of {6 * each} named ({detail})",
        "at least 95 %",
        100 * named >= 95 * 6 * each,
    )
    report.judge(
        f"doctor: {6 * each} healthy lines", f"{healthy_wrong} with a diagnosis", "none", healthy_wrong == 0
    )


def run_memory(*, quick: bool, runs: int, patience_s: float) -> None:
    """An hour of polling in virtual time."""
    seconds = 120 if quick else 3600
    growth, skipped = polling_memory(seconds)
    report.judge(
        f"{seconds} s of polling 26 meters faster than their line can",
        f"memory grew by {growth} blocks; {skipped} late rounds were skipped and counted, none was queued",
        "at most 1,000 blocks, rounds are skipped",
        growth <= 1000 and skipped > seconds // 10,
    )


def run_tcp(*, quick: bool, runs: int, patience_s: float) -> None:
    """The whole agent over TCP beside bare pymodbus."""
    times, seconds = runs, 6.0 if quick else 15.0
    ratios, sealed, switches = [], [], []
    for _ in range(times):
        ours = tcp.agent(26, LIVE, poll="1s", interval="60s", seconds=seconds)
        bare = tcp.pymodbus(26, LIVE, period_s=1, seconds=seconds)
        fast = tcp.agent(26, LIVE, poll="1s", interval="1s", seconds=seconds)
        ratios.append((ours.cpu_ms_per_1000 / bare.cpu_ms_per_1000, ours, bare))
        sealed.append(fast.cpu_ms_per_1000 / bare.cpu_ms_per_1000)
        switches.append(max(each.switches / each.reads for each in (ours, fast)))
    ratio, ours, bare = sorted(ratios, key=lambda each: each[0])[times // 2]
    report.judge(
        "26 meters at 1 s, sealed every minute: CPU per 1,000 reads against bare pymodbus",
        f"{ratio:.2f} times ({ours.cpu_ms_per_1000:.0f} and {bare.cpu_ms_per_1000:.0f} ms)",
        "at most 1.5 times",
        ratio <= 1.5,
    )
    report.say(f"the same with an interval of 1 s, a signed batch each second: {median(sealed):.2f} times")
    report.judge("context switches", f"{median(switches):.2f} a read", "at most 2", median(switches) <= 2)
    many = tcp.agent(200, LIVE, poll="1s", interval="60s", seconds=seconds)
    share = 100 * many.cpu_s / many.seconds
    report.judge(
        "200 meters on distinct hosts at 1 s",
        f"{share:.1f} % of a core, {many.threads} threads, {many.resident_kb // 1024} MB",
        "at most 15 %, 16 threads",
        share <= 15 and many.threads <= 16,
    )
    flat = tcp.agent(200, LIVE, poll="100ms", interval="1s", seconds=seconds)
    readings = flat.reads * len(LIVE_REGISTERS) / flat.seconds
    report.judge(
        "flat out, 200 meters, sealed each second",
        f"{readings:.0f} readings/s in {flat.reads / flat.seconds:.0f} reads/s at "
        f"{100 * flat.cpu_s / flat.seconds:.0f} % of a core",
        "at least 5,000 readings/s",
        readings >= 5000,
    )


SECTIONS: dict[str, Callable[..., None]] = {
    "rtu": run_rtu,
    "dead": run_dead,
    "guard": run_guard,
    "planner": run_planner,
    "doctor": run_doctor,
    "memory": run_memory,
    "adapter": run_adapter,
    "tcp": run_tcp,
    "delivery": run_delivery,
    "flash": run_flash,
    "retell": run_retell,
}
