"""`commission`: two minutes in front of simulated meters, in virtual time, with sites that read them wrongly."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.cli.installer import ENGLISH
from agent.errors import LineDown, MeterSilent
from agent.metering import plant
from agent.metering.commissioning import Order, Verdict
from agent.metering.plant import SerialSettings
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest, words_of
from agent.service.ports import Reply
from agent.settings.site import load_site
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from tests.settings.example_site import line, meter, write_site


@dataclass
class VirtualClock:
    """Time passes only while somebody waits; `tell` hears of it."""

    tell: Callable[[int], None]
    now_ns: int = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1_000_000_000)
        self.tell(self.now_ns)


@dataclass
class Bench:
    """Simulated meters by address, all with the same load, behind lines that a site file names."""

    meters: dict[int, SimulatedMeter] = field(default_factory=dict)
    source: FixedEnergy = field(default_factory=lambda: FixedEnergy(milliwh=500_000))
    silent: set[int] = field(default_factory=set)
    is_down: bool = False
    open_now: int = 0

    def connect(self, site_file: Path, **changes: dict[str, Any]) -> None:
        """A meter at every address of a site, with these registers otherwise than the profile says."""
        for each in load_site(site_file).plant.meters:
            assert isinstance(each.address, int)
            registers = {
                name: replace(register, **changes.get(name, {}))
                for name, register in each.profile.registers.items()
            }
            there = replace(each, profile=replace(each.profile, registers=registers))
            self.meters[each.address] = SimulatedMeter(there, self.source, opening_milliwh=1_234_567_000_000)

    def run_to(self, now_ns: int) -> None:
        self.source.milliwh = 500_000 + self.source.milliwatts * now_ns // 3_600_000_000_000

    def open_line(self, of: plant.Line) -> "Bench":
        return self

    async def open(self) -> None:
        if self.is_down:
            raise LineDown("/dev/ttyUSB0 in use")
        self.open_now += 1

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        assert isinstance(request, ReadRequest)
        if request.unit in self.silent:
            raise MeterSilent(f"unit {request.unit}")
        return Reply(words_of(request, self.meters[request.unit].answer(request.pdu())), 0, 1)

    async def close(self) -> None:
        self.open_now -= 1


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    bench.source.milliwatts = 36_000_000
    monkeypatch.setitem(sys.modules, "agent.wiring", SimpleNamespace(open_line=bench.open_line))
    clock = VirtualClock(bench.run_to)
    monkeypatch.setattr("agent.adapters.clock.SystemClock", lambda: clock)
    return bench


def _commission(site: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["commission", "--site", str(site), *arguments])


def test_true_meters_agree_on_every_line(tmp_path: Path, bench: Bench) -> None:
    lines = [line("hall-a"), line("hall-b", port=15_021)]
    meters = [meter("m", 7), meter("n", 8, line="hall-b", ct_ratio="150/5", profile="chint-dtsu666-2019")]
    site = write_site(tmp_path, lines=lines, meters=meters)
    bench.connect(site)
    done = _commission(site)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("watching m, n on hall-a, hall-b for 120 s")
    first, second = done.stdout.splitlines()
    assert first.startswith("m: energy and power agree: 1.")
    assert second.startswith("n: energy and power agree: 1.")
    assert bench.open_now == 0
    facts = json.loads(_commission(site, "m", "--json").stdout)["meters"]
    assert [(one["meter"], one["verdict"], one["misordered"]) for one in facts] == [("m", "agrees", [])]


@pytest.mark.fault("F27")
@pytest.mark.parametrize(
    ("change", "suspect"),
    [
        ({"per_count": Fraction(1, 1000)}, "kWh taken for Wh"),
        ({"per_count": Fraction(1, 10)}, "the decimal point"),
        ({"secondary": True}, "CT applied once too often or not at all"),
    ],
)
def test_a_wrong_scale_is_refused_with_the_likely_mistake(
    tmp_path: Path, bench: Bench, change: dict[str, Any], suspect: str
) -> None:
    site = write_site(tmp_path, meters=[meter("m", 7, ct_ratio="150/5")])
    bench.connect(site, energy_import=change)
    done = _commission(site)
    assert done.exit_code == 1, done.output
    assert "m: energy and power contradict each other" in done.stdout
    assert suspect in done.stdout
    assert "矛盾" in _commission(site, "--lang", "zh").stdout


@pytest.mark.fault("F26")
def test_a_wrong_word_order_is_refused_and_read_says_so_at_one_look(tmp_path: Path, bench: Bench) -> None:
    site = write_site(tmp_path, meters=[meter("m", 7)])
    bench.connect(site, voltage_l1={"low_word_first": True}, power_active_total={"low_word_first": True})
    done = _commission(site)
    assert done.exit_code == 1, done.output
    said = [text for text in done.stdout.splitlines() if text.startswith("m: voltage_l1: ")]
    assert said and "cannot be; with the words in the other order it would be 230." in said[0]
    assert "Correct word_order in the profile" in said[0]
    read = CliRunner().invoke(main, ["read", "m", "--site", str(site)])
    assert said[0].removeprefix("m: ") in read.stdout
    facts = json.loads(CliRunner().invoke(main, ["read", "m", "--site", str(site), "--json"]).stdout)
    assert {one["order"] for one in facts["misordered"]} == {"words swapped"}
    assert {one["register"] for one in facts["misordered"]} == {"voltage_l1", "power_active_total"}


def test_without_load_it_asks_to_be_run_again(tmp_path: Path, bench: Bench) -> None:
    bench.source.milliwatts = 0
    site = write_site(tmp_path, meters=[meter("m", 7)])
    bench.connect(site)
    done = _commission(site)
    assert (done.exit_code, done.stdout) == (
        75,
        "m: no load, so nothing can be told. Switch something on and run this again.\n",
    )


def test_a_circuit_that_feeds_back_is_not_called_well(tmp_path: Path, bench: Bench) -> None:
    site = write_site(tmp_path, meters=[meter("m", 7)])
    bench.connect(site, power_active_total={"per_count": Fraction(-1)})
    done = _commission(site)
    assert (done.exit_code, "m: feeds back" in done.stdout) == (75, True), done.output


NO_POWER = "acrel-amc72l-e4"
"""A model whose documented registers are energy alone."""


def test_a_meter_without_power_is_not_called_proved(tmp_path: Path, bench: Bench) -> None:
    site = write_site(tmp_path, meters=[meter("m", 7), meter("blind", 8, profile=NO_POWER)])
    bench.connect(site)
    done = _commission(site)
    assert done.exit_code == 3, done.output
    assert "m: energy and power agree" in done.stdout
    assert "blind: shows no power that could be compared with its energy." in done.stdout
    assert _commission(site, "m").exit_code == 0
    alone = _commission(site, "blind", "--json")
    (facts,) = json.loads(alone.stdout)["meters"]
    assert (alone.exit_code, facts["compared"], facts["undecided"], facts["wrong"]) == (
        3,
        False,
        False,
        False,
    )


def test_what_can_be_corrected_or_asked_again_comes_before_what_cannot(tmp_path: Path, bench: Bench) -> None:
    meters = [meter("m", 7), meter("n", 8), meter("blind", 9, profile=NO_POWER)]
    site = write_site(tmp_path, meters=meters)
    bench.connect(site)
    bench.silent = {8}
    assert _commission(site).exit_code == 75
    bench.connect(site, energy_import={"per_count": Fraction(1, 1000)})
    assert _commission(site).exit_code == 1


def test_a_silent_meter_does_not_hide_the_others(tmp_path: Path, bench: Bench) -> None:
    site = write_site(tmp_path, meters=[meter("m", 7), meter("n", 8)])
    bench.connect(site)
    bench.silent = {7}
    done = _commission(site)
    assert done.exit_code == 75
    assert "line hall-a, address 7 (m): no answer in 3 tries" in done.stdout
    assert "n: energy and power agree" in done.stdout


def test_a_port_in_use_is_said(tmp_path: Path, bench: Bench) -> None:
    site = write_site(tmp_path, meters=[meter("m", 7)])
    bench.connect(site)
    bench.is_down = True
    done = _commission(site)
    assert done.exit_code == 75
    assert "stop it first (systemctl stop metering-agent)" in done.stdout


def test_a_meter_that_is_not_there_is_named(tmp_path: Path, bench: Bench) -> None:
    done = _commission(write_site(tmp_path, meters=[meter("m", 7)]), "mm")
    assert done.exit_code == 2
    assert 'there is no meter "mm"' in done.stderr


def test_there_is_a_sentence_for_every_answer() -> None:
    assert {verdict.value for verdict in Verdict} <= set(ENGLISH)
    assert {order.value for order in Order if order is not Order.GIVEN} <= set(ENGLISH)
    usual = ("unit", "decimal", "ct", "pt", "ct and pt", "phases", "unknown")
    assert {f"suspect {name}" for name in usual} <= set(ENGLISH)
