"""Rule V5 in broker mode: what balances list as closed epochs, against the events and against one another."""

from typing import Any

import pytest

from agent.reporting import event
from agent.reporting.closings import differences
from agent.reporting.event import Event
from tests.reporting.audit import KEY, failed, minutes, texts, verified
from tests.reporting.gateway import Gateway

Entry = dict[str, Any]


def exchanged() -> tuple[Gateway, Entry]:
    """Three minutes, an exchange of m1, one minute more; and the exchange as balances list it."""
    gateway = minutes(Gateway(KEY), 3)
    ended = gateway.exchange("m1", first=0)
    gateway.minute({"m1": 7}, [ended])
    return gateway, {**{name: value for name, value in ended.body.items() if name != "meter"}, "n_last": 3}


def balance(gateway: Gateway, *closed: Entry) -> Event:
    """The balance of m1's newest delta, with what it lists."""
    stands = gateway.registers["m1"]
    return event.balance_event(
        gateway.now_ms, meter="m1", epoch=stands.epoch, n_first=stands.n, n_last=stands.n,
        reg_first=stands.value - 7, reg_last=stands.value, sum_milliwh=7, roll=0, closed=closed,
    )  # fmt: skip


def hour(gateway: Gateway, *closed: Entry) -> None:
    """A minute and its balance; an hour would say no more."""
    gateway.minute({"m1": 7})
    gateway.minute({}, [balance(gateway, *closed)])


def test_a_list_that_says_what_the_event_said() -> None:
    gateway, entry = exchanged()
    hour(gateway, entry)
    report = verified(gateway.jws)
    assert report.ok, texts(report, "conservation")
    assert report.balances_unchecked == 0


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"last": 503_001}, "lists last 503001, its event says 503000"),
        ({"first": 1}, "lists first 1, its event says 0"),
        ({"serial_to": None}, "lists serial_to null, its event says 2206009999"),
        ({"reason": "reset"}, "lists reason reset, its event says exchange"),
        ({"bound": 999}, "lists bound 999, its event says 1000"),
        ({"bound": None}, "lists bound null, its event says 1000"),
        ({"by": "Li Wei"}, "lists by Li Wei, its event says agent"),
        ({"unmetered_to": "2025-10-09T09:00:00.000Z"}, "lists unmetered_to 2025-10-09T09:00:00.000Z"),
        ({"n_last": 4}, "lists n_last 4, its event says 3"),
        ({"epoch_from": 7}, "lists epoch_from 7, its event says 1"),
        ({"epoch_from": 2, "epoch_to": 3}, "lists it as closed, and no event before it says so"),
    ],
)
def test_a_list_that_says_something_else_than_the_event(changes: Entry, finding: str) -> None:
    gateway, entry = exchanged()
    hour(gateway, entry | changes)
    report = verified(gateway.jws)
    assert failed(report) == {"conservation"} and report.conservation.count == 1
    assert f"V5: a balance {finding}" in texts(report, "conservation")


def test_a_last_number_that_the_gateway_did_not_know_is_no_contradiction() -> None:
    gateway, entry = exchanged()
    hour(gateway, entry | {"n_last": 0})
    assert verified(gateway.jws).ok


def test_an_epoch_that_is_not_listed_is_no_contradiction() -> None:
    """A gateway whose journal was lost lists less than its chain tells."""
    gateway, _ = exchanged()
    hour(gateway)
    assert verified(gateway.jws).ok


def test_one_lie_that_is_repeated_for_a_month_is_one_finding() -> None:
    gateway, entry = exchanged()
    for _ in range(5):
        hour(gateway, entry | {"last": 1})
    assert verified(gateway.jws).conservation.count == 1
    hour(gateway, entry | {"last": 2})
    assert verified(gateway.jws).conservation.count == 2


def test_what_ended_before_the_file_begins_cannot_be_compared_with_its_event() -> None:
    gateway, entry = exchanged()
    hour(gateway, entry | {"last": 1})
    report = verified(gateway.jws[4:], excerpt=True, descriptors=[gateway.descriptor])
    assert report.conservation.ok, texts(report, "conservation")


def test_but_balances_have_to_agree_with_one_another() -> None:
    gateway, entry = exchanged()
    hour(gateway, entry)
    hour(gateway, entry | {"last": 1})
    report = verified(gateway.jws[4:], excerpt=True, descriptors=[gateway.descriptor])
    assert failed(report) == {"conservation"}
    assert "V5: a balance lists last 1, an earlier one says 503000" in texts(report, "conservation")


def test_an_epoch_that_opened_within_an_excerpt_has_its_event_there() -> None:
    gateway, entry = exchanged()
    hour(gateway, entry, entry | {"epoch_from": 2, "epoch_to": 3})
    report = verified(gateway.jws[1:], excerpt=True, descriptors=[gateway.descriptor])
    assert failed(report) == {"conservation"} and report.conservation.count == 1
    assert "epoch 2 to 3: V5: a balance lists it as closed" in texts(report, "conservation")


def test_what_a_later_version_adds_is_not_compared() -> None:
    _, entry = exchanged()
    assert differences(entry | {"weather": "dry"}, entry) == []
