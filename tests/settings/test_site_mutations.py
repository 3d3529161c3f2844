"""Whatever is done to a site file, the answer is a site or a list of faults; never a traceback."""

import functools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.resources import config_path
from agent.settings import site
from agent.settings.profiles import load_profiles
from agent.settings.site import Site, load_site
from tests.settings.example_site import write_site

VALUES = (
    "true",
    "0",
    "-1",
    "1e400",
    "nan",
    "0x" + "f" * 6_000,
    "99999999999999999999999999",
    '""',
    '" "',
    r'"\u0000"',
    r'"a\nb"',
    '"/"',
    '"."',
    '"' + "x" * 5_000 + '"',
    '"1/0"',
    '"1e999999999"',
    '"gw01/"',
    '"日本"',
    "[]",
    "[[1], {}]",
    '["/", ""]',
    "{}",
    '{ "" = "1/2", "a b" = 3 }',
    "{ a.b.c = 1 }",
    "1979-05-27T07:32:00Z",
    "07:32:00",
)
"""What a person, a script or a hostile hand may write where another value belongs."""

pytestmark = pytest.mark.xdist_group("site mutations")
"""What is read once serves all of them."""


@pytest.fixture(autouse=True, scope="module")
def profiles_read_once() -> Iterator[None]:
    """Thousands of sites are read here, and the shipped profiles are the same for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "load_profiles", functools.cache(load_profiles))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the files that the example names."""
    path = tmp_path_factory.mktemp("site")
    write_site(path)
    for name in ("ca.pem", "gw01.pem", "gw01.key"):
        shutil.copy(path / "signing-key.pem", path / name)
        (path / name).chmod(0o600)
    return path


def _example() -> str:
    return config_path("site.example.toml").read_text(encoding="utf-8")


def _load(folder: Path, text: str | bytes) -> Site | ConfigError:
    """The site or the faults; every other exception fails the test. Each fault can be printed and says something."""
    file = folder / "mutated.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        return load_site(file)
    except ConfigError as error:
        refused = error
    assert refused.faults
    for fault in refused.faults:
        assert fault.reason
        assert "\n" not in str(fault)
        assert len(str(fault)) < 4_000
    return refused


def test_the_example_itself_is_right(folder: Path) -> None:
    assert isinstance(_load(folder, _example()), Site)


@pytest.mark.parametrize("value", VALUES)
def test_every_key_survives_every_value(folder: Path, value: str) -> None:
    """Each key of the example in turn is given the value; most are refused, and the fault names that very line."""
    lines = _example().splitlines()
    for place, text in enumerate(lines):
        key, equals, _ = text.partition(" = ")
        if not equals or key.startswith("#"):
            continue
        mutated = [*lines[:place], f"{key} = {value}", *lines[place + 1 :]]
        result = _load(folder, "\n".join(mutated))
        if isinstance(result, ConfigError):
            assert place + 1 in {fault.line for fault in result.faults} or key in (
                "id",
                "transport",
                "parent",
            )


@given(seed=st.integers(min_value=0, max_value=2**32))
@settings(max_examples=150, deadline=None)
def test_lines_may_be_lost_doubled_or_swapped(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    lines = _example().splitlines()
    for _ in range(chance.randint(1, 6)):
        here, there = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(4):
            case 0:
                del lines[here]
            case 1:
                lines.insert(there, lines[here])
            case 2:
                lines[here], lines[there] = lines[there], lines[here]
            case _:
                key = lines[here].partition(" = ")[0]
                lines[here] = f"{key} = {chance.choice(VALUES)}"
    _load(folder, "\n".join(lines))


@pytest.mark.fault("F80")
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_may_be_damaged(folder: Path, data: st.DataObject) -> None:
    text = bytearray(_example().encode("utf-8"))
    for _ in range(data.draw(st.integers(min_value=1, max_value=8))):
        place = data.draw(st.integers(min_value=0, max_value=len(text) - 1))
        text[place] = data.draw(st.integers(min_value=0, max_value=255))
    _load(folder, bytes(text))


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_answered(folder: Path, text: str) -> None:
    assert isinstance(_load(folder, text), ConfigError)
