"""`restore` over the control socket: what it takes, what it refuses, and what it says of each meter."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.keys import generate_key, load_signer
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement, MeterHead
from agent.reporting.chain import ChainHead
from agent.reporting.utc import text_of_ms
from agent.service.acknowledge import hand_over
from agent.service.journal import Standing
from agent.service.signing import use_key
from tests.cli.test_restore import Story

STRANGE = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "A" * 43)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A gateway that lost its disk after five minutes, and has read two more since."""
    made = Story(tmp_path)
    made.read(5, 0)
    made.lose_the_disk()
    made.read(2, 6)
    yield made
    made.bench.journal.close()
    made.store.close()


def ask(story: Story, **arguments: object) -> dict[str, Any]:
    return asyncio.run(story.desk().answer({"do": "look", "evidence": "0" * 64, **arguments}))


def codes(answer: Mapping[str, Any]) -> list[str]:
    assert answer["done"] is False
    return [each["code"] for each in answer["objections"]]


def heads(story: Story, **changes: Mapping[str, object]) -> dict[str, MeterHead]:
    """Where a platform may say that the meters stand: one delta and 0.10 kWh before the journal."""
    found = {}
    for meter, own in story.bench.journal.heads().items():
        said = story.bench.meter_head(meter, n=7, register=own.register_milliwh - 100_000)
        found[meter] = replace(said, **changes.get(meter.replace("-", "_"), {}))  # type: ignore[arg-type]
    return found


def position(story: Story, **more: object) -> dict[str, object]:
    """As the command reads it from an own status or an export."""
    said = {meter: each.to_payload() for meter, each in heads(story).items()}
    at = text_of_ms(story.bench.clock.now_ms)
    return {"head": STRANGE.to_payload(), "heads": said, "rev": 1, "at": at, **more}


def signed(story: Story, said: Acknowledgement) -> str:
    return envelope.seal(envelope.ACKNOWLEDGEMENT, said.to_payload(), story.platform_key).decode()


def word(story: Story, **more: object) -> Acknowledgement:
    said = Acknowledgement("org", "gw01", 3, 5, STRANGE, story.bench.clock.now_ms, heads=heads(story), rev=1)
    return replace(said, **more)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    "arguments",
    [{"do": "undo"}, {"do": None}, {"evidence": None}, {"evidence": 5}, {"by": 5}],
)
def test_a_question_of_another_kind_is_none(story: Story, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="restore wants"):
        ask(story, position=position(story), **arguments)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"heads": None}, "position.heads"),
        ({"head": {"chain": "x", "seq": 1, "hash": "A" * 43}}, "chain"),
        ({"at": "yesterday"}, "at"),
        ({"rev": 0}, "rev"),
    ],
)
def test_a_position_that_says_too_little_is_not_taken(
    story: Story, change: dict[str, object], reason: str
) -> None:
    answer = ask(story, position=position(story, **change))
    assert codes(answer) == ["not-genuine"]
    assert reason in answer["objections"][0]["values"]["reason"]


@pytest.mark.fault("F84")
def test_a_word_to_another_gateway_or_without_meters_or_by_nobody_is_not_taken(story: Story) -> None:
    for jws, reason in (
        (signed(story, word(story, agent="gw02")), "speaks to org/gw02"),
        (signed(story, word(story, heads=None, rev=None)), "says nothing of the meters"),
        (envelope.seal(envelope.ACKNOWLEDGEMENT, word(story).to_payload(), story.bench.signer).decode(), ""),
    ):
        answer = ask(story, jws=jws)
        assert codes(answer) == ["not-genuine"] and reason in answer["objections"][0]["values"]["reason"]
    assert codes(ask(story, jws=signed(story, word(story)))) == []


@pytest.mark.parametrize("by", [None, "", "  "])
def test_nobody_cannot_confirm(story: Story, by: str | None) -> None:
    assert codes(ask(story, do="confirm", by=by, position=position(story))) == ["nobody"]
    assert story.bench.journal.state().acked is None


# ---------------------------------------------------------------------------------------------------- what it says


def test_of_each_meter_it_says_what_becomes_of_it(story: Story) -> None:
    said = heads(story)
    said["gone-1"] = said["wave-1"]
    cases: dict[str, tuple[dict[str, MeterHead], str]] = {
        "goes-on": (said, "reflow-1"),
        "not-read-here": (said, "gone-1"),
        "unknown-there": ({"reflow-1": said["reflow-1"]}, "wave-1"),
        "below": ({"wave-1": replace(said["wave-1"], register=1 << 40)}, "wave-1"),
    }
    for remark, (each, meter) in cases.items():
        rows = ask(story, jws=signed(story, word(story, heads=each)))["meters"]
        row = next(row for row in rows if row["meter"] == meter)
        assert row["remark"] == remark
        assert ("file" in row, "journal" in row) == (meter in each, meter != "gone-1")
        assert ("rise_kwh" in row) == (meter in each and meter != "gone-1")


@pytest.mark.parametrize("change", [{"num": 77}, {"modulus": None}, {"serial": None}, {"serial": "999"}])
def test_a_register_on_another_basis_or_of_an_unknown_meter_opens_an_epoch(
    story: Story, change: dict[str, object]
) -> None:
    said = heads(story, reflow_1=change)
    rows = ask(story, jws=signed(story, word(story, heads=said)))["meters"]
    assert {row["meter"]: row["remark"] for row in rows} == {"reflow-1": "new-epoch", "wave-1": "goes-on"}


# --------------------------------------------------------------------------------------------------- what it does


def test_what_the_platform_refused_stays_refused_and_its_word_is_kept(story: Story) -> None:
    left = story.bench.journal.state().chain
    jws = signed(story, word(story, refused=(STRANGE.chain,)))
    assert ask(story, do="confirm", by="Li Na", jws=jws)["done"] is True
    journal = story.bench.journal
    state = journal.state()
    assert journal.refused_chains() == {STRANGE.chain}
    assert (state.gen, state.ack_no, state.acked, state.standing) == (3, 5, STRANGE, Standing.NORMAL)
    assert state.chain not in (left, STRANGE.chain)
    assert [each.jws for each in journal.acknowledgements(after_day=0, limit=9)] == [jws.encode()]
    (restart,) = [
        event for _, batch in story.bench.batches() for event in batch.events if event.type == "restart"
    ]
    assert restart.body["by"] == "Li Na" and restart.body["instead_of"] == left
    assert codes(ask(story, jws=jws)) == ["stale"]


def test_a_platform_that_holds_nothing_is_gone_on_from_too(story: Story) -> None:
    """A gateway that reported under this name for the first time: everything is told, behind nothing."""
    with story.bench.journal.transaction():
        state = story.bench.journal.state()
        story.bench.journal.save_state(replace(state, standing=Standing.ASKING))
    said = word(story, head=None, heads={}, rev=None)
    assert ask(story, do="confirm", by="Li Na", jws=signed(story, said))["done"] is True
    first = story.bench.batches()[0][1]
    assert first.prev_chain is None and story.bench.journal.state().acked is None
    assert sum(story.bench.deltas("reflow-1")) == 100_000


def test_a_head_that_can_be_followed_needs_nobody(story: Story) -> None:
    own = story.bench.journal.state().head
    answer = ask(story, do="confirm", by="Li Na", jws=signed(story, word(story, head=own)))
    assert codes(answer) == ["follows"]
    assert own is not None and answer["objections"][0]["values"]["head"] == f"{own.chain}/{own.seq}"
    assert ask(story, jws=signed(story, word(story, head=None)))["objections"][0]["values"]["head"] == "-"


@pytest.mark.fault("F56", "F85")
@pytest.mark.parametrize("is_known", [False, True])
def test_it_goes_on_with_a_key_that_the_platform_knows(story: Story, is_known: bool) -> None:
    """The next key had taken over in a batch that never came (seed 24 of `broker-only-confirmed`)."""
    bench, old = story.bench, story.bench.signer
    generate_key(story.folder / "next.pem")
    bench.following = load_signer(story.folder / "next.pem")
    bench.wire(bench.meters)
    with bench.journal.transaction():
        use_key(bench.journal, old)
    story.read(2, 8)
    assert bench.journal.signing_kid() == bench.following.kid
    if is_known:
        head = bench.journal.state().head
        assert head is not None
        hand_over(bench.journal, head, bench.clock.now_ms)
    assert ask(story, do="confirm", by="Li Na", jws=signed(story, word(story)))["done"] is True
    assert bench.journal.signing_kid() == (bench.following.kid if is_known else old.kid)
    for minute in range(10, 16):
        head = bench.journal.state().head
        assert head is not None
        hand_over(bench.journal, head, bench.clock.now_ms)
        story.read(1, minute)
    assert bench.journal.signing_kid() == bench.following.kid, "the rotation is made again"


@pytest.mark.fault("F55", "F56")
@pytest.mark.parametrize(
    ("mode", "gen", "is_settled"), [("platform", 0, True), ("platform", 1, False), ("broker", 0, False)]
)
def test_what_a_platform_acknowledged_is_settled_unless_it_was_put_back(
    tmp_path: Path, mode: str, gen: int, is_settled: bool
) -> None:
    """Without it the readings of an earlier epoch were told again behind a wrong label: 24 MWh (world seed 2861)."""
    story = Story(tmp_path, mode)
    story.read(5, 0)
    head = story.bench.journal.state().head
    assert head is not None
    with story.bench.journal.transaction():
        story.bench.journal.mark_stored(head, story.bench.clock.now_ms)
        story.bench.journal.save_state(replace(story.bench.journal.state(), standing=Standing.ASKING))
    said = word(story, gen=gen, head=STRANGE)
    assert ask(story, do="confirm", by="Li Na", jws=signed(story, said))["done"] is True
    kept = story.bench.journal.batch(head)
    assert kept is not None and (kept.stored_ms is not None) is is_settled
    story.bench.journal.close()
    story.store.close()
