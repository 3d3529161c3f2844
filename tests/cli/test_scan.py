"""`metering-agent scan` on a simulated pair behind a pty, in real time, with a few addresses."""

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.adapters.rtu_line import RtuLine
from agent.cli.group import main
from agent.cli.lines import Place, find_line, settings_of, spoken
from agent.cli.scan import Result, json_of, scan_line, text_of
from agent.errors import ConfigError
from agent.metering.plant import SerialSettings, Transport
from agent.protocol.scan import USUAL_SETTINGS
from agent.protocol.survey import Extent
from simulators.meters.meter import FixedEnergy
from simulators.serving import Served, serve_plant
from tests.support.plants import PROFILES, SLOW, line, meter, plant

EVEN = SerialSettings(9600, "even", 1)


async def served() -> Served:
    dlt = replace(meter("dlt", 1, "dlt645-2007-single-phase"), address="000012345678", serial_settings=EVEN)
    meters = (meter("a", 7), meter("b", 3, "abb-b23"), dlt)
    return await serve_plant(
        plant((line(serial=SLOW, device="unused"),), meters),
        {one.id: FixedEnergy(123_456_789_000, 2_000_000) for one in meters},
        device_links=False,
        openings=False,
    )


async def scanned() -> Result:
    """This process plays the meters too: where it had to wait for its turn one was heard too late, so once more."""
    site = await served()
    (wired,) = site.plant_as_served().lines
    extent = Extent(settings=(SLOW, EVEN), units=range(1, 12), fast_only=True)
    try:
        for _ in range(4):
            result = await scan_line(RtuLine(wired, listen_ms=20), wired, extent, PROFILES)
            if "3 meters in" in text_of(result):
                break
        return result
    finally:
        await site.aclose()


async def test_meters_of_both_languages_are_shown_with_lines_for_the_site_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = await scanned()
    text = text_of(result)
    assert "3 meters in" in text
    assert 'profile = "abb-b23"' in text
    assert 'address = "000012345678"' in text
    assert 'parity = "even"' in text
    assert "switch it with meter-setup" in text
    told = json_of(result)
    json.dumps(told)
    meters = told["meters"]
    assert isinstance(meters, list)
    assert [(one["address"], one["protocol"]) for one in meters] == [
        (3, "modbus-rtu"),
        (7, "modbus-rtu"),
        ("000012345678", "dlt645-2007"),
    ]
    assert "abb-b23" in [profile["id"] for profile in meters[0]["profiles"]]
    progress = capsys.readouterr().err
    assert "fast pass, 9600 8N1" in progress
    assert "new addresses: 3, 7, 000012345678" in progress
    passes = told["passes"]
    assert isinstance(passes, list)
    assert [(one["pass"], one["settings"]) for one in passes] == [
        ("fast pass", "9600 8N1"),
        ("fast pass", "9600 8E1"),
    ]
    assert passes[0]["addresses"] == [3, 7, "000012345678"]


def test_nobody_there_is_said_with_a_remedy() -> None:
    assert "A/B wires" in text_of(Result(line(), [], 7))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say which line"),
        (["--device", "x", "--host", "y"], "say which line"),
        (["--host", "10.0.0.1:port"], "is not a host and port"),
        (["--device", "x", "--fast", "--slow"], "exclude each other"),
        (["--device", "x", "--settings", "fast"], "write them like 9600-8N1"),
        (["--device", "x", "--addresses", "0-300"], "write them like 1-32"),
        (["--host", "10.0.0.1", "--settings", "9600-8N1"], "leave --settings out"),
        (["--device", "/nowhere/at/all"], "does not exist"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said(arguments: list[str], said: str) -> None:
    ended = CliRunner().invoke(main, ["scan", *arguments])
    assert ended.exit_code in (2, 75)
    assert said in ended.output


def test_settings_are_read_and_spoken() -> None:
    for settings in USUAL_SETTINGS:
        assert settings_of(spoken(settings).replace(" ", "-")) == settings


def test_a_line_is_found_by_its_id_or_by_its_place(tmp_path: Path) -> None:
    assert find_line(Place(None, "/dev/x", None, None), None).device == "/dev/x"
    gateway = find_line(Place(None, None, "10.0.0.1", "rs485-over-tcp"), None)
    assert (gateway.transport, gateway.host, gateway.port) == (Transport.RS485_OVER_TCP, "10.0.0.1", 502)
    with pytest.raises(ConfigError):
        find_line(Place(tmp_path / "none.toml", None, None, None), "bus")
    with pytest.raises(click.UsageError):
        find_line(Place(None, None, ":1", None), None)
