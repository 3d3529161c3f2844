"""`metering-sim platform report --from --to`: the files, the words and the exit codes around an evaluation."""

import json
import re
import time
import uuid
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from agent.carbon.electricity import Series
from agent.carbon.exchange import ExchangeError, product_footprint
from agent.carbon.factors import Provenance
from agent.carbon.template import DocumentError, sha256_of
from agent.errors import ConfigError, Fault
from agent.reporting.chain import ChainHead
from agent.reporting.utc import ms_of_text
from agent.reporting.wire import WireError
from agent.settings.locked import open_factors, open_locked, open_template
from simulators.footprint.activity import Folder, read_folder
from simulators.footprint.command import lines_of, refuse
from simulators.footprint.tables import Faults, read_table
from simulators.platform.evaluation import Answer, evaluate
from simulators.platform.maps import Correction
from simulators.platform.quarters import Quarters
from simulators.platform.question import Question
from simulators.platform.store import Store

_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{3}))?)?Z)?")

NOT_OF_THE_FOLDER = frozenset({"steps.csv", "step_intervals.csv", "factors.csv"})
"""The platform has verified kWh, and locked factors."""

SERIES_COLUMNS = ("start", "kgco2e_per_kwh")
_SERIES_REMEDY = "columns are start and kgco2e_per_kwh, a row for each interval, all of one length"


def print_footprint(
    store: Store, path: Path, begins: str | None, ends: str | None, *, as_json: bool, **options: Any
) -> None:
    """Evaluate and print; ends with 2 where something is wrong."""
    try:
        answer, question = answer_of(store, path, begins, ends, **options)
        if options["pact"] is not None:
            _write_exchange(answer, question, options["pact"], options["stated"])
    except ConfigError as error:
        refuse(error)
    said = answer.document
    click.echo(json.dumps(said, ensure_ascii=False, indent=1) if as_json else "\n".join(lines_of(said)))


def answer_of(
    store: Store, path: Path, begins: str | None, ends: str | None, **options: Any
) -> tuple[Answer, Question]:
    """Evaluate what the options ask for. Raises ConfigError."""
    template = open_template(options.get("template"))
    locked, factors = open_factors(options.get("factors"))
    series, series_sha256 = None, None
    if options.get("hourly") is not None:
        series, series_sha256 = read_series(options["hourly"])
    folder: Folder | None = None
    if options.get("activity") is not None:
        folder = read_folder(options["activity"], template, without=NOT_OF_THE_FOLDER)
    question = Question(
        org=options.get("org") or _only_org(store),
        from_ms=time_of("--from", begins),
        to_ms=time_of("--to", ends),
        template=template,
        factors=factors,
        factor_set=locked,
        corrections=tuple(_correction(file) for file in options.get("maps", ())),
        series=series,
        series_sha256=series_sha256,
        folder=folder,
        up_to=None if options.get("again") is None else _heads(options["again"]),
    )
    # An old report is made from nothing, because the memory knows of no limit.
    from_nothing = question.up_to is not None or options.get("fresh", False)
    quarters = Quarters() if from_nothing else Quarters(f"{path}.quarters")
    try:
        return evaluate(store, quarters, question), question
    finally:
        quarters.close()


def time_of(option: str, text: str | None) -> int:
    """A time as people write it, `2026-05-03` or `2026-05-03T08:15Z`, in UTC Unix ms. Raises ConfigError."""
    if text is None:
        raise ConfigError.of("report", "is missing", "a period has two ends", key=option)
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        day, minute, second, thousandth = match.groups(default="")
        return ms_of_text(f"{day}T{minute or '00:00'}:{second or '00'}.{thousandth or '000'}Z")
    except ValueError:
        raise ConfigError.of(
            "report", f'"{text}" is not a time', "write 2026-05-03 or 2026-05-03T08:15Z, in UTC", key=option
        ) from None


def _only_org(store: Store) -> str:
    names = [row[0] for row in store.rows("SELECT DISTINCT org FROM agents ORDER BY org")]
    if len(names) != 1:
        raise ConfigError.of(
            "report",
            f"the store knows {len(names)} organisations",
            f"name one of: {', '.join(names)}",
            key="--org",
        )
    return str(names[0])


def _correction(path: Path) -> Correction:
    try:
        return Correction.of(open_locked(path))
    except DocumentError as error:
        raise ConfigError.of("report", str(error), key=str(path)) from None


def read_series(path: Path) -> tuple[Series, str]:
    """Hourly factors from a CSV file, and its SHA-256. Raises ConfigError with every fault and its row."""
    faults = Faults()
    table = read_table(path, SERIES_COLUMNS, faults)
    if table is None:
        raise ConfigError.of(path, "is not there, or empty", _SERIES_REMEDY)
    points: list[tuple[int, Fraction]] = []
    for row in table.rows:
        start_ms, value = row.time("start"), row.needed_number("kgco2e_per_kwh")
        if start_ms is None or not row.ok:
            continue
        if points and start_ms <= points[-1][0]:
            row.refuse("start", "is not after the row before it", _SERIES_REMEDY)
        elif len(points) > 1 and start_ms - points[-1][0] != points[1][0] - points[0][0]:
            row.refuse("start", "an interval before it is missing, or out of order", _SERIES_REMEDY)
        points.append((start_ms, value))
    if faults.found:
        raise ConfigError(faults.found)
    try:
        return Series.of(path.name, points, Provenance(source=path.name)), sha256_of(table.data)
    except ValueError as error:
        raise ConfigError.of(path, str(error), _SERIES_REMEDY) from None


def _heads(path: Path) -> dict[str, ChainHead]:
    """The heads that an old report had read."""
    try:
        messages = json.loads(path.read_text("utf-8"))["made_of"]["messages"]
        return {name: ChainHead.from_payload(said["head"], name) for name, said in messages.items()}
    except OSError as error:
        raise ConfigError.of("report", f"cannot be read: {error.strerror}", key=str(path)) from None
    except (ValueError, KeyError, TypeError, AttributeError, WireError) as error:
        raise ConfigError.of("report", f"is no report of this platform: {error!r}", key=str(path)) from None


def _write_exchange(answer: Answer, question: Question, path: Path, stated: Path | None) -> None:
    if stated is None:
        raise ConfigError.of(
            "report", "is missing", "a person has to state what no meter knows", key="--stated"
        )
    try:
        made = product_footprint(
            answer.footprint,
            _statement(stated),
            id=str(uuid.uuid4()),
            created_ms=time.time_ns() // 1_000_000,
            from_ms=question.from_ms,
            to_ms=question.to_ms,
            factor_set=question.factor_set,
        )
        path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError.of("report", f"cannot be used: {error.strerror}", key=str(error.filename)) from None
    except ExchangeError as error:
        raise ConfigError([Fault(str(stated), None, "", fault) for fault in error.faults]) from None


def _statement(path: Path) -> dict[str, object]:
    try:
        stated = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigError.of(path, f"is not JSON in UTF-8: {error}") from None
    if not isinstance(stated, dict):
        raise ConfigError.of(path, "is no JSON object", "write names and values in braces")
    return stated
