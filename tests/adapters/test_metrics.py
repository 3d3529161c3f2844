"""Metrics by Prometheus' conventions, and a page and a dashboard that name the same ones."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from agent.adapters.metrics import Metrics, families
from tests.support.overviews import a_meter, an_overview, with_problems

GRAFANA = Path(__file__).parents[2] / "config" / "grafana"
README = GRAFANA / "README.md"
BASE_UNITS = ("seconds", "bytes", "joules")
WITHOUT_UNIT = {
    "metering_agent_build_info",
    "metering_intervals_closed",
    "metering_intervals_skipped",
    "metering_clock_synchronised",
    "metering_line_up",
    "metering_line_meters",
    "metering_line_meters_answering",
    "metering_line_outages",
    "metering_line_rounds_skipped",
    "metering_line_sweeps_skipped",
    "metering_meter_good",
    "metering_meter_reading_held",
    "metering_meter_reads",
    "metering_journal_following",
    "metering_chain_sequence",
    "metering_backlog_batches",
    "metering_broker_connected",
    "metering_broker_connections",
    "metering_batches_published",
    "metering_messages_rejected",
    "metering_platform_acknowledged_sequence",
    "metering_problem",
}
"""Yes or no, and numbers of things."""


def said(**more: Any) -> dict[str, Any]:
    return with_problems(an_overview(**more))


def scraped(overview: dict[str, Any]) -> dict[str, Metric]:
    body, content_type = Metrics().text(overview)
    assert content_type.startswith("text/plain; version=0.0.4")
    return {family.name: family for family in parse(body.decode())}


def value(found: dict[str, Metric], name: str, **labels: str) -> float:
    return next(sample.value for sample in found[name].samples if labels.items() <= sample.labels.items())


def test_the_values_are_those_of_the_overview() -> None:
    found = scraped(said())
    assert value(found, "metering_meter_register_joules", meter="m01") == pytest.approx(1597.110107 * 3.6e6)
    assert value(found, "metering_line_busy_seconds", line="hall-a") == 4320.0
    assert value(found, "metering_meter_last_read_timestamp_seconds", meter="m26") == 1_795_388_110.042
    assert value(found, "metering_meter_reads", meter="m01", result="ok") == 180
    assert value(found, "metering_broker_connected") == 1
    assert value(found, "metering_certificate_not_after_timestamp_seconds", role="client") == 1_813_800_000
    assert found["metering_problem"].samples == []


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    meters = [a_meter(1, booked=None, age_ms=None, quality="silent", problem="no answer")]
    overview = said(meters=meters, certificates=[])
    overview["boundary"]["last_cut_ms"] = overview["journal"]["acknowledged"] = None
    overview["journal"]["free_bytes"] = None
    found = scraped(overview)
    for name in ("metering_meter_register_joules", "metering_meter_last_read_timestamp_seconds"):
        assert found[name].samples == []
    absent = {"last_interval_timestamp_seconds", "journal_free_bytes", "platform_acknowledged_sequence"}
    assert not {f"metering_{name}" for name in absent} & found.keys()
    assert value(found, "metering_meter_good", meter="m01") == 0
    assert value(found, "metering_problem", code="meter-silent", gravity="warning", subject="m01") == 1


def test_names_follow_the_conventions() -> None:
    for family in families(said()):
        assert re.fullmatch(r"metering_[a-z_]+", family.name), family.name
        assert family.documentation.endswith((".", ".;")) and len(family.documentation) > 15, family.name
        assert family.type in ("gauge", "counter")
        assert not family.name.endswith("_total"), "the library appends it"
        if family.name not in WITHOUT_UNIT:
            assert family.name.endswith(BASE_UNITS), f"{family.name} has no base unit"
        for sample in family.samples:
            assert sample.name == family.name + ("_total" if family.type == "counter" else "")
            assert set(sample.labels) <= {
                *("meter", "line", "result", "role", "code", "gravity", "subject", "version", "gateway")
            }


def test_it_is_valid_openmetrics_too() -> None:
    body, content_type = Metrics().text(said(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    assert {family.name for family in families(said())} <= names


@pytest.mark.fault("F86")
def test_a_hostile_name_stays_inside_its_label() -> None:
    overview = said()
    overview["problems"] = [{"code": "x", "gravity": "error", "subject": 'a"\n} 1\nevil 2\\'}]
    found = scraped(overview)
    assert [sample.labels["subject"] for sample in found["metering_problem"].samples] == ['a"\n} 1\nevil 2\\']
    assert "evil" not in found


def test_the_process_is_measured_too() -> None:
    assert value(scraped(said()), "process_resident_memory_bytes") > 10_000_000


def test_the_largest_gateway_stays_small() -> None:
    meters = [a_meter(number) for number in range(1, 248)]
    body, _ = Metrics().text(said(meters=meters))
    assert len(body) < 300_000


# ----------------------------------------------------------------------------------------------------- page, dashboard


def catalogue() -> list[str]:
    """The rows of the table in the README, as the code has them."""
    rows = []
    overview = said(meters=[a_meter(1, quality="late", age_ms=10**6)])
    for family in families(overview):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(dict.fromkeys(label for sample in family.samples for label in sample.labels))
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return rows


def test_the_readme_lists_every_metric() -> None:
    rows = [line for line in README.read_text("utf-8").splitlines() if line.startswith("| `metering_")]
    assert rows == catalogue()


def expressions() -> list[str]:
    dashboard = json.loads((GRAFANA / "metering-agent.json").read_text("utf-8"))
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return targets + [
        entry["definition"] for entry in dashboard["templating"]["list"] if "definition" in entry
    ]


def test_the_dashboard_asks_only_for_what_there_is() -> None:
    there_is = {
        sample.name
        for family in families(said(meters=[a_meter(1, quality="late", age_ms=10**6)]))
        for sample in family.samples
    } | {"process_resident_memory_bytes"}
    labels = {label for family in families(said()) for sample in family.samples for label in sample.labels}
    asked = set()
    for expression in expressions():
        asked |= set(re.findall(r"\b(?:metering|process)_\w+", expression))
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression)) <= labels | {"instance"}
        assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count(
            "}"
        )
    assert asked - there_is == set()
    assert len(asked) >= 15


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = json.loads((GRAFANA / "metering-agent.json").read_text("utf-8"))["panels"]
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in (
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies on {taken.get(cell)}"
            taken[cell] = panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
