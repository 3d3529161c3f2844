"""An export of an agent that runs: streamed over the control socket, while it goes on sealing."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.adapters.control import ControlSocket, ask, ask_for_lines
from agent.adapters.journal import JournalThread, open_journal
from agent.service.export import Closing, Period, from_line, lines_of
from tests.evidence.conftest import Installation
from tests.evidence.office import Office, run


def test_the_running_agent_gives_what_the_journal_of_the_stopped_one_holds(
    installation: Installation,
) -> None:
    live, stopped = (
        (folder / "evidence.jws").read_bytes().splitlines()
        for folder in (installation.live, installation.stopped)
    )
    said = json.loads((installation.live / "manifest.json").read_text())
    assert said["source"] == "the running agent"
    assert said["counts"]["batches"] >= 3
    assert said["counts"]["acknowledgements"] == 1
    # The receipt of a day is its newest one, so that it stands elsewhere in a later export.
    batches = [line for line in live if line in stopped]
    assert len(batches) >= len(live) - 1
    assert installation.overview["journal"]["seq"] >= said["counts"]["batches"]


@pytest.mark.parametrize("which", ["live", "stopped"])
def test_it_verifies_and_names_every_meter_and_step(installation: Installation, which: str) -> None:
    folder = getattr(installation, which)
    keys = ["--key", str(folder / "agent.pem"), "--acknowledgement-key", str(folder / "platform.pem")]
    done = run("verify", *keys, str(folder / "evidence.jws"))
    assert done.exit_code == 0, done.output
    report = json.loads(run("verify", *keys, "--json", str(folder / "evidence.jws")).output)
    assert report["by_meter"]
    if which == "stopped":
        assert len(report["by_meter"]) == 26
        assert report["by_meter"] == installation.booked, "the auditor and the platform count the same"


# --------------------------------------------------------------------------------------------- the socket itself


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Office, Path]]:
    """An office whose journal is asked over a control socket."""
    office = Office(tmp_path)
    office.work(250)
    office.bench.journal.close()
    storage = JournalThread(lambda: open_journal(tmp_path / "journal.db"))
    await storage.open()
    path = tmp_path / "journal.db.control"
    control = ControlSocket(
        path,
        {"echo": _echo},
        {"export": lambda arguments: lines_of(storage, Period.from_arguments(arguments))},
    )
    await control.open()
    try:
        yield office, path
    finally:
        await asyncio.wait_for(control.close(), 30)
        await storage.close()


async def _echo(arguments: object) -> object:
    return arguments


async def test_a_stream_and_the_journal_file_give_the_same(served: tuple[Office, Path]) -> None:
    office, path = served
    lines = await asyncio.to_thread(lambda: list(ask_for_lines(path, "export", Period().to_arguments())))
    items = [from_line(line) for line in lines]
    assert items[-1] == Closing(batches=250, purged=0, superseded=0)
    done = await asyncio.to_thread(
        run, "export", "--site", str(office.site), "--out", str(office.folder / "out")
    )
    assert done.exit_code == 0, done.output
    assert json.loads((office.folder / "out" / "manifest.json").read_text())["source"] == "the running agent"


async def test_a_reader_who_stops_reading_holds_up_nobody_and_the_agent_can_stop(
    served: tuple[Office, Path],
) -> None:
    _, path = served
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(path))
        idle.sendall(b"export\n")
        assert await asyncio.to_thread(ask, path, "echo", {"is": "quick"}) == {"is": "quick"}
    # The end of the fixture closes the socket before a stream's minute is over, although one is open.


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"from_ms": "yesterday"}, "whole milliseconds"), ({"to_ms": -1}, "whole milliseconds")],
)
async def test_arguments_without_sense_are_answered(
    served: tuple[Office, Path], arguments: dict[str, object], reason: str
) -> None:
    _, path = served
    (line,) = await asyncio.to_thread(lambda: list(ask_for_lines(path, "export", arguments)))
    with pytest.raises(ValueError, match=reason):
        from_line(line)


async def test_a_question_that_is_no_question_is_answered(served: tuple[Office, Path]) -> None:
    _, path = served
    for question in (b"echo [1]\n", b"echo {\n", b"what\n"):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(path))
            asking.sendall(question)
            answer = await asyncio.to_thread(asking.recv, 4096)
        assert "error" in json.loads(answer)


async def test_a_stream_that_breaks_off_is_no_export(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.work(3)
    office.bench.journal.close()

    async def broken(_: object) -> AsyncIterator[bytes]:
        yield b'{"opening": {"own": null, "acknowledged": null, "after": null, "proved": true, "rewound": 0}}'

    control = ControlSocket(tmp_path / "journal.db.control", {}, {"export": broken})
    await control.open()
    try:
        done = await asyncio.to_thread(
            run, "export", "--site", str(office.site), "--out", str(tmp_path / "out")
        )
    finally:
        await control.close()
    assert done.exit_code == 75
    assert "stopped in the middle" in done.stderr
    assert not (tmp_path / "out").exists()
