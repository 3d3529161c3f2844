"""The footprint of a period from the platform's own books: verified kWh through the map in force, by locked factors.

Only booked energy counts, so every kWh of a report is signed, in a chain and acknowledged. The map is the descriptor
that was in force for each delta, or a corrected map for its validity. A report quotes the hashes of everything it was
made of and the head of every chain it had read; `up_to` reads no further than such heads, so that an old report can be
made again byte for byte after newer batches have come. No clock is asked.

Before this come `question`, `plant` and `books`, after it `agent.carbon.report`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction

from agent.carbon.activity import Activity, Place, Status, StepEnergy
from agent.carbon.allocation import spread_utilities
from agent.carbon.electricity import mean_factor
from agent.carbon.factors import UNKNOWN, Factor
from agent.carbon.footprint import Footprint
from agent.carbon.preview import method_note, status_of
from agent.carbon.report import document, notes
from agent.carbon.sharing import parts_of_report
from agent.carbon.template import DocumentError, Template
from agent.carbon.uncertainty import uncertainty_of
from agent.carbon.units import DimensionError, KgCO2e, KilowattHours
from agent.reporting.utc import text_of_ms
from simulators.footprint.activity import Folder
from simulators.footprint.sharing import outside_period
from simulators.platform.adjusting import notes_on
from simulators.platform.books import MILLIWH_PER_KWH, Books, StepSum, kwh_text
from simulators.platform.plant import Plant
from simulators.platform.quarters import QUARTER_MS, Quarters
from simulators.platform.question import Question, fault
from simulators.platform.store import Store

STORE = Place("store")
SIGMAS = 2
"""A negative residual beyond so many standard uncertainties is more than the meters' classes explain."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A footprint, and the document that reports it."""

    footprint: Footprint
    document: dict[str, object]


def first_and_last_day(from_ms: int, to_ms: int) -> tuple[str, str]:
    """The UTC dates of a period's first and last moment."""
    days = (datetime.fromtimestamp(ms // 1000, UTC).date().isoformat() for ms in (from_ms, to_ms - 1))
    first, last = days
    return first, last


def evaluate(store: Store, quarters: Quarters, question: Question) -> Answer:
    """The footprint of a period.

    Args:
        store: the platform's; read in one snapshot.
        quarters: its memory; brought up to date here. A question with `up_to` needs an empty one.
        question: what is asked.

    Raises:
        ConfigError: the period is not on the grid, a document is not valid for it or does not fit, no factor is in
            force, or an entry of the folder is wrong.
    """
    _check_period(question)
    with store.snapshot():
        plant = Plant(store, question)
        quarters.refresh(store, plant.limits)
        try:
            books = Books(plant, quarters, question)
        except DocumentError as error:
            raise fault("map", str(error)) from None
        messages = _messages(store, plant, question)
        limits = plant.limits or {}
        gateways = [(each.agent_id, each.name, limits.get(each.agent_id)) for each in plant.agents]
        adjusted = notes_on(store, gateways, question.from_ms, question.to_ms)
    activity = _activity(books, question)
    folder = question.folder or Folder(Activity(unsaid=_ALL_UNSAID), [])
    footprint = replace(folder, activity=_joined(folder.activity, activity)).evaluate(question.template)
    said = document(
        footprint,
        uncertainty=uncertainty_of(footprint, books.kwh_variances()),
        made_of=_made_of(plant, question, folder, messages),
    )
    said["period"] = {"from": text_of_ms(question.from_ms), "to": text_of_ms(question.to_ms)}
    said["electricity"] = {"energy": "raw", **books.to_payload()}
    outside = outside_period(folder.sharing, question.from_ms, question.to_ms)
    said["notes"] = [*notes(footprint), *adjusted, *outside]
    said |= parts_of_report(footprint, folder.sharing, books.spans(footprint))
    return Answer(footprint, said)


_ALL_UNSAID = frozenset({"materials", "fuel", "waste", "production"})


def _check_period(question: Question) -> None:
    if not question.from_ms < question.to_ms:
        raise fault("--from", "the period ends before it begins", "--to is later than --from")
    if question.from_ms % QUARTER_MS or question.to_ms % QUARTER_MS:
        raise fault("--from", "the period is not on the grid", "name quarters of an hour, such as 08:15Z")
    days = first_and_last_day(question.from_ms, question.to_ms)
    for locked in (question.template.locked, question.factor_set):
        if not locked.is_valid(*days):
            raise fault(locked.name, f"is not valid for {days[0]} to {days[1]}", "name the version that is")


# ---------------------------------------------------------------------------------------------------------- activity


def _activity(books: Books, question: Question) -> Activity:
    """The electricity of the period as an activity: one entry for every step that a map knows."""
    electricity = _flat_factor(books, question)
    spread, note = _with_utilities(books, question.template)
    variances = books.kwh_variances()
    entries = []
    for step, total in books.steps.items():
        if lacking := books.lacking(step):
            said = f"incomplete: nothing came of {', '.join(lacking)}"
            entries.append(StepEnergy(STORE, step, None, Status.MISSING, said))
            continue
        extra = spread.get(step, Fraction(0))
        entries.append(_entry(step, total, extra, note, books, electricity, variances.get(step)))
    return Activity(steps=tuple(entries), electricity=electricity, electricity_place=Place("factors"))


def _entry(
    step: str,
    total: StepSum,
    extra: Fraction,
    extra_note: str,
    books: Books,
    electricity: Factor | None,
    variance: Fraction | None,
) -> StepEnergy:
    energy = total.energy + extra
    notes = [note] if (note := method_note(frozenset(total.methods))) else []
    notes += [extra_note.format(kwh_text(extra))] if extra else []
    if total.energy < 0:
        kwh = total.energy / MILLIWH_PER_KWH
        beyond = variance is not None and kwh**2 > SIGMAS**2 * variance
        notes.append("negative, and kept so" + ("; more than the meters' classes explain" if beyond else ""))
    factor = None if electricity is not None else _mean(step, total)
    status = Status.ESTIMATED if extra else status_of(frozenset(total.methods))
    amount = KilowattHours.of_milliwh(energy)
    return StepEnergy(STORE, step, amount, status, "; ".join(notes), factor, books.covered(step))


def _mean(step: str, total: StepSum) -> Factor | None:
    """The factor that reproduces what each stretch of time emits by its own."""
    parts = [(KilowattHours.of_milliwh(energy), value) for value, energy in total.by_value.items()]
    try:
        return mean_factor(f"{step} mean", parts, UNKNOWN) or Factor(
            "none", Fraction(0), KgCO2e, KilowattHours
        )
    except DimensionError as error:
        raise fault(step, str(error)) from None


def _flat_factor(books: Books, question: Question) -> Factor | None:
    """The one factor of all steps; None where time makes them differ."""
    template, used = question.template, books.factors()
    if template.supply == "net" and books.supply.generated.value:
        if len(used) != 1 or question.series is not None:
            raise fault(
                template.locked.name, "counts own generation, which needs one factor for the whole period"
            )
        own = question.factors.get(template.generation_factor)
        if own is None:
            raise fault(question.factor_set.name, f"has no factor {template.generation_factor}")
        try:
            return books.supply.mixed(used[0], own)
        except DimensionError as error:
            raise fault("electricity", str(error)) from None
    if question.series is not None or len(used) > 1:
        return None
    return used[0] if used else books.factor_at(question.from_ms)


def _with_utilities(books: Books, template: Template) -> tuple[dict[str, Fraction], str]:
    """What each step is given of the unassigned, by the template's key; nothing where there is none."""
    unassigned = books.unassigned_known
    if template.utilities_key is None or not unassigned:
        return {}, ""
    if len(books.factors()) > 1:
        raise fault(template.locked.name, "spreads utilities, which needs one factor for the whole period")
    zeros = dict.fromkeys(books.steps, Fraction(0))
    try:
        spread, _ = spread_utilities(zeros, unassigned, template.utilities_key)
    except ValueError as error:
        raise fault(template.locked.name, str(error)) from None
    return spread, "with {} kWh of utilities by the template's key"


def _joined(folder: Activity, electricity: Activity) -> Activity:
    """The materials, fuels and wastes of a folder with the verified electricity."""
    return replace(
        folder,
        steps=electricity.steps,
        electricity=electricity.electricity,
        electricity_place=electricity.electricity_place,
        unsaid=folder.unsaid - {"electricity"},
    )


# ---------------------------------------------------------------------------------------------------- what it was of


def _messages(store: Store, plant: Plant, question: Question) -> dict[str, object]:
    """For each gateway the head that was read, and the batches whose energy lies in the period."""
    said: dict[str, object] = {}
    for agent in plant.agents:
        ranges = store.rows(
            "SELECT b.chain, min(b.seq), max(b.seq), count(DISTINCT b.batch_id)"
            " FROM booked k JOIN batches b USING (batch_id)"
            " WHERE k.agent_id = ? AND k.start_ms < ? AND k.end_ms > ? AND k.batch_id <= ?"
            " GROUP BY b.chain ORDER BY min(b.batch_id)",
            (agent.agent_id, question.to_ms, question.from_ms, agent.batch_id),
        )
        if agent.head is not None:
            said[agent.name] = {
                "head": agent.head.to_payload(),
                "booked": [
                    {"chain": chain, "seq_first": first, "seq_last": last, "batches": count}
                    for chain, first, last, count in ranges
                ],
            }
    return said


def _made_of(
    plant: Plant, question: Question, folder: Folder, messages: Mapping[str, object]
) -> dict[str, object]:
    names = {f"{question.org}/{agent.name}" for agent in plant.agents}
    return {
        "org": question.org,
        "factors": question.factor_set.quoted(),
        "series": None
        if question.series is None
        else {"id": question.series.id, "sha256": question.series_sha256},
        "maps": {
            agent.name: {"rev": agent.descriptors[agent.newest].rev, "hash": agent.hashes[agent.newest]}
            for agent in plant.agents
            if agent.newest is not None
        },
        "corrected_maps": [each.locked.quoted() for each in question.corrections if each.agent in names],
        "messages": dict(messages),
        "files": dict(sorted(folder.hashes.items())),
    }
