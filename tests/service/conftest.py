"""What most tests of the service begin with; a module with another beginning has a fixture of the same name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
