"""The meter map: from the plant to the wire, in parts and together again."""

from dataclasses import replace
from fractions import Fraction

import pytest

from agent.metering.plant import Meter, Role, Share
from agent.metering.profile import ENERGY_IMPORT, Profile, Register, SerialDefaults, WordType
from agent.reporting import envelope
from agent.reporting.descriptor import Assembly, Descriptor, describe, in_parts
from agent.reporting.envelope import EnvelopeError
from tests.reporting.gateway import START_MS, Gateway, meter_description
from tests.reporting.keys import Key

KEY = Key()


def plant_meter(type_: WordType = WordType.U32, per_count: str = "1/100", **changes: object) -> Meter:
    """A meter behind 150/5 transformers whose register counts on the secondary side."""
    register = Register(
        ENERGY_IMPORT, 0, 3, type_, 2, False, "kWh", Fraction(per_count), True, 10**8, frozenset()
    )
    profile = Profile(
        "chint-dtsu666-2019", "CHINT", "DTSU666", "manual", "modbus-rtu", 3, 60, 1, 0,
        SerialDefaults(9600, "none", 1), {ENERGY_IMPORT: register}, None, (), "1", 2, (), (), "P" * 43,
    )  # fmt: skip
    meter = Meter(
        "reflow-1",
        "hall-a",
        7,
        profile,
        Role.STEP,
        (Share("reflow_soldering", Fraction(1)),),
        ct_ratio=Fraction(30),
    )
    return replace(meter, **changes)  # type: ignore[arg-type]


def test_ratio_modulus_and_resolution_are_exact_and_include_the_transformers() -> None:
    described = describe(plant_meter(), "2206001234")
    assert (described.num, described.den) == (300_000, 1)
    assert described.modulus == 10**8 * 300_000
    assert described.resolution == 300_000
    assert (described.serial, described.step, described.role) == ("2206001234", "reflow_soldering", "step")


def test_a_ratio_that_is_no_whole_number_stays_a_ratio() -> None:
    described = describe(plant_meter(per_count="1/300000000"), None)
    assert (described.num, described.den, described.resolution) == (1, 10, 1)


@pytest.mark.fault("F24")
def test_a_float_register_has_no_resolution() -> None:
    assert describe(plant_meter(WordType.F32, "1"), None).resolution is None


def test_shares_travel_exactly_and_a_shared_meter_has_no_one_step() -> None:
    shares = (Share("smt_placement", Fraction(3, 5)), Share("reflow_soldering", Fraction(2, 5)))
    described = describe(plant_meter(shares=shares), None)
    assert described.steps == (("smt_placement", 3, 5), ("reflow_soldering", 2, 5))
    assert described.step is None


def test_the_accuracy_class_of_the_site_goes_before_that_of_the_profile() -> None:
    assert describe(plant_meter(), None).accuracy_class == "1"
    assert describe(plant_meter(accuracy_class="0.5S"), None).accuracy_class == "0.5S"


def test_another_revision_with_the_same_meters_means_the_same() -> None:
    first = Descriptor("zj", "gw01", 1, START_MS, "1.0", (meter_description("m1"),))
    assert first.same_meaning(replace(first, rev=2, iat_ms=START_MS + 1, sw="1.1"))
    assert not first.same_meaning(replace(first, meters=(meter_description("m1", serial="other"),)))
    assert not first.same_meaning(replace(first, agent="gw02"))


@pytest.mark.parametrize("part_bytes", [1, 17, 100_000])
def test_parts_come_together_again_in_any_order_and_with_repeats(part_bytes: int) -> None:
    gateway = Gateway(KEY)
    events = in_parts(gateway.descriptor, 1, START_MS, part_bytes)
    assert [event.integer("part") for event in events] == list(range(1, len(events) + 1))
    assembly = Assembly()
    results = [assembly.add(event) for event in [*events[1:][::-1], *events[1:], events[0]]]
    assert results[-1] == gateway.descriptor
    assert set(results[:-1]) <= {None}
    assert assembly.unfinished is None


def test_an_unfinished_descriptor_is_named_and_given_up_when_another_begins() -> None:
    gateway = Gateway(KEY)
    old = gateway.carried(100)
    new = gateway.describe(meter_description("m3"))
    assembly = Assembly()
    assert assembly.add(old[0]) is None
    assert assembly.unfinished == old[0].text("hash")
    assert assembly.add(new[0]) == gateway.descriptor


def test_a_part_that_was_changed_is_found_by_the_hash() -> None:
    events = Gateway(KEY).carried(100)
    spoiled = replace(events[3], body={**events[3].body, "text": "A" * 100})
    assembly = Assembly()
    with pytest.raises(EnvelopeError, match="another hash"):
        for event in [*events[:3], spoiled, *events[4:]]:
            assembly.add(event)


def test_parts_without_end_are_refused() -> None:
    event = Gateway(KEY).carried(100)[0]
    assembly = Assembly()
    with pytest.raises(EnvelopeError, match="too-large"):
        for number in range(1, 100):
            body = {**event.body, "part": number, "parts": 100, "text": "x" * 12_000}
            assembly.add(replace(event, body=body))
    assert assembly.unfinished is None


def test_the_parts_of_the_largest_descriptor_fit_into_batches() -> None:
    meters = tuple(meter_description(f"meter-{number}") for number in range(400))
    descriptor = Descriptor("zj", "gw01", 1, START_MS, "1.0", meters)
    jws = envelope.seal(envelope.DESCRIPTOR, descriptor.to_payload(), KEY)
    assert len(jws) > 150_000
    assert len(in_parts(jws, 1, START_MS)) == -(-len(jws) // 12_000)
