"""Times as text: one spelling per moment, checked against the standard library."""

import datetime

import pytest
from hypothesis import given

from agent.reporting.utc import MS_MAX, ms_of_text, text_of_ms
from tests.reporting.strategies import times


@given(times)
def test_text_is_what_the_standard_library_says_and_reads_back(ms: int) -> None:
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=ms)
    text = text_of_ms(ms)
    assert text == moment.strftime(f"{moment.year:04d}-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
    assert ms_of_text(text) == ms


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (MS_MAX, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_the_edges_of_the_calendar(ms: int, text: str) -> None:
    assert text_of_ms(ms) == text
    assert ms_of_text(text) == ms


@pytest.mark.parametrize("ms", [-1, MS_MAX + 1])
def test_years_outside_the_range_are_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="1970 to 9999"):
        text_of_ms(ms)


@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    "text",
    [
        "2025-01-01T00:00:00Z",
        "2025-01-01T00:00:00.000+00:00",
        "2025-01-01 00:00:00.000Z",
        "2025-01-01T00:00:00.000z",
        "2025-01-01T00:00:00.0000Z",
        "2025-02-29T00:00:00.000Z",
        "2025-13-01T00:00:00.000Z",
        "2025-00-01T00:00:00.000Z",
        "2025-01-00T00:00:00.000Z",
        "2025-01-01T24:00:00.000Z",
        "2016-12-31T23:59:60.000Z",
        "1969-12-31T23:59:59.999Z",
        "0000-01-01T00:00:00.000Z",
        "２０２５-01-01T00:00:00.000Z",
        "2025-01-01T00:00:00.000Z\n",
        "",
    ],
)
def test_every_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ms_of_text(text)
