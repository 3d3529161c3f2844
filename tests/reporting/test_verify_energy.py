"""Rules V1 to V6: registers, balances, epochs, and what is only worth a look."""

from dataclasses import replace
from typing import Any

import pytest

from agent.reporting import event
from agent.reporting.event import Event
from tests.reporting.audit import KEY, failed, minutes, texts, verified
from tests.reporting.gateway import (
    MINUTE_MS,
    START_MS,
    Gateway,
    Register,
    meter_description,
)

# ---------------------------------------------------------------------------- conservation


def with_balance(gateway: Gateway, **changes: int) -> list[bytes]:
    """Three minutes, then a balance of the last two."""
    minutes(gateway, 3)
    members: dict[str, Any] = {
        "epoch": 1,
        "n_first": 2,
        "n_last": 3,
        "reg_first": 501_000,
        "reg_last": 503_000,
        "sum_milliwh": 2_000,
        "roll": 0,
    }
    gateway.minute({"m1": 5}, [event.balance_event(gateway.now_ms, meter="m1", **{**members, **changes})])
    return gateway.jws


def test_a_true_balance_agrees() -> None:
    report = verified(with_balance(Gateway(KEY)))
    assert report.ok, texts(report, "conservation")
    assert report.balances_unchecked == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"sum_milliwh": 2_001},
        {"reg_last": 503_001, "sum_milliwh": 2_001},
        {"reg_first": 500_999, "sum_milliwh": 2_001},
        {"roll": 7, "sum_milliwh": 2_007},
        {"n_first": 1},
        {"n_last": 2},
        {"n_last": 9},
        {"epoch": 2},
    ],
)
def test_a_balance_that_disagrees_with_the_deltas(changes: dict[str, int]) -> None:
    report = verified(with_balance(Gateway(KEY), **changes))
    assert failed(report) == {"conservation"}
    assert "V5" in texts(report, "conservation")


def test_a_balance_of_a_closed_epoch_and_one_after_another() -> None:
    gateway = Gateway(KEY)
    with_balance(gateway)
    closed = gateway.exchange("m1", first=0)
    gateway.minute({"m1": 7}, [closed])
    whole = event.balance_event(
        gateway.now_ms, meter="m1", epoch=1, n_first=1, n_last=4, reg_first=500_000, reg_last=503_005,
        sum_milliwh=3_005, roll=0,
    )  # fmt: skip
    since_last = event.balance_event(
        gateway.now_ms, meter="m1", epoch=1, n_first=4, n_last=4, reg_first=503_000, reg_last=503_005,
        sum_milliwh=5, roll=0,
    )  # fmt: skip
    gateway.minute({}, [whole, since_last])
    report = verified(gateway.jws)
    assert report.ok, texts(report, "conservation")
    assert report.balances_unchecked == 0


def test_a_daily_balance_is_checked_however_many_deltas_the_day_has() -> None:
    gateway = Gateway(KEY)
    n_first, register = 1, 500_000
    for _ in range(2):
        minutes(gateway, 150)
        stands = gateway.registers["m1"]
        gateway.minute(
            {},
            [
                event.balance_event(
                    gateway.now_ms, meter="m1", epoch=1, n_first=n_first, n_last=stands.n, reg_first=register,
                    reg_last=stands.value, sum_milliwh=150_000, roll=0,
                )
            ],
        )  # fmt: skip
        n_first, register = stands.n + 1, stands.value
    report = verified(gateway.jws)
    assert report.ok, texts(report, "conservation")
    assert (report.events["balance"], report.balances_unchecked) == (2, 0)


def test_the_sums_say_how_much_is_missing() -> None:
    gateway = minutes(Gateway(KEY), 5)
    report = verified(gateway.jws[:2] + gateway.jws[3:])
    assert "V3: the deltas are 0.001000 kWh less than the registers" in texts(report, "conservation")


def epoch_event_of(gateway: Gateway, **changes: object) -> Event:
    """The exchange of m1, with changes."""
    happened = gateway.exchange("m1", first=0)
    return replace(happened, body={**happened.body, **changes})


@pytest.mark.parametrize("changes", [{"last": 503_999}, {"epoch_to": 3}, {"epoch_from": 2, "epoch_to": 3}])
def test_an_epoch_event_that_does_not_close_what_was_open(changes: dict[str, object]) -> None:
    gateway = minutes(Gateway(KEY), 3)
    gateway.minute({"m2": 1}, [epoch_event_of(gateway, **changes)])
    gateway.registers["m1"].epoch = int(str(changes.get("epoch_to", 2)))
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"conservation"}
    assert "V4" in texts(report, "conservation")


def test_a_new_epoch_begins_at_the_register_of_its_event() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({}, [gateway.exchange("m1", first=100)])
    gateway.registers["m1"].value = 150
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"conservation"}
    assert "V2: starts at 150, not at 100 (0.000050 kWh)" in texts(report, "conservation")


def test_a_meter_that_does_not_begin_at_its_beginning() -> None:
    gateway = Gateway(KEY)
    gateway.registers["m1"] = Register(n=7)
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"conservation"}
    assert "first delta must be epoch 1, n 1" in texts(report, "conservation")


# ---------------------------------------------------------------------------- quality


def test_quality_is_reported_and_decides_nothing() -> None:
    gateway = Gateway(KEY)
    gateway.minute({"m1": 1})
    gateway.now_ms += MINUTE_MS
    flagged = gateway.delta("m1", 5, "gap", "suspect", "late", "novel")
    gap = event.gap_event(gateway.now_ms, meter="m1", from_ms=START_MS, to_ms=gateway.now_ms, reason="silent")
    gateway.seal(gateway.batch([flagged], [gap, Event("eclipse", START_MS, {})]))
    report = verified(gateway.jws)
    assert report.ok
    assert not report.quality.ok
    assert (report.gaps, report.suspects) == (1, 1)
    assert report.flags == {"gap": 1, "late": 1, "novel": 1, "suspect": 1}
    for words in ("gap: spans", "suspect: a refused", "unknown flag 'novel'", "event gap", "event eclipse"):
        assert words in texts(report, "quality")


def test_more_than_the_rated_power_is_a_remark() -> None:
    rated = meter_description("m1", rated_w=6, resolution=1)
    gateway = Gateway(KEY, (rated,))
    gateway.minute({"m1": 101})
    assert verified(gateway.jws).quality.ok, "6 W for a minute are 100 milli-Wh, and one step is allowed"
    gateway.minute({"m1": 102})
    report = verified(gateway.jws)
    assert report.ok
    assert "V6: more than 6 W" in texts(report, "quality")


def test_children_that_have_more_than_their_parent_are_a_remark() -> None:
    plant = (meter_description("in", role="incomer", steps=()), meter_description("m1", parent="in"))
    for child, remark in ((103, False), (104, True)):
        gateway = Gateway(KEY, plant)
        gateway.minute({"in": 100, "m1": child})
        report = verified(gateway.jws)
        assert report.ok
        assert ("V6" in texts(report, "quality")) is remark


def test_an_end_before_its_start_is_legal_with_its_flag_and_a_remark_without() -> None:
    for q, words in (("clock", "doubtful"), ("late", "ends before it starts")):
        gateway = minutes(Gateway(KEY, (meter_description("m1"),)), 1)
        gateway.now_ms -= 10 * MINUTE_MS
        gateway.seal(gateway.batch([gateway.delta("m1", 5, q)]))
        report = verified(gateway.jws)
        assert report.ok
        assert words in texts(report, "quality")


def test_a_relabelled_start_is_a_remark_when_it_says_so() -> None:
    gateway = minutes(Gateway(KEY, (meter_description("m1"),)), 1)
    gateway.registers["m1"].end_ms += 3
    gateway.now_ms += MINUTE_MS
    gateway.seal(gateway.batch([gateway.delta("m1", 5, "clock")]))
    report = verified(gateway.jws)
    assert report.ok
    assert "does not start when" in texts(report, "quality")
