"""Which registers an unknown Modbus meter has, and what they show over a while: the questions, without I/O.

Comes before `agent.metering.probe`, which judges what was read. A meter refuses what it does not have, so likely places
are tried first (where the known meters keep theirs), then a grid over the whole address space; around every place that
answers the area is felt out in both directions. It only reads. At an address where nobody is, it ends after a minute
and a half.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.metering.plant import SerialSettings
from agent.metering.series import Place, Snapshot
from agent.protocol.pdu import READ_HOLDING, READ_INPUT, ReadRequest
from agent.protocol.scan import Ask, Dialogue, Heard, Kind, Listen, Progress

REPLY_MS = 400
ATTEMPTS = 2
HURRIED_MS = 200
"""Wait, and once only, where nothing was ever heard: whoever is there answers sooner at one of the likely places."""
ADDRESSES = 65_536
GRID = 32
"""Areas shorter than this may be missed where no known meter has one."""
CHUNK = 16
"""Registers a read; every meter of the notes but one allows so many, and that one is asked for less."""
HOLE_MAX = 12
"""So many missing registers may lie within one area."""
AREA_MAX = 512
ZEROS_MAX = 64
"""After so many zeros in a row an area is over: some meters answer zero for everything they do not have."""
SILENT_MAX = 24
"""A meter that says nothing instead of no is only asked at likely places."""
ILLEGAL_FUNCTION = 1


@dataclass(frozen=True, slots=True)
class Span:
    """Registers that can be read with one function, side by side."""

    function: int
    address: int
    count: int


def explore(
    unit: int,
    settings: SerialSettings | None,
    *,
    likely: Iterable[Place] = (),
    functions: Sequence[int] = (READ_INPUT, READ_HOLDING),
    step: int = GRID,
) -> Dialogue[list[Span]]:
    """Find the registers of a meter."""
    spans: list[Span] = []
    silent = 0
    for function in functions:
        feeler = _Feeler(unit, settings, function, silent)
        places = sorted({address // 2 * 2 for at, address in likely if at == function})
        grid = (
            [] if step <= 0 else [address for address in range(0, ADDRESSES, step) if address not in places]
        )
        for done, address in enumerate([*places, *grid]):
            if done % 64 == 0:
                yield Progress(f"registers, function {function}", settings, done, len(places) + len(grid))
            if feeler.gave_up or (feeler.is_mute and done >= len(places)):
                break
            if not feeler.knows(address):
                yield from feeler.feel(address)
        spans += feeler.spans()
        silent = feeler.silent if feeler.heard_nothing else 0
    return spans


def watch(
    unit: int,
    settings: SerialSettings | None,
    spans: Sequence[Span],
    *,
    times: int,
    pause_ms: int,
    before: Sequence[Snapshot] = (),
) -> Dialogue[list[Snapshot]]:
    """Read all spans so many times; a span that fails once is left out of that moment, all of it later than asked.

    What was seen `before` comes first, and the watch goes on from there.
    """
    snapshots = list(before)
    if snapshots:
        yield Listen(pause_ms)
    for moment in range(times):
        yield Progress("watching", settings, moment, times)
        words: dict[Place, int] = {}
        at_ms: list[int] = []
        for span in spans:
            for start in range(span.address, span.address + span.count, CHUNK):
                count = min(CHUNK, span.address + span.count - start)
                heard = yield from _read(unit, settings, span.function, start, count)
                if heard.kind is Kind.ANSWER:
                    at_ms.append(heard.at_ms)
                    words.update(
                        ((span.function, start + place), word) for place, word in enumerate(heard.words)
                    )
        if at_ms:
            snapshots.append(Snapshot(sum(at_ms) // len(at_ms), words))
        if moment + 1 < times:
            yield Listen(pause_ms)
    return _complete(snapshots)


def _complete(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The moments at which everything was read that was ever read."""
    most = max((len(snapshot.words) for snapshot in snapshots), default=0)
    return [snapshot for snapshot in snapshots if len(snapshot.words) == most]


def _read(
    unit: int,
    settings: SerialSettings | None,
    function: int,
    address: int,
    count: int,
    *,
    hurried: bool = False,
) -> Dialogue[Heard]:
    heard = Heard(Kind.SILENT)
    for _ in range(1 if hurried else ATTEMPTS):
        timeout_ms = HURRIED_MS if hurried else REPLY_MS
        heard = yield Ask(ReadRequest(unit, function, address, count), timeout_ms, settings)
        if heard.is_sound:
            break
    return heard


class _Feeler:
    """Feels out the areas of one function, of a meter that was `silent` so often and never said anything."""

    def __init__(self, unit: int, settings: SerialSettings | None, function: int, silent: int) -> None:
        self._unit = unit
        self._settings = settings
        self._function = function
        self._words: dict[int, int] = {}
        self._absent: set[int] = set()
        self.silent = silent
        self.heard_nothing = True
        self.gave_up = False

    @property
    def is_mute(self) -> bool:
        """Whether the meter says nothing where it has nothing, so that every miss costs a time-out."""
        return self.silent >= SILENT_MAX

    def knows(self, address: int) -> bool:
        """Whether this place was already tried."""
        return address in self._words or address in self._absent

    def feel(self, address: int) -> Dialogue[None]:
        """Try a pair of registers, and everything around it where it is there."""
        if not (yield from self._take(address, min(2, ADDRESSES - address))):
            return
        for forward in (True, False):
            yield from self._grow(address, forward=forward)

    def spans(self) -> list[Span]:
        """What was found, in order."""
        found: list[Span] = []
        for address in sorted(self._words):
            if found and found[-1].address + found[-1].count == address:
                found[-1] = Span(self._function, found[-1].address, found[-1].count + 1)
            else:
                found.append(Span(self._function, address, 1))
        return found

    def _grow(self, address: int, *, forward: bool) -> Dialogue[None]:
        """Read on in one direction until nothing more comes, over holes that are not too wide."""
        begun, missing = address, 0
        edge = self._edge(address, forward=forward)
        while abs(edge - begun) < AREA_MAX and 0 <= edge < ADDRESSES and missing <= HOLE_MAX:
            if self._is_desert(edge, forward=forward):
                return
            for count in (2, 1) if missing else (CHUNK, 8, 4, 2, 1):
                start = edge if forward else edge - count + 1
                fits = start >= 0 and start + count <= ADDRESSES
                if fits and (yield from self._take(start, count)):
                    missing = 0
                    break
                if self.gave_up or self.is_mute:
                    return
            else:
                missing += 1
                edge += 1 if forward else -1
                continue
            edge = self._edge(edge, forward=forward)

    def _edge(self, address: int, *, forward: bool) -> int:
        step = 1 if forward else -1
        while address in self._words:
            address += step
        return address

    def _is_desert(self, edge: int, *, forward: bool) -> bool:
        before = range(edge - ZEROS_MAX, edge) if forward else range(edge + 1, edge + 1 + ZEROS_MAX)
        return all(self._words.get(place) == 0 for place in before)

    def _take(self, address: int, count: int) -> Dialogue[bool]:
        """Read a block; what it showed is only kept to know that it is there."""
        if any(place in self._absent for place in range(address, address + count)):
            return False
        hurried = self.is_mute and self.heard_nothing
        heard = yield from _read(self._unit, self._settings, self._function, address, count, hurried=hurried)
        self.heard_nothing &= heard.kind is Kind.SILENT
        if heard.kind is Kind.ANSWER:
            self._words.update(zip(range(address, address + count), heard.words, strict=True))
            return True
        if heard.kind is Kind.REFUSED and heard.code == ILLEGAL_FUNCTION and not self._words:
            self.gave_up = True
        self.silent += heard.kind is Kind.SILENT
        if count == 1:
            self._absent.add(address)
        return False
