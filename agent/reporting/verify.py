"""The auditor's reading of an export: one JWS a line, four verdicts, totals by meter and step.

Streaming: a line is judged and forgotten. Memory grows with meters, descriptors, chains and epochs, never with the
number of batches. Descriptors, batches and acknowledgements may be mixed in any sensible order; batches have to stand
in the order of their chain (a descriptor may also stand in its `descriptor` events only).

Every batch is judged even where an earlier one was missing or forged, so that one fault shows as one finding in the
verdict it belongs to. Before this comes an export of the journal or of the platform, after it `metering-agent verify`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction

from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.adjustment import Run
from agent.reporting.attribution import Part, attribution
from agent.reporting.batch import FLAGS, Batch, Delta
from agent.reporting.conservation import Books
from agent.reporting.continuity import WINDOW, Continuity
from agent.reporting.correcting import Correcting
from agent.reporting.descriptor import Assembly, Descriptor, MeterDescription
from agent.reporting.envelope import EnvelopeError, KeyRing, Opened, UnparsablePayload
from agent.reporting.event import KNOWN_TYPES, Event
from agent.reporting.keystandings import Admit, KeyStandings
from agent.reporting.runs import Runs
from agent.reporting.toldtimes import ToldTimes
from agent.reporting.utc import text_of_ms
from agent.reporting.verdict import Findings, Holes, Report
from agent.reporting.wire import WireError

LINE_BYTES_MAX = max(envelope.SIZE_MAX.values())
"""No line of an export is longer."""

PARENT_TOLERANCE = Fraction(3, 100)
"""How far the children may exceed their parent before it is worth a look: two class 1 meters and their transformers."""

REMARKS_MAX = 10_000
"""Remarks on quality that are kept: every gap and suspect interval of a bad year; more are counted."""

_WORTH_A_LOOK = {
    "gap": "spans missed boundary readings; the energy is exact, its profile in time is not known",
    "suspect": "a refused reading lies inside",
    "rate": "booked above the rated power after three consistent readings",
    "sub": "a substitute that a person entered",
    "clock": "its times are doubtful, its energy is not",
}
"""Flags of which every stretch of deltas is reported; the other known flags are counted."""


class _Map:
    """A descriptor, ready to be asked."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.meters = descriptor.by_meter()
        self.parts = attribution(descriptor)


class Verifier:
    """Judges an export line by line."""

    def __init__(
        self,
        keys: KeyRing,
        ack_keys: KeyRing | None = None,
        *,
        descriptors: Iterable[bytes] = (),
        admit: Admit | None = None,
        excerpt: bool = False,
        revoked: Mapping[str, tuple[str, int]] | None = None,
        window: int = WINDOW,
        runs: Iterable[Run] | None = None,
    ) -> None:
        """Begin a verification.

        Args:
            keys: the agent's public keys that a person vouches for.
            ack_keys: the platform's; without them acknowledgements are counted and believed nothing of.
            descriptors: compact JWS that are known beforehand, for an export that begins in mid-chain.
            admit: makes a ring of a rotated key; without it a rotation cannot be followed.
            excerpt: the file is declared to begin in mid-chain, so that its beginning is no finding.
            revoked: keys that an operator ended, by their kid: valid for a chain up to a seq.
            window: batches whose hash is remembered.
            runs: what `announced` found in the same file; None where it could be read only once, and adjusted energy
                is not computed.
        """
        self._keys = KeyStandings(keys, admit, revoked or {})
        self._ack_keys = ack_keys
        self._signature, self._chain = Findings(), Findings()
        self._conservation, self._quality = Findings(), Findings(REMARKS_MAX)
        self._runs = Runs(self._quality)
        self._continuity = Continuity(self._chain, excerpt=excerpt, window=window)
        self._books = Books(self._conservation, self._quality)
        self._owner: tuple[str, str, str] | None = None
        self._maps: dict[str, _Map] = {}
        self._assembly = Assembly()
        self._last_rev: tuple[str, int, str] | None = None
        self._steps: dict[str | None, Fraction] = {}
        self._correcting = Correcting(self._books, self._conservation, self._quality, runs)
        self._latest: _Map | None = None
        self._times = ToldTimes()
        self._period: tuple[int, int] | None = None
        self._spans: dict[str, tuple[int, int]] = {}
        self._flags: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._holes = Holes(0, 0, 0)
        for jws in descriptors:
            self._take_given(jws)

    # ------------------------------------------------------------------------------------------------------- lines

    def feed(self, line_no: int, line: bytes) -> None:
        """Judge one line; `line_no` counts from 1. Blank lines are ignored, never raises for what a line holds."""
        jws = line.strip(b"\r\n\t ")
        if not jws:
            return
        try:
            typ = envelope.typ_of(jws)
            opened = self._open(jws, typ)
        except UnparsablePayload as error:
            self._chain.add(
                line_no, f"message {error.hash}", f"validly signed, but {error.reason}; not placed"
            )
            return
        except EnvelopeError as error:
            self._signature.add(line_no, "message", str(error))
            return
        if opened is not None:
            self._read(line_no, opened)

    def _open(self, jws: bytes, typ: str) -> Opened | None:
        """Verify a line; None where it is an acknowledgement and nobody gave a key for it."""
        if typ != envelope.ACKNOWLEDGEMENT:
            return envelope.open_sealed(jws, typ, self._keys)
        if self._ack_keys is None:
            self._counts["acknowledgements unchecked"] += 1
            return None
        return envelope.open_sealed(jws, typ, self._ack_keys)

    def _take_given(self, jws: bytes) -> None:
        try:
            self._read_descriptor(0, envelope.open_sealed(jws.strip(), envelope.DESCRIPTOR, self._keys))
        except UnparsablePayload as error:
            self._chain.add(0, "descriptor given", error.reason)
        except EnvelopeError as error:
            self._signature.add(0, "descriptor given", str(error))
        except WireError as error:
            self._chain.add(0, "descriptor given", str(error))

    def _read(self, line: int, opened: Opened) -> None:
        try:
            if opened.typ == envelope.BATCH:
                self._read_batch(line, opened)
            elif opened.typ == envelope.DESCRIPTOR:
                self._read_descriptor(line, opened)
            elif opened.typ == envelope.ACKNOWLEDGEMENT:
                self._read_acknowledgement(line, opened)
        except WireError as error:
            self._chain.add(line, f"message {opened.hash}", f"validly signed, but {error}; not placed")

    def _read_descriptor(self, line: int, opened: Opened) -> None:
        descriptor = Descriptor.from_payload(opened.payload)
        if self._is_ours(line, descriptor.org, descriptor.agent):
            self._counts["descriptors"] += opened.hash not in self._maps
            self._maps[opened.hash] = _Map(descriptor)

    def _read_acknowledgement(self, line: int, opened: Opened) -> None:
        acknowledgement = Acknowledgement.from_payload(opened.payload)
        if self._is_ours(line, acknowledgement.org, acknowledgement.agent):
            self._counts["acknowledgements"] += 1
            self._continuity.acknowledge(line, acknowledgement)

    def _is_ours(self, line: int, org: str, agent: str, aud: str | None = None) -> bool:
        """Whether a message belongs to the gateway, and the platform, that the file began with."""
        if self._owner is None:
            self._owner = (org, agent, aud or "")
        if aud is not None and not self._owner[2]:
            self._owner = (*self._owner[:2], aud)
        if (org, agent, aud or self._owner[2]) == self._owner:
            return True
        text = f"belongs to {org}/{agent}, the file to {self._owner[0]}/{self._owner[1]}"
        self._chain.add(
            line, "message", text if aud is None else f"{text}; audience {aud}, the file's {self._owner[2]}"
        )
        return False

    # ----------------------------------------------------------------------------------------------------- batches

    def _read_batch(self, line: int, opened: Opened) -> None:
        batch = Batch.from_payload(opened.payload)
        if not self._is_ours(line, batch.org, batch.agent, batch.aud):
            return
        if self._continuity.is_known(batch, opened.hash):
            return
        over = self._keys.is_over(opened.kid, batch)
        if over is not None:
            self._signature.add(line, f"chain {batch.chain}, seq {batch.seq}", over)
            return
        if self._continuity.place(line, batch, opened.hash):
            self._book(line, batch, opened)

    def _book(self, line: int, batch: Batch, opened: Opened) -> None:
        self._counts["batches"] += 1
        self._times.take(batch)
        if self._counts["batches"] == 1:
            self._books.whole = not self._continuity.begins_in_the_middle
        self._check_first(line, batch)
        for event in batch.events:
            self._take_descriptor(line, batch, event)
        in_force = self._map_of(line, batch)
        for item in batch.in_effect_order():
            if isinstance(item, Delta):
                self._book_delta(line, item, in_force)
            else:
                self._book_event(line, item, batch, opened)

    def _check_first(self, line: int, batch: Batch) -> None:
        """The first batch of a chain is tied to the descriptor in force, which its own events begin to carry."""
        if batch.seq != 1:
            return
        carried = {event.text("hash") for event in batch.events if event.type == "descriptor"}
        if batch.prev not in carried and batch.prev not in self._maps:
            text = "its prev is not the hash of a descriptor that is known or that its events begin to carry"
            self._chain.add(line, f"chain {batch.chain}, seq 1", text)

    def _take_descriptor(self, line: int, batch: Batch, event: Event) -> None:
        """Put the parts of a descriptor together; the whole is a signed message of its own."""
        if event.type != "descriptor":
            return
        place = f"chain {batch.chain}, seq {batch.seq}, descriptor"
        try:
            jws = self._assembly.add(event)
            if jws is None:
                return
            opened = envelope.open_sealed(jws, envelope.DESCRIPTOR, self._keys)
            self._read_descriptor(line, opened)
        except (UnparsablePayload, WireError) as error:
            self._chain.add(line, place, str(error))
        except EnvelopeError as error:
            self._signature.add(line, place, str(error))
        else:
            self._check_revision(line, place, batch, opened.hash)

    def _check_revision(self, line: int, place: str, batch: Batch, hash_: str) -> None:
        """Descriptors are ordered by (chain, rev)."""
        if hash_ not in self._maps:
            return
        rev = self._maps[hash_].descriptor.rev
        last = self._last_rev
        if last is not None and last[0] == batch.chain and last[2] != hash_ and rev <= last[1]:
            self._chain.add(line, place, f"revision {rev} after revision {last[1]}")
        self._last_rev = (batch.chain, rev, hash_)

    def _map_of(self, line: int, batch: Batch) -> _Map | None:
        """The descriptor in force; only a batch with deltas needs it to be complete."""
        if not batch.deltas:
            return self._maps.get(batch.cfg)
        if batch.cfg not in self._maps:
            text = f"its descriptor {batch.cfg} is not in the file"
            self._chain.add(line, f"chain {batch.chain}, seq {batch.seq}", text)
            return None
        self._latest = self._maps[batch.cfg]
        return self._latest

    # ------------------------------------------------------------------------------------------ deltas and events

    def _book_delta(self, line: int, delta: Delta, in_force: _Map | None) -> None:
        self._counts["deltas"] += 1
        place = f"meter {delta.meter}, epoch {delta.epoch}, n {delta.n}"
        description = None if in_force is None else in_force.meters.get(delta.meter)
        if in_force is not None and description is None:
            self._conservation.add(line, place, "the descriptor in force does not know the meter")
        # Without a descriptor nothing can be said against the modulus.
        modulus = delta.roll if description is None else description.modulus
        if self._books.delta(line, delta, modulus):
            self._attribute(line, place, delta, in_force, description)
            self._widen(delta)
        self._judge_quality(line, place, delta, description)

    def _attribute(
        self, line: int, place: str, delta: Delta, in_force: _Map | None, description: MeterDescription | None
    ) -> None:
        parts: tuple[Part, ...] = (Part(delta.step, Fraction(1)),)
        if in_force is not None and description is not None:
            parts = in_force.parts[delta.meter]
            if delta.step != description.step:
                text = f"says step {delta.step}, the descriptor says {description.step}"
                self._conservation.add(line, place, text)
        for part in parts:
            self._steps[part.step] = self._steps.get(part.step, Fraction(0)) + part.part * delta.delta
        self._correcting.delta(delta, parts)

    def _widen(self, delta: Delta) -> None:
        """Let the period of the file and of the meter include the delta."""
        first, last = min(delta.start_ms, delta.end_ms), max(delta.start_ms, delta.end_ms)
        period = self._period or (first, last)
        self._period = (min(period[0], first), max(period[1], last))
        meter = self._spans.get(delta.meter, (first, last))
        self._spans[delta.meter] = (min(meter[0], first), max(meter[1], last))

    def _judge_quality(
        self, line: int, place: str, delta: Delta, description: MeterDescription | None
    ) -> None:
        """Flags, and rule V6 as far as one delta shows it."""
        self._flags.update(delta.q)
        remarks = [
            f"{flag}: {_WORTH_A_LOOK[flag]}" if flag in FLAGS else f"unknown flag {flag!r}, taken as suspect"
            for flag in delta.q
            if flag in _WORTH_A_LOOK or flag not in FLAGS
        ]
        if description is not None and "rate" not in delta.q and _exceeds_rating(delta, description):
            remarks.append(f"V6: more than {description.rated_w} W in its time")
        self._runs.take(line, delta, remarks)
        if delta.end_ms < delta.start_ms and "clock" not in delta.q:
            self._quality.add(line, place, "ends before it starts and has no flag clock")

    def _book_event(self, line: int, event: Event, batch: Batch, opened: Opened) -> None:
        self._events[event.type] += 1
        match event.type:
            case "epoch":
                self._books.epoch(line, event)
                self._declare_hole(line, event)
            case "balance":
                self._counts["balances unchecked"] += not self._books.balance(line, event)
            case "key-rotate":
                self._rotate(line, event, batch, opened)
            case "adjust" | "manual":
                self._correcting.event(line, event)
                self._quality.add(line, f"event {event.type}", _described(event))
            case "gap" | "refused" | "clock":
                self._quality.add(line, f"event {event.type}", _described(event))
            case unknown if unknown not in KNOWN_TYPES:
                self._quality.add(line, f"event {unknown}", "this version does not know it")

    def _declare_hole(self, line: int, event: Event) -> None:
        bound = event.body["bound"]
        known = bound if isinstance(bound, int) else 0
        self._holes = Holes(
            self._holes.count + 1,
            self._holes.bound_milliwh + known,
            self._holes.unbounded + (bound is None),
        )
        self._quality.add(line, "event epoch", _described(event))

    def _rotate(self, line: int, event: Event, batch: Batch, opened: Opened) -> None:
        try:
            self._keys.rotate(event, batch, opened)
        except ValueError as error:
            self._signature.add(line, f"chain {batch.chain}, seq {batch.seq}, key-rotate", str(error))

    # ------------------------------------------------------------------------------------------------------ result

    def report(self) -> Report:
        """The verdicts so far; may be asked at any time, and again."""
        chain, conservation, quality = self._chain.copy(), self._conservation.copy(), self._quality.copy()
        self._continuity.finish(chain)
        if self._assembly.unfinished is not None:
            chain.add(0, f"descriptor {self._assembly.unfinished}", "parts of it are missing")
        self._books.finish(conservation)
        self._runs.finish(quality)
        self._compare_parents(quality)
        org, agent, aud = self._owner or (None, None, None)
        return Report(
            signature=self._signature.verdict(),
            chain=chain.verdict(),
            conservation=conservation.verdict(),
            quality=quality.verdict(),
            org=org,
            agent=agent,
            aud=aud or None,
            batches=self._counts["batches"],
            duplicates=self._continuity.duplicates,
            deltas=self._counts["deltas"],
            descriptors=self._counts["descriptors"],
            acknowledgements=self._counts["acknowledgements"],
            acknowledgements_unchecked=self._counts["acknowledgements unchecked"],
            balances_unchecked=self._counts["balances unchecked"],
            acknowledged=self._continuity.acknowledged,
            chains=self._continuity.spans(),
            period_ms=self._period,
            by_meter=dict(sorted(self._books.totals.items())),
            by_step=dict(sorted(_named(self._steps))),
            unassigned=self._steps.get(None, Fraction(0)),
            holes=self._holes,
            flags=dict(sorted(self._flags.items())),
            events=dict(sorted(self._events.items())),
            corrections=self._correcting.result(self._books.totals, self._steps),
            relabelled=self._times.relabelled(),
            right_period_ms=self._times.right_period(),
        )

    def _compare_parents(self, quality: Findings) -> None:
        """Rule V6: children against their parent, where the parent was metered as long as they were."""
        if self._latest is None:
            return
        children: dict[str, list[str]] = {}
        for meter in self._latest.descriptor.meters:
            if meter.parent in self._latest.meters and meter.role not in ("generation", "export"):
                children.setdefault(meter.parent or "", []).append(meter.meter)
        for parent, below in children.items():
            self._compare_parent(quality, parent, [meter for meter in below if meter in self._spans])

    def _compare_parent(self, quality: Findings, parent: str, children: list[str]) -> None:
        span = self._spans.get(parent)
        if span is None or not children:
            return
        covered = all(
            span[0] <= self._spans[child][0] and self._spans[child][1] <= span[1] for child in children
        )
        total, sum_ = self._books.totals[parent], sum(self._books.totals[child] for child in children)
        if covered and sum_ > total * (1 + PARENT_TOLERANCE):
            quality.add(0, f"meter {parent}", f"V6: its children have {sum_} milli-Wh, it has {total}")


def _named(steps: Mapping[str | None, Fraction]) -> Iterable[tuple[str, Fraction]]:
    return ((step, energy) for step, energy in steps.items() if step is not None)


def _exceeds_rating(delta: Delta, meter: MeterDescription) -> bool:
    """Whether the energy needs more than the rated power, one step of the register allowed.

    W x ms / 3600 is 0.001 Wh. A float register has no resolution of its own: its step is its value over 2^23.
    """
    elapsed_ms = delta.end_ms - delta.start_ms
    if meter.rated_w is None or elapsed_ms <= 0:
        return False
    step = (delta.reg_end >> 22) + 1 if meter.resolution is None else meter.resolution
    return (delta.delta - step) * 3_600 > meter.rated_w * elapsed_ms


def _described(event: Event) -> str:
    """An event as a sentence for a person."""
    members = ", ".join(f"{name} {value}" for name, value in event.body.items())
    return f"{text_of_ms(event.at_ms)}: {members}"
