"""No kWh lost and none doubled when real processes die: the short form for every run, the long one for `make real`."""

from pathlib import Path

import pytest

from simulators.demo.rig import Rig
from tests.real.torment import Torment
from tests.support.mosquitto import Mosquitto


def torment(tormented: Torment) -> None:
    """Run a plan and ask the auditor."""
    rig = tormented.rig
    rig.start_meters()
    rig.start_platform()
    rig.start_agent()
    tormented.run()
    report = tormented.evidence()
    for verdict in (report.signature, report.chain, report.conservation):
        assert verdict.ok, (verdict, tormented.told)
    assert len(report.by_meter) == 26
    assert len(report.chains) >= 2, "the restored journal has to go on in a chain of its own"


@pytest.mark.fault("F55", "F75")
@pytest.mark.timeout(900)
def test_kills_and_an_old_journal_leave_the_account_exact(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Rig(tmp_path / "rig", interval="2s", broker=mosquitto.url, speed=60) as rig:
        torment(Torment(rig, mosquitto, seconds=36, kills=4, broker_kills=1, copy_s=14, seed=1))


@pytest.mark.real
@pytest.mark.timeout(600)
def test_five_minutes_of_kills_and_an_old_journal(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Rig(tmp_path / "rig", interval="10s", broker=mosquitto.url, speed=60) as rig:
        torment(Torment(rig, mosquitto, seconds=300, kills=7, broker_kills=3, copy_s=120, seed=2))
