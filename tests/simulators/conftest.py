"""What tests of the simulators begin with; a module with another beginning has a fixture of the same name."""

from pathlib import Path

import pytest

from tests.simulators.bench import Bench
from tests.simulators.chains import Gateway
from tests.simulators.footprint_folder import Write, writer


@pytest.fixture
def gateway() -> Gateway:
    """A gateway with two meters that has not said anything."""
    return Gateway()


@pytest.fixture
def bench(gateway: Gateway) -> Bench:
    """A platform that trusts the gateway and holds nothing of it."""
    return Bench((gateway,))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a folder of activity, see `footprint_folder`."""
    return writer(tmp_path)
