"""The plant as wired: lines, the meters on them, and the steps they count for.

`agent.settings` makes these values from the site file; the stages and the simulators only read them. A plant never
changes while the agent runs: another site file is another plant.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from agent.metering.profile import Profile, Quantity
from agent.metering.quantity import MILLIWH_PER_UNIT


class Transport(StrEnum):
    """How a line is reached."""

    RS485 = "rs485"
    MODBUS_TCP = "modbus-tcp"
    RS485_OVER_TCP = "rs485-over-tcp"


class Role(StrEnum):
    """What a meter counts; only `STEP` meters count for production steps."""

    STEP = "step"
    INCOMER = "incomer"
    GENERATION = "generation"
    EXPORT = "export"
    UTILITY = "utility"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """Speed and framing of a serial line; `parity` is none, even or odd."""

    baud: int
    parity: str
    stop_bits: int

    @property
    def bits_per_character(self) -> int:
        """Start bit, eight data bits, parity bit if any, stop bits."""
        return 1 + 8 + (0 if self.parity == "none" else 1) + self.stop_bits


@dataclass(frozen=True, slots=True)
class Line:
    """One RS485 pair or TCP gateway. `device` serves rs485, `host` and `port` the other two transports."""

    id: str
    transport: Transport
    device: str | None
    host: str | None
    port: int | None
    serial: SerialSettings
    poll_ms: int


@dataclass(frozen=True, slots=True)
class Share:
    """The exact part of a meter's energy that one step is given."""

    step: str
    part: Fraction


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter of the site file.

    `shares` add up to at most 1 and are empty unless the role is STEP. `serial_settings` is None where the meter
    talks like its line. `rated_w` is the rated power of the circuit in W, for plausibility. `address` is 1..247, or
    the 12 digits of a DL/T 645 meter. `display_checked` says when and by whom the meter's reading was compared with its
    display.
    """

    id: str
    line: str
    address: int | str
    profile: Profile
    role: Role
    shares: tuple[Share, ...]
    serial: str | None = None
    ct_ratio: Fraction = Fraction(1)
    pt_ratio: Fraction = Fraction(1)
    circuit: int | None = None
    serial_settings: SerialSettings | None = None
    rated_w: int | None = None
    parent: str | None = None
    production_line: str | None = None
    powered_by_circuit: bool = False
    accuracy_class: str | None = None
    ct_class: str | None = None
    display_checked: str | None = None
    per_count_milliwh: Fraction = field(init=False, repr=False, compare=False)
    """How many 0.001 Wh one raw count of the energy register is, CT and PT applied where it counts behind them."""
    modulus_milliwh: int | None = field(init=False, repr=False, compare=False)
    """The register's modulus in 0.001 Wh, None where it is unknown."""

    def __post_init__(self) -> None:
        """Work out once what every gate asks for at every boundary: a sixth of the time that closing took."""
        register = self.profile.energy
        per_count = register.per_count * MILLIWH_PER_UNIT[register.unit] * self.transformer_ratio(register)
        modulus = register.modulus_counts
        object.__setattr__(self, "per_count_milliwh", per_count)
        object.__setattr__(self, "modulus_milliwh", None if modulus is None else round(modulus * per_count))

    @property
    def is_proved(self) -> bool:
        """Whether two sources agree on its energy register, or a person has compared it with the display."""
        return self.profile.confidence >= 2 or self.display_checked is not None

    @property
    def place(self) -> str:
        """Where it hangs: its line and its address there."""
        return f"{self.line}/{self.address}"

    def transformer_ratio(self, register: Quantity) -> Fraction:
        """What a register's value is multiplied by: CT x PT for energy and power, PT for V, CT for A, else 1."""
        if not register.secondary:
            return Fraction(1)
        if register.unit == "V":
            return self.pt_ratio
        if register.unit == "A":
            return self.ct_ratio
        return self.ct_ratio * self.pt_ratio

    @property
    def step(self) -> str | None:
        """The step that is given the whole meter, None where there is none or where steps share it."""
        if len(self.shares) == 1 and self.shares[0].part == 1:
            return self.shares[0].step
        return None


@dataclass(frozen=True, slots=True)
class Plant:
    """All lines and meters of one gateway."""

    org: str
    agent: str
    lines: tuple[Line, ...]
    meters: tuple[Meter, ...]

    def meters_on(self, line_id: str) -> tuple[Meter, ...]:
        """The meters of one line, in the order of the site file."""
        return tuple(meter for meter in self.meters if meter.line == line_id)
