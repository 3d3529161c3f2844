"""Tokens are of the asked size, and two are never the same."""

import pytest

from agent.adapters.entropy import SystemEntropy


@pytest.mark.parametrize("size", [1, 10, 16, 1024])
def test_a_token_has_its_size(size: int) -> None:
    assert len(SystemEntropy().token(size)) == size


def test_tokens_differ() -> None:
    entropy = SystemEntropy()
    assert len({entropy.token(16) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_token_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        SystemEntropy().token(size)
