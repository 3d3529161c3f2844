"""A platform that cannot ask: lost batches are bridged by registers, epochs learnt from balances, chains joined."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from agent.reporting import topics
from agent.reporting.enrolment import Enrolment
from agent.reporting.envelope import ENROLMENT, seal
from agent.reporting.event import Event, balance_event
from agent.reporting.utc import text_of_ms
from simulators.platform import queries
from simulators.platform.dossier import stored_descriptor
from simulators.platform.ingest import JOIN_MS
from tests.simulators.bench import Bench
from tests.simulators.chains import MODULUS, START_MS, Counter, Gateway, described, signer


@pytest.fixture
def gateway() -> Gateway:
    """Two meters, in broker mode."""
    return Gateway(mode="broker")


@pytest.fixture
def bench(gateway: Gateway) -> Bench:
    made = Bench((gateway,))
    made.send(gateway.status())
    return made


def wait(bench: Bench) -> None:
    """Until what waits has waited long enough."""
    bench.wait(JOIN_MS + 60_000)


def balance(gateway: Gateway, meter: str, since: int, closed: list[dict[str, object]] | None = None) -> Event:
    """What the agent sums up of the present epoch; `since` is the register at its beginning."""
    now = gateway.counters[meter]
    return balance_event(
        gateway.now_ms,
        meter=meter,
        epoch=now.epoch,
        n_first=1,
        n_last=now.n,
        reg_first=since,
        reg_last=now.register,
        sum_milliwh=now.register - since,
        roll=0,
        closed=closed,
    )


def entry(event: Event, n_last: int) -> dict[str, object]:
    """An epoch change as a balance lists it."""
    return {**{name: value for name, value in event.body.items() if name != "meter"}, "n_last": n_last}


# ------------------------------------------------------------------------------------------------------ holes


@pytest.mark.fault("F63", "F65")
def test_batches_that_a_broker_lost_are_bridged_after_a_wait(bench: Bench, gateway: Gateway) -> None:
    sent = gateway.intervals(9)
    bench.send(*sent[:3], *sent[6:])
    bench.wait(JOIN_MS - 60_000)
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}, "what was lost may still come"
    wait(bench)
    assert bench.energy(gateway) == {"m1": 9_000, "m2": 9_000}
    assert bench.booked("m1")[3] == ("bridge", 1, 4, 6, 3_000)
    assert bench.alarms() == {"hole": 1}
    assert [gap.text for gap in queries.gaps(bench.store) if gap.kind == "lost"] == [
        "3 of 4..6 never came; what they told is bridged by registers"
    ]
    bench.send(*gateway.intervals(2))
    assert bench.energy(gateway) == {"m1": 11_000, "m2": 11_000}


def test_where_the_platform_can_ask_nothing_is_passed_over() -> None:
    gateway = Gateway()
    bench = Bench((gateway,))
    bench.send(gateway.status())
    sent = gateway.intervals(5)
    bench.send(*sent[:2], *sent[3:])
    wait(bench)
    assert bench.energy(gateway) == {"m1": 2_000, "m2": 2_000}
    assert bench.ask(gateway).need == ((3, 3),)


def test_what_comes_late_replaces_its_part_of_the_bridge(bench: Bench, gateway: Gateway) -> None:
    sent = gateway.intervals(9)
    bench.send(*sent[:3], *sent[6:])
    wait(bench)
    bench.send(sent[4])
    rows = [("delta", 1, n, n, 1_000) for n in (1, 2, 3, 5, 7, 8, 9)] + [
        ("bridge", 1, n, n, 1_000) for n in (4, 6)
    ]
    assert bench.booked("m1") == sorted(rows, key=lambda row: row[2])
    bench.send(sent[4], sent[5], sent[3], sent[5])
    assert {row[0] for row in bench.booked("m1")} == {"delta"}
    assert bench.energy(gateway) == {"m1": 9_000, "m2": 9_000}
    assert [gap for gap in queries.gaps(bench.store) if gap.kind in ("lost", "bridge")] == []


def test_a_register_that_went_round_in_a_hole_is_one_rollover(bench: Bench, gateway: Gateway) -> None:
    gateway.counters["m1"].register = MODULUS - 1_500
    sent = gateway.intervals(6)
    bench.send(*sent[:1], *sent[3:])
    wait(bench)
    assert bench.energy(gateway) == {"m1": 6_000, "m2": 6_000}
    assert bench.booked("m1")[1] == ("bridge", 1, 2, 3, 2_000)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_the_wait_survives_a_restart_of_the_platform(
    gateway: Gateway, tmp_path: Any, is_restarted: bool
) -> None:
    bench = Bench((gateway,), path=tmp_path / "platform.db")
    bench.send(gateway.status())
    sent = gateway.intervals(4)
    bench.send(sent[0], *sent[2:])
    if is_restarted:
        bench.crash()
    wait(bench)
    if is_restarted:
        bench.crash()
    bench.send(gateway.interval())
    assert bench.energy(gateway) == {"m1": 5_000, "m2": 5_000}
    bench.store.close()


# ----------------------------------------------------------------------------------------------------- epochs


def test_an_epoch_that_ended_in_a_hole_is_learnt_from_the_balance(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    gateway.interval()
    ended = gateway.exchange("m1", 70_000)
    gateway.interval(events=[ended])
    gateway.interval()
    later = [gateway.interval()]
    bench.send(*later)
    wait(bench)
    assert bench.energy(gateway)["m1"] == 3_000 + 1_000, "nobody knows yet how the old epoch ended"
    bench.send(gateway.interval(events=[balance(gateway, "m1", 70_000, [entry(ended, 4)])]))
    assert bench.energy(gateway) == {"m1": 4_000 + 4_000, "m2": 8_000}
    assert ("bridge", 1, 4, 4, 1_000) in bench.booked("m1")
    assert ("bridge", 2, 1, 2, 2_000) in bench.booked("m1")
    (hole,) = [gap.text for gap in queries.gaps(bench.store) if gap.kind == "hole"]
    assert hole.startswith("exchange") and hole.endswith("at most 1000")
    bench.send(gateway.interval(events=[balance(gateway, "m1", 70_000, [entry(ended, 4)])]))
    assert bench.energy(gateway)["m1"] == 9_000, "the same list again changes nothing"
    assert bench.alarms() == {"hole": 1}


def test_two_epochs_within_one_hole(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    first = gateway.exchange("m1", 70_000)
    gateway.interval(events=[first])
    second = gateway.exchange("m1", 10)
    gateway.interval(events=[second])
    bench.send(gateway.interval())
    wait(bench)
    listed = [entry(second, 1), entry(first, 2)]
    bench.send(gateway.interval(events=[balance(gateway, "m1", 10, listed)]))
    assert bench.energy(gateway) == {"m1": 2_000 + 1_000 + 3_000, "m2": 6_000}
    assert bench.booked("m1")[2:4] == [("bridge", 2, 1, 1, 1_000), ("bridge", 3, 1, 1, 1_000)]


def test_a_balance_that_is_the_first_word_behind_the_hole(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    gateway.interval()
    ended = gateway.exchange("m1", 70_000)
    gateway.interval(events=[ended])
    closed = [entry(ended, 3)]
    bench.send(gateway.say([], [balance(gateway, "m1", 70_000, closed)]), gateway.interval())
    wait(bench)
    assert bench.energy(gateway) == {"m1": 3_000 + 2_000, "m2": 5_000}


def test_a_late_batch_with_an_epoch_says_it_too(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    lost = [gateway.interval()]
    ended = gateway.exchange("m1", 70_000)
    lost.append(gateway.interval(events=[ended]))
    bench.send(gateway.interval())
    wait(bench)
    bench.send(*lost)
    assert bench.energy(gateway) == {"m1": 4_000 + 2_000, "m2": 6_000}
    assert {row[0] for row in bench.booked("m2")} == {"delta"}


def maps_of(bench: Bench, meter: str) -> list[tuple[int, str, int]]:
    """Epoch, kind and revision of the map of each booked row."""
    rows = bench.store.rows(
        "SELECT b.epoch, b.kind, d.jws FROM booked b JOIN descriptors d USING (descriptor_id) WHERE b.meter = ?"
        " ORDER BY b.epoch, b.position, b.n_first",
        (meter,),
    )
    return [(epoch, kind, stored_descriptor(jws).rev) for epoch, kind, jws in rows]


def rescaled(gateway: Gateway) -> tuple[list[Event], Event]:
    """The transformers of m1 are entered anew: the events that carry the new map, and the one that ends the epoch."""
    carried = gateway.describe(described("m1", num=20_000), described("m2"))
    return carried, gateway.exchange("m1", 2 * gateway.counters["m1"].register, reason="ratio")


@pytest.mark.fault("F27", "F65")
def test_what_an_epoch_used_before_it_ended_is_booked_by_its_own_ratio(
    bench: Bench, gateway: Gateway
) -> None:
    bench.send(*gateway.intervals(3))
    gateway.interval()
    carried, ended = rescaled(gateway)
    bench.send(gateway.interval(events=[*carried, ended]))
    wait(bench)
    bench.send(gateway.interval())
    assert maps_of(bench, "m1") == [(1, "delta", 1)] * 3 + [(1, "bridge", 1)] + [(2, "delta", 2)] * 2
    assert "epoch" not in bench.alarms()


@pytest.mark.fault("F27", "F65")
def test_so_is_an_epoch_that_lay_in_the_hole_as_a_whole(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    first = gateway.exchange("m1", 70_000)
    gateway.interval(events=[first])
    carried, second = rescaled(gateway)
    gateway.interval(events=[*carried, second])
    since = gateway.counters["m1"].register - 1_000
    bench.send(gateway.descriptor_message(), gateway.interval())
    wait(bench)
    listed = [entry(first, 3), entry(second, 1)]
    bench.send(gateway.interval(events=[balance(gateway, "m1", since, listed)]))
    assert (
        maps_of(bench, "m1")
        == [(1, "delta", 1)] * 3 + [(2, "bridge", 1), (3, "bridge", 2)] + [(3, "delta", 2)] * 2
    )
    assert bench.alarms() == {"hole": 1}


@pytest.mark.fault("F65", "F81")
def test_a_bridge_that_may_span_a_change_of_the_map_says_so(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    gateway.interval()
    carried = gateway.describe(described("m1", steps=(("other", 1, 1),)), described("m2"))
    gateway.interval(events=carried)
    bench.send(gateway.descriptor_message(), gateway.interval())
    wait(bench)
    assert maps_of(bench, "m1")[3:] == [(1, "bridge", 2), (1, "delta", 2)]
    (said,) = [alarm for alarm in queries.alarms(bench.store) if alarm.kind == "step"]
    assert (said.subject, said.text) == (
        "m1/1/4-5", "it may span a change of the map: all is booked for other, none for step_m1"
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- chains


def test_a_lost_end_of_a_chain_does_not_stop_its_successor(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    gateway.intervals(2)
    gateway.open_chain_id()
    bench.send(gateway.interval())
    wait(bench)
    assert bench.energy(gateway) == {"m1": 6_000, "m2": 6_000}
    assert bench.booked("m1")[3] == ("bridge", 1, 4, 5, 2_000)


def lost_disk(gateway: Gateway) -> Gateway:
    """A gateway with a new journal on the same meters: it knows of nothing."""
    fresh = copy.deepcopy(gateway)
    fresh.head, fresh.line = None, []
    fresh.open_chain_id()
    for counter in fresh.counters.values():
        counter.epoch, counter.n = 1, 0
    return fresh


@pytest.mark.fault("F56")
def test_a_chain_of_a_lost_disk_goes_on_by_serial_number_and_register(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    for counter in gateway.counters.values():
        counter.register += 500  # used, and told in batches that went with the disk
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    bench.send(*fresh.intervals(3))
    wait(bench)
    assert bench.energy(gateway) == {"m1": 6_500, "m2": 6_500}
    assert bench.booked("m1")[3:] == [("bridge", 1, 4, 3, 500)] + [
        ("delta", 2, n, n, 1_000) for n in (1, 2, 3)
    ]
    assert bench.alarms() == {"joined": 1}
    bench.send(*fresh.intervals(2), fresh.interval(events=[balance(fresh, "m1", 503_500)]))
    assert bench.energy(gateway) == {"m1": 9_500, "m2": 9_500}
    assert "balance" not in bench.alarms()


@pytest.mark.fault("F56", "F85")
def test_batches_whose_key_ended_while_they_waited_stop_nothing(bench: Bench, gateway: Gateway) -> None:
    """A chain was joined at each tick anew, and the platform booked nothing of anybody (seed 72)."""
    bench.send(*gateway.intervals(3))
    fresh, following = lost_disk(gateway), signer(7)
    bench.send(*fresh.intervals(2))
    asked = Enrolment(gateway.org, gateway.agent, following.public_jwk, gateway.now_ms, "1.0.0")
    bench.platform.receive(
        topics.enrolment(gateway.org, gateway.agent), seal(ENROLMENT, asked.to_payload(), following)
    )
    bench.platform.approve(gateway.org, gateway.agent, following.kid)
    bench.platform.revoke(gateway.org, gateway.agent, gateway.key.kid)
    fresh.key = following
    bench.send(*fresh.intervals(2))
    wait(bench)
    wait(bench)
    assert bench.energy(gateway) == {"m1": 7_000, "m2": 7_000}
    assert {"joined", "hole", "ended-key"} <= bench.alarms().keys()
    bench.send(*fresh.intervals(2))
    assert bench.energy(gateway) == {"m1": 9_000, "m2": 9_000}


def test_without_a_serial_number_the_hole_is_declared(gateway: Gateway) -> None:
    gateway.describe(described("m1", serial=None), described("m2"))
    bench = Bench((gateway,))
    bench.send(gateway.status(), *gateway.intervals(3))
    for counter in gateway.counters.values():
        counter.register += 500
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    bench.send(*fresh.intervals(3))
    wait(bench)
    assert bench.energy(gateway) == {"m1": 6_000, "m2": 6_500}
    (hole,) = [gap for gap in queries.gaps(bench.store) if gap.kind == "hole" and gap.place == "m1"]
    assert hole.text.endswith("at most unknown")


def test_an_epoch_of_a_joined_chain_keeps_its_place(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    fresh.interval()
    ended = fresh.exchange("m1", 90_000)
    fresh.interval(events=[ended])
    fresh.interval(events=[balance(fresh, "m1", 90_000)])
    bench.send(*fresh.line)
    wait(bench)
    assert bench.energy(gateway) == {"m1": 6_000, "m2": 6_000}
    assert [row[1] for row in bench.booked("m1")] == [1, 1, 1, 2, 3, 3]
    assert bench.alarms() == {"joined": 1}


def test_a_journal_that_is_an_old_copy_books_nothing_twice(bench: Bench, gateway: Gateway) -> None:
    copy_of_then = copy.deepcopy(gateway)
    bench.send(*gateway.intervals(6))
    old = lost_disk(copy_of_then)
    old.now_ms = START_MS
    bench.send(*old.intervals(3, rise=900), *old.intervals(7, rise=1_000))
    wait(bench)
    register = old.counters["m1"].register
    assert register == 500_000 + 2_700 + 7_000
    assert bench.energy(gateway) == {"m1": register - 500_000, "m2": register - 500_000}


def test_what_a_joined_chain_lost_is_bridged_too(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(3))
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    sent = fresh.intervals(6)
    # Its descriptor was in the first batch, which is lost; the retained copy has it.
    bench.send(fresh.descriptor_message(), *sent[1:3], sent[5])
    wait(bench)
    assert bench.energy(gateway) == {"m1": 9_000, "m2": 9_000}
    bench.send(sent[3], sent[0])
    assert bench.energy(gateway) == {"m1": 9_000, "m2": 9_000}


def test_a_meter_that_nobody_knew_begins_where_it_is_heard_of(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    fresh.counters["m3"] = Counter(register=1, end_ms=fresh.now_ms)
    fresh.describe(described("m1"), described("m2"), described("m3"))
    bench.send(*fresh.intervals(2))
    wait(bench)
    assert bench.energy(gateway) == {"m1": 4_000, "m2": 4_000, "m3": 2_000}


def test_times_of_a_hole_are_those_of_its_ends(bench: Bench, gateway: Gateway) -> None:
    sent = gateway.intervals(4)
    bench.send(sent[0], sent[3])
    wait(bench)
    (row,) = bench.store.rows("SELECT start_ms, end_ms FROM booked WHERE meter = 'm1' AND kind = 'bridge'")
    assert [text_of_ms(each) for each in row] == [text_of_ms(START_MS + n * 60_000) for n in (1, 3)]


@pytest.mark.fault("F16", "F56")
def test_a_person_tells_again_what_a_joined_chain_had_told(bench: Bench, gateway: Gateway) -> None:
    """A register fell while the disk was lost; the chain that says so comes when the books are beyond it (seed 82)."""
    bench.send(*gateway.intervals(3))
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    fell = fresh.exchange("m1", 19_000, reason="reset")
    fell = replace(fell, body={**fell.body, "serial_to": fell.body["serial_from"]})
    fresh.counters["m1"] = Counter(1, 0, 19_000, fresh.now_ms)
    told = copy.deepcopy(fresh)
    bench.send(*fresh.intervals(2))
    wait(bench)
    assert bench.energy(gateway) == {"m1": 5_000, "m2": 5_000}
    assert gateway.head is not None
    told.counters["m1"].epoch = 2
    never_came = replace(gateway.head, seq=gateway.head.seq + 1, hash="x" * 43)
    bench.send(told.restore(never_came, [], [fell]), *told.intervals(4))
    wait(bench)
    assert bench.energy(gateway) == {"m1": 7_000, "m2": 7_000}


@pytest.mark.fault("F56")
@pytest.mark.parametrize("whose_word", ["the platform's", "its own"])
def test_behind_a_joined_chain_epochs_are_counted_as_there_or_as_here(
    bench: Bench, gateway: Gateway, whose_word: str
) -> None:
    """A person brought the gateway's own last status: nothing was booked any more (seed 38)."""
    gateway.describe(described("m1", serial=None), described("m2"))
    bench.send(gateway.status(), *gateway.intervals(3))
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    bench.send(*fresh.intervals(3))
    wait(bench)
    heads = bench.ask(gateway).heads
    assert heads is not None and heads["m1"].epoch == 2
    if whose_word == "the platform's":
        for meter, counter in fresh.counters.items():
            counter.epoch = heads[meter].epoch
    bench.send(fresh.restore(fresh.head, []), *fresh.intervals(2))
    ended = fresh.exchange("m2", 90_000)
    bench.send(fresh.interval(events=[ended]))
    assert bench.energy(gateway) == {"m1": 9_000, "m2": 9_000}
    assert [row[1] for row in bench.booked("m1")][-3:] == [2, 2, 2]
    assert bench.alarms() == {"joined": 1}


@pytest.mark.fault("F55", "F63")
def test_what_comes_late_of_another_copy_of_the_journal_is_kept_as_a_fork(
    bench: Bench, gateway: Gateway
) -> None:
    """It has the number that was passed over, and another chain of hashes (seed 1238 of broker-only-confirmed)."""
    sent = gateway.intervals(3)
    other = copy.deepcopy(gateway)
    sent += gateway.intervals(3)
    rival = other.interval(rise=900)
    bench.send(*sent[:3], *sent[4:])
    wait(bench)
    bench.send(rival)
    assert bench.alarms() == {"hole": 1, "fork": 1}
    assert [row[0] for row in bench.booked("m1")] == ["delta"] * 3 + ["bridge"] + ["delta"] * 2
    bench.send(sent[3])
    assert [row[0] for row in bench.booked("m1")] == ["delta"] * 6
    assert bench.energy(gateway) == {"m1": 6_000, "m2": 6_000}


@pytest.mark.fault("F15", "F55", "F63")
def test_what_another_copy_read_before_the_books_end_is_no_rollover(bench: Bench, gateway: Gateway) -> None:
    """A little lower, and earlier: nearly a whole turn of the register was booked (seed 1338)."""
    gateway.describe(described("m1", modulus=MODULUS), described("m2", modulus=MODULUS))
    bench.send(*gateway.intervals(3))
    other = copy.deepcopy(gateway)
    gateway.now_ms += 300_000
    bench.send(gateway.interval(rise=5_000))
    other.intervals(2)
    bench.send(other.interval())
    wait(bench)
    assert {meter: each for meter, each in bench.energy(gateway).items() if each > 8_000} == {}
    bench.send(*other.intervals(4))
    assert bench.energy(gateway) == {"m1": 10_000, "m2": 10_000}


def behind_a_joined_chain(bench: Bench, gateway: Gateway) -> Gateway:
    """A gateway whose chain was joined behind a lost disk, and which counts as the platform does since a word of it."""
    bench.send(*gateway.intervals(3))
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    bench.send(*fresh.intervals(3))
    wait(bench)
    heads = bench.ask(gateway).heads
    assert heads is not None
    for meter, counter in fresh.counters.items():
        counter.epoch, counter.n = heads[meter].epoch, heads[meter].n
    return fresh


def test_a_meter_without_a_number_that_is_told_again_is_not_booked_again(gateway: Gateway) -> None:
    """The own last status is of before the loss; all that was read since has been joined meanwhile."""
    gateway.describe(described("m1", serial=None), described("m2"))
    bench = Bench((gateway,))
    bench.send(gateway.status(), *gateway.intervals(3))
    ended_ms = gateway.counters["m1"].end_ms
    fresh = lost_disk(gateway)
    fresh.now_ms += 600_000
    again = copy.deepcopy(fresh)
    bench.send(*fresh.intervals(30))
    wait(bench)
    epoch = again.exchange("m1", 503_000, reason="restore")
    unknown = {"serial_from": None, "serial_to": None, "unmetered_from": text_of_ms(ended_ms)}
    epoch = replace(epoch, body={**epoch.body, **unknown})
    again.counters["m2"].n = 3
    bench.send(again.restore(gateway.head, [], [epoch]), *again.intervals(32))
    wait(bench)
    assert bench.energy(gateway) == {"m1": 35_000, "m2": 35_000}


@pytest.mark.fault("F18", "F65")
def test_a_hole_behind_a_joined_chain_is_bridged_and_its_epoch_learnt(bench: Bench, gateway: Gateway) -> None:
    fresh = behind_a_joined_chain(bench, gateway)
    bench.send(fresh.restore(fresh.head, []))
    fresh.interval()
    ended = fresh.exchange("m1", 5_000)
    fresh.interval(events=[ended])
    fresh.describe(described("m1", serial="SN-m1-3"), described("m2"))
    bench.send(fresh.interval(events=fresh.carried()), fresh.interval())
    wait(bench)
    bench.send(fresh.interval(events=[balance(fresh, "m1", 5_000, [entry(ended, 4)])]))
    assert bench.energy(gateway) == {"m1": 11_000, "m2": 11_000}
    assert bench.alarms() == {"joined": 1, "hole": 1}


def test_a_chain_behind_a_joined_one_that_counts_as_the_platform_does_is_an_ordinary_one(
    bench: Bench, gateway: Gateway
) -> None:
    fresh = behind_a_joined_chain(bench, gateway)
    for _ in range(3):
        bench.send(fresh.restore(fresh.head, []), *fresh.intervals(2))
        bench.crash()
    assert bench.energy(gateway) == {"m1": 12_000, "m2": 12_000}
    assert bench.store.one("SELECT count(*) FROM joined_chains")[0] == 1


@pytest.mark.fault("F85")
def test_a_key_that_was_withdrawn_while_its_batches_waited_stops_nothing(
    bench: Bench, gateway: Gateway
) -> None:
    bench.send(*gateway.intervals(3))
    bench.send(*lost_disk(gateway).intervals(2))
    bench.platform._dossier((gateway.org, gateway.agent)).withdraw_others([])
    wait(bench)
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}
    assert "ended-key" in bench.alarms()
    assert bench.store.first("SELECT 1 FROM staged") is None
