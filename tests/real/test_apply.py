"""A site file that takes over from another, with real processes: tried, refused, interrupted, undone; energy exact.

One installation of four meters: the fourth hangs on the wire from the start and comes into the site file by `apply`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.adapters.keys import PublicKeys, load_public_key
from agent.cli import main
from agent.reporting.verdict import Report
from agent.reporting.verify import Verifier
from simulators.demo.rig import Rig, places
from simulators.platform.queries import broken_books
from simulators.platform.store import Store
from simulators.ports import free_port

PLACES = places(2)
COATING = PLACES[9].step


def apply(rig: Rig, new: Path, *more: str) -> tuple[int, dict[str, Any]]:
    arguments = ["apply", str(new), "--site", str(rig.site), "--yes", "--json", *more]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


def problems(rig: Rig) -> set[str]:
    done = CliRunner().invoke(main, ["status", "--site", str(rig.site), "--json"], catch_exceptions=False)
    return {problem["code"] for problem in json.loads(done.stdout)["problems"]}


def is_well(rig: Rig) -> bool:
    """Whether an interval is closed, every meter good and the broker there: else a change could be blamed for it."""
    said: Any = rig.agent_status()
    if said is None or not said["boundary"]["cuts"] or not said["platform"]["connected"]:
        return False
    return all(meter["quality"] == "good" for meter in said["meters"])


def started_ms(rig: Rig) -> object:
    return (rig.agent_status() or {}).get("started_ms")


def kill_when_replaced(rig: Rig, new: Path) -> None:
    """Give the command in a process of its own, and kill it as soon as the site file is the new one."""
    text = new.read_bytes()
    program = "from agent.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "apply", str(new), "--site", str(rig.site), "--yes"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        deadline = time.monotonic() + 90
        while rig.site.read_bytes() != text:
            assert command.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        command.kill()


def audited(rig: Rig) -> Report:
    """An auditor's reading of all that the platform booked."""
    store = Store.read(rig.store)
    try:
        assert broken_books(store) == []
        verifier = Verifier(PublicKeys([load_public_key(rig.folder / "agent.pem")]))
        for number, (jws,) in enumerate(store.rows("SELECT jws FROM batches ORDER BY batch_id"), start=1):
            verifier.feed(number, bytes(jws))
        return verifier.report()
    finally:
        store.close()


@pytest.mark.fault("F80", "F81")
@pytest.mark.timeout(600)
def test_a_site_file_is_applied_whole_or_not_at_all_and_no_energy_is_lost(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", interval="1s", meters=PLACES[:4], speed=60)
    new = tmp_path / "new.toml"
    with rig:
        rig.start_broker()
        rig.start_meters()
        rig.start_platform()
        full = rig.site.read_text()
        three = full[: full.rindex("[[meters]]")]
        rig.site.write_text(three)
        rig.start_agent()
        rig.wait_until(lambda: is_well(rig), 90, "the first interval is closed")
        first = started_ms(rig)

        # what does not answer on the bus is not applied, and the agent never knew
        new.write_text(full.replace("address = 2\n", "address = 99\n", 1))
        code, said = apply(rig, new)
        assert (code, said["outcome"]) == (1, "not-read")
        assert {each["meter"]: each["problem"] is None for each in said["readings"]} == {
            "m02": False,
            "m04": True,
        }
        assert rig.site.read_text() == three and started_ms(rig) == first

        # a good change: a step moved, a meter added
        new.write_text(full.replace(f'"{PLACES[0].step}"', f'"{COATING}"'))
        code, said = apply(rig, new)
        assert (code, said["outcome"]) == (0, "applied")
        assert [each["code"] for each in said["changes"]] == ["meter-steps", "meter-added"]
        assert [each["problem"] for each in said["readings"]] == [None]
        assert started_ms(rig) != first

        # a change that nobody can be well with, its command killed in the middle; the next one ends it
        rig.wait_until(lambda: is_well(rig), 90, "all is well with the change before")
        good = new.read_text()
        new.write_text(good.replace(rig.broker_url, f"mqtt://127.0.0.1:{free_port()}"))
        kill_when_replaced(rig, new)
        assert rig.site.read_text() == new.read_text(), "whole"
        rig.wait_until(lambda: rig.agent_status() is not None, 90, "the agent answers")
        assert "apply-unfinished" in problems(rig)
        code, said = apply(rig, new, "--within", "4")  # enough for an interval of a second on a busy machine
        assert (code, said["outcome"]) == (1, "rolled-back")
        assert [each["code"] for each in said["complaints"]] == ["broker-away"]
        assert rig.site.read_text() == good
        assert not {"apply-unfinished", "site-changed"} & problems(rig)

        rig.freeze_counters()
        rig.wait_until(lambda: rig.differences() == {}, 120, "the platform has what the meters say")
        assert rig.stop("agent") == 0
        report = audited(rig)
    for verdict in (report.signature, report.chain, report.conservation):
        assert verdict.ok, verdict
    assert len(report.chains) == 1, "a change of the map begins no new chain"
    assert report.by_step[PLACES[0].step] > 0 and report.by_step[COATING] > 0
