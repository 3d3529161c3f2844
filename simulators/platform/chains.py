"""Which batch comes next: staging, chain starts, refusals, forks (wire format, section 6, "Chains" and "Unparsable").

An agent's history is one line of batches, cut into chains. The head is its end; a batch is taken when it follows the
head, and a chain begins when its first batch names the head as its predecessor. Everything else waits, or is kept as
evidence and never booked. All candidates for a place are staged and the first of them to arrive that follows the head
is taken, so that no order of arrival can freeze the line.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.envelope import BATCH, SIZE_MAX, base64url_decode
from agent.reporting.strictjson import loads
from simulators.platform.alarms import Alarms
from simulators.platform.booking import Booking, Source
from simulators.platform.dossier import Dossier, stored_batch
from simulators.platform.store import Store

STAGED_MAX = 4096
"""Most batches that wait for one agent; more than any window of a sender, less than would fill a disk."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A validly signed, well-formed batch addressed to us."""

    batch: Batch
    hash: str
    kid: str
    jws: bytes
    received_ms: int


@dataclass(slots=True)
class Outcome:
    """What an arrival led to: batches taken, chains that were refused or spoken for again, and alarms to answer."""

    taken: int = 0
    refused: set[str] | None = None
    answer_now: bool = False

    def refuse(self, chain: str) -> None:
        """Tell the sender, with heads, that this chain will not be booked."""
        self.refused = (self.refused or set()) | {chain}


class Chains:
    """Places the batches of one agent after the other into the open transaction."""

    def __init__(self, store: Store, alarms: Alarms, booking: Booking) -> None:
        self._store = store
        self._alarms = alarms
        self._booking = booking
        self.counts: Counter[str] = Counter()

    # --------------------------------------------------------------------------------------------- arrivals

    def arrived(self, dossier: Dossier, arrival: Arrival) -> Outcome:
        """Place a batch, and whatever waited for it."""
        batch, outcome = arrival.batch, Outcome()
        state = dossier.chains.get(batch.chain)
        if dossier.was_skipped(batch.chain, batch.seq) and not self._is_kept(dossier, batch):
            self._late(dossier, arrival, outcome)
            return outcome
        stored = self._stored_hash(dossier, batch.chain, batch.seq)
        if stored == arrival.hash:
            self.counts["duplicate"] += 1
            if state == "refused":
                outcome.refuse(batch.chain)
            return outcome
        if not dossier.may_sign(arrival.kid, batch.chain, batch.seq):
            self._after_its_end(dossier, arrival, outcome)
            return outcome
        if state == "refused":
            self._keep(dossier, arrival, "refused chain")
            outcome.refuse(batch.chain)
        elif stored is not None:
            self._fork(dossier, arrival, f"{_place(batch)} is booked with another hash", outcome)
        elif state == "closed":
            self._keep(dossier, arrival, "closed chain")
            self._say(
                dossier,
                "closed-chain",
                batch.chain,
                f"{_place(batch)} came after its chain was closed",
                arrival,
            )
            outcome.answer_now = True
        elif self._follows(dossier, batch) and not dossier.staged:
            self._take(dossier, arrival)
            outcome.taken += 1
        elif self._stage(dossier, arrival, outcome):
            self._pump(dossier, arrival.received_ms, outcome)
        return outcome

    def unparsable(self, dossier: Dossier, jws: bytes, hash_: str, reason: str, now_ms: int) -> Outcome:
        """Keep a payload that cannot be read; chains that build on it are refused, whichever came first."""
        outcome = Outcome()
        self._evidence(dossier, jws, hash_, "unparsable", None, now_ms)
        dossier.unparsable.add(hash_)
        self._alarms.say((dossier.org, dossier.agent), "unparsable", hash_, reason, now_ms)
        self._pump(dossier, now_ms, outcome)
        return outcome

    def _stored_hash(self, dossier: Dossier, chain: str, seq: int) -> str | None:
        head = dossier.head
        if head is not None and chain == head.chain and seq >= head.seq:
            return head.hash if seq == head.seq else None
        sql = "SELECT hash FROM batches WHERE agent_id = ? AND chain = ? AND seq = ?"
        row = self._store.first(sql, (dossier.agent_id, chain, seq))
        return None if row is None else row[0]

    def _follows(self, dossier: Dossier, batch: Batch) -> bool:
        """Whether a batch is the next one of the head's own chain."""
        head = dossier.head
        return (
            head is not None
            and (batch.chain, batch.seq, batch.prev) == (head.chain, head.seq + 1, head.hash)
            and batch.prev not in dossier.unparsable
        )

    # ---------------------------------------------------------------------------------------------- staging

    def _stage(self, dossier: Dossier, arrival: Arrival, outcome: Outcome) -> bool:
        """Put a batch among those that wait; False if it was there, or there is no room."""
        batch = arrival.batch
        rivals = self._store.rows(
            "SELECT hash FROM staged WHERE agent_id = ? AND chain = ? AND seq = ?",
            (dossier.agent_id, batch.chain, batch.seq),
        )
        if (arrival.hash,) in rivals:
            self.counts["duplicate"] += 1
            return False
        if dossier.staged >= STAGED_MAX:
            self._evict(dossier, arrival)
        if rivals:
            self._say(dossier, "fork", _place(batch), f"{_place(batch)} came with two hashes", arrival)
            outcome.answer_now = True
        self._store.run(
            "INSERT INTO staged (agent_id, chain, seq, hash, prev, jws, received_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                dossier.agent_id,
                batch.chain,
                batch.seq,
                arrival.hash,
                batch.prev,
                arrival.jws,
                arrival.received_ms,
            ),
        )
        dossier.staged += 1
        self.counts["staged"] += 1
        return True

    def _evict(self, dossier: Dossier, arrival: Arrival) -> None:
        """Make room: of other chains the first that came, else the farthest from the head. It can be sent again."""
        chain = dossier.head.chain if dossier.head is not None else ""
        number, jws, hash_, other, seq = self._store.one(
            "SELECT arrival, jws, hash, chain, seq FROM staged WHERE agent_id = ?"
            " ORDER BY chain = ?, CASE WHEN chain = ? THEN -seq ELSE arrival END LIMIT 1",
            (dossier.agent_id, chain, chain),
        )
        self._evidence(dossier, jws, hash_, "no room", (other, seq), arrival.received_ms)
        self._unstage(dossier, number)
        text = f"{STAGED_MAX} batches wait for their predecessors"
        self._say(dossier, "staging", "full", text, arrival)

    def _unstage(self, dossier: Dossier, arrival_no: int) -> None:
        self._store.run("DELETE FROM staged WHERE arrival = ?", (arrival_no,))
        dossier.staged -= 1

    def _pump(self, dossier: Dossier, now_ms: int, outcome: Outcome) -> None:
        """Do what the staged batches allow, until nothing more moves."""
        while dossier.staged and (
            self._refuse_unparsable(dossier, now_ms, outcome)
            or self._next_in_chain(dossier, now_ms, outcome)
            or self._next_chain(dossier, now_ms, outcome)
        ):
            pass

    def _refuse_unparsable(self, dossier: Dossier, now_ms: int, outcome: Outcome) -> bool:
        """A chain is refused once one of its batches names an unparsable one as its predecessor."""
        if not dossier.unparsable or dossier.mode == "broker":
            return False
        for chain, seq in self._followers_of_unparsable(dossier):
            self._refuse(dossier, chain, f"{chain}/{seq} follows an unparsable batch", now_ms, outcome)
            return True
        return False

    def _followers_of_unparsable(self, dossier: Dossier) -> Iterator[tuple[str, int]]:
        yield from self._store.rows(
            "SELECT s.chain, s.seq FROM staged s JOIN evidence e ON (e.agent_id, e.hash) = (s.agent_id, s.prev)"
            " WHERE s.agent_id = ? AND s.seq > 1 AND e.reason = 'unparsable' ORDER BY s.arrival LIMIT 1",
            (dossier.agent_id,),
        )
        sql = "SELECT chain, jws FROM staged WHERE agent_id = ? AND seq = 1 ORDER BY arrival"
        for chain, jws in self._store.rows(sql, (dossier.agent_id,)):
            prev_chain = stored_batch(jws).prev_chain
            if prev_chain is not None and prev_chain.hash in dossier.unparsable:
                yield chain, 1

    def _next_in_chain(self, dossier: Dossier, now_ms: int, outcome: Outcome) -> bool:
        """Take the first arrival that follows the head; its rivals lose."""
        head = dossier.head
        if head is None:
            return False
        candidates = self._store.rows(
            "SELECT arrival, hash, prev, jws, received_ms FROM staged"
            " WHERE agent_id = ? AND chain = ? AND seq = ? ORDER BY arrival",
            (dossier.agent_id, head.chain, head.seq + 1),
        )
        winner = next((row for row in candidates if row[2] == head.hash), None)
        for row in candidates:
            arrival = _reopened(row[3], row[1], row[4])
            self._unstage(dossier, row[0])
            if row is winner:
                self._take_if_signed(dossier, arrival, outcome)
            else:
                why = "has a rival" if row[2] == head.hash else "does not follow the batch before it"
                self._fork(dossier, arrival, f"{_place(arrival.batch)} {why}", outcome)
        return bool(candidates)

    def _next_chain(self, dossier: Dossier, now_ms: int, outcome: Outcome) -> bool:
        """Judge the staged first batches of other chains; True if one was taken or refused."""
        sql = "SELECT arrival, hash, jws, received_ms FROM staged WHERE agent_id = ? AND seq = 1 ORDER BY arrival"
        for number, hash_, jws, received_ms in self._store.rows(sql, (dossier.agent_id,)):
            arrival = _reopened(jws, hash_, received_ms)
            prev_chain, chain = arrival.batch.prev_chain, arrival.batch.chain
            if prev_chain == dossier.head:
                self._unstage(dossier, number)
                self._begin(dossier, arrival, now_ms, outcome)
                return True
            if not self._may_be_reached(dossier, prev_chain) and dossier.mode != "broker":
                reason = f"it follows {_named(prev_chain)}, the head is {_named(dossier.head)}"
                self._refuse(dossier, chain, reason, now_ms, outcome)
                return True
        return False

    def _may_be_reached(self, dossier: Dossier, prev_chain: ChainHead | None) -> bool:
        """Whether the head can still come to what a chain names as its predecessor."""
        if prev_chain is None:
            return False
        head = dossier.head
        if head is not None and prev_chain.chain == head.chain:
            # A refused chain that holds the head never grows again.
            return prev_chain.seq > head.seq and dossier.chains.get(head.chain) != "refused"
        return dossier.chains.get(prev_chain.chain) not in ("closed", "refused")

    # ---------------------------------------------------------------------------------- nobody can be asked

    def join_overdue(self, dossier: Dossier, now_ms: int, join_ms: int) -> Outcome:
        """Broker mode: pass over what never came, and join a chain that follows nothing, after a time of waiting.

        Args:
            dossier: of an agent whose platform cannot ask it for anything.
            now_ms: the time.
            join_ms: how long a batch waits for the one before it.
        """
        outcome = Outcome()
        self._pump(dossier, now_ms, outcome)
        while (found := self._overdue(dossier, now_ms - join_ms)) is not None:
            number, arrival = found
            batch, head = arrival.batch, dossier.head
            chain, seq, follows = batch.chain, batch.seq, batch.prev_chain if batch.seq == 1 else None
            if not dossier.may_sign(arrival.kid, chain, seq):  # its key ended while it waited
                self._unstage(dossier, number)
                self._after_its_end(dossier, arrival, outcome)
            elif head is not None and chain == head.chain:
                self._pass_over(dossier, chain, head.seq + 1, ChainHead(chain, seq - 1, batch.prev), now_ms)
            elif head is not None and follows is not None and self._lies_ahead(dossier, follows):
                self._pass_over(dossier, head.chain, head.seq + 1, follows, now_ms)
            else:
                self._join(dossier, chain, seq, batch.prev, now_ms, outcome)
            self._pump(dossier, now_ms, outcome)
        return outcome

    def _overdue(self, dossier: Dossier, before_ms: int) -> tuple[int, Arrival] | None:
        """What has waited longest of all that came before `before_ms`: the first batch that is here of its chain.

        The chain that grows goes before others: what is missing of it may name their predecessor. Another chain has to
        have been heard of since that one: while the head's chain speaks, the other was left, or is a clone's.
        """
        mine = dossier.head.chain if dossier.head is not None else ""
        heard = "SELECT max(received_ms) FROM batches WHERE agent_id = ? AND chain = ?"
        heard_ms = self._store.one(heard, (dossier.agent_id, mine))[0] or 0
        row = self._store.first(
            "SELECT s.arrival, s.hash, s.jws, s.received_ms FROM staged s WHERE s.agent_id = ?1 AND s.seq ="
            " (SELECT min(seq) FROM staged WHERE agent_id = ?1 AND chain = s.chain) AND EXISTS"
            " (SELECT 1 FROM staged WHERE agent_id = ?1 AND chain = s.chain AND received_ms <= ?2) AND"
            " (s.chain = ?3 OR (SELECT max(received_ms) FROM staged WHERE agent_id = ?1 AND chain = s.chain) >= ?4)"
            " ORDER BY s.chain <> ?3, s.arrival LIMIT 1",
            (dossier.agent_id, before_ms, mine, heard_ms),
        )
        if row is None:
            return None
        number, hash_, jws, received_ms = row
        return number, _reopened(jws, hash_, received_ms)

    def _lies_ahead(self, dossier: Dossier, prev_chain: ChainHead) -> bool:
        head = dossier.head
        return head is not None and prev_chain.chain == head.chain and prev_chain.seq > head.seq

    def _pass_over(self, dossier: Dossier, chain: str, seq_from: int, head: ChainHead, now_ms: int) -> None:
        """Go on behind batches that never came."""
        dossier.skip(chain, seq_from, head.seq, now_ms)
        dossier.move_head(head, dossier.head_descriptor)
        text = "these batches never came and cannot be asked for; what they told is bridged by registers"
        name = (dossier.org, dossier.agent)
        self._alarms.say(name, "hole", f"{chain}/{seq_from}-{head.seq}", text, now_ms)
        self.counts["passed-over"] += head.seq - seq_from + 1

    def _join(self, dossier: Dossier, chain: str, seq: int, prev: str, now_ms: int, outcome: Outcome) -> None:
        """Take up a chain that follows nothing that is here."""
        head = dossier.head
        if head is not None:
            self._close(dossier, head.chain, chain, now_ms)
        dossier.set_chain(chain, "open", f"joined by registers behind {_named(head)}", now_ms)
        if head is not None:
            dossier.join(chain, now_ms)
            text = (
                f"it follows nothing that is here; its meters were joined to {_named(head)} by serial number and"
                " register. Ask at the gateway what became of its journal; see also: metering-agent restore --help"
            )
            self._alarms.say((dossier.org, dossier.agent), "joined", chain, text, now_ms)
        self.counts["joined"] += 1
        if seq > 1:
            self._pass_over(dossier, chain, 1, ChainHead(chain, seq - 1, prev), now_ms)
            return
        rows = self._store.rows(
            "SELECT arrival, hash, jws, received_ms FROM staged WHERE agent_id = ? AND chain = ? AND seq = 1"
            " ORDER BY arrival",
            (dossier.agent_id, chain),
        )
        for place, (number, hash_, jws, received_ms) in enumerate(rows):
            self._unstage(dossier, number)
            arrival = _reopened(jws, hash_, received_ms)
            if place:
                self._fork(dossier, arrival, f"{_place(arrival.batch)} has a rival", outcome)
            else:
                self._take_if_signed(dossier, arrival, outcome)

    def _is_kept(self, dossier: Dossier, batch: Batch) -> bool:
        sql = "SELECT 1 FROM batches WHERE agent_id = ? AND chain = ? AND seq = ?"
        return self._store.first(sql, (dossier.agent_id, batch.chain, batch.seq)) is not None

    def _late(self, dossier: Dossier, arrival: Arrival, outcome: Outcome) -> None:
        """A batch that was passed over comes after all: it replaces its own part of what was bridged."""
        batch = arrival.batch
        if not dossier.may_sign(arrival.kid, batch.chain, batch.seq):
            self._after_its_end(dossier, arrival, outcome)
            return
        if not self._fits(dossier, arrival):
            self._fork(dossier, arrival, f"{_place(batch)} is not the batch that was passed over", outcome)
            return
        self._booking.book_late(dossier, arrival.batch, self._kept(dossier, arrival))
        self.counts["late"] += 1

    def _fits(self, dossier: Dossier, arrival: Arrival) -> bool:
        """Whether a batch joins on to those beside it that are kept; another copy of the journal has its own."""
        batch = arrival.batch
        sql = "SELECT hash, jws FROM batches WHERE agent_id = ? AND chain = ? AND seq = ?"
        before = self._store.first(sql, (dossier.agent_id, batch.chain, batch.seq - 1))
        after = self._store.first(sql, (dossier.agent_id, batch.chain, batch.seq + 1))
        if before is not None and before[0] != batch.prev:
            return False
        return after is None or stored_batch(after[1]).prev == arrival.hash

    # ----------------------------------------------------------------------------------------------- effects

    def _begin(self, dossier: Dossier, arrival: Arrival, now_ms: int, outcome: Outcome) -> None:
        """Close the former chain and take the first batch of its successor, in one transaction."""
        batch = arrival.batch
        if not dossier.may_sign(arrival.kid, batch.chain, batch.seq):
            self._after_its_end(dossier, arrival, outcome)
            return
        head = dossier.head
        if head is not None:
            self._close(dossier, head.chain, batch.chain, now_ms)
        dossier.set_chain(batch.chain, "open", f"follows {_named(head)}", now_ms)
        dossier.begin(batch.chain, behind=None if head is None else head.chain)
        carried = {event.body.get("hash") for event in batch.events if event.type == "descriptor"}
        if batch.prev not in carried | {batch.cfg}:
            text = "the first batch's prev is not the hash of the descriptor in force"
            self._say(dossier, "descriptor", batch.chain, text, arrival)
        self._take(dossier, arrival)
        outcome.taken += 1
        for event in batch.events:
            left = event.body.get("instead_of")
            if event.type == "restart" and isinstance(left, str) and left not in dossier.chains:
                # A person gave it up at the gateway: all of its readings are told in this one.
                dossier.set_chain(left, "closed", f"left for {batch.chain}", now_ms)
                self._clear(dossier, left, "closed chain")

    def _close(self, dossier: Dossier, chain: str, successor: str, now_ms: int) -> None:
        if dossier.chains.get(chain) == "open":
            dossier.set_chain(chain, "closed", f"succeeded by {successor}", now_ms)
            self._clear(dossier, chain, "closed chain")

    def _take_if_signed(self, dossier: Dossier, arrival: Arrival, outcome: Outcome) -> None:
        """A key may have ended while its batch waited."""
        batch = arrival.batch
        if dossier.may_sign(arrival.kid, batch.chain, batch.seq):
            self._take(dossier, arrival)
            outcome.taken += 1
        else:
            self._after_its_end(dossier, arrival, outcome)

    def _after_its_end(self, dossier: Dossier, arrival: Arrival, outcome: Outcome) -> None:
        """Refused and answered: a gateway with an old journal learns from the head that it is one."""
        text = f"it signed {_place(arrival.batch)} after its end"
        self._say(dossier, "ended-key", arrival.kid, text, arrival)
        outcome.answer_now = True

    def _take(self, dossier: Dossier, arrival: Arrival) -> None:
        """Book a batch and move the head to it."""
        batch, source = arrival.batch, self._kept(dossier, arrival)
        self._booking.book(dossier, batch, source)
        dossier.move_head(ChainHead(batch.chain, batch.seq, arrival.hash), source.descriptor_id)
        self.counts["booked"] += 1

    def _kept(self, dossier: Dossier, arrival: Arrival) -> Source:
        """The row of a batch in the archive, and what its booking has to know of it."""
        batch = arrival.batch
        batch_id = self._store.run(
            "INSERT INTO batches (agent_id, chain, seq, hash, jws, received_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (dossier.agent_id, batch.chain, batch.seq, arrival.hash, arrival.jws, arrival.received_ms),
        )
        descriptor_id = dossier.descriptor_id(batch.cfg)
        return Source(batch_id, descriptor_id, arrival.kid, batch.chain, batch.seq, arrival.received_ms)

    def _refuse(self, dossier: Dossier, chain: str, reason: str, now_ms: int, outcome: Outcome) -> None:
        dossier.set_chain(chain, "refused", reason, now_ms)
        self._clear(dossier, chain, "refused chain")
        self._alarms.say((dossier.org, dossier.agent), "refused-chain", chain, reason, now_ms)
        self.counts["refused-chain"] += 1
        outcome.refuse(chain)

    def _clear(self, dossier: Dossier, chain: str, reason: str) -> None:
        """What is staged of a chain that will not be booked becomes evidence."""
        mine = (dossier.agent_id, chain)
        sql = "SELECT arrival, hash, seq, jws, received_ms FROM staged WHERE agent_id = ? AND chain = ?"
        for number, hash_, seq, jws, received_ms in self._store.rows(sql, mine):
            self._evidence(dossier, jws, hash_, reason, (chain, seq), received_ms)
            self._unstage(dossier, number)

    def _fork(self, dossier: Dossier, arrival: Arrival, text: str, outcome: Outcome) -> None:
        """Two validly signed batches for one place: the first stays, a person is told, the head is answered."""
        self._keep(dossier, arrival, "fork")
        self._say(dossier, "fork", _place(arrival.batch), text, arrival)
        self.counts["fork"] += 1
        outcome.answer_now = True

    def _keep(self, dossier: Dossier, arrival: Arrival, reason: str) -> None:
        place = (arrival.batch.chain, arrival.batch.seq)
        self._evidence(dossier, arrival.jws, arrival.hash, reason, place, arrival.received_ms)

    def _evidence(
        self,
        dossier: Dossier,
        jws: bytes,
        hash_: str,
        reason: str,
        place: tuple[str, int] | None,
        now_ms: int,
    ) -> None:
        self._store.run(
            "INSERT OR IGNORE INTO evidence (agent_id, reason, hash, chain, seq, jws, received_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (dossier.agent_id, reason, hash_, *(place or (None, None)), jws, now_ms),
        )

    def _say(self, dossier: Dossier, kind: str, subject: str, text: str, arrival: Arrival) -> None:
        self._alarms.say((dossier.org, dossier.agent), kind, subject, text, arrival.received_ms)


def _reopened(jws: bytes, hash_: str, received_ms: int) -> Arrival:
    """A batch from the staging table; its signature was verified before it was put there."""
    header = jws.decode("ascii").split(".")[0]
    kid = loads(base64url_decode(header), size_max=SIZE_MAX[BATCH])["kid"]
    return Arrival(stored_batch(jws), hash_, str(kid), jws, received_ms)


def _place(batch: Batch) -> str:
    return f"{batch.chain}/{batch.seq}"


def _named(head: ChainHead | None) -> str:
    return "nothing" if head is None else f"{head.chain}/{head.seq}"
