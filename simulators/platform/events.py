"""What the events of a batch do: epochs end, descriptors arrive, balances are compared, keys follow one another.

Called by `booking` in the order of the batch; what an event means for booked energy (a span that closes, an epoch that
opens) is done there. An event always takes effect, whatever becomes of the deltas beside it.
"""

import json
from typing import TYPE_CHECKING

from agent.adapters.keys import PublicKeys, public_key_of_jwk
from agent.reporting.descriptor import Descriptor
from agent.reporting.envelope import ENROLMENT, EnvelopeError, open_sealed
from agent.reporting.event import Event
from agent.reporting.utc import ms_of_text
from agent.reporting.wire import WireError
from simulators.platform.adjusting import place
from simulators.platform.dossier import Dossier, Standing
from simulators.platform.joining import Joining
from simulators.platform.relabel import relabel
from simulators.platform.store import Store

if TYPE_CHECKING:
    from simulators.platform.booking import Booking, Source


class Events:
    """Keeps the events of one batch after the other, and carries them out, in the open transaction."""

    def __init__(self, store: Store, booking: "Booking", joining: Joining) -> None:
        self._store = store
        self._booking = booking
        self._joining = joining

    def keep(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """Put an event among what is known of the agent, without its effect."""
        meter = event.body.get("meter")
        self._store.run(
            "INSERT INTO events (agent_id, batch_id, type, at_ms, meter, body) VALUES (?, ?, ?, ?, ?, ?)",
            (
                dossier.agent_id,
                source.batch_id,
                event.type,
                event.at_ms,
                meter if isinstance(meter, str) else None,
                json.dumps(dict(event.body), ensure_ascii=False),
            ),
        )

    def take(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """Events always take effect, whatever becomes of the deltas beside them."""
        self.keep(dossier, event, source)
        if event.type == "epoch":
            self._epoch(dossier, event, source)
        elif event.type == "descriptor":
            self._descriptor(dossier, event, source)
        elif event.type == "balance":
            self._balance(dossier, event, source)
        elif event.type == "key-rotate":
            self._rotate(dossier, event, source)
        elif event.type in ("adjust", "manual"):
            self._stated(dossier, event, source)
        elif event.type == "clock":
            self._booking.save_spans()
            dossier.save_meters(relabel(self._store, dossier, event, source.chain))

    def _epoch(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """Close the old epoch at `last`, open the new one at `first`; the hole between them is declared, not filled."""
        meter, ended, opens = event.text("meter"), event.integer("epoch_from"), event.integer("epoch_to")
        subject = f"{meter}/{opens}"
        x = dossier.meters.get(meter)
        if x is not None and opens <= x.epoch:
            self._booking.say(
                dossier,
                "epoch",
                subject,
                f"epoch {opens} was opened before; the event changed nothing",
                source,
            )
            return
        from_ms, to_ms = ms_of_text(event.text("unmetered_from")), ms_of_text(event.text("unmetered_to"))
        if x is not None and ended != x.epoch:
            self._booking.say(
                dossier, "epoch", subject, f"the event ends epoch {ended}, but {x.epoch} was open", source
            )
        elif x is not None:
            self._close_epoch(dossier, meter, x, event.integer("last"), from_ms, source)
        if opens != ended + 1:
            self._booking.say(dossier, "epoch", subject, f"epoch {opens} does not follow {ended}", source)
        x = self._booking.open_epoch(dossier, meter, opens, 0, event.integer("first"), to_ms)
        serial = event.body.get("serial_to")
        x.describe(
            self._booking.description(dossier, meter, source), serial if isinstance(serial, str) else None
        )

    def _close_epoch(
        self, dossier: Dossier, meter: str, x: Standing, last: int, end_ms: int, source: "Source"
    ) -> None:
        subject = f"{meter}/{x.epoch}"
        if last != x.register and not self._joining.is_behind_hole(dossier, meter):
            text = f"the event says that it ended at {last}, its last delta at {x.register}"
            self._booking.say(dossier, "epoch", subject, text, source)
        if not self._booking.close_span(dossier, meter, x, last, x.n, end_ms, source):
            text = f"ended at {last}, below the {x.booked_register} already booked; nothing was bridged"
            self._booking.say(dossier, "epoch", subject, text, source)

    def _descriptor(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """One part of a descriptor; the last one completes it."""
        try:
            jws = dossier.assembly.add(event)
            if jws is not None:
                self._check_revision(dossier, dossier.keep_descriptor(jws), event, source)
        except (EnvelopeError, WireError) as error:
            self._booking.say(dossier, "descriptor", event.text("hash"), str(error), source)

    def _check_revision(
        self, dossier: Dossier, descriptor: Descriptor, event: Event, source: "Source"
    ) -> None:
        """Descriptors are ordered by (chain, rev)."""
        head, before = dossier.head, dossier.head_descriptor
        if head is None or before is None or head.chain != source.chain:
            return
        former = dossier.descriptor(before)
        if former is not None and former != descriptor and descriptor.rev <= former.rev:
            text = f"revision {descriptor.rev} follows revision {former.rev}"
            self._booking.say(dossier, "descriptor", event.text("hash"), text, source)

    def _balance(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """V5: a balance agrees with itself, with what was sent, and with what is booked of it as deltas."""
        meter, epoch = event.text("meter"), event.integer("epoch")
        self._booking.save_spans()
        for closed in event.closed():
            self._joining.learn(dossier, meter, closed, source)
            self._booking.save_spans()
        first, last = event.integer("n_first"), event.integer("n_last")
        total, roll = event.integer("sum"), event.integer("roll")
        said = (event.integer("reg_first"), event.integer("reg_last"), total, roll)
        if total != said[1] - said[0] + roll:
            text = f"the sum {total} is not {said[1]} - {said[0]} + {roll}"
        elif not first <= last <= self._last_sent(dossier, meter, epoch):
            if self._joining.is_behind_hole(dossier, meter):
                return  # what it sums was in batches that never came
            text = f"it sums the deltas {first} to {last}, which were not sent"
        else:
            booked = self._booked_run(dossier, meter, epoch, first, last)
            if booked in (None, said):
                return
            text = (
                f"the agent's balance is {said}, {booked} is booked (first and last register, sum, rollovers)"
            )
        self._booking.say(dossier, "balance", f"{meter}/{epoch}/{first}-{last}", text, source)

    def _last_sent(self, dossier: Dossier, meter: str, epoch: int) -> int:
        """Number of the last delta of an epoch that was looked at, good or held; 0 if there was none."""
        x = dossier.meters.get(meter)
        if x is not None and x.epoch == epoch:
            return x.n
        self._booking.save_spans()
        last: int = self._store.one(
            "SELECT max(coalesce((SELECT max(n_last) FROM booked WHERE (agent_id, meter, epoch) = (?1, ?2, ?3)), 0),"
            " coalesce((SELECT max(n) FROM held WHERE (agent_id, meter, epoch) = (?1, ?2, ?3)), 0))",
            (dossier.agent_id, meter, epoch),
        )[0]
        return last

    def _stated(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """A person's word on deltas: they have to have come. What is booked never changes for it."""
        meter = event.text("meter")
        x, said = dossier.meters.get(meter), event.body.get("epoch")
        epoch = said if type(said) is int else x.epoch if x is not None else 1
        last_sent = self._last_sent(dossier, meter, epoch)
        if event.type == "adjust":
            first, last = event.integer("n_from"), event.integer("n_to")
            problem = place(self._store, dossier.agent_id, source.batch_id, event, last_sent)
        else:
            first = last = event.integer("n")
            problem = f"it speaks of a delta after {last_sent}" if last > last_sent else None
        if problem is not None:
            text = f"{event.type} of {source.chain}/{source.seq} is applied to nothing: {problem}"
            self._booking.say(dossier, "adjust", f"{meter}/{epoch}/{first}-{last}", text, source)

    def _booked_run(
        self, dossier: Dossier, meter: str, epoch: int, first: int, last: int
    ) -> tuple[int, int, int, int] | None:
        """Registers, sum and rollovers of a run of deltas; None where not all of it is booked as deltas."""
        self._booking.save_spans()
        run = self._store.rows(
            "SELECT reg_start, reg_end, energy, roll FROM booked WHERE agent_id = ? AND meter = ? AND epoch = ?"
            " AND kind = 'delta' AND n_first BETWEEN ? AND ? ORDER BY n_first",
            (dossier.agent_id, meter, epoch, first, last),
        )
        if len(run) != last - first + 1:
            return None
        return run[0][0], run[-1][1], sum(row[2] for row in run), sum(row[3] for row in run)

    def _rotate(self, dossier: Dossier, event: Event, source: "Source") -> None:
        """The key that signed this batch ends with it; the next one proves itself."""
        jwk, proof = event.body["jwk"], event.text("proof")
        try:
            assert isinstance(jwk, dict)
            key = public_key_of_jwk(jwk)
            opened = open_sealed(proof.encode(), ENROLMENT, PublicKeys([key]))
            if (opened.payload.get("org"), opened.payload.get("agent")) != (dossier.org, dossier.agent):
                raise ValueError("the proof speaks of another agent")
            if opened.payload.get("jwk") != jwk:
                raise ValueError("the proof carries another key")
            if key.kid == source.kid or dossier.has_ended(key.kid):
                raise ValueError("that key has ended")
        except ValueError as error:
            self._booking.say(
                dossier,
                "rotation",
                f"{source.chain}/{source.seq}",
                f"the new key is refused: {error}",
                source,
            )
            return
        dossier.trust(key, "rotation")
        dossier.end_key(source.kid, source.chain, source.seq)
