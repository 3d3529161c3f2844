"""What the running agent knows of itself, as plain values for the control socket: lines, meters, journal, platform.

Read-only and made when it is asked for; nothing here is kept.
"""

from collections.abc import Sequence

from agent.metering.decode import NoValue
from agent.metering.plant import Meter
from agent.metering.quantity import format_kwh
from agent.service.boundary import Boundary
from agent.service.dialogue import Dialogue, Position
from agent.service.poll import LineWorker, LiveValue, Watch
from agent.service.ports import Clock
from agent.service.publish import Publisher


def overview(
    workers: Sequence[LineWorker],
    boundary: Boundary,
    dialogue: Dialogue,
    publisher: Publisher,
    clock: Clock,
    position: Position,
) -> dict[str, object]:
    """Everything at this moment; energies in 0.001 Wh and as kWh text, ages in ms."""
    now_ns = clock.monotonic_ns()
    quality = clock.quality()
    return {
        "at_ms": clock.wall_ms(),
        "clock": {"sync": quality.sync, "err_ms": quality.err_ms},
        "lines": [_line(worker) for worker in workers],
        "meters": [
            _meter(worker, watch, boundary, now_ns) for worker in workers for watch in worker.watches.values()
        ],
        "boundary": {
            "last_cut_ms": boundary.last_cut_ms,
            "skipped": boundary.skipped,
            "problem": boundary.last_error,
        },
        "journal": _journal(position),
        "platform": {
            "connected": dialogue.connection_problem is None,
            "problem": dialogue.connection_problem or publisher.refusal,
            "last_acknowledged_ms": dialogue.last_acknowledged_ms,
            "rejected_messages": dialogue.rejected,
        },
    }


def _line(worker: LineWorker) -> dict[str, object]:
    health, watches = worker.health, worker.watches.values()
    return {
        "line": worker.line.id,
        "open": health.open,
        "problem": health.last_error,
        "meters": len(worker.watches),
        "meters_answering": sum(
            1 for watch in watches if watch.sampled_ns is not None and not watch.failures
        ),
        "reads": sum(watch.reads for watch in watches),
        "failed_reads": sum(watch.failed_reads for watch in watches),
        "last_sweep_ms": None if health.last_sweep_ns is None else health.last_sweep_ns // 1_000_000,
        "rounds_skipped": health.rounds_skipped,
    }


def _meter(worker: LineWorker, watch: Watch, boundary: Boundary, now_ns: int) -> dict[str, object]:
    held = None if boundary.last is None else boundary.last.held.get(watch.meter.id)
    return {
        "meter": watch.meter.id,
        "line": worker.line.id,
        "serial": watch.serial or watch.meter.serial,
        "age_ms": None if watch.sampled_ns is None else (now_ns - watch.sampled_ns) // 1_000_000,
        "failures": watch.failures,
        "problem": watch.last_error or held,
        "live": {name: _live(watch.meter, value) for name, value in watch.live.items()},
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


def _journal(position: Position) -> dict[str, object]:
    state, backlog = position.state, position.backlog
    return {
        "standing": state.standing.value,
        "chain": state.chain,
        "seq": state.seq,
        "acknowledged": None if state.acked is None else {"chain": state.acked.chain, "seq": state.acked.seq},
        "backlog_batches": backlog.batches,
        "backlog_kwh": format_kwh(backlog.energy_milliwh),
        "backlog_since_ms": backlog.since_ms,
    }
