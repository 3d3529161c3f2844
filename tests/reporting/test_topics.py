"""Topics: where each message goes, and that no name reaches into another gateway's levels."""

import pytest
from hypothesis import given

from agent.reporting import topics
from tests.reporting.strategies import ids


@given(ids, ids)
def test_every_topic_reads_back(org: str, agent: str) -> None:
    assert topics.parse(topics.batch(org, agent)) == (org, agent, "batch")
    assert topics.parse(topics.descriptor(org, agent)) == (org, agent, "desc")
    assert topics.parse(topics.status(org, agent)) == (org, agent, "status")
    assert topics.parse(topics.enrolment(org, agent)) == (org, agent, "enrol")
    assert topics.parse(topics.acknowledgement(org, agent)) == (org, agent, "ack")


def test_the_topics_of_the_wire_format() -> None:
    assert topics.batch("zj", "gw01") == "kwh/v1/zj/gw01/up/batch"
    assert topics.acknowledgement("zj", "gw01") == "kwh/v1/zj/gw01/down/ack"
    assert topics.INGEST_FILTERS[0] == "$share/ingest/kwh/v1/+/+/up/batch"


def test_the_root_is_configuration() -> None:
    topic = topics.status("zj", "gw01", root="grid/east/meters")
    assert topic == "grid/east/meters/zj/gw01/up/status"
    assert topics.parse(topic, root="grid/east/meters") == ("zj", "gw01", "status")


@pytest.mark.fault("F86")
@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", "x" * 33, "车间"])
def test_a_name_that_could_leave_its_level_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        topics.batch(name, "gw01")
    with pytest.raises(ValueError, match="not an id"):
        topics.batch("zj", name)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "kwh/v1",
        "kwh/v1/zj/gw01/down/batch",
        "kwh/v1/zj/gw01/up/ack",
        "kwh/v1/zj/gw01/up/batch/x",
        "kwh/v1/zj/gw01/up",
        "kwh/v2/zj/gw01/up/batch",
        "xkwh/v1/zj/gw01/up/batch",
        "zj/gw01/up/batch",
        "kwh/v1/zj/+/up/batch",
        "kwh/v1/zj//up/batch",
        "kwh/v1/zj/gw01/up/command",
    ],
)
def test_any_other_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError):
        topics.parse(topic)
