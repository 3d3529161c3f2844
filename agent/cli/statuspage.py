"""The status as a page of text: a summary and what needs attention, on one screen; in English or Chinese.

Made of the values that the running agent gives (`agent.service.overview`). Where there is more to say than fits, the
gravest comes first and the last row says how much was left out.
"""

import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.reporting.utc import text_of_ms
from agent.service.advice import ERROR, SENTENCES, Problem, format_age

LINES_SHOWN = 4
LABEL_WIDTH = 13
LABELS: Mapping[str, str] = {
    "all well": "All is well.",
    "one problem": "1 thing needs attention:",
    "problems": "{count} things need attention:",
    "more": "... and {count} more; --all shows everything",
    "up": "up {age}",
    "meters": "Meters",
    "meters good": "{good} of {all} good",
    "intervals": "Intervals",
    "interval": "every {length}, last closed for {time} ({age} ago)",
    "no interval yet": "every {length}, none closed yet",
    "lines": "Lines",
    "line": "{answering}/{meters} meters, in use {percent} %, sweep {sweep}, {failed} failed",
    "line down": "DOWN",
    "echoes": "; its adapter echoes, which is taken out",
    "more lines": "and {count} more lines",
    "journal": "Journal",
    "journal size": "{size} of {budget} MB, {free} free",
    "batch": "batch {seq} of chain {chain}",
    "no batch": "no batch yet",
    "backlog": "Backlog",
    "no backlog": "nothing waits for the platform",
    "waiting": "{batches} to be acknowledged, {kwh} kWh, the oldest {age} old",
    "platform": "Platform",
    "connected": "{audience}, connected for {age}",
    "by stick": "{audience}, by stick; there is no broker",
    "away": "{audience}, NOT CONNECTED for {age}",
    "acknowledged": "acknowledged up to batch {seq}, {age} ago",
    "not acknowledged": "nothing acknowledged yet",
    "clock": "Clock",
    "clock S": "synchronised, error at most {err}",
    "clock H": "not synchronised at present, error at most {err}",
    "clock U": "not to be trusted",
    "certificates": "Certificates",
    "certificate": "{role} until {date} ({days} days)",
    "certificate unread": "{role} cannot be read",
    "no certificates": "none (the broker is on this machine)",
    "key": "Signing key",
    "unknown": "unknown",
    "good": "good",
    "waiting for": "waiting",
    "silent": "silent",
    "late": "late",
    "dark": "circuit off",
    "held": "held",
    "refused": "refused",
    "identity": "other meter",
    "suspect": "suspect",
    "line is down": "line down",
    "METER": "METER",
    "LINE": "LINE",
    "ADDRESS": "ADDRESS",
    "QUALITY": "QUALITY",
    "AGE": "AGE",
    "REGISTER KWH": "REGISTER KWH",
    "POWER": "POWER",
    "NOTE": "NOTE",
    "d": "d",
    "h": "h",
    "min": "min",
    "s": "s",
}
"""All words of the page but the sentences of problems; `agent.cli.chinese` has the same keys."""

_LEFT_OUT_FIRST = ("key", "certificates", "clock", "intervals", "journal")
_QUALITY_LABELS = {"waiting": "waiting for", "line down": "line is down"}


@dataclass(frozen=True, slots=True)
class Language:
    """The words of one language."""

    labels: Mapping[str, str]
    sentences: Mapping[str, tuple[str, str]]

    def __call__(self, label: str, **values: object) -> str:
        """The words of a label with values in them."""
        return self.labels[label].format_map(values)

    def age(self, length_ms: int | None) -> str:
        """A length of time, in words of the language."""
        if length_ms is None:
            return self("unknown")
        return self._units(format_age(length_ms))

    def sentences_of(self, problem: Problem) -> tuple[str, str]:
        """What is so and what to do about it."""
        values = {name: self._units(text) if name == "age" else text for name, text in problem.values.items()}
        return replace(problem, values=values).sentences(self.sentences)

    def _units(self, age: str) -> str:
        return " ".join(self.labels.get(word, word) for word in age.split(" "))

    def quality(self, quality: str) -> str:
        """The quality of a meter in one word."""
        return self(_QUALITY_LABELS.get(quality, quality))


ENGLISH = Language(LABELS, SENTENCES)


def page(
    said: Mapping[str, Any],
    say: Language,
    *,
    width: int = 80,
    height: int | None = 24,
) -> str:
    """The status as text.

    Args:
        said: what the agent said.
        say: the language.
        width: columns of the screen; longer lines are wrapped.
        height: rows of the screen, None for everything with a table of all meters.
    """
    problems = [Problem.from_json(entry) for entry in said["problems"]]
    title, verdict = _title(said, say, width), _verdict(problems, say)
    blocks = [_problem_rows(problem, say, width) for problem in problems]
    if height is None:
        rows = [
            title,
            "",
            *_summary(said, say, width),
            "",
            verdict,
            *(row for block in blocks for row in block),
        ]
        return "\n".join([*rows, "", *meter_table(said["meters"], say)])
    room = height - 1 - len((title, "", "", verdict))
    summary = _summary(said, say, width, room=room - sum(map(len, blocks)))
    return "\n".join([title, "", *summary, "", verdict, *_fitting(blocks, say, room - len(summary))])


def _title(said: Mapping[str, Any], say: Language, width: int) -> str:
    left = f"{said['org']}/{said['agent']}  metering-agent {said['sw']}  {say('up', age=say.age(said['uptime_ms']))}"
    right = _clock_text(said["at_ms"])
    return left + " " * max(2, width - columns(left) - columns(right)) + right


def _clock_text(wall_ms: int) -> str:
    """A time of day without its fraction, UTC."""
    return text_of_ms(wall_ms // 1000 * 1000).replace(".000Z", "Z").replace("T", " ")


def _verdict(problems: Sequence[Problem], say: Language) -> str:
    if not problems:
        return say("all well")
    return say("one problem") if len(problems) == 1 else say("problems", count=len(problems))


def _summary(said: Mapping[str, Any], say: Language, width: int, *, room: int | None = None) -> list[str]:
    """The rows about everything; where the problems need the room, those that are missed least are left out."""
    parts = {
        "meters": [_meters_text(said["meters"], say)],
        "intervals": [_interval_text(said, say)],
        "lines": _lines_text(said["lines"], say),
        "journal": [_journal_text(said["journal"], say)],
        "backlog": [_backlog_text(said["journal"], say)],
        "platform": _platform_text(said, say),
        "clock": [_clock_quality(said["clock"], say)],
        "certificates": [_certificates_text(said["certificates"], say)],
        "key": [f"{said['signing_key']['alg']} {said['signing_key']['kid']}"],
    }
    for name in _LEFT_OUT_FIRST:
        if room is not None and sum(map(len, parts.values())) > room:
            del parts[name]
    return [_fitted(row, width) for name, values in parts.items() for row in _row(say(name), values)]


def _row(label: str, values: Sequence[str]) -> list[str]:
    """A label and its values, one below the other."""
    return [f"{_left(label if not place else '', LABEL_WIDTH)}{value}" for place, value in enumerate(values)]


def _meters_text(meters: Sequence[Mapping[str, Any]], say: Language) -> str:
    counts: dict[str, int] = {}
    for meter in meters:
        counts[meter["quality"]] = counts.get(meter["quality"], 0) + 1
    good = say("meters good", good=counts.pop("good", 0), all=len(meters))
    return ", ".join(
        [good, *(f"{count} {say.quality(quality)}" for quality, count in sorted(counts.items()))]
    )


def _interval_text(said: Mapping[str, Any], say: Language) -> str:
    length, boundary = say.age(said["interval_ms"]), said["boundary"]
    if boundary["last_cut_ms"] is None:
        return say("no interval yet", length=length)
    time, age = _clock_text(boundary["last_cut_ms"]), say.age(boundary["age_ms"])
    return say("interval", length=length, time=time, age=age)


def _lines_text(lines: Sequence[Mapping[str, Any]], say: Language) -> list[str]:
    """The lines, those with something to see first, in columns; not more than a few."""
    worst = sorted(lines, key=lambda line: (line["open"], -line["failed_reads"]))
    shown = worst if len(lines) <= LINES_SHOWN else worst[: LINES_SHOWN - 1]
    shown = [line for line in lines if line in shown]
    name_width = max((columns(line["line"]) for line in shown), default=0) + 2
    texts = [f"{_left(line['line'], name_width)}{_line_text(line, say)}" for line in shown]
    left_out = len(lines) - len(shown)
    return [*texts, say("more lines", count=left_out)] if left_out else texts


def _line_text(line: Mapping[str, Any], say: Language) -> str:
    if not line["open"] and line["problem"] is not None:
        return say("line down")
    sweep_ms = line["last_sweep_ms"]
    text = say(
        "line",
        answering=line["meters_answering"],
        meters=line["meters"],
        percent=line["recent"]["busy_permille"] // 10,
        sweep=say("unknown") if sweep_ms is None else _ms_text(sweep_ms, say),
        failed=line["failed_reads"],
    )
    return text + say("echoes") if line.get("echoes") else text


def _ms_text(length_ms: int, say: Language) -> str:
    """A short time: in ms below a minute."""
    return f"{length_ms} ms" if length_ms < 60_000 else say.age(length_ms)


def _journal_text(journal: Mapping[str, Any], say: Language) -> str:
    free = journal["free_bytes"]
    size = say(
        "journal size",
        size=_tenths_of_mb(journal["bytes"]),
        budget=journal["budget_bytes"] // 1_000_000,
        free=say("unknown") if free is None else _gb(free),
    )
    if journal["chain"] is None:
        return f"{size}; {say('no batch')}"
    return f"{size}; {say('batch', seq=journal['seq'], chain='...' + journal['chain'][-6:])}"


def _backlog_text(journal: Mapping[str, Any], say: Language) -> str:
    if not journal["backlog_batches"]:
        return say("no backlog")
    return say(
        "waiting",
        batches=journal["backlog_batches"],
        kwh=journal["backlog_kwh"],
        age=say.age(journal["backlog_age_ms"]),
    )


def _platform_text(said: Mapping[str, Any], say: Language) -> list[str]:
    platform, acknowledged = said["platform"], said["journal"]["acknowledged"]
    state = "connected" if platform["connected"] else "away"
    if platform.get("by_stick"):
        state = "by stick"
    first = say(state, audience=platform["audience"], age=say.age(platform["for_ms"]))
    if acknowledged is None:
        return [first, say("not acknowledged")]
    age_ms = max(0, said["at_ms"] - acknowledged["stored_ms"])
    return [first, say("acknowledged", seq=acknowledged["seq"], age=say.age(age_ms))]


def _clock_quality(clock: Mapping[str, Any], say: Language) -> str:
    return say(f"clock {clock['sync']}", err=_ms_text(clock["err_ms"], say))


def _certificates_text(certificates: Sequence[Mapping[str, Any]], say: Language) -> str:
    if not certificates:
        return say("no certificates")
    return ", ".join(
        say("certificate unread", role=entry["role"])
        if entry["not_after_ms"] is None
        else say(
            "certificate",
            role=entry["role"],
            date=text_of_ms(entry["not_after_ms"])[:10],
            days=entry["days_left"],
        )
        for entry in certificates
    )


def _tenths_of_mb(size: int) -> str:
    whole, tenths = divmod(size // 100_000, 10)
    return f"{whole}.{tenths}"


def _gb(size: int) -> str:
    return f"{size // 1_000_000_000} GB" if size >= 10_000_000_000 else f"{size // 1_000_000} MB"


# ----------------------------------------------------------------------------------------------------------- problems


def _fitting(blocks: Sequence[Sequence[str]], say: Language, room: int) -> list[str]:
    """The problems that fit into `room` rows, and how many do not."""
    rows: list[str] = []
    for place, block in enumerate(blocks):
        last = place == len(blocks) - 1
        if len(rows) + len(block) + (0 if last else 1) > room:
            return [*rows, say("more", count=len(blocks) - place)]
        rows += block
    return rows


def _problem_rows(problem: Problem, say: Language, width: int) -> list[str]:
    what, remedy = say.sentences_of(problem)
    mark = "!!" if problem.gravity == ERROR else "! "
    return [*_wrapped(f"{mark} {what}", width, "   "), *_wrapped(f"   -> {remedy}", width, "      ")]


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Text in rows of at most `width` columns; Chinese breaks between any two signs, other words only at blanks."""
    if columns(text) == len(text):
        return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    rows, row = [], ""
    for piece in re.findall(r"[\x21-\x7e]+|\s+|.", text):
        if columns(row + piece) > width and row.strip():
            rows.append(row.rstrip())
            row = indent + piece.lstrip()
        else:
            row += piece
    return [*rows, row]


# ------------------------------------------------------------------------------------------------------------- meters


def meter_table(meters: Sequence[Mapping[str, Any]], say: Language) -> list[str]:
    """Every meter in a row."""
    names = ("METER", "LINE", "ADDRESS", "QUALITY", "AGE", "REGISTER KWH", "POWER", "NOTE")
    head = tuple(say(name) for name in names)
    rows = [head, *(_meter_cells(meter, say) for meter in meters)]
    widths = [max(columns(row[place]) for row in rows) for place in range(len(head))]
    aligned = [_right if name in ("ADDRESS", "AGE", "REGISTER KWH", "POWER") else _left for name in names]
    return [
        "  ".join(align(cell, wide) for align, cell, wide in zip(aligned, row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _meter_cells(meter: Mapping[str, Any], say: Language) -> tuple[str, ...]:
    booked, live = meter["booked"], meter["live"]
    return (
        meter["meter"],
        meter["line"],
        str(meter["address"]),
        say.quality(meter["quality"]),
        "-" if meter["age_ms"] is None else say.age(meter["age_ms"]),
        "-" if booked is None else booked["register_kwh"][:-3],
        live.get("power_active_total") or "-",
        meter["problem"] or ", ".join(meter["flags"]),
    )


# ------------------------------------------------------------------------------------------------------------ columns


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese signs take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _left(text: str, width: int) -> str:
    return text + " " * max(0, width - columns(text))


def _right(text: str, width: int) -> str:
    return " " * max(0, width - columns(text)) + text


def _fitted(text: str, width: int) -> str:
    """The text, cut where it would not fit into its row."""
    if columns(text) <= width:
        return text
    while columns(text) > width - 3:
        text = text[:-1]
    return text + "..."
