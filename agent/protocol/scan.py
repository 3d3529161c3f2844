"""Which meters are on this pair: the search itself, without I/O.

A search is a dialogue: it yields what to ask or how long to listen, and is told what was heard. A driver plays it on a
real line (`agent.service.scanning`) or on a simulated one in virtual time. It only ever reads.

- The *fast pass* asks every Modbus address once and waits just longer than an ordinary meter needs. One that answers
  later is heard while the next address is asked, and a collision is heard as garbage; both make suspects. An answer
  carries the address it comes from, so whoever is heard at any time while these settings are tried is a suspect, also
  over the second question to somebody else or over the search for DL/T 645.
- The *slow pass* waits longer and asks with both functions, for meters that are slow or answer to one function only.
- Every suspect is *confirmed* by questions of its own: two sound answers, or it is not there. So noise makes no meter.
- Who gave a sound answer to its own question is on the list of the pass at once, and is *looked at closely* after it
  (`settled`): one answer more, and a silence in which a second meter of that address would be heard.
- Several meters at one address cannot be counted, but noticed: their answers damage each other every time, or two
  sound answers come to one question.

What a pass costs is physics. At 9600 baud, 10 bits a character, a question is 8.3 ms; a silent address takes that and
the wait of 26 ms, 34.3 ms; one that answers after T takes the question, T, an answer of 9.4 ms and a silence of 3.6 ms.
247 silent addresses take 8.5 s; 221 and 26 meters of 10 ms take 8.4 s; the question for DL/T 645 takes 0.7 s more. The
close look, 0.2 s a meter, would not fit into ten seconds, so it comes after the list. A meter slower than the wait (or
an adapter that holds its answer back for so long) is heard later, asked again at once, and costs the pass 0.3 s.
"""

from collections.abc import Container, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import ANYBODY, FORWARD_TOTAL, DltRequest
from agent.protocol.pair import Request
from agent.protocol.pdu import READ_HOLDING, READ_INPUT, ReadRequest

UNITS = range(1, 248)
"""All Modbus addresses (MODBUS over Serial Line V1.02, section 2.2)."""

USUAL_SETTINGS = (
    SerialSettings(9600, "none", 1),
    SerialSettings(9600, "even", 1),
    SerialSettings(2400, "even", 1),
    SerialSettings(19_200, "even", 1),
    SerialSettings(2400, "none", 1),
    SerialSettings(9600, "none", 2),
    SerialSettings(4800, "none", 1),
    SerialSettings(1200, "none", 1),
)
"""In the order in which meters are most often found (meter notes, section 5)."""

CONFIRM_MS = 400
DLT_CONFIRM_MS = 600
"""Longest wait for a meter that is probably there; the standard gives a DL/T 645 meter 500 ms."""
AGAIN_MS = 100
"""Wait for an address that was disturbed."""
BLAMED = 2
"""So many addresses before may have caused what is heard after a question; the slow pass finds who answers later."""
ECHO_MS = 160
LATE_MS = 400
"""How long a second answer to one question is waited for, at first and where there is a suspicion."""
ASKED_FIRST = 3
CONFIRMATIONS = 2
TRIES = 6
"""So often is a suspect asked before it is told apart from noise, and a shared address from a noisy line."""
SHARED_AFTER = 4
"""So many disturbed answers of those tries are several meters talking at once."""
GARBAGE_MIN = 3
"""So many bytes that make no frame are somebody talking, and no speck of noise."""
CROWDED, CROWD_LOOKS = 2, 2
"""DL/T 645 meters that answer at once do so every time: twice is believed, and so often is a first time looked into."""
ADDRESS_BYTES = 6


@dataclass(frozen=True, slots=True)
class Pace:
    """How long one pass waits, in ms: for a Modbus meter, with which functions, and for a DL/T 645 meter."""

    name: str
    modbus_ms: int
    functions: tuple[int, ...]
    dlt_ms: int
    dlt_search_ms: int
    dlt_rounds: int


FAST = Pace("fast", 26, (READ_HOLDING,), 300, 100, 1)
SLOW = Pace("slow", 100, (READ_HOLDING, READ_INPUT), 600, 600, 2)
NETWORK = Pace("network", 300, (READ_HOLDING, READ_INPUT), 900, 900, 1)
"""Behind a TCP gateway, whose own time-out and network come on top."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Make one read transaction; `settings` None leaves the line as it is tuned."""

    request: Request
    timeout_ms: int
    settings: SerialSettings | None


@dataclass(frozen=True, slots=True)
class Listen:
    """Ask nothing for so long."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Tell whoever watches: `done` of `total` questions of this stage, with these settings."""

    stage: str
    settings: SerialSettings | None
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Tell whoever watches: a pass with these settings is over, and these answered. What they are is not known yet."""

    stage: str
    settings: SerialSettings | None
    addresses: tuple[int | str, ...]


Question = Ask | Listen | Progress | Listed


class Kind(StrEnum):
    """How a question ended."""

    ANSWER = "answer"
    REFUSED = "refused"
    SILENT = "silent"
    DAMAGED = "damaged"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a question.

    `at_ms` is when it came, by a clock that never steps. `code` is that of a refusal, `strays` are meters that answered
    without being asked, `garbage` counts the bytes that came and are part of no sound frame.
    """

    kind: Kind
    words: tuple[int, ...] = ()
    code: int = 0
    sender: str | None = None
    strays: tuple[int | str, ...] = ()
    garbage: int = 0
    at_ms: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether the one that was asked answered, be it no."""
        return self.kind in (Kind.ANSWER, Kind.REFUSED)

    @property
    def is_disturbed(self) -> bool:
        """Whether something was said that nobody can understand."""
        return self.kind is Kind.DAMAGED or self.garbage >= GARBAGE_MIN


T = TypeVar("T")
Dialogue = Generator[Question, Heard, T]


@dataclass(frozen=True, slots=True)
class Presence:
    """Something answers at this address with these settings.

    `shared` says that it is more than one meter. `greeting` is the first sound answer, None where there was none.
    `settled` says that it was asked often enough to be sure of both; until then it gave one sound answer.
    """

    address: int | str
    settings: SerialSettings | None
    shared: bool
    greeting: Heard | None
    settled: bool = True


def search(
    settings: Sequence[SerialSettings | None],
    pace: Pace,
    *,
    units: Sequence[int] = UNITS,
    dlt645: bool = True,
    known: Iterable[Presence] = (),
) -> Dialogue[list[Presence]]:
    """One pass over all settings, and a close look at everyone who answered."""
    return (yield from settled((yield from listed(settings, pace, units=units, dlt645=dlt645, known=known))))


def listed(
    settings: Sequence[SerialSettings | None],
    pace: Pace,
    *,
    units: Sequence[int] = UNITS,
    dlt645: bool = True,
    known: Iterable[Presence] = (),
) -> Dialogue[list[Presence]]:
    """One pass over all settings: the addresses at which something is; `known` ones are not named again."""
    found: list[Presence] = []
    done = {(presence.address, presence.settings) for presence in known}
    speeds: set[int | None] = set()
    for each in settings:
        heard_of: set[int] = set()
        here = yield from _overhearing(_modbus_pass(each, pace, units, done), heard_of)
        speed = None if each is None else each.baud
        if dlt645 and speed not in speeds:
            speeds.add(speed)
            even = None if each is None else SerialSettings(each.baud, "even", 1)
            for presence in (yield from _overhearing(_dlt_search(even, pace), heard_of)):
                if (presence.address, even) not in done:
                    here.append(presence)
        judged = {presence.address for presence in here}
        for unit in sorted(heard_of.intersection(units) - judged):
            if (unit, each) not in done:
                here += yield from _confirmed(unit, each)
        found += here
        yield Listed(f"{pace.name} pass", each, tuple(presence.address for presence in here))
    return found


def settled(found: Iterable[Presence]) -> Dialogue[list[Presence]]:
    """Look closely at those who answered once: whether they answer again, and whether they are one meter or more.

    Who never answers again is taken off the list.
    """
    sure: list[Presence] = []
    for presence in found:
        if presence.settled or not isinstance(presence.address, int):
            sure.append(presence)
        else:
            sure += yield from _confirmed(presence.address, presence.settings, presence.greeting)
    return sure


def _overhearing(dialogue: Dialogue[T], heard_of: set[int]) -> Dialogue[T]:
    """The same dialogue; who answers in it, asked or not, is noted."""
    heard: Heard | None = None
    while True:
        try:
            question = next(dialogue) if heard is None else dialogue.send(heard)
        except StopIteration as end:
            result: T = end.value
            return result
        heard = yield question
        heard_of.update(_units_in(heard))


# --------------------------------------------------------------------------------------------------------------- Modbus


def _modbus_pass(
    settings: SerialSettings | None,
    pace: Pace,
    units: Sequence[int],
    done: Container[tuple[int | str, SerialSettings | None]],
) -> Dialogue[list[Presence]]:
    """Ask every address, and the suspects again."""
    found: list[Presence] = []
    sweep = yield from _swept(settings, pace, units)
    for unit in units:
        if (unit, settings) in done:
            continue
        if unit in sweep.late:
            found += yield from _confirmed(unit, settings)
        elif unit in sweep.disturbed:
            found += yield from _asked_again(unit, settings)
        elif unit in sweep.sound:
            found.append(Presence(unit, settings, False, sweep.sound[unit], settled=False))
    return found


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What asking every address once came to.

    `sound` are the answers that came to their own question. `late` were heard while others were asked. `disturbed` were
    asked when somebody else answered, so that their question may be lost, or when or shortly before something was heard
    that nobody can understand: it may be their answer.
    """

    sound: dict[int, Heard]
    late: set[int]
    disturbed: set[int]


def _swept(settings: SerialSettings | None, pace: Pace, units: Sequence[int]) -> Dialogue[_Sweep]:
    """Ask every address once."""
    sweep = _Sweep({}, set(), set())
    for place, unit in enumerate(units):
        if place % 8 == 0:
            yield Progress(f"{pace.name} pass", settings, place, len(units))
        for function in pace.functions:
            heard = yield Ask(ReadRequest(unit, function, 0, 2), pace.modbus_ms, settings)
            sweep.late.update(_units_in(heard))
            if heard.strays:
                sweep.disturbed.add(unit)
            if heard.is_disturbed:
                sweep.disturbed.update(units[max(0, place - BLAMED) : place + 1])
            if heard.is_sound:
                sweep.sound[unit] = heard
                break
    heard = yield Listen(ECHO_MS)
    sweep.late.update(_units_in(heard))
    if heard.is_disturbed:
        sweep.disturbed.update(units[-BLAMED:])
    return sweep


def _asked_again(unit: int, settings: SerialSettings | None) -> Dialogue[list[Presence]]:
    """Ask an address that was disturbed once more, with patience; if anything is heard, look closely at once.

    At once, because a second meter of this address would disturb the next one as well.
    """
    for function in (READ_HOLDING, READ_INPUT):
        heard = yield Ask(ReadRequest(unit, function, 0, 2), AGAIN_MS, settings)
        if heard.is_sound or heard.is_disturbed or unit in heard.strays:
            return (yield from _confirmed(unit, settings, heard if heard.is_sound else None))
    return []


def _units_in(heard: Heard) -> list[int]:
    return [stray for stray in heard.strays if isinstance(stray, int)]


def _confirmed(
    unit: int, settings: SerialSettings | None, greeting: Heard | None = None
) -> Dialogue[list[Presence]]:
    """Ask one address until it is certain whether something is there, and whether it is one meter.

    A `greeting` it has given already counts as one sound answer.
    """
    asks = (
        ReadRequest(unit, READ_HOLDING if attempt % 2 == 0 else READ_INPUT, 0, 1 + attempt // 2 % 2)
        for attempt in range(TRIES)
    )
    return (yield from _tried(unit, settings, list(asks), CONFIRM_MS, greeting))


def _tried(
    address: int | str,
    settings: SerialSettings | None,
    asks: Sequence[Request],
    timeout_ms: int,
    greeting: Heard | None = None,
) -> Dialogue[list[Presence]]:
    """Two sound answers make a meter; where anything strange comes beside them, ask on and listen after each."""
    sound, late = int(greeting is not None), 0
    strange = False
    for request in asks[:ASKED_FIRST]:
        heard = yield Ask(request, timeout_ms, settings)
        strange |= heard.is_disturbed or (heard.is_sound and address in heard.strays)
        late += address in heard.strays
        if heard.is_sound:
            sound += 1
            greeting = greeting or heard
        if sound >= CONFIRMATIONS:
            break
    if sound + late or strange:
        after = yield Listen(ECHO_MS)
        strange |= after.is_disturbed or address in after.strays
    if not strange and (sound >= CONFIRMATIONS or not late):
        return [Presence(address, settings, False, greeting)] if sound >= CONFIRMATIONS else []
    disturbed = 0
    for request in asks:
        heard = yield Ask(request, timeout_ms, settings)
        after = yield Listen(LATE_MS)
        beside = address in (*heard.strays, *after.strays) or heard.is_disturbed or after.is_disturbed
        disturbed += beside and (heard.is_sound or heard.is_disturbed)
        late += address in after.strays
        if heard.is_sound:
            sound += 1
            greeting = greeting or heard
    shared = disturbed >= SHARED_AFTER
    if sound + late >= CONFIRMATIONS or shared:
        return [Presence(address, settings, shared, greeting)]
    return []


# ------------------------------------------------------------------------------------------------------------- DL/T 645


def _dlt_search(settings: SerialSettings | None, pace: Pace) -> Dialogue[list[Presence]]:
    """Every DL/T 645 meter at one speed."""
    yield Progress("DL/T 645", settings, 0, 1)
    suspects: dict[str, None] = {}
    crowds = 0
    questions = [DltRequest(ANYBODY, None), DltRequest(ANYBODY, FORWARD_TOTAL)] * pace.dlt_rounds
    for asked in range(len(questions) + CROWD_LOOKS):
        if asked >= len(questions) and not 0 < crowds < CROWDED:
            break
        heard = yield Ask(questions[asked % len(questions)], pace.dlt_ms, settings)
        suspects.update(dict.fromkeys(_addresses_in(heard)))
        crowd = _is_crowd(heard)
        if heard.is_sound or heard.strays or heard.is_disturbed:
            heard = yield Listen(pace.dlt_ms)
            suspects.update(dict.fromkeys(_addresses_in(heard)))
            crowd |= _is_crowd(heard)
        crowds += crowd
    shared: list[str] = []
    if crowds >= CROWDED or len(suspects) > 1:
        yield from _descend("", settings, pace, suspects, shared)
    found: list[Presence] = []
    for address in [*suspects, *shared]:
        asks = [DltRequest(address, FORWARD_TOTAL)] * TRIES
        found += yield from _tried(address, settings, asks, DLT_CONFIRM_MS)
    return found


def _descend(
    low: str,
    settings: SerialSettings | None,
    pace: Pace,
    suspects: dict[str, None],
    shared: list[str],
) -> Dialogue[None]:
    """Ask all meters whose address ends in `low`, by two more digits; go deeper where several answer at once."""
    for pair in range(100):
        if pair % 10 == 0:
            yield Progress(f"DL/T 645 addresses ending in {low or 'anything'}", settings, pair, 100)
        ending = f"{pair:02d}{low}"
        pattern = ending.rjust(2 * ADDRESS_BYTES, "A")
        crowded = False
        for _ in range(2):
            heard = yield Ask(DltRequest(pattern, FORWARD_TOTAL), pace.dlt_search_ms, settings)
            suspects.update(dict.fromkeys(_addresses_in(heard)))
            crowded = heard.is_disturbed
            if not crowded:
                break
        if heard.is_sound or heard.strays:
            heard = yield Listen(pace.dlt_ms)
            suspects.update(dict.fromkeys(_addresses_in(heard)))
            crowded |= heard.is_disturbed
        if not crowded:
            continue
        if len(ending) == 2 * ADDRESS_BYTES:
            shared.append(ending)
        else:
            yield from _descend(ending, settings, pace, suspects, shared)


def _is_crowd(heard: Heard) -> bool:
    """Whether several may have answered at once; a late Modbus answer is no frame of DL/T 645 either."""
    return heard.is_disturbed and not _units_in(heard)


def _addresses_in(heard: Heard) -> list[str]:
    senders = [stray for stray in heard.strays if isinstance(stray, str)]
    return senders if heard.sender is None else [heard.sender, *senders]
