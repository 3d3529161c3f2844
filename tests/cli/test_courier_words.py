"""`courier` has words for every outcome that the agent can answer with; that both languages do: `test_languages`."""

import pytest

from agent.cli.courier import ENGLISH
from agent.service.acknowledge import Outcome


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_words(outcome: Outcome) -> None:
    assert outcome.value in ENGLISH
