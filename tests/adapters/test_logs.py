"""Log lines: one a record, with systemd's priority where systemd listens, and never forged from outside."""

import logging

from agent.adapters.logs import OneLine


def record(text: str, level: int = logging.WARNING, **more: object) -> logging.LogRecord:
    return logging.LogRecord("agent", level, "file.py", 1, text, None, None, **more)  # type: ignore[arg-type]


def test_a_message_cannot_forge_a_line_or_move_the_cursor() -> None:
    line = OneLine(for_systemd=False).format(record("meter \n<3>all is well\x1b[2J\u2028end"))
    assert "\n" not in line and "\x1b" not in line and "\u2028" not in line
    assert line.endswith(r"meter \n<3>all is well\x1b[2J\u2028end")


def test_systemd_gets_the_priority_and_a_terminal_gets_time_and_level() -> None:
    assert OneLine(for_systemd=True).format(record("text", logging.ERROR)) == "<3>text"
    plain = OneLine(for_systemd=False).format(record("text", logging.ERROR))
    assert plain.endswith("Z error    text")


def test_every_line_of_a_traceback_has_its_priority() -> None:
    try:
        raise ValueError("on purpose")
    except ValueError as error:
        failed = record("a stage failed", logging.CRITICAL)
        failed.exc_info = (ValueError, error, error.__traceback__)
    lines = OneLine(for_systemd=True).format(failed).splitlines()
    assert len(lines) > 2 and all(line.startswith("<2>") for line in lines)
