"""Where the project's own data files are: profiles, emission sources, factors, schemas.

In a checkout they are in `config/` beside this package. A wheel carries the same files inside the package
(`agent/_config`, see pyproject.toml), because an installed package has no `config/` beside it. Everybody who
needs a data file asks here, so that nobody else knows the difference. Bottom of the layers, standard library only.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_path(*parts: str) -> Path:
    """The path of a data file or folder, for example `config_path("profiles", "abb-b23.toml")`.

    Each part is one plain name. The path is returned whether or not it exists: the caller knows best what to
    say about a file that is missing.

    Raises ValueError for a part that is no plain name, so that an id from a site file cannot leave the folder.
    """
    return _config_root().joinpath(*map(_plain, parts))


def package_path(*parts: str) -> Path:
    """The path of a file that lies beside the code, for example `package_path("reporting", "VERIFY.md")`.

    The same in a checkout and in an installed package. Raises ValueError for a part that is no plain name.
    """
    return _PACKAGE.joinpath(*map(_plain, parts))


def _config_root() -> Path:
    installed = _PACKAGE / "_config"
    return installed if installed.is_dir() else _PACKAGE.parent / "config"


def _plain(part: str) -> str:
    if part in ("", ".", "..") or any(sign in part for sign in "/\\\0"):
        raise ValueError(f"not a plain file name: {part!r}")
    return part
