"""Held deltas, bridges, releases and epochs (wire format, sections 5 and 6), and the proof that the checks can fail."""

import random
from dataclasses import replace

import pytest

from agent.reporting.batch import Batch, Clock, Delta
from agent.reporting.event import balance_event
from simulators.platform import Release, booking, queries
from simulators.platform.booking import Booking, Source
from simulators.platform.chains import Chains
from simulators.platform.dossier import Dossier, Standing
from tests.simulators import test_platform_chains as chains
from tests.simulators.bench import Bench
from tests.simulators.chains import MINUTE_MS, MODULUS, Gateway, Sealed, described


@pytest.fixture
def gateway() -> Gateway:
    """A gateway with one meter."""
    return Gateway(meters=(described("m1"),))


def bent(gateway: Gateway, rise: int, **changes: int | None) -> Sealed:
    """A batch whose only delta says something else than the gateway's counter."""
    gateway.now_ms += MINUTE_MS
    return gateway.say([replace(gateway.delta("m1", rise), **changes)])  # type: ignore[arg-type]


def release(bench: Bench, epoch: int, n: int) -> Release:
    """The operator lets a delta of the meter go."""
    return bench.platform.release("zj-meterworks", "gw01", "m1", epoch, n)


# ------------------------------------------------------------------------------------- holding and bridging


def test_a_delta_that_breaks_v1_is_held_and_its_span_bridged(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000), bent(gateway, 2_000, delta=1_999))
    assert bench.energy(gateway) == {"m1": 1_000}
    (answer,) = bench.wait()
    assert answer.held == (("m1", 1, 2),)
    assert answer.head == gateway.head, "quarantine holds a delta, not its batch"
    bench.send(gateway.interval(3_000))
    assert bench.booked("m1") == [
        ("delta", 1, 1, 1, 1_000),
        ("bridge", 1, 2, 2, 2_000),
        ("delta", 1, 3, 3, 3_000),
    ]
    assert bench.energy(gateway) == {"m1": 6_000}


def test_heads_include_held_deltas(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000), bent(gateway, 2_000, delta=1_999))
    heads = bench.ask(gateway).heads
    assert heads is not None
    assert (heads["m1"].n, heads["m1"].register) == (2, 503_000)


def test_heads_tell_whether_their_time_is_evidence(bench: Bench, gateway: Gateway) -> None:
    """By the flags of the last delta, booked or held; of an opening by the clock of the batch that told it."""

    def flags() -> tuple[str, ...] | None:
        heads = bench.ask(gateway).heads
        assert heads is not None
        return heads["m1"].q

    bench.send(gateway.interval(1_000))
    assert flags() == ()
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([gateway.delta("m1", 5, "clock", "gap")]))
    assert flags() == ("clock", "gap")
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.say([replace(gateway.delta("m1", 5, "clock"), delta=4)]))
    assert flags() == ("clock",)
    opening = gateway.next_batch([], [gateway.exchange("m1", 7)])
    bench.send(gateway.seal(opening))
    assert flags() == ()
    opening = gateway.next_batch([], [gateway.exchange("m1", 9)])
    bench.send(gateway.seal(replace(opening, clock=Clock("U", 5))))
    assert flags() == ("clock",)


def test_a_delta_is_judged_against_the_held_one_before_it(bench: Bench, gateway: Gateway) -> None:
    """The held delta lies about its end: the next one does not join it and is held too, the third one heals all."""
    bench.send(gateway.interval(1_000), bent(gateway, 2_000, reg_end=777_777), gateway.interval(3_000))
    assert bench.energy(gateway) == {"m1": 1_000}
    bench.send(gateway.interval(4_000))
    assert bench.booked("m1")[1:] == [("bridge", 1, 2, 3, 5_000), ("delta", 1, 4, 4, 4_000)]
    assert bench.energy(gateway) == {"m1": 10_000}


def test_a_missing_number_is_bridged_and_the_odd_one_held(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000))
    gateway.delta("m1", 500)  # never told
    bench.send(gateway.interval(2_000), gateway.interval(3_000))
    assert bench.booked("m1")[1:] == [("bridge", 1, 2, 3, 2_500), ("delta", 1, 4, 4, 3_000)]
    assert bench.energy(gateway) == {"m1": 6_500}


def test_a_first_delta_that_is_held_gives_the_opening_register(bench: Bench, gateway: Gateway) -> None:
    bench.send(bent(gateway, 2_000, delta=1), gateway.interval(3_000))
    assert bench.energy(gateway) == {"m1": 5_000}


def test_a_register_that_falls_books_nothing_until_it_has_risen_again(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(10_000))
    gateway.counters["m1"].register -= 7_000
    bench.send(gateway.interval(1_000), gateway.interval(1_000))
    assert bench.energy(gateway) == {"m1": 10_000}
    bench.send(gateway.interval(9_000))
    assert bench.energy(gateway) == {"m1": 10_000}
    bench.send(gateway.interval(1_000))
    assert bench.energy(gateway) == {"m1": 15_000}, "from the opening to the last register, nothing twice"


def test_a_rollover_is_booked(bench: Bench, gateway: Gateway) -> None:
    gateway.counters["m1"].register = MODULUS - 300
    bench.send(gateway.interval(1_000), gateway.interval(500))
    assert bench.energy(gateway) == {"m1": 1_500}
    (epoch,) = queries.totals(bench.store)["zj-meterworks/gw01"].meters["m1"].epochs
    assert (epoch.opening, epoch.last, epoch.roll_milliwh) == (MODULUS - 300, 1_200, MODULUS)


def test_a_roll_that_is_not_the_modulus_is_held(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(), bent(gateway, 0, roll=5, delta=5))
    assert bench.alarms() == {"held": 1}
    assert bench.energy(gateway) == {"m1": 1_000}


def test_a_bridge_over_a_held_rollover_uses_the_known_roll(gateway: Gateway) -> None:
    bench = Bench((gateway,), options={"quarantine": lambda delta: "look" if delta.n == 2 else None})
    gateway.counters["m1"].register = MODULUS - 2_000
    bench.send(gateway.interval(1_000), gateway.interval(3_000), gateway.interval(500))
    assert bench.booked("m1")[1:] == [("bridge", 1, 2, 2, 3_000), ("delta", 1, 3, 3, 500)]
    assert release(bench, 1, 2) is Release.BOOKED
    assert bench.energy(gateway) == {"m1": 4_500}


def test_the_same_delta_in_another_batch_is_refused_and_alarmed(bench: Bench, gateway: Gateway) -> None:
    first = gateway.interval(1_000)
    assert first.batch is not None
    bench.send(first, gateway.say(list(first.batch.deltas)), gateway.interval(2_000))
    assert bench.alarms() == {"repeat": 1}
    assert bench.energy(gateway) == {"m1": 3_000}


def test_times_that_do_not_join_are_flagged_and_change_no_energy(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000), bent(gateway, 2_000, start_ms=5), gateway.interval(3_000))
    assert bench.alarms() == {"time": 1}
    assert bench.energy(gateway) == {"m1": 6_000}


# ------------------------------------------------------------------------------------------------- release


def held_bench(gateway: Gateway, *held: int) -> Bench:
    """A platform whose operator holds these numbers."""
    return Bench((gateway,), options={"quarantine": lambda delta: "look" if delta.n in held else None})


def test_a_release_replaces_exactly_its_span_and_splits_the_bridge(gateway: Gateway) -> None:
    bench = held_bench(gateway, 2, 3, 4)
    bench.send(*(gateway.interval(rise) for rise in (100, 20, 30, 40, 500)))
    assert bench.booked("m1")[1] == ("bridge", 1, 2, 4, 90)
    assert release(bench, 1, 3) is Release.BOOKED
    assert bench.booked("m1")[1:4] == [
        ("bridge", 1, 2, 2, 20),
        ("delta", 1, 3, 3, 30),
        ("bridge", 1, 4, 4, 40),
    ]
    assert release(bench, 1, 2) is Release.BOOKED
    assert release(bench, 1, 4) is Release.BOOKED
    assert {row[0] for row in bench.booked("m1")} == {"delta"}
    assert bench.energy(gateway) == {"m1": 690}
    assert release(bench, 1, 4) is Release.UNKNOWN
    bench.send(gateway.status())
    assert bench.answers[-1].held == ()


def test_a_release_before_any_later_delta_books_at_the_end(gateway: Gateway) -> None:
    bench = held_bench(gateway, 2, 3)
    bench.send(*(gateway.interval(rise) for rise in (100, 20, 30)))
    assert release(bench, 1, 3) is Release.BOOKED
    assert bench.booked("m1")[1:] == [("bridge", 1, 2, 2, 20), ("delta", 1, 3, 3, 30)]
    assert release(bench, 1, 2) is Release.BOOKED
    bench.send(gateway.interval(1_000))
    assert bench.energy(gateway) == {"m1": 1_150}


def test_a_release_of_a_delta_whose_figures_disagree_stays_evidence(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(1_000), bent(gateway, 2_000, delta=9_999), gateway.interval(3_000))
    assert release(bench, 1, 2) is Release.EVIDENCE
    assert bench.energy(gateway) == {"m1": 6_000}
    assert release(bench, 1, 2) is Release.UNKNOWN


def test_a_release_that_leaves_its_bridge_stays_evidence(bench: Bench, gateway: Gateway) -> None:
    lie: dict[str, int | None] = {"reg_start": 400_000, "reg_end": 900_000, "delta": 500_000}
    bench.send(
        gateway.interval(1_000), bent(gateway, 2_000, **lie), gateway.interval(1), gateway.interval(3_000)
    )
    assert release(bench, 1, 2) is Release.EVIDENCE
    assert bench.energy(gateway) == {"m1": 6_001}


def test_a_release_after_the_epoch_was_closed(gateway: Gateway) -> None:
    bench = held_bench(gateway, 2)
    bench.send(gateway.interval(100), gateway.interval(20))
    bench.send(gateway.say([], [gateway.exchange("m1", 7)]))
    assert bench.booked("m1") == [("delta", 1, 1, 1, 100), ("bridge", 1, 2, 2, 20)]
    assert release(bench, 1, 2) is Release.BOOKED
    assert bench.energy(gateway) == {"m1": 120}


# -------------------------------------------------------------------------------------------------- epochs


def test_an_epoch_event_closes_the_old_epoch_up_to_last(gateway: Gateway) -> None:
    bench = held_bench(gateway, 2)
    bench.send(gateway.interval(100), gateway.interval(20))
    last = gateway.counters["m1"].register + 5
    bench.send(gateway.say([], [gateway.exchange("m1", 7, last=last)]), gateway.interval(40))
    assert bench.booked("m1")[1:] == [("bridge", 1, 2, 2, 25), ("delta", 2, 1, 1, 40)]
    assert bench.energy(gateway) == {"m1": 165}
    heads = bench.ask(gateway).heads
    assert heads is not None
    assert (heads["m1"].epoch, heads["m1"].n, heads["m1"].register) == (2, 1, 47)
    assert [gap.kind for gap in queries.gaps(bench.store)] == ["held", "bridge", "hole"]


def test_a_bridge_belongs_to_the_map_of_the_deltas_it_stands_for(gateway: Gateway) -> None:
    """Its end is said by an epoch under the next map: another ratio, another step (seed 2043 of the world)."""
    bench = held_bench(gateway, 2)
    bench.send(gateway.interval(100), gateway.interval(20))
    under = "SELECT descriptor_id FROM booked WHERE kind = ? ORDER BY booked_id"
    carried = gateway.describe(described("m1", num=20_000))
    bench.send(gateway.say([], [*carried, gateway.exchange("m1", 7, reason="ratio")]), gateway.interval(40))
    assert bench.booked("m1")[1:] == [("bridge", 1, 2, 2, 20), ("delta", 2, 1, 1, 40)]
    before, after = bench.store.rows(under, ("delta",))
    assert bench.store.rows(under, ("bridge",)) == [before] != [after]


def test_an_epoch_in_one_batch_with_the_deltas_around_it(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(100))
    gateway.now_ms += MINUTE_MS
    before = gateway.delta("m1", 20)
    event = gateway.exchange("m1", 7)
    bench.send(gateway.say([before, gateway.delta("m1", 3)], [event]))
    assert bench.booked("m1") == [("delta", 1, 1, 1, 100), ("delta", 1, 2, 2, 20), ("delta", 2, 1, 1, 3)]
    assert bench.alarms() == {}


def test_the_head_after_an_exchange_has_the_new_serial_number(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(100))
    event = gateway.exchange("m1", 7)
    carried = gateway.describe(described("m1", serial="SN-m1-2"))
    bench.send(gateway.say([], [*carried, event]))
    heads = bench.ask(gateway).heads
    assert heads is not None
    assert (heads["m1"].serial, heads["m1"].n, bench.answers[-1].rev) == ("SN-m1-2", 0, 2)


def test_a_repeated_epoch_event_changes_nothing(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(100))
    event = gateway.exchange("m1", 7)
    bench.send(gateway.say([], [event]), gateway.interval(5), gateway.say([], [event]), gateway.interval(5))
    assert bench.energy(gateway) == {"m1": 110}
    assert bench.alarms() == {"epoch": 1}


def test_an_epoch_without_its_event_is_alarmed_and_its_deltas_booked(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(100))
    gateway.exchange("m1", 7)
    bench.send(gateway.interval(5))
    assert bench.energy(gateway) == {"m1": 105}
    assert bench.alarms()["epoch"] == 1


def test_a_ratio_that_changes_inside_an_epoch_is_alarmed(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(100))
    bench.send(gateway.interval(100, events=gateway.describe(described("m1", num=20_000))))
    assert bench.alarms() == {"epoch": 1}


def test_a_wrong_balance_is_alarmed_and_a_right_one_is_not(bench: Bench, gateway: Gateway) -> None:
    bench.send(gateway.interval(100), gateway.interval(50))
    for sum_milliwh in (150, 151):
        event = balance_event(
            gateway.now_ms,
            meter="m1",
            epoch=1,
            n_first=1,
            n_last=2,
            reg_first=500_000,
            reg_last=500_150,
            sum_milliwh=sum_milliwh,
            roll=0,
        )
        bench.send(gateway.say([], [event]))
    assert bench.alarms() == {"balance": 1}


# --------------------------------------------------------------------------------------------- descriptors


def test_a_descriptor_in_parts_over_several_batches_survives_a_restart(
    gateway: Gateway, bench: Bench
) -> None:
    meters = tuple(described(f"m{number}") for number in range(1, 30))
    gateway = Gateway(meters=meters)
    parts = gateway.carried(part_bytes=2_000)
    assert len(parts) > 3
    bench = Bench((gateway,))
    first = gateway.seal(gateway.next_batch([], parts[:2]))
    bench.send(first)
    bench.crash()
    bench.send(*(gateway.say([], [part]) for part in parts[2:]), gateway.interval(10))
    assert bench.alarms() == {}
    totals = queries.totals(bench.store)["zj-meterworks/gw01"]
    assert totals.undescribed_milliwh == 0
    assert sum(totals.steps.values()) == 290


def test_energy_without_its_descriptor_is_booked_and_the_retained_copy_explains_it(
    bench: Bench, gateway: Gateway
) -> None:
    gateway.now_ms += MINUTE_MS
    bench.send(gateway.seal(gateway.next_batch([gateway.delta("m1", 100)], [])))
    assert bench.energy(gateway) == {"m1": 100}
    assert bench.alarms() == {"descriptor": 1}
    assert queries.totals(bench.store)["zj-meterworks/gw01"].undescribed_milliwh == 100
    bench.send(gateway.descriptor_message())
    assert queries.totals(bench.store)["zj-meterworks/gw01"].steps == {"step_m1": 100}


def test_shares_are_exact_and_the_rest_is_unassigned() -> None:
    meter = described("m1", steps=(("a", 1, 3), ("b", 1, 7)))
    gateway = Gateway(meters=(meter, described("m2", role="incomer", steps=())))
    bench = Bench((gateway,))
    bench.send(gateway.interval(1_000), gateway.interval(1_000))
    total = queries.totals(bench.store)["zj-meterworks/gw01"]
    assert total.steps["a"] * 3 == 2_000
    assert total.steps["b"] * 7 == 2_000
    assert sum(total.steps.values()) + total.unassigned == 4_000


# ------------------------------------------------------------------------------------------- all together


def turbulent(seed: int, bench: Bench, gateway: Gateway) -> None:
    """Sixty intervals with exchanges, held deltas, releases, crashes, losses, repeats and any order."""
    chance = random.Random(seed)
    waiting: list[Sealed] = []
    for _ in range(60):
        events = []
        if chance.random() < 0.06:
            gateway.now_ms += 1
            events.append(gateway.exchange("m1", chance.randrange(1_000)))
        waiting.append(gateway.interval(chance.randrange(2_000), events=events))
        for sealed in chance.sample(gateway.line[-8:], min(len(gateway.line), chance.randrange(4))):
            bench.send(sealed)
        if chance.random() < 0.1:
            bench.crash()
        if chance.random() < 0.1:
            bench.wait()
        for epoch, n in bench.store.rows("SELECT epoch, n FROM held WHERE state = 'held'"):
            if chance.random() < 0.2:
                assert release(bench, epoch, n) in (Release.BOOKED, Release.WAITS)
        assert queries.broken_books(bench.store) == []
    bench.send(*gateway.line)


def expected(gateway: Gateway) -> int:
    """What the deltas of the line add up to, each once."""
    deltas: dict[tuple[int, int], Delta] = {}
    for sealed in gateway.line:
        assert sealed.batch is not None
        for delta in sealed.batch.deltas:
            deltas[delta.epoch, delta.n] = delta
    return sum(delta.delta for delta in deltas.values())


def holds(delta: Delta) -> str | None:
    """An operator's rule that holds about one delta in nine."""
    return "look" if (delta.reg_end * 31 + delta.n) % 9 == 0 else None


@pytest.mark.parametrize("seed", range(15))
def test_through_turbulence_every_delta_is_booked_once(seed: int, gateway: Gateway) -> None:
    bench = Bench((gateway,), options={"quarantine": holds})
    turbulent(seed, bench, gateway)
    for epoch, n in bench.store.rows("SELECT epoch, n FROM held WHERE state = 'held' ORDER BY epoch, n"):
        assert release(bench, epoch, n) is Release.BOOKED
    assert bench.energy(gateway) == {"m1": expected(gateway)}
    assert queries.head(bench.store, *gateway.name) == gateway.head
    assert bench.alarms().keys() <= {"held"}


# ------------------------------------------------------------------------ the tests can fail: planted bugs


def fails(seed: int) -> bool:
    """Whether the turbulence finds something wrong."""
    gateway = Gateway(meters=(described("m1"),))
    try:
        test_through_turbulence_every_delta_is_booked_once(seed, gateway)
    except (AssertionError, KeyError):
        return True
    return False


def test_planted_bug_without_deduplication_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that books whatever comes, as often as it comes."""

    def book_again(self: Chains, dossier: Dossier, chain: str, seq: int) -> str | None:
        return None

    monkeypatch.setattr(Chains, "_stored_hash", book_again)
    assert any(fails(seed) for seed in range(3))


def test_planted_bug_without_the_bridge_over_a_held_delta_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that forgets what it held instead of bridging it."""

    def forget(self: Booking, dossier: Dossier, meter: str, x: Standing, to: Delta, source: Source) -> bool:
        x.booked_n, x.booked_register = to.n - 1, to.reg_start
        return True

    monkeypatch.setattr(Booking, "_bridge", forget)
    assert any(fails(seed) for seed in range(3))


def test_planted_bug_without_the_hash_check_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that looks at numbers only takes the batch of a clone that followed another one."""

    def by_number(self: Chains, dossier: Dossier, batch: Batch) -> bool:
        head = dossier.head
        return head is not None and (batch.chain, batch.seq) == (head.chain, head.seq + 1)

    monkeypatch.setattr(Chains, "_follows", by_number)
    gateway = Gateway()
    with pytest.raises((AssertionError, ValueError)):
        chains.test_fork_a_batch_that_follows_another_batch_is_not_booked(Bench((gateway,)), gateway)


def test_planted_bug_without_the_identity_check_is_stopped_by_the_table(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise I2 does not hang on one comparison: the store itself refuses the second booking."""

    def book_again(self: Booking, dossier: Dossier, delta: Delta, source: Source) -> None:
        x = dossier.meters[delta.meter]
        end = x.booked_register + delta.delta
        joined = replace(delta, reg_start=x.booked_register, reg_end=end)
        self._append(dossier, booking._span_of(joined, x.booked_position), x, source)

    monkeypatch.setattr(Booking, "_repeated", book_again)
    first = gateway.interval(1_000)
    assert first.batch is not None
    bench.send(first, gateway.say(list(first.batch.deltas)))
    assert bench.alarms() == {"invariant": 1}
    assert sum(row[4] for row in bench.booked("m1")) == 1_000
