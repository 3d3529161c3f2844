"""Today's kWh and kgCO2e by step, on the gateway, so that a mistake is seen the same day.

It calls the same arithmetic as the platform over the same sealed deltas, and yet it is no footprint: the factor is the
shipped default, materials and fuels are unknown here, and nobody has locked anything. Therefore everything made of it
says "preview". Before this comes `agent.service.preview`, after it the command `preview` and the operator's page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from agent.carbon.activity import Activity, Place, Status, StepEnergy
from agent.carbon.factors import Factor
from agent.carbon.footprint import Footprint, evaluate
from agent.carbon.template import Source, Template
from agent.carbon.units import KilowattHours
from agent.metering.virtual import Method

JOURNAL = Place("journal")
_UNSAID = frozenset({"materials", "fuel", "waste", "production"})


@dataclass(frozen=True, slots=True)
class StepTally:
    """One step's energy in a period, 0.001 Wh; `lacking` names the meters of which nothing is sealed.

    `covered` is the part of the period for which all its meters are known.
    """

    energy_milliwh: Fraction
    methods: frozenset[Method]
    lacking: tuple[str, ...]
    covered: Fraction


def status_of(methods: frozenset[Method]) -> Status:
    """The least certain method names the whole."""
    if methods & {Method.RATED, Method.SPLIT}:
        return Status.ESTIMATED
    return Status.VIRTUAL if Method.VIRTUAL in methods else Status.MEASURED


def method_note(methods: frozenset[Method]) -> str:
    """How a step's energy is come by, empty for a meter of its own."""
    if not methods - {Method.METER}:
        return ""
    return "by " + " and ".join(sorted(method.value for method in methods))


def step_energy(place: Place, step: str, tally: StepTally) -> StepEnergy:
    """A step's energy as an entry of an activity; one with a missing input has no figure."""
    if tally.lacking:
        said = f"incomplete: nothing came of {', '.join(tally.lacking)}"
        return StepEnergy(place, step, None, Status.MISSING, said)
    amount = KilowattHours.of_milliwh(tally.energy_milliwh)
    note = method_note(tally.methods)
    return StepEnergy(place, step, amount, status_of(tally.methods), note, covered=tally.covered)


def preview(
    tallies: Mapping[str, StepTally], sources: Sequence[Source], template: Template, factor: Factor
) -> Footprint:
    """kWh and kgCO2e by step.

    Args:
        tallies: by step.
        sources: of the site's catalogue, in its order; they take the place of the template's.
        template: the rules.
        factor: of electricity.

    Raises:
        ConfigError: a tally is of a step that the catalogue does not have, or the factor is not in kgCO2e/kWh.
    """
    entries = tuple(step_energy(JOURNAL, step, tally) for step, tally in tallies.items())
    activity = Activity(steps=entries, electricity=factor, unsaid=_UNSAID)
    return evaluate(activity, replace(template, sources=tuple(sources)))
