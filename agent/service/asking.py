"""One question to one meter: asked, waited for, and its outcome noted.

The line worker (`poll`) says whose turn it is; here is how a meter's energy register, its identity or one block of its
map is read, and what each outcome means for the questions to come: how long the meter thinks, whether a late answer is
owed, and which registers it says that it does not have. Comes between the worker and the line's port.
"""

import logging
from dataclasses import replace
from typing import TypeGuard

from agent.errors import (
    FrameDamaged,
    LineDown,
    MeterBusy,
    MeteringError,
    MeterRefused,
    MeterSilent,
    Refused,
    RetryLater,
)
from agent.metering.plan import Block, bisect
from agent.metering.plant import SerialSettings
from agent.metering.reads import reshape
from agent.protocol.rtu import MISSED_NS, SLACK_NS
from agent.service import identifying
from agent.service.logline import pairs
from agent.service.patience import Patience
from agent.service.ports import Clock, Line, Reply
from agent.service.pulse import Pulse
from agent.service.requests import block_request
from agent.service.watch import LineHealth, LiveValue, Watch

log = logging.getLogger(__name__)

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
ABSENT = frozenset({ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE})
"""Modbus exceptions that say: this meter has no such registers, or not so many at once."""
REFUSALS_BELIEVED = 2
"""So often in a row the energy register has to be refused before the meter is left alone with it."""
REFUSED_PAUSE_S = 600
FAILURES = {"silent": MeterSilent, "busy": MeterBusy, "damaged": FrameDamaged, "refused": MeterRefused}
"""Kinds of failed reads; what is none of these counts as other."""
_SECOND_NS = 1_000_000_000


class Asker:
    """Asks the meters of one line; one question at a time, because the worker waits for each."""

    def __init__(
        self, line: str, port: Line, clock: Clock, patience: Patience, health: LineHealth, pulse: Pulse
    ) -> None:
        self.tuned: SerialSettings | None = None
        """The settings of the last question, to which a serial line is tuned since."""
        self._line = line
        self._port = port
        self._clock = clock
        self._patience = patience
        self._health = health
        self._pulse = pulse

    async def read(
        self, watch: Watch, block: Block, *, timeout_ns: int | None = None
    ) -> Reply | MeteringError:
        """One transaction, its outcome noted. LineDown comes through.

        Registers that the meter says it does not have are an answer: what that means is for the caller to note.
        """
        self._pulse.beat()
        begun_ns = self._clock.monotonic_ns()
        wire_ns = watch.wire_ns(block)
        timeout_ns = (watch.pace.timeout_ns if timeout_ns is None else timeout_ns) + wire_ns
        self.tuned = watch.settings
        try:
            reply = await self._port.read(
                block_request(watch.meter, block),
                timeout_ms=-(-timeout_ns // 1_000_000),
                quiet_ms=watch.meter.profile.quiet_ms,
                settings=watch.meter.serial_settings,
            )
        except LineDown:
            raise
        except (RetryLater, Refused) as error:
            self._note_error(watch, block, error, begun_ns, timeout_ns)
            return error
        finally:
            self._health.busy_ns += self._clock.monotonic_ns() - begun_ns
        if watch.missed_ns.pop(_shape_of(block), 0) > begun_ns:
            watch.owed_ns[_shape_of(block)] = self._clock.monotonic_ns() + timeout_ns + SLACK_NS
        watch.pace.answered(reply.received_ns - reply.sent_ns - wire_ns)
        watch.reads += 1
        self._patience.answered(watch)
        return reply

    def _note_error(
        self, watch: Watch, block: Block, error: MeteringError, begun_ns: int, timeout_ns: int
    ) -> None:
        if is_absent(error):
            self._patience.answered(watch)
            return
        now_ns = self._clock.monotonic_ns()
        watch.failed_reads += 1
        watch.last_error = str(error)
        watch.errors[kind_of(error)] += 1
        if isinstance(error, MeterSilent | FrameDamaged):
            watch.owed_ns[_shape_of(block)] = now_ns + timeout_ns + SLACK_NS
            watch.missed_ns[_shape_of(block)] = now_ns + timeout_ns + SLACK_NS + MISSED_NS
        self._patience.failed(watch, error, begun_ns, now_ns)

    def wall_ms(self, reply: Reply) -> int:
        """When the last byte of a reply had arrived, by the wall clock."""
        return self._clock.wall_ms() - self.age_ms(reply)

    def age_ms(self, reply: Reply) -> int:
        return (self._clock.monotonic_ns() - reply.received_ns) // 1_000_000

    async def energy(self, watch: Watch) -> Reply | None:
        """The words of the energy register, of all its parts where it is a sum; None if one gave nothing sound."""
        found: dict[str, tuple[int, ...]] = {}
        for planned in watch.energy:
            block = self._shape(watch, planned)
            outcome = await self.read(watch, block)
            if is_absent(outcome):
                self.note_refused(watch, block, outcome)
                return None
            if not isinstance(outcome, Reply):
                return None
            found |= {each.name: block.words_of(each, outcome.words) for each in planned.registers}
            last = outcome
        watch.refusals = 0
        watch.last_error = watch.unfit
        watch.sampled_ns = last.received_ns
        register = watch.meter.profile.energy
        words = tuple(word for part in register.parts for word in found[part.name])
        watch.live[register.name] = LiveValue(register, words, last.received_ns)
        return replace(last, words=words)

    def _shape(self, watch: Watch, block: Block) -> Block:
        """Another shape of the same read while a late answer to this one may come, where the map has one."""
        if watch.reshapes and watch.owes(block, self._clock.monotonic_ns()):
            return reshape(block, watch.meter.profile) or block
        return block

    def note_refused(self, watch: Watch, block: Block, error: MeteringError) -> None:
        """The meter says that it has no energy register where its profile says so; or not in this shape."""
        if block not in watch.energy:
            watch.reshapes = False
            return
        if len(block.registers) > 1:  # a sum: there may be a hole between its parts
            halves = bisect(block, alignment=watch.meter.profile.alignment)
            at = watch.energy.index(block)
            watch.energy = (*watch.energy[:at], *halves, *watch.energy[at + 1 :])
            watch.refusals = 1
            return
        watch.refusals += 1
        watch.failed_reads += 1
        watch.errors[kind_of(error)] += 1
        watch.last_error = str(error)
        if watch.refusals < REFUSALS_BELIEVED:
            return
        if watch.refusals == REFUSALS_BELIEVED:
            log.error(
                "the meter refuses its energy register; check its profile",
                extra=pairs("M1207", meter=watch.meter.id, line=self._line, reason=error),
            )
        watch.energy_retry_ns = self._clock.monotonic_ns() + REFUSED_PAUSE_S * _SECOND_NS

    async def identify(self, watch: Watch) -> bool:
        """Confirm who answers at this address: after every event of the line, and when it was away."""
        now_ns = self._clock.monotonic_ns()
        return not identifying.is_due(watch, now_ns) or await self.confirm(watch)

    async def confirm(self, watch: Watch) -> bool:
        """Read serial number and fingerprint; False if the meter gave no answer. What it does not have is an answer."""
        found: dict[str, tuple[int, ...]] = {}
        while (block := identifying.next_block(watch, found, self._clock.monotonic_ns())) is not None:
            outcome = await self.read(watch, self._shape(watch, block))
            if is_absent(outcome):
                watch.identity.refuse(self._clock.monotonic_ns(), block)
            elif isinstance(outcome, Reply):
                found |= {each.name: block.words_of(each, outcome.words) for each in block.registers}
            else:
                return False
        identifying.note(self._line, watch, found, self._clock.monotonic_ns())
        return True


def _shape_of(block: Block) -> tuple[int, int]:
    """By what a late answer is told from another: function and number of registers."""
    return block.function, block.count


def kind_of(error: MeteringError) -> str:
    """What kind of failure of a read this is, in one word."""
    return next((kind for kind, cause in FAILURES.items() if isinstance(error, cause)), "other")


def is_absent(outcome: Reply | MeteringError) -> TypeGuard[MeterRefused]:
    """Whether the meter said that it has no such registers."""
    return isinstance(outcome, MeterRefused) and outcome.code in ABSENT
