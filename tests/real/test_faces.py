"""What an operator has in hand, against a whole installation of real processes: status, trace, metrics, health."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agent.reporting.utc import text_of_ms
from simulators.demo.rig import Rig
from simulators.ports import free_port

MEMORY_MB_MAX = 64
"""Of the whole daemon, with everything on."""

pytestmark = pytest.mark.xdist_group("faces")
"""One installation for all of them."""


class Installation(Rig):
    """A rig whose agent serves metrics."""

    web = ""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    rig = Installation(tmp_path_factory.mktemp("rig"), interval="1s")
    with rig:
        port = free_port()
        rig.site.write_text(f'{rig.site.read_text()}\n[web]\nlisten = "127.0.0.1:{port}"\n')
        rig.web = f"http://127.0.0.1:{port}"
        rig.start_broker()
        rig.start_meters()
        rig.start_platform()
        rig.start_agent()
        rig.wait_until(lambda: _acknowledged(rig) >= 3, 120, "three batches acknowledged")
        yield rig


def _acknowledged(rig: Installation) -> int:
    journal: Any = (rig.agent_status() or {}).get("journal", {})
    acknowledged: int = (journal.get("acknowledged") or {}).get("seq", 0)
    return acknowledged


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = "from agent.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def fetch(rig: Installation, path: str) -> str:
    with urllib.request.urlopen(f"{rig.web}{path}", timeout=60) as answer:
        body: bytes = answer.read()
    return body.decode()


def test_status_says_that_every_meter_is_good(rig: Installation) -> None:
    def attention() -> set[str]:
        done = command("status", "--site", str(rig.site), "--json")
        found = {problem["code"] for problem in json.loads(done.stdout)["problems"]}
        assert done.returncode == (1 if found else 0)
        return found

    def shown() -> str:
        done = command("status", "--site", str(rig.site))
        assert done.stderr == ""
        return done.stdout

    # A container's kernel clock is nobody's; nothing else may need attention. On a machine that is busy elsewhere a
    # meter may have been silent a moment ago.
    rig.wait_until(lambda: attention() <= {"clock-unknown"} and "26 of 26 good" in shown(), 90, "all is well")


@pytest.mark.fault("F80")
def test_status_notices_a_changed_site_file(rig: Installation) -> None:
    text = rig.site.read_text()
    try:
        rig.site.write_text(f"{text}\n# a remark\n[journal")
        done = command("status", "--site", str(rig.site))
    finally:
        rig.site.write_text(text)
    assert done.returncode == 2, "where the journal is cannot be read from a file that is not TOML"
    rig.site.write_text(f"{text}\n# a remark\n")
    try:
        said = json.loads(command("status", "--site", str(rig.site), "--json").stdout)
    finally:
        rig.site.write_text(text)
    assert "site-changed" in {problem["code"] for problem in said["problems"]}


def test_trace_finds_the_life_of_a_delta_while_the_agent_runs(rig: Installation) -> None:
    moment = text_of_ms(int(time.time() * 1000) - 3_000)
    arguments = ("trace", "--site", str(rig.site), "m01", moment, "--json")

    def is_sent() -> bool:
        """Sealed, and taken by the broker."""
        said = json.loads(command(*arguments).stdout)
        return said["found"] == "delta" and said["batch"]["puback_ms"] is not None

    rig.wait_until(is_sent, 90, "a delta of three seconds ago is on its way")
    done = command(*arguments)
    found = json.loads(done.stdout)
    assert (done.returncode, found["found"]) == (0, "delta")
    assert all(gate["passed"] is not False for gate in found["gates"])
    assert found["batch"]["puback_ms"] >= found["batch"]["sealed_ms"]
    assert command("trace", "--site", str(rig.site), "m1", moment).returncode == 2


def test_metrics_agree_with_status(rig: Installation) -> None:
    def told() -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(fetch(rig, "/metrics"))}

    def good() -> list[float]:
        return [sample.value for sample in told()["metering_meter_good"].samples]

    rig.wait_until(lambda: good() == [1.0] * 26, 90, "26 of 26 good")
    families = told()
    assert len(families["metering_meter_register_joules"].samples) == 26
    assert families["metering_broker_connected"].samples[0].value == 1


def test_health_is_yes(rig: Installation) -> None:
    assert json.loads(fetch(rig, "/healthz"))["status"] in ("ok", "attention")


@pytest.mark.fault("F76")
def test_memory_with_everything_on_stays_small(rig: Installation) -> None:
    for _ in range(20):
        fetch(rig, "/metrics")
    assert rig.resident_mb("agent") <= MEMORY_MB_MAX


def test_balance_of_a_site_without_an_incomer_says_so(rig: Installation) -> None:
    done = command("balance", "--site", str(rig.site))
    assert (done.returncode, done.stderr) == (0, "") and "No meter" in done.stdout


def test_an_exchange_is_refused_while_the_old_meter_hangs_there_and_shows_what_is_known(
    rig: Installation,
) -> None:
    known = json.loads(command("exchange", "m01", "--site", str(rig.site), "--json").stdout)
    assert known["wire"]["serial"] == known["ledger"]["serial"] == known["site_serial"]
    arguments = ("exchange", "m01", "--by", "Li Wei", "--site", str(rig.site))
    refused = command(*arguments, "--first", known["wire"]["register_kwh"])
    assert refused.returncode == 1 and known["site_serial"] in refused.stdout
    assert "表号" in command(*arguments, "--lang", "zh").stdout
    assert command("exchange", "m99", "--site", str(rig.site)).returncode == 2
    assert "nothing is noted" in command("exchange", "m01", "--undo", "--site", str(rig.site)).stdout
