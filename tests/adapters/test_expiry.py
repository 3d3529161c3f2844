"""Certificates that near their end are said in the log once a day, in time."""

import logging
import time
from pathlib import Path

import pytest

from agent.adapters.uplink import TlsFiles
from agent.adapters.uplink.expiry import DAY_MS, ExpiryWatch
from tests.adapters.certificates import DAY_S, Authority

NOW_S = int(time.time()) // DAY_S * DAY_S + DAY_S // 2
"""Noon of today: what is said once a UTC day is said twice by looks on both sides of a midnight."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One that ends in 40 days and an hour."""
    pem, _ = Authority("the platform's").issue("gw01", not_after_s=NOW_S + 40 * DAY_S + 3600)
    (tmp_path / "gw01.pem").write_bytes(pem)
    return tmp_path / "gw01.pem"


@pytest.mark.fault("F70")
def test_it_is_said_once_a_day_from_thirty_days_before(
    certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ExpiryWatch(TlsFiles(None, certificate))
    said = {}
    for day in range(43):
        caplog.clear()
        for hour in range(3):  # within the hour that the certificate has beyond whole days
            watch.look((NOW_S + day * DAY_S) * 1000 + hour * 60_000)
        said[day] = [(record.levelno, vars(record)["pairs"]["days"]) for record in caplog.records]
    assert all(not said[day] for day in range(11))
    assert [said[day] for day in range(11, 38)] == [[(logging.WARNING, 40 - day)] for day in range(11, 38)]
    assert [said[day] for day in range(38, 43)] == [[(logging.ERROR, 40 - day)] for day in range(38, 43)]


def test_a_new_certificate_ends_it_and_a_missing_one_is_no_fault_of_the_log(
    certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch, late_ms = ExpiryWatch(TlsFiles(None, certificate)), (NOW_S + 35 * DAY_S) * 1000
    watch.look(late_ms)
    assert len(caplog.records) == 1
    pem, _ = Authority("the platform's").issue("gw01", not_after_s=NOW_S + 400 * DAY_S)
    certificate.write_bytes(pem)
    watch.look(late_ms + DAY_MS)
    certificate.unlink()
    watch.look(late_ms + 2 * DAY_MS)
    assert len(caplog.records) == 1
