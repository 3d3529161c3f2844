"""How long each line is going to need, before a single wire is connected.

A line that needs 14 s to read its energy registers once cannot serve an interval of 10 s, and no code can help: the
limit is physics (design, section 6). So it is computed here from the profiles and the line's speed, refused where even
the limit does not fit, and printed by `check`, so that an installer moves meters to a second adapter at the desk. What
the agent needs beyond the limit was measured (`make bench`): a quarter of a millisecond for each read.

Comes after the plant was made; what is read, and how it is cut into requests, is what `agent.service.poll` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.metering.plan import Block, BusCost, plan_for
from agent.metering.plant import Line, Meter, Plant, SerialSettings, Transport
from agent.protocol.silence import silence_ns
from agent.service.boundary import patience_ms
from agent.service.watch import TYPICAL_ROUND_TRIP_NS, TYPICAL_TURNAROUND_NS, live_registers

BEYOND_LIMIT_NS = 250_000
"""What a read takes longer than its physical limit: the operating system's and our own part."""
SWITCHING_NS = 2_000_000
"""A serial driver needs so long to change speed or parity."""


@dataclass(frozen=True, slots=True)
class LineForecast:
    """The least time that one line needs, with meters that answer after 10 ms (TCP: 2 ms).

    `sweep_ns` reads the energy register of every meter once, which is done at each boundary; `round_ns` reads what is
    watched in between, once in every poll period. `behind_gateway_ns` is the sweep of a Modbus TCP line whose meters
    share an RS485 pair behind the gateway, at the line's baud; None on other lines and for a single meter. `reads` and
    `round_reads` are how many requests these take. `switches` is how often the line changes its speed or parity in one
    sweep, meters of one speed read together.
    """

    line: Line
    meters: int
    sweep_ns: int
    round_ns: int
    behind_gateway_ns: int | None
    reads: int
    round_reads: int
    switches: int

    @property
    def cycle_ns(self) -> int:
        """What a sweep is going to take."""
        return self.sweep_ns + self.reads * BEYOND_LIMIT_NS

    @property
    def round_cycle_ns(self) -> int:
        """What a round of live reads is going to take."""
        return self.round_ns + self.round_reads * BEYOND_LIMIT_NS

    def busy_permille(self, interval_ms: int) -> int:
        """How much of the line's time is used, with a sweep in each interval and a round in each poll period."""
        sweeps = 1000 * self.cycle_ns // (interval_ms * 1_000_000)
        return sweeps + 1000 * self.round_cycle_ns // (self.line.poll_ms * 1_000_000)

    def fits(self, interval_ms: int) -> bool:
        """Whether a sweep can end while a boundary waits for it. A TCP gateway is given the benefit of the doubt."""
        return self.cycle_ns <= patience_ms(interval_ms) * 1_000_000


def forecast(plant: Plant) -> tuple[LineForecast, ...]:
    """One forecast for each line, in the order of the site file."""
    return tuple(_forecast(line, plant.meters_on(line.id)) for line in plant.lines)


def expected_reads_ns(line: Line, meters: Sequence[Meter]) -> int:
    """What it takes to read the energy register of each of these meters once, if all answer."""
    costs = [(meter, _cost(line, meter)) for meter in meters]
    reads = sum(len(_energy_blocks(meter, cost)) for meter, cost in costs)
    return sum(_energy_ns(meter, cost) for meter, cost in costs) + reads * BEYOND_LIMIT_NS


def format_s(time_ns: int) -> str:
    """A length of time for people, rounded up to milliseconds: `0.034 s`."""
    time_ms = -(-time_ns // 1_000_000)
    return f"{time_ms // 1_000}.{time_ms % 1_000:03d} s"


def _forecast(line: Line, meters: tuple[Meter, ...]) -> LineForecast:
    on_tcp = line.transport is Transport.MODBUS_TCP
    units = {meter.address for meter in meters}
    switches = 0 if on_tcp else _switches(line, meters)
    switching_ns = 0 if on_tcp else _switching_ns(line, meters)
    return LineForecast(
        line=line,
        meters=len(meters),
        sweep_ns=sum(_energy_ns(meter, _cost(line, meter)) for meter in meters) + switching_ns,
        round_ns=sum(_live_ns(meter, _cost(line, meter)) for meter in meters) + switching_ns,
        behind_gateway_ns=sum(_energy_ns(meter, _serial_cost(line, meter)) for meter in meters)
        if on_tcp and len(units) > 1
        else None,
        reads=sum(len(_energy_blocks(meter, _cost(line, meter))) for meter in meters),
        round_reads=sum(len(_live_blocks(meter, _cost(line, meter))) for meter in meters),
        switches=switches,
    )


def _cost(line: Line, meter: Meter) -> BusCost:
    if line.transport is Transport.MODBUS_TCP:
        return BusCost.tcp(TYPICAL_ROUND_TRIP_NS)
    return _serial_cost(line, meter)


def _serial_cost(line: Line, meter: Meter) -> BusCost:
    settings = meter.serial_settings or line.serial
    return BusCost.serial(settings, TYPICAL_TURNAROUND_NS, meter.profile.quiet_ms)


def _speeds(line: Line, meters: tuple[Meter, ...]) -> list[SerialSettings]:
    """Each speed and parity of the line's meters once."""
    return list(dict.fromkeys(meter.serial_settings or line.serial for meter in meters))


def _switches(line: Line, meters: tuple[Meter, ...]) -> int:
    """Meters of one speed are read together, and the speed to which the line is tuned comes first."""
    return max(0, len(_speeds(line, meters)) - 1)


def _switching_ns(line: Line, meters: tuple[Meter, ...]) -> int:
    """What the changes of speed cost: the driver's time, and a silence of the slower of the two."""
    silences = sorted(silence_ns(settings) for settings in _speeds(line, meters))
    rising_ns = silences[-1] - silences[0] if silences else 0
    return _switches(line, meters) * SWITCHING_NS + rising_ns


def _energy_blocks(meter: Meter, cost: BusCost) -> tuple[Block, ...]:
    return plan_for(meter.profile, meter.profile.energy.parts, cost)


def _live_blocks(meter: Meter, cost: BusCost) -> tuple[Block, ...]:
    profile = meter.profile
    return plan_for(profile, live_registers(profile), cost)


def _energy_ns(meter: Meter, cost: BusCost) -> int:
    return sum(cost.block_ns(block) for block in _energy_blocks(meter, cost))


def _live_ns(meter: Meter, cost: BusCost) -> int:
    return sum(cost.block_ns(block) for block in _live_blocks(meter, cost))
