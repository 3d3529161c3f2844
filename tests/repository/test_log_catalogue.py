"""Every log call of the agent has an id of its own, and the catalogue of messages says the same as the code."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.adapters import logs

AGENT = Path(logs.__file__).parent.parent
CATALOGUE = AGENT / "adapters" / "LOGS.md"
LEVELS = {name: name.upper() for name in ("debug", "info", "warning", "error", "critical")} | {
    "exception": "ERROR"
}
LOGGERS = {"log", "_log", "logger", "logging"}


@dataclass(frozen=True)
class Said:
    """One kind of log line, as the code or the catalogue has it."""

    id: str
    level: str
    text: str
    pairs: tuple[str, ...]


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(AGENT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=logger), attr=level)) if (
                    logger in LOGGERS and level in {*LEVELS, "log"}
                ):
                    yield f"{path.relative_to(AGENT)}:{node.lineno}", node


def said_by(place: str, call: ast.Call) -> Said:
    assert isinstance(call.func, ast.Attribute)
    assert len(call.args) == 1, f"{place}: the text and nothing else; values go into pairs(...)"
    text = ast.literal_eval(call.args[0])
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    assert isinstance(extra, ast.Call), f"{place}: has no extra=pairs(...)"
    assert isinstance(extra.func, ast.Name) and extra.func.id == "pairs", place
    assert extra.args, f"{place}: pairs(...) has no message id"
    names = tuple(keyword.arg for keyword in extra.keywords if keyword.arg is not None)
    return Said(ast.literal_eval(extra.args[0]), LEVELS[call.func.attr], text, names)


def catalogued() -> dict[str, Said]:
    found = {}
    sections = re.split(r"^### ", CATALOGUE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    for section in sections:
        heading, _, body = section.partition("\n")
        id, level, text = heading.split(" ", 2)
        first = body.strip().partition("\n")[0]
        names = tuple(re.findall(r"`(\w+)`", first)) if first.startswith("`") else ()
        assert id not in found, f"{id} is in the catalogue twice"
        assert len(body.split("`\n\n")[-1].split()) > 5, f"{id} does not say what it means"
        found[id] = Said(id, level, text, names)
    return found


def test_every_log_call_has_an_id_of_its_own() -> None:
    places: dict[str, str] = {}
    for place, call in log_calls():
        said = said_by(place, call)
        assert re.fullmatch(r"M\d{4}", said.id), f"{place}: {said.id}"
        assert said.id not in places, f"{place}: {said.id} is used at {places[said.id]} already"
        places[said.id] = place
    assert len(places) > 25


def test_the_catalogue_says_what_the_code_says() -> None:
    in_code = {said.id: said for said in (said_by(*found) for found in log_calls())}
    in_catalogue = catalogued()
    assert in_catalogue.keys() - in_code.keys() == set(), "in the catalogue, but never logged"
    assert in_code.keys() - in_catalogue.keys() == set(), "logged, but not in the catalogue"
    assert in_catalogue == in_code


def test_the_catalogue_is_in_order() -> None:
    ids = list(catalogued())
    assert ids == sorted(ids)
