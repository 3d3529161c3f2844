"""Where the broker is all that answers: what the status says, so that a platform can join by registers."""

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from agent.adapters.journal.rows import integer
from agent.adapters.keys import PublicKeys
from agent.metering.interval import DAY_MS, HOUR_MS
from agent.reporting import envelope, topics
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event
from agent.reporting.status import Status
from agent.reporting.verify import Verifier
from agent.service.acknowledge import HANDED_OVER_KEEP_DAYS, hand_over
from agent.service.dialogue import Dialogue, position_of
from agent.service.publish import Publisher
from agent.service.seal import Identity
from agent.service.signing import settle_keys
from simulators.platform import Platform, Store, queries
from simulators.platform.ingest import JOIN_MS
from tests.service.bench import Bench, HandClock
from tests.simulators.chains import signer

WHO = Identity("org", "gw01", "carbon.example", "0.1.0")


def status_of(bench: Bench, mode: str) -> Status:
    """What the agent says of itself."""
    nothing = cast(Any, None)
    publisher = Publisher(WHO, nothing, nothing, bench.clock, bench.dice)
    dialogue = Dialogue(
        WHO, bench.signers, PublicKeys([]), nothing, nothing, bench.clock, nothing, publisher, mode=mode
    )
    position = position_of(bench.journal, with_heads=mode == "broker")
    (said,) = dialogue.statements(position, "session-1")
    return Status.from_payload(envelope.open_sealed(said, envelope.STATUS, bench.keys).payload)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    settle_keys(made.journal, made.signers, site="site.toml", platform_answers=False)
    for count in range(4):
        made.read({"reflow-1": 1000 + count, "wave-1": 7})
    return made


def test_in_broker_mode_the_status_says_where_every_meter_stands(bench: Bench) -> None:
    said, own = status_of(bench, "broker"), bench.journal.heads()
    assert said.mode == "broker"
    assert said.heads is not None and set(said.heads) == set(own) == {"reflow-1", "wave-1"}
    for meter, head in said.heads.items():
        assert (head.epoch, head.n, head.register) == (1, 3, own[meter].register_milliwh)
        assert (head.num, head.den) == own[meter].basis.per_count_milliwh.as_integer_ratio()
    assert said.heads["reflow-1"].register - said.heads["wave-1"].register == (1003 - 7) * 10_000


def hourly_balances(bench: Bench, minutes: int, balance_ms: int) -> list[tuple[int, int, int]]:
    """(first, last, sum) of the balances of reflow-1 after so many more minutes."""
    bench.closer._balance_ms = balance_ms
    for count in range(minutes):
        bench.read({"reflow-1": 2000 + count, "wave-1": 7})
    events = [event for _, batch in bench.batches() for event in batch.events if event.type == "balance"]
    mine = [event for event in events if event.text("meter") == "reflow-1"]
    return [tuple(event.integer(name) for name in ("n_first", "n_last", "sum")) for event in mine]  # type: ignore[misc]


def test_balances_are_hourly_and_follow_one_another_without_a_gap(bench: Bench) -> None:
    found = hourly_balances(bench, 150, HOUR_MS)
    assert len(found) in (2, 3)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(found)), found
    assert [last - first for first, last, _ in found[1:]] == [59] * (len(found) - 1)
    verdict = Verifier(bench.keys)
    for number, kept in enumerate(bench.journal.queue(after_ordinal=0, limit=1000), 1):
        verdict.feed(number, kept.jws or b"")
    assert verdict.report().conservation.ok and verdict.report().chain.ok


def test_where_the_platform_answers_they_stay_daily(bench: Bench) -> None:
    assert len(hourly_balances(bench, 150, DAY_MS)) <= 1


def test_a_platform_that_answers_is_not_told_what_it_can_ask_for(bench: Bench) -> None:
    assert status_of(bench, "platform").heads is None


# ------------------------------------------------------------------- epochs that ended in a batch that a broker lost


def exchanged(bench: Bench, minutes: int) -> None:
    """The register of the oven is set back; then so many minutes pass."""
    bench.closer._balance_ms = HOUR_MS
    for count in range(minutes):
        bench.read({"reflow-1": 50 + count, "wave-1": 7})


def run_on(bench: Bench, minutes: int) -> None:
    """The circuit was off till now; so many minutes more, the register runs on."""
    register = bench.journal.heads()["reflow-1"].register_milliwh // 10_000
    for count in range(minutes + 1):
        bench.read({"reflow-1": register + count, "wave-1": 7})


def balances_of(bench: Bench, meter: str) -> list[Event]:
    events = [event for _, batch in bench.batches() for event in batch.events if event.type == "balance"]
    return [event for event in events if event.text("meter") == meter]


def test_each_balance_lists_the_epochs_of_the_last_30_days(bench: Bench) -> None:
    exchanged(bench, 70)
    told = [event for _, batch in bench.batches() for event in batch.events if event.type == "epoch"]
    assert len(told) == 1
    own, other = balances_of(bench, "reflow-1")[-1], balances_of(bench, "wave-1")[-1]
    assert own.closed() == [Event("epoch", own.at_ms, {**told[0].body, "n_last": 3})]
    assert other.body["closed"] == []
    bench.clock.now_ms += 31 * DAY_MS
    for count in range(70):
        bench.read({"reflow-1": 119 + count, "wave-1": 7})
    assert balances_of(bench, "reflow-1")[-1].body["closed"] == []
    verdict = Verifier(bench.keys)
    for number, kept in enumerate(bench.journal.queue(after_ordinal=0, limit=1000), 1):
        verdict.feed(number, kept.jws or b"")
    assert verdict.report().conservation.ok and verdict.report().chain.ok


@pytest.mark.fault("F40", "F65")
def test_an_epoch_that_ended_before_the_time_was_known_is_listed_for_30_days_of_known_time(
    bench: Bench,
) -> None:
    """A box that begins in 1970 sealed it at a label of then: its end would be told in one batch and never again."""
    right_ms, bench.clock.sync = bench.clock.now_ms, "U"
    bench.clock.now_ms = 60_000
    exchanged(bench, 3)
    bench.clock.now_ms += HOUR_MS
    run_on(bench, 2)
    entry = balances_of(bench, "reflow-1")[-1].body["closed"]
    assert len(cast(list[object], entry)) == 1
    bench.clock.now_ms, bench.clock.sync = right_ms, "S"
    for days, is_listed in ((0, True), (29, True), (2, False)):
        bench.clock.now_ms += days * DAY_MS
        bench.clock.now_ms += HOUR_MS
        run_on(bench, 2)
        assert balances_of(bench, "reflow-1")[-1].body["closed"] == (entry if is_listed else []), days


def test_where_the_platform_answers_nothing_is_listed(bench: Bench) -> None:
    bench.closer._balance_ms = DAY_MS
    for count in range(3):
        bench.read({"reflow-1": 50 + count, "wave-1": 7})
    bench.clock.now_ms += DAY_MS
    bench.read({"reflow-1": 60, "wave-1": 7})
    found = balances_of(bench, "reflow-1")
    assert found and all("closed" not in event.body for event in found)


@pytest.mark.fault("F65")
def test_a_platform_that_cannot_ask_learns_an_epoch_that_the_broker_lost(bench: Bench) -> None:
    exchanged(bench, 130)
    messages = [(batch, kept.jws or b"") for (_, batch), kept in zip(
        bench.batches(), bench.journal.queue(after_ordinal=0, limit=1000), strict=True
    )]  # fmt: skip
    lost = {batch.seq for batch, _ in messages if any(event.type == "epoch" for event in batch.events)}
    clock, store = HandClock(), Store.create(":memory:")
    platform_key = signer(99)
    keys = {("org", "gw01"): [bench.signer.public_key]}
    platform = Platform(store, audience=WHO.audience, signer=platform_key, keys=keys, clock=clock)
    publisher = Publisher(WHO, cast(Any, None), cast(Any, None), bench.clock, bench.dice)
    talk = Dialogue(
        WHO, bench.signers, PublicKeys([]), cast(Any, None), cast(Any, None), bench.clock, cast(Any, None), publisher,
        mode="broker",
    )  # fmt: skip
    (status,) = talk.statements(position_of(bench.journal, with_heads=True), "session-1")
    platform.receive(topics.status("org", "gw01"), status)
    for batch, jws in messages:
        if not {batch.seq, batch.seq - 1, batch.seq + 1} & lost:
            platform.receive(topics.batch("org", "gw01"), jws)
    clock.now_ms += JOIN_MS + 60_000
    platform.tick(clock.now_ms)
    totals = queries.totals(store)["org/gw01"].meters
    assert queries.broken_books(store) == []
    sealed = {meter: sum(bench.deltas(meter)) for meter in ("reflow-1", "wave-1")}
    assert {meter: each.energy_milliwh for meter, each in totals.items()} == sealed
    assert [each.epoch for each in totals["reflow-1"].epochs] == [1, 2]


@pytest.mark.fault("F40", "F56")
def test_what_was_handed_over_before_the_time_was_known_is_kept_for_30_days_of_known_time(
    bench: Bench,
) -> None:
    """A new card and a start in 1970: as soon as the clock was right, all of it was forgotten (seed 200)."""
    known_ms = bench.clock.now_ms
    bench.clock.now_ms = 60_000
    for count in range(4):
        bench.read({"reflow-1": 1_000 + count, "wave-1": 500})
        hand_over(bench.journal, head_of(bench), bench.clock.now_ms)
    bench.clock.now_ms = known_ms
    for day in range(32):
        bench.read({"reflow-1": 1_100 + day, "wave-1": 500})
        hand_over(bench.journal, head_of(bench), bench.clock.now_ms)
        oldest = bench.journal.oldest()
        assert oldest is not None
        assert (oldest.head.seq == 1) is (day < HANDED_OVER_KEEP_DAYS), f"day {day}"
        bench.clock.now_ms += DAY_MS


@pytest.mark.fault("F40", "F56")
def test_what_was_handed_over_at_a_known_time_keeps_it(bench: Bench) -> None:
    for count, now_ms in enumerate((bench.clock.now_ms, 60_000, bench.clock.now_ms + DAY_MS)):
        bench.clock.now_ms = now_ms
        bench.read({"reflow-1": 1_000 + count, "wave-1": 500})
        hand_over(bench.journal, head_of(bench), bench.clock.now_ms)
    rows = bench.journal._db.execute("SELECT stored_ms FROM stored ORDER BY up_to")
    known_ms, undated_ms, later_ms = (integer(row[0]) for row in rows)
    assert undated_ms == later_ms == known_ms + DAY_MS


def head_of(bench: Bench) -> ChainHead:
    head = bench.journal.state().head
    assert head is not None
    return head
