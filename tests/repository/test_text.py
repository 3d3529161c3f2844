"""What must not stand in any file: paths of one machine, hosts of registries, floats on the ledger path."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Written in two halves, so that this file does not name them either.
REGISTRY_HOSTS = [
    f"{name}.{domain}" for name, domain in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org")]
]
ORDINARY_FOLDERS = {
    "bin",
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
}
EXACT = [
    package
    for package in ("metering", "reporting", "protocol", "carbon")
    if (ROOT / "agent" / package).is_dir()
]


def files() -> list[Path]:
    """Every file of the repository as text goes: what git knows, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = (
            subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def mentions(words: list[str]) -> list[str]:
    found = []
    for file in files():
        text = file.read_text(errors="replace")
        found += [f"{file.relative_to(ROOT)}: {word}" for word in words if word in text]
    return found


def test_no_path_of_this_machine() -> None:
    top = ROOT.parts[1]
    words = [str(ROOT), *([] if top in ORDINARY_FOLDERS else [f"/{top}/"])]
    assert mentions(words) == []


def test_no_host_of_a_registry() -> None:
    assert mentions(REGISTRY_HOSTS) == []


def floats(source: str) -> Iterator[int]:
    """Lines with a float: a literal, a conversion to it, a parameter, variable or result that is declared as one."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=float(), lineno=line) | ast.Call(func=ast.Name(id="float"), lineno=line):
                yield line
            case ast.arg(annotation=declared, lineno=line) | ast.AnnAssign(annotation=declared, lineno=line):
                yield from [line] * _mentions_float(declared)
            case (
                ast.FunctionDef(returns=declared, lineno=line)
                | ast.AsyncFunctionDef(returns=declared, lineno=line)
            ):
                yield from [line] * _mentions_float(declared)


def _mentions_float(annotation: ast.expr | None) -> bool:
    inner = ast.walk(annotation) if annotation else ()
    return any(isinstance(node, ast.Name) and node.id == "float" for node in inner)


@pytest.mark.parametrize("package", EXACT)
def test_no_float_on_the_ledger_path(package: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / "agent" / package).rglob("*.py"))
        for line in floats(file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    ["x = 0.1", "x = float(y)", "x: float = y", "def f(x: int | float): ...", "def f() -> list[float]: ..."],
)
def test_the_search_for_floats_finds_them(source: str) -> None:
    assert list(floats(source)) == [1]


def test_the_search_for_floats_lets_a_refusal_pass() -> None:
    assert list(floats("if isinstance(x, float):\n    raise ValueError(x)")) == []


def test_every_test_file_is_collected() -> None:
    """A test that pytest's naming rule misses is a promise without a test."""
    strays = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "tests").rglob("*.py"))
        if not file.name.startswith("test_")
        and any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            for node in ast.parse(file.read_text()).body
        )
        and "contracts" not in file.parts
    ]
    assert strays == []
