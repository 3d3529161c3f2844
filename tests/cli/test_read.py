"""`read`: every register of one meter, or a sentence that says which screw to turn."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from agent.cli import main
from agent.cli.read import decimal_text
from agent.errors import FrameDamaged, LineDown, MeterBusy, MeteringError, MeterRefused, MeterSilent
from agent.metering import plant
from agent.metering.decode import encode
from agent.metering.plant import SerialSettings
from agent.metering.profile import Profile
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest
from agent.resources import config_path
from agent.service.ports import Line, Reply
from agent.settings.profiles import load_profiles
from agent.settings.site import load_site
from tests.cli.meter_server import meter_server
from tests.settings.example_site import line, meter, serial_line, write_site

PROFILES = load_profiles(config_path("profiles"))


def words_of(profile: Profile, values: Mapping[str, int | Fraction | str]) -> dict[tuple[int, int], int]:
    """What a meter of this profile has in its registers; those without a value do not exist."""
    words: dict[tuple[int, int], int] = {}
    for name, value in values.items():
        register = profile.registers[name]
        for place, word in enumerate(encode(register, value)):
            words[register.function, register.address + place] = word
    return words


class PretendLine:
    """A line with one meter; `failures` are raised first, one for each read."""

    def __init__(
        self, words: Mapping[tuple[int, int], int], failures: list[MeteringError] | None = None
    ) -> None:
        self.words = words
        self.failures = failures or []
        self.asked: list[ReadRequest] = []
        self.settings: list[SerialSettings | None] = []
        self.open_now = False

    async def open(self) -> None:
        self.open_now = True

    async def read(
        self,
        request: Request,
        *,
        timeout_ms: int,
        quiet_ms: int = 0,
        settings: SerialSettings | None = None,
    ) -> Reply:
        assert isinstance(request, ReadRequest)
        assert self.open_now
        assert timeout_ms > 0
        self.asked.append(request)
        self.settings.append(settings)
        if self.failures:
            raise self.failures.pop(0)
        places = [(request.function, request.address + place) for place in range(request.count)]
        if not all(place in self.words for place in places):
            raise MeterRefused("exception 2", 2)
        return Reply(tuple(self.words[place] for place in places), 0, 1)

    async def close(self) -> None:
        self.open_now = False


@pytest.fixture
def use_line(monkeypatch: pytest.MonkeyPatch) -> Callable[[PretendLine], PretendLine]:
    """Put a pretend line where the wiring makes real ones."""

    def use(port: PretendLine) -> PretendLine:
        def open_line(of: plant.Line) -> PretendLine:
            assert of.id == "hall-a"
            return port

        monkeypatch.setitem(sys.modules, "agent.wiring", SimpleNamespace(open_line=open_line))
        return port

    return use


Done = subprocess.CompletedProcess[str]
UseLine = Callable[[PretendLine], PretendLine]
SDM120_WORDS = words_of(
    PROFILES["eastron-sdm120"],
    {"energy_import": Fraction("123456.75"), "power_active_total": Fraction("1500.5"), "voltage_l1": 230},
)


def test_every_register_is_shown_with_words_value_and_unit(tmp_path: Path, use_line: UseLine) -> None:
    port = use_line(PretendLine(SDM120_WORDS))
    file = write_site(tmp_path, meters=[meter("m", 7, profile="eastron-sdm120")])
    done = _read(file, "m")
    assert done.exit_code == 0
    rows = [" ".join(row.split()) for row in done.stdout.splitlines()]
    assert rows[0] == "m: Eastron SDM120-M at address 7 of line hall-a"
    assert "REGISTER WORDS VALUE UNIT" in rows
    assert "energy_import 47F1 2060 123456.75 kWh" in rows
    assert "power_active_total 44BB 9000 1500.5 W" in rows
    assert "frequency - the meter does not have it (exception 2)" in rows
    assert [row.split()[0] for row in rows[3:]] == list(PROFILES["eastron-sdm120"].registers)
    assert {request.unit for request in port.asked} == {7}
    assert not port.open_now


def test_json(tmp_path: Path, use_line: UseLine) -> None:
    use_line(PretendLine(SDM120_WORDS))
    file = write_site(tmp_path, meters=[meter("m", 7, profile="eastron-sdm120")])
    facts = json.loads(_read(file, "m", "--json").stdout)
    assert (facts["meter"], facts["line"], facts["address"], facts["profile"]) == (
        "m",
        "hall-a",
        7,
        "eastron-sdm120",
    )
    assert facts["registers"]["energy_import"] == {
        "words": ["47F1", "2060"],
        "value": "123456.75",
        "unit": "kWh",
        "note": "",
    }
    assert facts["registers"]["frequency"]["value"] is None


def test_what_counts_behind_transformers_is_shown_as_it_will_be_booked(
    tmp_path: Path, use_line: UseLine
) -> None:
    profile = PROFILES["chint-dtsu666-2019"]
    assert profile.energy.secondary
    use_line(
        PretendLine(
            words_of(profile, {"energy_import": Fraction("10.5"), "voltage_l1": 2300, "current_l1": 1000})
        )
    )
    file = write_site(
        tmp_path, meters=[meter("m", 1, profile="chint-dtsu666-2019", ct_ratio="150/5", pt_ratio="10000/100")]
    )
    rows = json.loads(_read(file, "m", "--json").stdout)["registers"]
    plain = {name: Fraction(row["value"]) for name, row in rows.items() if row["value"] is not None}
    assert plain["energy_import"] == Fraction("10.5") * profile.energy.per_count * 3_000
    assert plain["voltage_l1"] == 2300 * profile.registers["voltage_l1"].per_count * 100
    assert plain["current_l1"] == 1000 * profile.registers["current_l1"].per_count * 30
    assert rows["energy_import"]["note"] == "CT/PT x 3000"


def test_a_value_that_means_nothing_is_no_zero(tmp_path: Path, use_line: UseLine) -> None:
    words = {**SDM120_WORDS, (4, 0x48): 0x7FC0, (4, 0x49): 0}
    use_line(PretendLine(words))
    done = _read(write_site(tmp_path, meters=[meter("m", 7, profile="eastron-sdm120")]), "m")
    (row,) = [" ".join(row.split()) for row in done.stdout.splitlines() if row.startswith("energy_import")]
    assert row == "energy_import 7FC0 0000 - energy_import: not a number"


def test_a_meter_that_differs_from_its_line_is_asked_at_its_own_speed(
    tmp_path: Path, use_line: UseLine
) -> None:
    port = use_line(PretendLine(SDM120_WORDS))
    file = write_site(
        tmp_path,
        lines=[serial_line("hall-a", "/dev/x")],
        meters=[meter("m", 7, profile="eastron-sdm120", baud=2400)],
    )
    assert _read(file, "m").exit_code == 0
    assert set(port.settings) == {SerialSettings(2400, "none", 1)}


def test_one_damaged_frame_is_no_failure(tmp_path: Path, use_line: UseLine) -> None:
    use_line(PretendLine(SDM120_WORDS, [FrameDamaged("noise"), MeterSilent("late")]))
    done = _read(write_site(tmp_path, meters=[meter("m", 7, profile="eastron-sdm120")]), "m")
    assert (done.exit_code, done.stderr) == (0, "")


SERIAL = serial_line("hall-a", "/dev/x")


@pytest.mark.parametrize(
    ("of_line", "failure", "code", "message"),
    [
        (
            SERIAL,
            MeterSilent("unit 7"),
            75,
            "line hall-a, address 7 (m): no answer in 3 tries; check the meter's power, the A/B wires, and that it is "
            "set to address 7 and 9600 baud, parity none, 1 stop bit (it leaves its maker with 2400 baud, parity none, "
            "1 stop bit); scan finds what it is set to\n",
        ),
        (
            line(),
            MeterSilent("unit 7"),
            75,
            "check that the gateway knows unit 7, and power and wires of the meter",
        ),
        (
            SERIAL,
            FrameDamaged("unit 9 answered"),
            75,
            "unit 9 answered; check that no second meter has address 7",
        ),
        (SERIAL, MeterBusy("busy"), 75, "the meter asked for more time in 3 tries; try again in a minute"),
        (SERIAL, MeterRefused("exception 1", 1), 1, "is probably no eastron-sdm120; check the profile"),
        (
            SERIAL,
            LineDown("line hall-a: /dev/x is in use by metering-agent (process 7)"),
            75,
            "in use by metering-agent (process 7); if the agent itself runs, stop it first",
        ),
        (
            SERIAL,
            LineDown("line hall-a: /dev/x does not exist; plug it in"),
            75,
            "does not exist; plug it in\n",
        ),
    ],
)
def test_what_went_wrong_is_said_with_what_to_do(
    tmp_path: Path,
    use_line: UseLine,
    of_line: dict[str, object],
    failure: MeteringError,
    code: int,
    message: str,
) -> None:
    port = use_line(PretendLine(SDM120_WORDS, [failure] * 3))
    done = _read(write_site(tmp_path, lines=[of_line], meters=[meter("m", 7, profile="eastron-sdm120")]), "m")
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""
    assert not port.open_now


def test_an_unknown_meter_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = _read(write_site(tmp_path), "reflow-2")
    assert done.exit_code == 2
    assert 'there is no meter "reflow-2"; did you mean "reflow-1"?' in done.stderr


def test_a_wrong_site_file_ends_with_2(tmp_path: Path) -> None:
    done = _read(write_site(tmp_path, meters=[meter("m", 300)]), "m")
    assert done.exit_code == 2
    assert "300 is not a Modbus address" in done.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction("123456.75"), "123456.75"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(1, 3), "~0.333333333"),
        (Fraction(-2, 3), "~-0.666666667"),
        (Fraction(10**12), "1000000000000"),
        (Fraction(1, 10**9), "0.000000001"),
    ],
)
def test_values_are_exact_decimals(value: Fraction, text: str) -> None:
    assert decimal_text(value) == text


# ------------------------------------------------------------------------------------------------------- for real


def test_a_meter_behind_tcp_is_read_by_the_real_command(tmp_path: Path) -> None:
    with meter_server(SDM120_WORDS, unit=7) as port:
        file = write_site(tmp_path, lines=[line(port=port)], meters=[meter("m", 7, profile="eastron-sdm120")])
        done = _process(file, "m", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["registers"]["energy_import"]["value"] == "123456.75"


def test_a_silent_unit_behind_tcp(tmp_path: Path) -> None:
    with meter_server(SDM120_WORDS, unit=7) as port:
        file = write_site(tmp_path, lines=[line(port=port)], meters=[meter("m", 8, profile="eastron-sdm120")])
        done = _process(file, "m")
    assert done.returncode == 75
    assert (
        "line hall-a, address 8 (m): no answer in 3 tries; check that the gateway knows unit 8" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_an_answer_of_another_unit_is_not_believed(tmp_path: Path) -> None:
    with meter_server(SDM120_WORDS, unit=7, answers_as=9) as port:
        file = write_site(tmp_path, lines=[line(port=port)], meters=[meter("m", 7, profile="eastron-sdm120")])
        done = _process(file, "m")
    assert done.returncode == 75
    assert done.stdout == ""
    assert "address 7 (m)" in done.stderr


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    done = _process(write_site(tmp_path, lines=[line(port=1)]), "reflow-1")
    assert done.returncode == 75
    assert (
        "line hall-a: cannot connect to 127.0.0.1:1 (connection refused); check address, port and power of the gateway"
        in done.stderr
    )


def test_an_adapter_that_is_not_plugged_in(tmp_path: Path) -> None:
    done = _process(
        write_site(tmp_path, lines=[serial_line("hall-a", "/dev/serial/by-id/nothing")]), "reflow-1"
    )
    assert done.returncode == 75
    assert "does not exist; plug the adapter in" in done.stderr


def test_a_port_that_the_agent_holds_is_refused_kindly(tmp_path: Path) -> None:
    """The service keeps its ports to itself; this test holds the port as it would."""
    from agent.wiring import open_line

    master, slave = pty.openpty()
    try:
        file = write_site(tmp_path, lines=[serial_line("hall-a", os.ttyname(slave))])
        port = open_line(load_site(file).plant.lines[0])
        done = _with_open(port, lambda: _process(file, "reflow-1"))
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 75
    assert "is in use by" in done.stderr
    assert "if the agent itself runs, stop it first (systemctl stop metering-agent)" in done.stderr


def _with_open(port: Line, act: Callable[[], Done]) -> Done:
    async def body() -> Done:
        await port.open()
        try:
            return await asyncio.to_thread(act)
        finally:
            await port.close()

    return asyncio.run(body())


def test_a_factory_setting_that_no_source_states_is_not_told_as_one(
    tmp_path: Path, use_line: UseLine
) -> None:
    use_line(PretendLine({}, [MeterSilent("unit 7")] * 3))
    done = _read(
        write_site(tmp_path, lines=[SERIAL], meters=[meter("m", 7, profile="abb-b23", serial=None)]), "m"
    )
    assert "1 stop bit (its factory setting is not stated); scan finds what it is set to" in done.stderr


def test_the_total_of_a_meter_that_counts_in_tariffs_is_shown(tmp_path: Path) -> None:
    pac = PROFILES["siemens-pac2200"]
    shown = {"energy_import_t1": Fraction(1_234_500), "energy_import_t2": Fraction(500)}
    with meter_server(words_of(pac, shown)) as port:
        file = write_site(
            tmp_path, lines=[line(port=port)], meters=[meter("reflow-1", 1, profile=pac.id, serial=None)]
        )
        told = json.loads(_read(file, "reflow-1", "--json").output)["registers"]
        text = _read(file, "reflow-1").output
    assert told["energy_import"] == {
        "words": [],
        "value": "1235000",
        "unit": "Wh",
        "note": "energy_import_t1 + energy_import_t2",
    }
    assert [told[f"energy_import_t{tariff}"]["value"] for tariff in (1, 2)] == ["1234500", "500"]
    assert "1235000" in text


def test_a_total_that_lacks_a_part_is_said_so(tmp_path: Path) -> None:
    pac = PROFILES["siemens-pac2200"]
    with meter_server(words_of(pac, {"energy_import_t1": Fraction(1_234_500)})) as port:
        file = write_site(
            tmp_path, lines=[line(port=port)], meters=[meter("reflow-1", 1, profile=pac.id, serial=None)]
        )
        total = json.loads(_read(file, "reflow-1", "--json").output)["registers"]["energy_import"]
    assert total["value"] is None
    assert "does not have all of energy_import_t1 + energy_import_t2" in total["note"]


def _read(file: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["read", "--site", str(file), *words], catch_exceptions=False)


def _process(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from agent.cli import main; main()",
        "read",
        "--site",
        str(file),
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
