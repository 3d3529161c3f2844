"""`metering-agent exchange` at a terminal and in a script, against an agent that answers from a list."""

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli import chinese, main
from agent.cli.exchange import ENGLISH
from agent.service import exchanging

KNOWN: dict[str, Any] = {
    "meter": "reflow-1",
    "place": "hall-a, address 7",
    "site_serial": None,
    "ledger": {"register_kwh": "5001.000000", "at": "2026-03-01T08:00:00.000Z", "serial": "old", "epoch": 1},
    "wire": {"register_kwh": "0.030000", "serial": None, "at": "2026-03-01T08:01:00.000Z"},
    "returned": None,
    "opened": None,
    "order": None,
    "done": False,
    "objections": [],
}
ORDER = {
    "kind": "exchange",
    "noted": "2026-03-01T08:02:00.000Z",
    "by": "Li Wei",
    "last_kwh": "5001.2",
    "first_kwh": "0.0",
    "serial": "new",
    "confirmed": False,
}


class ScriptedAgent:
    """Answers, and remembers what it was asked."""

    def __init__(self, objections: list[dict[str, Any]] | None = None) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.objections = objections or []

    def __call__(self, site_file: Path, question: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert question == "exchange"
        self.asked.append(arguments)
        if arguments["meter"] != "reflow-1":
            return {"unknown_meter": arguments["meter"], "meters": ["reflow-1"]}
        if arguments["do"] == "look":
            return dict(KNOWN)
        order = {**ORDER, "confirmed": arguments["do"] == "confirm" or arguments.get("confirm", False)}
        return {**KNOWN, "order": order, "done": not self.objections, "objections": self.objections}


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> ScriptedAgent:
    made = ScriptedAgent()
    monkeypatch.setattr("agent.cli.exchange.ask_agent", made)
    return made


def run(*arguments: str, keys: str = "") -> Result:
    return CliRunner().invoke(main, ["exchange", *arguments, "--site", "site.toml"], input=keys)


def test_a_person_is_guided_and_confirms(agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.cli.exchange._is_terminal", lambda: True)
    done = run("reflow-1", keys="5001.2\n\n0.0\nnew\nLi Wei\ny\n")
    assert done.exit_code == 0 and "next boundary" in done.output
    assert [each["do"] for each in agent.asked] == ["look", "look", "note", "confirm"]
    said = {"last_kwh": "5001.2", "first_kwh": "0.0", "serial": "new", "by": "Li Wei"}
    assert said.items() <= dict(agent.asked[2]).items()


def test_a_person_who_does_not_confirm_leaves_it_noted(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.cli.exchange._is_terminal", lambda: True)
    done = run("reflow-1", "--lang", "zh", keys="\n\n\n\nLi Wei\nn\n")
    assert done.exit_code == 0 and "尚未确认" in done.output
    assert [each["do"] for each in agent.asked] == ["look", "look", "note"]
    assert "last_kwh" not in agent.asked[2]


def test_a_script_notes_and_confirms_in_one_go_or_in_two(agent: ScriptedAgent) -> None:
    values = ("--last", "5001.2", "--first", "0.0", "--serial", "new", "--by", "Li Wei")
    assert "--yes" in run("reflow-1", *values).output
    done = run("reflow-1", *values, "--yes", "--json")
    assert json.loads(done.output)["order"]["confirmed"] is True
    assert run("reflow-1", "--yes").exit_code == 0
    assert [(each["do"], each.get("confirm")) for each in agent.asked] == [
        ("note", None),
        ("note", True),
        ("confirm", None),
    ]


def test_without_a_terminal_and_options_it_only_shows(agent: ScriptedAgent) -> None:
    done = run("reflow-1")
    assert done.exit_code == 0 and "5001.000000 kWh" in done.output
    assert [each["do"] for each in agent.asked] == ["look"]


def test_a_refusal_is_a_sentence_and_exit_code_1(agent: ScriptedAgent) -> None:
    agent.objections = [{"code": "last-below", "values": {"said": "4", "booked": "5001.000000"}}]
    done = run("reflow-1", "--last", "4", "--by", "Li Wei")
    assert done.exit_code == 1 and "4 kWh is below 5001.000000 kWh" in done.output
    assert run("reflow-1", "--undo").exit_code == run("reflow-1", "--same", "--by", "x").exit_code == 1


def test_wrong_command_lines(agent: ScriptedAgent) -> None:
    assert run("reflow-9").exit_code == 2
    assert run("reflow-1", "--undo", "--same").exit_code == 2


def test_every_objection_has_its_sentence_in_both_languages() -> None:
    codes = set(re.findall(r'Objection\(\s*"([a-z-]+)"', inspect.getsource(exchanging)))
    assert codes and codes <= ENGLISH.keys()
    assert chinese.EXCHANGE.keys() == ENGLISH.keys()
    for code, text in ENGLISH.items():
        places = set(re.findall(r"\{(\w+)", text))
        assert set(re.findall(r"\{(\w+)", chinese.EXCHANGE[code])) == places, code
