"""What a running agent says of itself: of all stages at work, in virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.errors import FrameDamaged, LineDown, MeterSilent
from agent.service.overview import Overview
from agent.service.premises import About, Certificate, Surroundings
from agent.service.supervise import run_until
from tests.service.bench import MINUTE_MS
from tests.service.virtual import NOON_MS, run_virtually
from tests.service.watched import Agent, ScriptedLine, ScriptedUplink
from tests.support.overviews import an_overview

DAY_MS = 86_400_000


def lived(agent: Agent, seconds: float) -> dict[str, Any]:
    """The overview of an agent after some time."""

    async def life() -> dict[str, object]:
        stages, stop = agent.stages(), asyncio.Event()
        about = About(
            org="org",
            agent="gw01",
            audience="carbon.example",
            sw="0.1.0",
            broker_url="mqtts://broker",
            mode="platform",
            site_path="site.toml",
            site_sha256="00",
            journal_path="journal.db",
            budget_bytes=10**9,
            interval_ms=MINUTE_MS,
            web_listen=None,
            kid="kid",
            alg="Ed25519",
            started_ms=stages.clock.wall_ms(),
            started_ns=stages.clock.monotonic_ns(),
        )
        certificate = Certificate("client", "gw01.pem", NOON_MS, NOON_MS + 100 * DAY_MS, None)
        overview = Overview(
            about,
            lambda: Surroundings(5_000_000, 10**10, (certificate,)),
            stages.workers,
            stages.boundary,
            stages.dialogue,
            stages.publisher,
            stages.storage,
            stages.clock,
        )
        running = asyncio.create_task(run_until(stages, stop))
        await asyncio.sleep(seconds)
        said = await overview.now()
        stop.set()
        await running
        return said

    return run_virtually(life())


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path, {})


def keys_of(value: Any, path: str = "") -> set[str]:
    """The paths of all keys; meters and lines by their first, and without what is named by a profile or a site."""
    if isinstance(value, list):
        return keys_of(value[0], f"{path}[]") if value else set()
    if not isinstance(value, dict) or path.rpartition(".")[2] in ("live", "steps", "errors"):
        return {path}
    return {path}.union(*(keys_of(part, f"{path}.{key}") for key, part in value.items()))


def test_it_says_what_the_tests_of_the_faces_take_for_granted(agent: Agent) -> None:
    said = lived(agent, 150)
    said["journal"]["acknowledged"] = an_overview()["journal"]["acknowledged"]
    del said["problems"]
    assert keys_of(said) == keys_of(an_overview())


def test_a_healthy_agent(agent: Agent) -> None:
    said = lived(agent, 150)
    assert said["problems"] == []
    assert said["uptime_ms"] == 150_000
    assert [line["meters_answering"] for line in said["lines"]] == [1, 1]
    line = said["lines"][0]
    assert line["recent"]["for_ms"] == 150_000
    assert 30 * line["reads"] - line["busy_ms"] in (0, 1), (
        "the loop's clock is a float: a sum of sleeps is floored"
    )
    assert line["recent"]["busy_permille"] == line["busy_ms"] // 150
    meter = said["meters"][0]
    assert (meter["quality"], meter["errors"]) == ("good", {})
    assert meter["booked"]["register_milliwh"] == 10_000 * round(float(meter["booked"]["register_kwh"]) * 100)
    assert said["boundary"]["cuts"] == 4
    assert said["certificates"][0]["days_left"] == 99
    assert said["platform"]["published"] >= said["journal"]["seq"] == 4, (
        "repeats count, because nobody answers"
    )


def test_a_silent_meter_is_named_with_the_kind_of_its_failures(agent: Agent) -> None:
    async def silent() -> None:
        raise MeterSilent("no answer within 500 ms")

    agent.lines[0].before_read = silent
    said = lived(agent, 200)
    meter = said["meters"][0]
    assert (meter["quality"], meter["booked"]) == ("silent", None)
    assert meter["errors"] == {"silent": meter["failed_reads"]}
    assert [problem["code"] for problem in said["problems"]] == ["meter-silent"]
    assert "no answer within 500 ms" in said["problems"][0]["text"]


def test_noise_on_a_line_is_told_from_silence(agent: Agent) -> None:
    reads = 0

    async def noisy() -> None:
        nonlocal reads
        reads += 1
        if reads % 2:
            raise FrameDamaged("checksum")

    agent.lines[0].before_read = noisy
    agent.poll_ms = 1000
    said = lived(agent, 280)
    assert "line-diagnosis" in [problem["code"] for problem in said["problems"]]
    assert said["lines"][0]["diagnoses"][0]["evidence"]
    assert said["lines"][0]["errors"]["damaged"] == said["lines"][0]["failed_reads"] > 0
    assert said["lines"][1]["errors"] == {}


def test_a_line_that_is_down_and_a_broker_that_is_away(agent: Agent) -> None:
    async def gone() -> None:
        raise LineDown("no such device")

    agent.lines[0] = ScriptedLine(before_open=gone)
    agent.uplink = ScriptedUplink(connects=False)
    said = lived(agent, 200)
    assert [problem["code"] for problem in said["problems"]] == ["line-down", "broker-away"]
    assert said["lines"][0]["outages"] == 1, "one outage, however often it is tried again"
    assert said["meters"][0]["quality"] == "line down"
    assert said["platform"]["for_ms"] == 200_000
    assert said["journal"]["backlog_batches"] > 0


def test_a_reading_that_is_held_back_is_shown_with_its_register(agent: Agent) -> None:
    line = agent.lines[0]

    async def falls() -> None:
        if line.reads > 40:
            line.count = 5

    line.before_read = falls
    said = lived(agent, 245)
    kept_out = said["meters"][0]["not_booked"]
    assert kept_out is not None and kept_out["kind"] == "held"
    assert kept_out["register_kwh"] == "0.060000"
    assert "meter-held" in [problem["code"] for problem in said["problems"]]
