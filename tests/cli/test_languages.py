"""Commands that speak two languages say the same things in both, with the same values in their sentences."""

import string
from collections.abc import Mapping

import pytest

from agent.cli import balance, chinese, chinese_restore, correctwords, courier, exchange, restore

PAIRS = {
    "adjust, witness, manual": (correctwords.ENGLISH, correctwords.CHINESE),
    "courier": (courier.ENGLISH, chinese.COURIER),
    "exchange": (exchange.ENGLISH, chinese.EXCHANGE),
    "balance": (balance.ENGLISH, chinese.BALANCE),
    "restore": (restore.ENGLISH, chinese_restore.RESTORE),
}


def values_in(sentence: str) -> set[str]:
    return {name.partition("!")[0] for _, name, _, _ in string.Formatter().parse(sentence) if name}


@pytest.mark.parametrize("commands", PAIRS)
def test_both_languages_have_the_same_sentences_with_the_same_values(commands: str) -> None:
    english, chinese = PAIRS[commands]
    assert english.keys() == chinese.keys()
    assert _values(english) == _values(chinese)
    assert all(any(ord(sign) > 0x2E80 for sign in sentence) for sentence in chinese.values())


def _values(sentences: Mapping[str, str]) -> dict[str, set[str]]:
    return {code: values_in(sentence) for code, sentence in sentences.items()}
