"""The auditor's reading: a good chain verifies, and every single fault is found in the verdict it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.reporting import envelope, event
from agent.reporting.batch import Delta
from agent.reporting.chain import ChainHead
from tests.reporting.audit import KEY, PLATFORM, STRANGER, failed, minutes, opened, texts, verified
from tests.reporting.gateway import (
    CHAIN,
    MINUTE_MS,
    SECOND_CHAIN,
    START_MS,
    Gateway,
    meter_description,
    resealed,
)

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
