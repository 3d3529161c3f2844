"""`apply` from the command line's side: what it asks, says and refuses; where no agent runs, and where one answers.

The whole of it with real processes is `tests/real/test_apply.py`.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.adapters.sitefile import Record, SiteFile, sha256_of
from agent.cli import apply as command
from agent.cli import applywords, main, takingover
from agent.cli.running import NotRunning
from agent.errors import RetryLater
from agent.settings import changes
from agent.settings.changes import Difference
from agent.settings.site import load_site
from tests.cli.meter_server import meter_server
from tests.cli.test_read import words_of
from tests.settings.example_site import line, meter, write_site
from tests.support.overviews import a_meter

WAVE = meter("wave-1", 2, step="wave_soldering")


@pytest.fixture
def port() -> Iterator[int]:
    """One meter that answers, at unit 1."""
    profile = load_site_profile()
    words = words_of(profile, {"energy_import": 12345, profile.identity or "serial_number": 2206001234})
    with meter_server(words) as number:
        yield number


def load_site_profile() -> Any:
    from agent.resources import config_path
    from agent.settings.profiles import ProfileShelf

    return ProfileShelf(config_path("profiles"))["eastron-sdm630-v2"]


class Ground:
    """A site file, a new one in another folder, and the command."""

    def __init__(self, folder: Path, port: int) -> None:
        self.lines = [line(port=port)]
        self.site = write_site(folder / "etc", lines=self.lines, meters=[meter("reflow-1", 1)])
        self.old = self.site.read_bytes()
        self.new = folder / "new.toml"
        self.file = SiteFile(self.site)
        self.write([meter("reflow-1", 1, step="pcba_burn_in")])

    def write(self, meters: list[dict[str, object]], **parts: Any) -> None:
        path = write_site(self.site.parent, lines=self.lines, meters=meters, **parts)
        self.new.write_bytes(path.read_bytes())
        self.site.write_bytes(self.old)

    def apply(self, *more: str, keys: str = "") -> Result:
        return CliRunner().invoke(main, ["apply", *more, "--site", str(self.site)], input=keys)

    def json(self, *more: str) -> tuple[int, dict[str, Any]]:
        done = self.apply(str(self.new), "--json", *more)
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def ground(tmp_path: Path, port: int) -> Ground:
    return Ground(tmp_path, port)


# ------------------------------------------------------------------------------------------------------- no agent runs


def test_nothing_is_changed_unless_somebody_says_yes(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ground.apply(str(ground.new))
    assert (
        done.exit_code == 1 and "reflow-1 counts for pcba_burn_in" in done.output and "--yes" in done.output
    )
    assert ground.json()[1]["outcome"] == "planned"
    monkeypatch.setattr("agent.cli.apply._is_terminal", lambda: True)
    assert ground.apply(str(ground.new), keys="n\n").exit_code == 1
    assert ground.site.read_bytes() == ground.old and ground.file.record() is None
    assert ground.apply(str(ground.new), keys="y\n").exit_code == 0
    assert ground.site.read_bytes() == ground.new.read_bytes()


def test_without_an_agent_the_lines_are_read_directly_and_the_file_is_replaced(ground: Ground) -> None:
    ground.write([meter("reflow-1", 1, serial="2206001234")])
    code, said = ground.json("--yes")
    assert (code, said["outcome"]) == (0, "applied-no-agent")
    (reading,) = said["readings"]
    assert (reading["problem"], reading["serial"]) == (None, "2206001234")
    assert (
        ground.site.read_bytes() == ground.new.read_bytes() and ground.file.before.read_bytes() == ground.old
    )
    assert ground.file.record() is None and not ground.file.staged.exists()
    assert ground.json("--yes")[1]["outcome"] == "unchanged"


@pytest.mark.fault("F80")
def test_what_is_wrong_is_said_at_once_and_changes_nothing(ground: Ground) -> None:
    text = ground.new.read_text()
    ground.new.write_text(text.replace("pcba_burn_in", "burning").replace("hall-a", "hall-b", 1))
    code, said = ground.json("--yes")
    assert (code, said["outcome"], len(said["faults"])) == (1, "faulty", 2)
    ground.new.write_text(text.replace('agent = "gw01"', 'agent = "gw02"'))
    done = ground.apply(str(ground.new), "--yes")
    assert done.exit_code == 2 and "cannot become gw02" in done.stderr
    assert ground.apply(str(ground.new.with_name("absent"))).exit_code == 2
    assert ground.apply(str(ground.new), "--undo").exit_code == ground.apply().exit_code == 2
    assert ground.site.read_bytes() == ground.old and ground.file.record() is None


def test_a_wrong_serial_number_stops_it_unless_told_otherwise(ground: Ground) -> None:
    ground.write([meter("reflow-1", 1, serial="77")])
    code, said = ground.json("--yes")
    assert (code, said["outcome"]) == (1, "not-read")
    assert said["readings"][0]["problem"] == "its serial number is 2206001234, not 77"
    assert ground.site.read_bytes() == ground.old
    assert ground.json("--yes", "--without-reading")[0] == 0


def test_a_line_that_cannot_be_opened_is_told_of_each_of_its_meters(ground: Ground) -> None:
    ground.lines = [line(port=1)]
    ground.write([meter("reflow-1", 1), WAVE])
    code, said = ground.json("--yes")
    assert (code, [each["meter"] for each in said["readings"]]) == (1, ["reflow-1", "wave-1"])


# -------------------------------------------------------------------------------------------------- interrupted before


def interrupt(ground: Ground, *, replaced: bool) -> None:
    record = Record(sha256_of(ground.old), sha256_of(ground.new.read_bytes()), ("reflow-1",))
    ground.file.stage(ground.new.read_bytes())
    ground.file.swap(record)
    if not replaced:
        ground.file.put_back()


@pytest.mark.fault("F80")
def test_an_apply_that_was_interrupted_is_gone_on_with_or_undone(ground: Ground) -> None:
    interrupt(ground, replaced=True)
    done = ground.apply(str(ground.new), "--yes")
    assert done.exit_code == 0 and "going on from there" in done.output and ground.file.record() is None
    ground.site.write_bytes(ground.old)
    interrupt(ground, replaced=True)
    assert ground.apply("--undo").exit_code == 0
    assert ground.site.read_bytes() == ground.old and ground.file.record() is None
    done = ground.apply("--undo")
    assert done.exit_code == 1 and "No change is open" in done.output


def test_one_that_had_not_replaced_the_file_yet_is_begun_anew(ground: Ground) -> None:
    interrupt(ground, replaced=False)
    done = ground.apply(str(ground.new), "--yes")
    assert done.exit_code == 0 and "the old site file was in force" in done.output
    assert ground.site.read_bytes() == ground.new.read_bytes()


def test_another_change_has_to_wait_for_the_open_one(ground: Ground) -> None:
    interrupt(ground, replaced=True)
    other = ground.new.with_name("other.toml")
    other.write_bytes(ground.new.read_bytes() + b"# more\n")
    done = ground.apply(str(other), "--yes")
    assert done.exit_code == 1 and "Another change is open" in done.output
    ground.site.write_bytes(other.read_bytes())
    for arguments in ([str(other), "--yes"], ["--undo"]):
        done = ground.apply(*arguments)
        assert done.exit_code == 1 and "edited since by hand" in done.output
    with ground.file.locked():
        assert ground.apply(str(ground.new), "--yes").exit_code == 75


# ------------------------------------------------------------------------------------------------- an agent answers


class ScriptedAgent:
    """Runs with the site file that lay there when it was last started; refuses the staged file with `faults`."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.sha256 = sha256_of(ground.old)
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.starts = 1
        self.silent = False
        self.after: dict[str, str] = {}
        """The quality of meters under any other file than the first."""

    def status(self, *_: object) -> dict[str, Any]:
        if self.silent:
            raise NotRunning("nobody")
        is_first = self.sha256 == sha256_of(self.ground.old)
        names = [each.id for each in load_site(self.ground.site, any_budget=True).plant.meters]
        meters = [
            a_meter(1) | {"meter": name, "quality": "good" if is_first else self.after.get(name, "good")}
            for name in names
        ]
        return {
            "site": {"sha256": self.sha256},
            "started_ms": self.starts,
            "meters": meters,
            "boundary": {"cuts": 1},
            "platform": {"connected": True, "broker": "b", "problem": None},
            "web": {"listen": None, "problem": None},
        }

    def once(
        self, site_file: Path, question: str, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        self.asked.append(question)
        if question == "examine":
            assert self.ground.file.staged.read_bytes() == self.ground.new.read_bytes()
            return {"faults": self.faults}
        if question == "read-line":
            return {"kind": "silent", "text": "no answer"}
        assert question == "take-over" and arguments == {"sha256": sha256_of(site_file.read_bytes())}
        self.sha256, self.starts = arguments["sha256"], self.starts + 1
        return {"stopping": True}


@pytest.fixture
def agent(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> ScriptedAgent:
    made = ScriptedAgent(ground)
    for module in ("apply", "takingover"):
        monkeypatch.setattr(f"agent.cli.{module}.ask_agent", made.status)
    for module in ("apply", "rehearse"):
        monkeypatch.setattr(f"agent.cli.{module}.ask_agent_once", made.once)
    monkeypatch.setattr("agent.cli.takingover.PAUSE_S", 0.001)
    return made


def test_the_agent_takes_it_over(ground: Ground, agent: ScriptedAgent) -> None:
    assert ground.json("--yes")[1]["outcome"] == "applied"
    assert agent.asked == ["examine", "take-over"] and ground.file.record() is None


def test_a_file_with_which_the_agent_could_not_start_changes_nothing(
    ground: Ground, agent: ScriptedAgent
) -> None:
    agent.faults = ["client_key: may not be read by this user"]
    done = ground.apply(str(ground.new), "--yes")
    assert done.exit_code == 1 and "client_key" in done.output and agent.asked == ["examine"]
    assert ground.site.read_bytes() == ground.old and not ground.file.staged.exists()


@pytest.mark.fault("F80")
def test_a_meter_that_was_good_and_is_not_any_more_brings_the_old_file_back(
    ground: Ground, agent: ScriptedAgent
) -> None:
    agent.after = {"reflow-1": "identity"}
    code, said = ground.json("--yes", "--within", "1")
    assert (code, said["outcome"]) == (1, "rolled-back")
    assert [(each["code"], each["subject"]) for each in said["complaints"]] == [("meter", "reflow-1")]
    assert ground.site.read_bytes() == ground.old and agent.sha256 == sha256_of(ground.old)
    assert agent.asked == ["examine", "take-over", "take-over"] and ground.file.record() is None


def test_an_agent_that_does_not_come_back_is_said_so(
    ground: Ground, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "START_S", 0.01)
    monkeypatch.setattr(command, "RESTART_S", 0.01)
    take_over = agent.once

    def die(*arguments: Any) -> dict[str, Any]:
        answer = take_over(*arguments)
        agent.silent = arguments[1] == "take-over"
        return answer

    monkeypatch.setattr("agent.cli.apply.ask_agent_once", die)
    done = ground.apply(str(ground.new), "--yes")
    assert done.exit_code == 1 and "Start it" in done.output and ground.site.read_bytes() == ground.old


def test_reads_go_through_the_agent_that_owns_the_line(ground: Ground, agent: ScriptedAgent) -> None:
    ground.write([meter("reflow-1", 1), WAVE])
    code, said = ground.json("--yes")
    assert (code, said["outcome"], said["readings"][0]["problem"]) == (1, "not-read", "no answer")
    assert agent.asked == ["read-line"] * 3


def test_an_agent_with_another_text_has_no_way_back(ground: Ground, agent: ScriptedAgent) -> None:
    agent.sha256 = "another"
    assert ground.json("--yes")[1]["outcome"] == "running-other"
    assert ground.site.read_bytes() == ground.old


def test_an_agent_that_is_busy_is_asked_again_later(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise RetryLater("busy")

    monkeypatch.setattr("agent.cli.apply.ask_agent", busy)
    assert ground.apply(str(ground.new), "--yes").exit_code == 75
    assert ground.site.read_bytes() == ground.old and ground.file.record() is None


# --------------------------------------------------------------------------------------------------------- judging


def said(**more: Any) -> dict[str, Any]:
    meters = [a_meter(1), a_meter(2, quality="silent", booked=None, problem="no answer")]
    rest = {"boundary": {"cuts": 3}, "web": {"listen": None, "problem": None}}
    return {"meters": meters, "platform": {"connected": True, "broker": "b", "problem": None}} | rest | more


@pytest.mark.parametrize(
    ("good", "former", "moved", "exempt", "complaint"),
    [
        (("m01", "m02"), {"m01": "m01", "m02": "m02"}, (), (), "meter"),
        (("m01",), {"m01": "m01", "m02": "m02"}, (), (), None),
        (("m01", "old"), {"m01": "m01", "m02": "old"}, ("m02",), (), "meter"),
        (("m01",), {"m01": "m01"}, (), (), "new-meter"),
        (("m01",), {"m01": "m01"}, (), ("m02",), None),
    ],
)
def test_what_has_to_be_as_well_as_before(
    good: tuple[str, ...],
    former: dict[str, str],
    moved: tuple[str, ...],
    exempt: tuple[str, ...],
    complaint: str | None,
) -> None:
    record = Record("a", "b", good, exempt, was_connected=True)
    change = Difference((), (), former, frozenset(moved), new_link=False)
    found = takingover.complaints(record, said(), change)
    assert [each.code for each in found] == ([complaint] if complaint else [])


def test_a_meter_at_another_place_may_still_have_to_prove_itself() -> None:
    record, former = Record("a", "b", ("m01",)), {"m01": "m01"}
    now = said(meters=[a_meter(1, quality="suspect")])
    for moved, count in ((frozenset({"m01"}), 0), (frozenset[str](), 1)):
        change = Difference((), (), former, moved, new_link=False)
        assert len(takingover.complaints(record, now, change)) == count


def test_only_a_broker_that_was_changed_can_be_the_fault_of_the_change() -> None:
    now = said(meters=[], platform={"connected": False, "broker": "b", "problem": "away"})
    for new_link, was_connected, count in ((True, True, 1), (False, True, 0), (True, False, 0)):
        change = Difference((), (), {}, frozenset(), new_link=new_link)
        found = takingover.complaints(Record("a", "b", was_connected=was_connected), now, change)
        assert len(found) == count
    assert (
        takingover.complaints(Record("a", "b"), said(boundary={"cuts": 0}), change)[0].code == "no-interval"
    )


def test_every_code_has_its_sentence_in_both_languages() -> None:
    codes = set(re.findall(r'"((?:meter|line)-[a-z]+)"', inspect.getsource(changes)))
    codes |= set(re.findall(r'Complaint\(\s*"([a-z-]+)"', inspect.getsource(takingover)))
    codes |= set(re.findall(r'return "([a-z-]+)"', inspect.getsource(command))) | command.DONE
    codes |= set(re.findall(r'say\("([a-z-]+)"', inspect.getsource(command)))
    assert len(codes) > 30 and codes <= applywords.ENGLISH.keys()
    assert applywords.CHINESE.keys() == applywords.ENGLISH.keys()
    for code, text in applywords.ENGLISH.items():
        places = set(re.findall(r"\{(\w+)", text))
        assert set(re.findall(r"\{(\w+)", applywords.CHINESE[code])) == places, code
