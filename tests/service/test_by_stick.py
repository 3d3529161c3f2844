"""A gateway without a broker: the site file says so, the agent runs, and a person is told when a stick is due."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.adapters.nowhere import NoUplink
from agent.cli import main
from agent.errors import ConfigError, UplinkDown
from agent.settings.site import load_site
from simulators.cli import main as sim
from simulators.demo.rig import AGENT, AUDIENCE, ORG, Rig, places
from tests.settings.example_site import write_site


def by_stick(folder: Path, more: str = "") -> Path:
    """A site file that names no broker."""
    site = write_site(folder)
    lines = [
        f'broker = "none"\n{more}' if line.startswith("broker = ") else line
        for line in site.read_text().splitlines()
        if not line.startswith(("ca_file", "client_"))
    ]
    site.write_text("\n".join(lines) + "\n")
    return site


def test_check_says_how_it_leaves(tmp_path: Path) -> None:
    site = by_stick(tmp_path)
    assert load_site(site).platform.broker.is_none
    done = CliRunner().invoke(main, ["check", "--site", str(site)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "by stick; there is no broker" in done.output


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('username = "u"\n', "is of no use with broker"),
        ('acknowledgement = "broker"\n', "names a broker, and there is none"),
    ],
)
def test_what_only_a_broker_needs_is_refused(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_site(by_stick(tmp_path, more))


async def test_the_uplink_never_connects_and_ends_in_good_order() -> None:
    uplink = NoUplink()
    await uplink.start(subscribe=(), will=lambda _: pytest.fail("no will is asked for"))
    with pytest.raises(UplinkDown, match="by stick"):
        await uplink.publish("topic", b"")

    async def read() -> list[object]:
        return [event async for event in uplink.events()]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    await uplink.stop()
    assert await reader == []


@pytest.mark.timeout(400)
def test_the_agent_runs_seals_and_fills_a_stick(tmp_path: Path) -> None:
    with Rig(tmp_path / "rig", interval="1s", broker="none", meters=places()[10:12]) as rig:
        rig.start_meters()
        rig.start_agent()
        stick = tmp_path / "stick"
        stick.mkdir()

        def sealed() -> int:
            status = rig.agent_status()
            journal = status["journal"] if status is not None else None
            return int(journal["backlog_batches"]) if isinstance(journal, dict) else 0

        rig.wait_until(lambda: sealed() >= 3, 120, "the agent seals")
        words = ["--site", str(rig.site)]
        shown = CliRunner().invoke(main, ["status", *words], catch_exceptions=False)
        assert "by stick; there is no broker" in shown.output
        assert "NOT CONNECTED" not in shown.output
        done = CliRunner().invoke(main, ["courier", "export", str(stick), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert list(stick.glob("kwh+*/up/manifest.json"))
        assert rig.stop("agent") == 0
        office = ["--store", str(rig.store), "--key", str(rig.folder / "platform-key.pem")]
        trust = ["--audience", AUDIENCE, "--trust", f"{ORG}/{AGENT}={rig.folder / 'agent.pem'}"]
        taken = CliRunner().invoke(sim, ["platform", "courier", *office, *trust, str(stick)])
        assert taken.exit_code == 0, taken.output
        lost_disk(rig, office, tmp_path / "heads.jws", sealed)


def lost_disk(rig: Rig, office: list[str], heads: Path, sealed: Callable[[], int]) -> None:
    """The running agent goes on, with an empty journal, from what the platform's operator wrote into a file."""
    for path in rig.folder.glob("journal.db*"):
        path.unlink()
    rig.start_agent()
    rig.wait_until(lambda: sealed() >= 2, 120, "the agent seals into a new journal")
    written = CliRunner().invoke(sim, ["platform", "heads", *office, "--out", str(heads), f"{ORG}/{AGENT}"])
    assert written.exit_code == 0, written.output
    words = ["restore", "--site", str(rig.site), str(heads)]
    looked = CliRunner().invoke(main, words, catch_exceptions=False)
    assert looked.exit_code == 0 and "goes on there" in looked.output, looked.output
    done = CliRunner().invoke(
        main, [*words, "--by", "Li Na", "--yes", "--lang", "zh"], catch_exceptions=False
    )
    assert done.exit_code == 0 and "完成：新链接在" in done.output, done.output
    again = CliRunner().invoke(main, [*words, "--by", "Li Na", "--yes"], catch_exceptions=False)
    assert again.exit_code == 1 and "something newer" in again.output, again.output
