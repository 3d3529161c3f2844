"""Every key of a TOML text is found, and on its own line."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.settings.tomlines import KeyPath, line_of, locate

SITE = '''\
# a comment with [brackets] and = signs
[gateway]
org = "zj-meterworks"
agent = "gw01"

[[lines]]
id = "hall-a"

[[meters]]
id = "reflow-1"
address = 7
steps = { smt_placement = "3/5", reflow_soldering = "2/5" }

[[meters]]
id = "wave-1"   # [[meters]] in a comment
note = """
[gateway]
org = "not a key"
a \\""" quote
"""
address = 8
[meters.extra]
deep.er = 1
"quoted.key" = [
  1,  # one
  { x = 2 },
  [3,
   4],
]
'''


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every path of loaded values."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("gateway",), 2),
        (("gateway", "agent"), 4),
        (("lines", 0), 6),
        (("meters", 0), 9),
        (("meters", 0, "address"), 11),
        (("meters", 0, "steps", "reflow_soldering"), 12),
        (("meters", 1), 14),
        (("meters", 1, "note"), 16),
        (("meters", 1, "address"), 21),
        (("meters", 1, "extra"), 22),
        (("meters", 1, "extra", "deep", "er"), 23),
        (("meters", 1, "extra", "quoted.key"), 24),
        (("meters", 1, "extra", "quoted.key", 1, "x"), 26),
        (("meters", 1, "extra", "quoted.key", 2, 1), 28),
    ],
)
def test_a_key_stands_on_its_line(path: KeyPath, line: int) -> None:
    assert locate(SITE)[path] == line


def test_windows_line_ends_change_no_line() -> None:
    assert locate(SITE.replace("\n", "\r\n")) == locate(SITE)


def test_every_path_is_found_and_no_other() -> None:
    assert set(locate(SITE)) == set(paths(tomllib.loads(SITE)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a = 1",
        "a = ''' '' '''''\nb = 2\n",
        'a = """"quoted""""\nb = "\\\\"\nc = \'\\\'\n',
        "day = 1979-05-27 07:32:00 # [x]\n[ a . 'b c' ]\n'd' . e = []\n[[ a . f ]]\n[[a.f]]\n[a.f.g]\n[[a.f.h]]\n",
        "a = [[], [[{}]], {b = {c = 'd,]}'}}]\nx.y = true\nx.z = -inf\n",
    ],
)
def test_odd_but_legal_texts(text: str) -> None:
    assert set(locate(text)) == set(paths(tomllib.loads(text)))


def test_a_missing_key_is_shown_at_its_table() -> None:
    lines = locate(SITE)
    assert line_of(lines, ("meters", 1, "profile")) == 14
    assert line_of(lines, ("platform", "broker")) is None


def test_what_is_not_toml_is_refused() -> None:
    with pytest.raises(tomllib.TOMLDecodeError, match="line 2"):
        locate("a = 1\nb =\n")


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
SCALARS = st.one_of(st.integers(-1000, 1000), st.booleans(), TEXTS, st.just("a\nb\"'#[=]"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_document_another_library_writes_is_located(document: dict[str, Any]) -> None:
    text = tomlkit.dumps(document)
    loaded = tomllib.loads(text)
    found = locate(text)
    assert set(found) == set(paths(loaded))
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())
