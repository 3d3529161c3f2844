"""The table of faults is what the markers say, and nearly everything that can go wrong has its test."""

from tests.support.faults import PAGE, catalogue, marked, page

COVERED_LEAST = 85


def test_every_marker_names_a_fault_of_the_catalogue() -> None:
    numbers = [fault.number for fault in catalogue()]
    assert numbers == [f"F{number}" for number in range(1, 87)]
    assert {number for number, _ in marked()} <= set(numbers)


def test_nearly_every_fault_has_a_test() -> None:
    bare = {fault.number for fault in catalogue()} - {number for number, _ in marked()}
    assert len(catalogue()) - len(bare) >= COVERED_LEAST, f"no test carries the marker of {sorted(bare)}"


def test_the_page_is_what_the_markers_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: make docs"
