"""One real installation for all tests of the evidence: meters, broker, platform and agent, each a process."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simulators.demo.rig import Rig
from tests.evidence.office import run


@dataclass(frozen=True)
class Installation:
    """What is left of it: the export of the running agent, that of the stopped one, and what the platform booked."""

    live: Path
    stopped: Path
    booked: dict[str, int]
    overview: dict[str, Any]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Ten seconds of a factory of 26 meters, two hours of its life."""
    folder = tmp_path_factory.mktemp("installation")
    with Rig(folder, interval="2s", speed=600) as rig:
        rig.start_broker()
        rig.start_platform()
        rig.start_meters()
        rig.start_agent()
        rig.wait_until(lambda: _acknowledged(rig) >= 3, 120, "the platform acknowledges three batches")
        said = run("export", "--site", str(rig.site), "--out", str(folder / "live"))
        assert said.exit_code == 0, said.output
        overview = _overview(rig)
        rig.freeze_counters()
        rig.wait_until(lambda: not rig.differences(), 120, "the platform has booked what the meters counted")
        rig.stop("agent")
        account = rig.account()
        assert account is not None
        booked = {meter: entry.energy_milliwh for meter, entry in account.meters.items()}
    said = run("export", "--site", str(rig.site), "--out", str(folder / "stopped"))
    assert said.exit_code == 0, said.output
    return Installation(folder / "live", folder / "stopped", booked, overview)


def _overview(rig: Rig) -> dict[str, Any]:
    """The agent answers after it gave an export; on a busy machine not always within the two seconds of a question."""
    for _ in range(20):
        said = rig.agent_status()
        if said is not None:
            return said
        time.sleep(0.1)
    raise AssertionError("the agent does not answer any more")


def _acknowledged(rig: Rig) -> int:
    said = rig.agent_status() or {}
    journal = said.get("journal")
    acknowledged = journal.get("acknowledged") if isinstance(journal, dict) else None
    return int(acknowledged["seq"]) if isinstance(acknowledged, dict) else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs the installation waits for it to be built, which takes a minute on a slow machine.

    All that need it run in one worker, so that it is built once.
    """
    for item in items:
        if isinstance(item, pytest.Function) and "installation" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(600))
            item.add_marker(pytest.mark.xdist_group("evidence"))
