"""A platform that lost its disk comes back from an older backup, and the gateway fills it up again by itself."""

import shutil
import time
from pathlib import Path

import pytest

from simulators.demo.rig import Rig
from simulators.platform.queries import broken_books
from simulators.platform.store import Store
from tests.support.mosquitto import Mosquitto

BEFORE_S, AFTER_S, DRAIN_S = 12, 12, 120


@pytest.mark.real
@pytest.mark.fault("F63")
@pytest.mark.timeout(300)
def test_a_platform_wiped_and_restored_from_an_older_backup_is_refilled(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Rig(tmp_path / "rig", interval="2s", broker=mosquitto.url, speed=60) as rig:
        rig.start_meters()
        rig.start_platform()
        rig.start_agent()
        _live(rig, BEFORE_S)
        rig.stop("platform")
        backup = tmp_path / "backup.db"
        shutil.copy(rig.store, backup)
        rig.start_platform()
        _live(rig, AFTER_S)
        rig.kill("platform")
        newer = _booked(rig.store)
        for file in rig.store.parent.glob(f"{rig.store.name}*"):
            file.unlink()
        shutil.copy(backup, rig.store)
        assert _booked(rig.store) < newer, "the backup has to be an older one"
        rig.start_platform("--gen", "1")
        rig.freeze_counters()
        deadline = time.monotonic() + DRAIN_S
        while (wrong := rig.differences()) and time.monotonic() < deadline:
            rig.check_alive()
            time.sleep(1)
        assert wrong == {}, (wrong, rig.log_of("agent").read_text()[-3000:])
        rig.stop("agent")
        rig.stop("platform")
        store = Store.read(rig.store)
        assert broken_books(store) == []
        assert store.one("SELECT count(DISTINCT chain) FROM batches") == (1,), (
            "the same chain, sent once more"
        )
        store.close()
        assert _booked(rig.store) >= newer


def _live(rig: Rig, seconds: int) -> None:
    """Until so many seconds have gone and something more was booked."""
    before, until = _booked(rig.store), time.monotonic() + seconds
    while time.monotonic() < until or _booked(rig.store) < before + 3:
        rig.check_alive()
        time.sleep(0.5)


def _booked(path: Path) -> int:
    """Batches in a platform's store; 0 before there is one."""
    if not path.exists():
        return 0
    store = Store.read(path)
    try:
        return int(store.one("SELECT count(*) FROM batches")[0])
    finally:
        store.close()
