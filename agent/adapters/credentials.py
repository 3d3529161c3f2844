"""Passwords, and where systemd puts what it decrypted for the service.

A password is never in the site file, which is copied, mailed and backed up: it lies in a file of its own, or it is a
systemd credential, encrypted with the machine's key until the service starts. Used by `wiring` and `keys`.
"""

import os
from pathlib import Path

from agent.errors import ConfigError

PASSWORD_CHARACTERS_MAX = 1_000


def credential_path(name: str, instead: str) -> Path:
    """Where the credential of this name is (`LoadCredential=` or `LoadCredentialEncrypted=`).

    `instead` is the key of the site file for those who have no systemd. Raises ConfigError where there are no
    credentials, or the name is none.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        reason = "there are no systemd credentials: CREDENTIALS_DIRECTORY is not set"
        remedy = f"start as a service with LoadCredentialEncrypted={name}, or use {instead}"
        raise ConfigError.of(name, reason, remedy)
    if not name or Path(name).name != name or name in (".", ".."):
        remedy = "use the plain name given to LoadCredentialEncrypted="
        raise ConfigError.of(name, "is not a credential name", remedy)
    return Path(folder) / name


def read_password(file: Path | None, credential: str | None, instead: str) -> str | None:
    """The password in a file or a credential, blanks around it left out; None where neither is named.

    Raises ConfigError where it cannot be read, is empty, no UTF-8 text or longer than 1,000 characters.
    """
    if credential is not None:
        file = credential_path(credential, instead)
    if file is None:
        return None
    try:
        with file.open(encoding="utf-8") as text:
            password = text.read(PASSWORD_CHARACTERS_MAX + 1).strip()
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise ConfigError.of(file, reason, "check that it is there and who may read it") from error
    except UnicodeDecodeError as error:
        raise ConfigError.of(file, "is no UTF-8 text", "write the password into it, nothing else") from error
    if not 0 < len(password) <= PASSWORD_CHARACTERS_MAX:
        raise ConfigError.of(file, "holds no password", "write the password into it, nothing else")
    return password
