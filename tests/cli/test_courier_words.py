"""What `courier` says: the same in both languages, for every outcome that the agent can answer with."""

import string

import pytest

from agent.cli.chinese import COURIER as CHINESE
from agent.cli.courier import ENGLISH
from agent.service.acknowledge import Outcome


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same_things() -> None:
    assert set(CHINESE) == set(ENGLISH)
    assert {key: fields(text) for key, text in CHINESE.items()} == {
        key: fields(text) for key, text in ENGLISH.items()
    }


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_words(outcome: Outcome) -> None:
    assert outcome.value in CHINESE
