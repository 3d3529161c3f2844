"""Passwords from files and from systemd credentials, and what is said where there is none."""

from pathlib import Path

import pytest

from agent.adapters.credentials import credential_path, read_password
from agent.errors import ConfigError


def test_a_password_is_what_is_in_the_file_without_the_blanks_around_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("  sésame öffne dich \n")
    assert read_password(file, None, "platform.password_file") == "sésame öffne dich"
    assert read_password(None, None, "platform.password_file") is None


def test_a_credential_is_found_where_systemd_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "broker-password").write_text("secret\n")
    assert read_password(None, "broker-password", "platform.password_file") == "secret"
    for name in ("", ".", "..", "a/b", "/etc/passwd"):
        with pytest.raises(ConfigError, match="not a credential name"):
            credential_path(name, "platform.password_file")


def test_without_systemd_it_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=r"LoadCredentialEncrypted=pw, or use platform\.password_file"):
        read_password(None, "pw", "platform.password_file")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no password"),
        (b"\n", "holds no password"),
        (b"x" * 1001, "holds no password"),
        (b"\xff", "no UTF-8 text"),
    ],
)
def test_what_is_no_password_is_refused_and_not_shown(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as error:
        read_password(file, None, "platform.password_file")
    assert "xxx" not in str(error.value)
