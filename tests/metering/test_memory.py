"""What is remembered of a meter's serial number: whose word it is, and until when it counts."""

from agent.metering.memory import Exchanged, Memory, Said


def test_the_number_of_an_exchange_counts_until_the_site_file_says_another() -> None:
    memory = Memory().exchanged("200", "100")
    assert memory.number == Exchanged("200", "100")
    assert [memory.known_serial(each) for each in ("100", "200", "300", None)] == ["200", "200", "300", None]
    assert not memory.has_said("200") and not memory.has_said("100")


def test_an_exchange_counts_where_the_site_file_has_no_number() -> None:
    memory = Memory().exchanged("200", None)
    assert memory.known_serial(None) == "200"
    assert memory.known_serial("100") == "100"


def test_an_exchange_without_a_number_leaves_nothing_of_the_former_meter() -> None:
    assert Memory().heard("100").exchanged(None, "100") == Memory()


def test_an_exchange_that_the_site_file_knows_already_is_no_other_number_and_none_that_the_meter_said() -> (
    None
):
    for before in (Memory(), Memory().heard("200"), Memory().exchanged("300", "200")):
        memory = before.exchanged("200", "200")
        assert memory.known_serial("200") == "200" and not memory.has_said("200")
    assert Memory().exchanged("200", "200").heard("200").number == Said("200")


def test_what_a_meter_said_counts_for_that_site_file_only() -> None:
    memory = Memory().heard("100")
    assert memory.has_said("100") and not memory.has_said("200")
    assert [memory.known_serial(each) for each in ("100", "300", None)] == ["100", "300", None]
