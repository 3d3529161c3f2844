"""The auditor's reading: a good chain verifies, and every single fault is found in the verdict it belongs to."""

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.reporting import envelope, event
from agent.reporting.batch import Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.event import Event
from agent.reporting.utc import ms_of_text, text_of_ms
from agent.reporting.verdict import FINDINGS_MAX, Report
from agent.reporting.verify import Verifier
from tests.reporting.gateway import (
    CHAIN,
    MINUTE_MS,
    SECOND_CHAIN,
    START_MS,
    Gateway,
    Register,
    meter_description,
    resealed,
)
from tests.reporting.keys import Key, Ring, ring_of_jwk

KEY, PLATFORM, NEW_KEY, STRANGER = Key(1), Key(2), Key(3), Key(4)


def verified(lines: Iterable[bytes], **options: object) -> Report:
    """Read an export with the keys of these tests."""
    options = {"keys": Ring(KEY), "ack_keys": Ring(PLATFORM), "admit": ring_of_jwk, **options}
    verifier = Verifier(**options)  # type: ignore[arg-type]
    for number, line in enumerate(lines, 1):
        verifier.feed(number, line + b"\n")
    return verifier.report()


def failed(report: Report) -> set[str]:
    """The verdicts that do not hold, quality left out."""
    return {name for name, verdict in report.verdicts.items() if not verdict.ok} - {"quality"}


def texts(report: Report, name: str) -> str:
    """What a verdict says, as one text."""
    return "\n".join(map(str, report.verdicts[name].findings))


def minutes(gateway: Gateway, count: int, rise: int = 1_000) -> Gateway:
    """Let the gateway seal some ordinary minutes."""
    for _ in range(count):
        gateway.minute({meter.meter: rise for meter in gateway.meters})
    return gateway


def opened(gateway: Gateway) -> list[Batch]:
    """The batches of an export, to be edited."""
    ring = Ring(gateway.key)
    return [
        Batch.from_payload(envelope.open_sealed(jws, envelope.BATCH, ring).payload) for jws in gateway.jws
    ]


# ---------------------------------------------------------------------------- what holds


def test_an_honest_export_holds_and_its_totals_are_the_registers_own() -> None:
    gateway = minutes(Gateway(KEY), 10)
    report = verified([*gateway.jws, gateway.acknowledgement(PLATFORM, gateway.head)])
    assert report.ok
    assert all(verdict.ok for verdict in report.verdicts.values())
    assert report.by_meter == {"m1": 10_000, "m2": 10_000}
    assert report.by_step == {"step_m1": 10_000, "step_m2": 10_000}
    assert (report.batches, report.deltas, report.unassigned) == (10, 20, Fraction(0))
    assert (report.org, report.agent, report.aud) == ("zj-meterworks", "gw01", "carbon.grid.example")
    assert report.period_ms == (START_MS, START_MS + 10 * MINUTE_MS)
    assert report.acknowledged == gateway.head
    assert [(span.chain, span.seq_first, span.seq_last) for span in report.chains] == [(CHAIN, 1, 10)]


def test_a_rollover_is_energy_and_not_a_fall() -> None:
    gateway = Gateway(KEY)
    gateway.minute({"m1": 999_999_000 - 500_000})
    gateway.minute({"m1": 5_000})
    report = verified(gateway.jws)
    assert report.ok, texts(report, "conservation")
    assert gateway.registers["m1"].value == 4_000
    assert report.by_meter == {"m1": 999_504_000}


def test_an_exchange_declares_its_hole_and_the_sums_go_on() -> None:
    gateway = minutes(Gateway(KEY), 2)
    gateway.minute({"m2": 1_000}, [gateway.exchange("m1", first=70, bound=250)])
    minutes(gateway, 2)
    report = verified(gateway.jws)
    assert report.ok, texts(report, "conservation")
    assert report.by_meter == {"m1": 4_000, "m2": 5_000}
    assert (report.holes.count, report.holes.bound_milliwh, report.holes.unbounded) == (1, 250, 0)
    assert "exchange" in texts(report, "quality")


def test_an_epoch_may_close_and_open_in_the_very_batch_of_its_deltas() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.now_ms += MINUTE_MS
    last = gateway.delta("m1", 300)
    exchanged = gateway.exchange("m1", first=0)
    gateway.now_ms += MINUTE_MS
    gateway.seal(gateway.batch([last, gateway.delta("m1", 50, "first")], [exchanged]))
    assert verified(gateway.jws).ok


def test_a_meter_exchanged_before_its_first_delta() -> None:
    gateway = Gateway(KEY)
    gateway.minute({}, [gateway.exchange("m1", first=5)])
    minutes(gateway, 1)
    assert verified(gateway.jws).ok


def test_a_successor_chain_continues_epochs() -> None:
    gateway = minutes(Gateway(KEY), 3)
    gateway.chain = SECOND_CHAIN
    gateway.minute({"m1": 1, "m2": 2}, [event.restart_event(gateway.now_ms, reason="restore")])
    minutes(gateway, 2)
    report = verified(gateway.jws)
    assert report.ok, texts(report, "chain")
    assert [(span.chain, span.seq_first, span.seq_last) for span in report.chains] == [
        (CHAIN, 1, 3),
        (SECOND_CHAIN, 1, 3),
    ]


def test_repeats_are_counted_and_ignored() -> None:
    gateway = minutes(Gateway(KEY), 4)
    report = verified([*gateway.jws, *gateway.jws, *gateway.jws[1:3]])
    assert report.ok
    assert (report.batches, report.duplicates, report.deltas) == (4, 6, 8)
    assert report.by_meter == {"m1": 4_000, "m2": 4_000}


def test_a_flipped_last_signature_character_is_a_repeat_and_no_fork() -> None:
    gateway = minutes(Gateway(KEY), 2)
    last = gateway.jws[1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = last[:-1] + alphabet[alphabet.index(chr(last[-1])) ^ 1].encode()
    assert twin != last
    report = verified([*gateway.jws, twin])
    assert report.ok
    assert report.duplicates == 1


def test_descriptors_and_acknowledgements_may_stand_anywhere() -> None:
    gateway = minutes(Gateway(KEY), 3)
    first = ChainHead(CHAIN, 1, envelope.signing_input_hash(gateway.jws[0]))
    early, late = (
        gateway.acknowledgement(PLATFORM, head, no) for no, head in ((2, gateway.head), (1, first))
    )
    for lines in (
        [gateway.descriptor, early, *gateway.jws, late],
        [late, gateway.jws[0], gateway.descriptor, b"", *gateway.jws[1:], early],
    ):
        report = verified(lines)
        assert report.ok, texts(report, "chain")
        assert (report.acknowledgements, report.descriptors) == (2, 1)
        assert report.acknowledged == gateway.head


def test_a_descriptor_may_come_in_parts_over_several_batches_before_its_first_delta() -> None:
    gateway = Gateway(KEY)
    pieces = gateway.carried(300)
    assert len(pieces) > 3
    for piece in pieces:
        gateway.seal(gateway.batch([], [piece]))
    gateway.minute({"m1": 5})
    report = verified(gateway.jws)
    assert report.ok, texts(report, "chain")
    assert report.by_step == {"step_m1": 5}


def test_a_map_change_moves_energy_to_another_step_from_there_on() -> None:
    gateway = Gateway(KEY, (meter_description("m1", steps=(("a", 1, 1),)),))
    gateway.minute({"m1": 10})
    carried = gateway.describe(meter_description("m1", steps=(("b", 2, 3),)))
    gateway.minute({"m1": 10}, carried)
    report = verified(gateway.jws)
    assert report.ok, texts(report, "chain")
    assert report.by_step == {"a": 10, "b": Fraction(20, 3)}
    assert report.unassigned == Fraction(10, 3)


# ---------------------------------------------------------------------------- every single fault, in its verdict


@dataclass(frozen=True)
class Sabotage:
    """One change to an honest export, and the verdicts that have to fail; `allowed` may fail as a consequence."""

    change: Callable[[Gateway, int], list[bytes]]
    fails: frozenset[str]
    allowed: frozenset[str] = frozenset()


def _edit(gateway: Gateway, index: int, change: Callable[[Delta], Delta]) -> list[bytes]:
    """Edit the first delta of a batch and seal everything anew, as a thief of the key would."""
    batches = opened(gateway)
    first, *rest = batches[index].deltas
    batches[index] = replace(batches[index], deltas=(change(first), *rest))
    return resealed(batches, KEY)


def _edited_bytes(gateway: Gateway, index: int) -> list[bytes]:
    """Edit the payload and leave the signature."""
    head, payload, signature = gateway.jws[index].decode().split(".")
    text = envelope.base64url_decode(payload).replace(b'"delta":1000', b'"delta":1001')
    lines = list(gateway.jws)
    lines[index] = f"{head}.{envelope.base64url(text)}.{signature}".encode()
    return lines


def _unlinked(gateway: Gateway, index: int) -> list[bytes]:
    """Seal one edited batch anew and leave the ones after it."""
    batch = opened(gateway)[index]
    changed = envelope.seal(envelope.BATCH, replace(batch, iat_ms=batch.iat_ms + 1).to_payload(), KEY)
    return [*gateway.jws[:index], changed, *gateway.jws[index + 1 :]]


def _swapped(gateway: Gateway, index: int) -> list[bytes]:
    lines = list(gateway.jws)
    lines[index], lines[index + 1] = lines[index + 1], lines[index]
    return lines


def _by_stranger(gateway: Gateway, index: int) -> list[bytes]:
    lines = list(gateway.jws)
    lines[index] = envelope.seal(envelope.BATCH, opened(gateway)[index].to_payload(), STRANGER)
    return lines


CONSERVATION, CHAIN_ONLY, SIGNATURE = (
    frozenset({"conservation"}),
    frozenset({"chain"}),
    frozenset({"signature"}),
)

SABOTAGE = {
    "register edited": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, reg_end=d.reg_end + 1)), CONSERVATION
    ),
    "delta edited": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, delta=d.delta + 1)), CONSERVATION
    ),
    "delta and register edited together": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, delta=d.delta + 1, reg_end=d.reg_end + 1)),
        CONSERVATION,
    ),
    "rollover invented": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, delta=d.delta + 7, roll=7)), CONSERVATION
    ),
    "n changed": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, n=d.n + 1)), CONSERVATION
    ),
    "n repeated": Sabotage(
        lambda gateway, i: _edit(gateway, i + 1, lambda d: replace(d, n=d.n - 1)), CONSERVATION
    ),
    "epoch changed": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, epoch=d.epoch + 1)), CONSERVATION
    ),
    "start moved": Sabotage(
        lambda gateway, i: _edit(gateway, i + 1, lambda d: replace(d, start_ms=d.start_ms + 1)), CONSERVATION
    ),
    "step changed": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, step="another")), CONSERVATION
    ),
    "meter unknown": Sabotage(
        lambda gateway, i: _edit(gateway, i, lambda d: replace(d, meter="m9")), CONSERVATION
    ),
    "batch dropped": Sabotage(
        lambda gateway, i: gateway.jws[:i] + gateway.jws[i + 1 :], CHAIN_ONLY, CONSERVATION
    ),
    "batches swapped": Sabotage(_swapped, CHAIN_ONLY, CONSERVATION),
    "batch sealed anew": Sabotage(_unlinked, CHAIN_ONLY),
    "bytes edited": Sabotage(_edited_bytes, SIGNATURE, CHAIN_ONLY | CONSERVATION),
    "signed by a stranger": Sabotage(_by_stranger, SIGNATURE, CHAIN_ONLY | CONSERVATION),
    "line damaged": Sabotage(
        lambda gateway, i: [*gateway.jws[:i], gateway.jws[i][:100], *gateway.jws[i + 1 :]],
        SIGNATURE,
        CHAIN_ONLY | CONSERVATION,
    ),
}

MAP = tuple(meter_description(f"m{number}", modulus=40_000) for number in range(1, 4))


@st.composite
def factories(draw: st.DrawFn) -> Gateway:
    """A gateway after a random life: rollovers, silent meters, exchanges, restarts."""
    gateway = Gateway(KEY, MAP)
    for register in ("m1", "m2", "m3"):
        gateway.delta(register, 0)
    gateway.registers.clear()
    for meter in ("m1", "m2", "m3"):
        gateway.exchange(meter, first=draw(st.integers(0, 39_999)))
        gateway.registers[meter].epoch = 1
    for _ in range(draw(st.integers(5, 12))):
        if gateway.head is not None and gateway.chain == CHAIN and draw(st.integers(0, 9)) == 0:
            gateway.chain = SECOND_CHAIN
        events = [gateway.exchange("m2", first=draw(st.integers(0, 39_999)))] if draw(st.booleans()) else []
        silent = draw(st.sets(st.sampled_from(["m2", "m3"])))
        gateway.minute({meter: 1_000 for meter in ("m1", "m2", "m3") if meter not in silent}, events)
    return gateway


@given(factories())
@settings(max_examples=60)
def test_every_honest_life_verifies_and_sums_to_the_registers(gateway: Gateway) -> None:
    report = verified([*gateway.jws, gateway.acknowledgement(PLATFORM, gateway.head)])
    assert report.ok, report.verdicts
    totals: dict[str, int] = {}
    for batch in opened(gateway):
        for delta in batch.deltas:
            totals[delta.meter] = totals.get(delta.meter, 0) + delta.delta
    assert report.by_meter == totals
    assert sum(report.by_step.values()) + report.unassigned == sum(totals.values())


@pytest.mark.fault("F84")
@pytest.mark.parametrize("name", SABOTAGE)
@given(gateway=factories(), data=st.data())
@settings(max_examples=25)
def test_any_single_fault_is_found_in_its_verdict(name: str, gateway: Gateway, data: st.DataObject) -> None:
    sabotage = SABOTAGE[name]
    # Neither the first nor the last two batches: what is cut off at the ends has its own tests.
    index = data.draw(st.integers(1, len(gateway.jws) - 3))
    report = verified(sabotage.change(gateway, index))
    assert not report.ok
    assert sabotage.fails <= failed(report) <= sabotage.fails | sabotage.allowed


# ---------------------------------------------------------------------------- chain


def test_a_file_without_any_batch_does_not_verify() -> None:
    gateway = Gateway(KEY)
    for lines in ([], [b""], [gateway.descriptor], [gateway.acknowledgement(PLATFORM, None)]):
        report = verified(lines)
        assert failed(report) == {"chain"}
        assert "no batch" in texts(report, "chain")


def test_a_forked_batch_is_named_and_not_counted() -> None:
    gateway = minutes(Gateway(KEY), 3)
    twin = replace(opened(gateway)[2], iat_ms=START_MS)
    fork = envelope.seal(envelope.BATCH, twin.to_payload(), KEY)
    report = verified([*gateway.jws, fork])
    assert failed(report) == {"chain"}
    assert "fork" in texts(report, "chain")
    assert report.by_meter == {"m1": 3_000, "m2": 3_000}


def test_a_cut_end_is_visible_from_a_later_acknowledgement() -> None:
    gateway = minutes(Gateway(KEY), 4)
    acknowledged = gateway.acknowledgement(PLATFORM, gateway.head)
    assert verified(gateway.jws[:3]).ok, "without an acknowledgement nobody can know"
    for lines in ([acknowledged, *gateway.jws[:3]], [*gateway.jws[:3], acknowledged]):
        report = verified(lines)
        assert failed(report) == {"chain"}
        assert "was acknowledged by the platform and is not in the file" in texts(report, "chain")


def test_a_cut_beginning_is_found_unless_an_acknowledgement_proves_it_or_a_person_declares_it() -> None:
    gateway = minutes(Gateway(KEY), 5)
    rest = gateway.jws[2:]
    given_map = {"descriptors": [gateway.descriptor]}
    before = ChainHead(CHAIN, 2, envelope.signing_input_hash(gateway.jws[1]))
    proof = gateway.acknowledgement(PLATFORM, before)
    wrong = gateway.acknowledgement(PLATFORM, replace(before, hash="x" * 43))

    assert failed(verified(rest, **given_map)) == {"chain"}
    assert "begins here" in texts(verified(rest, **given_map), "chain")
    assert failed(verified([wrong, *rest], **given_map)) == {"chain"}
    assert failed(verified([proof, *rest], **given_map, ack_keys=None)) == {"chain"}
    for lines in ([proof, *rest], [*rest, proof]):
        report = verified(lines, **given_map)
        assert report.ok, texts(report, "chain")
    assert verified(rest, **given_map, excerpt=True).ok


def test_a_later_chain_alone_needs_the_head_that_it_follows() -> None:
    gateway = minutes(Gateway(KEY), 2)
    proof = gateway.acknowledgement(PLATFORM, gateway.head)
    gateway.chain = SECOND_CHAIN
    minutes(gateway, 2)
    assert failed(verified(gateway.jws[2:])) == {"chain"}
    assert verified([proof, *gateway.jws[2:]]).ok


def test_a_chain_that_does_not_follow_the_one_before_it() -> None:
    gateway = minutes(Gateway(KEY), 3)
    gateway.chain, gateway.head = (
        SECOND_CHAIN,
        ChainHead(CHAIN, 2, envelope.signing_input_hash(gateway.jws[1])),
    )
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "prev_chain" in texts(report, "chain")


def test_a_closed_chain_cannot_go_on() -> None:
    gateway = minutes(Gateway(KEY), 3)
    third = gateway.jws.pop()
    gateway.head = ChainHead(CHAIN, 2, envelope.signing_input_hash(gateway.jws[1]))
    gateway.chain = SECOND_CHAIN
    gateway.minute({})
    report = verified([*gateway.jws, third])
    assert failed(report) == {"chain"}
    assert "not counted" in texts(report, "chain")
    assert report.by_meter == {"m1": 2_000, "m2": 2_000}


def test_a_first_batch_is_tied_to_a_descriptor_that_it_carries() -> None:
    gateway = Gateway(KEY)
    gateway.seal(replace(gateway.batch([], gateway.carried()), prev="x" * 43))
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "prev is not the hash of a descriptor" in texts(report, "chain")


def test_a_delta_under_a_descriptor_that_nobody_has_seen() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.describe(meter_description("m1"), meter_description("m2", serial="other"))
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "is not in the file" in texts(report, "chain")
    assert report.by_step == {"step_m1": 2_000, "step_m2": 2_000}, "the delta's own step stands in"


def test_parts_that_never_come_together() -> None:
    gateway = Gateway(KEY)
    gateway.seal(gateway.batch([], gateway.carried(300)[:-1]))
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "parts of it are missing" in texts(report, "chain")


def test_a_carried_descriptor_signed_by_a_stranger() -> None:
    gateway, other = Gateway(KEY), Gateway(STRANGER)
    gateway.descriptor, gateway.cfg = other.descriptor, other.cfg
    gateway.minute({})
    assert failed(verified(gateway.jws)) == {"signature"}


def test_revisions_rise_within_a_chain() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.rev = 0
    gateway.minute({}, gateway.describe(meter_description("m1", serial="x")))
    report = verified(gateway.jws)
    assert failed(report) == {"chain"}
    assert "revision 1 after revision 1" in texts(report, "chain")


def test_a_validly_signed_batch_that_cannot_be_parsed_is_named_and_its_successor_has_a_hole_before_it() -> (
    None
):
    gateway = minutes(Gateway(KEY), 2)
    payload = opened(gateway)[1].to_payload()
    payload["seq"] = "two"
    odd = envelope.seal(envelope.BATCH, payload, KEY)
    report = verified([gateway.jws[0], odd])
    assert failed(report) == {"chain"}
    assert "$.seq: must be an integer; not placed" in texts(report, "chain")


@pytest.mark.parametrize("change", [{"org": "other"}, {"agent": "gw02"}, {"aud": "elsewhere"}])
def test_a_batch_of_another_gateway_or_for_another_platform_does_not_belong(change: dict[str, str]) -> None:
    gateway = minutes(Gateway(KEY), 2)
    batch = replace(opened(gateway)[1], **change)  # type: ignore[arg-type]
    report = verified([gateway.jws[0], envelope.seal(envelope.BATCH, batch.to_payload(), KEY)])
    assert failed(report) == {"chain"}
    assert "belongs to" in texts(report, "chain")


def test_an_acknowledgement_that_names_another_hash() -> None:
    gateway = minutes(Gateway(KEY), 3)
    for seq in (2, 3):
        lie = gateway.acknowledgement(PLATFORM, ChainHead(CHAIN, seq, "x" * 43))
        for lines in ([lie, *gateway.jws], [*gateway.jws, lie]):
            report = verified(lines)
            assert failed(report) == {"chain"}
            assert "another hash" in texts(report, "chain")


def test_a_repeat_older_than_the_memory_is_said_to_be_out_of_place() -> None:
    gateway = minutes(Gateway(KEY), 6)
    report = verified([*gateway.jws, gateway.jws[0]], window=3)
    assert failed(report) == {"chain"}
    assert report.by_meter == {"m1": 6_000, "m2": 6_000}


# ---------------------------------------------------------------------------- conservation


def with_balance(gateway: Gateway, **changes: int) -> list[bytes]:
    """Three minutes, then a balance of the last two."""
    minutes(gateway, 3)
    members = {
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


# ---------------------------------------------------------------------------- signatures and keys


def test_without_the_platform_key_acknowledgements_are_counted_and_not_believed() -> None:
    gateway = minutes(Gateway(KEY), 2)
    report = verified([*gateway.jws, gateway.acknowledgement(PLATFORM, gateway.head)], ack_keys=None)
    assert report.ok
    assert (report.acknowledgements, report.acknowledgements_unchecked, report.acknowledged) == (0, 1, None)


def test_an_acknowledgement_signed_by_the_agent_itself() -> None:
    gateway = minutes(Gateway(KEY), 2)
    report = verified([*gateway.jws, gateway.acknowledgement(KEY, gateway.head)])
    assert failed(report) == {"signature"}


def test_an_acknowledgement_cannot_stand_in_for_a_batch_nor_a_descriptor_given() -> None:
    gateway = minutes(Gateway(KEY), 1)
    report = verified(gateway.jws, descriptors=[gateway.jws[0]])
    assert failed(report) == {"signature"}


@pytest.mark.parametrize("line", [b"hello", b"{}", b"a.b.c", b"\xff\xfe", b"A" * 300_000, b"eyJ9.e30.AA"])
def test_a_line_that_is_no_message_is_a_finding(line: bytes) -> None:
    gateway = minutes(Gateway(KEY), 2)
    report = verified([gateway.jws[0], line, gateway.jws[1]])
    assert failed(report) == {"signature"}
    assert report.signature.findings[0].line == 2


def rotation(gateway: Gateway, new: Key, signer: Key | None = None, **changes: object) -> Event:
    """The event that ends the gateway's key."""
    payload = {
        "v": "1.0",
        "org": gateway.org,
        "agent": gateway.agent,
        "jwk": new.jwk,
        "at": text_of_ms(START_MS),
        "sw": "1.0.0",
        **changes,
    }
    proof = envelope.seal(envelope.ENROLMENT, payload, signer or new)
    return event.key_rotate_event(gateway.now_ms, jwk=new.jwk, proof=proof)


def test_after_a_proved_rotation_the_new_key_signs_and_the_old_one_is_over() -> None:
    gateway = minutes(Gateway(KEY), 2)
    gateway.minute({"m1": 1}, [rotation(gateway, NEW_KEY)])
    gateway.key = NEW_KEY
    minutes(gateway, 2)
    report = verified([*gateway.jws, gateway.jws[0]])
    assert report.ok, texts(report, "signature")
    assert report.duplicates == 1

    gateway.key = KEY
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert "signature" in failed(report)
    assert f"ended with chain {CHAIN}, seq 3" in texts(report, "signature")


def test_before_its_rotation_the_new_key_is_unknown() -> None:
    gateway = minutes(Gateway(KEY), 2)
    gateway.key = NEW_KEY
    minutes(gateway, 1)
    assert "signature" in failed(verified(gateway.jws))


@pytest.mark.parametrize(
    ("signer", "changes"),
    [
        (KEY, {}),
        (STRANGER, {}),
        (None, {"agent": "gw02"}),
        (None, {"jwk": STRANGER.jwk}),
        (None, {"jwk": None}),
    ],
)
def test_a_rotation_without_proof_brings_no_key_in(signer: Key | None, changes: dict[str, object]) -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({}, [rotation(gateway, NEW_KEY, signer, **changes)])
    gateway.key = NEW_KEY
    minutes(gateway, 1)
    report = verified(gateway.jws)
    assert "signature" in failed(report)
    assert "not proved" in texts(report, "signature")
    assert report.batches == 2


def test_a_rotation_without_proof_ends_no_key_either() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({"m1": 1}, [rotation(gateway, NEW_KEY, STRANGER)])
    minutes(gateway, 2)
    report = verified(gateway.jws)
    assert failed(report) == {"signature"}
    assert (report.signature.count, report.batches) == (1, 4)


def test_a_rotation_that_nobody_can_check_is_said_so() -> None:
    gateway = minutes(Gateway(KEY), 1)
    gateway.minute({}, [rotation(gateway, NEW_KEY)])
    report = verified(gateway.jws, admit=None)
    assert failed(report) == {"signature"}


# ---------------------------------------------------------------------------- bounded


def test_findings_are_capped_and_counted() -> None:
    report = verified([b"rubbish"] * 1_000)
    assert (len(report.signature.findings), report.signature.count) == (FINDINGS_MAX, 1_000)


def test_a_report_may_be_asked_for_at_any_time() -> None:
    gateway = minutes(Gateway(KEY), 3)
    verifier = Verifier(Ring(KEY))
    assert not verifier.report().ok
    for number, line in enumerate(gateway.jws, 1):
        verifier.feed(number, line)
        assert verifier.report().ok
        assert verifier.report() == verifier.report()


def test_memory_does_not_grow_with_the_number_of_batches() -> None:
    gateway = minutes(Gateway(KEY, (meter_description("m1"),)), 1_200)
    verifier = Verifier(Ring(KEY), window=100)
    ms_of_text.cache_clear()  # what other tests left there would be replaced, and counted as new
    tracemalloc.start()
    try:
        held = []
        for number, line in enumerate(gateway.jws, 1):
            verifier.feed(number, line)
            if number in (600, 1_200):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert verifier.report().batches == 1_200
    # 600 batches more are 700 kB of JWS, and their hashes alone would be 55 kB.
    # The interpreter itself gains and loses up to 20 kB in between.
    assert held[1] - held[0] < 35_000
