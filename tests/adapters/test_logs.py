"""One record, one line, no forgery, no secret."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.logs import LINE_SIZE_MAX, LineFormatter, pairs, printable, priority, set_up_logging

log = logging.getLogger("agent.test")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    stream = io.StringIO()
    set_up_logging("INFO", stream=stream, environment={})
    yield stream
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_for_a_terminal(written: io.StringIO) -> None:
    log.warning("no answer", extra=pairs(meter="reflow-1", timeout_ms=350))
    line = written.getvalue()
    assert line.endswith("Z WARNING agent.test: no answer  meter=reflow-1 timeout_ms=350\n")
    assert len(line.split(" ")[0]) == len("2026-11-22T08:15:00.123Z")


def test_the_time_is_utc_and_has_milliseconds() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, None)
    record.created, record.msecs = 1_700_000_000.5, 500.0
    assert LineFormatter(for_journal=False).format(record) == "2023-11-14T22:13:20.500Z INFO x: m"


@pytest.mark.parametrize(
    ("level", "number"), [(10, 7), (20, 6), (25, 6), (30, 4), (40, 3), (50, 2), (60, 2), (0, 7), (5, 7)]
)
def test_a_line_for_the_journal_begins_with_its_priority(level: int, number: int) -> None:
    record = logging.LogRecord("x", level, "", 0, "m", None, None)
    assert LineFormatter(for_journal=True).format(record) == f"<{number}>x: m"
    assert priority(level) == number


def test_a_message_id_has_its_place(written: io.StringIO) -> None:
    log.info("closed", extra=pairs("M1203", seq=7))
    log.info("closed", extra={"id": "M1204"})
    first, second = written.getvalue().splitlines()
    assert first.endswith(" INFO M1203 agent.test: closed  seq=7")
    assert second.endswith(" INFO M1204 agent.test: closed")


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("plain", "v=plain"),
        (7, "v=7"),
        (None, "v=None"),
        ("", 'v=""'),
        ("two words", 'v="two words"'),
        ('say "x"', 'v="say \\"x\\""'),
        ("a=b", 'v="a=b"'),
        ("a\\nb", 'v="a\\\\nb"'),
        ("a\nb", 'v="a\\nb"'),
        ("回流焊", "v=回流焊"),
        ("\ud800", 'v="\ufffd"'),
    ],
)
def test_a_value_is_one_word_or_quoted(written: io.StringIO, value: object, printed: str) -> None:
    log.info("m", extra=pairs(v=value))
    assert written.getvalue().endswith(f"  {printed}\n")


@pytest.mark.fault("F86")
@pytest.mark.parametrize(
    "evil", ["\n<0>forged", "\r2026-01-01 forged", "\x1b[2J", "\x9b31m", "\u2028x", "\x00", "\x85", "\u202e"]
)
def test_no_value_can_begin_a_line_or_move_a_cursor(written: io.StringIO, evil: str) -> None:
    log.error("from a meter: %s", evil, extra=pairs("id" + evil, **{"k" + evil: evil}))
    text = written.getvalue()
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()


def test_a_traceback_stays_on_its_line(written: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("failed", stack_info=True)
    (line,) = written.getvalue().splitlines()
    assert "ValueError: first\\nsecond" in line
    assert "stack=" in line


@given(st.text(max_size=200))
def test_whatever_comes_is_printable_and_what_is_printable_stays(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable() and "://" not in text and "-----" not in text:
        assert printable(text) == text


SECRET = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"


def test_secrets_are_not_printed(written: io.StringIO) -> None:
    log.info(
        "x", extra=pairs(password=SECRET, client_key_passphrase=SECRET, api_token=SECRET, PrivateKey=SECRET)
    )
    log.info("key: %s", PEM)
    log.info("half a key: %s", PEM[:60])
    log.info("to mqtts://gw01:%s@broker.example:8883", SECRET)
    try:
        raise RuntimeError(PEM)
    except RuntimeError:
        log.exception("x", extra=pairs(file=PEM))
    text = written.getvalue()
    assert SECRET[:12] not in text
    assert text.count("(hidden)") == 9
    assert "@broker.example:8883" in text


def test_what_names_a_key_is_no_secret(written: io.StringIO) -> None:
    log.info("x", extra=pairs(kid="kPrK_qmxVWaY", key_file="signing-key.pem", mapping="a"))
    assert "(hidden)" not in written.getvalue()


def test_a_line_has_an_end(written: io.StringIO) -> None:
    log.info("x" * 100_000)
    assert len(written.getvalue()) == LINE_SIZE_MAX + 1
    assert written.getvalue().endswith("...\n")


def test_a_wrong_call_does_not_cost_the_line(written: io.StringIO) -> None:
    log.info("%d of %d", 7)
    assert "%d of %d (7,) (cannot be put together" in written.getvalue()


def test_the_level_and_an_earlier_set_up_are_replaced(written: io.StringIO) -> None:
    other = io.StringIO()
    set_up_logging("ERROR", stream=other, environment={})
    log.warning("not this")
    log.error("this")
    assert written.getvalue() == ""
    assert len(other.getvalue().splitlines()) == 1
    with pytest.raises(ValueError):
        set_up_logging("LOUD", stream=other)


PROGRAM = """
import logging, warnings
from agent.adapters.logs import set_up_logging
set_up_logging()
logging.getLogger("x").error("m")
warnings.warn("w")
"""


def run(stderr: int, environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=stderr, env=os.environ | environment, check=True)


def test_the_journal_is_known_by_its_inode_and_not_by_an_inherited_variable(tmp_path: Path) -> None:
    for name, fits in (("journal", True), ("elsewhere", False)):
        with (tmp_path / name).open("wb") as file:
            status = os.fstat(file.fileno())
            inode = status.st_ino if fits else status.st_ino + 1
            run(file.fileno(), {"JOURNAL_STREAM": f"{status.st_dev}:{inode}"})
        lines = (tmp_path / name).read_text().splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("<3>x: m") is fits
        assert "UserWarning: w" in lines[1]
