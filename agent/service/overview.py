"""What the running agent knows of itself, as plain values: lines, meters, journal, platform, clock, certificates.

Made when it is asked for; nothing here is kept or changed. The control socket gives it to `metering-agent status`, the
web endpoints make metrics of it, and `advice` says what in it needs attention. Energies are integers of 0.001 Wh
(`_milliwh`), beside them as kWh text for people; times are UTC Unix ms, ages and lengths ms.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from agent.metering.decode import NoValue
from agent.metering.ledger import Head
from agent.metering.memory import Memory, Order
from agent.metering.plant import Line, Meter, Transport
from agent.metering.quantity import format_kwh
from agent.service.advice import advise
from agent.service.boundary import Boundary
from agent.service.close import NotBooked
from agent.service.dialogue import Dialogue, Position, position_of
from agent.service.inspecting import Inspector
from agent.service.journal import Journal, Storage
from agent.service.poll import LineWorker
from agent.service.ports import Clock
from agent.service.premises import About, Surroundings
from agent.service.publish import Publisher
from agent.service.signing import KeyStanding
from agent.service.watch import TOLERATED_FAILURES, LiveValue, Mark, Watch

LATE_MS = 30_000
"""So much longer than two intervals may the last reading be ago before a meter counts as late."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class _Gates:
    """What the gates remember and what persons have said, by meter."""

    memories: Mapping[str, Memory]
    orders: Mapping[str, Order]

    def returned_ms(self, meter: str) -> int | None:
        """Since when it is not proved that it is the same meter; None where nothing is in doubt."""
        return self.memories.get(meter, Memory()).returned_ms

    def order(self, meter: str) -> dict[str, object] | None:
        """What a person has noted and no boundary has carried out."""
        order = self.orders.get(meter)
        if order is None:
            return None
        return {"kind": order.kind, "by": order.by, "noted_ms": order.noted_ms, "confirmed": order.confirmed}


class Overview:
    """Answers how the agent is."""

    def __init__(
        self,
        about: About,
        look: Callable[[], Surroundings],
        workers: Sequence[LineWorker],
        boundary: Boundary,
        dialogue: Dialogue,
        publisher: Publisher,
        storage: Storage,
        clock: Clock,
        inspector: Inspector | None = None,
    ) -> None:
        """`look` is called in the journal's thread, because it touches the disk."""
        self._inspector = inspector
        self._about = about
        self._look = look
        self._workers = workers
        self._boundary = boundary
        self._dialogue = dialogue
        self._publisher = publisher
        self._storage = storage
        self._clock = clock

    async def now(self) -> dict[str, object]:
        """Everything at this moment, with what needs attention as `problems`, the gravest first."""
        position, heads, gates, around = await self._storage.run(self._gather)
        said = {
            **self._of_the_agent(),
            "clock": self._of_the_clock(),
            "lines": [line_overview(worker) for worker in self._workers],
            "meters": [
                self._meter(worker, watch, heads.get(watch.meter.id), gates)
                for worker in self._workers
                for watch in worker.watches.values()
            ],
            "boundary": self._of_the_boundary(),
            "journal": self._of_the_journal(position, around),
            "platform": self._of_the_platform(),
            "certificates": [
                {**asdict(certificate), "days_left": _days(certificate.not_after_ms, self._clock.wall_ms())}
                for certificate in around.certificates
            ],
            "web": {"listen": self._about.web_listen, "problem": around.web_problem},
            "signing_key": self._of_the_key(position.keys),
        }
        said["problems"] = [problem.as_json() for problem in advise(said)]
        return said

    def _gather(self, journal: Journal) -> tuple[Position, Mapping[str, Head], "_Gates", Surroundings]:
        gates = _Gates(journal.memories(), journal.orders())
        return position_of(journal), journal.heads(), gates, self._look()

    def _of_the_agent(self) -> dict[str, object]:
        about = self._about
        return {
            "at_ms": self._clock.wall_ms(),
            "org": about.org,
            "agent": about.agent,
            "sw": about.sw,
            "site": {"path": about.site_path, "sha256": about.site_sha256},
            "started_ms": about.started_ms,
            "uptime_ms": self._age_ms(about.started_ns),
            "interval_ms": about.interval_ms,
        }

    def _of_the_clock(self) -> dict[str, object]:
        quality = self._clock.quality()
        return {"sync": quality.sync, "err_ms": quality.err_ms}

    def _of_the_boundary(self) -> dict[str, object]:
        boundary, now_ms = self._boundary, self._clock.wall_ms()
        skipped_ms = boundary.last_skipped_ms
        return {
            "last_cut_ms": boundary.last_cut_ms,
            "age_ms": None if boundary.last_cut_ms is None else max(0, now_ms - boundary.last_cut_ms),
            "cuts": boundary.cuts,
            "length_ms": boundary.length_ms,
            "skipped": boundary.skipped,
            "skipped_recently": skipped_ms is not None and 0 <= now_ms - skipped_ms <= HOUR_MS,
            "problem": boundary.last_error,
        }

    def _of_the_journal(self, position: Position, around: Surroundings) -> dict[str, object]:
        state, backlog, now_ms = position.state, position.backlog, self._clock.wall_ms()
        return {
            "path": self._about.journal_path,
            "bytes": around.journal_bytes,
            "budget_bytes": self._about.budget_bytes,
            "free_bytes": around.free_bytes,
            "standing": state.standing.value,
            "chain": state.chain,
            "seq": state.seq,
            "hash": state.hash,
            "acknowledged": None
            if state.acked is None
            else {"chain": state.acked.chain, "seq": state.acked.seq, "stored_ms": state.acked_at_ms},
            "sound_ms": None if self._inspector is None else self._inspector.sound_ms,
            "backlog_batches": backlog.batches,
            "backlog_milliwh": backlog.energy_milliwh,
            "backlog_kwh": format_kwh(backlog.energy_milliwh),
            "backlog_since_ms": backlog.since_ms,
            "backlog_age_ms": None if backlog.since_ms is None else max(0, now_ms - backlog.since_ms),
        }

    def _of_the_platform(self) -> dict[str, object]:
        about, dialogue, publisher = self._about, self._dialogue, self._publisher
        rejected_ns = dialogue.last_rejected_ns
        return {
            "audience": about.audience,
            "broker": about.broker_url,
            "by_stick": about.by_stick,
            "acknowledgement": about.mode,
            "connected": dialogue.connection_problem is None,
            "for_ms": self._age_ms(dialogue.connection_since_ns),
            "connections": dialogue.connections,
            "problem": dialogue.connection_problem or publisher.refusal,
            "refusal": publisher.refusal,
            "published": publisher.published,
            "last_acknowledged_ms": dialogue.last_acknowledged_ms,
            "rejected_messages": dialogue.rejected,
            "rejected_recently": rejected_ns is not None and self._age_ms(rejected_ns) <= HOUR_MS,
        }

    def _of_the_key(self, keys: KeyStanding) -> dict[str, object]:
        """The key in force, the other one that the site file names, and how far a rotation has come.

        `rotation` is None, `due` (the next key takes over soon), `sealed` (it signs, and the platform has not
        acknowledged that yet), `done` (the site file may name it alone) or `over` (it names the old one as the next).
        """
        about, kid = self._about, keys.kid or self._about.kid
        other = about.next_kid if kid == about.kid else about.kid
        rotation = None
        if about.next_kid is not None and kid == about.kid:
            rotation = "over" if other == keys.former and keys.rotated is not None else "due"
        elif about.next_kid is not None:
            rotation = "done" if keys.acknowledged else "sealed"
        return {"kid": kid, "alg": about.alg, "other": other if rotation else None, "rotation": rotation}

    def _meter(
        self, worker: LineWorker, watch: Watch, head: Head | None, gates: "_Gates"
    ) -> dict[str, object]:
        meter = watch.meter
        kept_out = self._boundary.not_booked.get(meter.id)
        age_ms = None if watch.sampled_ns is None else self._age_ms(watch.sampled_ns)
        flags = self._boundary.flags.get(meter.id, ())
        return {
            "meter": meter.id,
            "line": worker.line.id,
            "address": meter.address,
            "profile": meter.profile.id,
            "steps": {share.step: str(share.part) for share in meter.shares} or meter.role.value,
            "serial": watch.serial or meter.serial,
            "quality": self._quality(worker, watch, age_ms, kept_out, flags),
            "flags": list(flags),
            "age_ms": age_ms,
            "booked": None if head is None else _booked(head),
            "not_booked": None if kept_out is None else _not_booked(kept_out),
            "ratio": _ratio(watch),
            "returned_ms": gates.returned_ms(meter.id),
            "order": gates.order(meter.id),
            "reads": watch.reads,
            "failed_reads": watch.failed_reads,
            "errors": dict(watch.errors),
            "failures": watch.failures,
            "problem": watch.last_error or (kept_out.reason if kept_out is not None else None),
            "live": {name: _live(meter, value) for name, value in watch.live.items()},
        }

    def _quality(
        self,
        worker: LineWorker,
        watch: Watch,
        age_ms: int | None,
        kept_out: NotBooked | None,
        flags: Sequence[str],
    ) -> str:
        """One word: good, or the gravest of what is wrong."""
        patience_ms = 2 * self._about.interval_ms + LATE_MS
        if kept_out is not None:
            return kept_out.kind
        if not worker.health.open:
            return "line down"
        if watch.failures >= TOLERATED_FAILURES:
            return "dark" if watch.meter.powered_by_circuit else "silent"
        if age_ms is None:
            return "silent" if self._age_ms(self._about.started_ns) > patience_ms else "waiting"
        if age_ms > patience_ms:
            return "dark" if watch.meter.powered_by_circuit else "late"
        return "suspect" if "suspect" in flags or "rate" in flags else "good"

    def _age_ms(self, since_ns: int) -> int:
        return max(0, self._clock.monotonic_ns() - since_ns) // 1_000_000


def line_overview(worker: LineWorker) -> dict[str, object]:
    """One line, as far as its worker knows it."""
    health, watches = worker.health, worker.watches.values()
    now, oldest = worker.mark(), health.marks[0]
    errors: Counter[str] = sum((watch.errors for watch in watches), Counter())
    return {
        "line": worker.line.id,
        "transport": worker.line.transport.value,
        "place": _place(worker.line),
        "open": health.open,
        "outages": health.outages,
        "problem": health.last_error,
        "meters": len(worker.watches),
        "meters_answering": sum(
            1 for watch in watches if watch.sampled_ns is not None and not watch.failures
        ),
        "reads": sum(watch.reads for watch in watches),
        "failed_reads": sum(watch.failed_reads for watch in watches),
        "errors": dict(errors),
        "busy_ms": health.busy_ns // 1_000_000,
        "observed_ms": (now.at_ns - health.began_ns) // 1_000_000,
        "recent": _recent(oldest, now),
        "diagnoses": [
            {"cause": each.cause.value, "evidence": each.evidence, "remedy": each.remedy}
            for each in worker.hearing.diagnoses()
        ],
        "echoes": worker.hearing.echoes,
        "floods": worker.hearing.floods,
        "last_sweep_ms": None if health.last_sweep_ns is None else health.last_sweep_ns // 1_000_000,
        "rounds_skipped": health.rounds_skipped,
        "sweeps_skipped": health.sweeps_skipped,
    }


def _recent(oldest: Mark, now: Mark) -> dict[str, object]:
    """What happened on a line of late: the share of time in use in thousandths, requests and damaged answers."""
    length_ns = now.at_ns - oldest.at_ns
    busy_ns = min(length_ns, now.busy_ns - oldest.busy_ns)
    return {
        "for_ms": length_ns // 1_000_000,
        "busy_permille": 1000 * busy_ns // length_ns if length_ns else 0,
        "requests": now.reads - oldest.reads,
        "damaged": now.damaged - oldest.damaged,
    }


def _place(line: Line) -> str:
    if line.transport is Transport.RS485:
        return line.device or ""
    return f"{line.host}:{line.port}"


def _ratio(watch: Watch) -> dict[str, str] | None:
    """A ratio that the meter has otherwise than the site file."""
    found = watch.other_ratio()
    return (
        None
        if found is None
        else dict(zip(("register", "at_meter", "in_site"), map(str, found), strict=True))
    )


def _booked(head: Head) -> dict[str, object]:
    """The last register that is in the ledger."""
    return {
        "register_milliwh": head.register_milliwh,
        "register_kwh": format_kwh(head.register_milliwh),
        "at_ms": head.at_ms,
        "epoch": head.epoch,
        "n": head.n,
    }


def _not_booked(reading: NotBooked) -> dict[str, object]:
    """The last reading that was kept out of the ledger."""
    register = reading.register_milliwh
    return {
        "kind": reading.kind,
        "reason": reading.reason,
        "words": [f"{word:04X}" for word in reading.words],
        "register_kwh": None if register is None else format_kwh(register),
        "at_ms": reading.at_ms,
    }


def _live(meter: Meter, live: LiveValue) -> str | None:
    """A value on the primary side, in its unit, as decimal text; None where the meter gives none."""
    if isinstance(live.value, NoValue):
        return None
    if isinstance(live.value, str):
        return live.value
    value = live.value * live.register.per_count * meter.transformer_ratio(live.register)
    thousandths = round(value * 1000)
    sign = "-" if thousandths < 0 else ""
    whole, rest = divmod(abs(thousandths), 1000)
    return f"{sign}{whole}.{rest:03d} {live.register.unit}"


def _days(until_ms: int | None, now_ms: int) -> int | None:
    """Whole days until a time, negative after it."""
    return None if until_ms is None else (until_ms - now_ms) // (24 * HOUR_MS)
