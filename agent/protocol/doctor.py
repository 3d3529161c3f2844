"""The line doctor: from what reads of a line came to, the likely cause of what is wrong with it, with its evidence.

Pure: tallies in, diagnoses out. A tally is what became of many reads of one meter: sound answers, silence, damage, what
was heard without being asked, and bytes that are part of no frame; and, where the doctor tried them, the settings at
which a silent meter did answer. `metering-agent doctor` fills it by a test, a running agent by what it reads anyway.

What tells the causes apart:

    A/B swapped          nobody answers, and almost every request leaves a stray byte: the idle pair reads as a break
    wrong baud, parity   a silent meter answers at other settings
    two with an address  one address is damaged, or answers twice, while its neighbours are sound
    missing termination  most meters are damaged now and then, whoever is asked: reflections do not choose
    another master       meters answer questions that we did not ask

A line on which nothing is said by these rules is called healthy as far as it was heard; a meter without power is silent
and no fault of the line.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.metering.plant import SerialSettings

FRAMES_MIN = 20
"""Fewer reads of a meter say nothing."""
STRAYS_MIN = 2
"""So many answers to questions of others are no late answer of our own."""
BREAK_PERMILLE = 300
"""So many silent reads with a stray byte are no noise."""
BREAK_BYTES = 3
"""A break is one byte or two; the rubble of a collision is as long as an answer."""
DAMAGE_PERMILLE = 8
"""A meter with fewer damaged or lost reads is sound: noise is everywhere."""
OUTLIER_FACTOR = 8
"""So many times worse than its neighbours is one address that has the fault for itself."""
TWICE_PERMILLE = 50
"""An address that answers twice so often has two meters."""


class Cause(StrEnum):
    """What is wrong, in one word."""

    SWAPPED = "swapped-wires"
    BAUD = "wrong-baud"
    PARITY = "wrong-parity"
    TWINS = "one-address-twice"
    TERMINATION = "missing-termination"
    MASTER = "another-master"


REMEDIES = {
    Cause.SWAPPED: "swap the two wires A and B at the adapter, or at the device that was connected last; makers label "
    "them differently",
    Cause.BAUD: "give the meter the line's baud rate, or say the meter's own in the site file",
    Cause.PARITY: "give the meter the line's parity, or say the meter's own in the site file",
    Cause.TWINS: "switch off one meter after the other to find the second one, and give it a free address",
    Cause.TERMINATION: "put a resistor of 120 ohm across A and B at both ends of the line and nowhere else, and check "
    "bias, shield and loose wires",
    Cause.MASTER: "find the other master (a display, a gateway, another agent) and take it off this line; it can have "
    "only one",
}


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the reads of one meter.

    `settings` are those it was asked at, `answers_at` those at which it answered when these brought silence.
    `own_strays` counts answers of this meter to nothing we asked, `other_strays` those of other meters meanwhile,
    `with_garbage` the reads after which there were bytes of no frame, `garbage_bytes` all these bytes. `foreign` counts
    requests of somebody else that were heard.
    """

    meter: str
    address: int | str
    settings: SerialSettings
    answered: int = 0
    silent: int = 0
    damaged: int = 0
    own_strays: int = 0
    other_strays: int = 0
    with_garbage: int = 0
    garbage_bytes: int = 0
    foreign: int = 0
    answers_at: SerialSettings | None = None

    @property
    def asked(self) -> int:
        """All reads."""
        return self.answered + self.silent + self.damaged

    @property
    def lost_permille(self) -> int:
        """Reads without a sound answer, of a thousand."""
        return 1000 * (self.silent + self.damaged) // max(1, self.asked)

    @property
    def twice_permille(self) -> int:
        """Answers without a question, of a thousand."""
        return 1000 * self.own_strays // max(1, self.asked)

    @property
    def rubble_permille(self) -> int:
        """Reads with bytes of no frame, of a thousand."""
        return 1000 * self.with_garbage // max(1, self.asked)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One likely cause. `meters` are those concerned, empty where it is the line; `evidence` has the figures."""

    cause: Cause
    meters: tuple[str, ...]
    evidence: str

    @property
    def remedy(self) -> str:
        """What to do."""
        return REMEDIES[self.cause]


def diagnose(tallies: Iterable[Tally]) -> tuple[Diagnosis, ...]:
    """The likely causes, surest first; none where nothing is wrong with the line."""
    heard = [tally for tally in tallies if tally.asked >= FRAMES_MIN]
    found = [*_other_settings(heard)]
    swapped = [] if found else _swapped(heard)
    if swapped:
        return tuple(swapped)
    speaking = [tally for tally in heard if tally.answered or 2 * tally.damaged > tally.asked]
    master = _another_master(heard)
    if master is not None:
        return (*found, master)  # its collisions damage everything: nothing else can be told
    twins = _twins(speaking)
    found += [_twin(tally, speaking) for tally in twins]
    found += _termination([tally for tally in speaking if tally not in twins])
    return tuple(found)


def alternatives(
    settings: SerialSettings, likely: Sequence[SerialSettings] = ()
) -> tuple[SerialSettings, ...]:
    """Settings to try at a silent meter: its maker's, the line's with another parity, then the other usual speeds."""
    parities = (("none", 1), ("even", 1), ("odd", 1), ("none", 2))
    same_speed = [SerialSettings(settings.baud, parity, stop) for parity, stop in parities]
    speeds = (9600, 19_200, 2400, 4800, 38_400, 115_200, 1200)
    others = [SerialSettings(baud, parity, stop) for parity, stop in parities[:3] for baud in speeds]
    tried = dict.fromkeys([*likely, *same_speed, *others])
    tried.pop(settings, None)
    return tuple(tried)


# ----------------------------------------------------------------------------------------------------------- causes


def _other_settings(heard: Sequence[Tally]) -> list[Diagnosis]:
    found = []
    for tally in heard:
        there = tally.answers_at
        if there is None or tally.answered:
            continue
        cause = Cause.BAUD if there.baud != tally.settings.baud else Cause.PARITY
        evidence = (
            f"{tally.meter} (address {tally.address}) was silent {tally.silent} times at {spoken(tally.settings)} "
            f"and answers at {spoken(there)}"
        )
        found.append(Diagnosis(cause, (tally.meter,), evidence))
    return found


def _swapped(heard: Sequence[Tally]) -> list[Diagnosis]:
    if any(tally.answered or tally.own_strays or tally.other_strays for tally in heard):
        return []
    asked, broken = sum(tally.asked for tally in heard), sum(tally.with_garbage for tally in heard)
    stray_bytes = sum(tally.garbage_bytes for tally in heard)
    if not broken or 1000 * broken < BREAK_PERMILLE * asked or stray_bytes > BREAK_BYTES * broken:
        return []
    evidence = (
        f"none of {len(heard)} meters answered in {asked} reads, and {broken} of them left a stray byte where the "
        "line should be silent"
    )
    return [Diagnosis(Cause.SWAPPED, (), evidence)]


def _another_master(heard: Sequence[Tally]) -> Diagnosis | None:
    others = sum(tally.other_strays for tally in heard)
    foreign = sum(tally.foreign for tally in heard)
    answering_twice = [tally for tally in heard if tally.own_strays]
    if foreign < STRAYS_MIN and others < STRAYS_MIN and len(answering_twice) < max(3, len(heard) // 2):
        return None
    strays = others + sum(tally.own_strays for tally in heard)
    asked = sum(tally.asked for tally in heard)
    lost = sum(tally.silent + tally.damaged for tally in heard)
    evidence = (
        f"{foreign} requests of somebody else and {strays} answers to them were heard in {asked} reads; {lost} reads "
        "were lost meanwhile"
    )
    return Diagnosis(Cause.MASTER, (), evidence)


def _twins(speaking: Sequence[Tally]) -> list[Tally]:
    """Addresses that have a fault for themselves: far worse than their neighbours, or answering twice."""
    found = []
    for tally in speaking:
        neighbours = [other for other in speaking if other is not tally]
        lost = tally.damaged and _stands_out(
            tally.lost_permille, [other.lost_permille for other in neighbours]
        )
        rubble = _stands_out(tally.rubble_permille, [other.rubble_permille for other in neighbours])
        if tally.twice_permille >= TWICE_PERMILLE or lost or rubble:
            found.append(tally)
    return found


def _stands_out(permille: int, others: list[int]) -> bool:
    """Whether one address is far worse than the usual one beside it; there has to be one."""
    if not others:
        return False
    usual = sorted(others)[len(others) // 2]
    return permille > max(5 * DAMAGE_PERMILLE, OUTLIER_FACTOR * usual)


def _twin(tally: Tally, speaking: Sequence[Tally]) -> Diagnosis:
    neighbours = [other for other in speaking if other is not tally]
    lost = sum(other.silent + other.damaged for other in neighbours)
    asked = sum(other.asked for other in neighbours)
    evidence = (
        f"address {tally.address} ({tally.meter}): {tally.damaged} of {tally.asked} answers damaged, "
        f"{tally.silent} missing, {tally.own_strays} second answers, stray bytes in {tally.with_garbage} reads; "
        f"the other addresses lost {lost} of {asked}"
    )
    return Diagnosis(Cause.TWINS, (tally.meter,), evidence)


def _termination(speaking: Sequence[Tally]) -> list[Diagnosis]:
    """Damage that is spread over the line."""
    hurt = [tally for tally in speaking if tally.lost_permille >= DAMAGE_PERMILLE and tally.damaged]
    asked = sum(tally.asked for tally in speaking)
    damaged = sum(tally.damaged for tally in speaking)
    lost = damaged + sum(tally.silent for tally in hurt)
    if 2 * len(hurt) <= len(speaking) or damaged < 3 or 1000 * lost < DAMAGE_PERMILLE * asked:
        return []
    evidence = (
        f"{len(hurt)} of {len(speaking)} meters have damaged answers: {damaged} of {asked}, whoever is asked, and "
        f"{sum(tally.with_garbage for tally in speaking)} reads with stray bytes"
    )
    return [Diagnosis(Cause.TERMINATION, (), evidence)]


def spoken(settings: SerialSettings) -> str:
    """Line settings for people: `9600 8N1`."""
    return f"{settings.baud} 8{settings.parity[0].upper()}{settings.stop_bits}"
