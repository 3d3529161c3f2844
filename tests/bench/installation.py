"""What is measured: meters of one profile on one line, the agent's site file, and the line's physical limit."""

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

from agent.metering.plan import Block, BusCost, plan_reads
from agent.metering.plant import Meter, Role, SerialSettings, Share
from agent.metering.profile import Profile
from agent.service.watch import LIVE_REGISTERS
from agent.settings.profiles import load_profiles

ORG, AGENT, AUDIENCE = "bench-meterworks", "gw01", "carbon.bench.example"
PROFILES = Path(__file__).with_name("profiles")
ENERGY_ONLY, LIVE = "bench-energy", "bench-live"


@cache
def profiles() -> dict[str, Profile]:
    """The two profiles of the bench: one with its energy register alone, one with power, voltage and current too."""
    return load_profiles(PROFILES)


def bench_meter(unit: int, profile: str) -> Meter:
    """A meter of the bench, counting for a step."""
    share = Share("reflow_soldering", Fraction(1))
    return Meter(f"m{unit}", "bus", unit, profiles()[profile], Role.STEP, (share,), rated_w=1_000_000)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    baud: int
    parity: str
    meters: int
    turnaround_ms: int
    profile: str
    dead: tuple[int, ...] = ()

    @property
    def serial(self) -> SerialSettings:
        return SerialSettings(self.baud, self.parity, 1)

    @property
    def cost(self) -> BusCost:
        return BusCost.serial(self.serial, self.turnaround_ms * 1_000_000)

    def blocks(self) -> tuple[Block, ...]:
        """The cheapest reads of one meter's live registers."""
        known = profiles()[self.profile]
        wanted = [known.registers[name] for name in LIVE_REGISTERS if name in known.registers]
        return plan_reads(wanted, read_limit=known.read_limit, alignment=known.alignment, cost=self.cost)

    def energy_block(self) -> Block:
        """The read of a boundary's sweep."""
        known = profiles()[self.profile]
        (block,) = plan_reads(
            known.energy.parts, read_limit=known.read_limit, alignment=known.alignment, cost=self.cost
        )
        return block

    def worth_ns(self, address: int, count: int) -> float:
        """What a read brings, as time of the cheapest reads: a whole cycle of any plan is worth the cheapest plan.

        Near the break-even of two plans the agent, which measures the turnaround, may take another than the one that
        the exact turnaround makes cheapest by a hair. Each register is worth its part of the cheapest block that holds
        it; the read of a boundary's sweep is worth itself.
        """
        energy = self.energy_block()
        if (address, count) == (energy.address, energy.count):
            return self.cost.transaction_ns(count)
        return sum(
            self.cost.transaction_ns(block.count) / len(block.registers)
            for block in self.blocks()
            for register in block.registers
            if address <= register.address and register.address + register.words <= address + count
        )

    def argument(self) -> str:
        """For the process of the pair."""
        return json.dumps(
            {
                "baud": self.baud,
                "parity": self.parity,
                "meters": self.meters,
                "turnaround_ms": self.turnaround_ms,
                "profile": self.profile,
                "dead": self.dead,
            }
        )

    def __str__(self) -> str:
        what = "energy" if self.profile == ENERGY_ONLY else "energy+P+U+I"
        return (
            f"{self.baud} 8{self.parity[0].upper()}1, {self.meters} meters, T {self.turnaround_ms} ms, {what}"
        )


def line_table(setting: Setting, device: str) -> str:
    """The line and its meters, in a site file."""
    tables = [
        f"""\
[[lines]]
id = "bus"
transport = "rs485"
device = "{device}"
baud = {setting.baud}
parity = "{setting.parity}"
poll = "100ms"
"""
    ]
    tables += [meter_table(unit, "bus", unit, setting.profile) for unit in range(1, setting.meters + 1)]
    return "\n".join(tables)


def meter_table(number: int, line: str, address: int, profile: str) -> str:
    """One meter, in a site file."""
    return f"""\
[[meters]]
id = "m{number}"
line = "{line}"
address = {address}
profile = "{profile}"
step = "reflow_soldering"
rated_kw = "1000"
"""


def head_table(broker: str, interval: str) -> str:
    """Everything else of a site file."""
    return f"""\
[gateway]
org = "{ORG}"
agent = "{AGENT}"

[platform]
audience = "{AUDIENCE}"
broker = "{broker}"
acknowledgement_keys = ["platform.pem"]

[signing]
key_file = "signing-key.pem"

[journal]
path = "journal.db"
budget_mb = 20000

[interval]
length = "{interval}"

[profiles]
directory = "{PROFILES}"
"""
