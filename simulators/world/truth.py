"""What the meters really counted: places with loads, the devices that hang there, and every register they showed.

A place is a circuit; a device is the meter that counts it at present, exchanged now and then. The truth of a place is a
number of counts that only grows, whatever device shows whichever register for it. Each register shown on the bus is
remembered with its position on that scale, so that any two registers the platform books can be judged: both must have
been shown, and the energy between them must be what the place used in between.
"""

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from agent.metering.decode import encode
from agent.metering.doubt import JITTER_STEPS
from agent.metering.plant import Meter
from agent.metering.profile import Quantity, Register
from simulators.meters.faults import Kind
from simulators.meters.meter import SimulatedMeter
from simulators.world.time import Time

MINUTE_MS = 60_000
MS_PER_HOUR = 3_600_000
TREMBLES_MAX = JITTER_STEPS + 1
"""So many counts a register falls back at most while it trembles: one more than a jitter."""
SAID_MAX = 8
ABSENT_MAX = 3
"""Exceptions up to this number say that there is no such register."""
LEFT_ALONE_NS = 700 * 1_000_000_000
"""A meter that says so may be left alone for a while, also if it answers another question meanwhile."""


class Load:
    """A circuit's power: another level every minute, now and then none. Energy is its exact integral."""

    def __init__(self, seed: str, most_w: int, begin_ms: int) -> None:
        self._seed = seed
        self._most_w = most_w
        self._begin_ms = begin_ms
        self._sums_w_minutes = [0]
        self._off_since_ms: int | None = None
        self._not_used_milliwh = 0

    def switch_off(self, at_ms: int) -> None:
        """Nothing is used from now on."""
        self._off_since_ms = at_ms

    def switch_on(self, at_ms: int) -> None:
        """It goes on as it would have gone on."""
        self._not_used_milliwh = self._would_be_milliwh(at_ms) - self.energy_milliwh(at_ms)
        self._off_since_ms = None

    def energy_milliwh(self, at_ms: int) -> int:
        """What has been used since the beginning, 0.001 Wh, floored."""
        until_ms = at_ms if self._off_since_ms is None else self._off_since_ms
        return self._would_be_milliwh(until_ms) - self._not_used_milliwh

    def _would_be_milliwh(self, at_ms: int) -> int:
        """The same, had it never been switched off."""
        minutes, rest_ms = divmod(at_ms - self._begin_ms, MINUTE_MS)
        while len(self._sums_w_minutes) <= minutes:
            last = self._sums_w_minutes[-1]
            self._sums_w_minutes.append(last + self._watts(len(self._sums_w_minutes) - 1))
        watt_ms = self._sums_w_minutes[minutes] * MINUTE_MS + self._watts(minutes) * rest_ms
        return watt_ms * 1000 // MS_PER_HOUR

    def _watts(self, minute: int) -> int:
        level = zlib.crc32(f"{self._seed}/{minute // 7}".encode()) % 10
        ripple = zlib.crc32(f"{self._seed}/{minute}".encode()) % 100
        return 0 if level < 2 else self._most_w * (level * 8 + ripple // 10) // 100


@dataclass(slots=True)
class Shown:
    """A register that was on the bus: its true position, when first and last, and under which site files."""

    position: int
    first_ns: int
    last_ns: int
    versions: set[int]


@dataclass
class Place:
    """One circuit of the factory and all registers that were ever shown for it, by raw counts."""

    id: str
    load: Load
    per_count_milliwh: Fraction
    """What a count of its meters is worth, whatever the site file says of their transformers."""
    shown: dict[int, list[Shown]] = field(default_factory=dict)
    firsts: list[int] = field(default_factory=list)
    """Where the accounts may begin: the first register read, and one more for every time that it was lost untold."""
    is_begun: bool = False
    """Whether somebody, journal or platform, may still know the newest of them."""
    has_refused: bool = False
    """Whether its meter has said for a while that it has none of its registers, nor a serial number."""
    breaks: int = 0
    """How often the register's run was broken by a person: exchange, reset, another ratio."""
    set_back_at: int = 0
    """Where its register was set back last, by a person or with a meter that does not say who it is."""
    forgotten: set[int] = field(default_factory=set)
    """Where that was, and nobody was left who had read anything since."""

    def may_begin_at(self, position: int) -> bool:
        """Whether the accounts may begin there.

        At the first register read; or, where that was lost untold, at any that was read since: a new journal believes
        none that it has read once only, and of that one a part may be saved where it is lost as well (seed 11984).
        """
        return position in self.firsts or (len(self.firsts) > 1 and position > self.firsts[1])

    def has_forgotten(self, start: int, end: int) -> bool:
        """Whether nobody knew any more that its register was set back between two positions."""
        return any(start <= each <= end for each in self.forgotten)

    def note(self, counts: int, position: int, at_ns: int, version: int) -> None:
        """A register is on the bus."""
        if not self.is_begun:
            self.firsts.append(position)
            self.is_begun = True
        same = self.shown.setdefault(counts, [])
        for each in same:
            if each.position == position:
                each.last_ns = at_ns
                each.versions.add(version)
                return
        same.append(Shown(position, at_ns, at_ns, {version}))

    def claim(self, counts: int, below: int) -> None:
        """The agent claims a register so many counts below one that was shown, at the energy that belongs to it.

        The platform does not book it in the middle of an epoch. But a journal that is salvaged without the delta before
        it begins with it, and neither has anything to hold it against (seed 17271).
        """
        for each in tuple(self.shown.get(counts, ())):
            claimed = Shown(each.position - below, each.first_ns, each.last_ns, set(each.versions))
            self.shown.setdefault(counts - below, []).append(claimed)


class Device(SimulatedMeter):
    """A meter on the wall; what it shows goes into the place's memory.

    `wrong` makes it show something else than it has counted, for as many answers as it says; such registers are not
    remembered, so that whoever books one is found out. `back` lets the register fall behind by a few counts: it was
    really shown, and nobody who has not read it for a while can know better.
    """

    def __init__(
        self,
        meter: Meter,
        place: Place,
        time: Time,
        version: Callable[[], int],
        *,
        opening: int,
        counted_before: int = 0,
        turnaround_ms: int = 10,
    ) -> None:
        self.place = place
        self.wrong: Callable[[int], int] | None = None
        self.wrong_for = 0
        self.is_known: Callable[[], bool] = lambda: True
        """Whether anybody could tell that a register is wrong: nobody can who sees it for the first time."""
        self.back = 0
        self.said: deque[tuple[bytes, bytes]] = deque(maxlen=SAID_MAX)
        """Its last answers: to which question, and their data."""
        self.asked_ns = time.ns
        self._time = time
        self._version = version
        self._opening = opening
        self._counted_before = counted_before
        self._per_count = meter.per_count_milliwh
        self._capacity = meter.profile.energy.modulus_counts or 1 << (16 * meter.profile.energy.words)
        self._from_milliwh = place.load.energy_milliwh(time.wall_ms())
        super().__init__(meter, _Unused(), turnaround_ms=turnaround_ms)

    @property
    def counted(self) -> int:
        """Counts since it was put up."""
        used = self.place.load.energy_milliwh(self._time.wall_ms()) - self._from_milliwh
        return used * self._per_count.denominator // self._per_count.numerator

    @property
    def position(self) -> int:
        """Counts of the place, all devices together."""
        return self._counted_before + self.counted

    def raw(self) -> int:
        """What the register shows."""
        return (self._opening + self.counted) % self._capacity

    def reset(self, to: int) -> None:
        """Somebody sets its register."""
        self._counted_before = self.position
        self._from_milliwh = self.place.load.energy_milliwh(self._time.wall_ms())
        self._opening = to
        self.wrong = None
        self.place.breaks += 1
        self.place.set_back_at = self._counted_before

    def show_ratio(self, ratio: Fraction) -> None:
        """Somebody sets its transformer ratio."""
        self._constants["ct_ratio"] = encode(self.meter.profile.registers["ct_ratio"], ratio)

    def replaced(self, serial: str, opening: int) -> "Device":
        """The meter that takes its place."""
        self.place.breaks += 1
        if self.meter.profile.identity is None:
            self.place.set_back_at = self.position
        new = Device(
            replace(self.meter, serial=serial),
            self.place,
            self._time,
            self._version,
            opening=opening,
            counted_before=self.position,
            turnaround_ms=self.turnaround_ms,
        )
        new.said, new.asked_ns, new.is_known = self.said, self.asked_ns, self.is_known
        return new

    def answer(self, pdu: bytes) -> bytes:
        """Its reply, before anything happens to it on the way."""
        reply = super().answer(pdu)
        self.said.append((pdu, reply[2:]))
        self.asked_ns = max(self.asked_ns, self._time.ns)
        if any(fault.kind is Kind.EXCEPTION and fault.code <= ABSENT_MAX for fault in self.faults):
            self.asked_ns = self._time.ns + LEFT_ALONE_NS
            self.place.has_refused = True
        return reply

    def _energy_words(self, energy: Quantity) -> tuple[int, ...]:
        assert isinstance(energy, Register)
        raw, back = self.raw(), self.back
        if self.wrong is not None and self.wrong_for > 0 and self.is_known():
            self.wrong_for -= 1
            return encode(energy, Fraction(self.wrong(raw) % self._capacity))
        raw = (raw - back) % self._capacity
        self.place.note(raw, self.position - back, self._time.ns, self._version())
        return encode(energy, Fraction(raw))


class _Unused:
    """The source of a simulated meter; a device has its place instead."""

    def energy_milliwh(self) -> int:
        """Not asked."""
        return 0

    def power_mw(self) -> int:
        """Not asked."""
        return 0
