"""Site files that are none: not there, not text, not TOML, not of this kind; each is called what it is."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ConfigError, Fault
from agent.settings.site import load_site
from tests.settings.example_site import meter, write_site


@pytest.mark.parametrize(
    ("data", "line_number", "message"),
    [
        (b"", None, "is empty"),
        (b" \n\n", None, "is empty"),
        (b"a = \xff", 1, "is not UTF-8 text"),
        (b"# ok\n# \xe4\n", 2, "is not UTF-8 text"),
        (b"\xef\xbb\xbf[gateway]", 1, "begins with a byte order mark"),
        ("[gateway]".encode("utf-16"), 1, "begins with a byte order mark"),
        (b"[gateway]\norg = zj\n", 2, "this is not TOML: column 7: Invalid value"),
        (b"[gateway]\norg = 'zj", 2, "there the file ends"),
        (b"[gateway]\norg = 'a'\norg = 'b'\n", 3, "Cannot overwrite a value"),
        (b"a = " + b"[" * 5_000, None, "brackets within brackets"),
        (b"a = " + b"9" * 5_000, None, "this is not TOML"),
        (b"x" * 4_000_001, None, "is larger than 4 MB"),
    ],
)
def test_what_is_no_site_file_is_called_so(
    tmp_path: Path, data: bytes, line_number: int | None, message: str
) -> None:
    file = tmp_path / "site.toml"
    file.write_bytes(data)
    (fault,) = _faults_of(file)
    assert message in fault.reason
    assert fault.line == line_number
    assert fault.remedy


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "site.toml")
    (fault,) = _faults_of(tmp_path / "site.toml")
    assert message in fault.reason


def test_an_empty_table_of_contents_names_everything_that_is_required(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text("# nothing yet\n")
    assert [fault.key for fault in _faults_of(file)] == [
        "gateway.org",
        "gateway.agent",
        "platform.audience",
        "platform.broker",
        "platform.acknowledgement_keys",
        "signing",
        "lines",
        "meters",
    ]


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ("gateway = 3", "gateway", "write [gateway] and its keys below"),
        ("lines = 3", "lines", "write [[lines]] before each of them"),
        ("[meters]", "meters", "write [[meters]] before each of them"),
        ("meters = [1]", "meters.#1", "write [[meters]] and its keys below"),
        ("gateway = [[1]]", "gateway", "write [gateway] and its keys below"),
    ],
)
def test_tables_of_the_wrong_kind(tmp_path: Path, text: str, key: str, remedy: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    assert [fault.remedy for fault in _faults_of(file) if fault.key == key][:1] == [remedy]


def test_the_faults_of_a_profile_are_told_together_with_those_of_the_site(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "acme-m3.toml").write_text("maker = 3\n")
    faults = _faults_of(write_site(tmp_path, meters=[meter("a", 300, profile="acme-m3")]))
    files = {Path(fault.file).name for fault in faults}
    assert files == {"acme-m3.toml", "site.toml"}
    assert not [fault for fault in faults if "there is no profile" in fault.reason]


def test_reading_a_site_needs_no_network_library() -> None:
    """`check` and `keygen` run on an installer's laptop, where pymodbus or paho may be missing."""
    libraries = "{'pymodbus', 'paho', 'serial', 'cryptography'}"
    code = f"import sys, agent.settings.site; print(sorted({libraries} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _faults_of(file: Path) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as refused:
        load_site(file)
    return refused.value.faults
