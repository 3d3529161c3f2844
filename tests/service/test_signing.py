"""A key takes over inside the chain, and whatever happens in between there is always exactly one that signs."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from agent.adapters.keys import Ed25519Signer, PublicKeys, generate_key, load_signer, public_key_of_jwk
from agent.errors import ConfigError, JournalDamaged
from agent.metering.plant import Share
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import BATCH, kid_of, open_sealed
from agent.reporting.verdict import Report
from agent.reporting.verify import Verifier
from agent.service.acknowledge import Outcome
from agent.service.journal import Standing
from agent.service.seal import read_map
from agent.service.signing import Question, Signers, key_standing, kid_known_at, session_of, settle_keys
from tests.service.bench import Bench

ELSEWHERE = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "x" * 43)


def another_key(bench: Bench, name: str = "next.pem") -> Ed25519Signer:
    path = bench.path / name
    if not path.exists():
        generate_key(path)
    return load_signer(path)


def start(bench: Bench, first: Ed25519Signer, following: Ed25519Signer | None = None) -> bool:
    """The agent is started with these keys in its site file."""
    bench.signer, bench.following = first, following
    known = [first, *([following] if following is not None else [])]
    bench.keys = PublicKeys([*bench.keys, *(each.public_key for each in known)])
    bench.wire(bench.meters)
    return settle_keys(bench.journal, bench.signers, site="site.toml", platform_answers=True)


def minute(bench: Bench, count: int) -> None:
    bench.read({"reflow-1": count, "wave-1": count})


def acknowledged(bench: Bench, number: int) -> Outcome:
    return bench.acknowledge(bench.journal.state().head, number=number)


def signed_by(bench: Bench) -> list[str]:
    """The kid of every batch that would be sent."""
    found = []
    for kept in bench.journal.queue(after_ordinal=0, limit=1000):
        assert kept.jws is not None
        found.append(open_sealed(kept.jws, BATCH, bench.keys).kid)
    return found


def verified(bench: Bench, pinned: Ed25519Signer) -> Report:
    verifier = Verifier(
        PublicKeys([pinned.public_key]), admit=lambda jwk: PublicKeys([public_key_of_jwk(jwk)])
    )
    rows = bench.journal.batches_between(after_ordinal=0, up_to_ordinal=1000, limit=1000)
    for number, kept in enumerate((row for row in rows if not row.superseded), 1):
        assert kept.jws is not None
        verifier.feed(number, kept.jws)
    return verifier.report()


def rotated(path: Path) -> tuple[Bench, Ed25519Signer, Ed25519Signer]:
    """Two minutes under the old key, one in which the next one takes over, one under the next."""
    bench = Bench(path)
    old, new = bench.signer, another_key(bench)
    start(bench, old)
    minute(bench, 1000)
    minute(bench, 1010)
    acknowledged(bench, 100)
    start(bench, old, new)
    minute(bench, 1020)
    minute(bench, 1030)
    return bench, old, new


def test_the_next_key_takes_over_behind_the_batch_that_says_so(tmp_path: Path) -> None:
    bench, old, new = rotated(tmp_path)
    assert signed_by(bench) == [old.kid, old.kid, new.kid]
    head, batch = bench.batches()[1]
    assert [event.type for event in batch.events] == ["key-rotate"]
    assert (batch.deltas, batch.events[0].body["jwk"]) == ((), dict(new.public_jwk))
    report = verified(bench, old)
    assert report.ok, report.signature.findings
    assert [use.since for use in bench.journal.key_uses()] == [None, head]


@pytest.mark.parametrize("order", ["as it was", "exchanged", "only the next"])
def test_after_a_restart_the_order_in_the_site_file_says_nothing(tmp_path: Path, order: str) -> None:
    bench, old, new = rotated(tmp_path)
    bench.restart()
    keys = {"as it was": (old, new), "exchanged": (new, old), "only the next": (new, None)}[order]
    assert not start(bench, *keys)
    minute(bench, 1040)
    acknowledged(bench, 101)
    minute(bench, 1050)
    assert set(signed_by(bench)) == {new.kid}
    assert bench.journal.signing_kid() == new.kid
    assert verified(bench, old).ok


def test_a_site_file_with_nothing_but_the_ended_key_does_not_start(tmp_path: Path) -> None:
    bench, old, new = rotated(tmp_path)
    with pytest.raises(ConfigError, match=new.kid):
        start(bench, old)
    with pytest.raises(ConfigError, match="key_file"):
        start(bench, old, another_key(bench, "third.pem"))
    assert bench.journal.signing_kid() == new.kid


def test_one_rotation_follows_another(tmp_path: Path) -> None:
    bench, old, new = rotated(tmp_path)
    third = another_key(bench, "third.pem")
    acknowledged(bench, 101)
    start(bench, new, third)
    minute(bench, 1040)
    minute(bench, 1050)
    assert bench.journal.signing_kid() == third.kid
    assert verified(bench, old).ok


def test_no_rotation_before_the_platform_has_something_of_the_chain(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    start(bench, bench.signer)
    minute(bench, 1000)
    acknowledged(bench, 100)
    with bench.journal.transaction():
        state = bench.journal.state()
        bench.journal.refuse_chain(state.chain or "")
    bench.acknowledge(ELSEWHERE, number=101)
    start(bench, bench.signer, another_key(bench))
    minute(bench, 1010)
    assert bench.journal.state().standing is Standing.ASKING
    assert set(signed_by(bench)) <= {bench.signer.kid}
    heads = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    assert bench.acknowledge(ELSEWHERE, number=102, heads=heads, session="s") is Outcome.RESTORED
    minute(bench, 1020)
    assert bench.journal.signing_kid() == bench.signer.kid
    acknowledged(bench, 103)
    minute(bench, 1030)
    assert bench.journal.signing_kid() == another_key(bench).kid


def test_a_failed_transaction_leaves_the_old_key_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    old, new = bench.signer, another_key(bench)
    start(bench, old)
    minute(bench, 1000)
    acknowledged(bench, 100)
    start(bench, old, new)
    with monkeypatch.context() as patch:
        patch.setattr(type(bench.journal), "add_key_use", _broken)
        with pytest.raises(OSError, match="the plug"):
            minute(bench, 1010)
    bench.restart()
    start(bench, old, new)
    assert bench.journal.signing_kid() == old.kid
    minute(bench, 1020)
    minute(bench, 1030)
    assert bench.journal.signing_kid() == new.kid
    assert verified(bench, old).ok


def _broken(*_: object) -> None:
    raise OSError("the plug is pulled")


def test_a_key_replaced_without_a_rotation_begins_a_new_chain_behind_the_platforms_head(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    old, new = bench.signer, another_key(bench)
    start(bench, old)
    minute(bench, 1000)
    head = bench.journal.state().head
    acknowledged(bench, 100)
    heads = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    minute(bench, 1010)
    assert start(bench, new)
    minute(bench, 1020)
    assert bench.journal.state().standing is Standing.ASKING
    assert bench.acknowledge(head, number=101, heads=heads, session="s") is Outcome.RESTORED
    minute(bench, 1030)
    assert set(signed_by(bench)) == {new.kid}
    first: Batch = bench.batches()[0][1]
    assert (first.seq, first.prev_chain) == (1, head)
    assert bench.deltas("reflow-1") == [100_000, 100_000, 100_000]


@pytest.mark.parametrize("has_sealed", [False, True])
def test_a_key_replaced_where_nobody_can_be_asked_or_nothing_was_sealed_takes_over_as_it_is(
    tmp_path: Path, has_sealed: bool
) -> None:
    bench = Bench(tmp_path)
    start(bench, bench.signer)
    if has_sealed:
        minute(bench, 1000)
    new = another_key(bench)
    bench.signer = new
    assert settle_keys(bench.journal, bench.signers, site="site.toml", platform_answers=not has_sealed)
    assert bench.journal.signing_kid() == new.kid
    assert bench.journal.state().standing is Standing.NORMAL and not bench.journal.refused_chains()


def test_a_key_replaced_while_a_copy_waits_to_be_confirmed_does_not_end_the_waiting(tmp_path: Path) -> None:
    """Nothing may be sealed until the heads came, whoever signs it."""
    bench = Bench(tmp_path)
    start(bench, bench.signer)
    minute(bench, 1000)
    with bench.journal.transaction():
        bench.journal.save_state(replace(bench.journal.state(), standing=Standing.CONFIRMING))
    assert start(bench, another_key(bench))
    assert bench.journal.state().standing is Standing.CONFIRMING
    assert bench.journal.refused_chains() == {bench.journal.state().chain}


def test_an_answer_to_a_key_that_is_not_at_hand_changes_no_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    start(bench, bench.signer)
    minute(bench, 1000)
    heads = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    strange = ChainHead("01ARZ3NDEKTSV4RRFFQ69G5FAV", 9, "A" * 43)
    assert bench.acknowledge(strange, number=1, gen=1) is Outcome.ASKING
    said = bench.acknowledge(strange, number=2, gen=1, heads=heads, session="s", kid="B" * 43)
    assert said is Outcome.RESTORED
    assert bench.journal.signing_kid() == bench.signer.kid


def test_the_key_that_the_platform_answered_signs_the_restored_chain(tmp_path: Path) -> None:
    """The journal is a copy from before the rotation: its key has ended, and only the platform can say so."""
    bench = Bench(tmp_path)
    old, new = bench.signer, another_key(bench)
    start(bench, old, new)
    minute(bench, 1000)
    heads = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    assert bench.acknowledge(ELSEWHERE, number=100) is Outcome.ASKING
    question = Question(bench.signers)
    assert [question.next(old).kid for _ in range(4)] == [old.kid, new.kid, old.kid, new.kid]
    asked = session_of("s", new)
    assert (
        bench.acknowledge(ELSEWHERE, number=101, heads=heads, session=asked, kid=new.kid) is Outcome.RESTORED
    )
    assert set(signed_by(bench)) == {new.kid}
    minute(bench, 1010)
    assert set(signed_by(bench)) == {new.kid}


def test_a_descriptor_of_a_key_that_never_reached_the_platform_is_made_anew(tmp_path: Path) -> None:
    """Else the platform could not verify the meter map of the restored chain (found by the simulated world)."""
    bench, old, new = rotated(tmp_path)
    bench.wire(bench.meters[:1])
    bench.read({"reflow-1": 1040})
    before = bench.journal.latest_descriptor()
    assert before is not None
    assert kid_of(before.jws) == new.kid
    heads = {"reflow-1": bench.meter_head("reflow-1", n=1, register=10_000_000)}
    bench.acknowledge(ELSEWHERE, number=200)
    answered = session_of("s", old)
    assert (
        bench.acknowledge(ELSEWHERE, number=201, heads=heads, session=answered, kid=old.kid)
        is Outcome.RESTORED
    )
    after = bench.journal.latest_descriptor()
    assert after is not None
    assert (kid_of(after.jws), after.rev > before.rev) == (old.kid, True)
    bench.read({"reflow-1": 1050})
    assert bench.journal.latest_descriptor() == after


def test_what_was_read_under_a_map_of_a_key_that_never_reached_the_platform_is_told_under_its_twin(
    tmp_path: Path,
) -> None:
    """The lost time has a map of its own, signed by the key of a refused chain (found by the simulated world)."""
    bench, old, _ = rotated(tmp_path)
    plain, other = bench.meters[0], bench.meters[1]
    elsewhere = replace(plain, shares=(Share("burn_in", Fraction(1)),))
    bench.wire((elsewhere, other))
    minute(bench, 1040)
    minute(bench, 1045)
    unknown = bench.journal.latest_descriptor()
    assert unknown is not None
    bench.wire((plain, other))
    minute(bench, 1050)
    first = {id: bench.journal.readings(id, after=None, limit=1)[0].point for id in (plain.id, other.id)}
    heads = {
        id: bench.meter_head(id, n=1, register=point.register_milliwh, end_ms=point.at_ms)
        for id, point in first.items()
    }
    bench.acknowledge(ELSEWHERE, number=200)
    answer = session_of("s", old)
    told = bench.acknowledge(ELSEWHERE, number=201, heads=heads, session=answer, kid=old.kid)
    assert told is Outcome.RESTORED
    maps = {cfg: bench.journal.descriptor(cfg) for cfg in {batch.cfg for _, batch in bench.batches()}}
    assert unknown.hash not in maps
    kept = [each for each in maps.values() if each is not None]
    assert len(kept) == len(maps) == 2 and {kid_of(each.jws) for each in kept} == {old.kid}
    twin, in_force = sorted((read_map(each) for each in kept), key=lambda each: each.kept.rev)
    assert twin.descriptor.same_meaning(read_map(unknown).descriptor) and twin.kept.rev > unknown.rev
    assert bench.journal.latest_descriptor() == in_force.kept
    energy = {
        cfg: sum(each.delta for _, b in bench.batches() if b.cfg == cfg for each in b.deltas) for cfg in maps
    }
    assert energy[twin.hash] > 0 and sum(energy.values()) == 2 * 500 * 10**3
    with bench.journal.transaction():
        bench.journal.add_key_use(bench.journal.key_uses()[-1])
        assert bench.restorer._sealer.known_map(bench.journal, unknown.hash) == twin, "made once"
        with pytest.raises(JournalDamaged, match="not in the journal"):
            bench.restorer._sealer.known_map(bench.journal, "x" * 43)


def test_what_a_person_is_told(tmp_path: Path) -> None:
    bench, old, new = rotated(tmp_path)
    told = key_standing(bench.journal)
    assert (told.kid, told.former, told.acknowledged) == (new.kid, old.kid, False)
    acknowledged(bench, 101)
    assert key_standing(bench.journal).acknowledged
    assert Signers(old).by_kid(new.kid) is None


@pytest.mark.fault("F56", "F85")
def test_a_key_is_known_where_the_batch_that_brought_it_is(tmp_path: Path) -> None:
    """Of a platform that cannot be asked a person says where it stands, and not which keys it knows."""
    bench, old, new = rotated(tmp_path)
    journal = bench.journal
    since = key_standing(journal).rotated
    assert since is not None
    before, own = replace(since, seq=since.seq - 1, hash="y" * 43), journal.state().head
    assert own is not None
    assert kid_known_at(journal, own) == kid_known_at(journal, since) == new.kid
    assert kid_known_at(journal, before) == kid_known_at(journal, None) == old.kid
    assert kid_known_at(journal, ELSEWHERE) == old.kid, "it lies in a chain that is not ours"
    acknowledged(bench, 101)
    assert kid_known_at(journal, ELSEWHERE) == new.kid, "and the batch that brought it was handed over"
    assert kid_known_at(Bench(tmp_path, name="empty.db").journal, own) is None


@pytest.mark.fault("F56", "F85")
@pytest.mark.parametrize("is_later", [True, False])
def test_of_a_head_in_another_chain_of_ours_the_order_of_the_journal_counts(
    tmp_path: Path, is_later: bool
) -> None:
    bench = Bench(tmp_path)
    old, new = bench.signer, another_key(bench)
    start(bench, old, *([new] if is_later else []))
    minute(bench, 1000)
    minute(bench, 1010)
    acknowledged(bench, 100)
    minute(bench, 1020)
    first_chain = bench.journal.state().head
    assert first_chain is not None
    heads = {meter.id: bench.meter_head(meter.id) for meter in bench.meters}
    assert bench.acknowledge(ELSEWHERE, number=101) is Outcome.ASKING
    assert bench.acknowledge(ELSEWHERE, number=102, heads=heads, session="s") is Outcome.RESTORED
    if not is_later:
        start(bench, old, new)
        minute(bench, 1030)
        acknowledged(bench, 103)
    minute(bench, 1040)
    own, since = bench.journal.state().head, key_standing(bench.journal).rotated
    assert own is not None and since is not None and own.chain != first_chain.chain
    if is_later:
        assert since.chain == first_chain.chain and kid_known_at(bench.journal, own) == new.kid
    else:
        assert since.chain == own.chain and kid_known_at(bench.journal, first_chain) == old.kid
