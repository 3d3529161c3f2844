"""Which test covers which fault: writes `tests/FAULTS.md` from the markers of the tests (`make docs`).

The catalogue of what can go wrong is `tests/faults.csv`; a test that would fail if the agent took one of these badly
carries `@pytest.mark.fault("F17")`. The markers are read from the source, so that nothing has to be run or imported.
`tests/repository/test_faults.py` fails when the page is not what this writes.
"""

import ast
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS / "FAULTS.md"
CATALOGUE = TESTS / "faults.csv"

_HEAD = """\
# Everything that can go wrong, and the test that covers it

Made from the markers of the tests by `make docs`; do not edit it here. A test carries `@pytest.mark.fault("F17")` if it
would fail when the agent took that fault badly. Beside these, most kinds are drawn at random, many at once, in the
simulated world (`make world`).
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the catalogue."""

    number: str
    area: str
    text: str


def catalogue() -> list[Fault]:
    """All faults in their order."""
    with CATALOGUE.open(encoding="utf-8", newline="") as file:
        return [Fault(row["number"], row["area"], row["fault"]) for row in csv.DictReader(file)]


def marked() -> list[tuple[str, str]]:
    """Every (fault, test) that a marker names, the test as `path::name` below `tests`."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        place = path.relative_to(TESTS).as_posix()
        for name, node in _tests(ast.parse(path.read_bytes()), ""):
            found += [(number, f"{place}::{name}") for number in _numbers(node)]
    return found


_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _tests(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, _Definition]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node, f"{prefix}{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", node


def _numbers(node: _Definition) -> Iterator[str]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def page() -> str:
    """The page as text."""
    tests: dict[str, list[str]] = {}
    for number, test in marked():
        tests.setdefault(number, []).append(test)
    faults = catalogue()
    covered = sum(fault.number in tests for fault in faults)
    lines = [_HEAD, f"{covered} of {len(faults)} faults have a test of their own."]
    area = ""
    for fault in faults:
        if fault.area != area:
            area = fault.area
            lines += ["", f"## {area.capitalize()}", "", "| | fault | tests |", "| --- | --- | --- |"]
        named = "<br>".join(_link(test) for test in tests.get(fault.number, ())) or "**no test**"
        lines.append(f"| {fault.number} | {fault.text} | {named} |")
    return "\n".join(lines) + "\n"


def _link(test: str) -> str:
    place, _, name = test.partition("::")
    return f"[{name.rpartition('::')[2].removeprefix('test_').replace('_', ' ')}]({place})"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
