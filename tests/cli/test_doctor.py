"""`metering-agent doctor` on a real pty: what it asks, what it shows, and that it claims the port alone."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.adapters.rtu_line import RtuLine
from agent.cli.doctor import duration_text, examine_line, json_of, nobody_answered, text_of
from agent.cli.group import main
from agent.errors import LineDown
from agent.metering.plant import SerialSettings
from agent.protocol.doctor import Cause, Diagnosis, Tally, alternatives, diagnose
from agent.service import examining
from simulators.line.pump import PtyLine
from simulators.line.station import on_one_pair
from simulators.meters.faults import Fault, Kind
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.settings import example_site
from tests.support.plants import FAST, line, meter

SLOW = SerialSettings(9600, "none", 1)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take as long from a meter that was quick before: this process plays the meters too."""
    monkeypatch.setattr(examining, "REPLY_MS_MIN", examining.REPLY_MS)


@pytest.mark.usefixtures("unhurried")
async def test_a_healthy_line_on_a_pty() -> None:
    meters = [meter("heater", 7), meter("oven", 9)]
    simulated = [SimulatedMeter(each, FixedEnergy(5), turnaround_ms=2) for each in meters]
    pty = PtyLine(FAST, lambda _: on_one_pair(simulated))
    wired = line(device=pty.path)
    tallies = await examine_line(RtuLine(wired, listen_ms=20), wired, meters, 25)
    pty.close()
    assert [(tally.answered, tally.silent, tally.damaged) for tally in tallies] == [(25, 0, 0)] * 2
    assert diagnose(tallies) == ()
    shown = text_of(wired, tallies, ())
    assert "heater" in shown and "nothing is wrong" in shown


@pytest.mark.usefixtures("unhurried")
async def test_damage_at_one_address_is_said_with_its_evidence() -> None:
    meters = [meter("heater", 7), meter("oven", 9), meter("press", 11)]
    simulated = [SimulatedMeter(each, FixedEnergy(5), turnaround_ms=2) for each in meters]
    simulated[0].faults.append(Fault(Kind.BAD_CHECKSUM))
    pty = PtyLine(FAST, lambda _: on_one_pair(simulated))
    wired = line(device=pty.path)
    tallies = await examine_line(RtuLine(wired, listen_ms=20), wired, meters, 20)
    pty.close()
    (found,) = diagnose(tallies)
    assert (found.cause, found.meters) == (Cause.TWINS, ("heater",))
    assert "20 of 20" in found.evidence
    assert found.remedy in text_of(wired, tallies, (found,))
    assert json.loads(json.dumps(json_of(wired, tallies, (found,))))["diagnoses"][0]["cause"] == found.cause


async def test_a_port_that_is_not_there_is_said(tmp_path: Path) -> None:
    wired = line(device=str(tmp_path / "nothing"))
    with pytest.raises(LineDown):
        await examine_line(RtuLine(wired), wired, [meter("heater", 7)], 20)


def test_a_line_on_which_nobody_answers_is_not_called_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real line it takes half a minute to try all settings."""
    silent = (Tally("heater", 7, SLOW, silent=50), Tally("oven", 9, SLOW, silent=50))
    assert nobody_answered(silent) and diagnose(silent) == ()

    async def examined(*_: object) -> tuple[Tally, ...]:
        return silent

    monkeypatch.setattr("agent.cli.doctor.examine_line", examined)
    lines = [example_site.serial_line("hall-a", "/dev/nothing")]
    site = example_site.write_site(tmp_path, lines=lines, meters=[example_site.meter("heater", 7)])
    result = CliRunner().invoke(main, ["doctor", "--site", str(site)])
    assert result.exit_code == 1
    assert "nothing can be said of the line" in result.output and "nothing is wrong" not in result.output
    result = CliRunner().invoke(main, ["doctor", "--site", str(site), "--json"])
    assert result.exit_code == 1 and json.loads(result.stdout)["diagnoses"] == []


def test_a_line_without_meters_is_no_line_for_the_doctor(tmp_path: Path) -> None:
    lines = [
        example_site.serial_line("hall-a", "/dev/nothing"),
        example_site.serial_line("spare", "/dev/nobody"),
    ]
    site = example_site.write_site(tmp_path, lines=lines, meters=[example_site.meter("heater", 7)])
    result = CliRunner().invoke(main, ["doctor", "spare", "--site", str(site)])
    assert result.exit_code == 2 and "line spare has no meters" in result.output


def test_the_installer_is_told_how_long_it_takes() -> None:
    meters = [meter(f"m{unit}", unit) for unit in range(1, 27)]
    assert duration_text(line(serial=SLOW), meters, 1000).startswith(
        "1000 reads of each of 26 meters take about 14 min"
    )
    assert "about 1 s" in duration_text(line(serial=SLOW), meters[:1], 20)


def test_help_says_what_it_does() -> None:
    result = CliRunner().invoke(main, ["doctor", "--help"])
    assert result.exit_code == 0 and "nothing is written" in result.output


def test_a_meter_that_is_only_dead_is_no_fault_of_the_line() -> None:
    tallies = (
        Tally("a", 1, SLOW, answered=1000),
        Tally("b", 2, SLOW, silent=50),
        Tally("c", 3, SLOW, answered=1000),
    )
    assert diagnose(tallies) == ()


def test_too_few_reads_say_nothing() -> None:
    assert diagnose([Tally("a", 1, SLOW, damaged=5, with_garbage=5, garbage_bytes=60)]) == ()


def test_the_settings_of_one_meter_are_its_own_diagnosis() -> None:
    there = SerialSettings(9600, "even", 1)
    found = diagnose([Tally("a", 1, SLOW, answered=100), Tally("b", 2, SLOW, silent=50, answers_at=there)])
    assert [(each.cause, each.meters) for each in found] == [(Cause.PARITY, ("b",))]
    assert isinstance(found[0], Diagnosis) and "9600 8E1" in found[0].evidence


def test_other_settings_are_tried_once_each_and_never_the_present_ones() -> None:
    tried = alternatives(SLOW, [SerialSettings(2400, "even", 1)])
    assert tried[0] == SerialSettings(2400, "even", 1)
    assert SLOW not in tried and len(tried) == len(set(tried))
    assert {settings.parity for settings in tried[1:4]} == {"even", "odd", "none"}
