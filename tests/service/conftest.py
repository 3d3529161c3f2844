"""What most tests of the service begin with; a module with another beginning has a fixture of the same name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.metering.quality import RULES
from agent.reporting.event import Event, refused_event
from tests.service.bench import Bench
from tests.service.watched import Manager


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Two meters and an empty journal."""
    return Bench(tmp_path)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    listening = Manager(tmp_path)
    yield listening
    listening.socket.close()


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is refused here, for whatever reason: the written rules name it."""
    said: list[str] = []

    def noted(at_ms: int, **body: Any) -> Event:
        said.append(body["reason"])
        return refused_event(at_ms, **body)

    monkeypatch.setattr("agent.service.refusals.refused_event", noted)
    yield
    known = {word for rule in RULES for word in re.findall(r"refused, (\w+)", rule.event)}
    assert {reason.split()[0].rstrip(":") for reason in said} <= known | {"energy_import"}
