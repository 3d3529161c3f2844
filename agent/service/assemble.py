"""Putting the stages together, given the ports they need.

Knows no adapter: `agent.wiring` hands over the real ones, the simulated world its own, and both run the same stages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.metering import plant
from agent.metering.interval import DAY_MS, HOUR_MS
from agent.metering.plant import Meter
from agent.reporting.envelope import KeyRing
from agent.service.acknowledge import Acknowledger
from agent.service.boundary import Boundary
from agent.service.close import Closed, Closer
from agent.service.confirming import Confirming
from agent.service.dialogue import Dialogue
from agent.service.journal import Storage
from agent.service.poll import LineWorker
from agent.service.ports import Clock, Entropy, Line, Schedule, Signer, Uplink
from agent.service.publish import Publisher
from agent.service.restore import PIECE_READINGS, Restorer
from agent.service.retelling import Reteller
from agent.service.seal import Identity, Sealer
from agent.service.signing import Signers
from agent.service.supervise import Notifier, Stages


@dataclass(frozen=True, slots=True)
class Task:
    """What one agent has to do: for whom, which meters on which lines, how often, and who acknowledges.

    `mode` is `platform` or `broker`, `keep_days` how long acknowledged batches are kept, `boot` names this start of
    the machine, `piece_readings` is how many readings a restored chain tells in one transaction.
    """

    identity: Identity
    lines: Sequence[plant.Line]
    meters: Sequence[Meter]
    interval_ms: int
    keep_days: int
    mode: str
    boot: str
    piece_readings: int = PIECE_READINGS


@dataclass(frozen=True, slots=True)
class Ports:
    """The world as one agent sees it.

    `schedule` makes the schedule, given who is told of steps of the wall clock. `following` is the key that is to take
    over from `signer`, if one is.
    """

    lines: Mapping[str, Line]
    storage: Storage
    uplink: Uplink
    clock: Clock
    entropy: Entropy
    signer: Signer
    platform_keys: KeyRing
    schedule: Callable[[Callable[[int], None]], Schedule]
    notifier: Notifier
    following: Signer | None = None


def assemble(task: Task, ports: Ports) -> Stages:
    """Make the stages of one agent; nothing is started."""
    who, clock = task.identity, ports.clock
    signers = Signers(ports.signer, ports.following)
    sealer = Sealer(who, signers, ports.entropy, clock, boot=task.boot)
    publisher = Publisher(
        who, ports.storage, ports.uplink, clock, ports.entropy, broker_acknowledges=task.mode == "broker"
    )
    restorer = Restorer(task.meters, sealer, task.interval_ms, piece_readings=task.piece_readings)
    dialogue = Dialogue(
        who,
        signers,
        ports.platform_keys,
        ports.storage,
        ports.uplink,
        clock,
        Acknowledger(restorer, keep_days=task.keep_days),
        publisher,
        mode=task.mode,
    )

    confirming = Confirming(
        who, restorer, ports.platform_keys, ports.storage, dialogue, clock, mode=task.mode
    )

    def sealed(closed: Closed) -> None:
        publisher.wake()
        if closed.map_changed:
            dialogue.map_changed()

    workers = [_worker(line, task.meters, ports) for line in task.lines]
    balance_ms = HOUR_MS if task.mode == "broker" else DAY_MS
    closer = Closer(task.meters, sealer, task.interval_ms, balance_ms=balance_ms)
    boundary = Boundary(workers, closer, ports.storage, clock, task.interval_ms, sealed=sealed)
    return Stages(
        workers,
        boundary,
        dialogue,
        confirming,
        Reteller(restorer, ports.storage, clock, told=publisher.wake),
        publisher,
        ports.schedule(boundary.clock_stepped),
        ports.storage,
        ports.uplink,
        clock,
        ports.notifier,
        task.interval_ms,
    )


def _worker(line: plant.Line, meters: Sequence[Meter], ports: Ports) -> LineWorker:
    on_line = [meter for meter in meters if meter.line == line.id]
    return LineWorker(line, on_line, ports.lines[line.id], ports.clock)
