"""Deltas become booked energy, each once.

Two positions are kept for every meter. *Judged* is the last delta that was looked at, good or held; the next one is
measured against it. *Booked* is where the booked energy ends. They differ while a delta is held; the next good one
closes the span between them with a bridge, by registers alone, so that one bad delta costs resolution and no energy
(wire format, section 6). Within an epoch the booked rows lie end to end: their energies add up to last register -
opening + rollovers at every moment (promise I1), and no delta's identity is booked twice (I2, also a constraint of the
table).

Before this comes `chains`, which says that a batch is the next; after it `queries`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from agent.reporting.batch import Batch, Delta, broken_rules
from agent.reporting.descriptor import MeterDescription
from agent.reporting.event import Event
from simulators.platform.alarms import Alarms
from simulators.platform.dossier import Dossier, Standing
from simulators.platform.events import Events
from simulators.platform.joining import Joining, Span
from simulators.platform.relabel import offsets_of, opening_ms
from simulators.platform.store import Store

Quarantine = Callable[[Delta], str | None]
"""A rule of the operator: why a delta is to be held, None to let it pass."""


class Release(Enum):
    """What came of releasing a held delta."""

    BOOKED = "booked"
    """It replaced its span of a bridge, or was booked at the end of what is booked."""
    EVIDENCE = "evidence"
    """Its span is booked already, or its own figures do not agree: it stays evidence."""
    WAITS = "waits"
    """It cannot be placed yet; it is still held."""
    UNKNOWN = "unknown"
    """No such delta is held."""


@dataclass(frozen=True, slots=True)
class Source:
    """The batch that is being booked."""

    batch_id: int
    descriptor_id: int
    kid: str
    chain: str
    seq: int
    now_ms: int


class Booking:
    """Books batches of one agent after the other into the open transaction."""

    def __init__(self, store: Store, alarms: Alarms, quarantine: Quarantine | None) -> None:
        self._store = store
        self._alarms = alarms
        self._quarantine = quarantine
        self._joining = Joining(store, self)
        self.events = Events(store, self, self._joining)
        self._spans: list[tuple[object, ...]] = []
        """Booked, and written with one statement at the end of the batch or before the table is read."""

    def book(self, dossier: Dossier, batch: Batch, source: Source) -> None:
        """Take the effects of a batch whose place in the chain is settled."""
        self._spans.clear()  # of a batch that the store refused
        touched: set[str] = set()
        for said in batch.in_effect_order():
            item = self._joining.translated(dossier, said, source)
            if item is None:
                if isinstance(said, Delta) and said.meter in dossier.meters:
                    touched.add(said.meter)
            elif isinstance(item, Event):
                self.events.take(dossier, item, source)
                if item.type in ("epoch", "balance"):
                    touched.add(item.text("meter"))
            else:
                self._delta(dossier, item, source)
                touched.add(item.meter)
        self.save_spans()
        dossier.save_meters(meter for meter in touched if meter in dossier.meters)
        for record in batch.records:
            self._record(dossier, record, source)

    def book_late(self, dossier: Dossier, batch: Batch, source: Source) -> None:
        """Take a batch that was passed over: deltas replace their spans of bridges, its epochs are learnt."""
        self._spans.clear()
        for said in batch.in_effect_order():
            item = self._joining.translated(dossier, said, source)
            if item is None:
                continue
            if isinstance(item, Delta):
                self._store.run(
                    "INSERT OR IGNORE INTO held"
                    " (agent_id, meter, epoch, n, state, reason, delta, descriptor_id, batch_id)"
                    " VALUES (?, ?, ?, ?, 'held', 'late', ?, ?, ?)",
                    (
                        *_identity(dossier, item),
                        json.dumps(item.to_payload()),
                        source.descriptor_id,
                        source.batch_id,
                    ),
                )
                self.save_spans()
                self.release(dossier, item.meter, item.epoch, item.n, source.now_ms)
            elif item.type == "epoch":
                self._joining.learn(dossier, item.text("meter"), item, source)
            else:
                self.events.take(dossier, item, source)
        self.save_spans()
        dossier.save_meters(dossier.meters)

    # ------------------------------------------------------------------------------------------------ deltas

    def _delta(self, dossier: Dossier, delta: Delta, source: Source) -> None:
        description = self.description(dossier, delta.meter, source)
        x = dossier.meters.get(delta.meter)
        if x is None:
            delta = self._opening_relabelled(dossier, delta, source)
            x = self.open_epoch(
                dossier, delta.meter, delta.epoch, delta.n - 1, delta.reg_start, delta.start_ms
            )
            x.describe(description)
            if (delta.epoch, delta.n) != (1, 1):
                text = f"its first delta here is {delta.n} of epoch {delta.epoch}; what came before it is not here"
                self.say(dossier, "epoch", f"{delta.meter}/{delta.epoch}", text, source)
        elif (delta.epoch, delta.n) <= (x.epoch, x.n):
            self._repeated(dossier, delta, source)
            return
        elif delta.epoch > x.epoch:
            if not self._joining.is_behind_hole(dossier, delta.meter):
                text = (
                    f"epoch {delta.epoch} began without its event; what was used in between is not declared"
                )
                self.say(dossier, "epoch", f"{delta.meter}/{delta.epoch}", text, source)
            x = self.open_epoch(
                dossier, delta.meter, delta.epoch, delta.n - 1, delta.reg_start, delta.start_ms
            )
            x.describe(description)
        reason = self._doubt(dossier, delta, x, description)
        self._watch(dossier, delta, x, description, source)
        if delta.start_ms == x.end_ms and delta.n == x.booked_n + 1:
            delta = replace(delta, start_ms=x.booked_end_ms)  # where a `clock` event has moved it
        x.n, x.register, x.end_ms = delta.n, delta.reg_end, delta.end_ms
        x.describe(description)
        if reason is None and not self._bridge(dossier, delta.meter, x, delta, source):
            reason = f"begins at {delta.reg_start}, below the {x.booked_register} already booked"
        if reason is not None:
            self._hold(dossier, delta, reason, source)
            return
        self._append(dossier, _span_of(delta, x.booked_position), x, source)

    def _opening_relabelled(self, dossier: Dossier, delta: Delta, source: Source) -> Delta:
        """A meter's first delta; its opening register may have been read by a clock that was set since."""
        if "clock" not in delta.q:
            return delta
        offsets = offsets_of(self._store, dossier.agent_id, source.chain)
        return replace(delta, start_ms=opening_ms(delta.start_ms, delta.end_ms, offsets))

    def _doubt(
        self, dossier: Dossier, delta: Delta, x: Standing, description: MeterDescription | None
    ) -> str | None:
        """Why a delta cannot be booked as it stands (V1, V2, the operator's rule), None if it can."""
        broken = broken_rules(delta, description.modulus if description else x.modulus)
        if not self._joins(dossier, delta, x):
            if delta.n != x.n + 1:
                broken.append(f"n {delta.n} does not follow {x.n}")
            if delta.reg_start != x.register:
                broken.append(f"reg_start {delta.reg_start} is not the {x.register} of the delta before")
        if not broken and self._quarantine is not None and (reason := self._quarantine(delta)) is not None:
            broken.append(reason)
        return "; ".join(broken) or None

    def _joins(self, dossier: Dossier, delta: Delta, x: Standing) -> bool:
        """Whether a delta begins where the one before ended, or behind batches that were passed over."""
        if (delta.n, delta.reg_start) == (x.n + 1, x.register):
            return True
        return delta.n > x.n + 1 and self._joining.is_behind_hole(dossier, delta.meter)

    def _watch(
        self,
        dossier: Dossier,
        delta: Delta,
        x: Standing,
        description: MeterDescription | None,
        source: Source,
    ) -> None:
        """Findings that change no energy: times that do not join, a ratio that changed inside an epoch."""
        if delta.start_ms != x.end_ms and delta.n == x.n + 1:
            text = f"delta {delta.n} begins at {delta.start_ms} ms, the one before ended at {x.end_ms} ms"
            self.say(dossier, "time", f"{delta.meter}/{delta.epoch}", text, source)
        if description is not None and delta.step != description.step:
            text = f"delta {delta.n} says step {delta.step}, the descriptor says {description.step}"
            self.say(dossier, "step", f"{delta.meter}/{delta.epoch}", text, source)
        was, known = (x.num, x.den, x.modulus), description is not None and x.n > 0
        if known and description and was != (description.num, description.den, description.modulus):
            text = f"ratio or modulus changed at delta {delta.n} without a new epoch"
            self.say(dossier, "epoch", f"{delta.meter}/{delta.epoch}", text, source)

    def _repeated(self, dossier: Dossier, delta: Delta, source: Source) -> None:
        text = (
            f"delta {delta.n} of epoch {delta.epoch} came again in {source.chain}/{source.seq} as"
            f" {json.dumps(delta.to_payload())}; it was not booked"
        )
        self.say(dossier, "repeat", f"{delta.meter}/{delta.epoch}/{delta.n}", text, source)

    def _hold(self, dossier: Dossier, delta: Delta, reason: str, source: Source) -> None:
        self._store.run(
            "INSERT INTO held (agent_id, meter, epoch, n, state, reason, delta, descriptor_id, batch_id)"
            " VALUES (?, ?, ?, ?, 'held', ?, ?, ?, ?)",
            (
                *_identity(dossier, delta),
                reason,
                json.dumps(delta.to_payload()),
                source.descriptor_id,
                source.batch_id,
            ),
        )
        self.say(dossier, "held", f"{delta.meter}/{delta.epoch}/{delta.n}", reason, source)

    def open_epoch(
        self, dossier: Dossier, meter: str, epoch: int, n: int, register: int, at_ms: int
    ) -> Standing:
        """A meter's first epoch, or its next: the opening register is what everything after it is measured from."""
        self._store.run(
            "INSERT INTO epochs (agent_id, meter, epoch, opening, opening_ms) VALUES (?, ?, ?, ?, ?)",
            (dossier.agent_id, meter, epoch, register, at_ms),
        )
        before, x = dossier.meters.get(meter), Standing.opening(epoch, n, register, at_ms)
        if before is not None:
            x.num, x.den, x.modulus, x.serial = before.num, before.den, before.modulus, before.serial
        dossier.meters[meter] = x
        return x

    # ----------------------------------------------------------------------------------------------- bridges

    def _bridge(self, dossier: Dossier, meter: str, x: Standing, to: Delta, source: Source) -> bool:
        """Close the span between what is booked and the delta that follows; False where registers cannot say it."""
        where = to.reg_start, to.n - 1, to.start_ms
        return self.close_span(dossier, meter, x, *where, source, ends_in_delta=True)

    def close_span(
        self,
        dossier: Dossier,
        meter: str,
        x: Standing,
        register: int,
        n_last: int,
        end_ms: int,
        source: Source,
        *,
        ends_in_delta: bool = False,
    ) -> bool:
        energy, roll = register - x.booked_register, 0
        if energy < 0:
            # A little lower, and read before the books end: no rollover, but another copy of the journal.
            if end_ms > x.booked_end_ms or -energy > (x.modulus or 0) // 2:
                roll = self._known_roll(dossier, meter, x, n_last)
            energy += roll
        if energy < 0:
            return False
        if energy == 0 and n_last == x.booked_n:
            return True
        span = Span(
            meter, x.epoch, x.booked_n + 1, n_last, "bridge", x.booked_position, x.booked_register, register,
            roll, energy, x.booked_end_ms, end_ms, "gap",
        )  # fmt: skip
        under = self._joining.under_its_map(dossier, span, source, ends_in_delta=ends_in_delta)
        self._append(dossier, span, x, under)
        return True

    def _known_roll(self, dossier: Dossier, meter: str, x: Standing, n_last: int) -> int:
        """The modulus, if the span rolled over for certain: a held delta says so, or it lies in a hole.

        Within an epoch a register falls only by a rollover, so behind batches that were passed over a lower register
        says it too; the next balance would tell of more than one. Else 0, nothing is guessed.
        """
        if n_last > x.booked_n and self._joining.is_behind_hole(dossier, meter):
            return x.modulus or 0
        held = self._store.rows(
            "SELECT delta FROM held WHERE agent_id = ? AND meter = ? AND epoch = ? AND n BETWEEN ? AND ?",
            (dossier.agent_id, meter, x.epoch, x.booked_n + 1, n_last),
        )
        rolls = {json.loads(row[0]).get("roll", 0) for row in held}
        return x.modulus if x.modulus is not None and x.modulus in rolls else 0

    def _append(self, dossier: Dossier, span: Span, x: Standing, source: Source) -> None:
        """Book a span that begins where the booked energy ends."""
        assert span.position == x.booked_position
        assert span.reg_start == x.booked_register
        self.insert(dossier, span, source.descriptor_id, source.batch_id)
        x.booked_n, x.booked_register, x.booked_end_ms = span.n_last, span.reg_end, span.end_ms
        x.booked_position += span.energy

    def insert(self, dossier: Dossier, span: Span, descriptor_id: int, batch_id: int) -> None:
        self._spans.append(
            (
                dossier.agent_id, span.meter, span.epoch, span.n_first, span.n_last, span.kind, span.position,
                span.reg_start, span.reg_end, span.roll, span.energy, span.start_ms, span.end_ms, span.q,
                descriptor_id, batch_id,
            )
        )  # fmt: skip

    def save_spans(self) -> None:
        self._store.run_many(
            "INSERT INTO booked (agent_id, meter, epoch, n_first, n_last, kind, position, reg_start, reg_end, roll,"
            " energy, start_ms, end_ms, q, descriptor_id, batch_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            self._spans,
        )
        self._spans.clear()

    # ----------------------------------------------------------------------------------------------- release

    def release(self, dossier: Dossier, meter: str, epoch: int, n: int, now_ms: int) -> Release:
        """An operator lets a held delta go: it replaces exactly its span of a bridge, or stays evidence."""
        row = self._store.first(
            "SELECT delta, descriptor_id, batch_id FROM held"
            " WHERE agent_id = ? AND meter = ? AND epoch = ? AND n = ? AND state = 'held'",
            (dossier.agent_id, meter, epoch, n),
        )
        if row is None:
            return Release.UNKNOWN
        delta = Delta.from_payload(json.loads(row[0]))
        self._spans.clear()
        outcome = self._place_released(dossier, delta, Source(row[2], row[1], "", "", 0, now_ms))
        self.save_spans()
        if outcome is not Release.WAITS:
            state = "released" if outcome is Release.BOOKED else "evidence"
            self._store.run(
                "UPDATE held SET state = ? WHERE agent_id = ? AND meter = ? AND epoch = ? AND n = ?",
                (state, dossier.agent_id, meter, epoch, n),
            )
        return outcome

    def _place_released(self, dossier: Dossier, delta: Delta, source: Source) -> Release:
        if delta.delta != delta.reg_end - delta.reg_start + (delta.roll or 0):
            return Release.EVIDENCE
        bridge = self._store.first(
            "SELECT booked_id, descriptor_id, batch_id, n_first, n_last, position, reg_start, reg_end, roll, energy,"
            " start_ms, end_ms FROM booked WHERE agent_id = ? AND meter = ? AND epoch = ? AND kind = 'bridge'"
            " AND ? BETWEEN n_first AND n_last",
            (dossier.agent_id, delta.meter, delta.epoch, delta.n),
        )
        if bridge is not None:
            return self._split(dossier, delta, bridge[:3], _bridge_span(delta, bridge[3:]), source)
        x = dossier.meters[delta.meter]
        if x.epoch != delta.epoch or delta.n <= x.booked_n:
            return Release.EVIDENCE
        if not self._bridge(dossier, delta.meter, x, delta, source):
            return Release.WAITS
        self._append(dossier, _span_of(delta, x.booked_position), x, source)
        dossier.save_meters([delta.meter])
        return Release.BOOKED

    def _split(
        self, dossier: Dossier, delta: Delta, ids: tuple[int, int, int], bridge: Span, source: Source
    ) -> Release:
        """Replace the delta's own part of a bridge; what is left of it on either side stays a bridge."""
        offset = delta.reg_start - bridge.reg_start
        if offset < 0:
            offset += bridge.roll
        rest = bridge.energy - offset - delta.delta
        rest_roll = rest - (bridge.reg_end - delta.reg_end)
        if offset < 0 or rest < 0 or rest_roll not in (0, bridge.roll):
            return Release.EVIDENCE
        middle = _span_of(delta, bridge.position + offset)
        left = replace(
            bridge, n_last=delta.n - 1, reg_end=delta.reg_start, end_ms=delta.start_ms, energy=offset,
            roll=offset - (delta.reg_start - bridge.reg_start),
        )  # fmt: skip
        right = replace(
            bridge, n_first=delta.n + 1, reg_start=delta.reg_end, start_ms=delta.end_ms, energy=rest,
            roll=rest_roll, position=middle.position + middle.energy,
        )  # fmt: skip
        self._store.run("DELETE FROM booked WHERE booked_id = ?", (ids[0],))
        self.insert(dossier, middle, source.descriptor_id, source.batch_id)
        for part in (left, right):
            if part.energy or part.n_first <= part.n_last:
                self.insert(dossier, part, *ids[1:])
        return Release.BOOKED

    # ------------------------------------------------------------------------------------------------- rest

    def _record(self, dossier: Dossier, record: dict[str, object], source: Source) -> None:
        """Imported records are kept by (kind, key, rev); the same one twice changes nothing."""
        self._store.run(
            "INSERT OR IGNORE INTO records (agent_id, kind, key, rev, body, batch_id) VALUES (?, ?, ?, ?, ?, ?)",
            (
                dossier.agent_id,
                record["kind"],
                record["key"],
                record["rev"],
                json.dumps(record, ensure_ascii=False),
                source.batch_id,
            ),
        )

    def description(self, dossier: Dossier, meter: str, source: Source) -> MeterDescription | None:
        meters = dossier.descriptions(source.descriptor_id)
        if meters is None:
            text = "a batch names a descriptor that its chain has not carried"
            self.say(dossier, "descriptor", f"{source.descriptor_id}", text, source)
            return None
        if meter not in meters:
            text = f"the descriptor in force does not describe meter {meter}"
            self.say(dossier, "descriptor", f"{source.descriptor_id}/{meter}", text, source)
        return meters.get(meter)

    def say(self, dossier: Dossier, kind: str, subject: str, text: str, source: Source) -> None:
        self._alarms.say((dossier.org, dossier.agent), kind, subject, text, source.now_ms)


def _identity(dossier: Dossier, delta: Delta) -> tuple[int, str, int, int]:
    return dossier.agent_id, delta.meter, delta.epoch, delta.n


def _span_of(delta: Delta, position: int) -> Span:
    roll = delta.roll or 0
    return Span(
        delta.meter, delta.epoch, delta.n, delta.n, "delta", position, delta.reg_start, delta.reg_end, roll,
        delta.delta, delta.start_ms, delta.end_ms, " ".join(delta.q),
    )  # fmt: skip


def _bridge_span(delta: Delta, columns: tuple[int, ...]) -> Span:
    n_first, n_last, position, reg_start, reg_end, roll, energy, start_ms, end_ms = columns
    return Span(
        delta.meter, delta.epoch, n_first, n_last, "bridge", position, reg_start, reg_end, roll, energy, start_ms,
        end_ms, "gap",
    )  # fmt: skip
