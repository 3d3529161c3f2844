"""Bugs that are planted into the agent, to see whether the world would notice; and after how many seeds.

Each is a mistake that somebody has made in some agent (reliability, section 3). A patch takes pytest's
`monkeypatch` and spoils one thing. `python -m tests.world.planted` prints the table.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.adapters.journal import SqliteJournal, opening
from agent.errors import UplinkRefused
from agent.metering import gates, ledger
from agent.metering.quantity import to_milliwh
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.service import acknowledge, close, deciding, publish, restore
from agent.service.journal import Journal
from simulators.world.campaign import outcome_of

SEEDS_MAX = 500


def synchronous_normal(patch: pytest.MonkeyPatch) -> None:
    """The journal is not synced at every commit."""
    weaker = tuple(
        (name, "NORMAL" if name == "synchronous" else value, answer)
        for name, value, answer in opening._PRAGMAS
    )
    patch.setattr(opening, "_PRAGMAS", weaker)


def purge_on_puback(patch: pytest.MonkeyPatch) -> None:
    """What the broker took is taken for delivered."""
    original = publish.Publisher._note_results

    async def taken(self: Any, due: Any, results: Any) -> bool:
        done = await original(self, due, results)
        if done:
            await self._storage.run(lambda journal: mark(journal, due[-1]))
        return done

    def mark(journal: Journal, batch: Any) -> None:
        with journal.transaction():
            journal.mark_stored(batch.head, 1)

    patch.setattr(publish.Publisher, "_note_results", taken)


def no_subscriber_is_delivered(patch: pytest.MonkeyPatch) -> None:
    """0x10 counts as a receipt."""
    original = publish.Publisher._note_results

    async def taken(self: Any, due: Any, results: Any) -> bool:
        nobody = {n for n, each in results.items() if isinstance(each, UplinkRefused) and each.code == 0x10}
        done = await original(self, due, {n: None if n in nobody else each for n, each in results.items()})
        if nobody:
            await self._storage.run(lambda journal: mark(journal, due[-1]))
        return done

    def mark(journal: Journal, batch: Any) -> None:
        with journal.transaction():
            journal.mark_stored(batch.head, 1)

    patch.setattr(publish.Publisher, "_note_results", taken)


def any_acknowledgement_releases(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement ahead of the head, or with a wrong hash, releases everything up to its number."""
    original = acknowledge.Acknowledger._follow

    def follow(self: Any, journal: Any, state: Any, said: Acknowledgement, *rest: Any) -> Any:
        if said.head is not None:
            journal._db.execute(
                "UPDATE batches SET stored_ms = ? WHERE stored_ms IS NULL AND chain = ? AND seq <= ?",
                (said.stored_at_ms, said.head.chain, said.head.seq),
            )
        return original(self, journal, state, said, *rest)

    patch.setattr(acknowledge.Acknowledger, "_follow", follow)


def chain_goes_on_after_restore(patch: pytest.MonkeyPatch) -> None:
    """A head that is not ours is taken for one that we can follow."""
    patch.setattr(acknowledge, "can_follow", lambda journal, head: True)


def stale_heads_trusted(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement that was taken before is taken again, and so are heads that answer an older question."""
    original = acknowledge.Acknowledger.take

    def take(self: Any, journal: Any, said: Acknowledgement, jws: bytes, *, session: Any, now_ms: int) -> Any:
        state = journal.state()
        newer = replace(said, gen=max(said.gen, state.gen), ack_no=max(said.ack_no, state.ack_no + 1))
        return original(self, journal, newer, jws, session=said.session, now_ms=now_ms)

    patch.setattr(acknowledge.Acknowledger, "take", take)


def publish_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Nothing of a transaction is synced before it is sent: the log is written, the commit forgotten."""
    original = SqliteJournal.append_batch

    def append(self: Any, batch: Any) -> None:
        original(self, batch)
        self._db.execute("COMMIT")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("BEGIN IMMEDIATE")

    patch.setattr(SqliteJournal, "append_batch", append)


def whole_token_is_prev(patch: pytest.MonkeyPatch) -> None:
    """`prev` is the hash over the whole token, signature and all."""
    import hashlib

    def hash_of(jws: bytes) -> str:
        return envelope.base64url(hashlib.sha256(jws).digest())

    patch.setattr("agent.service.seal.envelope.signing_input_hash", hash_of)


def one_zero_trusted(patch: pytest.MonkeyPatch) -> None:
    """One reading is enough for a new epoch."""
    from agent.metering import doubt

    patch.setattr(doubt.Doubt, "is_settled", property(lambda self: True))


def rises_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Whatever a register rises by is booked."""
    patch.setattr(deciding, "rises_too_fast", lambda head, point, bound: False)


def gate_bypassed_after_restart(patch: pytest.MonkeyPatch) -> None:
    """What a meter says first after a start is booked as it is: the gates have seen nothing yet to doubt."""
    close_cut, judge = close.Closer.close, deciding.Decider._judge_move
    started: set[int] = set()

    def closed(self: Any, journal: Any, cut: Any) -> Any:
        patch.setattr(deciding.Decider, "_judge_move", judge if id(self) in started else believe)
        try:
            return close_cut(self, journal, cut)
        finally:
            started.add(id(self))
            living.append(self)

    def believe(self: Any, meter: Any, head: Any, readings: Any, latest: Any, bound: Any, **_: Any) -> Any:
        return latest

    living: list[object] = []
    patch.setattr(close.Closer, "close", closed)


def rollover_without_a_modulus(patch: pytest.MonkeyPatch) -> None:
    """A fall is taken for a rollover at the next power of ten."""
    original = gates.compare

    def guess(before: int, after: int, *, modulus_milliwh: int | None, rise_max_milliwh: int | None) -> Any:
        if after < before and modulus_milliwh is None:
            turn = 10 ** len(str(before))
            return gates.Rise(after - before + turn, turn)
        return original(before, after, modulus_milliwh=modulus_milliwh, rise_max_milliwh=rise_max_milliwh)

    patch.setattr(deciding, "compare", guess)
    patch.setattr(ledger, "compare", guess)


def float_sums(patch: pytest.MonkeyPatch) -> None:
    """Counts go through a binary float32 on their way to 0.001 Wh."""
    import struct

    def rounded(counts: Any, per_count: Any) -> int:
        return to_milliwh(int(struct.unpack(">f", struct.pack(">f", counts))[0]), per_count)

    patch.setattr("agent.metering.gates.to_milliwh", rounded)
    patch.setattr("agent.service.deciding.to_milliwh", rounded)


def everything_told_again(patch: pytest.MonkeyPatch) -> None:
    """A restored chain tells also what the platform has already booked."""
    patch.setattr(restore, "since", lambda points, theirs, is_anchored: points)


def forgets_after_crash(patch: pytest.MonkeyPatch) -> None:
    """`n` of a meter's epoch is not kept."""
    original = SqliteJournal.heads
    patch.setattr(
        SqliteJournal,
        "heads",
        lambda self: {meter: replace(head, n=min(head.n, 5)) for meter, head in original(self).items()},
    )


def purges_below_the_floor(patch: pytest.MonkeyPatch) -> None:
    """What is acknowledged goes at once."""
    original = SqliteJournal.purge
    patch.setattr(
        SqliteJournal, "purge", lambda self, *, stored_before_ms: original(self, stored_before_ms=1 << 60)
    )


def epoch_goes_on_after_a_new_ratio(patch: pytest.MonkeyPatch) -> None:
    """Another ratio is no break."""
    from agent.metering.ledger import Basis

    patch.setattr(Basis, "continues", lambda self, earlier: True)


def interval_not_cut(patch: pytest.MonkeyPatch) -> None:
    """What was used before a change of the map belongs to the new map."""
    patch.setattr(close._Closing, "_close_under_former_map", lambda self, head, reading: None)


def puback_never_waited_for(patch: pytest.MonkeyPatch) -> None:
    """A lost message is never sent again."""
    patch.setattr(publish.Publisher, "_resend_if_stuck", lambda self: None)
    patch.setattr(publish.Publisher, "start_over", lambda self: self.wake())


PLANTED: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    synchronous_normal,
    publish_before_commit,
    purge_on_puback,
    purges_below_the_floor,
    no_subscriber_is_delivered,
    any_acknowledgement_releases,
    stale_heads_trusted,
    chain_goes_on_after_restore,
    everything_told_again,
    whole_token_is_prev,
    forgets_after_crash,
    one_zero_trusted,
    rises_unchecked,
    gate_bypassed_after_restart,
    rollover_without_a_modulus,
    float_sums,
    epoch_goes_on_after_a_new_ratio,
    interval_not_cut,
    puback_never_waited_for,
)


def caught_after(
    plant: Callable[[pytest.MonkeyPatch], None],
    seeds: int = SEEDS_MAX,
    *,
    faults_s: int = 3600,
    sound: frozenset[int] | None = None,
) -> int | None:
    """How many seeds it takes until a promise is broken that holds without the bug; None if none of so many does.

    `sound` are seeds known to pass without it; where it is not given, each seed that fails is run once more without.
    """
    for number, seed in enumerate(range(seeds), start=1):
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            failed = bool(outcome_of(seed, faults_s=faults_s).violations)
        if failed and (
            seed in sound if sound is not None else not outcome_of(seed, faults_s=faults_s).violations
        ):
            return number
    return None


def main() -> None:
    """Print the table."""
    for plant in PLANTED:
        found = caught_after(plant, int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS_MAX)
        print(f"{plant.__name__:34} {'not caught' if found is None else found}", flush=True)


if __name__ == "__main__":
    main()
