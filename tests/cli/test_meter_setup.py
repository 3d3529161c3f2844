"""`metering-agent meter-setup` on a simulated pair: what it changes, and everything that it refuses to touch."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.adapters.meter_writer import write_setting
from agent.adapters.rtu_line import RtuLine
from agent.cli.group import main
from agent.cli.meter_setup import carry_out, planned
from agent.errors import FrameDamaged, LineDown, MeterRefused, MeterSilent, Refused
from agent.metering.plant import Line, SerialSettings
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu_frame import frame
from agent.protocol.scan import SLOW
from agent.protocol.writing import SwitchToModbus, Write
from agent.settings.metersetup import load_settable, load_switch
from simulators.line.pump import PtyLine
from simulators.line.rs485 import Hear
from simulators.meters.meter import FixedEnergy, SimulatedMeter
from simulators.meters.settable import SettableMeter
from tests.support.plants import PROFILES, line, meter


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated meters settle at once and answer after 10 ms, and a pty has nothing old to deliver."""
    monkeypatch.setattr("agent.cli.meter_setup.SETTLE_S", 0.01)
    monkeypatch.setattr("agent.cli.meter_setup.REPLY_MS", 250)
    monkeypatch.setattr("agent.adapters.meter_writer.LISTEN_S", 0.02)
    monkeypatch.setattr("agent.wiring.open_line", lambda line: RtuLine(line, listen_ms=5))
    monkeypatch.setattr("agent.protocol.scan.ECHO_MS", 30)
    monkeypatch.setattr("agent.protocol.scan.LATE_MS", 60)
    monkeypatch.setattr("agent.cli.meter_setup.SLOW", replace(SLOW, modbus_ms=50, dlt_ms=120, dlt_rounds=1))


S9600 = SerialSettings(9600, "none", 1)
SDM = "eastron-sdm120"
ONE_OF_EACH_KIND = ("eastron-sdm230", "chint-dtsu666-2016", "hiking-dds238-v2", "peacefair-pzem-016")
"""A float, a word, half a word, and a word that function 6 writes."""


@dataclass
class Bench:
    """One line with settable meters."""

    line: Line
    meters: list[SettableMeter]
    log: Path

    async def change(self, where: str, parameter: str, value: str, profile: str | None = SDM) -> str:
        of = None if profile is None else PROFILES[profile]
        own = self.meters[0].settings
        change, order = planned(where, own, of, parameter, value)
        return await carry_out(self.line, change, order, of, self.log, ask=False)

    def logged(self) -> list[dict[str, str]]:
        return [json.loads(row) for row in self.log.read_text().splitlines()] if self.log.exists() else []


def settable(unit: int, profile: str = SDM, *, at_once: bool = True) -> SettableMeter:
    return SettableMeter(
        SimulatedMeter(meter(f"m{unit}", unit, profile), FixedEnergy(987_654_321), answers_holes=True),
        S9600,
        load_settable()[profile].settings,
        needs_power_cycle=not at_once,
    )


def chint(profile: str = "chint-ddsu666", *, speaks: str = "modbus", at_once: bool = True) -> SettableMeter:
    """A meter of both languages: address 61 in Modbus, as its number 000000000161 ends."""
    found = settable(61, profile, at_once=at_once)
    number = replace(meter("d", 1, "dlt645-2007-single-phase"), address="000000000161")
    found.other = SimulatedMeter(number, FixedEnergy(1))
    if speaks == "dlt645":
        found.meter, found.other = found.other, found.meter
    return found


def together(meters: list[SettableMeter]) -> Callable[[int], Hear]:
    def hear_at(baud: int) -> Hear:
        def hear(data: bytes):  # type: ignore[no-untyped-def]
            answers = [one.hear_at(baud)(data) for one in meters]
            return [replace(sent, talker=number) for number, own in enumerate(answers) for sent in own]

        return hear

    return hear_at


@asynccontextmanager
async def bench(tmp_path: Path, *meters: SettableMeter) -> AsyncIterator[Bench]:
    pty = PtyLine(S9600, together(list(meters)))
    try:
        yield Bench(line(device=pty.path, serial=S9600), list(meters), tmp_path / "setup.log")
    finally:
        pty.close()


async def test_a_new_address_is_written_read_back_and_logged(tmp_path: Path) -> None:
    async with bench(tmp_path, settable(1)) as on:
        assert "done: it answers at 7" in await on.change("1", "address", "7")
        assert on.meters[0].meter.unit == 7
        assert on.meters[0].written == [("address", 7)]
        (entry,) = on.logged()
    assert (entry["from"], entry["to"], entry["parameter"]) == ("1", "7", "address")
    assert entry["serial"]
    assert entry["result"].startswith("done")


async def test_a_new_speed_is_found_again_at_it(tmp_path: Path) -> None:
    async with bench(tmp_path, settable(1)) as on:
        assert "done: it answers at 1 with 2400 8N1" in await on.change("1", "baud", "2400")
        assert on.meters[0].settings.baud == 2400


async def test_a_meter_that_wants_its_power_off_first_is_said_so(tmp_path: Path) -> None:
    async with bench(tmp_path, settable(1, at_once=False)) as on:
        assert "switch its power off and on" in await on.change("1", "address", "7")
        on.meters[0].power_cycle()
        assert on.meters[0].meter.unit == 7


async def test_a_chint_meter_is_switched_from_dl_t_645_to_modbus(tmp_path: Path) -> None:
    found = chint(speaks="dlt645")
    async with bench(tmp_path, found) as on:
        told = await on.change("000000000161", "protocol", "modbus", None)
        assert told == "done: it speaks Modbus at 61 with 9600 8N1"
    assert found.written == [("protocol", 2)]


async def test_a_chint_meter_that_waits_for_its_power_speaks_its_old_language_still(tmp_path: Path) -> None:
    found = chint(speaks="dlt645", at_once=False)
    async with bench(tmp_path, found) as on:
        told = await on.change("000000000161", "protocol", "modbus", None)
        assert "speaks its old language still: switch its power off and on" in told
    assert found.written == [("protocol", 2)]


@pytest.mark.parametrize("profile", ["chint-ddsu666", "chint-dtsu666-2019"])
async def test_a_chint_meter_is_switched_back_from_modbus_to_dl_t_645(tmp_path: Path, profile: str) -> None:
    found = chint(profile)
    async with bench(tmp_path, found) as on:
        told = await on.change("61", "protocol", "dlt645", profile)
        (entry,) = on.logged()
    assert told == "done: it speaks DL/T 645 at 000000000161 with 9600 8E1"
    assert found.written == [("protocol", 1)]
    assert (entry["from"], entry["to"]) == ("modbus", "dlt645")


@pytest.mark.parametrize("profile", ONE_OF_EACH_KIND)
async def test_every_kind_of_register_takes_a_new_address(tmp_path: Path, profile: str) -> None:
    found = settable(1, profile)
    async with bench(tmp_path, found) as on:
        assert "done: it answers at 7" in await on.change("1", "address", "7", profile)
        assert [entry["parameter"] for entry in on.logged()] == ["address"]
    assert found.meter.unit == 7
    assert found.written == [("address", 7)]


@pytest.mark.parametrize("profile", ["hiking-dds238-v2", "orno-or-we-514"])
async def test_a_speed_is_set_in_the_numbers_of_its_maker(tmp_path: Path, profile: str) -> None:
    found = settable(1, profile)
    async with bench(tmp_path, found) as on:
        assert "done: it answers at 1 with 4800" in await on.change("1", "baud", "4800", profile)
    assert (found.meter.unit, found.settings.baud) == (1, 4800)
    assert found.written == [("baud", {"hiking-dds238-v2": 2, "orno-or-we-514": 3}[profile])]


async def test_the_other_half_of_a_shared_register_is_kept(tmp_path: Path) -> None:
    """Hiking keeps address and speed in one register."""
    found = settable(1, "hiking-dds238-v2")
    async with bench(tmp_path, found) as on:
        await on.change("1", "address", "247", "hiking-dds238-v2")
    assert found.written == [("address", 247)]
    assert found.settings.baud == 9600


# ------------------------------------------------------------------------------------------------- what it leaves alone


async def test_two_meters_at_the_address_are_not_written_to(tmp_path: Path) -> None:
    async with bench(tmp_path, settable(1), settable(1, "chint-ddsu666")) as on:
        with pytest.raises(Refused, match="two or more meters"):
            await on.change("1", "address", "7")
        assert not any(one.written for one in on.meters)


async def test_an_address_that_is_taken_is_not_given_away_again(tmp_path: Path) -> None:
    async with bench(tmp_path, settable(1), settable(7)) as on:
        with pytest.raises(Refused, match="address 7 is taken"):
            await on.change("1", "address", "7")
        assert not any(one.written for one in on.meters)


async def test_nobody_there_is_nobody_written_to(tmp_path: Path) -> None:
    async with bench(tmp_path, settable(3)) as on:
        with pytest.raises(MeterSilent, match="no meter answers at 1"):
            await on.change("1", "address", "7")
        assert on.meters[0].written == []


async def test_a_meter_that_refuses_is_logged_too(tmp_path: Path) -> None:
    locked = settable(1)
    locked.is_locked = True
    async with bench(tmp_path, locked) as on:
        with pytest.raises(MeterRefused, match="refuses to have its setting changed"):
            await on.change("1", "address", "7")
        assert on.logged()[0]["result"].startswith("failed")


async def test_an_interrupted_attempt_is_logged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the frame was sent: nobody knows what the meter did, so the log has to say so."""
    sent = asyncio.Event()

    async def never_ends(*_: object) -> None:
        sent.set()
        await asyncio.sleep(60)

    monkeypatch.setattr("agent.adapters.meter_writer.write_setting", never_ends)
    async with bench(tmp_path, settable(1)) as on:
        task = asyncio.create_task(on.change("1", "address", "7"))
        await sent.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert on.logged()[0]["result"].startswith("interrupted")


async def test_a_register_that_shows_something_else_is_not_written_to(tmp_path: Path) -> None:
    """As where one firmware keeps the speed in the register in which another keeps the address."""
    found = settable(1, "chint-dtsu666-2019")
    found.options = {"baud": replace(found.options["baud"], register=found.options["address"].register)}
    async with bench(tmp_path, found) as on:
        with pytest.raises(Refused, match=r"shows 0003 and not the address 1 .* nothing was written"):
            await on.change("1", "address", "7", "chint-dtsu666-2019")
        assert on.logged() == []
    assert found.written == []


async def test_another_firmware_is_not_written_to(tmp_path: Path) -> None:
    found = settable(1, "chint-dtsu666-2016")
    async with bench(tmp_path, found) as on:
        with pytest.raises(Refused, match="probably no chint-dtsu666-2019; nothing was written"):
            await on.change("1", "address", "7", "chint-dtsu666-2019")
    assert found.written == []


async def test_a_meter_without_the_register_is_not_written_to(tmp_path: Path) -> None:
    found = settable(1)
    found.options = {}
    found.meter = SimulatedMeter(found.meter.meter, FixedEnergy(1))
    async with bench(tmp_path, found) as on:
        with pytest.raises(Refused, match=r"no register 20 for its address"):
            await on.change("1", "address", "7")
    assert found.written == []


async def test_a_lost_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    pty = PtyLine(S9600, lambda _: lambda _: [])
    try:
        with pytest.raises(MeterSilent, match="look with scan"):
            await write_setting(line(device=pty.path), S9600, Write(1, 0x14, (0x40E0, 0)))
        await asyncio.sleep(0.05)
        assert pty.line.requests_heard == 1
    finally:
        pty.close()
    with pytest.raises(LineDown):
        await write_setting(line(device=pty.path), S9600, Write(1, 0x14, (0x40E0, 0)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say one of --new-address"),
        (["--new-address", "7", "--new-baud", "9600"], "say one of --new-address"),
        (["--new-address", "7"], "say which model it is with --profile"),
        (["--to-dlt645", "--profile", SDM], "what can be set is address, baud, framing"),
        (["--to-dlt645", "--to-modbus"], "say one of --new-address"),
        (["--new-address", "7", "--profile", "abb-b23"], "nothing may be written"),
        (["--new-baud", "31250", "--profile", SDM], "is not one of"),
        (["--new-baud", "9600", "--profile", "chint-dtsu666-2016"], "no source says how"),
        (["--new-framing", "8O1", "--profile", "chint-dtsu666-2019"], "is not one of"),
        (["--to-modbus"], "not a DL/T 645 address"),
    ],
)
def test_what_may_not_be_written_is_refused_before_the_line_is_touched(
    arguments: list[str], said: str
) -> None:
    ended = CliRunner().invoke(main, ["meter-setup", "--device", "/nowhere", "--address", "1", *arguments])
    assert ended.exit_code == 2
    assert said in ended.output


def test_a_gateway_and_a_wildcard_are_refused() -> None:
    on_tcp = ["meter-setup", "--host", "10.0.0.1", "--address", "1", "--new-address", "7", "--profile", SDM]
    assert "stands between" in CliRunner().invoke(main, on_tcp).output
    everybody = ["meter-setup", "--device", "/nowhere", "--address", "AAAAAAAAAAAA", "--to-modbus"]
    assert "would mean all of them" in CliRunner().invoke(main, everybody).output


# ------------------------------------------------------------------------------------------------ frames and whitelist


def test_the_frame_of_the_makers_example() -> None:
    """SolarNetwork's page shows what sets an SDM120 to 9600 baud, byte by byte."""
    write = Write(1, 0x1C, load_settable()[SDM].settings["baud"].words("9600"))
    assert write.encode() == bytes.fromhex("0110001C00020440000000E736")
    assert write.is_done(bytes.fromhex("0110001C0002800E"))


def test_only_the_right_confirmation_is_one() -> None:
    write = Write(1, 0x1C, (0x4000, 0))
    done = bytes.fromhex("0110001C0002800E")
    assert not write.is_done(done[:-1])
    assert not write.is_done(b"")
    assert write.is_done(b"\x00\xff" + write.encode() + done)
    with pytest.raises(FrameDamaged):
        write.is_done(frame(1, bytes.fromhex("1000140002")))
    with pytest.raises(MeterRefused, match="illegal data address"):
        write.is_done(frame(1, b"\x90\x02"))


def test_the_switch_is_the_manuals_frame() -> None:
    switch = load_switch()
    command = SwitchToModbus("000000000161", switch.identifier, switch.password, switch.operator, switch.data)
    told = bytes.fromhex("333335 3D35 333333 33333333 3333")
    assert command.encode()[4:-2] == bytes.fromhex("68610100000000 68 14 0E") + told


def test_the_line_that_reads_cannot_be_made_to_write() -> None:
    for function in (5, 6, 15, 16, 22, 23):
        with pytest.raises(ValueError, match="no function that reads"):
            ReadRequest(1, function, 0x14, 2)


def test_every_setting_on_the_list_belongs_to_a_shipped_profile() -> None:
    for profile, model in load_settable().items():
        assert profile in PROFILES
        assert "address" in model.settings
        for setting in model.settings.values():
            for value in setting.codes or {"7": 7}:
                assert len(setting.words(value)) == setting.register.words
