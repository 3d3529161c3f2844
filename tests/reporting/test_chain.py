"""How a batch stands to the head of what is known, and the names of chains."""

from dataclasses import replace

import pytest

from agent.reporting.batch import Batch, Clock
from agent.reporting.chain import ChainHead, Link, link, new_chain
from agent.reporting.wire import ULID
from tests.reporting.gateway import CHAIN, SECOND_CHAIN, START_MS

FIVE, SIX, OTHER = "5" * 43, "6" * 43, "x" * 43
HEAD = ChainHead(CHAIN, 5, FIVE)
NEXT = Batch("zj", "gw01", "p", CHAIN, 6, FIVE, None, START_MS, Clock("S", 1), "1", OTHER, (), ())
SUCCESSOR = replace(NEXT, chain=SECOND_CHAIN, seq=1, prev=OTHER, prev_chain=HEAD)


@pytest.mark.parametrize(
    ("head", "batch", "stored", "expected"),
    [
        (HEAD, NEXT, None, Link.FOLLOWS),
        (HEAD, replace(NEXT, prev=OTHER), None, Link.FORK),
        (HEAD, replace(NEXT, seq=7), None, Link.GAP),
        (ChainHead(CHAIN, 6, SIX), NEXT, None, Link.DUPLICATE),
        (ChainHead(CHAIN, 6, OTHER), NEXT, None, Link.FORK),
        (ChainHead(CHAIN, 9, OTHER), NEXT, SIX, Link.DUPLICATE),
        (ChainHead(CHAIN, 9, OTHER), NEXT, OTHER, Link.FORK),
        (ChainHead(CHAIN, 9, OTHER), NEXT, None, Link.GAP),
        (HEAD, SUCCESSOR, None, Link.FOLLOWS),
        (HEAD, replace(SUCCESSOR, prev_chain=replace(HEAD, seq=4)), None, Link.GAP),
        (HEAD, replace(SUCCESSOR, prev_chain=replace(HEAD, hash=OTHER)), None, Link.GAP),
        (HEAD, replace(SUCCESSOR, prev_chain=None), None, Link.GAP),
        (HEAD, replace(SUCCESSOR, seq=2, prev_chain=None), None, Link.GAP),
        (ChainHead(SECOND_CHAIN, 3, OTHER), NEXT, SIX, Link.DUPLICATE),
        (ChainHead(SECOND_CHAIN, 3, OTHER), NEXT, OTHER, Link.FORK),
        (None, replace(SUCCESSOR, prev_chain=None), None, Link.FOLLOWS),
        (None, SUCCESSOR, None, Link.GAP),
        (None, NEXT, None, Link.GAP),
    ],
)
def test_every_way_a_batch_can_stand_to_the_head(
    head: ChainHead | None, batch: Batch, stored: str | None, expected: Link
) -> None:
    assert link(head, batch, SIX, stored) is expected


def test_a_chain_is_a_ulid_that_sorts_by_its_time() -> None:
    early, late = new_chain(START_MS, b"\xff" * 10), new_chain(START_MS + 1, bytes(10))
    assert ULID.fullmatch(early)
    assert ULID.fullmatch(late)
    assert early < late
    assert new_chain(0, bytes(10)) == "0" * 26
    assert new_chain(2**48 - 1, b"\xff" * 10) == "7" + "Z" * 25


def test_a_chain_needs_ten_random_bytes_and_a_time_of_48_bits() -> None:
    for wall_ms, random in [(START_MS, bytes(9)), (-1, bytes(10)), (2**48, bytes(10))]:
        with pytest.raises(ValueError):
            new_chain(wall_ms, random)
