"""Bugs that are planted into the agent, to see whether the world would notice; and after how many seeds.

Each is a mistake that somebody has made in some agent (reliability, section 3). A patch takes pytest's
`monkeypatch` and spoils one thing. `make planted` tries each until a seed is found that breaks a promise with the bug
and none without, prints the table and keeps it in PLANTED.md beside this file.
"""

import asyncio
import hashlib
import multiprocessing
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest

from agent.adapters.journal import SqliteJournal, opening
from agent.errors import UplinkRefused
from agent.metering import doubt, ledger, suspicion
from agent.metering.gates import Rise, compare
from agent.metering.quantity import to_milliwh
from agent.protocol import rtu
from agent.protocol.events import Words
from agent.protocol.pair import PairMaster
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.service import acknowledge, close, deciding, judging, publish, restore, seal
from agent.service.journal import Journal
from agent.service.pulse import TURN_S_MAX
from agent.service.watch import Watch
from simulators.world.campaign import outcome_of
from simulators.world.time import WorldSchedule

TABLE = Path(__file__).with_name("PLANTED.md")
FAULTS_S = 3600
"""Of faults, per seed: half of what `make world` has."""
MISTAKES = ("TypeError", "AttributeError", "NameError")
"""What a patch that is out of date raises; no such thing counts as caught."""
SEEDS_MAX = 500


def synchronous_normal(patch: pytest.MonkeyPatch) -> None:
    """The journal is not synced at every commit."""
    weaker = tuple(
        (name, "NORMAL" if name == "synchronous" else value, answer)
        for name, value, answer in opening._PRAGMAS
    )
    patch.setattr(opening, "_PRAGMAS", weaker)


def publish_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Nothing of a transaction is synced before it is sent: the log is written, the commit forgotten."""
    original = SqliteJournal.append_batch

    def append(self: Any, batch: Any) -> None:
        original(self, batch)
        self._db.execute("COMMIT")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("BEGIN IMMEDIATE")

    patch.setattr(SqliteJournal, "append_batch", append)


def purge_on_puback(patch: pytest.MonkeyPatch) -> None:
    """What the broker took is taken for delivered."""
    original = publish.Publisher._note_result

    async def taken(self: Any, page: Any, beginning: int) -> bool:
        done = await original(self, page, beginning)
        if in_order := page.taken_in_order():
            await self._storage.run(lambda journal: mark(journal, in_order[-1]))
        return done

    def mark(journal: Journal, batch: Any) -> None:
        with journal.transaction():
            journal.mark_stored(batch.head, 1)

    patch.setattr(publish.Publisher, "_note_result", taken)


def purges_below_the_floor(patch: pytest.MonkeyPatch) -> None:
    """What is acknowledged goes at once."""
    original = SqliteJournal.purge
    patch.setattr(
        SqliteJournal, "purge", lambda self, *, stored_before_ms: original(self, stored_before_ms=1 << 60)
    )


def no_subscriber_is_delivered(patch: pytest.MonkeyPatch) -> None:
    """0x10 counts as a receipt."""
    original = publish.Publisher._note_result

    async def taken(self: Any, page: Any, beginning: int) -> bool:
        said: Any = (await asyncio.gather(page.sending, return_exceptions=True))[0]
        if isinstance(said, UplinkRefused) and said.code == 0x10:
            page.taken.update(range(len(page.batches)))
            page.sending = asyncio.create_task(asyncio.sleep(0))
            await self._storage.run(lambda journal: mark(journal, page.batches[-1]))
        return await original(self, page, beginning)

    def mark(journal: Journal, batch: Any) -> None:
        with journal.transaction():
            journal.mark_stored(batch.head, 1)

    patch.setattr(publish.Publisher, "_note_result", taken)


def _release(journal: Any, said: Acknowledgement) -> None:
    """Everything up to the number that was named counts as acknowledged."""
    assert said.head is not None
    journal._db.execute(
        "INSERT OR IGNORE INTO stored SELECT ordinal, ? FROM batches WHERE chain = ? AND seq <= ?",
        (said.stored_at_ms, said.head.chain, said.head.seq),
    )


def future_acknowledgement_accepted(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement ahead of the own head releases all there is."""
    original = acknowledge.Acknowledger._follow

    def follow(self: Any, journal: Any, state: Any, said: Acknowledgement, *rest: Any) -> Any:
        if said.head is not None and said.head.chain == state.chain and said.head.seq > state.seq:
            _release(journal, said)
        return original(self, journal, state, said, *rest)

    patch.setattr(acknowledge.Acknowledger, "_follow", follow)


def wrong_hash_purges(patch: pytest.MonkeyPatch) -> None:
    """Of an acknowledged head only chain and number are looked at."""
    original = acknowledge.Acknowledger._follow

    def follow(self: Any, journal: Any, state: Any, said: Acknowledgement, *rest: Any) -> Any:
        if said.head is not None and said.head.seq <= state.seq and journal.batch(said.head) is None:
            _release(journal, said)
        return original(self, journal, state, said, *rest)

    patch.setattr(acknowledge.Acknowledger, "_follow", follow)


def stale_heads_trusted(patch: pytest.MonkeyPatch) -> None:
    """A restored chain begins at heads that answered an older question, not the present one.

    An old acknowledgement that is taken as a whole breaks nothing: the platform refuses a chain that does not follow
    its present head. So only the heads are old here, which nobody else could notice.
    """
    original = acknowledge.Acknowledger.take
    first: list[Any] = []

    def take(self: Any, journal: Any, said: Acknowledgement, jws: bytes, **known: Any) -> Any:
        if said.heads:
            first.append(said.heads)
            said = replace(said, heads=first[0])
        return original(self, journal, said, jws, **known)

    patch.setattr(acknowledge.Acknowledger, "take", take)


def sequence_reused(patch: pytest.MonkeyPatch) -> None:
    """A new journal begins with the same chain as the one that was lost, and counts from 1 again."""
    original = seal.Sealer.open_chain

    def open_chain(self: Any, journal: Journal) -> None:
        original(self, journal)
        if journal.last_ordinal() == 0:
            journal.save_state(replace(journal.state(), chain="01" + "A" * 24))

    patch.setattr(seal.Sealer, "open_chain", open_chain)


def chain_goes_on_after_restore(patch: pytest.MonkeyPatch) -> None:
    """A head that is not ours is taken for one that we can follow."""
    patch.setattr(acknowledge, "can_follow", lambda journal, head: True)


def everything_told_again(patch: pytest.MonkeyPatch) -> None:
    """A restored chain tells also what the platform has already booked."""
    patch.setattr(restore, "since", lambda points, theirs, **_known: points)


def whole_token_is_prev(patch: pytest.MonkeyPatch) -> None:
    """`prev` is the hash over the whole token, signature and all."""

    def hash_of(jws: bytes) -> str:
        return envelope.base64url(hashlib.sha256(jws).digest())

    spoilt = SimpleNamespace(**vars(envelope) | {"signing_input_hash": hash_of})
    patch.setattr(seal, "envelope", spoilt)


def forgets_after_crash(patch: pytest.MonkeyPatch) -> None:
    """`n` of a meter's epoch is not kept."""
    original = SqliteJournal.heads
    patch.setattr(
        SqliteJournal,
        "heads",
        lambda self: {meter: replace(head, n=min(head.n, 5)) for meter, head in original(self).items()},
    )


def one_zero_trusted(patch: pytest.MonkeyPatch) -> None:
    """One reading is enough for a new epoch."""
    patch.setattr(doubt.Doubt, "is_settled", property(lambda self: True))


def rises_unchecked(patch: pytest.MonkeyPatch) -> None:
    """Whatever a register rises by is booked."""
    for module in (deciding, judging):
        patch.setattr(module, "rises_oddly", lambda *reading: False)


def gate_bypassed_after_restart(patch: pytest.MonkeyPatch) -> None:
    """The first cut after a start believes what it reads: nothing is read again, nothing is waited for."""
    original, oddly = close.Closer.close, suspicion.rises_oddly
    begun: WeakSet[Any] = WeakSet()
    at_start: list[bool] = []

    def closing(self: Any, journal: Journal, cut: Any) -> Any:
        at_start.append(self not in begun)
        begun.add(self)
        try:
            return original(self, journal, cut)
        finally:
            at_start.pop()

    def rises(*reading: Any) -> bool:
        return False if at_start and at_start[-1] else oddly(*reading)

    settled = doubt.Doubt.__dict__["is_settled"].fget
    patch.setattr(close.Closer, "close", closing)
    for module in (deciding, judging):
        patch.setattr(module, "rises_oddly", rises)
    patch.setattr(
        doubt.Doubt, "is_settled", property(lambda self: bool(at_start and at_start[-1]) or settled(self))
    )


def rollover_without_modulus(patch: pytest.MonkeyPatch) -> None:
    """A fall of a register whose modulus nobody knows is a rollover at the next power of ten."""
    for module in (judging, ledger):
        patch.setattr(module, "compare", _rolls_over)


def _rolls_over(before_milliwh: int, after_milliwh: int, **known: Any) -> Any:
    if after_milliwh >= before_milliwh or known["modulus_milliwh"] is not None:
        return compare(before_milliwh, after_milliwh, **known)
    modulus = 10 ** len(str(before_milliwh))
    return Rise(after_milliwh - before_milliwh + modulus, modulus)


def float_sums(patch: pytest.MonkeyPatch) -> None:
    """Counts go through a binary float32 on their way to 0.001 Wh."""

    def rounded(counts: Any, per_count: Any) -> int:
        return to_milliwh(int(struct.unpack(">f", struct.pack(">f", counts))[0]), per_count)

    for module in (
        "metering.gates",
        "service.decisions",
        "service.judging",
        "service.swaps",
    ):
        patch.setattr(f"agent.{module}.to_milliwh", rounded)


def no_length_check(patch: pytest.MonkeyPatch) -> None:
    """Any sound frame of the right unit and function is the answer."""
    original = rtu.RtuMaster._weigh

    def weigh(self: Any, now_ns: int, ask: Any, found: Any) -> Any:
        request = ask.request
        if found.unit == request.unit and found.is_data and found.function == request.function:
            words = struct.unpack(f">{(len(found.data) - 5) // 2}H", found.data[3:-2])
            self._close(ask, answered_ns=now_ns)
            return Words(words, ask.sent_ns, now_ns)
        return original(self, now_ns, ask, found)

    patch.setattr(rtu.RtuMaster, "_weigh", weigh)


def no_late_reply_guard(patch: pytest.MonkeyPatch) -> None:
    """Nobody remembers what is still owed: neither the machine of the line nor the shapes of the next reads."""
    patch.setattr("simulators.world.line.PairMaster", partial(PairMaster, late_factor=0))
    patch.setattr(Watch, "owes", lambda self, block, now_ns: False)


def wall_clock_cadence(patch: pytest.MonkeyPatch) -> None:
    """Boundaries are waited for by the wall clock, and nobody looks whether it was set."""
    patch.setattr(WorldSchedule, "_look", lambda self: False)


def epoch_goes_on_after_a_new_ratio(patch: pytest.MonkeyPatch) -> None:
    """Another ratio is no break."""
    from agent.metering.ledger import Basis

    patch.setattr(Basis, "continues", lambda self, earlier: True)


def interval_not_cut(patch: pytest.MonkeyPatch) -> None:
    """What was used before a change of the map belongs to the new map."""
    patch.setattr(close._Closing, "_close_under_former_map", lambda self, head, reading: None)


def puback_never_waited_for(patch: pytest.MonkeyPatch) -> None:
    """A lost message is never sent again: not after a while, not for a new connection, not when it is asked for."""
    patch.setattr(publish.Publisher, "_stuck_in_s", lambda self: float(TURN_S_MAX))
    patch.setattr(publish.Publisher, "need", lambda self, chain, spans: None)
    patch.setattr(publish.Publisher, "start_over", lambda self: self.wake())


PLANTED: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    synchronous_normal,
    publish_before_commit,
    purge_on_puback,
    purges_below_the_floor,
    no_subscriber_is_delivered,
    future_acknowledgement_accepted,
    wrong_hash_purges,
    stale_heads_trusted,
    sequence_reused,
    chain_goes_on_after_restore,
    everything_told_again,
    whole_token_is_prev,
    forgets_after_crash,
    one_zero_trusted,
    rises_unchecked,
    gate_bypassed_after_restart,
    rollover_without_modulus,
    float_sums,
    no_length_check,
    no_late_reply_guard,
    wall_clock_cadence,
    epoch_goes_on_after_a_new_ratio,
    interval_not_cut,
    puback_never_waited_for,
)


@dataclass(frozen=True, slots=True)
class Caught:
    """The first seed that finds a bug, and what it says then."""

    plant: str
    seed: int
    violation: str


def catches(plant: Callable[[pytest.MonkeyPatch], None], seed: int) -> str | None:
    """The promise that a seed finds broken with the bug, None if it finds none or finds it broken without."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        violations = outcome_of(seed, faults_s=FAULTS_S, to_the_end=False).violations
    if any(name in each for each in violations for name in MISTAKES):
        raise AssertionError(f"{plant.__name__} does not fit the agent any more: {violations[0]}")
    if violations and not outcome_of(seed, faults_s=FAULTS_S).violations:
        return violations[0]
    return None


def first_caught(name: str) -> Caught | None:
    """The first of SEEDS_MAX seeds that finds the bug; None if none of so many does."""
    plant = next(each for each in PLANTED if each.__name__ == name)
    for seed in range(SEEDS_MAX):
        violation = catches(plant, seed)
        if violation is not None:
            return Caught(name, seed, violation)
    return None


def tried(name: str) -> tuple[str, Caught | None]:
    """A bug, and what finds it."""
    return name, first_caught(name)


def known() -> dict[str, int]:
    """The seed that found each bug when the table was made."""
    rows = [line.split("|") for line in TABLE.read_text("utf-8").splitlines() if line.startswith("| `")]
    return {cells[1].strip(" `"): int(cells[3]) - 1 for cells in rows if cells[3].strip().isdecimal()}


def row(name: str, found: Caught | None) -> str:
    """One line of the table."""
    plant = next(each for each in PLANTED if each.__name__ == name)
    about = (plant.__doc__ or "").splitlines()[0]
    after, said = ("not caught", "") if found is None else (str(found.seed + 1), found.violation)
    return f"| `{name}` | {about} | {after} | {said} |"


HEADER = f"""# Planted bugs

Written by `make planted`; do not edit. Each bug is a patch in `planted.py`, tried on seeds 0, 1, 2 ... of the simulated
world ({FAULTS_S // 3600} h of faults each) until a promise is broken that holds without it, at most {SEEDS_MAX} seeds.

| Bug | What is wrong | Caught after seeds | What the world said |
| --- | --- | --- | --- |
"""


def main() -> int:
    """Try all bugs, or those named; print the table, and keep it where all were tried."""
    names = sys.argv[1:] or [each.__name__ for each in PLANTED]
    rows = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        for name, found in pool.imap_unordered(tried, names, chunksize=1):
            rows.append(row(name, found))
            print(rows[-1], flush=True)
    rows.sort(key=lambda each: names.index(each.split("`")[1]))
    if len(names) == len(PLANTED):
        TABLE.write_text(HEADER + "\n".join(rows) + "\n", "utf-8")
    return sum("| not caught |" in each for each in rows)


if __name__ == "__main__":
    sys.exit(main())
