"""A factory that makes electricity meters: shifts, breaks, ovens that stay hot, trucks that charge at noon.

Each production step draws a load that follows the working day (`factory_loads.toml`, data). Time here is the factory's
own: milliseconds since a Monday 00:00 local time, which may run faster than the world's. Power is constant for ten
seconds at a time, and energy is its exact integral in integers, milliwatts times milliseconds, so that the same seed
gives the same 0.001 Wh on every machine. After it come the simulated meters.
"""

import tomllib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from agent.metering.plant import Meter, Plant, Role

LOADS_FILE = Path(__file__).with_name("factory_loads.toml")

MW_MS_PER_MILLIWH = 3_600_000
"""0.001 Wh is 3.6 J, which is 3 600 000 milliwatts times milliseconds."""
SLOT_MS = 10_000
MINUTE_MS, HOUR_MS, DAY_MS, WEEK_MS = 60_000, 3_600_000, 86_400_000, 604_800_000
MONDAY_MORNING_MS = 9 * HOUR_MS + 20 * MINUTE_MS
"""A time at which everything runs, for a demonstration."""
RIPPLE_PERCENT = 12
"""How far the load of a running machine moves up and down."""
LOSSES = Fraction(1, 200)
"""What an incomer counts beyond the meters it feeds: cables, and circuits without a meter."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Working hours as minutes of the day, and the weekdays (1 is Monday) on which the factory is closed."""

    shifts: tuple[tuple[int, int], ...]
    breaks: tuple[tuple[int, int], ...]
    closed_days: frozenset[int]

    def is_open(self, at_ms: int) -> bool:
        """Whether a shift is on, breaks included."""
        day, minute = _day_and_minute(at_ms)
        return day not in self.closed_days and _within(minute, self.shifts)

    def is_break(self, at_ms: int) -> bool:
        """Whether people pause."""
        return _within(_day_and_minute(at_ms)[1], self.breaks)


@dataclass(frozen=True, slots=True)
class Load:
    """One step's machines: watts while running, ready and closed, and the pattern they follow."""

    name: str
    pattern: str
    run_w: int
    ready_w: int
    closed_w: int
    lead_min: int = 0

    def power_mw(self, at_ms: int, hours: Hours, seed: int) -> int:
        """Power at a moment, in milliwatts, constant within a slot."""
        slot = at_ms // SLOT_MS
        watts = self._level_w(slot * SLOT_MS, hours)
        chance = zlib.crc32(f"{seed}/{self.name}/{slot}".encode())
        ripple_permille = chance % (20 * RIPPLE_PERCENT + 1) - 10 * RIPPLE_PERCENT
        return watts * (1000 + ripple_permille)

    def _level_w(self, at_ms: int, hours: Hours) -> int:
        is_open, is_break = hours.is_open(at_ms), hours.is_break(at_ms)
        match self.pattern:
            case "sun":
                return self.run_w * _sun_permille(at_ms) // 1000
            case "continuous":
                return self.run_w if is_open else self.closed_w
            case "charging":
                return self.run_w if is_break or not is_open else self.ready_w
            case "oven":
                heated = is_open or hours.is_open(at_ms + self.lead_min * MINUTE_MS)
                level = self.ready_w if is_break or not is_open else self.run_w
                return level if heated else self.closed_w
            case _:
                if not is_open:
                    return self.closed_w
                return self.ready_w if is_break else self.run_w


@dataclass(frozen=True, slots=True)
class Loads:
    """The loads file: hours, steps and roles."""

    hours: Hours
    steps: Mapping[str, Load]
    roles: Mapping[str, Load]

    def of_step(self, step: str) -> Load:
        """The load of a step; one made of its name where the file does not know it."""
        return self.steps.get(step) or _made_up(step)


def read_loads(path: Path = LOADS_FILE) -> Loads:
    """Read a loads file. Raises KeyError or ValueError where it is not as the shipped one."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    hours = document["hours"]
    return Loads(
        Hours(_spans(hours["shifts"]), _spans(hours["breaks"]), frozenset(hours["closed_days"])),
        {name: _load(name, table) for name, table in document["steps"].items()},
        {name: _load(name, table) for name, table in document["roles"].items()},
    )


class Factory:
    """All loads together, integrated as time goes on.

    `now_ms` is the factory's own time and never falls; energies begin at zero when the factory is made.
    """

    def __init__(self, now_ms: Callable[[], int], *, loads: Loads | None = None, seed: int = 0) -> None:
        self.loads = loads or read_loads()
        self._now_ms = now_ms
        self._seed = seed
        self._begin_ms = now_ms()
        self._at_ms: dict[str, int] = {}
        self._mw_ms: dict[str, int] = {}

    def energy_milliwh(self, load: Load) -> int:
        """What a load has used since the factory was made, 0.001 Wh, floored."""
        return self._integrate(load, self._now_ms()) // MW_MS_PER_MILLIWH

    def power_mw(self, load: Load) -> int:
        """What a load draws now, milliwatts."""
        return load.power_mw(self._now_ms(), self.loads.hours, self._seed)

    def _integrate(self, load: Load, to_ms: int) -> int:
        at_ms = self._at_ms.get(load.name, self._begin_ms)
        total = self._mw_ms.get(load.name, 0)
        while at_ms < to_ms:
            end_ms = min(to_ms, (at_ms // SLOT_MS + 1) * SLOT_MS)
            total += load.power_mw(at_ms, self.loads.hours, self._seed) * (end_ms - at_ms)
            at_ms = end_ms
        self._at_ms[load.name], self._mw_ms[load.name] = at_ms, total
        return total


class FactoryClock:
    """The factory's time: starts at `start_ms`, runs `speed` times as fast as the world, and can be stopped."""

    def __init__(
        self, monotonic_ns: Callable[[], int], *, start_ms: int = MONDAY_MORNING_MS, speed: int = 1
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._begin_ns = monotonic_ns()
        self._start_ms = start_ms
        self._speed = speed
        self._frozen_ms: int | None = None

    def now_ms(self) -> int:
        """Milliseconds since a Monday 00:00."""
        if self._frozen_ms is not None:
            return self._frozen_ms
        return self._start_ms + (self._monotonic_ns() - self._begin_ns) * self._speed // 1_000_000

    def freeze(self) -> None:
        """Stop: from here on no counter moves."""
        self._frozen_ms = self.now_ms()

    @property
    def is_frozen(self) -> bool:
        """Whether the time stands."""
        return self._frozen_ms is not None


# ------------------------------------------------------------------------------------------------- circuits of a plant


class Circuit:
    """What one meter measures: parts of loads, and the circuits it feeds."""

    def __init__(
        self,
        factory: Factory,
        parts: Sequence[tuple[Load, Fraction]],
        feeds: Sequence["Circuit"] = (),
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._factory = factory
        self._parts = tuple(parts)
        self._feeds = tuple(feeds)
        self._stopped = stopped

    def energy_milliwh(self) -> int:
        """Energy since the factory was made; an incomer's is exactly that of its circuits, and the losses."""
        own = sum(int(self._factory.energy_milliwh(load) * part) for load, part in self._parts)
        fed = sum(circuit.energy_milliwh() for circuit in self._feeds)
        return own + fed + int(fed * LOSSES)

    def power_mw(self) -> int:
        """Power now; 0 once the factory's time stands, because nothing is counted then."""
        if self._stopped():
            return 0
        own = sum(int(self._factory.power_mw(load) * part) for load, part in self._parts)
        return own + sum(circuit.power_mw() for circuit in self._feeds)


def circuits_of(
    plant: Plant, factory: Factory, *, stopped: Callable[[], bool] = lambda: False
) -> dict[str, Circuit]:
    """The circuit behind every meter of a plant.

    A step's load is divided evenly among the meters that count for it. An incomer feeds the meters that name it as
    their parent; one that nobody names feeds all meters that count a load and have no parent.
    """
    made: dict[str, Circuit] = {}
    served = _meters_by_step(plant)

    def circuit(meter: Meter) -> Circuit:
        if meter.id not in made:
            feeds = [circuit(child) for child in _fed_by(plant, meter)]
            made[meter.id] = Circuit(factory, _parts(factory, meter, served), feeds, stopped=stopped)
        return made[meter.id]

    return {meter.id: circuit(meter) for meter in plant.meters}


def _parts(factory: Factory, meter: Meter, served: Mapping[str, int]) -> list[tuple[Load, Fraction]]:
    if meter.role is Role.STEP:
        return [
            (factory.loads.of_step(share.step), Fraction(1, served[share.step])) for share in meter.shares
        ]
    if meter.role is Role.INCOMER:
        return []
    return [(factory.loads.roles.get(meter.role.value) or _made_up(meter.id), Fraction(1))]


def _fed_by(plant: Plant, meter: Meter) -> list[Meter]:
    children = [child for child in plant.meters if child.parent == meter.id]
    if children or meter.role is not Role.INCOMER:
        return children
    loads = (Role.STEP, Role.UTILITY, Role.OTHER)
    return [other for other in plant.meters if other.parent is None and other.role in loads]


def _meters_by_step(plant: Plant) -> dict[str, int]:
    served: dict[str, int] = {}
    for meter in plant.meters:
        for share in meter.shares:
            served[share.step] = served.get(share.step, 0) + 1
    return served


# ------------------------------------------------------------------------------------------------------- small things


def _load(name: str, table: Mapping[str, int | str]) -> Load:
    return Load(
        name,
        str(table["pattern"]),
        int(table["run"]),
        int(table["ready"]),
        int(table["closed"]),
        int(table.get("lead_min", 0)),
    )


def _made_up(name: str) -> Load:
    """A load of 1 to 20 kW that is the same for the same name."""
    run_w = 1000 + zlib.crc32(name.encode()) % 19_001
    return Load(name, "shift", run_w, run_w // 4, run_w // 50)


def _spans(texts: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    return tuple((_minute(begin), _minute(end)) for begin, end in texts)


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _within(minute: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(begin <= minute < end for begin, end in spans)


def _day_and_minute(at_ms: int) -> tuple[int, int]:
    in_week_ms = at_ms % WEEK_MS
    return in_week_ms // DAY_MS + 1, in_week_ms % DAY_MS // MINUTE_MS


def _sun_permille(at_ms: int) -> int:
    """A parabola from 6 to 18 o'clock, in thousandths of the peak."""
    minute = _day_and_minute(at_ms)[1]
    if not 360 <= minute <= 1080:
        return 0
    return (minute - 360) * (1080 - minute) * 1000 // (360 * 360)
