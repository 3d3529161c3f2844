"""The chain rules of wire format, section 6, one test each: what is booked, waits, is refused, is answered."""

import copy
from dataclasses import replace

import pytest

from agent.errors import ConfigError
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.chain import ChainHead
from simulators.platform import Platform, queries
from tests.simulators.bench import PLATFORM_KEY, Bench
from tests.simulators.chains import MINUTE_MS, Gateway


def rival(gateway: Gateway, rise: int = 5_000) -> Gateway:
    """A clone of the gateway's disk that lives on by itself."""
    clone = copy.deepcopy(gateway)
    clone.interval(rise)
    return clone


# ---------------------------------------------------------------------------------------------- the usual way


def test_batches_in_order_are_booked_and_acknowledged_after_two_seconds(
    bench: Bench, gateway: Gateway
) -> None:
    sent = gateway.intervals(3)
    assert bench.send(*sent) == []
    assert bench.wait(1_999) == []
    (answer,) = bench.wait(1)
    assert answer.head == sent[-1].head
    assert answer.heads is None
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}
    assert bench.alarms() == {}


def test_sixty_four_batches_are_acknowledged_at_once(bench: Bench, gateway: Gateway) -> None:
    sent = gateway.intervals(64)
    assert bench.send(*sent[:63]) == []
    (answer,) = bench.send(sent[63])
    assert answer.head == sent[63].head
    assert bench.wait() == []


@pytest.mark.fault("F62")
def test_duplicates_are_booked_once_and_acknowledged_again(bench: Bench, gateway: Gateway) -> None:
    sent = gateway.intervals(3)
    bench.send(*sent, *sent, sent[1], *sent)
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}
    (answer,) = bench.wait()
    assert answer.head == sent[-1].head
    bench.send(sent[0])
    assert [again.head for again in bench.wait()] == [sent[-1].head]
    assert bench.alarms() == {}


@pytest.mark.fault("F64")
@pytest.mark.parametrize("seed", range(12))
def test_any_order_with_duplicates_comes_to_the_same_books(bench: Bench, gateway: Gateway, seed: int) -> None:
    sent = gateway.intervals(12)
    order = sorted([*range(12), *range(12)], key=lambda at: (at * 7919 + seed * 104_729) % 31)
    bench.send(*(sent[at] for at in order))
    assert bench.energy(gateway) == {"m1": 12_000, "m2": 12_000}
    assert queries.head(bench.store, *gateway.name) == sent[-1].head
    assert bench.alarms() == {}


def test_what_is_missing_is_asked_for_after_a_while(bench: Bench, gateway: Gateway) -> None:
    sent = gateway.intervals(9)
    bench.send(*(sent[at] for at in (0, 1, 4, 5, 8)))
    (answer,) = bench.wait()
    assert answer.head == sent[1].head
    assert answer.need == ((3, 4), (7, 8))
    gaps = [gap.text for gap in queries.gaps(bench.store) if gap.kind == "batches"]
    assert gaps == ["3 of 3..9 wait from 5 on, 4 are missing"]


def test_numbers_of_acknowledgements_rise_although_the_clock_is_set_back(
    bench: Bench, gateway: Gateway
) -> None:
    bench.send(gateway.interval())
    (first,) = bench.wait()
    bench.clock.now_ms -= 3_600_000
    bench.send(gateway.interval())
    (second,) = bench.wait()
    assert second.ack_no == first.ack_no + 1


# ------------------------------------------------------------------------------------------ nothing is held


def test_while_nothing_is_held_nothing_is_acknowledged(bench: Bench, gateway: Gateway) -> None:
    second = gateway.intervals(2)[1]
    bench.send(second)
    assert bench.wait() == []


def test_a_status_is_answered_with_its_session_even_while_nothing_is_held(
    bench: Bench, gateway: Gateway
) -> None:
    answer = bench.ask(gateway)
    assert (answer.head, answer.session, answer.heads) == (None, "session-1", {})


def test_a_first_chain_with_a_predecessor_waits_for_it(bench: Bench, gateway: Gateway) -> None:
    """The platform is new, the agent is not: its chain cannot be placed before what it names."""
    first = gateway.intervals(2)
    restored = gateway.restore(first[-1].head, [gateway.delta("m1", 500)])
    bench.send(restored)
    assert queries.head(bench.store, *gateway.name) is None
    bench.send(*first)
    assert queries.head(bench.store, *gateway.name) == restored.head
    assert bench.energy(gateway) == {"m1": 2_500, "m2": 2_000}


# -------------------------------------------------------------------------------------------- a new chain


def test_a_chain_that_names_the_head_closes_the_former_chain(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(3)
    bench.send(*first)
    restored = gateway.restore(first[-1].head, [gateway.delta("m1", 10)])
    bench.send(restored)
    lines = {line.chain: line.state for line in queries.chains(bench.store)}
    assert lines == {first[0].head.chain: "closed", restored.head.chain: "open"}
    assert queries.head(bench.store, *gateway.name) == restored.head


def test_later_batches_of_a_closed_chain_are_evidence_and_never_booked(
    bench: Bench, gateway: Gateway
) -> None:
    first = gateway.intervals(2)
    clone = rival(gateway)
    bench.send(*first, gateway.restore(first[-1].head, [gateway.delta("m1", 10)]))
    (answer,) = bench.send(clone.line[-1])
    assert answer.head == gateway.head
    assert bench.energy(gateway) == {"m1": 2_010, "m2": 2_000}
    assert bench.evidence() == ["closed chain"]
    assert bench.alarms() == {"closed-chain": 1}


def test_restore_racing_batches_in_flight(bench: Bench, gateway: Gateway) -> None:
    """The old chain's last batches overtake the new chain's first one: it names a head that has passed by."""
    first = gateway.intervals(5)
    bench.send(*first[:3])
    rolled_back = copy.deepcopy(gateway)
    restored = rolled_back.restore(first[2].head, [])
    bench.send(*first[3:])
    (answer,) = bench.send(restored)
    assert answer.refused == (restored.head.chain,)
    assert answer.head == first[4].head
    assert answer.heads is not None
    assert answer.heads["m1"].n == 5
    again = rolled_back.restore(answer.head, [])
    bench.send(again)
    assert queries.head(bench.store, *gateway.name) == again.head
    assert bench.energy(gateway) == {"m1": 5_000, "m2": 5_000}


def test_restore_before_its_predecessor_has_arrived_is_staged(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(4)
    bench.send(*first[:2])
    restored = gateway.restore(first[3].head, [gateway.delta("m2", 7)])
    bench.send(restored, *gateway.intervals(1), first[3])
    assert queries.head(bench.store, *gateway.name) == first[1].head
    bench.send(first[2])
    assert queries.head(bench.store, *gateway.name) == gateway.head
    assert bench.energy(gateway) == {"m1": 5_000, "m2": 5_007}


def test_a_stale_chain_is_refused_and_every_batch_of_it_answered(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(3)
    bench.send(*first)
    stale = copy.deepcopy(gateway)
    wrong = stale.restore(first[0].head, [])
    more = stale.interval()
    for sealed in (wrong, more, wrong, more):
        (answer,) = bench.send(sealed)
        assert answer.refused == (wrong.head.chain,)
        assert answer.head == first[-1].head
        assert set(answer.heads or ()) == {"m1", "m2"}
        assert answer.rev == 1
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}


def test_a_refused_chain_is_told_to_a_status_too(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(2)
    bench.send(*first)
    stale = copy.deepcopy(gateway)
    bench.send(stale.restore(first[0].head, []))
    (answer,) = bench.send(stale.status())
    assert answer.refused == (stale.chain,)
    assert answer.heads is not None


def test_disk_lost_a_chain_without_predecessor_is_refused_while_something_is_held(
    bench: Bench, gateway: Gateway
) -> None:
    bench.send(*gateway.intervals(3))
    blank = Gateway()
    (answer,) = bench.send(blank.interval())
    assert answer.refused == (blank.chain,)
    assert answer.head == gateway.head
    restored = blank.restore(
        answer.head, [], [blank.exchange("m1", 77, "restore"), blank.exchange("m2", 78, "restore")]
    )
    bench.send(restored, blank.interval())
    assert bench.energy(gateway) == {"m1": 4_000, "m2": 4_000}
    assert queries.head(bench.store, *gateway.name) == blank.head


def test_a_chain_that_follows_a_refused_chain_is_refused(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(3)
    bench.send(*first)
    stale = copy.deepcopy(gateway)
    wrong = stale.restore(first[0].head, [])
    after_wrong = stale.restore(wrong.head, [])
    bench.send(wrong)
    (answer,) = bench.send(after_wrong)
    assert answer.refused == (after_wrong.head.chain,)


def test_a_chain_that_follows_a_closed_chain_is_refused(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(3)
    clone = copy.deepcopy(gateway)
    late = clone.restore(ChainHead(first[0].head.chain, 9, first[0].hash), [])
    bench.send(*first, gateway.restore(first[-1].head, []))
    (answer,) = bench.send(late)
    assert answer.refused == (late.head.chain,)


def test_the_same_head_with_another_hash_is_not_the_head(bench: Bench, gateway: Gateway) -> None:
    first = gateway.intervals(3)
    bench.send(*first)
    head = first[-1].head
    (answer,) = bench.send(gateway.restore(ChainHead(head.chain, head.seq, first[0].hash), []))
    assert answer.refused == (gateway.chain,)


# ------------------------------------------------------------------------------------------------- forks


@pytest.mark.fault("F85")
def test_fork_the_first_arrival_stays_and_the_head_is_answered(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    clone = rival(gateway)
    mine = gateway.interval()
    bench.send(mine)
    (answer,) = bench.send(clone.line[-1])
    assert answer.head == mine.head
    assert bench.alarms() == {"fork": 1}
    assert bench.evidence() == ["fork"]
    assert bench.energy(gateway) == {"m1": 3_000, "m2": 3_000}


def test_fork_a_batch_that_follows_another_batch_is_not_booked(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    clone = rival(gateway)
    clone.interval()
    bench.send(gateway.interval())
    (answer,) = bench.send(clone.line[-1])
    assert answer.head == gateway.head
    assert bench.alarms() == {"fork": 1}


def test_fork_in_staging_does_not_freeze_the_line(bench: Bench, gateway: Gateway) -> None:
    """Both clones' next two batches arrive backwards, the loser's first: the line goes on with what follows."""
    bench.send(*gateway.intervals(2))
    clone = rival(gateway)
    clone.interval()
    mine = gateway.intervals(2)
    theirs = clone.line[-2:]
    bench.send(theirs[1], mine[1], mine[0], theirs[0])
    assert queries.head(bench.store, *gateway.name) == mine[1].head
    assert bench.energy(gateway) == {"m1": 4_000, "m2": 4_000}


def test_a_fork_never_freezes_a_successor_chain(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    clone = rival(gateway)
    bench.send(gateway.interval(), clone.line[-1])
    answer = bench.ask(clone)
    restored = clone.restore(answer.head, [])
    bench.send(restored)
    assert queries.head(bench.store, *gateway.name) == restored.head


# -------------------------------------------------------------------------------------------- unparsable


@pytest.mark.parametrize("successor_first", [False, True])
def test_unparsable_its_successors_chain_is_refused(
    bench: Bench, gateway: Gateway, successor_first: bool
) -> None:
    bench.send(*gateway.intervals(2))
    bad, after = gateway.unparsable(), gateway.interval()
    answers = bench.send(*([after, bad] if successor_first else [bad, after]))
    assert answers[-1].refused == (gateway.chain,)
    assert answers[-1].head == gateway.line[1].head
    assert "unparsable" in bench.evidence()
    assert bench.alarms() == {"unparsable": 1, "refused-chain": 1}
    assert bench.energy(gateway) == {"m1": 2_000, "m2": 2_000}


def test_unparsable_alone_is_evidence_and_answered_with_the_head(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    head = gateway.head
    bench.send(gateway.unparsable())
    assert [answer.head for answer in bench.wait()] == [head]


def test_unparsable_a_chain_that_names_it_as_predecessor_is_refused(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    bad = gateway.unparsable()
    restored = gateway.restore(bad.head, [])
    bench.send(restored)
    (answer,) = bench.send(bad)
    assert answer.refused == (restored.head.chain,)


def test_unparsable_as_the_first_batch_of_all(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.unparsable())
    (answer,) = bench.send(gateway.interval())
    assert (answer.head, answer.refused, answer.heads) == (None, (gateway.chain,), {})
    restored = gateway.restore(None, [gateway.delta("m1", 5)])
    bench.send(restored)
    assert queries.head(bench.store, *gateway.name) == restored.head


def test_after_an_unparsable_batch_the_head_in_the_refused_chain_can_be_followed(
    bench: Bench, gateway: Gateway
) -> None:
    first = gateway.intervals(2)
    bench.send(*first, gateway.unparsable(), gateway.interval())
    restored = gateway.restore(first[-1].head, [])
    bench.send(restored)
    assert queries.head(bench.store, *gateway.name) == restored.head


def test_a_schema_fault_is_unparsable_too(bench: Bench, gateway: Gateway) -> None:
    bench.send(*gateway.intervals(2))
    gateway.now_ms += MINUTE_MS
    delta = gateway.delta("m1", 5)
    sealed = gateway.seal(gateway.next_batch([replace(delta, q=("b", "a"))], []))
    bench.send(sealed)
    assert bench.evidence() == ["unparsable"]
    assert bench.send(gateway.interval())[0].refused == (gateway.chain,)


# ------------------------------------------------------------------------------- restart and restore of us


def test_the_platform_is_killed_between_any_two_messages(tmp_path_factory: pytest.TempPathFactory) -> None:
    gateway = Gateway()
    bench = Bench((gateway,), tmp_path_factory.mktemp("platform") / "platform.db")
    sent = gateway.intervals(10)
    for at in (1, 0, 3, 2, 5, 4, 7, 6, 9, 8):
        bench.send(sent[at])
        bench.crash()
    (answer,) = bench.wait(0)
    assert answer.head == sent[-1].head
    assert bench.energy(gateway) == {"m1": 10_000, "m2": 10_000}


def test_an_older_backup_with_a_higher_gen_is_refilled(gateway: Gateway) -> None:
    bench = Bench((gateway,))
    sent = gateway.intervals(6)
    bench.send(*sent[:3])
    before: Acknowledgement = bench.wait()[0]
    restored = Bench((gateway,), options={"gen": before.gen + 1}, clock=bench.clock)
    restored.send(*sent[:2])
    answer = restored.ask(gateway)
    assert answer.order > before.order
    assert answer.head == sent[1].head
    restored.send(*sent[2:])
    assert restored.energy(gateway) == {"m1": 6_000, "m2": 6_000}


def test_a_lower_gen_and_another_audience_are_refused(gateway: Gateway) -> None:
    bench = Bench((gateway,), options={"gen": 3})
    for audience, gen in (("carbon.grid.example", 2), ("elsewhere.example", None)):
        with pytest.raises(ConfigError):
            Platform(bench.store, audience=audience, signer=PLATFORM_KEY, keys={}, clock=bench.clock, gen=gen)


def test_staging_is_bounded_and_the_next_batch_always_finds_room(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.platform.chains.STAGED_MAX", 5)
    sent = gateway.intervals(12)
    bench.send(*reversed(sent))
    assert bench.alarms() == {"staging": 1}
    bench.send(*sent)
    assert bench.energy(gateway) == {"m1": 12_000, "m2": 12_000}
