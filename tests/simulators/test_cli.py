"""`metering-sim` itself: every command is listed without being imported, and the small ones run."""

import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from simulators.cli import COMMANDS, main
from simulators.platform import Release
from tests.simulators.bench import Bench
from tests.simulators.chains import Gateway, described

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys; from simulators.cli import main; main(['--help'], standalone_mode=False);"
        "assert not [name for name in sys.modules if name.startswith(('simulators.platform', 'paho'))]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["brokre"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_the_broker_tells_its_address_and_stops_on_sigterm() -> None:
    command = [sys.executable, "-c", "from simulators.cli import main; main()", "broker", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("mqtt://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "nobody came" in process.stdout.read()
    finally:
        process.kill()
        process.stdout.close()


def test_a_held_delta_is_released_on_the_command_line(tmp_path: Path) -> None:
    gateway = Gateway(meters=(described("m1"),))
    path = tmp_path / "platform.db"
    bench = Bench((gateway,), path, options={"quarantine": lambda delta: "look" if delta.n == 2 else None})
    bench.send(*gateway.intervals(3))
    words = ["platform", "release", "--store", str(path), "zj-meterworks/gw01", "m1", "1", "2"]
    busy = CliRunner().invoke(main, words)
    assert busy.exit_code == 1
    assert "in use by another platform" in busy.output
    bench.store.close()
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.output) == (0, f"{Release.BOOKED.value}\n")
    again = CliRunner().invoke(main, words)
    assert (again.exit_code, again.output) == (1, f"{Release.UNKNOWN.value}\n")


def test_totals_gaps_and_report_of_a_store(tmp_path: Path) -> None:
    gateway = Gateway(meters=(described("m1"),))
    path = tmp_path / "platform.db"
    bench = Bench((gateway,), path)
    bench.send(*gateway.intervals(2), gateway.say([], [gateway.exchange("m1", 3)]))
    run = CliRunner()
    totals = run.invoke(main, ["platform", "totals", "--store", str(path)])
    assert "meter m1" in totals.output
    assert "0.002000 kWh   2 deltas, 1 epoch" in totals.output
    gaps = run.invoke(main, ["platform", "gaps", "--store", str(path)])
    assert "hole" in gaps.output
    report = run.invoke(main, ["platform", "report", "--store", str(path)])
    assert report.exit_code == 0
    assert report.output.endswith("0 alarms; the books add up\n")
    bench.store.run("UPDATE booked SET position = position + 1 WHERE n_first = 2")
    broken = run.invoke(main, ["platform", "report", "--store", str(path)])
    assert broken.exit_code == 1
    assert "DO NOT add up" in broken.output
