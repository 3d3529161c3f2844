"""The line doctor on seeded sick lines: it names the cause, and says nothing of a healthy line."""

import pytest

from agent.metering.plant import Transport
from agent.protocol.doctor import Cause, Diagnosis, diagnose
from agent.service.examining import examine
from simulators.line.sick import SickLine
from tests.service.virtual import run_virtually
from tests.support.plants import line, meter

FRAMES = 120


def examined(seed: int, cause: Cause | None, *, frames: int = FRAMES) -> tuple[Diagnosis, ...]:
    """What the doctor says of one line of 3 to 8 meters."""
    sick = SickLine(seed, cause, [meter(f"m{unit}", unit) for unit in range(1, 4 + seed % 6)])

    async def play() -> tuple[Diagnosis, ...]:
        wired = line(transport=Transport.RS485, serial=sick.settings)
        return diagnose(await examine(sick.port(), wired, sick.meters, frames=frames))

    return run_virtually(play())


@pytest.mark.fault("F30", "F28", "F36")
@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("seed", range(2))
def test_the_cause_is_named(seed: int, cause: Cause) -> None:
    found = examined(seed, cause)
    assert {each.cause for each in found} == {cause}
    assert all(any(letter.isdigit() for letter in each.evidence) for each in found), "evidence has figures"
    assert all(each.remedy for each in found)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_said_of_a_healthy_line(seed: int) -> None:
    assert examined(seed, None) == ()
