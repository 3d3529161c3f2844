"""Every message reads back as it was written, through the bytes, and refuses what the wire format does not allow."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.quantity import EXACT_MAX
from agent.reporting import event, strictjson
from agent.reporting.acknowledgement import Acknowledgement, MeterHead
from agent.reporting.batch import ENERGY_UNIT, Batch, Clock, Delta, broken_rules
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor, MeterDescription
from agent.reporting.event import KNOWN_TYPES, Event
from agent.reporting.status import Backlog, Status
from agent.reporting.wire import WireError
from tests.reporting import strategies
from tests.reporting.gateway import CHAIN, SECOND_CHAIN, START_MS, meter_description

MEGABYTE = 1_000_000
HASH = "H" * 43


def through_bytes(payload: dict[str, object]) -> dict[str, object]:
    """As it arrives at the other side."""
    return strictjson.loads(strictjson.dumps(payload), size_max=MEGABYTE)


@given(strategies.deltas)
def test_deltas_read_back(delta: Delta) -> None:
    assert Delta.from_payload(through_bytes(delta.to_payload())) == delta


@given(strategies.events)
def test_events_read_back(happened: Event) -> None:
    assert Event.from_payload(through_bytes(happened.to_payload())) == happened


@given(strategies.batches)
def test_batches_read_back(batch: Batch) -> None:
    assert Batch.from_payload(through_bytes(batch.to_payload())) == batch


@given(strategies.descriptors)
def test_descriptors_read_back(descriptor: Descriptor) -> None:
    assert Descriptor.from_payload(through_bytes(descriptor.to_payload())) == descriptor


@given(strategies.acknowledgements)
def test_acknowledgements_read_back(acknowledgement: Acknowledgement) -> None:
    assert Acknowledgement.from_payload(through_bytes(acknowledgement.to_payload())) == acknowledgement


@given(strategies.statuses)
def test_statuses_read_back(status: Status) -> None:
    assert Status.from_payload(through_bytes(status.to_payload())) == status


@given(strategies.batches, st.dictionaries(st.text("xyz_", min_size=3), st.integers(0, 9), max_size=3))
def test_unknown_members_are_ignored_because_minor_versions_add_some(
    batch: Batch, more: dict[str, int]
) -> None:
    payload = {**more, **batch.to_payload(), "v": "1.7"}
    payload["deltas"] = [{**delta.to_payload(), **more} for delta in batch.deltas]
    assert Batch.from_payload(through_bytes(payload)) == batch


# ---------------------------------------------------------------------------- batches

DELTA = Delta(
    "reflow-1", "reflow_soldering", 1, 4, START_MS, START_MS + 60_000, 100, 350, 250, None, ("gap", "late")
)
FIRST = Batch(
    "zj",
    "gw01",
    "carbon.grid.example",
    CHAIN,
    1,
    HASH,
    None,
    START_MS,
    Clock("S", 5),
    "1.0.0",
    HASH,
    (DELTA,),
    (),
)


def test_a_batch_is_written_in_the_order_of_the_wire_format() -> None:
    payload = FIRST.to_payload()
    assert " ".join(payload) == (
        "v org agent aud chain seq prev prev_chain iat clock sw cfg energy_unit deltas events"
    )
    assert payload["prev_chain"] is None
    assert payload["iat"] == "2025-10-09T08:53:20.000Z"
    assert payload["energy_unit"] == "0.001Wh"
    later = replace(
        FIRST,
        seq=2,
        records=({"kind": "fuel", "key": "k", "rev": 1, "source": "s", "at": "t", "fields": {}},),
    )
    assert "prev_chain" not in later.to_payload()
    assert list(later.to_payload())[-1] == "records"
    assert Batch.from_payload(through_bytes(later.to_payload())) == later


def test_a_delta_says_step_and_roll_only_where_there_is_one() -> None:
    assert " ".join(DELTA.to_payload()) == "meter step epoch n start end reg_start reg_end delta q"
    rolled = replace(DELTA, step=None, roll=9)
    assert " ".join(rolled.to_payload()) == "meter epoch n start end reg_start reg_end delta roll q"


Change = Callable[[Any], None]


def changed(change: Change) -> dict[str, object]:
    """The payload of a good batch with one change."""
    payload = json.loads(strictjson.dumps(FIRST.to_payload()))
    change(payload)
    assert isinstance(payload, dict)
    return payload


def put(*path: Any, value: Any) -> Change:
    """Set one member, deep in a payload."""

    def change(payload: Any) -> None:
        for name in path[:-1]:
            payload = payload[name]
        payload[path[-1]] = value

    return change


def drop(*path: Any) -> Change:
    """Remove one member."""

    def change(payload: Any) -> None:
        for name in path[:-1]:
            payload = payload[name]
        del payload[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (put("v", value="2.0"), "$.v"),
        (put("v", value="1"), "$.v"),
        (put("v", value=1), "$.v"),
        (drop("org"), "$.org"),
        (put("org", value="a/b"), "$.org"),
        (put("agent", value="x" * 33), "$.agent"),
        (put("agent", value=""), "$.agent"),
        (put("aud", value=None), "$.aud"),
        (put("chain", value="01jcha1n0000000000000000a1"), "$.chain"),
        (put("chain", value="81JCHA1N0000000000000000A1"), "$.chain"),
        (put("seq", value=0), "$.seq"),
        (put("seq", value=True), "$.seq"),
        (put("seq", value="1"), "$.seq"),
        (put("seq", value=2), "$.prev_chain"),
        (drop("prev_chain"), "$.prev_chain"),
        (put("prev_chain", value={"chain": CHAIN, "seq": 0, "hash": HASH}), "$.prev_chain.seq"),
        (put("prev", value="H" * 42), "$.prev"),
        (put("iat", value="2025-10-09T08:53:20Z"), "$.iat"),
        (put("clock", "sync", value="X"), "$.clock.sync"),
        (put("clock", value=[]), "$.clock"),
        (put("energy_unit", value="Wh"), "$.energy_unit"),
        (put("deltas", value={}), "$.deltas"),
        (put("deltas", 0, value=None), "$.deltas[0]"),
        (put("deltas", 0, "meter", value="m 1"), "$.deltas[0].meter"),
        (put("deltas", 0, "n", value=0), "$.deltas[0].n"),
        (put("deltas", 0, "epoch", value=0), "$.deltas[0].epoch"),
        (put("deltas", 0, "delta", value=-1), "$.deltas[0].delta"),
        (put("deltas", 0, "delta", value=EXACT_MAX + 1), "$.deltas[0].delta"),
        (put("deltas", 0, "reg_end", value=None), "$.deltas[0].reg_end"),
        (put("deltas", 0, "roll", value=None), "$.deltas[0].roll"),
        (put("deltas", 0, "step", value=None), "$.deltas[0].step"),
        (put("deltas", 0, "q", value=["late", "gap"]), "$.deltas[0].q"),
        (put("deltas", 0, "q", value=["gap", "gap"]), "$.deltas[0].q"),
        (put("deltas", 0, "q", value="gap"), "$.deltas[0].q"),
        (drop("deltas", 0, "q"), "$.deltas[0].q"),
        (drop("events"), "$.events"),
        (put("events", value=[{"type": "restart"}]), "$.events[0].at"),
        (put("records", value=[{"kind": "rumour"}]), "$.records[0].kind"),
    ],
)
def test_a_batch_with_one_wrong_member_is_refused_with_its_path(change: Change, path: str) -> None:
    with pytest.raises(WireError) as caught:
        Batch.from_payload(changed(change))
    assert caught.value.path == path


def test_the_energy_unit_can_never_be_another() -> None:
    assert ENERGY_UNIT == "0.001Wh"


@pytest.mark.parametrize(
    ("delta", "modulus", "words"),
    [
        (DELTA, None, []),
        (replace(DELTA, reg_start=900, reg_end=50, delta=150, roll=1_000), 1_000, []),
        (replace(DELTA, delta=251), 1_000, ["251 is not reg_end 350 - reg_start 100"]),
        (replace(DELTA, reg_start=900, reg_end=50, delta=150, roll=1_000), 2_000, ["the modulus is 2000"]),
        (replace(DELTA, reg_start=900, reg_end=50, delta=150, roll=1_000), None, ["no modulus is known"]),
        (replace(DELTA, reg_start=400, reg_end=350, delta=-50), None, ["-50 is negative"]),
        (replace(DELTA, delta=1_250), 1_000, ["is not reg_end"]),
        (replace(DELTA, roll=7), 1_000, ["is not reg_end", "roll is 7"]),
    ],
)
def test_rule_v1_for_a_delta_by_itself(delta: Delta, modulus: int | None, words: list[str]) -> None:
    broken = broken_rules(delta, modulus)
    assert len(broken) == len(words)
    assert all(word in text for word, text in zip(words, broken, strict=True))


# ---------------------------------------------------------------------------- events


def test_every_type_of_the_wire_format_is_known() -> None:
    assert {
        "epoch",
        "descriptor",
        "balance",
        "clock",
        "gap",
        "refused",
        "key-rotate",
        "restart",
        "continuation",
        "adjust",
        "witness",
        "manual",
    } == KNOWN_TYPES


def test_an_unknown_type_is_kept_as_it_is() -> None:
    payload: dict[str, object] = {
        "type": "eclipse",
        "at": "2026-08-12T17:45:00.000Z",
        "where": ["Spain"],
        "n": 1,
    }
    happened = Event.from_payload(payload)
    assert happened.to_payload() == payload


EVENTS = {
    "epoch": event.epoch_event(
        START_MS,
        meter="m1",
        epoch_from=1,
        epoch_to=2,
        last=5,
        first=0,
        serial_from=None,
        serial_to="7",
        reason="exchange",
        unmetered_from_ms=START_MS,
        unmetered_to_ms=START_MS,
        bound=None,
        by="agent",
    ),
    "descriptor": event.descriptor_event(START_MS, rev=1, hash=HASH, part=1, parts=1, text="x"),
    "balance": event.balance_event(
        START_MS, meter="m1", epoch=1, n_first=1, n_last=2, reg_first=0, reg_last=5, sum_milliwh=5, roll=0
    ),
    "clock": event.clock_event(
        START_MS, boot="b", seq_from=1, seq_to=2, offset_ms=-5, err_ms=1, state_from="U", state_to="S"
    ),
    "gap": event.gap_event(START_MS, meter="m1", from_ms=START_MS, to_ms=START_MS, reason="silent"),
    "refused": event.refused_event(START_MS, meter="m1", register="energy_import", reason="fell", count=1),
    "key-rotate": event.key_rotate_event(
        START_MS, jwk={"kty": "OKP", "crv": "Ed25519", "x": "A"}, proof=b"a.b.c"
    ),
    "restart": event.restart_event(START_MS, reason="power cut"),
    "continuation": event.continuation_event(START_MS, meter_from="m1", meter_to="m2", serial="7"),
    "adjust": event.adjust_event(
        START_MS, meter="m1", epoch=1, n_from=1, n_to=2, reason="r", evidence="e", by="b", factor=(3, 4)
    ),
    "witness": event.witness_event(
        START_MS, meter="m1", display_kwh="12.50", register="energy_import", by="b"
    ),
    "manual": event.manual_event(START_MS, meter="m1", n=1, text="t", by="b"),
}


def test_there_is_a_constructor_for_every_type() -> None:
    assert {made.type for made in EVENTS.values()} == set(EVENTS) == KNOWN_TYPES


@pytest.mark.parametrize("type_", sorted(KNOWN_TYPES))
def test_no_member_of_a_known_type_can_be_left_out_or_be_of_another_type(type_: str) -> None:
    payload = EVENTS[type_].to_payload()
    for name in EVENTS[type_].body:
        without = {other: value for other, value in payload.items() if other != name}
        with pytest.raises(WireError):
            Event.from_payload(without)
        with pytest.raises(WireError):
            Event.from_payload({**payload, name: ["wrong"]})


@pytest.mark.parametrize(
    ("type_", "change", "path"),
    [
        ("epoch", {"reason": "boredom"}, "$.reason"),
        ("epoch", {"epoch_from": 0}, "$.epoch_from"),
        ("epoch", {"bound": -1}, "$.bound"),
        ("clock", {"state_to": "Q"}, "$.state_to"),
        ("witness", {"display_kwh": "1e3"}, "$.display_kwh"),
        ("witness", {"display_kwh": 12}, "$.display_kwh"),
        ("key-rotate", {"jwk": {"kty": "OKP", "d": "secret"}}, "$.jwk.d"),
        ("key-rotate", {"jwk": {"kty": "oct"}}, "$.jwk.kty"),
        ("adjust", {"energy": 5, "bound": 1}, "$"),
        ("adjust", {"den": 0}, "$.den"),
    ],
)
def test_values_that_no_event_can_have(type_: str, change: dict[str, object], path: str) -> None:
    with pytest.raises(WireError) as caught:
        Event.from_payload({**EVENTS[type_].to_payload(), **change})
    assert caught.value.path == path


def test_a_constructor_refuses_what_a_reader_would_refuse() -> None:
    with pytest.raises(WireError):
        event.refused_event(START_MS, meter="m/1", register="energy_import", reason="fell", count=1)
    with pytest.raises(WireError):
        event.descriptor_event(START_MS, rev=1, hash=HASH, part=3, parts=2, text="x")


# ---------------------------------------------------------------------------- acknowledgement, status, descriptor


def test_an_acknowledgement_of_nothing_says_null_three_times() -> None:
    payload = Acknowledgement("zj", "gw01", 1, 2, None, START_MS).to_payload()
    assert [payload[name] for name in ("chain", "acked_seq", "acked_hash")] == [None, None, None]
    assert "heads" not in payload
    assert "rev" not in payload
    with pytest.raises(WireError):
        Acknowledgement.from_payload({**payload, "chain": CHAIN})


def test_acknowledgements_are_ordered_by_generation_first() -> None:
    older = Acknowledgement("zj", "gw01", 1, 99, None, START_MS)
    assert replace(older, gen=2, ack_no=1).order > older.order


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"need": [[2, 1]]}, "$.need[0]"),
        ({"need": [[1]]}, "$.need[0]"),
        ({"need": [[1, 2]] * 33}, "$.need"),
        ({"held": [["m1", 1]]}, "$.held[0]"),
        ({"held": [["m/1", 1, 1]]}, "$.held[0]"),
        ({"refused": ["short"]}, "$.refused[0]"),
        ({"heads": {"m/1": {}}}, "$.heads.m/1"),
        ({"heads": {"m1": {}}}, "$.heads.m1.epoch"),
        ({"acked_seq": 0}, "$.acked_seq"),
    ],
)
def test_an_acknowledgement_with_one_wrong_member_is_refused(change: dict[str, object], path: str) -> None:
    good = Acknowledgement("zj", "gw01", 1, 2, ChainHead(SECOND_CHAIN, 7, HASH), START_MS).to_payload()
    with pytest.raises(WireError) as caught:
        Acknowledgement.from_payload({**good, **change})
    assert caught.value.path == path


def test_a_meter_head_may_be_of_an_epoch_without_a_delta() -> None:
    head = MeterHead(2, 0, 500, START_MS, 10, 1, None, None)
    assert MeterHead.from_payload(through_bytes(head.to_payload())) == head
    assert "q" not in head.to_payload()


@pytest.mark.parametrize("flags", [(), ("clock",), ("clock", "something-new")])
def test_a_meter_head_may_say_what_its_time_is_worth(flags: tuple[str, ...]) -> None:
    head = MeterHead(2, 0, 500, START_MS, 10, 1, None, None, flags)
    assert MeterHead.from_payload(through_bytes(head.to_payload())) == head


def test_a_status_before_the_first_batch() -> None:
    status = Status(
        "zj",
        "gw01",
        START_MS,
        "online",
        "5e55",
        "1.0.0",
        HASH,
        None,
        None,
        None,
        None,
        Backlog(0, 0, None),
        Clock("U", 0),
        "platform",
        False,
    )
    payload = through_bytes(status.to_payload())
    assert (payload["head"], payload["oldest"], payload["chain"], "heads" in payload) == (
        None,
        None,
        None,
        False,
    )
    assert Status.from_payload(payload) == status


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": [{"step": "a", "num": 2, "den": 3}, {"step": "b", "num": 1, "den": 2}]}, "more than 1"),
        ({"steps": [{"step": "a", "num": 1, "den": 3}, {"step": "a", "num": 1, "den": 3}]}, "twice"),
        ({"steps": [{"step": "a", "num": 0, "den": 3}]}, "not in"),
        ({"den": 0}, "not in"),
        ({"role": "king"}, "none of"),
        ({"parent": "a/b/c"}, "parent"),
    ],
)
def test_a_meter_description_that_gives_away_too_much_or_makes_no_sense(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(WireError, match=words):
        MeterDescription.from_payload({**meter_description("m1").to_payload(), **change})


def test_a_descriptor_names_no_meter_twice() -> None:
    twice = (meter_description("m1"), meter_description("m1"))
    with pytest.raises(WireError, match="twice"):
        Descriptor.from_payload(Descriptor("zj", "gw01", 1, START_MS, "1", twice).to_payload())
