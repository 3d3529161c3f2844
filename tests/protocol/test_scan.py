"""The scanner in virtual time: how long it takes, whom it finds, and that nobody is found who is not there.

`python -m tests.protocol.scan_world 50` is the long run over seeds.
"""

import pytest

from agent.metering.plant import SerialSettings
from agent.protocol.recognise import recognise
from agent.protocol.scan import FAST, SLOW, USUAL_SETTINGS, Kind, Presence, listed, search, settled
from agent.protocol.survey import Extent, Found, survey
from simulators.meters.faults import Fault
from simulators.meters.faults import Kind as FaultKind
from tests.protocol.scan_world import MODBUS, World, dlt_meter, modbus_meter, seeded
from tests.support.plants import PROFILES

S9600 = USUAL_SETTINGS[0]
EVEN = SerialSettings(2400, "even", 1)
SINGLE, THREE = "dlt645-2007-single-phase", "dlt645-2007-three-phase"


def full_line(turnaround_ms: int = 10) -> World:
    models = [MODBUS[unit % len(MODBUS)] for unit in range(1, 27)]
    return World([modbus_meter(unit, model, S9600, turnaround_ms) for unit, model in enumerate(models, 1)])


def who(found: list[Presence]) -> set[int | str]:
    return {presence.address for presence in found}


def test_the_fast_pass_over_247_addresses_at_9600_takes_at_most_10_s() -> None:
    world = World([])
    assert world.play(search([S9600], FAST)) == []
    assert world.seconds <= 10


def test_the_slow_pass_takes_at_most_60_s() -> None:
    world = World([])
    assert world.play(search([S9600], SLOW)) == []
    assert world.seconds <= 60


def test_all_eight_settings_in_the_fast_pass_take_less_than_3_minutes() -> None:
    world = World([])
    assert world.play(search(USUAL_SETTINGS, FAST)) == []
    assert len(USUAL_SETTINGS) == 8
    assert world.seconds < 180


@pytest.mark.parametrize("turnaround_ms", [3, 15])
def test_the_fast_pass_lists_26_meters_among_247_addresses_within_10_s(turnaround_ms: int) -> None:
    world = full_line(turnaround_ms)
    found = world.play(listed([S9600], FAST))
    assert who(found) == set(range(1, 27))
    assert world.seconds <= 10
    assert world.line.begun_too_early == 0
    sure = world.play(settled(found))
    assert [(one.address, one.settled, one.shared) for one in sure] == [
        (unit, True, False) for unit in range(1, 27)
    ]
    assert world.seconds < 16  # the close look at each


def test_who_answered_once_and_never_again_is_taken_off_the_list() -> None:
    world = full_line()
    found = world.play(listed([S9600], FAST, units=range(1, 27)))
    world.meters[4].faults.append(Fault(FaultKind.SILENT))
    assert 5 in who(found)
    assert who(world.play(settled(found))) == set(range(1, 27)) - {5}


def test_26_meters_that_answer_late_are_listed_too() -> None:
    """Each is heard over the question to the next one, and asked again with patience."""
    world = full_line(60)
    assert who(world.play(listed([S9600], FAST, units=range(1, 40)))) == set(range(1, 27))


@pytest.mark.parametrize("seed", range(8))
def test_every_meter_is_found_and_no_phantom_on_a_noisy_line_with_a_shared_address(seed: int) -> None:
    world, truth = seeded(seed)
    fast = world.play(search(USUAL_SETTINGS, FAST))
    used = [
        each
        for each in USUAL_SETTINGS
        if each.baud in {settings.baud for _, settings in truth.present if settings}
    ]
    slow = world.play(search(used, SLOW, known=fast))
    found = [(presence.address, presence.settings) for presence in (*fast, *slow)]
    assert set(found) == truth.present
    assert len(found) == len(set(found))
    shared = {(one.address, one.settings) for one in (*fast, *slow) if one.shared}
    assert shared == truth.shared


def test_whoever_answers_very_late_is_still_heard_by_its_address_and_no_crowd_is_searched_for() -> None:
    """The last one asked answers over the question for DL/T 645, which is not taken for a crowd of such meters."""
    world = World([modbus_meter(unit, "abb-b23", S9600, wait) for unit, wait in ((2, 300), (6, 230))])
    found = world.play(search([S9600], FAST, units=range(1, 7)))
    assert who(found) == {2, 6}
    assert world.asked < 40
    assert world.seconds < 6


def test_a_slow_meter_is_found_by_the_slow_pass() -> None:
    world = World([modbus_meter(9, "eastron-sdm120", S9600, 190)])
    assert who(world.play(search([S9600], SLOW))) == {9}


def test_a_meter_that_answers_one_function_only_is_found() -> None:
    """SDM meters refuse what they do not know; some others say nothing at all."""
    world = World([modbus_meter(9, "eastron-sdm120", S9600, 12)])
    ((greeting),) = (presence.greeting for presence in world.play(search([S9600], SLOW)))
    assert greeting is not None
    assert greeting.kind is Kind.REFUSED


@pytest.mark.fault("F30")
@pytest.mark.parametrize("apart_ms", [0, 2, 8, 30, 100])
def test_two_meters_at_one_address_are_named_whatever_their_timing(apart_ms: int) -> None:
    world = World(
        [
            modbus_meter(5, "eastron-sdm120", S9600, 10),
            modbus_meter(5, "abb-b23", S9600, 10 + apart_ms),
            modbus_meter(6, "abb-b23", S9600, 10),
        ]
    )
    found = {presence.address: presence.shared for presence in world.play(search([S9600], FAST))}
    assert found == {5: True, 6: False}


def test_noise_alone_is_no_meter() -> None:
    world = World([], flip_every=10, seed=3)
    for offset_ms in range(50, 9_000, 37):
        world.line.babble(1_000_000_000 + offset_ms * 1_000_000, 4)
    assert world.play(search([S9600], FAST, dlt645=False)) == []


def test_dl_t_645_meters_are_found_one_or_many() -> None:
    one = World([dlt_meter("000012345678", SINGLE, EVEN, 50)])
    assert who(one.play(search([EVEN], FAST, units=range(1, 3)))) == {"000012345678"}
    many = [dlt_meter(f"0000123456{low}", SINGLE, EVEN, 30) for low in ("16", "68", "99")]
    crowd = World([*many, dlt_meter("000099123416", THREE, EVEN, 30)])
    found = crowd.play(search([EVEN], FAST, units=range(1, 3)))
    assert who(found) == {one.meter.address for one in crowd.meters}
    assert not any(presence.shared for presence in found)


def test_a_dl_t_645_meter_that_drowns_others_does_not_hide_them() -> None:
    """The last one to answer is heard well, over the garbage of the others."""
    world = World(
        [dlt_meter(f"00001234567{low}", SINGLE, EVEN, wait) for low, wait in ((1, 30), (2, 40), (3, 220))]
    )
    assert len(who(world.play(search([EVEN], FAST, units=range(1, 3))))) == 3


def test_a_busy_meter_is_there() -> None:
    world = World([modbus_meter(9, "eastron-sdm120", S9600, 12)])
    world.meters[0].faults.append(Fault(FaultKind.EXCEPTION, code=6))
    assert who(world.play(search([S9600], FAST, dlt645=False))) == {9}


# --------------------------------------------------------------------------------------------------------------- models


def surveyed(world: World, **limits: object) -> list[Found]:
    return world.play(survey(Extent(settings=(S9600, EVEN), units=range(1, 40), **limits), PROFILES))  # type: ignore[arg-type]


def profiles_of(found: Found) -> list[str]:
    assert found.model is not None
    return [one.profile for one in found.model.candidates]


def test_every_model_is_told_from_its_registers() -> None:
    """Its own profile is always among those that fit; many models share a map."""
    for name in MODBUS:
        world = World([modbus_meter(5, name, S9600, 10)])
        model = world.play(recognise(5, S9600, PROFILES))
        assert name in [one.profile for one in model.candidates], name


def test_a_line_of_one_model_is_not_compared_with_all_others_for_each_meter() -> None:
    one = World([modbus_meter(1, "schneider-iem3155", S9600, 10)])
    surveyed(one, fast_only=True, dlt645=False)
    many = World([modbus_meter(unit, "schneider-iem3155", S9600, 10) for unit in range(1, 11)])
    found = surveyed(many, fast_only=True, dlt645=False)
    assert all("schneider-iem3155" in profiles_of(each) for each in found)
    assert many.asked < 3 * one.asked


def test_the_serial_number_is_told() -> None:
    world = World([modbus_meter(5, "eastron-sdm120", S9600, 10)])
    model = world.play(recognise(5, S9600, PROFILES))
    assert [one.profile for one in model.candidates] == ["eastron-sdm120"]
    assert model.candidates[0].named
    assert model.serial is not None


def test_the_phases_of_a_dl_t_645_meter_are_told() -> None:
    world = World([dlt_meter("000012345678", SINGLE, EVEN, 50), dlt_meter("000012345699", THREE, EVEN, 50)])
    found = {one.presence.address: one for one in surveyed(world)}
    assert profiles_of(found["000012345678"]) == [SINGLE]
    assert profiles_of(found["000012345699"]) == [THREE]
    model = found["000012345699"].model
    assert model is not None
    assert model.serial == "000012345699"


def test_a_shared_address_has_no_model() -> None:
    world = World([modbus_meter(5, name, S9600, 10) for name in MODBUS[:2]])
    (found,) = surveyed(world, fast_only=True)
    assert found.presence.shared
    assert found.model is None


def test_a_port_that_hides_the_framing_shows_a_meter_once() -> None:
    class Deaf(World):
        def hear_at(self, settings: SerialSettings):  # type: ignore[no-untyped-def]
            return super().hear_at(SerialSettings(settings.baud, "none", 1))

    world = Deaf([modbus_meter(5, "eastron-sdm120", S9600, 10)])
    settings = (S9600, SerialSettings(9600, "even", 1), SerialSettings(9600, "none", 2))
    found = world.play(survey(Extent(settings=settings, units=range(1, 9), fast_only=True), PROFILES))
    assert [one.presence.settings for one in found] == [S9600]


def test_a_scan_writes_nothing() -> None:
    world = full_line()
    functions: set[int] = set()
    send = world.line.master_sends

    def noted(now_ns: int, data: bytes) -> None:
        functions.add(data[1] if data[0] not in (0xFE, 0x68) else 0x1100 + data[12])
        send(now_ns, data)

    world.line.master_sends = noted  # type: ignore[method-assign]
    surveyed(world)
    assert functions == {3, 4, 0x1111, 0x1113}
