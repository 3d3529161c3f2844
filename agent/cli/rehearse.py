"""The dry run on the bus: every meter that a new site file brings or changes is read before anything is replaced.

A line that the running agent owns is read through it, between its own reads; another one, or any where no agent runs,
directly. What the words mean is judged here, under the new description: is it the meter by its conditions and serial
number, and is there a register that could be booked. Nothing is booked.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from agent.cli.read import ATTEMPTS, NOT_THERE, REPLY_MS
from agent.cli.running import ask_agent_once
from agent.errors import (
    FrameDamaged,
    LineDown,
    MeterBusy,
    MeteringError,
    MeterRefused,
    MeterSilent,
    RetryLater,
)
from agent.metering.conditions import Broken, judge
from agent.metering.decode import decode
from agent.metering.gates import RefusedReading, admit
from agent.metering.plan import Block, BusCost, bisect, plan_for
from agent.metering.plant import Line, Meter, SerialSettings, Transport
from agent.metering.quantity import format_kwh
from agent.service import ports
from agent.service.identifying import serial_text
from agent.service.requests import block_request
from agent.service.takeover import question_of
from agent.settings.changes import path_of
from agent.settings.values import Site

_TURNAROUND_NS = 10_000_000
_KINDS = {"silent": MeterSilent, "busy": MeterBusy, "damaged": FrameDamaged, "line": LineDown}


@dataclass(frozen=True, slots=True)
class Found:
    """What one meter said under its new description; `problem` says why that is no reading, None where all is well."""

    meter: str
    register_kwh: str | None
    serial: str | None
    problem: str | None


class Reader(Protocol):
    """Reads words of one line. Raises as `ports.Line.read` does."""

    def words(self, meter: Meter, block: Block) -> tuple[int, ...]:
        """One transaction."""


def rehearse(
    old: Site, new: Site, meters: Sequence[Meter], *, is_running: bool, tell: Callable[[Found], None]
) -> list[Found]:
    """Read all of `meters`, line by line; `tell` is told of each."""
    owned = {path_of(line): line for line in old.plant.lines} if is_running else {}
    results = []
    for line in new.plant.lines:
        on_line = [meter for meter in meters if meter.line == line.id]
        if not on_line:
            continue
        for found in _of_line(old, line, owned.get(path_of(line)), on_line):
            tell(found)
            results.append(found)
    return results


def _of_line(old: Site, line: Line, owned: Line | None, meters: Sequence[Meter]) -> Iterator[Found]:
    try:
        with _reader(old, line, owned) as reader:
            for meter in meters:
                yield look(reader, line, meter)
    except LineDown as error:  # it could not be opened at all
        yield from (Found(meter.id, None, None, str(error)) for meter in meters)


@contextmanager
def _reader(old: Site, line: Line, owned: Line | None) -> Iterator[Reader]:
    if owned is not None:
        yield ThroughAgent(old, line, owned)
        return
    with asyncio.Runner() as runner:
        from agent.wiring import open_line

        port = open_line(line)
        runner.run(port.open())
        try:
            yield Direct(lambda meter, block: runner.run(_read(port, meter, block)))
        finally:
            runner.run(port.close())


@dataclass(frozen=True, slots=True)
class Direct:
    """Over a line that is ours alone."""

    read: Callable[[Meter, Block], tuple[int, ...]]

    def words(self, meter: Meter, block: Block) -> tuple[int, ...]:
        """See Reader."""
        return self.read(meter, block)


async def _read(port: ports.Line, meter: Meter, block: Block) -> tuple[int, ...]:
    reply = await port.read(
        block_request(meter, block),
        timeout_ms=REPLY_MS,
        quiet_ms=meter.profile.quiet_ms,
        settings=meter.serial_settings,
    )
    return reply.words


@dataclass(frozen=True, slots=True)
class ThroughAgent:
    """Over a line that the running agent owns; `owned` is the line as the agent has it."""

    site: Site
    line: Line
    owned: Line

    def words(self, meter: Meter, block: Block) -> tuple[int, ...]:
        """See Reader."""
        settings = _settings(meter, self.line)
        differs = settings != self.owned.serial and self.owned.transport is not Transport.MODBUS_TCP
        question = question_of(
            self.owned.id, block_request(meter, block), settings if differs else None, meter.profile.quiet_ms
        )
        said = ask_agent_once(self.site.path, "read-line", question)
        words = said.get("words")
        if isinstance(words, list):
            return tuple(int(word) for word in words)
        kind, text = str(said.get("kind")), str(said.get("text"))
        if kind == "refused":
            raise MeterRefused(text, int(str(said.get("code") or 0)))
        raise _KINDS.get(kind, RetryLater)(text)


def _settings(meter: Meter, line: Line) -> SerialSettings:
    return meter.serial_settings or line.serial


# ------------------------------------------------------------------------------------------------------------ one meter


def look(reader: Reader, line: Line, meter: Meter) -> Found:
    """Read who a meter is and its energy register, and judge both under its description."""
    profile = meter.profile
    cost = BusCost.serial(_settings(meter, line), _TURNAROUND_NS, profile.quiet_ms)
    judged = [name for condition in profile.conditions for name in condition.registers]
    names = [name for name in (profile.identity, *profile.fingerprint, *judged) if name is not None]
    wanted = [profile.registers[name] for name in dict.fromkeys(names)]
    try:
        said = _words(reader, meter, plan_for(profile, wanted, cost)) if wanted else {}
        counted = _words(reader, meter, plan_for(profile, profile.energy.parts, cost))
    except MeteringError as error:
        return Found(meter.id, None, None, str(error))
    words = said.get(profile.identity or "")
    serial = None if words is None else serial_text(decode(profile.registers[profile.identity or ""], words))
    parts = [counted.get(part.name) for part in profile.energy.parts]
    if any(part is None for part in parts):
        return Found(meter.id, None, serial, "it has no energy register where its profile says so")
    register = admit(meter, decode(profile.energy, [word for part in parts for word in part or ()]))
    kwh = None if isinstance(register, RefusedReading) else format_kwh(register)
    return Found(meter.id, kwh, serial, _problem(meter, said, serial, register))


def _problem(
    meter: Meter, said: Mapping[str, tuple[int, ...]], serial: str | None, register: int | RefusedReading
) -> str | None:
    registers = meter.profile.registers
    verdict = judge(meter.profile, {name: decode(registers[name], said[name]) for name in said})
    if isinstance(verdict, Broken):
        return verdict.reason
    if meter.serial is not None and serial not in (None, meter.serial):
        return f"its serial number is {serial}, not {meter.serial}"
    return register.reason if isinstance(register, RefusedReading) else None


def _words(reader: Reader, meter: Meter, blocks: Iterable[Block]) -> dict[str, tuple[int, ...]]:
    """The words of each register; what the meter does not have is left out."""
    found: dict[str, tuple[int, ...]] = {}
    for block in blocks:
        try:
            words = _patiently(reader, meter, block)
        except MeterRefused as error:
            if error.code not in NOT_THERE:
                raise
            halves = bisect(block, alignment=meter.profile.alignment)
            found |= _words(reader, meter, halves) if len(halves) > 1 else {}
        else:
            found |= {each.name: block.words_of(each, words) for each in block.registers}
    return found


def _patiently(reader: Reader, meter: Meter, block: Block) -> tuple[int, ...]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return reader.words(meter, block)
        except LineDown:
            raise
        except RetryLater:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")
