"""What a line learns about time: the time-out follows the meter, and silence is paid from one budget."""

from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.pace import (
    CREDIT_MAX_NS,
    DEBT_MAX_NS,
    PAUSE_MAX_S,
    SHARE_PERMILLE,
    THOROUGH_EVERY,
    Pace,
    ProbeBudget,
    probe_pause_s,
)

MS, SECOND_NS = 1_000_000, 1_000_000_000


def pace() -> Pace:
    return Pace(60 * MS, 500 * MS)


def test_a_meter_that_nobody_knows_is_waited_for_as_long_as_may_be() -> None:
    assert pace().timeout_ns == 500 * MS


def test_the_time_out_is_three_times_the_slowest_recent_answer() -> None:
    known = pace()
    for _ in range(20):
        known.answered(10 * MS)
    assert known.timeout_ns == 60 * MS
    known.answered(50 * MS)
    assert known.timeout_ns == 150 * MS
    for _ in range(200):
        known.answered(10 * MS)
    assert known.timeout_ns == 60 * MS
    assert known.turnaround_ns == 10 * MS


def test_every_miss_doubles_the_time_out_up_to_the_ceiling_and_answers_bring_it_down_slowly() -> None:
    known = pace()
    known.answered(10 * MS)
    waits = []
    for _ in range(5):
        known.missed()
        waits.append(known.timeout_ns // MS)
    assert waits == [120, 240, 480, 500, 500]
    known.answered(10 * MS)
    assert known.timeout_ns == 500 * MS
    for _ in range(600):
        known.answered(10 * MS)
    assert known.timeout_ns == 60 * MS


def test_a_probe_is_short_but_now_and_then_thorough() -> None:
    known = pace()
    known.answered(10 * MS)
    for _ in range(5):
        known.missed()
    waits = [known.probe_timeout_ns(probes, None) for probes in range(THOROUGH_EVERY)]
    assert waits == [60 * MS] * (THOROUGH_EVERY - 1) + [500 * MS]
    assert pace().probe_timeout_ns(0, 80 * MS) == 80 * MS
    assert pace().probe_timeout_ns(0, None) == 500 * MS


@given(st.integers(0, 1000), st.integers(0, 2**32))
def test_pauses_grow_to_their_limit_and_are_spread(probes: int, salt: int) -> None:
    pause_s = probe_pause_s(probes, salt)
    assert 1 <= pause_s <= PAUSE_MAX_S
    assert probes < 5 or pause_s >= 3 * PAUSE_MAX_S // 4


@given(
    st.lists(st.tuples(st.integers(1, 10 * SECOND_NS), st.integers(1, 600 * MS)), min_size=1, max_size=100)
)
def test_who_spends_only_what_there_is_never_spends_more_than_the_share(turns: list[tuple[int, int]]) -> None:
    now_ns = spent_ns = 0
    budget = ProbeBudget(now_ns)
    for waited_ns, cost_ns in turns:
        now_ns += waited_ns
        if budget.credit_ns(now_ns) >= cost_ns:
            now_ns += cost_ns
            budget.spend(now_ns, cost_ns)
            spent_ns += cost_ns
    assert spent_ns <= CREDIT_MAX_NS + now_ns * SHARE_PERMILLE // 1000


@given(st.integers(0, 10 * SECOND_NS), st.integers(1, CREDIT_MAX_NS))
def test_the_time_at_which_something_can_be_paid_is_the_first_one(spent_ns: int, cost_ns: int) -> None:
    budget = ProbeBudget(0)
    budget.spend(0, spent_ns)
    ready_ns = budget.ready_ns(0, cost_ns)
    assert budget.credit_ns(ready_ns) >= cost_ns - 1
    assert ready_ns <= (CREDIT_MAX_NS + DEBT_MAX_NS) * 1000 // SHARE_PERMILLE + 1000
