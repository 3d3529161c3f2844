"""The status page: it fits a screen, says what to do, and says the same in both languages."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.cli import chinese, statuspage
from agent.cli.group import main
from agent.cli.statuspage import ENGLISH, Language, columns, page
from agent.service import advice
from agent.service.advice import SENTENCES, Problem, advise
from tests.support.overviews import HOUR_MS, a_line, a_meter, an_overview, with_problems

CHINESE = Language(chinese.LABELS, chinese.SENTENCES)


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """An overview in which one value is another one."""
    said: Any = json.loads(json.dumps(an_overview()))
    place = said
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    whole: dict[str, Any] = said
    return whole


KEPT_OUT = {
    "kind": "held",
    "reason": "fall: ...",
    "words": ["0000", "0001"],
    "register_kwh": "1.000000",
    "at_ms": 1,
}


def by_stick(said: dict[str, Any]) -> dict[str, Any]:
    """The same gateway without a broker: never connected, and that is no problem."""
    said["platform"] |= {"by_stick": True, "connected": False, "for_ms": 99 * 24 * HOUR_MS}
    return said


@pytest.mark.parametrize(
    ("said", "code", "gravity"),
    [
        (changed("lines", 0, to=a_line(open=False, problem="no such device")), "line-down", "error"),
        (
            changed(
                "lines",
                0,
                "recent",
                to={"for_ms": 300_000, "busy_permille": 400, "requests": 900, "damaged": 40},
            ),
            "line-noise",
            "warning",
        ),
        (
            changed(
                "lines",
                0,
                "diagnoses",
                to=[
                    {
                        "cause": "another-master",
                        "evidence": "9 requests of somebody else",
                        "remedy": "find it",
                    }
                ],
            ),
            "line-diagnosis",
            "warning",
        ),
        (changed("lines", 0, to=a_line(floods=7)), "line-babble", "warning"),
        (
            changed(
                "lines", 0, "recent", to={"for_ms": 60_000, "busy_permille": 950, "requests": 9, "damaged": 9}
            ),
            "line-busy",
            "warning",
        ),
        (
            changed("meters", 3, to=a_meter(4, quality="silent", problem="no answer")),
            "meter-silent",
            "warning",
        ),
        (changed("meters", 3, to=a_meter(4, quality="late", age_ms=200_000)), "meter-late", "warning"),
        (changed("meters", 3, to=a_meter(4, quality="held", not_booked=KEPT_OUT)), "meter-held", "warning"),
        (
            changed(
                "meters", 3, to=a_meter(4, quality="held", not_booked=KEPT_OUT | {"reason": "rise: too fast"})
            ),
            "meter-rise",
            "warning",
        ),
        (
            changed(
                "meters", 3, to=a_meter(4, quality="refused", not_booked=KEPT_OUT | {"register_kwh": None})
            ),
            "meter-refused",
            "warning",
        ),
        (
            changed("meters", 3, to=a_meter(4, quality="identity", not_booked=KEPT_OUT)),
            "meter-identity",
            "warning",
        ),
        (
            changed("meters", 3, to=a_meter(4, quality="suspect", flags=["suspect"])),
            "meter-suspect",
            "warning",
        ),
        (
            changed(
                "meters",
                3,
                to=a_meter(4, ratio={"register": "ct_ratio", "at_meter": "40", "in_site": "30"}),
            ),
            "meter-ratio",
            "warning",
        ),
        (changed("meters", 3, to=a_meter(4, returned_ms=1_795_388_000_000)), "meter-returned", "warning"),
        (
            changed("meters", 3, to=a_meter(4, order={"by": "Li Wei", "confirmed": False})),
            "meter-order",
            "warning",
        ),
        (changed("boundary", "age_ms", to=160_000), "intervals-stopped", "error"),
        (changed("boundary", "problem", to="no room for a write"), "journal-full", "error"),
        (changed("boundary", "skipped_recently", to=True), "intervals-skipped", "warning"),
        (changed("boundary", "length_ms", to=3_840_000), "intervals-coarse", "warning"),
        (changed("journal", "free_bytes", to=100_000_000), "journal-space", "warning"),
        (changed("journal", "free_bytes", to=1_000_000), "journal-space", "error"),
        (changed("journal", "bytes", to=1_000_000_000), "journal-budget", "warning"),
        (changed("journal", "standing", to="asking"), "journal-asking", "warning"),
        (changed("journal", "standing", to="confirming"), "journal-confirming", "error"),
        (
            changed(
                "platform",
                to=an_overview()["platform"] | {"connected": False, "problem": "x", "for_ms": 60_000},
            ),
            "broker-away",
            "warning",
        ),
        (
            changed("platform", to=an_overview()["platform"] | {"connected": False, "problem": "x"}),
            "broker-away",
            "error",
        ),
        (changed("platform", "refusal", to="not authorised"), "broker-refuses", "error"),
        (changed("journal", "backlog_age_ms", to=HOUR_MS), "platform-silent", "warning"),
        (changed("journal", "backlog_age_ms", to=25 * HOUR_MS), "platform-silent", "error"),
        (by_stick(changed("journal", "backlog_age_ms", to=32 * 24 * HOUR_MS)), "stick-waits", "warning"),
        (changed("platform", "rejected_recently", to=True), "platform-forged", "warning"),
        *(
            (
                changed("signing_key", to={"kid": "K", "alg": "Ed25519", "other": "N", "rotation": stage}),
                f"key-rotation-{stage}",
                "notice",
            )
            for stage in ("due", "sealed", "done", "over")
        ),
        (changed("web", "problem", to="address already in use"), "web-closed", "warning"),
        (changed("clock", to={"sync": "U", "err_ms": 2**31 - 1}), "clock-unknown", "warning"),
        (changed("clock", to={"sync": "H", "err_ms": 2_500}), "clock-error", "warning"),
        (changed("certificates", 0, "days_left", to=29), "certificate-ends", "notice"),
        (changed("certificates", 0, "days_left", to=13), "certificate-ends", "warning"),
        (changed("certificates", 0, "days_left", to=2), "certificate-ends", "error"),
        (changed("certificates", 0, "not_after_ms", to=1_795_000_000_000), "certificate-ended", "error"),
        (changed("certificates", 0, "not_before_ms", to=1_796_000_000_000), "certificate-early", "error"),
        (changed("certificates", 0, "problem", to="holds no certificate"), "certificate-unreadable", "error"),
    ],
)
def test_each_problem_is_found_and_has_its_remedy_in_both_languages(
    said: dict[str, Any], code: str, gravity: str
) -> None:
    problems = advise(said)
    assert [(problem.code, problem.gravity) for problem in problems] == [(code, gravity)]
    for words in (SENTENCES, chinese.SENTENCES):
        what, remedy = problems[0].sentences(words)
        assert what and remedy and "{" not in what + remedy
    assert Problem.from_json(problems[0].as_json()) == problems[0]


def test_every_problem_but_that_of_the_site_file_is_tested_above() -> None:
    marks = test_each_problem_is_found_and_has_its_remedy_in_both_languages.pytestmark
    tested = {case[1] for case in marks[0].args[1]}
    assert tested == SENTENCES.keys() - {"site-changed", "apply-running", "apply-unfinished"}


def test_a_meter_of_a_line_that_is_down_is_not_blamed_too() -> None:
    said = changed("lines", 0, to=a_line(open=False, problem="no such device"))
    said["meters"] = [meter | {"quality": "line down"} for meter in said["meters"]]
    assert [problem.code for problem in advise(said)] == ["line-down"]


def test_a_start_is_no_problem() -> None:
    said = changed("uptime_ms", to=5_000)
    said["boundary"]["last_cut_ms"] = said["boundary"]["age_ms"] = None
    said["platform"] |= {"connected": False, "problem": "not connected yet", "for_ms": 5_000}
    said["lines"][0]["open"] = False
    assert advise(said) == []


def test_in_broker_mode_nobody_waits_for_the_platform() -> None:
    said = changed("journal", "backlog_age_ms", to=30 * HOUR_MS)
    said["platform"]["acknowledgement"] = "broker"
    assert advise(said) == []


@pytest.mark.parametrize("say", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_the_page_of_a_healthy_agent_fits_and_says_so(say: Language) -> None:
    text = page(with_problems(an_overview()), say)
    rows = text.splitlines()
    assert len(rows) <= 23
    assert max(map(columns, rows)) <= 80
    assert rows[-1] == say("all well")
    assert "26" in text and "213" in text


@pytest.mark.parametrize("say", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_a_page_with_everything_wrong_still_fits_and_counts_the_rest(say: Language) -> None:
    meters = [a_meter(number, quality="silent", problem="no answer within 500 ms") for number in range(1, 27)]
    said = an_overview(meters=meters, lines=[a_line(f"hall-{number}") for number in range(9)])
    said["clock"] = {"sync": "U", "err_ms": 2**31 - 1}
    rows = page(with_problems(said), say).splitlines()
    assert len(rows) <= 23
    assert max(map(columns, rows)) <= 80
    assert "--all" in rows[-1]
    shown = sum(row.startswith("! ") for row in rows)
    assert str(27 - shown) in rows[-1]
    everything = page(with_problems(said), say, height=None).splitlines()
    assert sum(row.startswith("! ") for row in everything) == 27
    assert sum("eastron" in row or row.startswith("m") for row in everything) == 26


def test_three_problems_are_all_told() -> None:
    said = changed(
        "lines", 0, to=a_line(open=False, problem="line hall-a: /dev/ttyUSB0 does not exist; plug it in")
    )
    said["platform"] |= {"connected": False, "problem": "nobody listens there; check platform.broker"}
    said["meters"][3] = a_meter(4, quality="silent", problem="no answer within 500 ms")
    for say in (ENGLISH, CHINESE):
        rows = page(with_problems(said), say).splitlines()
        assert len(rows) <= 23
        assert sum(row.startswith("!") for row in rows) == 3
        assert "--all" not in rows[-1]


def test_who_failed_knows_the_better_remedy() -> None:
    line = a_line(open=False, problem="line hall-a: /dev/ttyUSB0 does not exist; plug the adapter in")
    (problem,) = advise(changed("lines", 0, to=line))
    assert problem.sentences() == ("line hall-a is down: /dev/ttyUSB0 does not exist", "plug the adapter in")
    assert "检查" in problem.sentences(chinese.SENTENCES)[1]
    assert "/dev/ttyUSB0" in problem.as_json()["text"]  # type: ignore[operator]
    assert Problem.from_json(problem.as_json()) == problem


def test_the_gravest_comes_first() -> None:
    said = changed("certificates", 0, "days_left", to=29)
    said["meters"][0] = a_meter(1, quality="silent", problem="no answer")
    said["lines"][0] = a_line(open=False, problem="no such device")
    assert [problem.gravity for problem in advise(said)] == ["error", "warning", "notice"]


def test_both_languages_have_the_same_words_and_values() -> None:
    def places(text: str) -> set[str]:
        return set(re.findall(r"{(\w+)}", text))

    assert chinese.LABELS.keys() == statuspage.LABELS.keys()
    assert chinese.SENTENCES.keys() == SENTENCES.keys()
    for key, text in statuspage.LABELS.items():
        assert places(text) == places(chinese.LABELS[key]), key
    for code, (what, remedy) in SENTENCES.items():
        theirs = chinese.SENTENCES[code]
        assert places(what) == places(theirs[0]), code
        assert places(remedy) == places(theirs[1]), code


def test_no_agent_is_said_with_what_to_do(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[journal]\npath = "journal.db"\n')
    result = CliRunner().invoke(main, ["status", "--site", str(site)])
    assert result.exit_code == 75
    assert "no agent runs" in result.stderr and "systemctl start" in result.stderr


def test_a_site_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["status", "--site", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "there is no such file" in result.stderr
    assert "nothing was started" not in result.stderr, "nobody wanted to start anything"


@pytest.mark.parametrize(
    ("length_ms", "text"),
    [
        (0, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (200_000, "3 min 20 s"),
        (3_600_000, "1 h"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_ages(length_ms: int, text: str) -> None:
    assert advice.format_age(length_ms) == text
