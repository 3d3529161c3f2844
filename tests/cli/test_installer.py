"""The installer's commands in two languages: the same sentences with the same places, the right one where asked for."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import main
from agent.cli.chinese_installer import INSTALLER as CHINESE
from agent.cli.installer import ENGLISH, in_language
from agent.cli.probe import Result as Probed
from agent.cli.probe import text_of as probed
from agent.cli.read import Row
from agent.cli.read import text_of as shown
from agent.cli.scan import Result as Scanned
from agent.cli.scan import text_of as scanned
from agent.metering.plant import SerialSettings
from agent.metering.probe import rank
from agent.protocol.explore import Span
from agent.protocol.scan import Presence
from agent.protocol.survey import Found
from tests.metering.probe_maps import snapshots_of, unknown_meter
from tests.support.plants import line, meter

SETTINGS = SerialSettings(9600, "none", 1)


def test_both_languages_have_the_same_sentences_with_the_same_places() -> None:
    assert CHINESE.keys() == ENGLISH.keys()
    for code, text in ENGLISH.items():
        assert sorted(re.findall(r"\{(\w+)\}", CHINESE[code])) == sorted(re.findall(r"\{(\w+)\}", text)), code
        assert code in ("or",) or CHINESE[code] != text, code
    assert in_language("en") is ENGLISH and in_language("zh") is CHINESE


def test_every_sentence_is_said_by_a_command() -> None:
    commands = (
        Path("agent/cli", f"{name}.py") for name in ("scan", "probe", "read", "meter_setup", "commission")
    )
    source = "".join(file.read_text() for file in (*commands, Path("agent/metering/commissioning.py")))
    for code in ENGLISH:
        assert f'"{code.removeprefix("suspect ")}"' in source, code


def test_a_scan_is_told_in_chinese() -> None:
    assert "A/B 线" in scanned(Scanned(line(), [], 7), CHINESE)
    there = [Found(Presence(5, SETTINGS, True, None), None), Found(Presence(6, SETTINGS, False, None), None)]
    text = scanned(Scanned(line(), there, 60), CHINESE)
    assert "地址相同" in text and "1 块电表，用时 60 秒" in text


def test_a_probe_is_told_in_chinese_and_stays_a_profile() -> None:
    snapshots = snapshots_of(unknown_meter(3))
    result = Probed(line(), 9, SETTINGS, [Span(3, 0, 10)], rank(snapshots), snapshots[-1])
    text = probed(result, CHINESE)
    assert "显示屏现在应显示" in text and "[registers.energy_import]" in text
    empty = probed(Probed(line(), 9, SETTINGS, [Span(3, 0, 10)], (), None), CHINESE)
    assert "负荷变化" in empty


def test_a_read_is_told_in_chinese() -> None:
    read = meter("m1", 1)
    text = shown(line(), read, [Row(read.profile.energy, (0, 1), "1", "")], CHINESE)
    assert "寄存器" in text and "地址 1" in text


@pytest.mark.parametrize("command", ["scan", "probe", "read", "meter-setup"])
def test_every_one_of_them_takes_the_language(command: str) -> None:
    assert "--lang" in CliRunner().invoke(main, [command, "--help"]).output
