"""The control socket where the agent is slow: a disk that syncs for seconds delays an answer and does not lose it."""

import asyncio
from pathlib import Path

import pytest

from agent.adapters import control
from agent.errors import JournalFull

LATE_S = 0.6


async def _say_late(arguments: control.Arguments) -> object:
    await asyncio.sleep(LATE_S)
    return {"at": "last"}


async def _asked(folder: Path, question: str) -> object:
    served = control.ControlSocket(folder / "control", {"status": _say_late})
    await served.open()
    try:
        return await asyncio.to_thread(control.ask, folder / "control", question)
    finally:
        await served.close()


@pytest.mark.fault("F46")
async def test_where_the_journal_has_no_room_the_person_who_asked_reads_why(tmp_path: Path) -> None:
    async def full(arguments: control.Arguments) -> object:
        raise JournalFull("no room for a write")

    served = control.ControlSocket(tmp_path / "control", {"exchange": full})
    await served.open()
    try:
        answer = await asyncio.to_thread(control.ask, tmp_path / "control", "exchange")
    finally:
        await served.close()
    assert answer == {"error": "no room for a write"}


@pytest.mark.fault("F50")
async def test_an_answer_that_waits_for_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a question may take to arrive, which comes from a thread that may have to wait for its turn."""
    monkeypatch.setattr(control, "QUESTION_PATIENCE_S", LATE_S * 3 / 4)
    assert await _asked(tmp_path, "status") == {"at": "last"}


async def test_a_question_that_is_never_answered_is_said_so_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWER_PATIENCE_S", 0.1)
    with pytest.raises(TimeoutError, match="no answer came in time"):
        await _asked(tmp_path, "status")
