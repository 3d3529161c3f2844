"""What the machines of a line say and are told: the same for Modbus RTU, DL/T 645 and Modbus TCP.

A machine (`rtu`, `dlt_master`, `tcp_master`) takes bytes and times and gives these events; an adapter does what they
say. All times are monotonic nanoseconds.
"""

from dataclasses import dataclass

from agent.errors import MeteringError
from agent.metering.plant import SerialSettings


@dataclass(frozen=True, slots=True)
class Retune:
    """Change speed and framing of the port, before the next `Send`."""

    settings: SerialSettings


@dataclass(frozen=True, slots=True)
class Send:
    """Write this frame now."""

    data: bytes


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Call `tick` at this time unless bytes arrive before; replaces any earlier wait."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Words:
    """The request is answered. `sent_ns` is when its first byte went out, `received_ns` when the last byte was here.

    `sender` is the address under which a DL/T 645 meter answered, None for Modbus.
    """

    words: tuple[int, ...]
    sent_ns: int
    received_ns: int
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request has no sound answer: MeterSilent, FrameDamaged, MeterBusy or MeterRefused."""

    error: MeteringError


Event = Retune | Send | WaitUntil | Words | Failed
