"""The one door to data files, in a checkout and beside an installed package."""

from pathlib import Path

import pytest

from agent import resources

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_uses_its_config_folder() -> None:
    assert resources.config_path() == ROOT / "config"
    assert resources.config_path("profiles", "abb-b23.toml") == ROOT / "config" / "profiles" / "abb-b23.toml"


def test_an_installed_package_uses_the_files_it_carries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agent" / "_config").mkdir(parents=True)
    (tmp_path / "config").mkdir()  # somebody else's folder beside it
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "agent")
    assert resources.config_path("profiles") == tmp_path / "agent" / "_config" / "profiles"


@pytest.mark.parametrize("part", ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\\b", "a\0b"])
def test_nobody_leaves_the_folder(part: str) -> None:
    with pytest.raises(ValueError, match="not a plain file name"):
        resources.config_path("profiles", part)
