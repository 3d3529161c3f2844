"""Starting, watching and stopping the stages.

The stages run side by side until somebody asks the agent to stop, or one of them fails in a way that only a new
process can put right (a damaged journal). A stop reads the meters once more, so that the last interval is not lost,
sends what it can in a few seconds, and marks the journal as left in good order.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.service.boundary import Boundary
from agent.service.confirming import Confirming
from agent.service.dialogue import Dialogue
from agent.service.inspecting import Inspector
from agent.service.journal import Journal, Standing, Storage
from agent.service.logline import pairs
from agent.service.poll import LineWorker
from agent.service.ports import Clock, Schedule, Uplink
from agent.service.publish import Publisher
from agent.service.pulse import TURN_S_MAX, PulseWatch
from agent.service.retelling import Reteller

log = logging.getLogger(__name__)

LAST_SWEEP_S = 5
LAST_SEND_S = 5
UNWATCHED_S = 60
"""Without a service manager that waits for us, frozen stages are looked for and named all the same."""


class Notifier(Protocol):
    """Tells the service manager how we are."""

    def ready(self) -> None:
        """Start-up is finished."""

    def status(self, text: str) -> None:
        """One line for a person."""

    def watchdog(self) -> None:
        """Still making progress."""

    def frozen(self) -> None:
        """Progress has ended: have this process replaced now, and not only when it has been silent for long."""

    def stopping(self) -> None:
        """The stop has begun."""

    def watchdog_interval_s(self) -> float | None:
        """How often `watchdog` must be called: half of the time it waits. None if nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Stages:
    """All parts of one agent, wired."""

    workers: Sequence[LineWorker]
    boundary: Boundary
    dialogue: Dialogue
    confirming: Confirming
    reteller: Reteller
    publisher: Publisher
    schedule: Schedule
    storage: Storage
    uplink: Uplink
    clock: Clock
    notifier: Notifier
    interval_ms: int
    inspector: Inspector | None = None


def mark_started(
    journal: Journal, site_sha256: str, *, owner: str, applied_sha256: str | None, platform_answers: bool
) -> Standing:
    """Note that the journal is in use under this site file; says how the agent stands.

    Args:
        journal: just opened.
        site_sha256: the site file of this start.
        owner: who speaks to whom; the journal is theirs from now on.
        applied_sha256: the site file applied last as it is known outside the journal, None if unknown.
        platform_answers: whether there is a platform that can confirm a head.

    A journal under another site file than this one, which was not left in good order or is older than what is known
    outside it, may be an old copy from before a change of the map. A closing read under its descriptor would be
    wrong, so the head has to be confirmed first (wire format, section 6, "Limit").
    """
    with journal.transaction():
        state = journal.state()
        differs = state.site_sha256 is not None and state.site_sha256 != site_sha256
        is_older = applied_sha256 is not None and applied_sha256 != state.site_sha256
        doubtful = differs and (not state.clean or is_older)
        if doubtful and platform_answers and state.head is not None:
            state = replace(state, standing=Standing.CONFIRMING)
        for meter in journal.doubts() if differs else ():
            journal.save_doubts(meter, ())  # they were read under the old map: its steps, its ratio
        journal.save_state(replace(state, clean=False, site_sha256=site_sha256, owner=owner))
        return state.standing


def mark_stopped(journal: Journal) -> None:
    """The journal is left in good order."""
    with journal.transaction():
        journal.save_state(replace(journal.state(), clean=True))


async def run_until(stages: Stages, stop: asyncio.Event) -> None:
    """Run all stages until `stop` is set; raises what makes one of them impossible."""
    await stages.dialogue.begin()
    tasks = [_start(f"line {worker.line.id}", worker.run) for worker in stages.workers]
    closing = _start("close", stages.boundary.run)
    tasks += [
        closing,
        _start("publish", stages.publisher.run),
        _start("listen", stages.dialogue.listen),
        _start("tell", stages.dialogue.tell),
        _start("retell", stages.reteller.run),
        _start("watchdog", lambda: _feed_watchdog(stages)),
    ]
    if stages.inspector is not None:
        tasks.append(_start("inspect", stages.inspector.run))
    stages.schedule.every(stages.interval_ms, stages.boundary.tick)
    stages.schedule.start()
    stages.notifier.ready()
    waiting = _start("stop", stop.wait)
    try:
        done, _ = await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            raise _failure_of([task for task in tasks if task in done])
        await _wind_down(stages, closing)
    finally:
        await stages.schedule.stop()
        await _cancel([*tasks, waiting])
        await stages.uplink.stop()


async def _wind_down(stages: Stages, closing: "asyncio.Task[object]") -> None:
    """The last boundary, the last messages, and the mark that all is in order."""
    stages.notifier.stopping()
    log.info("stopping: the meters are read once more", extra=pairs("M1002"))
    await stages.schedule.stop()
    await _cancel([closing])
    await stages.boundary.cut(stages.clock.wall_ms(), patience_s=LAST_SWEEP_S, is_last=True)
    await stages.publisher.drain(LAST_SEND_S)
    await stages.dialogue.farewell()
    await stages.storage.run(mark_stopped)
    log.info("stopped in good order", extra=pairs("M1003"))


def _start(name: str, run: Callable[[], Coroutine[object, object, object]]) -> "asyncio.Task[object]":
    return asyncio.get_running_loop().create_task(run(), name=name)


async def _cancel(tasks: Sequence["asyncio.Task[object]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _failure_of(done: Sequence["asyncio.Task[object]"]) -> BaseException:
    """Of several at once always the same one, so that a seed of the simulated world tells one story."""
    for task in done:
        error = task.exception()
        if error is not None:
            return error
    names = ", ".join(sorted(task.get_name() for task in done))
    return RuntimeError(f"a stage that runs for ever has ended: {names}")


async def _feed_watchdog(stages: Stages) -> None:
    """Feed the service manager's watchdog for as long as the line workers, the journal and the publisher move.

    An event loop that stands still feeds nothing. A stage that stands still for half of the watchdog's time, and what
    it may be busy, is named and reported at once, so that this takes no longer than with the event loop.
    """
    interval_s = stages.notifier.watchdog_interval_s() or UNWATCHED_S / 2
    look_s = interval_s / 6
    pulses = [stages.reteller.pulse, stages.publisher.pulse, *(worker.pulse for worker in stages.workers)]
    watch = PulseWatch(pulses, patience_s=max(interval_s, 2 * TURN_S_MAX))
    known: set[str] = set()
    while True:
        names = {pulse.name for pulse in watch.look(look_s)}
        if names - known:
            log.critical(
                "a stage makes no progress any more; this process has to be replaced",
                extra=pairs("M1004", stages=", ".join(sorted(names))),
            )
        known = names
        if names:
            stages.notifier.frozen()
        else:
            stages.notifier.watchdog()
        await stages.clock.sleep(look_s)
