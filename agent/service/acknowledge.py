"""What a signed acknowledgement changes: what may be forgotten, what has to be sent again, or where to begin anew.

The only thing the network can tell this agent. Its signature, organisation and agent were checked before it comes
here; it can release only what was really sent, because it names the hash of the batch it speaks of.
Source: wire format, section 6, "When the edge restores" and "Purge at the edge".
"""

from dataclasses import replace
from enum import StrEnum

from agent.metering.interval import DAY_MS, EARLIEST_MS
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.chain import ChainHead
from agent.service.journal import Journal, Standing, State
from agent.service.restore import Restorer

KEEP_DAYS_MIN = 7
"""Acknowledged batches are never purged earlier, whatever the site file says."""

HANDED_OVER_KEEP_DAYS = 30
"""So long a batch is kept after its PUBACK where the broker is all that answers."""


class Outcome(StrEnum):
    """What an acknowledgement did."""

    STALE = "stale"
    """Older than one already taken; changed nothing."""
    TAKEN = "taken"
    """The platform's head was followed."""
    WAITING = "waiting"
    """The agent waits for heads and this brought none that answer its question."""
    ASKING = "asking"
    """The platform's head cannot be followed; from now on the agent asks for heads."""
    BACKWARDS = "backwards"
    """The platform's head went back within its generation, which only a higher one may do; nothing was changed."""
    RESTORED = "restored"
    """A new chain was opened behind the platform's head."""


class Acknowledger:
    """Takes acknowledgements into the journal."""

    def __init__(self, restorer: Restorer, *, keep_days: int) -> None:
        self._restorer = restorer
        self._keep_ms = max(keep_days, KEEP_DAYS_MIN) * DAY_MS

    def take(
        self,
        journal: Journal,
        said: Acknowledgement,
        jws: bytes,
        *,
        session: str | None,
        now_ms: int,
        kid: str | None = None,
    ) -> Outcome:
        """Apply a verified acknowledgement, in one transaction.

        Args:
            journal: the journal.
            said: its content; org and agent are ours.
            jws: its bytes, kept as the receipt.
            session: id of the present connection; heads count only if they answer a question of this session.
            now_ms: wall time, for events.
            kid: the key that asked, where it was not the one in force: an answer says that the platform knows it.
        """
        with journal.transaction():
            state = journal.state()
            if (said.gen, said.ack_no) <= (state.gen, state.ack_no):
                return Outcome.STALE
            for chain in said.refused:
                journal.refuse_chain(chain)
            is_raised = said.gen > state.gen
            if is_raised:
                journal.forget_stored()
            state = replace(state, gen=said.gen, ack_no=said.ack_no)
            journal.keep_acknowledgement(jws, said.gen, said.ack_no, said.stored_at_ms)
            if not is_raised and _lowers(journal, state, said.head):
                journal.save_state(state)
                return Outcome.BACKWARDS
            return self._follow(journal, state, said, session, now_ms, kid)

    def _follow(
        self,
        journal: Journal,
        state: State,
        said: Acknowledgement,
        session: str | None,
        now_ms: int,
        kid: str | None,
    ) -> Outcome:
        answers = said.heads is not None and said.session is not None and said.session == session
        if state.standing is not Standing.NORMAL and not answers:
            journal.save_state(state)
            return Outcome.WAITING
        if can_follow(journal, said.head):
            self._release(journal, state, said)
            return Outcome.TAKEN
        if not answers:
            journal.save_state(replace(state, standing=Standing.ASKING))
            return Outcome.ASKING
        if said.head is not None:
            journal.mark_stored(said.head, said.stored_at_ms)
        reason = "the journal cannot follow the platform's head"
        assert said.heads is not None
        journal.save_state(state)
        if kid is not None:
            self._restorer.go_on_with(journal, kid)
        self._restorer.open_chain(journal, said.head, said.heads, reason, now_ms, said.stored_at_ms, said.rev)
        state = replace(
            journal.state(), standing=Standing.NORMAL, acked=said.head, acked_at_ms=said.stored_at_ms
        )
        journal.save_state(state)
        return Outcome.RESTORED

    def _release(self, journal: Journal, state: State, said: Acknowledgement) -> None:
        """The head is one of ours, or what our first batch follows: mark what it covers, purge what is old enough."""
        acked_at_ms = max(state.acked_at_ms, said.stored_at_ms)
        state = replace(state, standing=Standing.NORMAL, acked=said.head, acked_at_ms=acked_at_ms)
        journal.save_state(state)
        if said.head is not None and journal.ordinal_of(said.head) is not None:
            journal.mark_stored(said.head, said.stored_at_ms)
            # Whole days: the newest receipt of a day is kept for ever and names the last batch purged with that day, so
            # that it proves what came before an export of the rest.
            journal.purge(stored_before_ms=(acked_at_ms - self._keep_ms) // DAY_MS * DAY_MS)


def _lowers(journal: Journal, state: State, head: ChainHead | None) -> bool:
    """Whether a head lies before the one acknowledged last, both being batches that may be followed."""
    if state.acked is None or head == state.acked or state.standing is not Standing.NORMAL:
        return False
    acked = journal.ordinal_of(state.acked)
    if acked is None:
        return False
    ordinal = 0 if head is None else journal.ordinal_of(head)
    return ordinal is not None and ordinal < acked


def hand_over(journal: Journal, up_to: ChainHead, now_ms: int) -> None:
    """Broker mode: a PUBACK with reason 0 covers this batch and, as they are sent in order, all before it.

    The platform cannot answer, so the broker's word has to do. What was handed over is kept for 30 more days, by the
    local clock because there is no other (wire format, section 6, "Broker mode"). What was handed over while the clock
    did not know the time counts as handed over when it does: 1970 is more than 30 days ago.
    """
    with journal.transaction():
        if now_ms >= EARLIEST_MS:
            journal.date_stored(EARLIEST_MS, now_ms)
        journal.mark_stored(up_to, now_ms)
        journal.purge(stored_before_ms=now_ms - HANDED_OVER_KEEP_DAYS * DAY_MS)


def can_follow(journal: Journal, head: ChainHead | None) -> bool:
    """Whether this journal can go on behind the platform's head.

    It is the own head, or the batch that follows it and every later one are kept, none of them in a refused chain,
    and the own chain was not refused.
    """
    chains = journal.chains_after(head)
    if chains is None:
        return False
    own = journal.state().chain
    return not journal.refused_chains() & (chains | ({own} if own is not None else set()))
