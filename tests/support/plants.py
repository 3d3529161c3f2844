"""Small plants from the shipped profiles, for tests that need lines and meters but no site file."""

from fractions import Fraction

from agent.metering.plant import Line, Meter, Plant, Role, SerialSettings, Share, Transport
from agent.resources import config_path
from agent.settings.profiles import load_profiles

PROFILES = load_profiles(config_path("profiles"))
FAST = SerialSettings(115_200, "none", 1)
SLOW = SerialSettings(9600, "none", 1)


def meter(
    name: str, unit: int, profile: str = "eastron-sdm630-v2", *, line: str = "bus", ct: int = 1
) -> Meter:
    """A meter that counts for a step of its own name."""
    shares = (Share(name, Fraction(1)),)
    return Meter(name, line, unit, PROFILES[profile], Role.STEP, shares, ct_ratio=Fraction(ct))


def line(
    name: str = "bus",
    *,
    transport: Transport = Transport.RS485,
    device: str | None = None,
    host: str | None = None,
    port: int | None = None,
    serial: SerialSettings = FAST,
) -> Line:
    """A line of one second's poll."""
    return Line(name, transport, device, host, port, serial, 1000)


def plant(lines: tuple[Line, ...], meters: tuple[Meter, ...]) -> Plant:
    """A gateway with these lines and meters."""
    return Plant("acme", "gw01", lines, meters)
