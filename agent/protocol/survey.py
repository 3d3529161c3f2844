"""A whole scan of one line: passes, models, and what is the same meter seen twice. A dialogue without I/O.

Comes after `scan` and `recognise`, which it strings together; before it the command line, which says which settings to
try and how long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.metering.plant import SerialSettings
from agent.metering.profile import Profile
from agent.protocol.recognise import Recognised, recognise
from agent.protocol.scan import (
    FAST,
    NETWORK,
    SLOW,
    UNITS,
    Dialogue,
    Presence,
    Progress,
    listed,
    search,
    settled,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A meter of the line, or an address that several share (then there is no model to tell)."""

    presence: Presence
    model: Recognised | None


@dataclass(frozen=True, slots=True)
class Extent:
    """How much to look for. Without settings (a network decides them) there is one pass at the pace of a network.

    The slow pass is made with the settings at which the fast one found something, with all of them where it found
    nothing or `thorough` says so, and with none where `fast_only` does.
    """

    settings: Sequence[SerialSettings] = ()
    units: Sequence[int] = UNITS
    dlt645: bool = True
    fast_only: bool = False
    thorough: bool = False


def survey(extent: Extent, profiles: Mapping[str, Profile]) -> Dialogue[list[Found]]:
    """Find every meter of a line and what it is."""
    present = yield from _passes(extent)
    found: list[Found] = []
    likely: list[str] = []
    for place, presence in enumerate(sorted(present, key=_order)):
        yield Progress("models", presence.settings, place, len(present))
        model = None
        if not presence.shared:
            model = yield from recognise(presence.address, presence.settings, profiles, likely=likely)
            likely += [one.profile for one in model.candidates if one.profile not in likely]
        new = Found(presence, model)
        if not any(_same_meter(new, other) for other in found):
            found.append(new)
    return found


def _passes(extent: Extent) -> Dialogue[list[Presence]]:
    units, dlt645 = extent.units, extent.dlt645
    if not extent.settings:
        return (yield from search([None], NETWORK, units=units, dlt645=dlt645))
    found = yield from listed(extent.settings, FAST, units=units, dlt645=dlt645)
    found = yield from settled(found)
    if extent.fast_only:
        return found
    speeds = {presence.settings.baud for presence in found if presence.settings is not None}
    again = [each for each in extent.settings if each.baud in speeds]
    if extent.thorough or not again:
        again = list(extent.settings)
    return found + (yield from search(again, SLOW, units=units, dlt645=dlt645, known=found))


def _order(presence: Presence) -> tuple[bool, int, str]:
    """Modbus by address, then DL/T 645."""
    is_dlt = isinstance(presence.address, str)
    return is_dlt, presence.address if isinstance(presence.address, int) else 0, str(presence.address)


def _same_meter(one: Found, other: Found) -> bool:
    """A port without parity (a pty, a terminal server) shows one meter under every framing of its speed.

    Two meters are told apart by their serial numbers, or by what they answer.
    """
    a, b = one.presence, other.presence
    if a.settings is None or b.settings is None or a.settings.baud != b.settings.baud:
        return False
    if a.address != b.address or a.shared != b.shared:
        return False
    if one.model is None or other.model is None:
        return a.shared and b.shared
    if one.model.serial is not None or other.model.serial is not None:
        return one.model.serial == other.model.serial
    return one.model.candidates == other.model.candidates and _said(a) == _said(b)


def _said(presence: Presence) -> tuple[int, tuple[int, ...]]:
    greeting = presence.greeting
    return (0, ()) if greeting is None else (greeting.code, greeting.words)
