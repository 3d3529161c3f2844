"""verify.html in a real browser: opened from the folder of an export, offline, with and without WebCrypto.

Set `SCREENSHOTS` to a folder to look at what a person sees.
"""

import json
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.keys import PublicKeys, public_key_of_jwk
from agent.metering.quantity import format_kwh
from agent.reporting.event import adjust_event
from agent.reporting.verify import Verifier
from agent.resources import package_path
from tests.evidence import page
from tests.evidence.browser import Browser
from tests.evidence.conftest import Installation
from tests.evidence.office import run
from tests.evidence.test_recipe import AGENT, STRANGER, hard_life, put, resigned, with_delta
from tests.reporting.gateway import Gateway, meter_description
from tests.reporting.test_toldtimes import booted_in_1970

DONE = "document.documentElement.dataset.state === 'done'"
pytestmark = [pytest.mark.chromium, pytest.mark.jq, pytest.mark.xdist_group("evidence")]


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """One browser for all pages."""
    with Browser() as browser:
        yield browser


def open_page(browser: Browser, folder: Path) -> None:
    """Open the page of a folder."""
    browser.open(folder / "verify.html")
    browser.wait("document.querySelector('#engine').textContent !== ''")


def verdicts(browser: Browser) -> dict[str, bool]:
    """The four cards: whether each verdict is good."""
    return {
        name: browser.ask(f"document.getElementById('verdict-{name}').dataset.ok") == "true"
        for name in ("signature", "chain", "conservation", "quality")
    }


def totals(browser: Browser, table: str) -> dict[str, str]:
    """A table of totals by the name in its first column: the id where there is one, kWh without the thin blanks."""
    rows = browser.ask(
        f"[...document.querySelectorAll('#{table} tbody tr')].map((row) => "
        "[(row.querySelector('.id') || row.cells[0]).textContent, row.cells[2].textContent])"
    )
    return {name: kwh.replace("\u202f", "") for name, kwh in rows}


def report(folder: Path) -> dict[str, Any]:
    """What our verify says."""
    keys = ["--key", str(folder / "agent.pem"), "--acknowledgement-key", str(folder / "platform.pem")]
    return dict(json.loads(run("verify", *keys, "--json", str(folder / "evidence.jws")).output))


def picture(browser: Browser, name: str, **how: Any) -> None:
    """A screenshot, where somebody wants to look at it."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        browser.screenshot(Path(folder) / f"{name}.png", **how)


def assert_says_what_verify_says(browser: Browser, folder: Path) -> None:
    """Verdicts and totals on the screen are those of the command."""
    said = report(folder)
    assert verdicts(browser) == {name: verdict["ok"] for name, verdict in said["verdicts"].items()}
    assert browser.ask("document.getElementById('banner').dataset.ok") == ("true" if said["ok"] else "false")
    assert totals(browser, "meters") == {
        meter: format_kwh(energy) for meter, energy in said["by_meter"].items()
    }
    assert totals(browser, "steps") == {
        step: format_kwh(int(energy)) for step, energy in said["by_step"].items()
    }


# ------------------------------------------------------------------------------------------------------ the page


def test_the_policy_names_exactly_what_stands_in_the_page() -> None:
    assert page.policy() == page.wanted_policy(), "python -m tests.evidence.page writes it anew"
    text = package_path("reporting", "verify.html").read_text("utf-8")
    for outside in (
        "http:",
        "https:",
        "//cdn",
        "src=",
        "import(",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "eval(",
    ):
        assert outside not in text


def test_a_real_export_is_verified_offline(chromium: Browser, installation: Installation) -> None:
    open_page(chromium, installation.stopped)
    assert chromium.ask("document.querySelector('#engine').dataset.native") == "true"
    picture(chromium, "1-opened")
    chromium.give_files("#files", [installation.stopped / "evidence.jws"])
    chromium.wait(DONE)
    assert_says_what_verify_says(chromium, installation.stopped)
    assert "as in the manifest" in chromium.ask("document.getElementById('facts').textContent")
    assert chromium.requests == [(installation.stopped / "verify.html").as_uri()], "it asked for nothing else"
    assert chromium.console == []
    picture(chromium, "2-verified")


def test_a_browser_without_webcrypto_says_the_same(installation: Installation) -> None:
    with Browser() as browser:
        browser.before_every_page("Object.defineProperty(globalThis, 'crypto', {value: undefined});")
        open_page(browser, installation.stopped)
        assert browser.ask("document.querySelector('#engine').dataset.native") == "false"
        browser.give_files("#files", [installation.stopped / "evidence.jws"])
        browser.wait(DONE)
        assert_says_what_verify_says(browser, installation.stopped)
        assert browser.console == []


def test_it_speaks_chinese_to_whom_the_browser_does(installation: Installation) -> None:
    with Browser(language="zh-CN") as browser:
        open_page(browser, installation.stopped)
        browser.give_files("#files", [installation.stopped / "evidence.jws"])
        browser.wait(DONE)
        assert browser.ask("document.documentElement.lang") == "zh-CN"
        assert browser.ask("document.querySelector('#banner b').textContent") == "核验通过"
        assert "回流焊" in browser.ask("document.getElementById('steps').textContent")
        picture(browser, "3-chinese", dark=True)
        browser.ask("document.getElementById('language').click()")
        assert browser.ask("document.querySelector('#banner b').textContent") == "Verified"
        assert browser.ask("document.documentElement.lang") == "en"


def test_both_languages_have_every_text(chromium: Browser) -> None:
    """Every code of the judge has its words, in both languages: the page would show none for a missing one."""
    text = page.script("page")
    english, chinese = (
        text[: text.index("const CHINESE")],
        text[text.index("const CHINESE") : text.index("const $ =")],
    )

    def names(block: str) -> set[str]:
        return {
            line.split(":")[0].strip().strip('"')
            for line in block.splitlines()
            if line.startswith(("    ", "      ")) and ":" in line and not line.strip().startswith("//")
        }

    assert names(english) == names(chinese)


def test_the_whole_folder_may_be_dropped(chromium: Browser, installation: Installation) -> None:
    open_page(chromium, installation.live)
    chromium.drop(sorted(installation.live.iterdir()))
    chromium.wait(DONE)
    assert_says_what_verify_says(chromium, installation.live)
    assert "not compared" in chromium.ask("document.getElementById('keys').textContent"), (
        "they came with the export"
    )


# ------------------------------------------------------------------------------------------------------ the keys


def type_thumbprint(browser: Browser, text: str) -> None:
    """Paste a text into the field beside the gateway's key."""
    browser.ask(
        "(() => { const field = document.querySelector('#keys input'); "
        f"field.value = {json.dumps(text)}; field.dispatchEvent(new Event('input')); }})()"
    )


def test_a_thumbprint_is_compared(chromium: Browser, installation: Installation) -> None:
    open_page(chromium, installation.stopped)
    chromium.give_files("#files", [installation.stopped / "evidence.jws"])
    chromium.wait(DONE)
    key = json.loads((installation.stopped / "manifest.json").read_text())["keys"][0]["thumbprint"]
    badge = "document.querySelector('#keys .badge').textContent"
    assert chromium.ask(badge) == "not compared yet"
    type_thumbprint(chromium, f" {key} ")
    assert chromium.ask(badge) == "is the one you hold"
    assert chromium.ask("document.getElementById('banner').dataset.ok") == "true"
    type_thumbprint(chromium, key.swapcase())
    assert chromium.ask(badge) == "NOT the one you hold"
    assert chromium.ask("document.getElementById('banner').dataset.ok") == "false"


def test_an_auditors_own_key_takes_the_place_of_the_one_that_came(
    chromium: Browser, installation: Installation, tmp_path: Path
) -> None:
    open_page(chromium, installation.stopped)
    (tmp_path / "agent.pem").write_bytes(STRANGER.pem)
    chromium.give_files("#files", [tmp_path / "agent.pem"])
    chromium.wait("document.querySelector('#keys').textContent.includes('given by you')")
    chromium.give_files("#files", [installation.stopped / "evidence.jws"])
    chromium.wait(DONE)
    assert verdicts(chromium)["signature"] is False


def test_the_bare_page_asks_for_keys(chromium: Browser, tmp_path: Path) -> None:
    _, lines = hard_life()
    put(tmp_path, lines)
    shutil.copy(package_path("reporting", "verify.html"), tmp_path)
    open_page(chromium, tmp_path)
    chromium.give_files("#files", [tmp_path / "evidence.jws"])
    chromium.wait("!document.getElementById('problem').hidden")
    assert "no key of the gateway" in chromium.ask("document.getElementById('problem').textContent")
    chromium.give_files("#files", [tmp_path / "agent.pem", tmp_path / "platform.pem"])
    chromium.wait(DONE)
    assert chromium.ask("document.getElementById('banner').dataset.ok") == "true"


# ------------------------------------------------------------------------------------------------ spoiled exports


def test_what_fails_is_named_with_its_place(chromium: Browser, tmp_path: Path) -> None:
    _, lines = hard_life()
    spoiled = resigned(lines, lambda batches: with_delta(batches, 1, delta=1))
    put(tmp_path, [spoiled[0], *spoiled[1:4], *spoiled[5:], b"rubbish"])
    shutil.copy(package_path("reporting", "verify.html"), tmp_path)
    open_page(chromium, tmp_path)
    chromium.give_files("#files", [tmp_path / name for name in ("evidence.jws", "agent.pem", "platform.pem")])
    chromium.wait(DONE)
    assert verdicts(chromium)["signature"] is False
    assert verdicts(chromium)["chain"] is False
    assert verdicts(chromium)["conservation"] is False
    text = chromium.ask("document.getElementById('found').innerText")
    assert "not three parts" in text
    assert "seq 3 missing" in text
    assert "V1: delta 1 is not reg_end" in text
    assert "meter hall, epoch 1, n 2" in text
    picture(chromium, "4-spoiled")
    chromium.ask("document.getElementById('language').click()")
    picture(chromium, "5-spoiled-chinese", width=420)
    assert AGENT.kid in chromium.ask("document.getElementById('keys').textContent")


def adjusted_life() -> list[bytes]:
    """Two meters; a CT ratio that was wrong for three minutes, and a meter that stood still for one."""
    gateway = Gateway(AGENT, (meter_description("m1"), meter_description("m2")))
    for _ in range(5):
        gateway.minute({"m1": 1_000_000, "m2": 2_500_000})
    said: dict[str, Any] = {"epoch": 1, "evidence": "x" * 43, "by": "Li Na"}
    ratio = adjust_event(
        gateway.now_ms, meter="m1", n_from=1, n_to=3, factor=(4, 3), reason="CT is 200/5, not 150/5", **said
    )
    still = adjust_event(
        gateway.now_ms,
        meter="m2",
        n_from=4,
        n_to=4,
        energy_milliwh=250_000,
        bound_milliwh=50_000,
        reason="it stood still for a minute",
        **said,
    )
    gateway.minute({"m1": 1_000_000, "m2": 2_500_000}, [ratio, still])
    return gateway.jws


def shown(browser: Browser) -> dict[str, list[str]]:
    """The table of adjustments, by the name in its first column."""
    rows = browser.ask(
        "[...document.querySelectorAll('#corrections tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return {name: [figure.replace("\u202f", "") for figure in figures] for name, *figures in rows}


def test_adjusted_and_estimated_energy_stand_apart_as_verify_has_them(
    chromium: Browser, tmp_path: Path
) -> None:
    put(tmp_path, adjusted_life())
    shutil.copy(package_path("reporting", "verify.html"), tmp_path)
    open_page(chromium, tmp_path)
    assert chromium.ask("document.getElementById('adjustments').hidden")
    chromium.give_files("#files", [tmp_path / name for name in ("evidence.jws", "agent.pem", "platform.pem")])
    chromium.wait(DONE)
    said = report(tmp_path)["corrections"]
    figures = {**said["by_meter"], **said["by_step"]}
    assert shown(chromium) == {
        name: [format_kwh(round(Fraction(each[part]))) for part in ("raw", "adjusted", "estimated", "bound")]
        for name, each in figures.items()
    }
    assert totals(chromium, "meters")["m1"] == "6.000000", "the totals above stay raw"
    assert "times 4/3" in chromium.ask("document.getElementById('applied').textContent")
    picture(chromium, "6-adjusted")
    chromium.ask("document.getElementById('language').click()")
    assert "乘以 4/3" in chromium.ask("document.getElementById('applied').textContent")
    picture(chromium, "7-adjusted-chinese")


def test_times_that_were_corrected_later_stand_beside_those_that_were_told(
    chromium: Browser, tmp_path: Path
) -> None:
    put(tmp_path, booted_in_1970(is_known=True).jws)
    shutil.copy(package_path("reporting", "verify.html"), tmp_path)
    open_page(chromium, tmp_path)
    chromium.give_files("#files", [tmp_path / name for name in ("evidence.jws", "agent.pem", "platform.pem")])
    chromium.wait(DONE)
    facts = chromium.ask("document.getElementById('facts').innerText")
    assert "Times corrected later" in facts and "told 1975-" in facts and "was 2025-" in facts
    picture(chromium, "8-clock")


def test_a_revocation_is_typed_in_as_the_operator_was_told(chromium: Browser, tmp_path: Path) -> None:
    put(tmp_path, lines := adjusted_life())
    chain = Verifier(PublicKeys([public_key_of_jwk(AGENT.jwk)]))
    chain.feed(1, lines[0])
    place = f"{AGENT.kid}={chain.report().chains[0].chain}/4"
    shutil.copy(package_path("reporting", "verify.html"), tmp_path)
    open_page(chromium, tmp_path)
    chromium.ask(f"document.getElementById('revoked').value = 'metering-agent verify --revoked {place}'")
    chromium.give_files("#files", [tmp_path / name for name in ("evidence.jws", "agent.pem", "platform.pem")])
    chromium.wait(DONE)
    assert chromium.ask("document.getElementById('verdict-signature').dataset.count") == "2"
    assert "which was revoked" in chromium.ask("document.getElementById('found').innerText")
    chromium.ask("document.getElementById('revoked').value = 'nonsense'")
    chromium.ask("document.getElementById('revoked').dispatchEvent(new Event('change'))")
    chromium.wait("!document.getElementById('problem').hidden")
    said = chromium.ask("document.getElementById('problem').textContent")
    assert said.startswith("This is no revocation: nonsense."), said
    assert chromium.ask("document.getElementById('result').hidden"), "a verdict without it is no longer shown"


def test_nothing_in_an_export_becomes_a_part_of_the_page(chromium: Browser, tmp_path: Path) -> None:
    """A manifest or an event with markup in it is shown as it stands."""
    _, lines = hard_life()
    put(tmp_path, lines)
    text = package_path("reporting", "verify.html").read_text("utf-8")
    evil = "</script><img src=x onerror=\"document.title='taken'\">"
    known = {
        "manifest": {
            "gateway": {"org": evil, "agent": evil},
            "audience": evil,
            "made_at": evil,
            "software": evil,
            "period": {"from": evil, "to": None},
            "files": [],
        },
        "keys": [],
        "steps": {},
    }
    embedded = json.dumps(known).replace("<", "\\u003c")
    place = '<script type="application/json" id="export">null</script>'
    assert text.count(place) == 1
    (tmp_path / "verify.html").write_text(text.replace(place, place.replace("null", embedded)), "utf-8")
    open_page(chromium, tmp_path)
    assert evil in chromium.ask("document.getElementById('about').textContent")
    assert chromium.ask("document.images.length") == 0
    assert chromium.ask("document.title") == "Evidence of electricity use"


def test_both_readings_of_a_large_file_say_how_far_they_are(chromium: Browser, tmp_path: Path) -> None:
    put(tmp_path, adjusted_life())
    shutil.copy(package_path("reporting", "verify.html"), tmp_path)
    open_page(chromium, tmp_path)
    chromium.ask(
        "(() => { let now = 0; performance.now = () => (now += 100); window.said = [];"
        " new MutationObserver(() => said.push(document.getElementById('progress-text').textContent))"
        ".observe(document.getElementById('progress-text'), { childList: true }); })()"
    )
    chromium.give_files("#files", [tmp_path / name for name in ("evidence.jws", "agent.pem", "platform.pem")])
    chromium.wait(DONE)
    said = chromium.ask("said")
    assert [text.split(":")[0] for text in said] == [
        *["Step 1 of 2, looking for adjustments"] * 6,
        *["Step 2 of 2, verifying"] * 6,
    ]
    assert said[2].endswith(", 3 lines")
    chromium.ask("document.getElementById('language').click()")
    chromium.give_files("#files", [tmp_path / "agent.pem"])
    chromium.wait("said.length === 24 && " + DONE)
    assert chromium.ask("said[12]").startswith("\u7b2c 1 \u6b65\uff08\u5171 2 \u6b65\uff09")
