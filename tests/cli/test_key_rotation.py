"""What `check` says of a key that is to take over, before the start."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.adapters.keys import generate_key, load_signer
from agent.cli import main
from tests.settings.example_site import write_site


def with_next(folder: Path, name: str = "next-key.pem") -> Path:
    """A site file that names a next key."""
    site = write_site(folder)
    site.write_text(site.read_text().replace("[signing]\n", f'[signing]\nnext_key_file = "{name}"\n'))
    return site


def check(site: Path) -> Result:
    return CliRunner().invoke(main, ["check", "--site", str(site)], catch_exceptions=False)


def test_check_says_what_is_going_to_happen(tmp_path: Path) -> None:
    site = with_next(tmp_path)
    generate_key(tmp_path / "next-key.pem")
    done = check(site)
    assert done.exit_code == 0, done.output
    assert "takes over after the next start" in done.output


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, "there is no file"),
        (lambda folder: (folder / "next-key.pem").write_text("no key"), "mode 0644"),
        (lambda folder: _private(folder / "next-key.pem", b"no key"), "not a private key"),
        (
            lambda folder: _private(folder / "next-key.pem", (folder / "signing-key.pem").read_bytes()),
            "the same key as key_file",
        ),
    ],
)
def test_check_refuses_a_next_key_that_is_none(tmp_path: Path, make: object, reason: str) -> None:
    site = with_next(tmp_path)
    make(tmp_path)  # type: ignore[operator]
    done = check(site)
    assert (done.exit_code, reason in done.stderr) == (1, True), done.stderr


def _private(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def test_the_same_file_twice_is_no_rotation(tmp_path: Path) -> None:
    site = with_next(tmp_path, "signing-key.pem")
    assert load_signer(tmp_path / "signing-key.pem").kid
    assert "the same file as key_file" in check(site).stderr
