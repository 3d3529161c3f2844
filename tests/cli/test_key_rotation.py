"""What `check` says of a key that is to take over, before the start."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.adapters.keys import generate_key, load_signer
from agent.cli import main
from agent.settings.site import load_site
from agent.wiring import following_of, signer_of
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


def as_credentials(folder: Path, present: str, following: str) -> Path:
    """A site file whose two keys are systemd credentials."""
    site = write_site(folder)
    names = f'[signing]\ncredential = "{present}"\nnext_credential = "{following}"\n'
    site.write_text(site.read_text().replace('[signing]\nkey_file = "signing-key.pem"\n', names))
    return site


def test_the_next_key_may_be_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = as_credentials(tmp_path, "signing-key", "next-key")
    assert '"next-key" takes over after the next start' in check(site).output
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    keys = [generate_key(folder / name) for name in ("signing-key", "next-key")]
    loaded = load_site(site)
    following = following_of(loaded)
    assert following is not None
    assert [signer_of(loaded).kid, following.kid] == [key.kid for key in keys]


def test_a_credential_does_not_follow_itself(tmp_path: Path) -> None:
    assert "is the same as credential" in check(as_credentials(tmp_path, "key", "key")).stderr


def test_one_next_key_only(tmp_path: Path) -> None:
    site = with_next(tmp_path)
    generate_key(tmp_path / "next-key.pem")
    site.write_text(site.read_text().replace("[signing]\n", '[signing]\nnext_credential = "other"\n'))
    assert "is given together with next_key_file" in check(site).stderr
