"""Where nobody can ask an agent again: what never came is bridged by registers, and epochs are joined.

A broker's PUBACK is all that an agent in broker mode gets, and a broker may lose what it acknowledged. Registers are
cumulative, so a batch that is lost costs resolution and no energy: the next delta says where the register stood. What
registers cannot say is an epoch that ended in a lost batch; therefore each balance of such an agent lists the epochs
closed in the last 30 days, and `learn` books from that list what the lost `epoch` event would have said. A chain that
follows nothing that is here (a lost disk) is joined meter by meter: the same meter by its serial number goes on at
its register, of any other the hole is declared (wire format, section 6, "Broker mode").

`chains` decides when a hole is passed over or a chain joined; this is what it means for the books.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.reporting.batch import Delta
from agent.reporting.closings import differences, text_of
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import Event
from agent.reporting.utc import ms_of_text, text_of_ms
from simulators.platform.dossier import Dossier, Standing
from simulators.platform.store import Store

if TYPE_CHECKING:
    from simulators.platform.booking import Booking, Source


@dataclass(frozen=True, slots=True)
class Span:
    """One row of booked energy; `position` is the register at its start plus the epoch's rollovers so far."""

    meter: str
    epoch: int
    n_first: int
    n_last: int
    kind: str
    position: int
    reg_start: int
    reg_end: int
    roll: int
    energy: int
    start_ms: int
    end_ms: int
    q: str


class Joining:
    """The books' part of joining; `Booking` asks it where an agent cannot be asked."""

    def __init__(self, store: Store, booking: "Booking") -> None:
        self._store = store
        self._booking = booking

    # ------------------------------------------------------------------------------------------------- holes

    def is_behind_hole(self, dossier: Dossier, meter: str) -> bool:
        """Whether batches were passed over since this meter's newest delta."""
        if not dossier.skipped:
            return False
        newest = self._store.one(
            "SELECT max(coalesce((SELECT batch_id FROM booked WHERE agent_id = ?1 AND meter = ?2 AND kind = 'delta'"
            " ORDER BY epoch DESC, n_first DESC LIMIT 1), 0),"
            " coalesce((SELECT max(batch_id) FROM held WHERE agent_id = ?1 AND meter = ?2), 0))",
            (dossier.agent_id, meter),
        )[0]
        sql = "SELECT 1 FROM skipped WHERE agent_id = ? AND after_batch >= ?"
        return self._store.first(sql, (dossier.agent_id, newest)) is not None

    def under_its_map(
        self, dossier: Dossier, span: Span, source: "Source", *, ends_in_delta: bool = False
    ) -> "Source":
        """The batch that closes a bridge, with the descriptor under which the bridge is booked.

        That is the one of the first held delta in it, which knew ratio and step; else of the delta in which it ends.
        Where it ends in a word on an epoch, that may have come much later, under another ratio: then the map of what is
        booked beside it in its epoch, in which the ratio never changes. Where two maps give the meter to other steps,
        the register at which they changed may have been in what never came, and nobody can tell how much was used
        before it; so that is said.
        """
        held = self._store.first(
            "SELECT descriptor_id FROM held WHERE agent_id = ? AND meter = ? AND epoch = ? AND n BETWEEN ? AND ?"
            " ORDER BY n LIMIT 1",
            (dossier.agent_id, span.meter, span.epoch, span.n_first, span.n_last),
        )
        if held is not None:
            return replace(source, descriptor_id=held[0])
        beside = self._map_beside(dossier, span)
        if beside is None or beside == source.descriptor_id:
            return source
        chosen, other = (source.descriptor_id, beside) if ends_in_delta else (beside, source.descriptor_id)
        used, left = ((dossier.descriptions(id) or {}).get(span.meter) for id in (chosen, other))
        if used is not None and left is not None and used.steps != left.steps:
            text = (
                f"it may span a change of the map: all is booked for {_steps(used)}, none for {_steps(left)}"
            )
            subject = f"{span.meter}/{span.epoch}/{span.n_first}-{span.n_last}"
            self._booking.say(dossier, "step", subject, text, source)
        return replace(source, descriptor_id=chosen)

    def _map_beside(self, dossier: Dossier, span: Span) -> int | None:
        """The descriptor of what is booked right before a span, or behind it.

        In its epoch; of one of which nothing else is booked, in the epoch before, or behind if it began with a ratio.
        """
        self._booking.save_spans()
        place = (dossier.agent_id, span.meter)
        sql = "SELECT descriptor_id FROM booked WHERE agent_id = ? AND meter = ? AND epoch"
        row = self._store.first(
            f"{sql} = ? AND position + energy <= ? ORDER BY position + energy DESC, n_last DESC LIMIT 1",
            (*place, span.epoch, span.position),
        ) or self._store.first(f"{sql} = ? ORDER BY position, n_first LIMIT 1", (*place, span.epoch))
        if row is None:
            began = (self._told(dossier, span.meter, span.epoch) or {}).get("reason")
            there = (
                "> ? ORDER BY epoch, position"
                if began == "ratio"
                else "< ? ORDER BY epoch DESC, position DESC"
            )
            row = self._store.first(f"{sql} {there} LIMIT 1", (*place, span.epoch))
        return None if row is None else int(row[0])

    def learn(self, dossier: Dossier, meter: str, said: Event, source: "Source") -> None:
        """Book an epoch change of which the batch never came, as a later balance tells it; once.

        Where nothing is missing, or the batch came, a balance that says something else is a finding and no more.
        """
        x, opens = dossier.meters.get(meter), said.integer("epoch_to")
        if x is None or self._precedes(dossier, meter, opens):
            return
        told = self._told(dossier, meter, opens)
        if told is not None or not (dossier.skipped or dossier.joined):
            self._compare(dossier, meter, said, told, source)
        elif opens > x.epoch:
            self._booking.events.take(dossier, said, source)
        else:
            self._booking.events.keep(dossier, said, source)
            self._close(dossier, meter, said, source)
            self._open(dossier, meter, said, source)

    def _precedes(self, dossier: Dossier, meter: str, epoch: int) -> bool:
        """Whether an epoch was opened before the first that is here of a meter."""
        oldest = self._store.one(
            "SELECT min(epoch) FROM epochs WHERE agent_id = ? AND meter = ?", (dossier.agent_id, meter)
        )[0]
        return oldest is None or epoch <= oldest

    def _told(self, dossier: Dossier, meter: str, epoch: int) -> dict[str, object] | None:
        """What the latest event said that opened an epoch; None where there is none."""
        sql = (
            "SELECT body FROM events WHERE agent_id = ? AND type = 'epoch' AND meter = ?"
            " AND body ->> 'epoch_to' = ? ORDER BY event_id DESC LIMIT 1"
        )
        row = self._store.first(sql, (dossier.agent_id, meter, epoch))
        return None if row is None else dict(json.loads(row[0]))

    def _compare(
        self, dossier: Dossier, meter: str, said: Event, told: Mapping[str, object] | None, source: "Source"
    ) -> None:
        place = f"{meter}/{said.integer('epoch_from')}-{said.integer('epoch_to')}"
        if told is None:
            text = "a balance lists it as closed, and no event said so"
            self._booking.say(dossier, "balance", place, text, source)
            return
        found = [
            f"{name} {text_of(said.body[name])}, its event says {text_of(told[name])}"
            for name in differences(said.body, told)
        ]
        if found:
            self._booking.say(dossier, "balance", place, f"a balance lists {'; '.join(found)}", source)

    def _close(self, dossier: Dossier, meter: str, said: Event, source: "Source") -> None:
        """Bridge from where an epoch's booked energy ends to the register at which it ended."""
        epoch, last = said.integer("epoch_from"), said.integer("last")
        place = (dossier.agent_id, meter, epoch)
        end = self._store.first(
            "SELECT n_last, position + energy, reg_end, end_ms FROM booked WHERE agent_id = ? AND meter = ?"
            " AND epoch = ? ORDER BY position + energy DESC, n_last DESC LIMIT 1",
            place,
        ) or self._store.first(
            "SELECT 0, opening, opening, opening_ms FROM epochs WHERE agent_id = ? AND meter = ? AND epoch = ?",
            place,
        )
        if end is None:
            return
        n, position, register, at_ms = end
        if last < register:
            text = f"epoch {epoch} ended at {last}, below the {register} already booked; nothing was bridged"
            self._booking.say(dossier, "epoch", f"{meter}/{epoch}", text, source)
        elif last > register:
            until_ms = ms_of_text(said.text("unmetered_from"))
            n_last = max(n, _count(said.body.get("n_last")))
            span = Span(
                meter, epoch, n + 1, n_last, "bridge", position, register, last, 0, last - register, at_ms,
                until_ms, "gap",
            )  # fmt: skip
            under = self.under_its_map(dossier, span, source)
            self._booking.insert(dossier, span, under.descriptor_id, under.batch_id)

    def _open(self, dossier: Dossier, meter: str, said: Event, source: "Source") -> None:
        """Bridge from the register at which an epoch opened to the first that is known of it."""
        epoch, first = said.integer("epoch_to"), said.integer("first")
        at_ms, place = ms_of_text(said.text("unmetered_to")), (dossier.agent_id, meter, epoch)
        sql = "SELECT opening, opening_ms FROM epochs WHERE agent_id = ? AND meter = ? AND epoch = ?"
        known = self._store.first(sql, place)
        if known is None:
            self._store.run(
                "INSERT INTO epochs (agent_id, meter, epoch, opening, opening_ms) VALUES (?, ?, ?, ?, ?)",
                (*place, first, at_ms),
            )
            return
        opening, opening_ms = known
        if first > opening:
            text = f"epoch {epoch} opened at {first}, above the {opening} first heard of; nothing was bridged"
            self._booking.say(dossier, "epoch", f"{meter}/{epoch}", text, source)
        elif first < opening:
            n_first = self._store.one(
                "SELECT min(n_first) FROM booked WHERE agent_id = ? AND meter = ? AND epoch = ?", place
            )[0]
            n_last = (dossier.meters[meter].n + 1 if n_first is None else n_first) - 1
            span = Span(
                meter, epoch, 1, n_last, "bridge", first, first, opening, 0, opening - first, at_ms, opening_ms,
                "gap",
            )  # fmt: skip
            under = self.under_its_map(dossier, span, source)
            self._booking.insert(dossier, span, under.descriptor_id, under.batch_id)
            self._store.run(
                "UPDATE epochs SET opening = ?, opening_ms = ? WHERE agent_id = ? AND meter = ? AND epoch = ?",
                (first, at_ms, *place),
            )

    # ---------------------------------------------------------------------------------------- joined chains

    def translated(self, dossier: Dossier, item: Delta | Event, source: "Source") -> Delta | Event | None:
        """What a chain says, in the epochs of these books; None where it says nothing new.

        Of a chain that was not joined everything is as it was said, unless it follows a joined one and counts as that.
        """
        if source.chain not in dossier.joined and _counts_as_before(dossier, item, source):
            dossier.join(source.chain, source.now_ms)
            for other, shift in dossier.joined[dossier.behind or ""].items():
                self._remember(dossier, source.chain, other, shift)
        shifts = dossier.joined.get(source.chain)
        if shifts is None:
            return item
        if isinstance(item, Delta):
            if item.meter not in shifts and not self._join(dossier, _edge_of(item), source):
                return None
            moved = replace(item, epoch=item.epoch + shifts[item.meter])
            x = dossier.meters.get(item.meter)
            return (
                None
                if x is not None and (moved.epoch, moved.n) == (x.epoch, x.n) and x.n == x.booked_n
                else moved
            )
        meter = item.body.get("meter")
        if not isinstance(meter, str) or not {"epoch", "epoch_from"} & set(item.body):
            return item
        if meter not in shifts and not (
            item.type == "epoch" and self._join(dossier, _edge_of_event(item), source)
        ):
            if item.type != "epoch":  # of one that is old news the books have another number
                self._booking.events.keep(dossier, item, source)
            return None
        return _shifted(item, shifts[meter])

    def _join(self, dossier: Dossier, edge: "_Edge", source: "Source") -> bool:
        """Fit a meter of a joined chain to the books, at its first word there; False where that is old news."""
        x, booking = dossier.meters.get(edge.meter), self._booking
        if x is None:
            self._remember(dossier, source.chain, edge.meter, 0)
            return True
        if edge.is_end and edge.end_ms < x.booked_end_ms:
            # The books have gone on behind the end of that epoch; what comes after it is fitted by its own register.
            return False
        description = booking.description(dossier, edge.meter, source)
        goes_on = description is not None and _is_same(description, x)
        begins_below = edge.reg_start < x.booked_register
        if goes_on and begins_below and edge.reg_end <= x.booked_register and edge.start_ms < x.booked_end_ms:
            return False
        if not goes_on and begins_below and edge.end_ms <= x.booked_end_ms:
            return False  # it may be the same meter, which cannot say so
        goes_on = goes_on and edge.reg_end >= x.booked_register and edge.roll is None
        # What both tell is booked already; the rest of the delta that reaches further is bridged, where that is sure.
        overlaps = begins_below and (goes_on or edge.start_ms < x.booked_end_ms)
        register, n = (edge.reg_end, edge.n) if overlaps else (edge.reg_start, edge.n - 1)
        at_ms = edge.end_ms if overlaps else edge.start_ms
        if goes_on:
            booking.close_span(dossier, edge.meter, x, register, x.n, at_ms, source)
        epoch = x.epoch + 1
        self._declare(dossier, edge.meter, x, register, at_ms, None if not goes_on else 0, source)
        booking.open_epoch(dossier, edge.meter, epoch, n, register, at_ms).describe(description)
        self._remember(dossier, source.chain, edge.meter, epoch - edge.epoch)
        return True

    def _declare(
        self,
        dossier: Dossier,
        meter: str,
        x: Standing,
        first: int,
        at_ms: int,
        bound: int | None,
        source: "Source",
    ) -> None:
        """The hole between two chains, as an event of the platform's own."""
        body = {
            "meter": meter,
            "epoch_from": x.epoch,
            "epoch_to": x.epoch + 1,
            "last": x.booked_register,
            "first": first,
            "serial_from": x.serial,
            "serial_to": None,
            "reason": "restore",
            "unmetered_from": text_of_ms(x.booked_end_ms),
            "unmetered_to": text_of_ms(at_ms),
            "bound": bound,
            "by": "platform",
        }
        self._booking.events.keep(dossier, Event("epoch", source.now_ms, body), source)

    def _remember(self, dossier: Dossier, chain: str, meter: str, shift: int) -> None:
        dossier.joined[chain][meter] = shift
        self._store.run(
            "INSERT INTO joined_meters (agent_id, chain, meter, shift) VALUES (?, ?, ?, ?)",
            (dossier.agent_id, chain, meter, shift),
        )


@dataclass(frozen=True, slots=True)
class _Edge:
    """The first that a joined chain says of a meter; `is_end`: that an epoch ended there, no delta."""

    meter: str
    epoch: int
    n: int
    reg_start: int
    reg_end: int
    start_ms: int
    end_ms: int
    roll: int | None = None
    is_end: bool = False


def _edge_of(delta: Delta) -> _Edge:
    return _Edge(
        delta.meter,
        delta.epoch,
        delta.n,
        delta.reg_start,
        delta.reg_end,
        delta.start_ms,
        delta.end_ms,
        delta.roll,
    )


def _edge_of_event(event: Event) -> _Edge:
    """An epoch that ends before the chain told a delta of it: nothing but its last register."""
    at_ms, last = ms_of_text(event.text("unmetered_from")), event.integer("last")
    return _Edge(event.text("meter"), event.integer("epoch_from"), 1, last, last, at_ms, at_ms, is_end=True)


def _counts_as_before(dossier: Dossier, item: Delta | Event, source: "Source") -> bool:
    """Whether a chain that follows a joined one counts its epochs as that one did, and not as they are counted here.

    So it is where a person brought the gateway's own last status. With this platform's word it goes on from where the
    books end, and says nothing of what they have already.
    """
    if source.chain != dossier.begun or dossier.behind not in dossier.joined:
        return False
    meter = item.meter if isinstance(item, Delta) else item.body.get("meter")
    x = dossier.meters.get(meter) if isinstance(meter, str) else None
    if x is None:
        return False
    if isinstance(item, Delta):
        return (item.epoch, item.n) <= (x.epoch, x.n)
    return item.type == "epoch" and item.integer("epoch_from") < x.epoch


def _is_same(said: MeterDescription, x: Standing) -> bool:
    """Whether a register goes on: ratio, modulus and serial number; an unknown number never equals another."""
    ratio = (said.num, said.den, said.modulus) == (x.num, x.den, x.modulus)
    return ratio and said.serial is not None and said.serial == x.serial


def _steps(description: MeterDescription) -> str:
    """The steps of a meter, for a finding."""
    return ", ".join(step for step, *_ in description.steps) or description.role


def _shifted(event: Event, shift: int) -> Event:
    body = dict(event.body)
    for name in ("epoch", "epoch_from", "epoch_to"):
        if name in body:
            body[name] = event.integer(name) + shift
    if isinstance(closed := body.get("closed"), list):
        body["closed"] = [
            {**each, "epoch_from": each["epoch_from"] + shift, "epoch_to": each["epoch_to"] + shift}
            for each in closed
        ]
    return replace(event, body=body)


def _count(value: object) -> int:
    return value if type(value) is int else 0
