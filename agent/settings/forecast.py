"""How long each line is going to need, before a single wire is connected.

A line that needs 14 s to read its energy registers once cannot serve an interval of 10 s, and no code can help: the
limit is physics (design, section 6). So it is computed here from the profiles and the line's speed, refused where even
the limit does not fit, and printed by `check`, so that an installer moves meters to a second adapter at the desk.

Comes after the plant was made; what is read, and how it is cut into requests, is what `agent.service.poll` does.
"""

from dataclasses import dataclass
from itertools import pairwise

from agent.metering.plan import BusCost, plan_for
from agent.metering.plant import Line, Meter, Plant, Transport
from agent.metering.profile import Register
from agent.protocol.rtu import silence_ns
from agent.service.poll import LIVE_REGISTERS, TYPICAL_ROUND_TRIP_NS, TYPICAL_TURNAROUND_NS


@dataclass(frozen=True, slots=True)
class LineForecast:
    """The least time that one line needs, with meters that answer after 10 ms (TCP: 2 ms).

    `sweep_ns` reads the energy register of every meter once, which is done at each boundary; `round_ns` reads what is
    watched in between, once in every poll period. `behind_gateway_ns` is the sweep of a Modbus TCP line whose meters
    share an RS485 pair behind the gateway, at the line's baud; None on other lines and for a single meter.
    """

    line: Line
    meters: int
    sweep_ns: int
    round_ns: int
    behind_gateway_ns: int | None

    def fits(self, interval_ms: int) -> bool:
        """Whether the sweep can end before the next one begins. A TCP gateway is given the benefit of the doubt."""
        return self.sweep_ns <= interval_ms * 1_000_000


def forecast(plant: Plant) -> tuple[LineForecast, ...]:
    """One forecast for each line, in the order of the site file."""
    return tuple(_forecast(line, plant.meters_on(line.id)) for line in plant.lines)


def format_s(time_ns: int) -> str:
    """A length of time for people, rounded up to milliseconds: `0.034 s`."""
    time_ms = -(-time_ns // 1_000_000)
    return f"{time_ms // 1_000}.{time_ms % 1_000:03d} s"


def _forecast(line: Line, meters: tuple[Meter, ...]) -> LineForecast:
    on_tcp = line.transport is Transport.MODBUS_TCP
    units = {meter.address for meter in meters}
    switching_ns = 0 if on_tcp else _switching_ns(line, meters)
    return LineForecast(
        line=line,
        meters=len(meters),
        sweep_ns=sum(_energy_ns(meter, _cost(line, meter)) for meter in meters) + switching_ns,
        round_ns=sum(_live_ns(meter, _cost(line, meter)) for meter in meters) + switching_ns,
        behind_gateway_ns=sum(_energy_ns(meter, _serial_cost(line, meter)) for meter in meters)
        if on_tcp and len(units) > 1
        else None,
    )


def _cost(line: Line, meter: Meter) -> BusCost:
    if line.transport is Transport.MODBUS_TCP:
        return BusCost.tcp(TYPICAL_ROUND_TRIP_NS)
    return _serial_cost(line, meter)


def _serial_cost(line: Line, meter: Meter) -> BusCost:
    settings = meter.serial_settings or line.serial
    return BusCost.serial(settings, TYPICAL_TURNAROUND_NS, meter.profile.quiet_ms)


def _switching_ns(line: Line, meters: tuple[Meter, ...]) -> int:
    """What it costs to go through meters of several speeds in their order: before a slower one is asked, the line
    has to be silent for 3.5 of its longer characters."""
    silences = [silence_ns(meter.serial_settings or line.serial) for meter in meters]
    return sum(max(0, after - before) for before, after in pairwise(silences))


def _energy_ns(meter: Meter, cost: BusCost) -> int:
    return sum(cost.block_ns(block) for block in plan_for(meter.profile, meter.profile.energy.parts, cost))


def _live_ns(meter: Meter, cost: BusCost) -> int:
    profile = meter.profile
    wanted: list[Register] = [profile.registers[name] for name in LIVE_REGISTERS if name in profile.registers]
    return sum(cost.block_ns(block) for block in plan_for(profile, wanted, cost))
